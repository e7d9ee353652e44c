"""The server's loop: the socket, uvicorn with its limits, and an end that lets answers finish for a while.

Not covered: opening the store and the engines (tui/commands/serve.py).
"""

import asyncio
import os
import socket
from pathlib import Path

import uvicorn

from data.config import ServerSettings, is_loopback
from data.errors import InputError, SettingsError
from tui.server.app import build
from tui.server.desk import Desk
from tui.server.gate import HEAD_BYTES
from tui.server.protocol import protocol

BACKLOG = 128
"""Connections that wait to be taken at most."""
TOKEN_CHARS = 16
"""Of a token at least, where others than this machine may ask."""
CONNECTIONS = 1000
KEEP_ALIVE_S = 15
STUCK_S = 5
"""Seconds after the grace in which what was broken off must have ended."""


def token_of(settings: ServerSettings, file: Path | None = None) -> str:
    """The token that clients must bring, "" for none: of the file, of POINTSMAN_SERVER_TOKEN, or of the settings.

    Raises InputError where the file cannot be read or holds none, SettingsError where others may ask and the token is too short.
    """
    token = os.environ.get("POINTSMAN_SERVER_TOKEN", "") or settings.token
    if file is not None:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the token's file {file}", "give a text file with the token alone") from error
        if not token:
            raise InputError(f"the token's file {file} is empty", "put a long random word into it")
    if not is_loopback(settings.host) and len(token) < TOKEN_CHARS:
        raise SettingsError(
            f"{settings.host} can be reached by others, which needs a token of {TOKEN_CHARS} characters at least",
            "put one into a file and give --token-file, for example: openssl rand -hex 24 > token",
        )
    return token


def listen(settings: ServerSettings) -> socket.socket:
    """A socket that listens: who connects before the server runs waits. Raises InputError where the address cannot be had."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        bound = socket.socket(family, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as error:
        raise InputError(f"cannot listen on {settings.host}: {error.strerror}", "see server.host") from error
    try:
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise InputError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}", "try: --port 0") from error
    return bound


class Ending(uvicorn.Server):
    """Breaks answers off itself, with a word to the client, where they take longer than the grace."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, let answers finish for a while, end."""
        late = asyncio.get_running_loop().call_later(self._desk.settings.server.grace_s, self._desk.stop)
        await super().shutdown(sockets)
        late.cancel()


def server(desk: Desk, token: str = "") -> uvicorn.Server:
    """A server over the desk, to be run with the socket of `listen`."""
    limits = desk.settings.server
    config = uvicorn.Config(
        build(desk, token),
        http=protocol(limits.stall_s),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(limits.grace_s) + STUCK_S,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    return Ending(config, desk)
