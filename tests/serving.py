"""A real server for tests: uvicorn on a loopback port in a thread, over a store of its own and the engines it is given."""

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from data import config
from data.config import Settings
from data.store import Store, open_store
from router.engines.base import Engine
from tui.server import running
from tui.server.desk import Desk
from tui.server.lines import LinedEngines

PATIENCE_S = 30.0


@dataclass
class Served:
    """A running server: its address, and the parts within."""

    url: str
    port: int
    desk: Desk
    store: Store
    client: httpx.Client
    server: Any

    def chat(self, text: str, **fields: Any) -> httpx.Response:
        """One OpenAI chat completion with one question."""
        body = {"model": "echo/echo", "messages": [{"role": "user", "content": text}]} | fields
        return self.client.post("/v1/chat/completions", json=body)

    def raw(self, data: bytes = b"") -> socket.socket:
        """A bare connection, with `data` sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        connection.sendall(data)
        return connection

    def metric(self, start: str) -> float:
        """The sum of the metrics whose lines begin so."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))

    def idle(self) -> None:
        """Wait until nothing is being answered."""
        eventually(lambda: self.desk.waiting + self.desk.running == 0)


@contextmanager
def serving(
    made: Mapping[str, Engine] | None = None, *, token: str = "", places: int = 1, url: str = "", **settings: Any
) -> Iterator[Served]:
    """Serve until the block ends; settings are dotted keys with __ for the dot."""
    flat = {"server.port": 0, "router.encoder": False, "llamacpp.threads": 1, "max_tokens": 64}
    flat |= {name.replace("__", "."): value for name, value in settings.items()}
    loaded: Settings = config.load(flat)
    engines = LinedEngines(loaded, made, places)
    bound = running.listen(loaded.server)
    port = bound.getsockname()[1]
    with open_store(url) as store:
        desk = Desk(loaded, store, engines)
        server = running.server(desk, token)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="server")
        thread.start()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            eventually(lambda: server.started)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=PATIENCE_S) as client:
                yield Served(f"http://127.0.0.1:{port}", port, desk, store, client, server)
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
            engines.close()
            bound.close()
            assert not thread.is_alive()


def eventually(true: Any, patience_s: float = PATIENCE_S) -> None:
    """Wait until `true()` holds; fails after `patience_s` seconds."""
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.005)


def until_closed(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    received = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return received
        if not part:
            return received
        received += part
