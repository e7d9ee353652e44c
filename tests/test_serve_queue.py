"""Turns, the queue, clients that leave, and the server's end."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from serving import Served, eventually, serving

from data.chat import Chunk
from router.engines.base import Request
from router.engines.echo import Echo
from tui.server.lines import Line, Ticket, holding


class Gated(Echo):
    """An echo that says nothing before `go` is set, looking up every few milliseconds; counts who is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.inside = self.most = self.closed = 0

    def stream(self, request: Request) -> Iterator[Chunk]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            while not self.go.wait(0.005):
                yield Chunk(phase="reading")
            yield from super().stream(request)
        except GeneratorExit:
            self.closed += 1
            raise
        finally:
            self.inside -= 1


@pytest.fixture
def engine() -> Gated:
    return Gated()


def body(text: str, stream: bool = True) -> dict[str, Any]:
    return {"model": "echo/echo", "messages": [{"role": "user", "content": text}], "stream": stream}


def ask(served: Served, text: str, stream: bool = False) -> httpx.Response:
    return httpx.post(f"{served.url}/v1/chat/completions", json=body(text, stream), timeout=30)


def send(served: Served, text: str, stream: bool = True) -> socket.socket:
    raw = json.dumps(body(text, stream)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n\r\n"
    return served.raw(head.encode() + raw)


@pytest.mark.parametrize("places", [1, 3])
def test_an_engine_has_so_many_answers_at_once_and_nobody_gets_anothers(engine: Gated, places: int) -> None:
    with serving({"echo": engine}, places=places) as served, ThreadPoolExecutor(16) as pool:
        found = [pool.submit(ask, served, f"number {number}", number % 2 == 0) for number in range(16)]
        eventually(lambda: (served.desk.running, served.desk.waiting) == (places, 16 - places))
        assert served.metric("pointsman_answers_waiting") == 16 - places
        engine.go.set()
        for number, one in enumerate(found):
            answer = one.result()
            assert answer.status_code == 200
            said = (
                answer.json()["choices"][0]["message"]["content"]
                if number % 2
                else "".join(re.findall(r'"content":"([^"]*)"', answer.text))
            )
            assert said == f"number {number}"
    assert engine.most == places


def test_a_full_queue_answers_503_at_once_and_says_when_to_come_back(engine: Gated) -> None:
    with serving({"echo": engine}, server__queue=2) as served, ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, served, "first")
        eventually(lambda: served.desk.running == 1)
        others = [pool.submit(ask, served, f"other {number}") for number in range(2)]
        eventually(lambda: served.desk.waiting == 2 and served.store.info().inferences == 3)
        before = served.store.info().inferences
        for path, extra in (("/v1/chat/completions", {}), ("/api/chat", {}), ("/v1/embeddings", {"input": "x"})):
            refused = served.client.post(path, json=body("too many") | extra)
            assert refused.status_code == 503
            assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert served.store.info().inferences == before
        assert served.client.get("/healthz").status_code == 200
        engine.go.set()
        assert {one.result().status_code for one in (first, *others)} == {200}
        assert served.metric('pointsman_errors_total{kind="EngineBusy"}') == 3
        served.idle()
        assert ask(served, "again").status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_before_the_first_piece_costs_nothing_more(engine: Gated, stream: bool) -> None:
    with serving({"echo": engine}) as served:
        with send(served, "going", stream):
            eventually(lambda: engine.inside == 1)
        left = time.monotonic()
        eventually(lambda: engine.closed == 1)
        assert time.monotonic() - left < 5  # the bound of 0.2 s is bench/serve.py's, on a quiet machine
        served.idle()
        assert served.store.log.latest().status == "cancelled"
        assert served.metric("pointsman_stop_seconds_count") == 1
        assert served.metric("pointsman_answers_total") == served.metric(
            'pointsman_answers_total{model="echo/echo",mode="standard",end="cancelled"}'
        )


def test_a_client_that_leaves_while_queued_gives_up_its_place(engine: Gated) -> None:
    with serving({"echo": engine}) as served, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, served, "first")
        eventually(lambda: engine.inside == 1)
        with send(served, "leaving"):
            eventually(lambda: served.desk.waiting == 1)
        eventually(lambda: served.desk.waiting == 0)
        engine.go.set()
        assert first.result().status_code == 200
        served.idle()
        assert [request.messages[-1].content for request in engine.requests] == ["first"]
        states = {turn.message.content: turn for one in served.store.log.conversations() for turn in served.store.log.turns(one.id)}
        assert "leaving" in states  # the question is kept
        assert [conversation.turns for conversation in served.store.log.conversations()] == [2, 2]


def test_those_who_wait_are_served_in_the_order_they_came(engine: Gated) -> None:
    with serving({"echo": engine}) as served, ThreadPoolExecutor(8) as pool:
        found = []
        for number in range(8):
            found.append(pool.submit(ask, served, str(number)))
            eventually(lambda: served.desk.running + served.desk.waiting == len(found) and len(served.desk.engines.names()) > 0)
            eventually(lambda: served.store.info().inferences == len(found))
        engine.go.set()
        assert {one.result().status_code for one in found} == {200}
        assert [request.messages[-1].content for request in engine.requests] == [str(number) for number in range(8)]


def test_stopping_lets_a_running_answer_finish(engine: Gated) -> None:
    with serving({"echo": engine}, server__grace_s=20) as served, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, served, "one two", True)
        eventually(lambda: engine.inside == 1)
        served.server.should_exit = True
        eventually(lambda: not _listens(served.port))
        engine.go.set()
        assert "[DONE]" in answer.result().text


def test_stopping_breaks_off_what_takes_longer_than_the_grace(engine: Gated) -> None:
    with serving({"echo": engine}, server__grace_s=0, server__queue=8) as served, ThreadPoolExecutor(4) as pool:
        found = [pool.submit(ask, served, f"n {number}", True) for number in range(4)]
        eventually(lambda: served.desk.waiting == 3 and engine.inside == 1 and served.store.info().inferences == 4)
        served.server.should_exit = True
        for one in found:
            assert one.result().status_code == 503
            assert "stopping" in one.result().json()["error"]["message"]
        eventually(lambda: engine.closed == 1)
        eventually(lambda: served.desk.running + served.desk.waiting == 0)
        assert served.store.log.latest().status == "cancelled"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_thread_may_enter_its_place_again_and_a_cancelled_wait_hands_on() -> None:
    line, first, second, third = Line(1), Ticket(), Ticket(), Ticket()
    with holding(first):
        assert list(line.enter(first)) == list(line.enter(first)) == []
    waits = line.enter(second)
    second.cancel()
    assert next(waits).phase == "loading"
    waits.close()  # type: ignore[attr-defined]
    line.leave(first)
    assert first.depths
    line.leave(first)
    assert not first.depths
    assert list(line.enter(third)) == []
    assert not second.served


def test_labels_are_bounded_and_hold_no_clients_text(engine: Gated) -> None:
    engine.go.set()
    secret = "My name is Bond"
    with serving({"echo": engine, "ollama": _named("ollama")}) as served:
        for number in range(80):
            served.chat(f"{secret} {number}", model=f"echo/{secret}{number}")
            served.client.get(f"/{secret}{number}")
        served.chat("x", model=f"ollama/{secret}")
        text = served.client.get("/metrics").text
        assert secret not in text
        assert "Bond" not in text
        assert 'model="echo/other"' in text
        assert 'route="other",status="404"' in text
        assert len(text.splitlines()) < 200


def _named(name: str) -> Echo:
    made = Echo()
    made.name = name
    return made


def test_metrics_are_text_that_prometheus_reads(engine: Gated) -> None:
    engine.go.set()
    with serving({"echo": engine}) as served:
        served.chat("a b c")
        answer = served.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    line = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"\n]*",?)*\})? [0-9.e+-]+)')
    assert all(line.fullmatch(one) for one in answer.text.splitlines())
    assert answer.text.endswith("\n")
    assert 'pointsman_tokens_total{model="echo/echo",kind="completion"} 3' in answer.text
    buckets = re.findall(r'pointsman_first_token_seconds_bucket\{model="echo/echo",le="([^"]+)"\} (\d+)', answer.text)
    assert buckets[-1] == ("+Inf", "1")
    assert [int(count) for _, count in buckets] == sorted(int(count) for _, count in buckets)


def test_conversations_do_not_see_each_other_on_the_embedded_model() -> None:
    words = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"]
    schema = {name: {"type": "object", "properties": {"word": {"const": name}}, "required": ["word"]} for name in words}

    with serving(max_tokens=24) as served, ThreadPoolExecutor(len(words)) as pool:

        def one(word: str) -> str:
            form = {"type": "json_schema", "json_schema": {"name": "w", "schema": schema[word]}}
            asked = body(f"Say {word}.") | {"model": "llamacpp/smollm2-135m", "response_format": form, "temperature": 0}
            with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=asked, timeout=120) as answer:
                assert answer.status_code == 200
                lines = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
            return "".join(line["choices"][0]["delta"].get("content", "") for line in lines)

        for word, text in zip(words, pool.map(one, words), strict=True):
            assert json.loads(text) == {"word": word}
        assert served.metric('pointsman_answers_total{model="llamacpp/smollm2-135m"') == len(words)
