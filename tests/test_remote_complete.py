"""Structured answers from servers and their label probabilities: scripted servers, a toy model worked out by hand, real servers.

POINTSMAN_TEST_OLLAMA=127.0.0.1:11434 (a loopback host) and POINTSMAN_TEST_OLLAMA_MODEL=llama3.2:1b add a real Ollama.
"""

import copy
import json
import math
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from servers import CUT, HANG, PATIENCE_S, LlamaServer, Reply, Scripted, ndjson, plain, sse

from data import errors
from data.chat import Message
from data.config import OllamaSettings, OpenAICompatibleSettings, Sampling, Settings
from router.engines import _completing, _remote, ollama, openai_compatible
from router.engines._remote import Remote
from router.engines._token_probabilities import Token, choices, token_of
from router.engines.base import Request
from router.engines.echo import Echo
from router.engines.structure import Choice, Completion, Literal, Node, Repeat, Select, Series, Structure, Text

REAL = os.environ.get("POINTSMAN_TEST_OLLAMA", "")
REAL_MODEL = os.environ.get("POINTSMAN_TEST_OLLAMA_MODEL", "")
CHATS = {"ollama": "/api/chat", "openai_compatible": "/v1/chat/completions"}
LABELS = ("refund", "refund_scam", "other")


def select(path: str, *values: Any) -> Select:
    return Select(path, tuple(json.dumps(value, ensure_ascii=False) for value in values), values)


def labelled(*labels: Any, name: str = "label") -> Structure:
    """`{"label": one of labels}`."""
    schema = {"type": "object", "properties": {name: {"enum": list(labels)}}, "required": [name], "additionalProperties": False}
    return Structure(Series((Literal(f'{{"{name}": '), select(name, *labels), Literal("}"))), schema)


def reasoned(*labels: str) -> Structure:
    """Free reasoning before the JSON, both in tags."""
    plain_ = labelled(*labels)
    parts: tuple[Node, ...] = (
        Literal("<reasoning>"),
        Text("</reasoning>", 77, 1),
        Literal("\n<ir>"),
        plain_.root,
        Literal("</ir>"),
    )
    return Structure(Series(parts), plain_.schema, "reasoning", "ir")


THREE = labelled(*LABELS)
Reader = Callable[[str, Sequence[Any]], Reply]


def tok(text: str, p: float | None = 1.0, **others: float) -> dict[str, Any]:
    """A token as servers tell it: its probability, and those of others in its place."""
    top = [{"token": other, "logprob": math.log(chance)} for other, chance in others.items()]
    return {"token": text, "logprob": None if p is None else math.log(p), "top_logprobs": top}


def listed(text: str, chances: dict[str, float]) -> dict[str, Any]:
    """A token that stands in its own list."""
    return {
        "token": text,
        "logprob": math.log(chances[text]),
        "top_logprobs": [{"token": token, "logprob": math.log(chance)} for token, chance in chances.items()],
    }


FIRST = listed("other", {"other": 0.5, "refund": 0.25, "hello": 0.25})
OTHER = [tok('{"', 1.0), tok("label"), tok('": "'), FIRST, tok('"}')]


def reply(engine: str, text: str, tokens: Sequence[Any] = ()) -> Reply:
    """An answer in the engine's language: one event a token, with its log-probabilities, or the text alone."""
    pieces: list[tuple[str, list[Any]]] = [(entry["token"], [entry]) for entry in tokens] or [(text, [])]
    if engine == "ollama":
        done = {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 5}
        return ndjson(*({"message": {"content": piece}, "logprobs": heard} for piece, heard in pieces), done)
    events = [{"choices": [{"delta": {"content": piece}, "logprobs": {"content": heard}}]} for piece, heard in pieces]
    return sse(*events, {"choices": [{"delta": {}, "logprobs": None, "finish_reason": "stop"}]})


def asked(*texts: str, model: str = "m") -> list[Request]:
    return [Request(model, (Message("user", text),), Sampling(temperature=0), max_tokens=50) for text in texts]


def word(body: Any) -> str:
    """The question in a request's body."""
    return str(body["messages"][-1]["content"])


class Bench:
    """One engine with a scripted server of its kind."""

    def __init__(self, name: str, server: Scripted) -> None:
        self.name, self.server, self.chat = name, server, CHATS[name]
        self.engine = self.another()

    def another(self, **settings: Any) -> Remote:
        if self.name == "ollama":
            return ollama.build(Settings(ollama=OllamaSettings(**{"host": self.server.host, "stall_s": 10.0} | settings)))
        values = {"url": f"http://{self.server.host}/v1", "stall_s": 10.0} | settings
        return openai_compatible.build(Settings(openai_compatible=OpenAICompatibleSettings(**values)))

    def on(self, *replies: Reply | Callable[[Any], Reply]) -> None:
        self.server.on(self.chat, *replies)

    def says(self, text: str, tokens: Sequence[Any] = ()) -> Reply:
        return reply(self.name, text, tokens)

    def bodies(self) -> list[Any]:
        return [seen.body for seen in self.server.asked(self.chat)]


@pytest.fixture(params=["ollama", "openai_compatible"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Both engines in turn; no pauses between tries."""
    monkeypatch.setattr(_remote, "BACKOFF_S", (0.0, 0.0))
    scripted = Scripted()
    scripted.on("/api/version", plain({"version": "0.33.0"})).on("/v1/models", plain({"data": [{"id": "m"}, {"id": "n"}]}))
    made = Bench(request.param, scripted)
    yield made
    made.engine.close()
    scripted.close()


def chances(choice: Choice) -> list[float]:
    return [round(math.exp(number), 6) for number in choice.log_probabilities]


# What is asked, and what comes back


def test_schema_and_log_probabilities_are_asked_for_and_become_choices(bench: Bench) -> None:
    bench.on(bench.says("", OTHER))
    before = copy.deepcopy(THREE.schema)
    (done,) = bench.engine.complete(asked("what time is it?"), THREE)
    assert done.text == '{"label": "other"}' and done.fault is None and done.usage.finish == "stop"
    (choice,) = done.choices
    assert (choice.path, choice.values, choice.chosen, choice.complete) == ("label", LABELS, 2, False)
    assert chances(choice) == [round(1 / 6, 6), round(1 / 6, 6), round(2 / 3, 6)], "two labels begin with the token refund"
    body = bench.bodies()[0]
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    sent = body["format"] if bench.name == "ollama" else body["response_format"]["json_schema"]["schema"]
    assert sent == before == THREE.schema
    list(bench.engine.stream(asked("hi")[0]))
    assert "logprobs" not in bench.bodies()[1], "an ordinary answer pays for no log-probabilities"


def test_reasoning_is_asked_for_as_first_property_and_put_into_its_tags(bench: Bench) -> None:
    structure = reasoned(*LABELS)
    before = copy.deepcopy(structure.schema)
    answer = json.dumps({"reasoning": 'He says "lamp" </reasoning> </reas</reasoning>oning>.', "label": "refund"}, indent=1)
    bench.on(bench.says(answer))
    (done,) = bench.engine.complete(asked("the lamp broke"), structure)
    assert done.text == '<reasoning>He says "lamp"  .</reasoning>\n<ir>{"label": "refund"}</ir>'
    body = bench.bodies()[0]
    sent = body["format"] if bench.name == "ollama" else body["response_format"]["json_schema"]["schema"]
    assert list(sent["properties"]) == ["reasoning", "label"] and sent["required"] == ["reasoning", "label"]
    assert sent["properties"]["reasoning"] == {"type": "string", "maxLength": 77} and sent["additionalProperties"] is False
    assert structure.schema == before


def test_reasoning_does_not_take_the_place_of_a_property_of_that_name(bench: Bench) -> None:
    own = labelled("long", "short", name="reasoning")
    structure = Structure(own.root, own.schema, "reasoning")
    bench.on(bench.says('{"reasoning_": "thinking", "reasoning": "short"}'))
    (done,) = bench.engine.complete(asked("?"), structure)
    assert done.text == '<reasoning>thinking</reasoning>\n{"reasoning": "short"}'


def test_label_after_reasoning_has_its_probability_although_the_reasoning_names_labels(bench: Bench) -> None:
    thought = 'say {"label": "refund"} or not'
    tokens = [tok('{"reasoning": '), tok(json.dumps(thought)), tok(', "label": "'), FIRST, tok('"}')]
    bench.on(bench.says("", tokens))
    (done,) = bench.engine.complete(asked("?"), reasoned(*LABELS))
    assert done.text == f'<reasoning>{thought}</reasoning>\n<ir>{{"label": "other"}}</ir>'
    assert [choice.values[choice.chosen] for choice in done.choices] == ["other"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('Sure! Here it is:\n```json\n{"label": "refund"}\n```\nAnything else?', '{"label": "refund"}'),
        ('{"think": {"a": 1}} so {"label": "refund"}', '{"label": "refund"}'),
        ('{"answer": {"label": "refund"}}', '{"label": "refund"}'),
        ("{{{ no JSON", "{{{ no JSON"),
        ('{"label": "ref', '{"label": "ref'),
        ('{"name": "refund"}', '{"name": "refund"}'),
        ("", ""),
        ("[" * 30_000, "[" * 30_000),
        ('{"a":' * 30_000, '{"a":' * 30_000),
        ("refund \ud800", "refund \ufffd"),
    ],
    ids=["fence", "two objects", "within another", "braces", "cut", "other name", "empty", "deep list", "deep object", "surrogate"],
)
def test_object_is_taken_out_of_prose_and_anything_else_is_left_to_the_contract(bench: Bench, answer: str, text: str) -> None:
    bench.on(bench.says(answer))
    (done,) = bench.engine.complete(asked("?"), THREE)
    assert done == Completion(text, usage=done.usage)


@pytest.mark.parametrize("answer", ['<reasoning>so</reasoning>\n<ir>{"label": "other"}</ir>', '{"label": "other"}'])
def test_server_that_ignores_the_schema_keeps_its_own_words_where_reasoning_is_wanted(bench: Bench, answer: str) -> None:
    bench.on(bench.says(answer))
    (done,) = bench.engine.complete(asked("?"), reasoned(*LABELS))
    assert done.text == answer


def test_no_requests_ask_nothing(bench: Bench) -> None:
    assert list(bench.engine.complete([], THREE)) == [] and not bench.server.seen


# Several at once


class Crowd:
    """Counts the requests that are being answered at the same time; lets go when `size` are there, or when it is open."""

    def __init__(self, answer: Callable[[Any], Reply], size: int) -> None:
        self.most = 0
        self._answer, self._size, self._now = answer, size, 0
        self._change = threading.Condition()
        self._open = False

    def __call__(self, body: Any) -> Reply:
        with self._change:
            self._now += 1
            self.most = max(self.most, self._now)
            self._open = self._open or self._now >= self._size
            self._change.notify_all()
            assert self._change.wait_for(lambda: self._open, PATIENCE_S), "the requests came one by one"
            self._now -= 1
        return self._answer(body)


def test_first_row_goes_alone_then_several_are_under_way_and_order_is_kept(bench: Bench) -> None:
    lanes = {"ollama": 2, "openai_compatible": 4}[bench.name]
    crowd = Crowd(lambda body: bench.says(f'{{"label": "{word(body)}"}}'), lanes)
    bench.on(bench.says('{"label": "0"}'), crowd)
    names = [str(number) for number in range(3 * lanes)]
    done = list(bench.engine.complete(asked(*names), labelled(*names)))
    assert [json.loads(one.text)["label"] for one in done] == names
    assert crowd.most == lanes


def test_rows_are_drawn_as_they_are_needed(bench: Bench) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[Request]:
        while True:
            drawn.append(1)
            yield from asked("?")

    bench.on(bench.says("", OTHER))
    with closing(bench.engine.complete(endless(), THREE)) as rows:
        assert [next(rows).text for _ in range(5)] == ['{"label": "other"}'] * 5
    assert len(drawn) <= 5 + 1 + _completing.AHEAD * openai_compatible.LANES


def test_closing_breaks_off_every_answer_under_way(bench: Bench) -> None:
    lanes = {"ollama": 2, "openai_compatible": 4}[bench.name]
    hanging = Crowd(lambda _: Reply((HANG,)), lanes - 1)
    good = bench.says('{"label": "other"}')
    bench.on(lambda body: good if word(body) == "good" else hanging(body))
    with closing(bench.engine.complete(asked("good", "good", *["bad"] * 20), THREE)) as rows:
        assert next(rows).text and next(rows).text
        with hanging._change:
            assert hanging._change.wait_for(lambda: hanging._open, PATIENCE_S)
    assert bench.server.left.wait(PATIENCE_S)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pointsman-complete")]
    bench.on(good)
    assert [one.text for one in bench.engine.complete(asked("again"), THREE)] == ['{"label": "other"}']


def test_server_that_cuts_answers_off_for_the_next_is_asked_one_by_one_and_nothing_is_lost() -> None:
    name = "openai_compatible"
    server = Scripted()
    cut = sse({"choices": [{"delta": {"content": '{"la'}}]})  # then [DONE], as llama_cpp.server ends what it breaks off
    crowd = Crowd(lambda _: cut, openai_compatible.LANES)
    alone = Crowd(lambda body: reply(name, f'{{"label": "{word(body)}"}}'), 1)
    crowded = {"1", "2", "3", "4"}

    def answer(body: Any) -> Reply:
        if word(body) not in crowded:
            return alone(body)
        crowded.discard(word(body))
        return crowd(body)

    server.on("/v1/models", plain({"data": [{"id": "m"}]})).on(CHATS[name], answer)
    engine = Bench(name, server).engine
    names = [str(number) for number in range(24)]
    try:
        done = list(engine.complete(asked(*names), labelled(*names)))
        assert [json.loads(one.text)["label"] for one in done] == names
        assert crowd.most == openai_compatible.LANES
        alone.most = 0
        assert [one.fault for one in engine.complete(asked(*names), labelled(*names))] == [None] * len(names)
        assert alone.most == 1, "what was learnt of the server is forgotten in the next batch"
    finally:
        engine.close()
        server.close()


# Faults


def test_row_that_breaks_off_has_a_fault_and_the_others_go_on(bench: Bench) -> None:
    good = bench.says('{"label": "other"}')
    broken = Reply((*bench.says("", OTHER).steps[:2], CUT), headers={"A": "b"})
    bench.on(lambda body: broken if word(body) == "bad" else good)
    done = list(bench.engine.complete(asked("a", "bad", "b", "bad", "c"), THREE))
    assert [type(one.fault) for one in done] == [type(None), errors.EngineInterrupted] * 2 + [type(None)]
    assert [one.text for one in done if not one.fault] == ['{"label": "other"}'] * 3
    assert not any(one.text or one.choices for one in done if one.fault)


def test_first_row_may_break_off_too(bench: Bench) -> None:
    broken = Reply((*bench.says("", OTHER).steps[:2], CUT), headers={"A": "b"})
    bench.on(lambda body: broken if word(body) == "bad" else bench.says('{"label": "other"}'))
    done = list(bench.engine.complete(asked("bad", "b"), THREE))
    assert isinstance(done[0].fault, errors.EngineInterrupted) and done[1].text


def test_row_that_is_too_long_has_an_overflow(bench: Bench) -> None:
    words = "the request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it"
    refusal = plain({"error": {"message": words, "type": "exceed_context_size_error"}}, 400)
    bench.on(lambda body: refusal if word(body) == "long" else bench.says('{"label": "other"}'))
    done = list(bench.engine.complete(asked("long", "b", "long"), THREE))
    assert [type(one.fault) for one in done] == [errors.ContextOverflow, type(None), errors.ContextOverflow]


def test_answer_without_end_is_broken_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_completing, "LONGEST_CHARS", 1000)
    bench.on(bench.says("x" * 1001))
    (done,) = bench.engine.complete(asked("?"), THREE)
    assert isinstance(done.fault, errors.EngineInterrupted) and "1,000 characters" in done.fault.what


def test_unreachable_server_is_raised_before_the_first_row(bench: Bench) -> None:
    nobody = {"host": "127.0.0.1:9"} if bench.name == "ollama" else {"url": "http://127.0.0.1:9/v1"}
    engine = bench.another(**nobody)
    with pytest.raises(errors.EngineUnavailable):
        next(engine.complete(asked("a", "b"), THREE))
    engine.close()


def test_missing_model_is_raised(bench: Bench) -> None:
    bench.server.on("/api/tags", plain({"models": [{"model": "m:latest"}]}))
    bench.on(plain({"error": "model 'nope' not found"}, 404))
    with pytest.raises(errors.ModelMissing):
        next(bench.engine.complete(asked("a", model="nope"), THREE))


def test_server_that_dies_is_raised_after_a_few_rows_and_what_was_answered_is_kept(bench: Bench) -> None:
    failing = plain({"error": {"message": "boom"}}, 500)
    bench.on(lambda body: bench.says('{"label": "other"}') if word(body) == "a" else failing)
    done = []
    with pytest.raises(errors.EngineUnavailable, match="boom"):
        for one in bench.engine.complete(asked("a", *"bbbbbbbb"), THREE):
            done.append(one)
    assert [type(one.fault) for one in done] == [type(None), errors.EngineUnavailable, errors.EngineUnavailable]


def test_failing_rows_among_good_ones_are_theirs_alone(bench: Bench) -> None:
    failing, refused = plain({"error": {"message": "boom"}}, 500), plain({"error": {"message": "bad content"}}, 418)
    kinds = {"f": failing, "r": refused}
    bench.on(lambda body: kinds.get(word(body)) or bench.says('{"label": "other"}'))
    done = list(bench.engine.complete(asked(*"raffarrrrrffa"), THREE))
    assert "".join({errors.EngineUnavailable: "f", errors.EngineRejected: "r"}.get(type(one.fault), "a") for one in done) == (
        "raffarrrrrffa"
    )


def test_server_that_refuses_from_the_first_row_on_is_raised(bench: Bench) -> None:
    bench.on(plain({"error": {"message": "no such thing"}}, 418))
    with pytest.raises(errors.EngineRejected, match="no such thing"):
        list(bench.engine.complete(asked(*"abcdefgh"), THREE))


def test_busy_server_gets_a_row_once_more(bench: Bench) -> None:
    busy = plain({"error": {"message": "full"}}, 503)
    tries = {"a": 0, "b": 0, "c": 0}
    enough = {"a": 1 + len(_remote.BACKOFF_S), "b": 0, "c": 1 + len(_remote.BACKOFF_S)}

    def answer(body: Any) -> Reply:
        tries[word(body)] += 1
        return busy if tries[word(body)] <= enough[word(body)] else bench.says('{"label": "other"}')

    bench.on(answer)
    assert [one.fault for one in bench.engine.complete(asked("a", "b", "c"), THREE)] == [None] * 3
    bench.on(busy)
    with pytest.raises(errors.EngineBusy):
        list(bench.engine.complete(asked("a", "b"), THREE))


# Servers without log-probabilities


def test_server_that_ignores_the_wish_is_asked_once(bench: Bench) -> None:
    bench.on(bench.says('{"label": "other"}'))
    done = list(bench.engine.complete(asked("a", "b", "c"), THREE)) + list(bench.engine.complete(asked("d"), THREE))
    assert [(one.text, one.choices) for one in done] == [('{"label": "other"}', ())] * 4
    assert ["logprobs" in body for body in bench.bodies()] == [True, False, False, False]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "Unsupported parameter: 'logprobs' is not supported with this model."),
        (403, "You are not allowed to request logprobs from this model"),
        (422, [{"type": "extra_forbidden", "loc": ["body", "logprobs"], "msg": "Extra inputs are not permitted"}]),
        (500, "logprobs is not supported for models created with logits_all=False"),
        (500, "Internal Server Error"),
        (501, "not implemented"),
    ],
)
def test_server_that_refuses_log_probabilities_answers_without_and_is_not_asked_again(
    bench: Bench, status: int, words: Any
) -> None:
    refusal = plain({"error": {"message": words}}, status)
    bench.on(lambda body: refusal if body.get("logprobs") else bench.says('{"label": "other"}'))
    done = list(bench.engine.complete(asked("a", "b", "c"), THREE))
    assert [(one.text, one.choices, one.fault) for one in done] == [('{"label": "other"}', (), None)] * 3
    refused = [body["top_logprobs"] for body in bench.bodies() if "logprobs" in body]
    assert refused in ([20, 5], [20]) and ["logprobs" in body for body in bench.bodies()[-3:]] == [False] * 3


def test_server_that_gives_few_alternatives_is_asked_for_few(bench: Bench) -> None:
    refusal = plain({"error": {"message": "Requested sample logprobs of 20, which is greater than max allowed: 5"}}, 400)
    bench.on(lambda body: refusal if body["top_logprobs"] > 5 else bench.says("", OTHER))
    done = list(bench.engine.complete(asked("a", "b"), THREE))
    assert all(len(one.choices) == 1 for one in done)
    assert [body["top_logprobs"] for body in bench.bodies()] == [20, 5, 5]


def test_each_model_of_a_server_is_known_for_itself(bench: Bench) -> None:
    bench.on(lambda body: bench.says("", OTHER) if body["model"] == "n" else bench.says('{"label": "other"}'))
    assert [one.choices for one in bench.engine.complete(asked("a", "b"), THREE)] == [(), ()]
    assert [len(one.choices) for one in bench.engine.complete(asked("a", "b", model="n"), THREE)] == [1, 1]


def test_failing_row_is_not_taken_for_a_refusal_where_log_probabilities_once_came(bench: Bench) -> None:
    failing = plain({"error": {"message": "boom"}}, 500)
    bench.on(lambda body: failing if word(body) == "bad" else bench.says("", OTHER))
    done = list(bench.engine.complete(asked("a", "bad", "b"), THREE))
    assert done[1].fault and all("logprobs" in body for body in bench.bodies())


def test_text_that_log_probabilities_spoil_is_asked_for_again_without(bench: Bench) -> None:
    structure = labelled(*LABELS)
    spoilt = [tok('{"why": "'), tok(""), tok(""), tok('x", "label": "'), FIRST, tok('"}')]

    def answer(body: Any) -> Reply:
        label = {"same": "other", "different": "refund"}[word(body)]
        return bench.says("", spoilt) if "logprobs" in body else bench.says(f'{{"why": "🦙x", "label": "{label}"}}')

    bench.on(answer)
    same, different = bench.engine.complete(asked("same", "different"), structure)
    assert same.text == '{"why": "🦙x", "label": "other"}' and len(same.choices) == 1
    assert different.text == '{"why": "🦙x", "label": "refund"}' and different.choices == ()


# The way through the tokens


def told(structure: Structure, *entries: Any, text: str | None = None) -> tuple[Choice, ...]:
    """The choices from tokens as a server tells them; the text is theirs where none is given."""
    tokens = [token for entry in entries if (token := token_of(entry))]
    whole = b"".join(token.text for token in tokens).decode() if text is None else text
    return choices(structure, whole, tokens)


ONLY = {"other": 1.0}


def test_labels_with_a_common_beginning_part_where_they_differ() -> None:
    (choice,) = told(
        THREE,
        tok('{"label": "'),
        listed("ref", {"ref": 0.6, "other": 0.2, "o": 0.05, "x": 0.15}),
        tok("und", 1.0, und=1.0),
        listed("_scam", {"_scam": 0.3, '"}': 0.1, '"': 0.2, "!": 0.4}),
        tok('"}'),
    )
    share = 0.6 / 0.85
    assert chances(choice) == [round(share * 0.5, 6), round(share * 0.5, 6), round(0.25 / 0.85, 6)]
    assert choice.chosen == 1 and choice.complete


def test_token_over_the_border_of_the_label_counts() -> None:
    (choice,) = told(
        THREE,
        tok('{"'),
        tok("label"),
        listed('": "o', {'": "o': 0.4, '":"ref': 0.1, '" : "refund_': 0.1, '": "': 0.2, '",': 0.2}),
        tok('ther"}'),
    )
    assert chances(choice) == [round(0.05 / 0.6, 6), round(0.15 / 0.6, 6), round(0.4 / 0.6, 6)], "white space does not matter"
    assert choice.chosen == 2 and not choice.complete


def test_white_space_before_the_label_does_not_matter() -> None:
    (choice,) = told(
        labelled(True, False), tok('{"label":'), listed(" true", {" true": 0.3, "false": 0.1, " false": 0.2, " ": 0.4}), tok("}")
    )
    assert chances(choice) == [0.5, 0.5] and choice.complete
    (choice,) = told(labelled(True, False), tok('{"label":\n\t'), listed("false", {" true": 0.25, "false": 0.75}), tok("}"))
    assert chances(choice) == [0.25, 0.75]


def test_labels_that_no_token_leads_to_are_unknown() -> None:
    (choice,) = told(THREE, tok('{"label": "'), listed("other", {"other": 0.9, "x": 0.1}), tok('"}'))
    assert choice.log_probabilities == (-math.inf, -math.inf, 0.0) and not choice.complete


def test_number_and_word_labels_end_where_json_ends_them() -> None:
    structure = labelled(1, 10, None)
    (choice,) = told(
        structure,
        tok('{"label": '),
        listed("1", {"1": 0.5, "null": 0.25, "10": 0.25}),
        listed("}", {"}": 0.5, "0": 0.25, "5": 0.25}),
    )
    assert choice.values[choice.chosen] == 1 and round(sum(chances(choice)), 5) == 1
    assert chances(choice)[0] == round(0.5 * 2 / 3, 6)


@pytest.mark.parametrize("missing", [[], None, "x", [None, 3, {"token": 5}, {"token": "other"}, {"token": "x", "logprob": "y"}]])
def test_label_at_which_the_alternatives_are_missing_has_no_choice(missing: Any) -> None:
    first, second = labelled(*LABELS), labelled("a", "b", name="second")
    both = Structure(
        Series((first.root, second.root)), {"properties": {**first.schema["properties"], **second.schema["properties"]}}
    )
    blind = {"token": "other", "logprob": -0.1, "top_logprobs": missing}
    found = told(both, tok('{"label": "'), blind, tok('", "second": "'), listed("a", {"a": 0.5, "b": 0.5}), tok('"}'))
    assert [(choice.path, chances(choice)) for choice in found] == [("second", [0.5, 0.5])]


def test_missing_numbers_where_nothing_is_decided_do_not_matter() -> None:
    entries = [{"token": '{"label": '}, {"token": '"', "logprob": None, "top_logprobs": None}, FIRST, {"token": '"}'}]
    (choice,) = told(THREE, *entries)
    assert choice.chosen == 2


def test_chosen_token_that_is_not_in_its_own_list_counts_by_its_own_number() -> None:
    (choice,) = told(labelled("a", "b"), tok('{"label": "'), tok("b", 0.2, a=0.6), tok('"}'))
    assert chances(choice) == [0.75, 0.25]
    assert told(labelled("a", "b"), tok('{"label": "'), tok("b", None, a=0.6), tok('"}')) == ()


@pytest.mark.parametrize("number", [-9999.0, -3.4e38])
def test_number_that_stands_for_very_unlikely_is_no_nonsense(number: float) -> None:
    entry = {"token": "b", "logprob": number, "top_logprobs": [{"token": "a", "logprob": -0.1}]}
    (choice,) = told(labelled("a", "b"), tok('{"label": "'), entry, tok('"}'))
    assert chances(choice) == [1.0, 0.0]
    lonely = {"token": "b", "logprob": number, "top_logprobs": [{"token": "zebra", "logprob": -0.1}]}
    (choice,) = told(labelled("a", "b"), tok('{"label": "'), lonely, tok('"}'))
    assert chances(choice) == [0.0, 1.0] and not choice.complete


def raw(text: bytes, chances_: dict[bytes, float]) -> dict[str, Any]:
    """A token told by its bytes, its text spoilt, as where a token is half a character."""

    def one(piece: bytes, chance: float) -> dict[str, Any]:
        return {"token": piece.decode("utf-8", "replace"), "bytes": list(piece), "logprob": math.log(chance)}

    return one(text, chances_.get(text, 1.0)) | {"top_logprobs": [one(piece, chance) for piece, chance in chances_.items()]}


def test_tokens_within_a_character_are_read_by_their_bytes() -> None:
    structure = labelled("größe", "grün")
    middle = [raw(b"\xc3", {b"\xc3": 1.0}), raw(b"\xb6", {b"\xb6": 0.7, b"\xbc": 0.2, b"\xb8": 0.1})]
    entries = [tok('{"label": "gr'), *middle, tok('ße"}')]
    (choice,) = told(structure, *entries, text='{"label": "größe"}')
    assert [round(number, 4) for number in chances(choice)] == [0.7778, 0.2222]


def test_tokens_that_lost_half_a_character_elsewhere_leave_the_label_its_probability() -> None:
    structure = labelled("größe", "grün")
    entries = [tok('{"x": "'), tok("\ufffd"), tok("\ufffd"), tok('", "label": "gr'), listed("ün", {"ün": 0.5, "ö": 0.5}), tok('"}')]
    (choice,) = told(structure, *entries, text='{"x": "🦙", "label": "grün"}')
    assert chances(choice) == [0.5, 0.5]
    within = [tok('{"label": "gr'), tok("\ufffd", 0.5, ö=0.5), tok("\ufffd", 0.5), tok('n"}')]
    assert told(structure, *within, text='{"label": "grün"}') == (), "at the label itself nothing is known"


def test_tokens_that_are_cut_off_or_begin_late_give_no_choice() -> None:
    full = [tok('{"label": "'), listed("ref", {"ref": 0.5, "other": 0.5}), listed("und", {"und": 1.0}), listed('"}', {'"}': 1.0})]
    text = '{"label": "refund"}'
    assert len(told(THREE, *full, text=text)) == 1
    for begin in range(1, 4):
        assert len(told(THREE, *full[begin:], text=text)) == (1 if begin < 2 else 0), "the quotation mark alone decides nothing"
    for end in range(3):
        assert told(THREE, *full[:end], text=text) == ()
    assert told(THREE, full[0], full[2], full[3], text=text) == (), "the token that decides is missing"
    assert len(told(THREE, full[0], full[1], full[3], text=text)) == 1, "a token that decides nothing is missing"


def test_labels_with_escapes_are_known_in_every_spelling() -> None:
    structure = labelled('say "é"', "tab\t", "plain")
    for spelling in ('say \\"é\\"', 'say \\"\\u00e9\\"', 'say \\"\\u00E9\\u0022'):
        start, rest = spelling[:3], spelling[3:]
        (choice,) = told(
            structure, tok('{"label": "'), listed(start, {start: 0.5, "tab\\": 0.25, "plain": 0.25}), tok(f'{rest}"}}')
        )
        assert choice.chosen == 0 and chances(choice) == [0.5, 0.25, 0.25] and choice.complete
    (choice,) = told(structure, tok('{"label": "'), listed("tab", {"tab": 1.0}), listed("\\t", {"\\t": 0.5, "\\u": 0.5}), tok('"}'))
    assert choice.values[choice.chosen] == "tab\t"


def test_thinking_before_the_answer_is_passed_over() -> None:
    thinking = [tok("<think>"), tok('{"label": "'), listed("refund", {"refund": 1.0}), tok('"}'), tok("</think>")]
    answer = [tok('{"label": "'), FIRST, tok('"}')]
    (choice,) = told(THREE, *thinking, *answer, tok("<|im_end|>"), text='{"label": "other"}')
    assert choice.chosen == 2 and chances(choice)[2] == round(2 / 3, 6)


def test_nested_labels_and_those_of_items_have_their_paths() -> None:
    item = Series((Literal('{"kind": '), select("found[].kind", "x", "y"), Literal("}")))
    inner = Series((Literal('{"a": {"b": '), select("a.b", "x", "y"), Literal('}, "found": '), Repeat(item, 0, 3), Literal("}")))
    structure = Structure(inner, {"properties": {"a": {}, "found": {}}})
    one = [tok('"'), listed("x", {"x": 0.75, "y": 0.25}), tok('"')]
    two = [tok('"'), listed("y", {"x": 0.5, "y": 0.5}), tok('"')]
    found = told(structure, tok('{"a": {"b": '), *one, tok('}, "found": [{"kind": '), *two, tok('}, {"kind": '), *one, tok("}]}"))
    assert [(choice.path, choice.chosen, chances(choice)) for choice in found] == [
        ("a.b", 0, [0.75, 0.25]),
        ("found[].kind", 1, [0.5, 0.5]),
        ("found[].kind", 0, [0.75, 0.25]),
    ]


def test_value_that_is_no_label_has_no_choice_and_of_a_name_twice_the_last_counts() -> None:
    assert told(THREE, tok('{"label": "'), listed("nope", {"nope": 0.5, "other": 0.5}), tok('"}')) == ()
    assert told(labelled(1, 0), tok('{"label": '), listed("true", {"true": 0.5, "1": 0.5}), tok("}")) == (), "true is not 1"
    twice = [tok('{"label": "'), listed("refund", {"refund": 1.0}), tok('", "label": "'), FIRST, tok('"}')]
    assert [choice.chosen for choice in told(THREE, *twice)] == [2]


@given(st.integers(0, 2**32), st.integers(2, 5))
@hypothesis_settings(max_examples=150, deadline=None)
def test_probabilities_are_those_of_sampling_under_the_grammar(seed: int, count: int) -> None:
    """A toy model that gives every token some probability after every text, worked out over all ways of writing each label."""
    rng = random.Random(seed)
    labels = [first + "".join(rng.choices("abc", k=rng.randrange(4))) for first in rng.sample("abcde", count)]
    vocabulary = {*"abcde", '"', "}", '"}'} | {
        label[i:j] for label in labels for i in range(len(label)) for j in range(i + 1, len(label) + 1)
    }

    def after(text: str) -> dict[str, float]:
        own = random.Random(f"{seed} {text}")
        weights = {token: own.random() ** 3 + 1e-3 for token in sorted(vocabulary)}
        return {token: weight / sum(weights.values()) for token, weight in weights.items()}

    whole = [f'{{"label": "{label}"}}' for label in labels]

    def allowed(text: str) -> dict[str, float]:
        fits = {token: chance for token, chance in after(text).items() if any(one.startswith(text + token) for one in whole)}
        return {token: chance / sum(fits.values()) for token, chance in fits.items()}

    def exact(text: str, label: str) -> float:
        if not label.startswith(text.removeprefix('{"label": "').rstrip('"}')):
            return 0.0
        if text.removeprefix('{"label": "').startswith(f'{label}"'):
            return 1.0
        return sum(chance * exact(text + token, label) for token, chance in allowed(text).items())

    text = '{"label": "'
    entries = [tok(text)]
    while text not in whole:
        token = rng.choice(sorted(allowed(text)))
        entries.append(listed(token, after(text)))
        text += token
    (choice,) = told(labelled(*labels), *entries)
    assert choice.complete and choice.chosen == whole.index(text)
    assert chances(choice) == [pytest.approx(exact('{"label": "', label), abs=1e-5) for label in labels]


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=True)
    | st.integers()
    | st.text(max_size=4)
    | st.sampled_from(["other", '"', "{", "label"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["token", "bytes", "logprob", "top_logprobs", "content", "x"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(
    st.lists(JUNK, max_size=6),
    st.sampled_from(['{"label": "other"}', '{"label": "refund_scam"', "other", '{"label": 1e999}', '{"": {"": [[]]}}']),
)
@hypothesis_settings(max_examples=300, deadline=None)
def test_no_words_of_a_server_bring_a_foreign_exception(entries: list[Any], text: str) -> None:
    tokens = [token for entry in entries if (token := token_of(entry))]
    assert all(isinstance(token, Token) for token in tokens)
    for choice in choices(THREE, text, tokens):
        assert sum(math.exp(number) for number in choice.log_probabilities) == pytest.approx(1)


@pytest.mark.parametrize("junk", [5, "x", {"content": 5}, {"content": [5, None, {"token": 1}]}, [[]], {"content": {"token": "x"}}])
def test_log_probabilities_of_a_wrong_shape_do_not_break_the_answer(bench: Bench, junk: Any) -> None:
    text = '{"label": "other"}'
    events = [{"message": {"content": text}, "logprobs": junk}, {"message": {"content": ""}, "done": True, "logprobs": junk}]
    answer = sse(
        {"choices": [{"delta": {"content": text}, "logprobs": junk}]}, {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    )
    bench.on(ndjson(*events) if bench.name == "ollama" else answer)
    (done,) = bench.engine.complete(asked("?"), THREE)
    assert (done.text, done.choices, done.fault) == (text, (), None)


def test_echo_completes_from_its_script() -> None:
    done = list(Echo(['{"label": "other"}', errors.ContextOverflow("long"), "third"]).complete(asked("a", "b", "c"), THREE))
    assert [one.text for one in done] == ['{"label": "other"}', "", "third"]
    assert isinstance(done[1].fault, errors.ContextOverflow) and done[0].choices == ()


# Real servers


def judged(done: Sequence[Completion], labels: Sequence[str]) -> list[Choice]:
    """The choices of answers that are all valid."""
    assert [one.fault for one in done] == [None] * len(done)
    assert all(json.loads(one.text)["label"] in labels for one in done)
    found = [one.choices[0] for one in done]
    for choice, one in zip(found, done, strict=True):
        assert choice.values[choice.chosen] == json.loads(one.text)["label"]
        assert choice.log_probabilities[choice.chosen] == max(choice.log_probabilities)
        assert sum(map(math.exp, choice.log_probabilities)) == pytest.approx(1)
    return found


def colours(model: str) -> list[Request]:
    system = Message("system", 'Answer with the colour of the thing as JSON, like {"label": "red"}.')
    things = (
        "Grass is green. What colour is grass?",
        "The sky is blue. What colour is the sky?",
        "Blood is red. What colour is blood?",
    )
    return [Request(model, (system, Message("user", thing)), Sampling(temperature=0, repeat_penalty=1), 30) for thing in things]


COLOURS = ("red", "green", "blue")


def test_real_openai_style_server_gives_label_probabilities(embedded_gguf: Path, tmp_path: Path) -> None:
    server = LlamaServer(embedded_gguf, "smol", tmp_path, "--n_ctx", "512", "--n_threads", "2")
    engine = openai_compatible.build(Settings(openai_compatible=OpenAICompatibleSettings(url=server.url, context=512)))
    try:
        found = judged(list(engine.complete(colours("smol"), labelled(*COLOURS))), COLOURS)
    finally:
        engine.close()
        server.close()
    assert len(found) == 3 and all(choice.complete for choice in found)


@pytest.mark.skipif(
    not (REAL and REAL_MODEL), reason="POINTSMAN_TEST_OLLAMA and POINTSMAN_TEST_OLLAMA_MODEL name no server and model"
)
def test_real_ollama_gives_label_probabilities() -> None:
    engine = ollama.build(Settings(ollama=OllamaSettings(host=REAL, context=2048)))
    try:
        found = judged(list(engine.complete(colours(REAL_MODEL), labelled(*COLOURS))), COLOURS)
    finally:
        engine.close()
    assert len(found) == 3
