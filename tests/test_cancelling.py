"""Answers ended from outside, from the cancellation to the log: in the chat, in the server, in the router's own parts."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serving import Served, eventually, serving

from data import config
from data.chat import Chunk
from data.errors import Cancelled, ModelMissing
from data.store import Store, open_store
from router.cancelling import Cancellation, current, heeding
from router.encoder import Encoder, encoder
from router.engines import Engines
from router.engines.base import Request
from router.engines.echo import Echo
from router.session import Session
from tui.server.lines import LinedEngines
from tui.turns import Ended, Turn

MODEL = "llamacpp/smollm2-135m"


class Deep(Echo):
    """An echo that says a word, and then computes until its answer is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = threading.Event()

    def stream(self, request: Request) -> Iterator[Chunk]:
        yield Chunk("a word")
        self.compute()

    def embed(self, texts: Sequence[str], model: str = "") -> NDArray[np.float32]:
        return self.compute()

    def compute(self) -> Any:
        cancellation = current()
        assert cancellation is not None
        self.deep.set()
        eventually(lambda: cancellation.cancelled)
        raise Cancelled("nobody waits for this answer any more")


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store("") as opened:
        yield opened


@pytest.fixture
def engine() -> Deep:
    return Deep()


def asked(store: Store, engine: Echo) -> Session:
    return Session(config.load({"model": "echo/echo"}), store, Engines(config.load({}), {"echo": engine}))


def test_a_cancelled_computation_is_a_cancelled_answer_and_no_fault_of_the_engine(store: Store, engine: Deep) -> None:
    session = asked(store, engine)
    for _ in range(4):  # three failures within a minute would open the breaker
        cancellation = Cancellation()
        with heeding(cancellation), pytest.raises(Cancelled):
            for _ in session.ask("hello"):
                cancellation.cancel()
    last = store.log.latest()
    assert (last.status, last.error) == ("cancelled", "")
    assert session.situation.breaker.obstacle("echo") == ""


def test_escape_ends_a_computation_and_keeps_what_was_said(store: Store, engine: Deep) -> None:
    session = asked(store, engine)
    turn = Turn(lambda: session.ask("hello"))
    turn.start()
    engine.deep.wait()
    turn.cancel()
    assert turn.cancelled
    assert turn.wait(30)
    ended = turn.news()[-1]
    assert isinstance(ended, Ended)
    assert (ended.status, ended.error, ended.logged) == ("cancelled", None, True)
    _, answer = store.log.turns(store.log.conversations()[0].id)
    assert (answer.message.content, answer.inference.status) == ("a word", "cancelled")


def test_a_client_that_leaves_ends_a_computation(engine: Deep) -> None:
    with serving({"echo": engine}) as served:
        with post(served, "/v1/chat/completions", {"model": "echo/echo", "messages": [{"role": "user", "content": "hello"}]}):
            engine.deep.wait()
        served.idle()
        assert served.store.log.latest().status == "cancelled"
        assert served.metric('pointsman_answers_total{model="echo/echo",mode="standard",end="cancelled"}') == 1
        assert served.metric("pointsman_errors_total") == 0
        assert served.metric("pointsman_release_seconds_count") == served.metric("pointsman_stop_seconds_count") == 1
        assert served.metric("pointsman_release_seconds_sum") <= served.metric("pointsman_stop_seconds_sum")
        engine.deep.clear()
        with post(served, "/v1/embeddings", {"model": "echo/echo", "input": ["hello"]}):
            engine.deep.wait()
        served.idle()
        assert served.metric("pointsman_errors_total") == 0


def test_a_client_that_leaves_while_a_long_prompt_is_read_costs_no_more_and_changes_nothing() -> None:
    body = {"model": MODEL, "stream": True, "max_tokens": 4, "temperature": 0, "seed": 1}
    long = body | {"messages": [{"role": "user", "content": "signal points track train " * 250}]}
    short = body | {"messages": [{"role": "user", "content": "Name a colour."}], "stream": False}
    with serving() as served:
        expected = served.client.post("/v1/chat/completions", json=short).json()["choices"]
        (slot,) = served.desk.engines.get("llamacpp")._slots.values()
        context = slot.model.context()
        with post(served, "/v1/chat/completions", long):
            eventually(lambda: context.user is not None)
        served.idle()
        assert len(context.tokens) < 1000  # the prompt has more
        assert served.store.log.latest().status == "cancelled"
        assert served.client.post("/v1/chat/completions", json=short).json()["choices"] == expected


def post(served: Served, path: str, body: dict[str, Any]) -> socket.socket:
    raw = json.dumps(body).encode()
    return served.raw(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)


def test_the_encoder_does_not_take_a_cancelled_text_for_a_missing_model() -> None:
    replies: list[Any] = [Cancelled("nobody waits"), ModelMissing("not there"), np.ones((1, 3), np.float32)]

    def embed(_: Sequence[str]) -> NDArray[np.float32]:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    made = Encoder(embed)
    with pytest.raises(Cancelled):
        made("hello")
    with pytest.raises(ModelMissing):  # asked again at once
        made("hello")
    with pytest.raises(ModelMissing):  # and this one is remembered for a while
        made("hello")
    assert len(replies) == 1


def test_the_router_sees_the_same_vectors_in_the_server_as_in_the_chat() -> None:
    class Layered(Echo):
        name = "llamacpp"

        def embed_layers(self, texts: Sequence[str], layers: int) -> NDArray[np.float32]:
            return np.full((len(texts), 3 * (1 + layers)), 0.5, np.float32)

    settings = config.load({})
    made = {"llamacpp": Layered()}
    assert encoder(Engines(settings, made))("hello").shape == encoder(LinedEngines(settings, made))("hello").shape == (9,)


def test_a_thread_heeds_its_own_cancellation_alone() -> None:
    seen: list[Cancellation | None] = []
    with heeding(Cancellation()):
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
    assert seen == [None]
    assert current() is None
