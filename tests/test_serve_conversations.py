"""Which conversation of the log a request goes on, though clients name none."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Served, serving

from router.engines.echo import Echo


@pytest.fixture
def engine() -> Echo:
    return Echo()


@pytest.fixture
def served(engine: Echo) -> Iterator[Served]:
    with serving({"echo": engine}) as running:
        yield running


def ask(served: Served, *texts: str, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, str]:
    """The route of an answer to a conversation: questions and answers in turn."""
    messages = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
    body = {"model": "echo/echo", "messages": messages} | fields
    answer = served.client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return json.loads(answer.headers["x-pointsman-decision"])


def branch(served: Served, route: dict[str, str]) -> list[str]:
    return [turn.message.content for turn in served.store.log.turns(route["conversation"])]


def test_a_chat_is_one_conversation_in_the_log(served: Served) -> None:
    first = ask(served, "a")
    second = ask(served, "a", "a", "b")
    third = ask(served, "a", "a", "b", " b \n", "c")  # clients trim
    assert first["conversation"] == second["conversation"] == third["conversation"]
    assert branch(served, third) == ["a", "a", "b", "b", "c", "c"]
    assert served.store.log.inference(third["inference"]).trainable


def test_equal_first_questions_are_conversations_apart(served: Served) -> None:
    assert ask(served, "a")["conversation"] != ask(served, "a")["conversation"]


def test_asking_again_makes_a_sibling_of_the_answer(served: Served) -> None:
    ask(served, "a")
    first = ask(served, "a", "a", "b")
    again = ask(served, "a", "a", "b")
    one, other = (served.store.log.inference(route["inference"]) for route in (first, again))
    assert one.conversation == other.conversation
    assert [turn.id for turn in served.store.log.siblings(one.turn)] == [one.turn, other.turn]


def test_an_edited_question_is_a_fork(served: Served) -> None:
    ask(served, "a")
    first = ask(served, "a", "a", "b")
    fork = ask(served, "a", "a", "changed")
    assert fork["conversation"] == first["conversation"]
    assert branch(served, fork) == ["a", "a", "changed", "changed"]
    question = served.store.log.turns(fork["conversation"])[2]
    assert question.siblings == 2


def test_the_model_sees_what_the_client_sent_and_an_edited_answer_is_never_learned(served: Served, engine: Echo) -> None:
    ask(served, "a")
    ask(served, "a", "a", "b")
    route = ask(served, "a", "a", "b", "I never said this", "c")
    assert [message.content for message in engine.requests[-1].messages] == ["a", "a", "b", "I never said this", "c"]
    assert branch(served, route) == ["a", "a", "c", "c"]
    assert not served.store.log.inference(route["inference"]).trainable
    later = ask(served, "a", "a", "b", "I never said this", "c", "c", "d")
    assert later["conversation"] == route["conversation"]
    assert not served.store.log.inference(later["inference"]).trainable


def test_history_that_the_log_never_saw_begins_a_conversation_that_is_never_learned(served: Served, engine: Echo) -> None:
    route = ask(served, "few", "shot", "b")
    assert [message.content for message in engine.requests[-1].messages] == ["few", "shot", "b"]
    assert not served.store.log.inference(route["inference"]).trainable
    assert ask(served, "few", "shot", "b", "b", "c")["conversation"] == route["conversation"]


def test_a_system_prompt_that_changes_does_not_tear_a_chat_apart(served: Served, engine: Echo) -> None:
    def body(day: str, *texts: str) -> dict[str, Any]:
        said = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
        return {"model": "echo/echo", "messages": [{"role": "system", "content": f"Today is {day}."}, *said]}

    first = served.client.post("/v1/chat/completions", json=body("Monday", "a")).json()["pointsman"]
    second = served.client.post("/v1/chat/completions", json=body("Tuesday", "a", "a", "b")).json()["pointsman"]
    assert first["conversation"] == second["conversation"]
    assert engine.requests[-1].messages[0].content == "Today is Tuesday."


def test_a_header_names_the_conversation_and_the_log_fills_what_was_said(served: Served, engine: Echo) -> None:
    first = ask(served, "a")
    name = {"X-Pointsman-Conversation": first["conversation"]}
    second = ask(served, "b", headers=name)
    assert second["conversation"] == first["conversation"]
    assert [message.content for message in engine.requests[-1].messages] == ["a", "a", "b"]
    assert served.store.log.inference(second["inference"]).trainable
    third = ask(served, "c", pointsman={"conversation": first["conversation"]})
    assert branch(served, third) == ["a", "a", "b", "b", "c", "c"]


def test_a_conversation_that_there_is_not_is_said_to_be_missing(served: Served) -> None:
    answer = served.client.post(
        "/v1/chat/completions",
        json={"model": "echo/echo", "messages": [{"role": "user", "content": "x"}]},
        headers={"X-Pointsman-Conversation": "0123456789abcdef"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_chat_goes_on_after_a_restart(home) -> None:
    with serving({"echo": Echo()}) as served:
        first = ask(served, "a")
    with serving({"echo": Echo()}) as served:
        second = ask(served, "a", "a", "b")
        assert second["conversation"] == first["conversation"]
        assert served.store.log.inference(second["inference"]).trainable


def test_a_chat_whose_conversation_was_forgotten_begins_anew(served: Served) -> None:
    first = ask(served, "a")
    served.store.log.forget(first["conversation"])
    second = ask(served, "a", "a", "b")
    assert second["conversation"] != first["conversation"]
    served.store.log.forget(second["conversation"])
    assert ask(served, "a", "a", "b")["conversation"] not in (first["conversation"], second["conversation"])


def test_what_is_said_about_an_answer_is_kept(served: Served) -> None:
    route = ask(served, "a")
    body = {"inference": route["inference"], "thumb": "up", "rating": 4, "comment": "good", "correction": "A", "key": "k"}
    for _ in range(2):  # the key makes the second call harmless
        answer = served.client.post("/feedback", json=body)
        assert answer.status_code == 200
    assert [one["kind"] for one in answer.json()["feedback"]] == ["thumb", "rating", "comment", "correction"]
    kept = served.store.feedback.history(route["inference"])
    assert [(one.kind, one.value, one.text) for one in kept] == [
        ("thumb", 1, ""),
        ("rating", 4, ""),
        ("comment", None, "good"),
        ("correction", None, "A"),
    ]
    served.client.post("/feedback", json={"inference": route["inference"], "thumb": 0})
    assert "thumb" not in [one.kind for one in served.store.feedback.of(route["inference"])]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inference": "0123456789", "thumb": 1}, 404),
        ({"inference": "HERE"}, 400),
        ({"inference": "HERE", "thumb": 2}, 400),
        ({"inference": "HERE", "rating": 6}, 400),
        ({"inference": "HERE", "correction": "  "}, 400),
        ({"thumb": 1}, 400),
    ],
)
def test_feedback_that_says_nothing_is_refused(served: Served, body: dict, status: int) -> None:
    route = ask(served, "a")
    if body.get("inference") == "HERE":
        body = body | {"inference": route["inference"]}
    assert served.client.post("/feedback", json=body).status_code == status
    assert served.store.feedback.history(route["inference"]) == []
