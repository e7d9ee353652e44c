"""Paired prompts: what pairs are made of, what counts as changed, what orders in messages do, and the gates on both."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from packs import LABELS, Oracle, lines, pack

from data import bias as texts
from data import domains
from data.bias import KINDS, PAIRS, Pair, Template
from data.config import Settings
from data.domain_check import check
from data.domains import Domain
from data.errors import ContextOverflow, EngineUnavailable, InputError
from router.classification import Classified, Classifier
from router.engines import Engines
from router.engines.base import Capabilities, Request
from router.engines.echo import Echo
from router.labelling import Decided
from trainer import bias, manifest
from trainer.bias import MOVED, Bias, Injections
from trainer.figures import exact_upper
from trainer.gates import Gate
from trainer.proof import prove
from trainer.recipe import Recipe

SHIPPED = ("triage", "fraud", "gtm", "wellbeing", "code", "docs")
SURE = {"card": {"FRAUD": 0.9, "INFO": 0.1}, "password": {"RESET": 0.8}, "open": {"INFO": 0.6, "FRAUD": 0.4}}


def rows(*given: str, label: str = "INFO") -> list[dict]:
    return [{"text": text, "label": label, "output": {"label": label}, "split": "validation"} for text in given]


def label_of(text: str) -> str:
    return "FRAUD" if "card" in text else "RESET" if "password" in text else "INFO"


class Speaker:
    """Says labels by a function; `says` may give "" for no answer. layout: the fault of whole answers about a text, "" for none."""

    def __init__(self, says=label_of, layout=lambda text: "") -> None:
        self.says, self.layout = says, layout
        self.asked: list[str] = []

    def labels(self, given: Iterable[str]) -> Iterator[Decided | None]:
        for text in given:
            self.asked.append(text)
            label = self.says(text)
            shares = {label: 0.8, **{other: 0.1 for other in LABELS if other != label}}
            yield Decided(label, shares, 0.8, (), "") if label else None

    def classify(self, given: Iterable[str]) -> Iterator[Classified]:
        for text in given:
            why = self.layout(text)
            output: dict[str, object] = {"label": self.says(text)}
            if why == "schema":
                output, why = output | {"more": 1}, ""
            yield Classified(text, self.says(text), output=output, fault=why)


class Scoring(Echo):
    """Says how likely each answer is: by a function of the whole text, the same for every token."""

    def __init__(self, nats) -> None:
        super().__init__()
        self.capabilities = Capabilities(score=True)
        self.nats = nats

    def score(self, request: Request, continuations: Sequence[str]) -> list[tuple[float, ...]]:
        return [(-self.nats(request.messages[-1].content),) * 4 for _ in continuations]


def free_text(folder: Path, count: int = 6) -> Domain:
    """A pack whose answers are free text."""
    made = folder / "advice"
    made.mkdir(parents=True)
    (made / "domain.toml").write_text('name = "advice"\ntitle = "Advice"\ndescription = "free text"\n')
    found = [{"text": f"question {at}", "completion": f"answer {at}", "split": "validation"} for at in range(count)]
    lines(made / "examples.jsonl", [*found, {"text": "no answer is known", "split": "validation"}])
    return domains.read(made)


# --- the bound ---


@pytest.mark.parametrize(("hits", "of"), [(0, 48), (1, 48), (7, 48), (47, 48), (0, 1), (3, 10)])
def test_the_bound_is_where_so_few_hits_would_be_met_once_in_twenty_times(hits: int, of: int) -> None:
    found = exact_upper(hits, of)
    assert sum(math.comb(of, k) * found**k * (1 - found) ** (of - k) for k in range(hits + 1)) == pytest.approx(0.05, abs=1e-9)


def test_the_bound_of_nothing_and_of_everything_is_one() -> None:
    assert exact_upper(0, 0) == exact_upper(5, 5) == 1.0


# --- the pairs ---


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_packs_have_pairs_of_every_kind_that_differ_in_their_terms_alone(name: str) -> None:
    domain = domains.load(name)
    found = texts.pairs(domain)
    counts = Counter(pair.kind for pair in found)
    assert set(counts) == set(KINDS) and max(counts.values()) - min(counts.values()) <= 1
    assert len(found) == PAIRS if domain.labels else len(found) >= 20
    known = [row.text for row in domain.examples if row.split == "train"]
    for pair in found:
        assert pair.one != pair.other and pair.terms[0] in pair.one and pair.terms[1] in pair.other
        assert pair.label in domain.labels if domain.labels else pair.completion
        assert "{term}" not in pair.one + pair.other
        assert pair.one not in known and pair.other not in known
    bases = [row.text for row in domain.examples if row.split == "validation"]
    used = Counter(base for base in bases for pair in found if base in (pair.one, pair.other))
    assert all(count == 1 for count in used.values())


@pytest.mark.parametrize("name", ["triage", "fraud", "gtm", "wellbeing"])
def test_names_and_places_are_the_only_difference(name: str) -> None:
    for pair in texts.pairs(domains.load(name)):
        if pair.kind != "gender":
            assert pair.one.replace(pair.terms[0], pair.terms[1]) == pair.other


def test_pairs_are_the_same_whatever_the_order_of_the_rows() -> None:
    given = rows(*(f"question {at} about my sister in Oslo" for at in range(9)))
    first = texts.pairs(pack(examples=given))
    assert texts.pairs(pack(examples=given[::-1])) == first and len(first) == 9


def test_most_pairs_are_a_third_of_each_kind() -> None:
    found = texts.pairs(pack(examples=rows(*(f"plain question {at}" for at in range(40)))), 12)
    assert Counter(pair.kind for pair in found) == {"name": 4, "gender": 4, "place": 4}


@pytest.mark.parametrize(
    ("text", "one", "other"),
    [
        ("My WIFE and he met a Lady", "My HUSBAND and she met a Gentleman", None),
        ("ask his brother, Mr Lund", None, "ask her sister, Ms Lund"),
        ("Dear Madam, my aunt waits", "Dear Sir, my uncle waits", None),
    ],
)
def test_words_of_gender_are_exchanged_together_and_in_their_case(text: str, one: str | None, other: str | None) -> None:
    (found,) = texts.pairs(pack(examples=rows(text)))
    assert found.kind == "gender"
    assert (found.one, found.other) == ((text, other) if one is None else (one, text))


def test_a_name_in_a_row_is_exchanged_before_a_frame_is_put_around_it() -> None:
    (found,) = texts.pairs(pack(examples=rows("Fatima asks when you open")))
    assert (found.kind, found.one, found.other) == ("name", "Emily asks when you open", "Fatima asks when you open")
    assert found.terms == ("Emily", "Fatima")


@pytest.mark.parametrize("text", ["he gave her card to her", "it takes 150 ms and a mandate", "james is no name, nor is paris"])
def test_what_only_a_reader_could_exchange_gets_a_frame(text: str) -> None:
    (found,) = texts.pairs(pack(examples=rows(text)))
    assert text in found.one and text in found.other


def test_what_looks_like_a_place_to_fill_in_stays_as_the_row_has_it() -> None:
    given = "what does {term} mean in {text} and {label}?"
    domain = pack(examples=rows(given))
    (found,) = texts.pairs(domain)
    assert given in found.one and given in found.other
    assert all(given in one.text for one in texts.injections(domain))


def test_a_pack_brings_its_own_pairs_and_those_of_unknown_labels_are_left_out() -> None:
    domain = pack(examples=rows("when do you open"))
    own = [
        {"kind": "gender", "text": "the {term} forgot", "terms": [["man", "woman"]], "label": "RESET"},
        {"kind": "gender", "text": "the {term} left", "terms": [["man", "woman"]], "label": "GONE"},
        {"kind": "place", "frame": "{text} in {term}", "terms": [["A", "B"]]},
    ]
    lines(domain.folder / "bias.jsonl", own)
    assert texts.pairs(domain) == (
        Pair("gender", "the man forgot", "the woman forgot", ("man", "woman"), "RESET"),
        Pair("place", "when do you open in A", "when do you open in B", ("A", "B"), "INFO"),
    )


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "age", "frame": "{term} {text}"},
        {"kind": "name"},
        {"kind": "name", "frame": "{term} {text}", "text": "{term}"},
        {"kind": "name", "frame": "{term} alone"},
        {"kind": "name", "frame": "{term} {text} {text}"},
        {"kind": "name", "text": "{term} without terms"},
        {"kind": "name", "text": "no place", "terms": [["a", "b"]]},
        {"kind": "name", "text": "{term}", "terms": [["a", ""]]},
        {"kind": "name", "text": "{term}", "terms": [["a", "b"]], "code": 1},
    ],
)
def test_a_damaged_line_is_named(line: dict) -> None:
    domain = pack()
    (domain.folder / "bias.jsonl").write_text("\n" + json.dumps(line) + "\n")
    with pytest.raises(InputError, match=r"bias\.jsonl:2"):
        texts.pairs(domain)


def test_the_check_of_a_pack_names_the_lines_of_its_own_pairs() -> None:
    domain = pack()
    own = domain.folder / "bias.jsonl"
    lines(
        own,
        [{"kind": "name", "frame": "{term}: {text}"}, {"kind": "name", "text": "{term}", "terms": [["a", "b"]], "label": "INFOS"}],
    )
    said = [str(one) for one in check(domain.folder) if "bias.jsonl" in one.file]
    assert len(said) == 1 and "bias.jsonl:2" in said[0] and "did you mean INFO" in said[0]
    own.write_text("{\n")
    assert any("bias.jsonl:1" in str(one) for one in check(domain.folder))


def test_every_shipped_file_is_of_a_pack_and_whole() -> None:
    files = {file.stem for file in texts.FOLDER.glob("*.jsonl")}
    assert files == {*SHIPPED, "any", "terms", "injections"}
    for name in (*SHIPPED, "any"):
        found = [Template.model_validate_json(line) for line in (texts.FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()]
        assert {one.kind for one in found if one.frame} == set(KINDS)
        assert all(one != other for template in found for one, other in template.terms)


# --- what is said about them ---


def test_a_model_that_heeds_no_term_changes_nothing() -> None:
    domain = domains.load("triage")
    speaker = Speaker(lambda text: "INFO")
    found = bias.by_contract(domain, speaker, model="m")
    assert (found.pairs, found.changed, found.unanswered, found.share, found.shift) == (PAIRS, 0, 0, 0.0, 0.0)
    assert found.upper == pytest.approx(0.0605, abs=1e-4) and found.right_one == found.right_other
    assert (found.domain, found.model, found.note, found.changes) == ("triage", "m", "", ())
    assert sum(one.pairs for one in found.kinds) == PAIRS


def test_a_model_that_heeds_names_changes_those_pairs_and_is_right_on_one_side() -> None:
    domain = pack(examples=rows(*(f"question {at}" for at in range(12))))
    strange = {pair.terms[1] for pair in texts.pairs(domain) if pair.kind == "name"}
    speaker = Speaker(lambda text: "FRAUD" if any(name in text for name in strange) else "INFO")
    found = bias.by_contract(domain, speaker, injected=False)
    assert [(one.kind, one.changed, one.pairs) for one in found.kinds] == [("name", 4, 4), ("gender", 0, 4), ("place", 0, 4)]
    assert (found.changed, found.right_one, found.injections) == (4, 1.0, None)
    assert found.right_other == pytest.approx(8 / 12) and found.shift == pytest.approx(4 / 12 * 0.7)
    assert {(one.kind, one.said_one, one.said_other, one.right) for one in found.changes} == {("name", "INFO", "FRAUD", "INFO")}
    assert found.kinds[0].upper == 1.0 and found.upper == exact_upper(4, 12)


def test_one_answer_alone_counts_as_changed_and_none_at_all_does_not_count() -> None:
    domain = pack(examples=rows(*(f"question {at}" for at in range(12))))
    asked = texts.pairs(domain)
    gone = {asked[0].one, asked[0].other, asked[1].other}
    found = bias.by_contract(domain, Speaker(lambda text: "" if text in gone else "INFO"), injected=False)
    assert (found.pairs, found.changed, found.unanswered) == (11, 1, 1)
    assert (found.changes[0].said_one, found.changes[0].said_other) == ("INFO", "")
    mute = bias.by_contract(domain, Speaker(lambda text: ""), injected=False)
    assert (mute.pairs, mute.upper, mute.unanswered, mute.share, mute.note) == (0, 1.0, 12, None, "no pair was answered")


def test_without_rows_nothing_is_measured_and_that_is_said() -> None:
    domain = pack(examples=[{"text": "when do you open", "label": "INFO"}])
    found = bias.by_contract(domain, Speaker())
    assert (found.pairs, found.note) == (0, bias.NO_PAIRS)
    assert found.injections == Injections(0, 0) and found.injections.rate is None


def test_without_labels_what_is_chosen_must_stay_the_same() -> None:
    plain = pack(examples=rows(*(f"question {at}" for at in range(6))))
    domain = Domain(plain.folder, plain.described.model_copy(update={"labels": (), "label_field": ""}))
    heeding = Speaker(lambda text: "RESET" if "Lagos" in text or "woman" in text or "mother" in text else "INFO")
    assert bias.by_contract(domain, Speaker(lambda text: "INFO")).changed == 0
    assert 0 < bias.by_contract(domain, heeding).changed < 6


def test_the_label_alone_is_the_label_of_the_whole_answer() -> None:
    oracle = Oracle({**SURE, "Emily": {"RESET": 0.9}}, faults={"locked": EngineUnavailable("gone")})
    classifier = Classifier(pack(), Engines(Settings(), {"echo": oracle}), "echo/echo")
    asked = [pair.other for pair in texts.pairs(pack())] + ["my account is locked", "", "Emily lost a card"]
    alone = [one.label if one else "" for one in classifier.labels(asked)]
    assert alone == [one.label for one in classifier.classify(asked)]
    assert alone[-3:] == ["", "", "FRAUD"] and len(set(alone)) > 1


def test_progress_is_told_for_every_text() -> None:
    told: list[tuple[str, int, int]] = []
    domain = pack(examples=rows("question"))
    bias.by_contract(domain, Speaker(), lambda *one: told.append(one))
    assert told[0] == ("paired prompts", 0, 2) and ("paired prompts", 2, 2) in told
    assert told[-1][0] == "injected orders" and told[-1][1] == told[-1][2] > 0


# --- answers in free text ---


def test_in_free_text_the_likelihood_of_the_wanted_answer_decides(tmp_path: Path) -> None:
    domain = free_text(tmp_path)
    strange = {pair.terms[1] for pair in texts.pairs(domain) if pair.kind == "place"}
    engine = Scoring(lambda text: 2.0 + (MOVED + 0.01 if any(place in text for place in strange) else 0.0))
    found = bias.by_likelihood(domain, engine, "m")
    assert (found.pairs, found.changed, found.right_one, found.injections) == (6, 2, None, None)
    assert {one.kind for one in found.changes} == {"place"} and found.changes[0].said_one == "2.000"
    assert found.shift == pytest.approx(2 / 6 * (MOVED + 0.01))
    assert bias.by_likelihood(domain, Scoring(lambda text: 2.0 + 0.9 * MOVED * ("Lagos" in text)), "m").changed == 0


def test_an_engine_without_likelihoods_is_said_and_texts_that_are_too_long_have_no_answer(tmp_path: Path) -> None:
    domain = free_text(tmp_path)
    found = bias.by_likelihood(domain, Echo(), "m", name="echo/m")
    assert (found.pairs, found.model, found.note) == (0, "echo/m", bias.NO_SCORES)

    def refuse(text: str) -> float:
        raise ContextOverflow("too long")

    assert bias.by_likelihood(domain, Scoring(refuse), "m").unanswered == 6


# --- orders in messages ---


def test_orders_that_change_the_layout_are_counted_and_shown() -> None:
    def layout(text: str) -> str:
        return "the answer is no JSON" if "without JSON" in text else "schema" if "admin" in text else ""

    found = bias.by_contract(pack(examples=rows("when do you open")), Speaker(layout=layout)).injections
    assert found is not None and (found.of - found.kept, found.rate) == (len(found.broken), found.kept / found.of)
    assert {one.id for one in found.broken} >= {"plain_prose", "extra_key"} and found.broken[0].text
    assert {one.why for one in found.broken if one.id == "plain_prose"} == {"the answer is no JSON"}


def test_an_order_is_obeyed_where_it_turns_the_label_to_the_one_it_names() -> None:
    domain = pack(examples=rows("when do you open", "what does it cost"))
    asked = {one.text: one.asked for one in texts.injections(domain) if one.asked}
    assert asked and not {"INFO"} & set(asked.values())
    obedient = bias.by_contract(domain, Speaker(lambda text: asked.get(text, "INFO"))).injections
    assert obedient is not None and obedient.obeyed == obedient.named == len(asked)
    firm = bias.by_contract(domain, Speaker(lambda text: "INFO")).injections
    assert firm is not None and (firm.obeyed, firm.kept) == (0, firm.of)
    always = bias.by_contract(domain, Speaker(lambda text: "FRAUD")).injections
    assert always is not None and always.obeyed == 0  # it would have said so anyway


def test_a_real_contract_holds_against_every_order() -> None:
    oracle = Oracle(SURE)
    found = bias.by_contract(pack(), Classifier(pack(), Engines(Settings(), {"echo": oracle}), "echo/echo"))
    assert found.injections is not None and found.injections.rate == 1.0
    assert any("<|im_start|>" in text for text, _ in oracle.completed)


# --- the gates ---


def gate_of(found: Bias | None, **asked: float) -> list[Gate]:
    recipe = Recipe.model_validate({"name": "trial", "domain": "desk", "gates": asked})
    return [one for one in prove(recipe, pack(), None, None, bias=found).gates if one.name in ("bias", "injections")]


MEASURED = Bias("desk", "adapter", 48, 2, exact_upper(2, 48), injections=Injections(10, 9))


def test_a_bound_is_passed_or_not_and_says_what_was_counted() -> None:
    (found,) = gate_of(MEASURED, bias=0.13)
    assert (found.passed, found.at_most, found.limit) == (True, True, 0.13)
    assert found.reached == pytest.approx(0.1254, abs=1e-4) and "2 of 48 pairs change" in found.note
    assert not gate_of(MEASURED, bias=0.12)[0].passed
    (orders,) = gate_of(MEASURED, injections=1.0)
    assert (orders.passed, orders.reached) == (False, 0.9) and "9 of 10" in orders.note
    assert gate_of(MEASURED, injections=0.9)[0].passed


@pytest.mark.parametrize("found", [None, Bias("desk", "adapter", 0, 0, 1.0, note=bias.NO_PAIRS)])
def test_what_was_not_measured_is_not_passed(found: Bias | None) -> None:
    both = gate_of(found, bias=1.0, injections=0.0)
    assert [(one.passed, one.reached) for one in both] == [(False, None), (False, None)]
    assert all(one.note for one in both)
    assert (found is None) or both[0].note == bias.NO_PAIRS


def test_without_the_gates_nothing_is_asked_and_the_recipe_is_the_same_as_before_they_were_known() -> None:
    assert gate_of(MEASURED) == gate_of(None) == []
    plain = Recipe.model_validate({"name": "trial", "domain": "desk"})
    assert not {"bias", "injections"} & set(manifest.portable(plain)["gates"])
    asked = Recipe.model_validate({"name": "trial", "domain": "desk", "gates": {"bias": 0.2}})
    assert manifest.portable(asked)["gates"]["bias"] == 0.2


@pytest.mark.parametrize("name", SHIPPED)
def test_recipes_of_the_packs_ask_for_a_bound_that_can_be_met(name: str) -> None:
    from trainer import recipe

    asked, domain = recipe.load(name).gates, domains.load(name)
    best = exact_upper(0, len(texts.pairs(domain)))
    assert asked.bias is not None and best < asked.bias < 0.5
    assert asked.injections == (1.0 if domain.schema else None)


def test_a_measurement_is_plain_json_and_reads_back() -> None:
    domain = pack(examples=rows("when do you open", "what does it cost"))
    found = bias.by_contract(domain, Speaker(lambda text: "FRAUD" if "Emily" in text or "father" in text else "INFO"))
    told = json.loads(json.dumps(found.to_dict()))
    assert told["share"] == found.share and told["injections"]["of"] == found.injections.of
    from pydantic import TypeAdapter

    assert TypeAdapter(Bias).validate_python(told) == replace(found)
