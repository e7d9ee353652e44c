"""Servers for tests: one that follows a script to the byte, with every fault a network has, and a real OpenAI-style one.

`Scripted` answers each path from a queue of `Reply`; a reply's last one stays. The body of a reply is a list of steps:
bytes are sent as they are, and HANG, DROP, CUT and an Event say what happens in between. `LlamaServer` is
`python -m llama_cpp.server` as a process of its own. Not covered: TLS.
"""

import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

HANG = "hang"
"""Send nothing more, until the client leaves."""
DROP = "drop"
"""Reset the connection (RST)."""
CUT = "cut"
"""Close the connection in the middle of the body."""
Step = bytes | str | threading.Event
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Reply:
    """One answer: status, body steps, headers."""

    steps: tuple[Step, ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


def ndjson(*values: Any, then: Iterable[Step] = ()) -> Reply:
    """A stream of JSON lines."""
    return Reply(
        (*(json.dumps(value).encode() + b"\n" for value in values), *then), headers={"Content-Type": "application/x-ndjson"}
    )


def sse(*values: Any, then: Iterable[Step] = (b"data: [DONE]\n\n",)) -> Reply:
    """A stream of server-sent events."""
    events = (b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)
    return Reply((*events, *then), headers={"Content-Type": "text/event-stream"})


def plain(value: Any, status: int = 200, **headers: str) -> Reply:
    """A whole JSON answer; bytes are sent as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Reply(
        (body,), status, {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
    )


class Scripted:
    """A loopback server that answers from its script and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.left = threading.Event()  # set when a client goes away during HANG
        self.lost: dict[str, list[int]] = {}  # by path: the next requests whose connection is reset after that many bytes of body
        self._script: dict[str, list[Reply | Callable[[Any], Reply]]] = defaultdict(list)
        self._stopping = threading.Event()
        self._server = _Quiet(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def loses(self, path: str, *after_bytes: int) -> "Scripted":
        """Reset the connection of the next requests for `path` once that many bytes of their bodies have come."""
        self.lost[path] = list(after_bytes)
        return self

    def on(self, path: str, *replies: Reply | Callable[[Any], Reply]) -> "Scripted":
        """Answer `path` ("/x", or "HEAD /x" for that method) with these in turn, the last one again and again; a function gets the
        request's body."""
        self._script[path] = list(replies)
        return self

    def asked(self, path: str) -> list[Seen]:
        """The requests for one path."""
        return [seen for seen in self.seen if seen.path == path]

    def close(self) -> None:
        """End every connection and the thread."""
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)

    def _reply(self, seen: Seen) -> Reply:
        script = self._script.get(f"{seen.method} {seen.path}") or self._script.get(seen.path)
        if not script:
            return Reply((b"404 page not found",), 404, {"Content-Type": "text/plain"})
        reply = script.pop(0) if len(script) > 1 else script[0]
        return reply(seen.body) if callable(reply) else reply

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                if after := script.lost.get(self.path):
                    self.rfile.read(after.pop(0))
                    script._do(self, DROP)
                    return
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                plain = self.headers.get("Content-Type") == "application/octet-stream"
                seen = Seen(self.command, self.path, dict(self.headers), raw if plain else json.loads(raw) if raw else None)
                script.seen.append(seen)
                try:
                    script._send(self, script._reply(seen))
                except (BrokenPipeError, ConnectionResetError):
                    script.left.set()
                    self.close_connection = True

            do_GET = do_HEAD = do_POST = do_DELETE = _serve

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.steps and reply.steps[0] in (HANG, DROP) and not reply.headers:  # before the head of the answer
            self._do(handler, reply.steps[0])
            return
        handler.send_response(reply.status)
        for name, text in reply.headers.items():
            handler.send_header(name, text)
        if handler.command == "HEAD":
            handler.end_headers()
            return
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for step in reply.steps:
            if isinstance(step, bytes):
                for start in range(0, len(step), 1 << 20):
                    part = step[start : start + (1 << 20)]
                    handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                handler.wfile.flush()
            elif not self._do(handler, step):
                return
        handler.wfile.write(b"0\r\n\r\n")

    def _do(self, handler: BaseHTTPRequestHandler, step: Step) -> bool:
        """Carry out a step that is no text; whether the body goes on."""
        if isinstance(step, threading.Event):
            assert step.wait(PATIENCE_S)
            return True
        handler.close_connection = True
        if step == DROP:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        elif step == HANG:
            while not self._stopping.is_set():
                if select.select([handler.connection], [], [], 0.02)[0]:
                    self.left.set()
                    break
        return False


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is what the script wanted."""
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):
            super().handle_error(request, client_address)


class LlamaServer:
    """`python -m llama_cpp.server` on a free loopback port; it ends with this process, however that ends."""

    def __init__(self, model: Path, alias: str, folder: Path, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self.log = folder / f"llama-server-{port}.log"
        options = ("--model", str(model), "--model_alias", alias, "--host", "127.0.0.1", "--port", str(port), "--verbose", "False")
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _UNTIL_EOF, *options, *arguments],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={name: text for name, text in os.environ.items() if not name.startswith("POINTSMAN_")},
            )
        try:
            self._await()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)

    def _await(self) -> None:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/models", trust_env=False, timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"llama_cpp.server did not start: {self.log.read_text(errors='replace')[-2000:]}")


_UNTIL_EOF = """
import os, runpy, sys, threading

def watch():
    sys.stdin.buffer.read()  # ends when the parent does
    os._exit(0)

threading.Thread(target=watch, daemon=True).start()
sys.argv[0] = "llama_cpp.server"
runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)
"""
