"""Connections to MCP servers through the official SDK: one background thread with an event loop for the whole process.

The thread starts with the first server and ends with the process. A server is untrusted: every wait ends, messages are
bounded (see `_mcp_transports`), and the SDK's check of results against the server's own schema is passed by (a schema's pattern
can hang Python). Not covered: which tools are offered (see `mcp`).
"""

import asyncio
import atexit
import concurrent.futures
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from data.errors import ToolError
from data.sanitise import one_line
from router.tools._mcp_transports import place, transport_to

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client import Transport
    from mcp_types import CallToolResult, Tool

PAGES = 20
"""Pages of a list of tools at most."""
RETRY_S = 60.0
"""A server that could not be reached is left alone for so long."""
_CLOSING_S = 5.0
T = TypeVar("T")


@dataclass(slots=True)
class Connection:
    """A server that answered: its tools, and the client to call them by. `task` ends when the connection does."""

    task: "asyncio.Task[None]"
    stop: asyncio.Event
    ready: "concurrent.futures.Future[list[Tool]]" = field(default_factory=concurrent.futures.Future)
    client: "Client | None" = None


_lock = threading.RLock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None
_connections: dict[tuple[str, str], Connection] = {}
_failed: dict[tuple[str, str], tuple[float, str]] = {}


def tools(servers: Mapping[str, str], seconds: float) -> Iterator[tuple[str, "list[Tool] | ToolError"]]:
    """The tools of each server, or why there are none; servers are connected side by side, `seconds` are for all together."""
    deadline = time.monotonic() + seconds
    started = [(name, _started(name, spec)) for name, spec in servers.items()]
    for name, found in started:
        spec = servers[name]
        if isinstance(found, ToolError):
            yield name, found
            continue
        error = _error(found.ready, deadline - time.monotonic())
        if error is None:
            yield name, found.ready.result()
        else:
            reason = f"the MCP server {name} cannot be used: {_in_words(error, spec)}"
            _failed[name, spec] = (time.monotonic(), reason)
            _drop((name, spec))
            yield name, ToolError(reason)


def call(name: str, spec: str, tool: str, arguments: Mapping[str, Any], seconds: float) -> "CallToolResult":
    """One call, with a new connection where the old one has ended. Raises ToolError.

    Where a server gives no answer its connection is ended, so that the next call finds a fresh one.
    """
    found = _started(name, spec)
    if isinstance(found, ToolError):
        raise found
    deadline = time.monotonic() + seconds
    error = _error(found.ready, seconds)
    if error is None:
        future = asyncio.run_coroutine_threadsafe(_called(found, tool, arguments, seconds), _running())
        error = _error(future, deadline - time.monotonic())
        if error is None:
            return future.result()
        future.cancel()
    if not _is_answer(error):
        _drop((name, spec))
    raise ToolError(f"the MCP server {name} failed: {_in_words(error, spec)}") from error


def close() -> None:
    """End every connection and the thread; the next use starts them anew."""
    global _loop, _thread
    with _lock:
        loop, thread = _loop, _thread
        found = list(_connections.values())
        _connections.clear()
        _failed.clear()
        _loop = _thread = None
    if loop is None or thread is None:
        return
    for connection in found:
        loop.call_soon_threadsafe(connection.stop.set)
    _error(asyncio.run_coroutine_threadsafe(_ended(), loop), _CLOSING_S * 2)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_CLOSING_S)
    if not thread.is_alive():
        loop.close()


def _started(name: str, spec: str) -> "Connection | ToolError":
    """The living or beginning connection, or why there can be none. The SDK is imported here first."""
    key = (name, spec)
    with _lock:
        found = _connections.get(key)
        if found is not None and not found.task.done():
            return found
        since, reason = _failed.get(key, (0.0, ""))
        if reason and time.monotonic() - since < RETRY_S:
            return ToolError(reason)
        try:
            transport = transport_to(name, spec)
        except ToolError as fault:
            return fault
        begun = asyncio.run_coroutine_threadsafe(_begun(transport), _running())
        error = _error(begun, _CLOSING_S)
        if error is not None:
            return ToolError(f"the MCP server {name} cannot be used: {_in_words(error, spec)}")
        _connections[key] = begun.result()
        return _connections[key]


async def _begun(transport: "Transport") -> Connection:
    connection = Connection(task=None, stop=asyncio.Event())  # type: ignore[arg-type]
    connection.task = asyncio.get_running_loop().create_task(_kept(connection, transport))
    connection.task.add_done_callback(lambda task: _told(connection, task))
    return connection


def _told(connection: Connection, task: "asyncio.Task[None]") -> None:
    """A connection that ended before its tools were known says why to whoever waits."""
    fault = None if task.cancelled() else task.exception()
    if not connection.ready.done():
        connection.ready.set_exception(fault or ConnectionError("the connection ended"))


async def _kept(connection: Connection, transport: "Transport") -> None:
    """Holds the client open: the SDK wants it left by the task that entered it."""
    from mcp import Client

    async with Client(transport, cache=None) as client:
        found: list[Tool] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                break
        connection.client = client
        connection.ready.set_result(found)
        await connection.stop.wait()


async def _called(connection: Connection, tool: str, arguments: Mapping[str, Any], seconds: float) -> "CallToolResult":
    from mcp_types import CallToolRequest, CallToolRequestParams, CallToolResult

    if connection.client is None or connection.task.done():
        raise ConnectionError("the connection ended")
    request = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=dict(arguments)))
    return await connection.client.session.send_request(request, CallToolResult, request_read_timeout_seconds=seconds)


def _error(future: "concurrent.futures.Future[T]", seconds: float) -> BaseException | None:
    """Why there is no result; None where there is one. Whatever a server provokes in the SDK ends here."""
    try:
        return future.exception(max(seconds, 0.0))
    except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError) as error:
        return error


def _in_words(error: BaseException, spec: str) -> str:
    """One line for the user and the model, without secrets of the server's address."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, concurrent.futures.TimeoutError):
        return "no answer in time"
    if isinstance(error, FileNotFoundError):
        return f"there is no command {one_line(str(error.filename))}"
    return one_line(str(error).replace(spec, place(spec)), 160) or type(error).__name__


def _is_answer(error: BaseException) -> bool:
    """Whether the server itself answered, with an error."""
    from mcp import MCPError
    from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

    return isinstance(error, MCPError) and error.code not in (CONNECTION_CLOSED, REQUEST_TIMEOUT)


def _drop(key: tuple[str, str]) -> None:
    found = _connections.pop(key, None)
    if found is not None:
        _running().call_soon_threadsafe(found.task.cancel)


async def _ended() -> None:
    """Wait for every task of the loop, those already cancelled included, and cancel what takes too long."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=_CLOSING_S)
        for task in late:
            task.cancel()


def _running() -> asyncio.AbstractEventLoop:
    """The loop of the background thread, started on first use."""
    global _loop, _thread
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_loop.run_forever, name="mcp", daemon=True)
            _thread.start()
            atexit.register(close)
        return _loop
