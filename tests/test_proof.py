"""The proof of an adapter: paired statistics against enumeration, gates that are never skipped, and the general set."""

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import feedback_pack as packs
import numpy as np
import pytest
from feedback_pack import right_label, saying, told

from data.chat import Message
from data.checks import Check
from data.config import LlamaCppSettings, Sampling
from data.domains import Domain, Example
from data.errors import EngineUnavailable, InputError
from router.engines.base import Capabilities, Request
from router.engines.echo import Echo
from router.engines.llamacpp import LlamaCpp
from trainer import general
from trainer.answers import evaluate_answers
from trainer.evaluate import evaluate
from trainer.figures import Z
from trainer.gates import Gate
from trainer.general import Ability, General
from trainer.pairs import Pairs, pairs, rows_to_show, sign_test, tango
from trainer.proof import Proof, merged, prove
from trainer.recipe import Recipe
from trainer.scores import Scores

KEPT = General(Ability(1.2, 100, ("Paris", "4"), (True, True)), Ability(1.25, 100, ("Paris", "4"), (True, True)), ("a", "b"))


def recipe(**gates: object) -> Recipe:
    return Recipe.model_validate({"name": "trial", "domain": "feedback", "gates": gates})


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return packs.pack(tmp_path, gates="accuracy = 0.9\nmacro_f1 = 0.5\nece = 0.3", held=20)


def scores(domain: Domain, wrong: Sequence[int] = (), confidence: float | None = 0.9, copies: int = 1) -> Scores:
    """Of the pack's validation rows, those of these numbers said to be something else."""
    rows = [one for one in domain.examples if one.split == "validation"]
    rows = [Example(text=f"{one.text} {at}", label=one.label) for at in range(copies) for one in rows]
    missed = {rows[at].text for at in wrong}

    def answer(text: str):
        label = right_label(text)
        return told(text, "idea" if text in missed and label != "idea" else "bug" if text in missed else label, confidence)

    return evaluate(domain, saying(answer), rows)


def gate(proof: Proof, name: str) -> Gate:
    return next(one for one in proof.gates if one.name == name)


# --- the statistics ---


def likeliest_score(gained: int, lost: int, n: int, difference: float) -> float:
    """Tango's statistic with the restricted estimate searched for on a grid instead of solved for."""
    q = np.linspace(max(0.0, -difference), (1 - difference) / 2, 200_001)[1:-1]
    likelihood = gained * np.log(q + difference) + lost * np.log(q) + (n - gained - lost) * np.log(1 - 2 * q - difference)
    best = q[np.argmax(likelihood)]
    return (gained - lost - n * difference) / math.sqrt(n * (2 * best + difference * (1 - difference)))


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 2, 50), (7, 9, 60), (40, 5, 100), (2, 3, 200)])
def test_the_interval_ends_where_a_search_of_the_likelihood_puts_the_score_at_its_limit(gained: int, lost: int, n: int) -> None:
    found = tango(gained, lost, n)
    assert likeliest_score(gained, lost, n, found.low) == pytest.approx(Z, abs=2e-3)
    assert likeliest_score(gained, lost, n, found.high) == pytest.approx(-Z, abs=2e-3)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    n = 30
    found = {(b, c): tango(b, c, n) for b in range(n + 1) for c in range(n + 1 - b)}
    for gain, loss in ((0.1, 0.1), (0.3, 0.1), (0.05, 0.02), (0.5, 0.2), (0.02, 0.25)):
        inside = 0.0
        for (b, c), one in found.items():
            if one.low <= gain - loss <= one.high:
                ways = math.comb(n, b) * math.comb(n - b, c)
                inside += ways * gain**b * loss**c * (1 - gain - loss) ** (n - b - c)
        assert 0.925 <= inside <= 1.0, (gain, loss, inside)


def test_the_interval_and_mcnemars_test_say_the_same() -> None:
    for gained, lost in itertools.product(range(15), repeat=2):
        found = tango(gained, lost, 100)
        if gained == lost:
            assert found.low < 0 < found.high
        else:
            beyond = (gained - lost) ** 2 / (gained + lost) > Z * Z
            assert (found.low > 0 or found.high < 0) == beyond, (gained, lost)
        mirrored = tango(lost, gained, 100)
        assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_without_a_row_that_differs_the_interval_is_known() -> None:
    for n in (1, 20, 381):
        found = tango(0, 0, n)
        assert (found.low, found.high) == pytest.approx((-Z * Z / (n + Z * Z), Z * Z / (n + Z * Z)))
    assert (tango(0, 0, 0).low, tango(5, 0, 5).high) == (-1.0, 1.0)
    needed = rows_to_show(0.01)
    assert tango(0, 0, needed).low >= -0.01 > tango(0, 0, needed - 1).low
    assert rows_to_show(0) == 0


@pytest.mark.parametrize(("gained", "lost"), [(12, 2), (0, 0), (6, 0), (5, 5), (3, 20), (0, 1)])
def test_the_exact_test_counts_every_outcome(gained: int, lost: int) -> None:
    n = gained + lost
    extreme = [count for count in range(n + 1) if abs(2 * count - n) >= abs(gained - lost)]
    assert sign_test(gained, lost) == pytest.approx(float(Fraction(sum(math.comb(n, count) for count in extreme), 2**n)))


def test_the_exact_test_takes_many_rows() -> None:
    assert 0 < sign_test(2_700, 2_500) < 0.01
    assert sign_test(40_000, 0) == 0.0


def test_pairs_are_counted_row_by_row() -> None:
    found = pairs([True, True, False, False, True], [True, False, True, False, True])
    assert found == Pairs(2, 1, 1, 1) and found.n == 5 and found.difference == 0
    with pytest.raises(ValueError, match="zip"):
        pairs([True], [])


# --- the gates ---


def test_an_adapter_far_better_than_its_base_passes_and_may_be_routed(domain: Domain) -> None:
    proof = prove(recipe(), domain, scores(domain, [3]), scores(domain, range(0, 60, 2)), None, KEPT, None)
    assert proof.passed and proof.routable
    assert proof.base == Pairs(29, 30, 1, 0)
    assert gate(proof, "not worse than the base").reached == pytest.approx(proof.base.interval.low)
    assert "better than the base: yes" in proof.notes[0]
    assert len(proof.better) == proof.base.gained and len(proof.worse) == proof.base.lost
    assert json.loads(json.dumps(proof.to_dict()))["base"]["gained"] == proof.base.gained


def test_one_that_is_as_good_as_its_base_passes_on_enough_rows_but_gets_no_route(domain: Domain) -> None:
    same = scores(domain, [1, 2], copies=7)
    proof = prove(recipe(), domain, same, same, None, KEPT)
    assert same.n == 420 and proof.passed and not proof.routable
    assert "not proven" in proof.notes[0]


def test_on_few_rows_equal_models_are_not_proven_equal_and_the_note_says_how_many_it_takes(domain: Domain) -> None:
    same = scores(domain)
    proof = prove(recipe(), domain, same, same, None, KEPT)
    assert not gate(proof, "not worse than the base").passed
    assert any("60 validation rows are few" in note and "381 rows" in note and "from 6 rows on" in note for note in proof.notes)
    assert prove(recipe(worse_by=0.1), domain, same, same, None, KEPT).passed


def test_four_rows_of_four_are_no_proof(domain: Domain) -> None:
    proof = prove(recipe(), domain, scores(domain), scores(domain, [0, 1, 2, 3]), None, KEPT)
    assert proof.base is not None and proof.base.interval.low > 0 and proof.base.p > 0.05
    assert not proof.routable


def test_one_that_is_worse_than_base_or_parent_does_not_pass(domain: Domain) -> None:
    mine, better = scores(domain, [0, 1, 2, 20, 21]), scores(domain)
    proof = prove(recipe(accuracy=0.5), domain, mine, better, None, KEPT)
    assert [one.name for one in proof.gates if not one.passed] == ["not worse than the base"]
    assert proof.base is not None and (proof.base.gained, proof.base.lost) == (0, 5)
    assert {one.text for one in proof.worse} == {mine.predictions[at].text for at in (0, 1, 2, 20, 21)}
    assert (proof.worse[0].was, proof.worse[0].now) == (proof.worse[0].right, mine.predictions[0].said)
    against = prove(recipe(accuracy=0.5), domain, mine, scores(domain, range(40)), better, KEPT)
    assert [one.name for one in against.gates if not one.passed] == ["not worse than the parent"] and against.routable


def test_what_was_not_measured_is_not_passed(domain: Domain) -> None:
    asked = Recipe.model_validate(
        {"name": "trial", "domain": "feedback", "base": {"adapter": "old"}, "gates": {"adversarial": 0.9, "win_rate": 0.7}}
    )
    proof = prove(asked, domain, scores(domain, confidence=None), None)
    missing = {one.name: one.note for one in proof.gates if one.reached is None}
    assert missing.keys() == {
        "ece", "adversarial", "not worse than the base", "not worse than the parent", "general loss", "general answers", "win rate",
    }  # fmt: skip
    assert all(missing.values()) and not any(one.passed for one in proof.gates if one.reached is None)
    assert not proof.passed and not proof.routable
    nothing = prove(recipe(), domain, None, None)
    assert not any(one.passed for one in nothing.gates) and {"accuracy", "macro_f1"} <= {one.name for one in nothing.gates}


def test_the_recipes_limits_stand_over_the_packs(domain: Domain) -> None:
    found = merged(domain, recipe(accuracy=0.4, recall={"bug": 0.7}).gates).described.gates
    assert (found.accuracy, found.macro_f1, found.recall) == (0.4, 0.5, {"bug": 0.7})
    missed = [at for at in range(60) if at < 10]  # half of the bugs
    proof = prove(
        recipe(accuracy=0.4, ece=0.9, recall={"bug": 0.7}), domain, scores(domain, missed), scores(domain, range(60)), None, KEPT
    )
    assert gate(proof, "accuracy").limit == 0.4 and gate(proof, "accuracy").passed
    assert gate(proof, "recall of bug").reached == 0.5 and not gate(proof, "recall of bug").passed
    eased = [note for note in proof.notes if "less than the pack" in note]
    assert len(eased) == 2 and "accuracy 40.0% instead of 90.0%" in eased[0] and "ece" in eased[1]


def test_scores_of_other_rows_are_refused(domain: Domain) -> None:
    mine = scores(domain)
    for predictions in (mine.predictions[1:], mine.predictions[::-1]):
        with pytest.raises(InputError, match="same rows"):
            prove(recipe(), domain, mine, dataclasses.replace(mine, predictions=predictions), None, KEPT)


def test_the_general_gates_hold_the_rise_of_the_loss_and_the_answers_that_are_lost(domain: Domain) -> None:
    base = Ability(1.0, 10, tuple("abcd"), (True, True, True, False))
    proof = prove(
        recipe(), domain, scores(domain), scores(domain, range(60)), None, dataclasses.replace(KEPT, base=base, mine=base)
    )
    assert proof.passed and gate(proof, "general loss").reached == 0 and gate(proof, "general loss").unit == "nats a token"
    worse = Ability(1.3, 10, ("no", "b", "c", "d"), (False, True, True, True))
    found = General(base, worse, ("one?", "two?", "three?", "four?"))
    proof = prove(recipe(), domain, scores(domain), scores(domain, range(60)), None, found)
    assert gate(proof, "general loss").reached == pytest.approx(0.3) and not gate(proof, "general loss").passed
    assert gate(proof, "general answers").reached == pytest.approx(1 / 3) and not gate(proof, "general answers").passed
    assert found.lost == (("one?", "a", "no"),)
    assert prove(
        recipe(general_loss=0.31, general_answers=0.5), domain, scores(domain), scores(domain, range(60)), None, found
    ).passed


def test_a_base_without_a_right_answer_measures_nothing(domain: Domain) -> None:
    none = Ability(1.0, 10, ("x",), (False,))
    proof = prove(recipe(), domain, scores(domain), scores(domain, range(60)), None, General(none, none, ("q",)))
    assert gate(proof, "general answers").reached is None and not proof.passed


def test_chat_without_a_domain_is_proven_by_preferences_and_the_general_set() -> None:
    asked = Recipe.model_validate({"name": "chat", "data": {"train": ["x.jsonl"]}, "gates": {"win_rate": 0.7, "accuracy": 0.5}})
    proof = prove(asked, None, None, None, None, KEPT, 0.75, preferences=100)
    assert proof.routable and gate(proof, "win rate").passed
    assert not gate(proof, "accuracy").passed and "no domain" in gate(proof, "accuracy").note
    assert not prove(asked, None, None, None, None, KEPT, 0.75, preferences=4).routable
    assert not gate(prove(asked, None, None, None, None, KEPT, 0.6, preferences=100), "win rate").passed


def test_answers_in_free_text_are_paired_by_their_checks(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path, gates="accuracy = 0.9")
    plain = Domain(tmp_path / "none", pack.described.model_copy(update={"labels": (), "label_field": ""}))
    plain.__dict__["cases"] = ()
    rows = [Example(text=f"say {at}", completion=str(at), check=Check(contains=(str(at),))) for at in range(40)]
    mine = evaluate_answers(plain, lambda text: text.split()[1], rows)
    base = evaluate_answers(plain, lambda text: "0", rows)
    proof = prove(recipe(), plain, mine, base, None, KEPT)
    assert proof.passed and proof.routable and proof.base == Pairs(1, 39, 0, 0)
    assert (proof.better[0].was, proof.better[0].now) == ("0", "1") and "json_valid" not in {one.name for one in proof.gates}


# --- the general set ---


def test_the_set_is_whole_and_of_many_kinds() -> None:
    rows = general.rows()
    assert 80 <= len(rows) <= 120 and sum(row.ask for row in rows) == 30
    assert len({row.prompt for row in rows}) == len(rows)
    for row in rows:
        assert row.accept and general.accepted(row.completion, row.accept), row


@pytest.mark.parametrize(
    ("answer", "accept", "right"),
    [
        ("It is paris.", ["Paris"], True),
        ("Parisian", ["Paris"], False),
        ("It is 42", ["4"], False),
        ("4!", ["4", "four"], True),
        ('use print("x")', ["print("], True),
        ("", ["x"], False),
        ("a.b", ["a+b"], False),
    ],
)
def test_a_word_counts_only_as_a_word(answer: str, accept: list[str], right: bool) -> None:
    assert general.accepted(answer, accept) == right


class Scripted(Echo):
    """Says the wanted answer, but as the model "adapter" only to what has no capital in it; a token costs 1 nat, or 2."""

    def __init__(self) -> None:
        super().__init__(capabilities=Capabilities(score=True))
        self.pieces = 0

    def score(self, request: Request, continuations: Sequence[str]) -> list[tuple[float, ...]]:
        nats = 2.0 if request.model == "adapter" else 1.0
        return [(-nats,) * len(text.split()) for text in continuations]

    def stream(self, request: Request):
        assert request.sampling.temperature == 0 and request.max_tokens <= 32
        row = next(one for one in general.rows() if one.prompt == request.messages[-1].content)
        silent = request.model == "adapter" and "capital" in row.prompt
        self.replies = ["I do not know" if silent else f"{row.completion} And so it goes on and on."]
        for chunk in super().stream(request):
            self.pieces += 1
            yield chunk


def test_base_and_adapter_are_measured_on_the_same_questions() -> None:
    engine, seen = Scripted(), []
    found = general.measure(engine, lambda doing, done, of: seen.append((doing, done, of)))
    assert (found.base.loss, found.mine.loss, found.loss_rise) == (1.0, 2.0, 1.0)
    assert found.base.rate == 1.0 and found.lost_share == pytest.approx(7 / 30)
    assert all("capital" in prompt and now.startswith("I do not") for prompt, _, now in found.lost) and len(found.lost) == 7
    assert seen[-1] == ("general set", len(general.rows()), len(general.rows()))
    known = general.measure(engine, base=found.base)
    assert known == found


def test_an_answer_ends_once_it_is_known_to_be_right() -> None:
    engine = Scripted()
    found = general.ability(engine, "base", asked=[row for row in general.rows() if row.prompt == "What is the capital of Japan?"])
    assert found.right == (True,) and "goes on" not in found.answers[0]
    assert engine.pieces < 10


def test_an_engine_without_probabilities_leaves_the_loss_unknown() -> None:
    assert general.ability(Echo(), "echo", asked=general.rows()[:2]).loss is None


def test_a_fault_of_the_engine_is_not_an_answer() -> None:
    with pytest.raises(EngineUnavailable):
        general.ability(Echo([EngineUnavailable("gone")]), "echo", asked=[row for row in general.rows() if row.ask][:1])


def test_the_embedded_model_knows_what_it_is_asked() -> None:
    engine = LlamaCpp(LlamaCppSettings(context=512, threads=1, batch=64))
    asked = [row for row in general.rows() if row.ask][:2]
    try:
        found = general.ability(engine, "smollm2-135m", asked=asked)
        request = Request("smollm2-135m", (Message("user", asked[0].prompt),), Sampling(temperature=0.0))
        alone = engine.score(request, [asked[0].completion])[0]
    finally:
        engine.close()
    assert found.right == (True, True) and found.loss is not None and 0 < found.loss < 3
    assert found.tokens > len(alone) > 3
