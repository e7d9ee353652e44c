"""Domain packs read: where they lie, what their prompts and answers look like, and what their cases expect."""

import json

import pytest
from packs import lines, pack

from data import domains, paths
from data.cases import Case
from data.errors import InputError, NotFound
from data.indicators import Evidence
from router import labelled
from router.domain_rules import Verdict
from router.fillings import Known, filled, unfamiliar

FILLED = {
    "type": "object",
    "properties": {
        "label": {"enum": ["FRAUD", "RESET", "INFO"]},
        "sure": {
            "type": "object",
            "properties": {"label": {"type": "number", "minimum": 0, "maximum": 1, "x-from": "probability", "x-field": "label"}},
            "required": ["label"],
        },
        "signs": {
            "type": "array",
            "items": {"type": "object", "properties": {"quote": {"type": "string"}}},
            "x-from": "indicators",
        },
        "terms": {"type": "array", "items": {"type": "string"}, "x-from": "unfamiliar_terms"},
        "help": {"type": "array", "items": {"type": "string"}, "x-from": "resources"},
        "others": {"type": "array", "items": {"type": "string"}, "x-from": "candidates"},
    },
    "required": ["label", "sure", "signs", "terms", "help", "others"],
    "additionalProperties": False,
}
HELP = '[resources_when]\nlabel = ["FRAUD"]\n[[resources]]\nname = "Bank"\ncontact = "555-0100"\n'


def test_the_users_packs_come_beside_those_that_are_installed_and_before_them():
    pack("fraud")
    assert {"fraud", "triage", "gtm", "wellbeing", "code", "docs"} <= set(domains.names())
    assert domains.load("fraud").described.title == "Desk"
    with pytest.raises(NotFound, match="there are: code"):
        domains.load("nothing")


@pytest.mark.parametrize("name", ["../fraud", "/etc", "fraud/../triage", "", "."])
def test_a_name_never_leads_out_of_the_folder(name):
    with pytest.raises(NotFound):
        domains.load(name)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("name = ", "is not TOML"),
        ('name = "desk"\n', "title"),
        ("nonsense = 1\n", "nonsense"),
        ('name = "other"\ntitle = "x"\ndescription = "x"\n', "in the folder"),
    ],
)
def test_a_faulty_description_is_told_with_its_file(toml, said):
    folder = pack().folder
    (folder / "domain.toml").write_text(toml if said != "nonsense" else (folder / "domain.toml").read_text() + toml)
    with pytest.raises(InputError, match=said):
        domains.load("desk")


def test_a_faulty_example_is_told_with_its_line():
    found = pack()
    (found.folder / "examples.jsonl").write_text('{"text": "x"}\n\n{"txt": "y"}\n')
    with pytest.raises(InputError, match=r"examples.jsonl:3: text"):
        _ = domains.load("desk").examples


def test_what_pointsman_fills_in_is_not_asked_of_the_model():
    found = pack(schema=FILLED)
    assert list(found.asked["properties"]) == ["label"] and found.asked["required"] == ["label"]
    assert json.loads(found.completion({"label": "INFO", "sure": {"label": 1}})) == {"label": "INFO"}
    assert '"label"' in found.instruction() and '"sure"' not in found.instruction()


def test_everything_that_pointsman_fills_in_is_there_and_within_the_rules():
    found = pack(schema=FILLED, toml=HELP)
    evidence = [Evidence("gift_card", "FRAUD", "gift card", 4, 13)]
    known = Known("the flurbulation", {"label": 0.9}, {"FRAUD": 0.7, "INFO": 0.2, "RESET": 0.1}, evidence, {"the"})
    output = filled({"label": "FRAUD"}, found, Verdict(at_most={"sure.label": 0.4}), known)
    assert output == {
        "label": "FRAUD",
        "sure": {"label": 0.4},
        "signs": [{"quote": "gift card"}],
        "terms": ["flurbulation"],
        "help": ["Bank: 555-0100"],
        "others": ["FRAUD", "INFO", "RESET"],
    }
    assert filled({"label": "INFO"}, found, Verdict(), Known("x"))["help"] == []
    assert "label" not in filled({"label": "INFO"}, found, Verdict(), Known("x")).get("sure", {})


def test_invented_words_are_told_from_forms_names_and_numbers():
    words = {"show", "account", "the", "company", "with", "score", "move", "from", "analyse"}
    said = "Show accounts' moving companies with the flurb-score from Acme 2024, FLURB analysing"
    assert unfamiliar(said, words) == ["flurb-score", "FLURB"]


@pytest.mark.parametrize(
    ("expect", "passes"),
    [
        ({"label": "FRAUD"}, True),
        ({"label": "INFO"}, False),
        ({"label": {"not": "INFO"}}, True),
        ({"label": {"in": ["INFO", "RESET"]}}, False),
        ({"sure.label": {"below": 0.5}}, True),
        ({"sure.label": {"above": 0.5}}, False),
        ({"signs": {"contains": "gift card"}}, True),
        ({"why": {"contains": "GIFT"}}, True),
        ({"signs": {"empty": False}}, True),
        ({"missing": "x"}, False),
        ({"missing": {"empty": True}}, True),
        ({"sure.label": {"above_case": "other"}}, True),
        ({"sure.label": {"below_case": "other"}}, False),
        ({"sure.label": {"above_case": "nowhere"}}, False),
        ({"sure.label": {"abvoe": 1}}, False),
        ({"label": {"above": 0.1}}, False),
    ],
)
def test_a_case_says_what_is_not_as_expected(expect, passes):
    output = {"label": "FRAUD", "sure": {"label": 0.3}, "signs": [{"quote": "gift card"}], "why": "a gift card"}
    faults = Case(id="a", text="x", expect=expect).failures(output, {"other": {"sure": {"label": 0.1}}})
    assert (not faults) == passes, faults


def test_packs_teach_the_router_and_join_other_data(tmp_path):
    examples = ", ".join(f'"desk question {number}"' for number in range(6))
    pack(toml=f"[router]\nexamples = [{examples}]\n")
    found = labelled.packs()
    assert ("desk question 0", "desk") in found.train and found.domain_of["desk"] == "desk"
    assert len(found.outside_train) > 40
    lines(tmp_path / "more.jsonl", [{"text": f"parcel {at}", "label": label} for at in range(9) for label in ("orders", "returns")])
    joined = labelled.joined(labelled.load(tmp_path / "more.jsonl"), found)
    assert {"orders", "returns", "desk"} <= set(joined.domains) and len(joined.train) == 18 + len(found.train)


def test_the_general_questions_are_many_and_all_different():
    found = domains.outside()
    assert len(found) == len(set(found)) >= 50
    assert paths.data_dir().name == "data"
