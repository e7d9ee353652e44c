"""HTTP to one server, for the engines behind one: lines as they come, left at any moment, every failure one `Fault`.

A server sends nothing, not even the head of its answer, while it loads a model or reads a prompt, and a blocking read
cannot be called off. So the requests run on an event loop on a thread of its own; `Server.lines` hands out None for every
`BEAT_S` seconds of silence, and closing it closes the connection at once. Lines end at LF only (other clients also split
at U+0085 and U+2028, which JSON may hold) and are bounded; files are sent piece by piece. Not covered: what the lines mean,
and who is told of a fault.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import CancelledError, Future, wait
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

from data.sanitise import one_line
from router.engines._faults import Dropped, Garbled, Refusal, Stalled, Unreachable, parse, refusal

if TYPE_CHECKING:
    import httpx

BEAT_S = 0.1
CONNECT_S = 5.0
CLOSE_S = 2.0
LINE_BYTES = 16 * 2**20
BODY_BYTES = 256 * 2**20
ERROR_BYTES = 64 * 2**10
PIECE_BYTES = 2**20
T = TypeVar("T")


class Server:
    """One server at `url`. Safe to use from several threads.

    key: sent as a bearer token; where the server repeats it, asterisks stand in its place.
    """

    def __init__(self, url: str, *, key: str = "", loopback: bool = False) -> None:
        self.url = url
        self._key = key
        self._headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._loopback = loopback
        self._lock = threading.RLock()  # reentrant: the collector may finish a forgotten stream while it is held
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None

    def lines(self, path: str, body: Mapping[str, Any], *, stall_s: float) -> Generator[str | None, None, None]:
        """POST `body` and yield the answer's lines without their ends, None for each BEAT_S of silence; raises Fault."""
        client, loop = self._open()
        exchange = _Exchange(client, self._request(client, "POST", path, body, stall_s), stall_s, self._key)
        lines = _Lines(self._key)
        try:
            while (piece := (yield from _watched(self._run(exchange.next(), loop)))) is not None:
                yield from lines.feed(piece)
            yield from lines.end()
        finally:
            self._leave(exchange, loop)

    def json(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, deadline_s: float) -> Any:
        """The parsed answer to one request that is given `deadline_s` seconds in all; raises Fault."""
        return parse(self.whole(method, path, body, deadline_s=deadline_s))

    def whole(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, deadline_s: float) -> bytes:
        """The answer to one request as it came, most often none, where only its success counts; raises Fault."""
        client, loop = self._open()
        exchange = _Exchange(client, self._request(client, method, path, body, deadline_s), deadline_s, self._key)
        return _hidden(_result(self._run(_whole(exchange, deadline_s), loop)), self._key)

    def send(self, path: str, file: IO[bytes], size: int, *, stall_s: float) -> Generator[int, None, None]:
        """POST the `size` bytes of an open file and yield how many have gone, for each BEAT_S; raises Fault.

        Memory is bounded: a piece is read when the one before it has gone. Closing the generator closes the connection. The
        answer itself is read, bounded, and dropped.
        """
        client, loop = self._open()
        pieces = _Pieces(file)
        exchange = _Exchange(client, self._request(client, "POST", path, pieces, stall_s, size), stall_s, self._key)
        try:
            for _ in _watched(self._run(_heard(exchange), loop)):
                yield pieces.gone
            yield pieces.gone
        finally:
            self._leave(exchange, loop)

    def close(self) -> None:
        """Break off what runs, close every connection and end the thread. The server may be used again afterwards."""
        with self._lock:
            loop, thread, client = self._loop, self._thread, self._client
            self._loop = self._thread = self._client = None
        if loop is None or thread is None or client is None:
            return
        wait((asyncio.run_coroutine_threadsafe(_shut(client), loop),), CLOSE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_S)
        if not thread.is_alive():
            loop.close()

    def _open(self) -> "tuple[httpx.AsyncClient, asyncio.AbstractEventLoop]":
        import httpx

        with self._lock:
            if self._client is None or self._loop is None:
                self._client = httpx.AsyncClient(
                    headers=self._headers,
                    verify=_no_certificates() if self.url.startswith("http:") else True,
                    trust_env=not self._loopback,  # a proxy from the environment must not stand before this machine
                    # on this machine a new connection costs less than finding out that a kept one is dead
                    limits=httpx.Limits(max_keepalive_connections=0 if self._loopback else 4),
                )
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="pointsman-http", daemon=True)
                self._thread.start()
            return self._client, self._loop

    def _request(
        self, client: "httpx.AsyncClient", method: str, path: str, body: Any, silence_s: float, size: int = 0
    ) -> "httpx.Request":
        import httpx

        file = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        headers = file if isinstance(body, _Pieces) else {}
        content = body if body is None or isinstance(body, _Pieces) else encode(body)
        timeout = httpx.Timeout(silence_s, connect=min(CONNECT_S, silence_s))
        with translated(silence_s):
            return client.build_request(method, self.url + path, content=content, headers=headers, timeout=timeout)

    def _run(self, step: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> "Future[T]":
        with self._lock:
            if self._loop is loop:
                return asyncio.run_coroutine_threadsafe(step, loop)
        step.close()
        raise Dropped("the engine was closed")

    def _leave(self, exchange: "_Exchange", loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            left = asyncio.run_coroutine_threadsafe(exchange.close(), loop) if self._loop is loop else None
            on_loop = threading.current_thread() is self._thread  # a forgotten generator may be collected there
        if left is not None and not on_loop:
            wait((left,), CLOSE_S)


def encode(body: Mapping[str, Any]) -> bytes:
    """`body` as JSON in UTF-8; a lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


@contextmanager
def translated(silence_s: float) -> Iterator[None]:
    """Turn whatever httpx raises into a Fault; `silence_s` is the time without a byte that was allowed."""
    import httpx

    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
        raise Unreachable(one_line(str(error), 200) or "no connection within the time allowed") from error
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Unreachable(f"not an address: {one_line(str(error), 200)}") from error
    except httpx.TimeoutException as error:
        raise Stalled(f"nothing arrived for {silence_s:g} s") from error
    except httpx.DecodingError as error:
        raise Garbled("it sent a compressed answer that is damaged") from error
    except httpx.HTTPError as error:
        raise Dropped(one_line(str(error), 200) or "the connection was lost") from error


class _Exchange:
    """One request and its answer, on the loop's side."""

    def __init__(self, client: "httpx.AsyncClient", request: "httpx.Request", silence_s: float, key: str) -> None:
        self._client = client
        self._request = request
        self._silence_s = silence_s
        self._key = key
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._reading: asyncio.Task[Any] | None = None

    async def next(self) -> bytes | None:
        """The next bytes, None at the end; raises Fault."""
        self._reading = asyncio.current_task()
        with translated(self._silence_s):
            if self._pieces is None:
                self._response = await self._client.send(self._request, stream=True)
                self._pieces = self._response.aiter_bytes()
                if self._response.status_code >= 300:
                    raise await self._refusal(self._response)
            return await anext(self._pieces, None)

    async def close(self) -> None:
        """Stop reading and close the connection."""
        reading = self._reading
        if reading is not None and not reading.done() and reading is not asyncio.current_task():
            reading.cancel()
            await asyncio.wait({reading})
        if self._response is not None:
            await self._response.aclose()

    async def _refusal(self, response: "httpx.Response") -> Refusal:
        body = b""
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > ERROR_BYTES:
                break
        body = _hidden(body, self._key)
        if response.status_code < 400:
            return Refusal(
                response.status_code, f"it redirects to {response.headers.get('Location', 'elsewhere')}", structured=False
            )
        try:
            value, structured = json.loads(body), True
        except (ValueError, RecursionError):
            value, structured = body[:ERROR_BYTES].decode("utf-8", "replace"), False
        return refusal(
            response.status_code, value, structured=structured, retry_after_s=_seconds(response.headers.get("Retry-After", ""))
        )


class _Pieces:
    """An open file's bytes from its beginning, piece by piece; `gone` counts those that were taken."""

    def __init__(self, file: IO[bytes]) -> None:
        self.gone = 0
        self._file = file

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(PIECE_BYTES):
            yield piece
            self.gone += len(piece)


class _Lines:
    """Bytes into lines: strict UTF-8, LF or CR LF, at most LINE_BYTES each."""

    def __init__(self, key: str = "") -> None:
        self._rest = bytearray()
        self._key = key

    def feed(self, piece: bytes) -> Iterator[str]:
        """The lines that `piece` completes."""
        *whole, rest = piece.split(b"\n")
        for line in whole:
            self._take(line)
            yield self._give()
        self._take(rest)

    def end(self) -> Iterator[str]:
        """The last line, where it has no end."""
        if self._rest:
            yield self._give()

    def _take(self, part: bytes) -> None:
        if len(self._rest) + len(part) > LINE_BYTES:
            raise Garbled(f"it sent a line of more than {LINE_BYTES >> 20} MB")
        self._rest += part

    def _give(self) -> str:
        line = _hidden(bytes(self._rest), self._key)
        self._rest.clear()
        try:
            return line.decode().removesuffix("\r")
        except UnicodeDecodeError as error:
            raise Garbled("it sent bytes that are not UTF-8") from error


def _hidden(text: bytes, key: str) -> bytes:
    return text.replace(key.encode(), b"********") if key else text


def _watched(step: "Future[T]") -> Generator[None, None, T]:
    while not step.done():
        wait((step,), BEAT_S)
        if not step.done():
            yield None
    return _result(step)


def _result(step: "Future[T]") -> T:
    try:
        return step.result()
    except CancelledError as error:
        raise Dropped("the engine was closed") from error


async def _whole(exchange: _Exchange, deadline_s: float) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(deadline_s):
            while (piece := await exchange.next()) is not None:
                body += piece
                if len(body) > BODY_BYTES:
                    raise Garbled(f"it sent more than {BODY_BYTES >> 20} MB")
    except TimeoutError as error:
        raise Stalled(f"no answer within {deadline_s:g} s") from error
    finally:
        await exchange.close()
    return bytes(body)


async def _heard(exchange: _Exchange) -> None:
    size = 0
    while (piece := await exchange.next()) is not None:
        size += len(piece)
        if size > BODY_BYTES:
            raise Garbled(f"it sent more than {BODY_BYTES >> 20} MB")


async def _shut(client: "httpx.AsyncClient") -> None:
    others = asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task is not None}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await client.aclose()


def _no_certificates() -> Any:
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # plain HTTP needs none, and reading the system's takes 20 ms


def _seconds(header: str) -> float:
    return float(header) if header.isascii() and header.isdigit() else 0.0
