"""The one door: what is logged when, how answers end, what the model sees, and where an unreachable engine leads."""

from collections.abc import Iterator

import pytest

from data import config
from data.chat import Chunk, Message, Usage
from data.errors import EngineInterrupted, EngineUnavailable, InputError, ModelMissing, StoreFull
from data.store import Store, open_store
from router.engines import Engines
from router.engines.echo import Echo, Reply
from router.modes.base import Done, Event, Started, Text, Thought
from router.session import Session


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_store("")
    yield opened
    opened.close()


def session(store: Store, *replies: Reply, local: Echo | None = None, **overrides: object) -> Session:
    settings = config.load({"model": "echo/echo"} | overrides)
    engines = {"echo": Echo(replies)}
    if local:
        local.name = "llamacpp"  # type: ignore[misc]
        engines["llamacpp"] = local
    return Session(settings, store, Engines(settings, engines))


def echo(of: Session) -> Echo:
    engine = of.engines.get("echo")
    assert isinstance(engine, Echo)
    return engine


def started(events: list[Event]) -> Started:
    assert isinstance(events[0], Started)
    return events[0]


def kept(store: Store, begun: Started) -> tuple[str, str]:
    return store.log.inference(begun.inference).status, store.log.turn(begun.answer).message.content


def test_an_answer_is_logged_whole_with_its_measures(store: Store) -> None:
    events = list(session(store, [Chunk(thinking="hm"), "Hello ", "you", Chunk(usage=Usage(5, 2, 2, 0.1, 0.2))]).ask("Hi"))
    begun, done = started(events), events[-1]
    assert events[1:-1] == [Thought("hm"), Text("Hello "), Text("you")]
    assert isinstance(done, Done) and done.inference == begun.inference
    question, answer = store.log.turns(begun.conversation)
    assert (question.message, answer.message.content) == (Message("user", "Hi"), "Hello you")
    inference = store.log.inference(begun.inference)
    assert (inference.status, inference.model, answer.message.thinking) == ("complete", "echo/echo", "hm")
    assert (inference.usage.prompt_tokens, inference.usage.cached_tokens) == (5, 2)


def test_the_question_is_in_the_log_before_the_model_runs(store: Store) -> None:
    events = session(store).ask("Will you remember?")
    begun = next(iter(events))
    assert isinstance(begun, Started)
    assert store.log.turn(begun.question).message.content == "Will you remember?"
    assert store.log.inference(begun.inference).status == "pending"
    events.close()


def test_closing_the_generator_cancels_and_keeps_the_partial(store: Store) -> None:
    events = session(store, "one two three four").ask("Count")
    begun = next(iter(events))
    assert isinstance(begun, Started)
    assert [next(events), next(events)] == [Text("one "), Text("two ")]
    events.close()
    assert kept(store, begun) == ("cancelled", "one two ")


def test_a_broken_stream_keeps_the_partial_and_raises(store: Store) -> None:
    asking = session(store, ["half ", EngineInterrupted("the server went away")])
    events = []
    with pytest.raises(EngineInterrupted):
        for event in asking.ask("Hi"):
            events.append(event)
    assert kept(store, started(events)) == ("interrupted", "half ")
    assert "went away" in store.log.inference(started(events).inference).error


def test_an_error_before_the_first_token_is_no_answer(store: Store) -> None:
    asking = session(store, ModelMissing("no such model"), "fine")
    with pytest.raises(ModelMissing):
        list(asking.ask("first", model="echo/echo"))
    conversation = store.log.conversations()[0].id
    assert store.log.turns(conversation)[-1].inference.status == "error"
    list(asking.ask("second", conversation=conversation))
    assert [m.content for m in echo(asking).requests[-1].messages] == ["first\n\nsecond"]


def test_empty_questions_are_refused_and_leave_no_trace(store: Store) -> None:
    with pytest.raises(InputError):
        list(session(store).ask(" \n"))
    assert store.log.conversations() == []


def test_the_model_sees_the_system_prompt_and_the_whole_path(store: Store) -> None:
    asking = session(store, "a1", "a2", system="Be brief.")
    conversation = started(list(asking.ask("q1"))).conversation
    list(asking.ask("q2", conversation=conversation))
    seen = [(m.role, m.content) for m in echo(asking).requests[-1].messages]
    assert seen == [("system", "Be brief."), ("user", "q1"), ("assistant", "a1"), ("user", "q2")]


def test_a_conversation_keeps_its_system_prompt_and_its_model(store: Store) -> None:
    asking = session(store, "a1", "a2")
    conversation = started(list(asking.ask("q1", system="Speak like a pirate.", model="echo/parrot"))).conversation
    begun = started(list(asking.ask("q2", conversation=conversation)))
    assert echo(asking).requests[-1].messages[0].content == "Speak like a pirate."
    assert begun.model == "echo/parrot"
    assert "goes on" in begun.reasons[0]


def test_a_corrected_answer_is_what_the_conversation_goes_on_with(store: Store) -> None:
    asking = session(store, "Paris is in Italy.", "ok")
    begun = started(list(asking.ask("Where is Paris?")))
    store.feedback.correct(begun.inference, "Paris is in France.")
    list(asking.ask("Sure?", conversation=begun.conversation))
    assert echo(asking).requests[-1].messages[1].content == "Paris is in France."


def test_again_makes_a_sibling_that_sees_the_same_past(store: Store) -> None:
    asking = session(store, "a1", "a2", "b2")
    conversation = started(list(asking.ask("q1"))).conversation
    second = started(list(asking.ask("q2", conversation=conversation)))
    other = started(list(asking.again(second.question)))
    assert [m.content for m in echo(asking).requests[-1].messages] == ["q1", "a1", "q2"]
    assert other.answer != second.answer
    assert {turn.id for turn in store.log.siblings(other.answer)} == {second.answer, other.answer}
    assert store.log.turns(conversation)[-1].message.content == "b2"
    with pytest.raises(InputError, match="not a question"):
        list(asking.again(second.answer))


def test_an_edited_question_is_a_sibling_with_its_own_answer(store: Store) -> None:
    asking = session(store, "a1", "a2", "c2")
    first = started(list(asking.ask("q1")))
    list(asking.ask("q2", conversation=first.conversation))
    list(asking.ask("q2, better", conversation=first.conversation, parent=first.answer))
    assert [m.content for m in echo(asking).requests[-1].messages] == ["q1", "a1", "q2, better"]
    assert [turn.message.content for turn in store.log.turns(first.conversation)] == ["q1", "a1", "q2, better", "c2"]


def test_an_unreachable_default_falls_back_to_the_embedded_model_and_says_so(store: Store) -> None:
    asking = session(store, EngineUnavailable("Ollama is not running"), local=Echo(["from the embedded model"]))
    events = list(asking.ask("Hi"))
    begun = [event for event in events if isinstance(event, Started)]
    assert [event.model for event in begun] == ["echo/echo", "llamacpp/smollm2-135m"]
    assert "Ollama is not running" in begun[1].reasons[-1]
    assert kept(store, begun[1]) == ("complete", "from the embedded model")
    assert store.log.inference(begun[1].inference).model == "llamacpp/smollm2-135m"


def test_a_pinned_model_that_cannot_be_reached_is_an_error(store: Store) -> None:
    asking = session(store, EngineUnavailable("Ollama is not running"), local=Echo(["no"]))
    with pytest.raises(EngineUnavailable):
        list(asking.ask("Hi", model="echo/echo"))


def test_there_is_no_fallback_once_something_was_said(store: Store) -> None:
    asking = session(store, ["half", EngineUnavailable("gone")], local=Echo(["no"]))
    with pytest.raises(EngineUnavailable):
        list(asking.ask("Hi"))


def test_overrides_reach_the_engine(store: Store) -> None:
    asking = session(store)
    list(asking.ask("Hi", overrides={"temperature": 0.0, "seed": 5, "max_tokens": 3, "top_p": None}))
    request = echo(asking).requests[-1]
    assert (request.sampling.temperature, request.sampling.seed, request.max_tokens) == (0.0, 5, 3)


def test_without_a_seed_one_is_drawn_and_logged(store: Store) -> None:
    asking = session(store)
    seeds = []
    for _ in range(2):
        begun = started(list(asking.ask("Hi")))
        seeds.append(store.log.inference(begun.inference).seed)
        assert seeds[-1] == echo(asking).requests[-1].sampling.seed
    assert None not in seeds and seeds[0] != seeds[1]


def test_a_full_disk_in_the_middle_is_reported_at_the_end_and_the_answer_was_shown(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreFull("no space left for the log")

    monkeypatch.setattr(store.log, "finish", full)
    shown = []
    with pytest.raises(StoreFull):
        for event in session(store, "all of it").ask("Hi"):
            if isinstance(event, Text):
                shown.append(event.text)
    assert "".join(shown) == "all of it"


def test_a_model_cannot_change_once_its_answer_has_begun(store: Store) -> None:
    begun = started(list(session(store, "said").ask("Hi")))
    with pytest.raises(InputError, match="has begun"):
        store.log.rebind(begun.inference, model="echo/other", mode="standard", config={})
    assert store.log.inference(begun.inference).model == "echo/echo"


def test_an_unknown_mode_is_an_error_that_lists_the_known_ones_and_leaves_no_trace(store: Store) -> None:
    with pytest.raises(InputError, match="modes: auto"):
        list(session(store).ask("Hi", mode="base"))
    assert store.log.conversations() == []
