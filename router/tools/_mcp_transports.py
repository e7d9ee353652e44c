"""How an MCP server is reached: a child process's pipes, or HTTP. Both bound what a server can send.

A line or an answer of more than MESSAGE_BYTES ends the connection. A child gets only the environment variables that the SDK
counts as safe, and what it writes to its standard error is dropped. Not covered: OAuth, the old SSE transport.
"""

import contextlib
import logging
import os
import shlex
import signal
import subprocess
import urllib.parse
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from data.config import is_loopback, require_network
from data.errors import Offline, ToolError
from data.sanitise import one_line

if TYPE_CHECKING:
    import httpx2
    from mcp.client import Transport

MESSAGE_BYTES = 8_000_000
_EXIT_S = 1.0


def is_url(spec: str) -> bool:
    """Whether a server is named by its address and not by a command."""
    return spec.lower().startswith(("http://", "https://"))


def place(spec: str) -> str:
    """The server's command, or its address without what may be a secret in it (user, password, query)."""
    if not is_url(spec):
        return spec
    scheme, _, rest = spec.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2].split('?')[0].split('#')[0]}{slash}{path.split('?')[0].split('#')[0]}"


def transport_to(name: str, spec: str) -> "Transport":
    """How the server is reached. Raises ToolError for what can be said before trying."""
    try:
        import mcp  # noqa: F401 whether it is there
    except ImportError as error:
        raise ToolError("MCP servers need the package mcp", "install it: pip install 'pointsman[mcp]'") from error
    for logger in ("mcp", "client", "httpx2"):  # the SDK reports through logging; without a handler that reaches the terminal
        logging.getLogger(logger).addHandler(logging.NullHandler())
    if not is_url(spec):
        return _by_command(name, spec)
    try:
        host = urllib.parse.urlsplit(spec).hostname or ""
    except ValueError as error:
        raise ToolError(f"the MCP server {name} has no valid address: {one_line(spec)}") from error
    try:
        require_network(host, f"the MCP server {name}")
    except Offline as error:
        raise ToolError(error.what, error.fix) from error
    return _by_url(spec, is_loopback(host))


def _by_command(name: str, spec: str) -> "Transport":
    try:
        command = shlex.split(spec)
    except ValueError as error:
        raise ToolError(f"the command of the MCP server {name} cannot be read: {error}", "quote it as in a shell") from error
    if not command:
        raise ToolError(f"the MCP server {name} has no command", f"set tools.mcp.{name}")
    return _process(command)


def _by_url(url: str, is_here: bool) -> "Transport":
    from mcp.client.streamable_http import streamable_http_client

    @contextlib.asynccontextmanager
    async def connected() -> AsyncIterator[Any]:
        async with _http_client(is_here) as client, streamable_http_client(url, http_client=client) as streams:
            yield streams

    return connected()


def _http_client(is_here: bool) -> "httpx2.AsyncClient":
    """A client that reads at most MESSAGE_BYTES of an answer, uncompressed; a server on this machine is reached without proxy."""
    import httpx2

    class Counted(httpx2.AsyncByteStream):
        def __init__(self, stream: httpx2.AsyncByteStream) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = MESSAGE_BYTES
            async for chunk in self._stream:
                left -= len(chunk)
                if left < 0:
                    raise httpx2.ReadError(f"the answer has more than {MESSAGE_BYTES:,} bytes")
                yield chunk

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def limit(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.ReadError("the answer is compressed, which was not asked for")
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = Counted(response.stream)

    return httpx2.AsyncClient(
        headers={"accept-encoding": "identity"},
        timeout=httpx2.Timeout(30.0, read=300.0),  # each wait is bounded by the caller's own seconds
        trust_env=not is_here,
        event_hooks={"response": [limit]},
    )


@contextlib.asynccontextmanager
async def _process(command: list[str]) -> AsyncIterator[Any]:
    """The SDK's stdio transport with a bound on each line: newline-delimited JSON-RPC over a child's pipes.

    Only the environment variables that the SDK counts as safe are passed on.
    """
    import anyio
    from mcp.client.stdio import get_default_environment
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    process = await anyio.open_process(command, env=get_default_environment(), stderr=subprocess.DEVNULL, start_new_session=True)
    stdin, stdout = process.stdin, process.stdout
    incoming, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, outgoing = anyio.create_memory_object_stream[SessionMessage](0)

    async def receive() -> None:
        buffer = bytearray()
        async with incoming:
            with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                async for chunk in stdout or ():  # type: ignore[union-attr]
                    *lines, rest = chunk.split(b"\n")
                    for line in lines:
                        buffer += line
                        await incoming.send(_parsed(bytes(buffer)))
                        buffer.clear()
                    buffer += rest
                    if len(buffer) > MESSAGE_BYTES:
                        return  # closing the stream ends the session

    def _parsed(line: bytes) -> SessionMessage | Exception:
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError as error:
            return error

    async def send() -> None:
        async with outgoing:
            with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                async for message in outgoing:
                    text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await stdin.send(text.encode() + b"\n")  # type: ignore[union-attr]
        await incoming.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        group.start_soon(send)
        try:
            yield read_stream, write_stream
        finally:
            with anyio.CancelScope(shield=True):
                for stream in (read_stream, write_stream):
                    await stream.aclose()
                await _end(process)
            group.cancel_scope.cancel()


async def _end(process: Any) -> None:
    """Close its input, wait a moment, then kill the child's whole session."""
    import anyio

    with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await process.stdin.aclose()
    with anyio.move_on_after(_EXIT_S):
        while process.returncode is None:
            await anyio.sleep(0.01)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with anyio.move_on_after(_EXIT_S):
        await process.aclose()
