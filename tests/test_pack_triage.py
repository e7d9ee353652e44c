"""The triage pack: sound, strict JSON of a label alone, and fraud never lost to a rule."""

from collections import Counter

import pytest

from data import domains
from data._checks.similar import alike
from data.domain_check import check
from router.contract import Contract
from router.domain_rules import DomainRules

NAME = "triage"
LABELS = ("FRAUD", "MERCHANT_ERROR", "PASSWORD_RESET", "INFO")


@pytest.fixture(scope="module")
def pack() -> domains.Domain:
    return domains.read(domains.FOLDER / NAME)


def test_the_pack_passes_the_checker() -> None:
    assert [str(problem) for problem in check(domains.FOLDER / NAME)] == []


def test_the_answer_is_strict_json_of_the_label_alone(pack: domains.Domain) -> None:
    assert pack.schema == pack.asked | {"properties": pack.schema["properties"]}
    assert list(pack.schema["properties"]) == ["label"]
    assert pack.completion({"label": "FRAUD", "confidence": 0.4}) == '{"label": "FRAUD"}'
    assert Contract(pack).faults({"label": "FRAUD"}) == []
    assert Contract(pack).faults({"label": "FRAUD", "confidence": 0.4}) != []
    assert Contract(pack).faults({"label": "OTHER"}) != []


def test_every_label_has_enough_rows_and_every_fifth_is_for_validation(pack: domains.Domain) -> None:
    counts = Counter((one.label, one.split) for one in pack.examples)
    for label in LABELS:
        train, validation = counts[label, "train"], counts[label, "validation"]
        assert train + validation >= 60
        assert 0.18 <= validation / (train + validation) <= 0.22
    assert len(pack.cases) >= 30


def test_no_text_is_like_another(pack: domains.Domain) -> None:
    assert list(alike([one.text for one in pack.examples] + [case.text for case in pack.cases])) == []


def test_fraud_weighs_most_and_its_recall_is_the_highest_gate(pack: domains.Domain) -> None:
    weights = {label.name: label.weight for label in pack.described.labels}
    assert weights["FRAUD"] >= 2 * max(weight for name, weight in weights.items() if name != "FRAUD")
    recall = pack.described.gates.recall
    assert set(recall) == set(LABELS)
    assert recall["FRAUD"] == 0.95 == max(recall.values())


def test_the_rules_never_contradict_an_example_or_a_case(pack: domains.Domain) -> None:
    rules = DomainRules.of(pack)
    matched = 0
    for one in pack.examples:
        verdict = rules.verdict(one.text)
        matched += bool(verdict.matched)
        assert verdict.set.get("label", one.label) == one.label, (verdict.matched, one.text)
    assert matched >= 12
    for case in pack.cases:
        wanted = case.expect.get("label")
        if isinstance(wanted, str):
            assert rules.verdict(case.text).set.get("label", wanted) == wanted, case.id


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("there is a transfer I never made", "FRAUD"),
        ("I read the passcode to him, he said he was from the bank", "FRAUD"),
        ("A shop I do not recognise charged me twice", None),
        ("I forgot my PIN and someone withdrew money", None),
        ("How do I report it if my card is stolen?", None),
    ],
)
def test_a_rule_speaks_only_where_it_is_certain(pack: domains.Domain, text: str, label: str | None) -> None:
    assert DomainRules.of(pack).verdict(text).set.get("label") == label


def test_the_router_examples_are_many_and_different(pack: domains.Domain) -> None:
    examples = pack.described.router.examples
    assert len(examples) >= 25
    assert list(alike(examples)) == []


def test_the_readme_states_the_counts(pack: domains.Domain) -> None:
    text = (pack.folder / "README.md").read_text(encoding="utf-8")
    assert f"| all | 648 | 152 | {len(pack.examples)} |" in text
    assert f"{len(pack.cases)} adversarial cases" in text
    assert f"{len(pack.examples)} examples start" in text
