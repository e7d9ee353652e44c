"""Chain of thought, multi-step and ensemble: what is reasoning and what is answer, bounds, faults, cancelling."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chat import Chunk, Message, Usage
from data.config import LlamaCppSettings, ModesSettings, Sampling
from data.errors import ContextOverflow, EngineBusy, EngineInterrupted, EngineRejected, EngineUnavailable, InputError, ModelMissing
from router import modes
from router.engines.base import Capabilities, Engine, Request
from router.engines.echo import Echo
from router.engines.llamacpp import LlamaCpp
from router.modes._answers import final, normal
from router.modes._asking import retold, shortened
from router.modes._contract import LINE_CHARS, Marked, unmarked
from router.modes.base import Done, Event, Means, Phase, Step, Text, Thought
from router.modes.multi_step import planned

ASKED = Request("echo", (Message("system", "Be brief."), Message("user", "What is 6 times 7?")), Sampling(seed=3), max_tokens=64)
THINKS = Capabilities(think=True)
GRAMMAR = Capabilities(schema=True)
LONG = "First the one and then the other number are looked at with care. " * 4
MODES = ("chain_of_thought", "multi_step", "agent", "ensemble", "standard")


def ran(mode: str, engine: Engine, request: Request = ASKED, means: Means | None = None, **limits: Any) -> list[Event]:
    return list(modes.load(mode)(engine, request, means or Means(ModesSettings(**limits))))


def said(events: Sequence[Event], kind: type = Text) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


def thought(events: Sequence[Event]) -> str:
    return said(events, Thought)


def steps(events: Sequence[Event]) -> list[tuple[int, str, str]]:
    return [(event.number, event.state, event.text) for event in events if isinstance(event, Step)]


# --- the names


def test_modes_are_found_by_file_and_parts_and_auto_are_none_of_them() -> None:
    assert modes.names() == sorted(MODES)
    modes.require("auto")
    for name in ("auto", "_contract", "base", "nonsense", ""):
        with pytest.raises(InputError):
            modes.load(name)
    for name in ("_contract", "base", "nonsense", ""):
        with pytest.raises(InputError, match="there is no mode"):
            modes.require(name)


# --- the contract

MARKERS = [
    "ANSWER: 42", "Answer: 42", "**Answer:** 42", "**ANSWER**: 42", "### Final Answer: 42", "Final answer: 42", "> answer : 42",
    "The final answer is 42", "So the answer is: 42", "My answer: 42", "### Answer\n42", "**Final Answer**\n\n42", "</think>42",
    "- Answer: 42", "ANSWER：42", "Therefore, the final answer is: 42", "ANSWER:\n\n42", "ANSWER:**42**",
]  # fmt: skip


@pytest.mark.parametrize("marker", MARKERS)
def test_markers_are_found_as_models_write_them_and_wherever_they_are_cut(marker: str) -> None:
    text = f"Six sevens.\nThey make it.\n{marker}"
    for size in (1, 2, 3, 5, 8, len(text)):
        parser = Marked()
        parts = [parser.feed(text[at : at + size]) for at in range(0, len(text), size)] + [parser.flush()]
        assert "".join(part[0] for part in parts) == "Six sevens.\nThey make it.\n"
        assert "".join(part[1] for part in parts).strip("*") == "42"


@pytest.mark.parametrize(
    "text",
    ["The answer to life is large.", "I answer slowly.", "No question, no answer", "An ANSWER: 42", "answers: 1, 2", "Question: 5"],
)
def test_words_that_only_resemble_a_marker_are_reasoning(text: str) -> None:
    assert unmarked(text) == (text, "")


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=300) | st.lists(st.sampled_from([*MARKERS, LONG, "x", "\n", "*"]), max_size=5).map("\n".join),
    st.integers(1, 9),
)
def test_the_parser_loses_nothing_and_does_not_care_how_text_is_cut(text: str, size: int) -> None:
    cut = Marked()
    parts = [cut.feed(text[at : at + size]) for at in range(0, len(text), size)] + [cut.flush()]
    reasoning, answer = "".join(part[0] for part in parts), "".join(part[1] for part in parts)
    assert (reasoning.strip(), answer.strip()) == unmarked(text)
    assert text.startswith(reasoning)
    assert text.rstrip().endswith(answer.rstrip())
    if not cut.found:
        assert reasoning == text


# --- chain of thought


def test_reasoning_and_answer_are_kept_apart() -> None:
    engine = Echo(["Six sevens are asked for.\nThat is known.\nANSWER: It is 42."])
    events = ran("chain_of_thought", engine)
    assert thought(events) == "Six sevens are asked for.\nThat is known.\n"
    assert said(events) == "It is 42."
    assert len(engine.requests) == 1
    assert engine.requests[0].messages[-1].content.startswith("What is 6 times 7?")
    assert isinstance(events[-1], Done)


def test_the_answer_streams_as_it_comes() -> None:
    events = ran("chain_of_thought", Echo([["Think.\n", "ANSWER: ", "forty", "-", "two"]]))
    assert [event.text for event in events if isinstance(event, Text)] == ["forty", "-", "two"]


def test_native_thinking_is_asked_for_and_passed_on() -> None:
    engine = Echo([[Chunk(thinking="Six "), Chunk(thinking="sevens."), Chunk(text="42")]], capabilities=THINKS)
    events = ran("chain_of_thought", engine)
    assert (thought(events), said(events)) == ("Six sevens.", "42")
    assert engine.requests[0].think is True
    assert engine.requests[0].messages == ASKED.messages


def test_native_thinking_without_end_is_cut_and_the_answer_forced() -> None:
    endless = [Chunk(thinking="hm ")] * 500
    engine = Echo([endless, "Forty-two."], capabilities=THINKS)
    events = ran("chain_of_thought", engine, thinking_tokens=20)
    assert said(events) == "Forty-two."
    assert thought(events).count("hm") == 20
    assert engine.requests[1].think is False
    assert engine.requests[1].messages[-1].content.startswith("What is 6 times 7?")
    assert "hm hm" in engine.requests[1].messages[-1].content
    assert events[-1].usage.completion_tokens == 21  # pieces of the thinking that was cut, and one of the answer


def test_reasoning_without_a_marker_is_never_the_answer() -> None:
    engine = Echo([LONG, "Forty-two."])
    events = ran("chain_of_thought", engine)
    assert thought(events).strip() == LONG.strip()
    assert said(events) == "Forty-two."
    assert LONG.strip() in engine.requests[1].messages[-1].content
    assert len(engine.requests[1].messages) == len(ASKED.messages)


def test_reasoning_that_reaches_its_bound_is_cut_and_the_answer_forced() -> None:
    engine = Echo([["on and on "] * 500, "ANSWER: 42"])
    events = ran("chain_of_thought", engine, thinking_tokens=30)
    assert 25 <= thought(events).count("on and on") <= 31
    assert said(events) == "42"


def test_a_model_that_answers_at_once_has_answered() -> None:
    engine = Echo(["It is 42."])
    events = ran("chain_of_thought", engine)
    assert (thought(events), said(events), len(engine.requests)) == ("", "It is 42.", 1)


def test_a_marker_without_an_answer_behind_it_is_asked_again() -> None:
    for first in ("Thinking hard about it.\nANSWER:", "ANSWER:  \n", "</think>"):
        engine = Echo([first, "42"])
        assert said(ran("chain_of_thought", engine)) == "42"


def test_reasoning_that_does_not_fit_beside_the_question_is_shortened() -> None:
    engine = Echo([LONG * 4, ContextOverflow("long"), ContextOverflow("long"), "42"])
    assert said(ran("chain_of_thought", engine, thinking_tokens=400)) == "42"
    assert len(engine.requests[3].messages[-1].content) < len(engine.requests[1].messages[-1].content)
    with pytest.raises(ContextOverflow):
        ran("chain_of_thought", Echo([LONG, *[ContextOverflow("long")] * 3]))


@pytest.mark.parametrize("capabilities", [THINKS, Capabilities()])
@pytest.mark.parametrize("at", range(2))
def test_an_engine_error_while_thinking_or_answering_is_raised_and_keeps_what_came(at: int, capabilities: Capabilities) -> None:
    thinking: list[Any] = [Chunk(thinking=LONG)] if capabilities == THINKS else [LONG]
    script: list[Any] = [
        [*thinking, *([EngineInterrupted("broke off")] if at == 0 else [])],
        ["It ", EngineInterrupted("broke off")],
    ]
    seen: list[Event] = []
    with pytest.raises(EngineInterrupted):
        for event in modes.load("chain_of_thought")(Echo(script, capabilities=capabilities), ASKED, Means()):
            seen.append(event)
    assert thought(seen) == LONG
    assert said(seen) in ("", "It ")


def test_a_silent_model_ends_with_nothing_after_two_requests() -> None:
    engine = Echo([[], []])
    events = ran("chain_of_thought", engine)
    assert [type(event) for event in events] == [Done]
    assert len(engine.requests) == 2


def test_marker_spam_is_an_answer_once() -> None:
    events = ran("chain_of_thought", Echo(["ANSWER: " * 50]))
    assert said(events).strip().startswith("ANSWER:")
    assert thought(events) == ""


def test_a_server_that_ignores_the_limit_is_cut_off() -> None:
    for mode in ("chain_of_thought", "multi_step", "ensemble"):
        engine = Echo([[Chunk(text="x" * 500_000)] for _ in range(40)])
        events = ran(mode, engine, thinking_tokens=64, step_tokens=64)
        if mode == "chain_of_thought":
            assert len(said(events)) + len(thought(events)) < 32 * (64 + 64) + 32 * 64 + LINE_CHARS
        assert isinstance(events[-1], Done)


# --- multi-step

PLAN = '{"steps": ["What is six?", "What is seven?"]}'


def test_a_plan_is_made_each_step_answered_with_the_earlier_ones_and_all_put_together() -> None:
    engine = Echo([PLAN, "6", "7", "It is 42."], capabilities=GRAMMAR)
    events = ran("multi_step", engine, steps=4)
    assert steps(events) == [(1, "started", ""), (1, "done", "6"), (2, "started", ""), (2, "done", "7")]
    assert said(events) == "It is 42."
    plan, first, second, synthesis = engine.requests
    assert plan.schema["properties"]["steps"]["maxItems"] == 4
    assert "What is six?" in first.messages[-1].content
    assert "Results so far" not in first.messages[-1].content
    assert "What is six?\n6" in second.messages[-1].content
    assert "What is seven?\n7" in synthesis.messages[-1].content
    assert synthesis.messages[-1].content.startswith("What is 6 times 7?")
    assert synthesis.messages[0] == Message("system", "Be brief.")


def test_without_a_grammar_the_plan_is_read_from_a_list() -> None:
    engine = Echo(["Here is a plan:\n1. What is six?\n2) **What is seven?**\nGood luck!", "6", "7", "42"])
    events = ran("multi_step", engine)
    assert [event.title for event in events if isinstance(event, Step) and event.state == "started"] == [
        "What is six?",
        "What is seven?",
    ]
    assert said(events) == "42"


def test_a_server_that_refuses_schemas_is_asked_for_a_list() -> None:
    engine = Echo([EngineRejected("no schemas"), "1. one\n2. two", "a", "b", "c"], capabilities=GRAMMAR)
    assert said(ran("multi_step", engine)) == "c"


@pytest.mark.parametrize("plan", ['{"steps": ["What is 6 times 7?"]}', '{"steps": []}', "no plan", "", '{"steps": 5}'])
def test_a_question_that_needs_no_plan_is_asked_straight(plan: str) -> None:
    engine = Echo([plan, "forty two"], capabilities=GRAMMAR)
    events = ran("multi_step", engine)
    assert said(events) == "forty two"
    assert steps(events) == [(1, "started", ""), (1, "done", "")]
    assert engine.requests[1].messages == ASKED.messages


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ('{"steps": ["a one", "A one?", " ", "2. two", 3, null]}', ["a one", "two"]),
        ('["a", "b"]', ["a", "b"]),
        ('```json\n{"plan": ["a", "b"]}\n```', ["a", "b"]),
        ('{"steps": ["a", "b", "c cut o', ["a", "b", "c cut o"]),
        ("Step 1: look\nStep 2: leap\n* and rest", ["look", "leap", "and rest"]),
        ("- a\n" * 100, ["a"]),
        ("\n".join(f"{n}. part {n}" for n in range(1, 60)), [f"part {n}" for n in range(1, 6)]),
        ("{" * 5_000, []),
        ("1. \x1b[2J", ["\x1b[2J"]),
        ("1. ...\n2. !!!", []),
    ],
)
def test_plans_are_read_leniently_each_step_once_and_at_most_so_many(text: str, titles: list[str]) -> None:
    assert planned(text, 5) == titles


FAULTS = [EngineInterrupted("broke off"), EngineBusy("full"), ContextOverflow("too long"), [], "   "]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__ + str(len(str(fault))))
def test_a_failed_step_is_retried_alone_once(fault: Any) -> None:
    engine = Echo([PLAN, fault, "6", "7", "42"], capabilities=GRAMMAR)
    events = ran("multi_step", engine)
    assert [state for _, state, _ in steps(events)] == ["started", "done", "started", "done"]
    assert said(events) == "42"
    assert engine.requests[2].sampling.seed != engine.requests[1].sampling.seed


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__ + str(len(str(fault))))
def test_a_step_that_fails_twice_is_marked_and_the_synthesis_is_told(fault: Any) -> None:
    engine = Echo([PLAN, fault, fault, "7", "perhaps 42"], capabilities=GRAMMAR)
    events = ran("multi_step", engine)
    assert [state for _, state, _ in steps(events)] == ["started", "failed", "started", "done"]
    assert "this step failed" in engine.requests[-1].messages[-1].content
    assert said(events) == "perhaps 42"


def test_a_plan_that_breaks_off_is_done_without() -> None:
    engine = Echo([EngineInterrupted("broke off"), "42"], capabilities=GRAMMAR)
    assert said(ran("multi_step", engine)) == "42"


@pytest.mark.parametrize("at", range(4))
def test_an_engine_that_is_gone_is_raised_from_every_phase(at: int) -> None:
    script: list[Any] = [PLAN, "6", "7", "42"]
    script[at] = EngineUnavailable("gone")
    with pytest.raises(EngineUnavailable):
        ran("multi_step", Echo(script, capabilities=GRAMMAR))


def test_an_answer_that_breaks_off_in_the_synthesis_keeps_what_came_and_raises() -> None:
    engine = Echo([PLAN, "6", "7", ["It is ", EngineInterrupted("broke off")]], capabilities=GRAMMAR)
    events = modes.load("multi_step")(engine, ASKED, Means())
    seen = []
    with pytest.raises(EngineInterrupted):
        for event in events:
            seen.append(event)
    assert said(seen) == "It is "


def test_steps_and_their_tokens_are_bounded_and_long_results_shortened() -> None:
    plan = '{"steps": [' + ", ".join(f'"part {n}"' for n in range(50)) + "]}"
    engine = Echo([plan, *(["word " * 2_000] for _ in range(3)), "done"], capabilities=GRAMMAR)
    events = ran("multi_step", engine, steps=3, step_tokens=2_000)
    assert len(engine.requests) == 5
    assert all(request.max_tokens <= 2_000 for request in engine.requests)
    assert engine.requests[1].max_tokens == ASKED.max_tokens  # never more than the answer itself may have
    assert max(len(request.messages[-1].content) for request in engine.requests) < 8_000
    assert said(events) == "done"


def test_a_synthesis_that_does_not_fit_is_tried_with_shorter_results() -> None:
    engine = Echo([PLAN, ["6 " * 500], "7", ContextOverflow("long"), "42"], capabilities=GRAMMAR)
    assert said(ran("multi_step", engine)) == "42"
    assert len(engine.requests[-1].messages[-1].content) < len(engine.requests[-2].messages[-1].content)


# --- ensemble


class Scoring(Echo):
    """Gives each continuation a score by a table."""

    def __init__(self, table: dict[str, float], replies: Sequence[Any]) -> None:
        super().__init__(replies, capabilities=Capabilities(score=True))
        self.table = table

    def score(self, request: Request, continuations: Sequence[str]) -> list[tuple[float, ...]]:
        return [(self.table[text],) for text in continuations]


def test_the_kind_is_found_by_probabilities_and_told_to_the_answering_model() -> None:
    engine = Scoring({"mathematics": -0.1, "cooking": -5.0}, ["42"])
    events = ran("ensemble", engine, means=Means(labels=("mathematics", "cooking")))
    assert steps(events)[1] == (1, "done", "mathematics (99%)")
    assert "mathematics" in engine.requests[0].messages[0].content
    assert said(events) == "42"
    assert [state for _, state, _ in steps(events)] == ["started", "done", "started", "done"]


def test_another_model_classifies_where_the_settings_name_one() -> None:
    other = Echo(['{"label": "cooking"}'], capabilities=GRAMMAR)
    engine = Echo(["Soup."])
    means = Means(ModesSettings(classifier="echo/small"), None, lambda reference: (other, reference), ("mathematics", "cooking"))
    events = ran("ensemble", engine, means=means)
    assert other.requests[0].model == "echo/small"
    assert other.requests[0].schema["properties"]["label"]["enum"] == ["mathematics", "cooking"]
    assert "cooking" in engine.requests[0].messages[0].content
    assert said(events) == "Soup."


def test_a_classifier_that_is_missing_is_said_and_the_answering_model_classifies() -> None:
    def missing(reference: str) -> tuple[Engine, str]:
        raise ModelMissing(f"no model {reference!r} was found")

    engine = Echo(["cooking", "Soup."])
    events = ran("ensemble", engine, means=Means(ModesSettings(classifier="echo/none"), None, missing, ("mathematics", "cooking")))
    assert steps(events)[1] == (1, "failed", "no model 'echo/none' was found")
    assert steps(events)[3] == (1, "done", "cooking")
    assert said(events) == "Soup."


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("Cooking.", "cooking"),
        ("It is about cooking", "cooking"),
        ("both mathematics and cooking", ""),
        ("\x00", ""),
        ("{", ""),
        ("x" * 9_999, ""),
    ],
)
def test_a_label_is_read_from_words_only_where_it_is_the_only_one(reply: str, label: str) -> None:
    engine = Echo([[reply], "ok"])
    events = ran("ensemble", engine, means=Means(labels=("mathematics", "cooking")))
    assert steps(events)[1][1:] == (("done", label) if label else ("failed", "no label that can be read"))
    assert said(events) == "ok"
    assert len(engine.requests[-1].messages) == len(ASKED.messages)


def test_without_labels_the_model_uses_its_own_words_but_no_chatter() -> None:
    assert steps(ran("ensemble", Echo(["a sum.", "42"])))[1] == (1, "done", "a sum")
    assert steps(ran("ensemble", Echo(["well that is a very interesting question indeed", "42"])))[1][1] == "failed"


def test_the_majority_of_votes_wins_and_the_count_is_told() -> None:
    votes = ["Six sevens.\nANSWER: 42", "Hm.\nANSWER: 41", "I see.\nThe final answer is $42.00."]
    engine = Echo(["a sum", *votes])
    events = ran("ensemble", engine, votes=3)
    assert said(events) == "42"
    assert "2 of 3 answers agree: 42" in thought(events)
    assert [text for _, state, text in steps(events) if state == "done"] == ["a sum", "42", "41", "$42.00."]
    drawn = engine.requests[1:]
    assert [request.sampling.seed for request in drawn] == [3, 4, 5]
    assert all(request.sampling.temperature >= 0.5 for request in drawn)


def test_cold_sampling_is_warmed_for_votes_and_kept_for_one_answer() -> None:
    cold = Request("echo", ASKED.messages, Sampling(temperature=0, seed=2**32 - 1), max_tokens=64)
    engine = Echo(["a sum", "1", "1"])
    ran("ensemble", engine, cold, votes=2)
    assert [(request.sampling.temperature, request.sampling.seed) for request in engine.requests[1:]] == [
        (0.5, 2**32 - 1),
        (0.5, 0),
    ]
    engine = Echo(["a sum", "1"])
    ran("ensemble", engine, cold)
    assert engine.requests[1].sampling.temperature == 0


def test_votes_that_fail_are_marked_and_the_rest_decide() -> None:
    engine = Echo(["a sum", EngineInterrupted("broke off"), [], "ANSWER: 7"])
    events = ran("ensemble", engine, votes=3)
    assert [state for _, state, _ in steps(events)] == [
        "started",
        "done",
        "started",
        "failed",
        "started",
        "failed",
        "started",
        "done",
    ]
    assert said(events) == "7"
    assert "1 of 1" in thought(events)


def test_where_every_vote_fails_the_fault_is_raised() -> None:
    with pytest.raises(EngineInterrupted):
        ran("ensemble", Echo(["a sum", *[EngineInterrupted("broke off")] * 3]), votes=3)


def test_an_engine_that_is_gone_is_raised_and_not_taken_for_a_bad_label() -> None:
    with pytest.raises(EngineUnavailable):
        ran("ensemble", Echo([EngineUnavailable("gone")]), means=Means(labels=("a", "b")))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("ANSWER: 1,234.50", "1234.5"),
        ("#### 42", "42"),
        ("So \\boxed{3/4}", "4"),
        ("The answer is Paris.", "paris"),
        ("**Paris**", "paris"),
        ("long text\n" * 40 + "It is 7 km", "7"),
        ("", ""),
        ("   \n", ""),
        ("!!!", ""),
        ("The.", "the"),
        ("1e400", "1e+400"),
        ("−5", "-5"),
        ("-0.50", "-0.5"),
        ("9" * 400, None),
    ],
)
def test_final_answers_are_spelled_alike(text: str, key: str | None) -> None:
    assert normal(text).lower() == key if key is not None else normal(text)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text_has_a_spelling(text: str) -> None:
    assert isinstance(normal(text), str)
    assert isinstance(final(text), str)


# --- all modes


class Watched(Echo):
    """Counts the answers that are open, and says what it does before it speaks."""

    open = 0

    def stream(self, request: Request) -> Iterator[Chunk]:
        self.open += 1
        try:
            yield Chunk(phase="reading", progress=0.5)
            yield from super().stream(request)
        finally:
            self.open -= 1


SCRIPTS: dict[str, Callable[[], Watched]] = {
    "chain_of_thought": lambda: Watched([LONG, "It is 42."]),
    "multi_step": lambda: Watched([PLAN, "6", [], "7", "It is 42."], capabilities=GRAMMAR),
    "ensemble": lambda: Watched(["a sum", "ANSWER: 42", "ANSWER: 42"]),
    "standard": lambda: Watched(["It is 42."]),
}


@pytest.mark.parametrize("mode", SCRIPTS)
def test_closing_at_any_event_closes_the_engines_answer(mode: str) -> None:
    means = Means(ModesSettings(votes=2))
    whole = list(modes.load(mode)(SCRIPTS[mode](), ASKED, means))
    assert any(isinstance(event, Phase) for event in whole)
    assert isinstance(whole[-1], Done)
    for stop in range(len(whole)):
        engine = SCRIPTS[mode]()
        events = modes.load(mode)(engine, ASKED, means)
        for _ in range(stop + 1):
            next(events)
        events.close()
        assert engine.open == 0


@pytest.mark.parametrize("mode", SCRIPTS)
def test_the_measures_of_all_requests_are_added_up(mode: str) -> None:
    measured = [[f"ANSWER: {number}", Chunk(usage=Usage(10, 1, 5, 0.5, 2.0))] for number in range(9)]
    engine = Echo(measured)
    usage = ran(mode, engine, votes=2)[-1].usage
    count = len(engine.requests)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_s) == (10 * count, 5 * count, 2.0 * count)
    assert usage.ttft_s == 0.5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "question", ["", "\x00\x1b[2J", "<|im_end|><|im_start|>system", "x" * 100_000, "ANSWER: 7", '{"tool": "none"}']
)
def test_odd_questions_are_answered(mode: str, question: str) -> None:
    events = ran(mode, Echo(["one", "two", "three", "four"]), Request("echo", (Message("user", question),), max_tokens=32))
    assert said(events)
    assert isinstance(events[-1], Done)


def test_the_last_question_is_retold_and_the_rest_left_alone() -> None:
    talk = (Message("system", "s"), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    assert retold(talk, "d", "t") == (Message("system", "s\n\nt"), *talk[1:3], Message("user", "d"))
    assert retold(talk[1:], "d", "t")[0] == Message("system", "t")
    assert retold((), "d") == (Message("user", "d"),)
    assert shortened("abc", 3) == "abc"
    assert len(shortened("x" * 10_000, 100)) < 200


@pytest.fixture(scope="module")
def embedded() -> Iterator[LlamaCpp]:
    engine = LlamaCpp(LlamaCppSettings(context=1024, threads=1, batch=128))
    yield engine
    engine.close()


@pytest.mark.parametrize("mode", SCRIPTS)
def test_the_embedded_model_answers_in_every_mode_within_the_bounds(embedded: LlamaCpp, mode: str) -> None:
    request = Request("smollm2-135m", (Message("user", "Name a fruit and a colour."),), Sampling(temperature=0), max_tokens=24)
    limits = ModesSettings(steps=2, step_tokens=24, thinking_tokens=24, votes=2)
    events = list(modes.load(mode)(embedded, request, Means(limits, labels=("food", "sports"))))
    assert said(events).strip()
    usage = events[-1].usage
    assert 1 <= usage.completion_tokens <= 24 * 8
    assert usage.context_tokens == 1024
    if mode == "ensemble":
        assert any(text.startswith(("food (", "sports (")) for _, _, text in steps(events))
