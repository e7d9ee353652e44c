"""What bare sockets do to a server: slow, early gone, garbage, too much. It answers others all the while."""

import json
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from serving import Served, eventually, serving, until_closed

from router.engines.echo import Echo

STALL_S = 0.5


@pytest.fixture
def engine() -> Echo:
    return Echo()


@pytest.fixture
def served(engine: Echo) -> Iterator[Served]:
    with serving({"echo": engine}, server__stall_s=STALL_S, server__body_mb=1, max_tokens=100_000) as running:
        yield running
        assert running.chat("still here").status_code == 200


def post(body: bytes, path: str = "/v1/chat/completions", more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


def question(text: str, **fields: object) -> bytes:
    return json.dumps({"model": "echo/echo", "messages": [{"role": "user", "content": text}], **fields}).encode()


@pytest.mark.parametrize("start", [b"", b"G", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_a_head_that_does_not_come_ends_the_connection(served: Served, start: bytes) -> None:
    with served.raw(start) as connection:
        assert until_closed(connection) == b""


def test_a_head_that_trickles_ends_the_connection(served: Served) -> None:
    began = time.monotonic()
    with served.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ") as connection:
        connection.settimeout(0.05)
        with pytest.raises((BrokenPipeError, ConnectionResetError, EOFError)):
            while time.monotonic() - began < 20:
                connection.sendall(b"a")
                try:
                    if not connection.recv(1):
                        raise EOFError
                except TimeoutError:
                    continue


def test_a_second_head_that_does_not_come_ends_the_connection(served: Served) -> None:
    with served.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTT") as connection:
        assert until_closed(connection).count(b"200 OK") == 1


def test_a_body_that_does_not_come_is_answered_408(served: Served) -> None:
    with served.raw(post(b"")[:-2].replace(b"Content-Length: 0", b"Content-Length: 50") + b"\r\n{") as connection:
        assert b" 408 " in until_closed(connection)


def test_a_client_that_leaves_within_its_body_leaves_nothing_behind(served: Served, engine: Echo) -> None:
    with served.raw(post(question("x"))[:-5]):
        pass
    served.idle()
    assert engine.requests == []


GARBAGE = {
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    "zeros": b"\x00" * 100 + b"\r\n\r\n",
    "a future version": b"GET / HTTP/9.9\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a negative length": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "a bad chunk": b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a huge header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "a huge path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a bad name": b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Name: x\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_and_huge_heads_are_refused_and_the_connection_ends(served: Served, data: bytes) -> None:
    with served.raw() as connection:
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent
        received = until_closed(connection)
    assert received[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 405", b"HTTP/1.1 431")


def test_a_body_that_is_too_large_is_answered_413_before_it_is_read(served: Served) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    with served.raw(head + b"Content-Length: 99999999999999999999\r\n\r\n{") as connection:
        assert b" 413 " in until_closed(connection)
    with served.raw(head + b"Transfer-Encoding: chunked\r\n\r\n") as connection:
        try:
            for _ in range(40):
                connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            return  # the server had heard enough
        assert b" 413 " in until_closed(connection)


NO_REQUESTS = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"x"',
    "half": b"{",
    "no UTF-8": b"\xff\xfe{}",
    "NaN": b'{"model": NaN}',
    "many digits": b'{"model": ' + b"9" * 5000 + b"}",
    "deep": b'{"a":' * 200 + b"1" + b"}" * 200,
    "very deep": b"[" * 100_000,
    "a number for a text": b'{"model": "echo/echo", "messages": [{"role": "user", "content": 5}]}',
}


@pytest.mark.parametrize("body", NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_a_body_that_is_no_request_is_answered_400(served: Served, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/api/chat", "/feedback", "/v1/embeddings"):
        answer = served.client.post(path, content=body)
        assert (answer.status_code, bool(answer.json()["error"])) == (400, True)


def test_text_that_no_database_holds_is_answered_and_kept(served: Served) -> None:
    answer = served.client.post("/v1/chat/completions", content=question("@ a\0b").replace(b"@", b"\\ud800"))
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "\ufffd a\u2400b"


def test_pipelined_requests_are_answered_in_turn(served: Served) -> None:
    both = post(question("one")) + post(question("two"), more="Connection: close\r\n")
    with served.raw(both) as connection:
        received = until_closed(connection)
    assert received.index(b'"one"') < received.index(b'"two"')


def test_a_reader_that_stalls_is_cut_off(served: Served) -> None:
    text = " ".join(["word" * 25] * 60_000)[:900_000]
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", served.port))
        connection.sendall(post(question(text, stream=True)))
        eventually(lambda: served.desk.running > 0)
        served.idle()  # nothing is read here; the server must not wait for ever
        eventually(lambda: not served.server.server_state.tasks, 60)


def test_a_reset_in_the_middle_of_a_stream_frees_the_engine(served: Served, engine: Echo) -> None:
    engine.delay_s = 0.02
    connection = served.raw(post(question("word " * 5000, stream=True)))
    assert connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    served.idle()
    assert served.store.log.latest().status == "cancelled"


def test_many_idle_connections_do_not_keep_others_out(served: Served) -> None:
    idle = [served.raw() for _ in range(200)]
    assert served.chat("x").status_code == 200
    for connection in idle:
        connection.close()
