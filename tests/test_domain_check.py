"""The checker of domain packs: a sound pack passes, each fault is told with its file and line, and no pack makes it crash."""

import json
import os
from pathlib import Path

import pytest

from data import domain_check
from data.domain_check import Problem

DOMAIN = """name = "tiny"
title = "Tiny"
description = "A pack to break"
label_field = "kind"
modes = ["standard"]

[[labels]]
name = "good"
description = "fine"

[[labels]]
name = "bad"
description = "not fine"
weight = 2.0

[gates]
accuracy = 0.8

[gates.recall]
bad = 0.9

[router]
examples = [
  "Is this good?",
  "Is this bad?",
]
"""
SCHEMA = """{
  "type": "object",
  "properties": {
    "kind": {"enum": ["good", "bad"]},
    "reasoning": {"type": "string", "maxLength": 100},
    "score": {
      "type": "integer", "minimum": 0, "maximum": 9
    },
    "confidence": {"type": "number", "x-from": "probability", "x-field": "kind"},
    "signs": {"type": "array", "items": {"type": "string"}, "x-from": "indicators"}
  },
  "required": ["kind", "reasoning", "score", "confidence", "signs"],
  "additionalProperties": false
}
"""
INDICATORS = """[[indicator]]
name = "praise"
label = "good"
description = "praises"
keywords = ["lovely"]
test = ["A lovely day"]
not_test = ["A day"]
"""
TEXTS = {
    "good": ("A lovely day by the sea with all of us", "What a lovely piece of cake that was"),
    "bad": ("The bus broke down again in the rain", "Nobody answers my letters about the drains"),
}


def row(label: str, at: int) -> dict[str, object]:
    text = TEXTS[label][at]
    output = {"kind": label, "reasoning": f'It says "{text[4:12].strip()}".', "score": 3}
    return {"text": text, "label": label, "output": output, "split": ("train", "validation")[at]}


def case(number: int, **more: object) -> dict[str, object]:
    return {"id": f"case{number}", "text": "Hm, lovely", "expect": {"label": "good"}, "why": "hard", **more}


@pytest.fixture()
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "domain.toml").write_text(DOMAIN)
    (folder / "schema.json").write_text(SCHEMA)
    (folder / "indicators.toml").write_text(INDICATORS)
    (folder / "rules.toml").write_text("")
    (folder / "glossary.txt").write_text("widget\ngadget\n")
    lines(folder / "examples.jsonl", [row(label, at) for at in (0, 1) for label in ("good", "bad")])
    lines(
        folder / "adversarial.jsonl",
        [case(1), case(2, expect={"confidence": {"below_case": "case1"}, "signs": {"contains": "praise"}})],
    )
    (folder / "README.md").write_text(
        "# Tiny\n\n| label | train | validation | all | indicators |\n|---|--|--|--|--|\n| `good` | 1 | 1 | 2 | 1 |\n"
        "| all | 2 | 2 | 4 | 1 |\n\nand 2 adversarial cases\n"
    )
    return folder


def lines(file: Path, rows: list[object]) -> None:
    file.write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in rows) + "\n", encoding="utf-8")


def told(pack: Path) -> list[str]:
    return [str(problem).removeprefix(f"{pack}/") for problem in domain_check.check(pack)]


def test_a_sound_pack_has_no_problem(pack: Path) -> None:
    assert domain_check.check(pack) == []


def test_a_problem_is_shown_as_file_line_and_text() -> None:
    assert str(Problem("packs/tiny/domain.toml", 7, "is wrong")) == "packs/tiny/domain.toml:7: is wrong"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("domain.toml", 'title = "Tiny"', 'titel = "Tiny"', "domain.toml:2: unknown key titel; did you mean title?"),
        ("domain.toml", 'title = "Tiny"', 'title = "Tiny', "domain.toml:2: not TOML"),
        ("domain.toml", "weight = 2.0", "wieght = 2.0", "domain.toml:14: unknown key labels.1.wieght; did you mean weight?"),
        ("domain.toml", "weight = 2.0", "weight = -1", "domain.toml:14: labels.1.weight: "),
        ("domain.toml", 'name = "bad"', 'name = "good"', "domain.toml:11: the label 'good' is there twice, first on line 7"),
        ("domain.toml", "accuracy = 0.8", "accuracy = 80", "domain.toml:17: the gate accuracy is 80.0"),
        ("domain.toml", "accuracy = 0.8", "accuracy = nan", "domain.toml:17: the gate accuracy is nan"),
        ("domain.toml", "bad = 0.9", "bda = 0.9", "domain.toml:20: 'bda' is no label; did you mean bad?"),
        ("domain.toml", '"standard"', '"standart"', "domain.toml:5: 'standart' is no mode"),
        ("domain.toml", 'name = "tiny"', 'name = "other"', "domain.toml:1: name = 'other' in the folder 'tiny'"),
        (
            "domain.toml",
            '"Is this bad?"',
            '"Is this GOOD?"',
            "domain.toml:25: the router example 'is this good?' is there twice, first on line 24",
        ),
        (
            "domain.toml",
            'label_field = "kind"',
            'label_field = "kinds"',
            "schema.json:1: label_field of domain.toml is 'kinds': there is no such",
        ),
        ("domain.toml", 'label_field = "kind"\n', "", "domain.toml:6: there are labels but no label_field"),
        (
            "schema.json",
            '"good", "bad"',
            '"good", "evil"',
            "schema.json:4: the values of kind are not the labels of domain.toml; not in its enum: bad",
        ),
        ("schema.json", '"kind", "reasoning"', '"kind"', "schema.json:5: reasoning: reasoning is not in required"),
        (
            "schema.json",
            '"score", "confidence"',
            '"scores", "confidence"',
            "requires 'scores', which is no property; did you mean score?",
        ),
        (
            "schema.json",
            '"maxLength"',
            '"maxlength"',
            "schema.json:5: reasoning.maxlength: maxlength is not supported here; did you mean maxLength?",
        ),
        ("schema.json", ', "maximum": 9', "", "schema.json:6: score: a number needs minimum and maximum"),
        ("schema.json", '"minimum": 0', '"minimum": 10', "schema.json:7: score.minimum: minimum is above maximum"),
        (
            "schema.json",
            '"type": "integer"',
            '"type": "integre"',
            'schema.json:7: score.type: type "integre" is not supported; did you mean integer?',
        ),
        ("schema.json", '"type": "integer"', '"type": ["integer", "null"]', "schema.json:7: score.type: type"),
        ("schema.json", "probability", "probabilty", 'schema.json:9: confidence.x-from: x-from "probabilty" is none of'),
        ("schema.json", '"x-field": "kind"', '"x-field": "kid"', 'schema.json:9: confidence.x-field: x-field "kid" is no property'),
        ("schema.json", '"x-field": "kind"', '"x-field": "score"', "schema.json:9: confidence.x-field: "),
        ("schema.json", '"type": "array", "items"', '"type": "string", "items"', "schema.json:10: signs"),
        ("schema.json", "false", "true", "schema.json:13: additionalProperties: additionalProperties is false or left out"),
        ("schema.json", '"maximum": 9\n', '"maximum": 9,\n', "schema.json:8: not JSON"),
        ("schema.json", '"maximum": 9', '"maximum": 9, "maximum": 8', "schema.json:7: the key 'maximum' stands there twice"),
        ("schema.json", '"maximum": 9', '"maximum": NaN', "schema.json:1: not JSON: NaN"),
        (
            "indicators.toml",
            'label = "good"',
            'label = "goood"',
            "indicators.toml:3: indicator praise: 'goood' is no label of the pack",
        ),
        (
            "indicators.toml",
            '["A day"]',
            '[\n  "A day",\n  "lovely"]',
            "indicators.toml:9: not_test of praise: 'lovely': the indicator is found",
        ),
        (
            "indicators.toml",
            '["A lovely day"]',
            '["A day"]',
            "indicators.toml:6: test of praise: 'A day': the indicator is not found",
        ),
        ("rules.toml", "", "[[rule]\n", "rules.toml:1: not TOML"),
        ("glossary.txt", "gadget", "WIDGET", "glossary.txt:2: 'widget' is there twice, first on line 1"),
        ("README.md", "| 1 | 1 | 2 | 1 |", "| 1 | 1 | 3 | 1 |", "README.md:5: says 3 for good, all; there are 2"),
        ("README.md", "| 2 | 2 | 4 | 1 |", "| 2 | 2 | 4 | 7 |", "README.md:6: says 7 for all, indicators; there are 1"),
        ("README.md", "2 adversarial cases", "40 adversarial cases", "README.md:8: says 40 adversarial cases; there are 2"),
    ],
)
def test_a_broken_line_is_told_with_its_place(pack: Path, file: str, old: str, new: str, expected: str) -> None:
    text = (pack / file).read_text()
    assert old in text
    (pack / file).write_text(text.replace(old, new, 1) if old else new)
    assert any(one.startswith(expected) or (expected in one and not expected.startswith(file)) for one in told(pack)), told(pack)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": "god"}, "examples.jsonl:5: 'god' is no label of domain.toml; did you mean good?"),
        ({"label": ""}, "examples.jsonl:5: there is no label"),
        ({"text": "  "}, "examples.jsonl:5: the text is empty"),
        ({"lable": "good"}, "examples.jsonl:5: unknown key lable; did you mean label?"),
        ({"split": "test"}, "examples.jsonl:5: split: "),
        ({"output": {"kind": "bad", "reasoning": "", "score": 3}}, "examples.jsonl:5: output.kind is 'bad', the label 'good'"),
        (
            {"output": {"kind": "good", "reasoning": "", "score": 99}},
            "examples.jsonl:5: output.score: 99 is greater than the maximum of 9",
        ),
        ({"output": {"kind": "good", "score": 3}}, "examples.jsonl:5: output: 'reasoning' is a required property"),
        (
            {"output": {"kind": "good", "reasoning": "", "score": 3, "confidence": 1}},
            "examples.jsonl:5: output: Additional properties",
        ),
        (
            {"output": {"kind": "good", "reasoning": 'It says "never said".', "score": 3}},
            "output.reasoning quotes 'never said', which is not",
        ),
        (
            {"reasoning": "It has “no such words” in it"},
            "examples.jsonl:5: reasoning quotes 'no such words', which is not in the text",
        ),
        ({"text": "the bus BROKE down, again in the rain!"}, "examples.jsonl:5: the same text as on line 2"),
        (
            {"text": "A lovely day by the sea with all of us!!x", "split": "validation"},
            "alike to line 1, which is of the other split",
        ),
    ],
)
def test_a_faulty_example_is_told_with_its_line(pack: Path, change: dict[str, object], expected: str) -> None:
    sound = {
        "text": "Something quite different about hats",
        "label": "good",
        "output": {"kind": "good", "reasoning": "", "score": 1},
    }
    with (pack / "examples.jsonl").open("a") as file:
        file.write(json.dumps({**sound, "split": "train", **change}) + "\n")
    assert any(expected in one for one in told(pack)), told(pack)


def test_a_label_without_validation_rows_is_told(pack: Path) -> None:
    lines(pack / "examples.jsonl", [row("good", 0), row("good", 1), row("bad", 0)])
    assert "examples.jsonl:1: no validation row has the label bad" in told(pack)


def test_quotes_may_differ_in_case_spaces_and_marks(pack: Path) -> None:
    good = row("good", 0)
    good["output"] = {"kind": "good", "reasoning": 'It says "a  LOVELY day by the sea..."', "score": 1}
    lines(pack / "examples.jsonl", [good, row("bad", 0), row("good", 1), row("bad", 1)])
    assert told(pack) == []


@pytest.mark.parametrize(
    ("expect", "expected"),
    [
        ({"labl": "good"}, "expects 'labl', which no output has; did you mean label?"),
        ({"label": "goood"}, "label is never 'goood'; did you mean good?"),
        ({"kind": {"in": ["good", "evil"]}}, "kind is never 'evil'"),
        ({"kind": {"in": "good"}}, "kind: in needs a list"),
        ({"kind": {"is": "good"}}, "kind: 'is' is no expectation"),
        ({"kind": {"not": "evil"}}, "kind is never 'evil'"),
        ({"score": {"above": "high"}}, "score: above needs a number"),
        ({"score": {"empty": 1}}, "score: empty is true or false"),
        ({"score": {"below_case": "case99"}}, "score: below_case names 'case99', which is no other case"),
        ({"score": {"below_case": "case3"}}, "score: below_case names 'case3', which is no other case"),
        ({"signs": {"contains": "prays"}}, "signs: 'prays' is no indicator, and not in the text; did you mean praise?"),
        ({"score": {}}, "score: an expectation without a condition"),
        ({}, "expects nothing"),
    ],
)
def test_an_expectation_that_cannot_be_met_is_told(pack: Path, expect: dict[str, object], expected: str) -> None:
    lines(pack / "adversarial.jsonl", [case(1), case(2), case(3, expect=expect)])
    assert any(one.startswith("adversarial.jsonl:3: ") and expected in one for one in told(pack)), told(pack)


def test_two_cases_of_one_id_are_told(pack: Path) -> None:
    lines(pack / "adversarial.jsonl", [case(1), case(2), case(1)])
    assert "adversarial.jsonl:3: the id 'case1' is there twice, first on line 1" in told(pack)
    assert "README.md:8: says 2 adversarial cases; there are 3" in told(pack)


def test_missing_and_misnamed_files_are_told(pack: Path) -> None:
    (pack / "README.md").unlink()
    (pack / "examples.jsonl").rename(pack / "exampels.jsonl")
    (pack / "indicators.toml").unlink()
    found = told(pack)
    assert any(one.startswith("README.md:1: is missing") for one in found)
    assert "exampels.jsonl:1: is no file of a pack; did you mean examples.jsonl?" in found
    assert "schema.json:1: x-from indicators needs an indicators.toml, which is missing" in found


def test_resources_that_are_called_for_must_be_there(pack: Path) -> None:
    schema = SCHEMA.replace(
        '"signs": {', '"help": {"type": "array", "items": {"type": "string"}, "x-from": "resources"},\n    "signs": {'
    )
    (pack / "schema.json").write_text(schema.replace('"signs"]', '"signs", "help"]'))
    (pack / "domain.toml").write_text(
        DOMAIN.replace('modes = ["standard"]', 'resources_when = { kind = ["worse"], mood = ["low"] }')
    )
    found = told(pack)
    assert "schema.json:1: x-from resources needs [[resources]] in domain.toml" in found
    assert "domain.toml:1: resources_when: kind is never 'worse'" in found
    assert "domain.toml:1: resources_when: 'mood' is no property of schema.json" in found


def test_a_pack_without_labels_or_schema_can_be_sound(tmp_path: Path) -> None:
    folder = tmp_path / "free"
    folder.mkdir()
    (folder / "domain.toml").write_text('name = "free"\ntitle = "F"\ndescription = "free text"\n')
    (folder / "README.md").write_text("# Free\n")
    lines(
        folder / "examples.jsonl",
        [{"text": 'print("x")', "reasoning": 'a "made up" quote', "split": split} for split in ("train",)],
    )
    assert told(folder) == ["examples.jsonl:1: no row is of the split validation"]


def test_a_completion_that_does_not_pass_its_own_check_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "free"
    folder.mkdir()
    (folder / "domain.toml").write_text('name = "free"\ntitle = "F"\ndescription = "free text"\n')
    (folder / "README.md").write_text("# Free\n")
    good = {
        "text": "How do I install it?",
        "completion": "pip install it",
        "check": {"contains": ["pip install"]},
        "split": "train",
    }
    bad = {"text": "And remove it again?", "completion": "Delete it", "check": {"contains": ["uninstall"]}, "split": "validation"}
    lines(folder / "examples.jsonl", [good, bad, {"text": "Add two numbers", "check": {"python": "assert add(1, 2"}}])
    lines(
        folder / "adversarial.jsonl",
        [{"id": "a", "text": "t", "check": {"python": "def"}}, {"id": "b", "text": "t", "check": {"wrong": 1}}],
    )
    found = told(folder)
    assert len(found) == 4
    assert found[0].startswith("adversarial.jsonl:1: check.python is no Python: ")
    assert found[1].startswith("adversarial.jsonl:2: unknown key check.wrong")
    assert found[2] == "examples.jsonl:2: the completion does not pass its own check: it does not say 'uninstall'"
    assert found[3].startswith("examples.jsonl:3: check.python is no Python: ")


def test_many_problems_of_one_file_are_cut(pack: Path) -> None:
    lines(pack / "examples.jsonl", [{"text": f"a text about number {at} and no more", "label": "zz"} for at in range(3_000)])
    found = [one for one in domain_check.check(pack) if one.file.endswith("examples.jsonl")]
    assert len(found) == 201
    assert any("and more of which none is told" in one.text for one in found)


def test_an_extra_checker_sees_the_domain_and_adds_to_the_problems(pack: Path) -> None:
    seen = []

    def checker(domain):
        seen.append(domain.labels)
        return [Problem(str(pack / "rules.toml"), 3, "is odd")]

    assert [str(one) for one in domain_check.check(pack, extra=(checker,))] == [f"{pack}/rules.toml:3: is odd"]
    assert seen == [("good", "bad")]
    (pack / "schema.json").write_text("{")
    assert "is odd" not in str(domain_check.check(pack, extra=(checker,)))


def test_a_folder_that_is_none_is_a_problem(tmp_path: Path) -> None:
    assert "is no folder" in str(domain_check.check(tmp_path / "nowhere")[0])
    assert "domain.toml:1: is missing" in str(domain_check.check(tmp_path)[0])


# Hostile packs: told, never raised.

NAMES = [
    "domain.toml",
    "schema.json",
    "rules.toml",
    "examples.jsonl",
    "adversarial.jsonl",
    "indicators.toml",
    "glossary.txt",
    "README.md",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_link_out_of_the_folder_is_not_followed(pack: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("token-12345")
    (pack / name).unlink()
    (pack / name).symlink_to(secret)
    found = told(pack)
    assert f"{name}:1: is a link out of the pack's folder; put the file itself there" in found
    assert "token-12345" not in "".join(found)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_no_readable_text_is_told(pack: Path, name: str) -> None:
    (pack / name).write_bytes(b"a line\n\xff\xfe\x00")
    assert f"{name}:2: is not UTF-8 text, at byte 7; save it as UTF-8" in told(pack)
    (pack / name).unlink()
    (pack / name).mkdir()
    assert f"{name}:1: is no regular file" in told(pack)
    (pack / name).rmdir()
    os.mkfifo(pack / name)
    assert f"{name}:1: is no regular file" in told(pack)
    (pack / name).unlink()
    (pack / name).symlink_to(name)
    assert any(one.startswith(f"{name}:1: ") for one in told(pack))


def test_a_huge_file_is_not_read(pack: Path) -> None:
    with (pack / "examples.jsonl").open("wb") as file:
        file.truncate(10 << 30)  # sparse
    with (pack / "schema.json").open("wb") as file:
        file.truncate(2 << 20)
    found = told(pack)
    assert any(one.startswith("examples.jsonl:1: has 10,737,418,240 bytes") for one in found)
    assert any(one.startswith("schema.json:1: has 2,097,152 bytes") for one in found)


DEEP = 100_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("schema.json", "[" * DEEP),
        ("schema.json", '{"type": "object", "properties": ' * 200 + "{}" + "}" * 200),
        ("schema.json", '{"type":"object","required":["a"],"properties":{"a":' * 150 + '{"type":"boolean"}' + "}}" * 150),
        ("schema.json", '{"type": "object", "properties": 5, "required": {}}'),
        ("schema.json", '{"type": "object", "properties": {"a": 1, "b": {"type": {}}}, "required": [[], {}]}'),
        ("schema.json", '{"type": "object", "properties": {"a": {"enum": [[], {}, null, 1e999]}}, "required": ["a"]}'),
        ("schema.json", '{"type": "object", "properties": {"a": {"enum": []}, "b": {"enum": "x"}}, "required": ["a", "b"]}'),
        ("schema.json", '{"type": "object", "x-from": {}, "x-field": [], "properties": {"a": {"x-from": [], "type": "number"}}}'),
        (
            "schema.json",
            '{"type": "object", "properties": {"\\ud800": {"type": "string", "maxLength": true}}, "required": ["\\ud800"]}',
        ),
        ("schema.json", "9" * 10_000),
        ("domain.toml", "x = " + "[" * DEEP),
        ("domain.toml", "a." * 5_000 + "b = 1"),
        ("domain.toml", "x = " + "9" * 10_000),
        ("domain.toml", 'name = 1\nlabels = "x"\ngates = []\nrouter = {examples = {}}\nresources_when = [1]'),
        ("domain.toml", 'labels = [{name = ["a"]}, 5, []]'),
        ("rules.toml", "rule = " + "[" * DEEP),
        ("indicators.toml", "[[indicator]]\nname = {}\nlabel = []\npatterns = 5\nkeywords = [[]]"),
        ("examples.jsonl", "[" * DEEP + "\n" + '{"text": ' * 5_000 + "\n5\nnull\n[]\n{}\n" + '{"text": "\\ud800", "output": []}'),
        ("examples.jsonl", json.dumps({"text": "a" * (2 << 20)})),
        ("examples.jsonl", "\n".join(json.dumps({"text": f"row {at}", "label": "zz"}) for at in range(3_000))),
        ("adversarial.jsonl", '{"id": "a", "text": "t", "expect": {"": {}, "a..b": null, "label": [], "kind": {"in": [[], {}]}}}'),
        ("adversarial.jsonl", '{"id": "", "text": "", "expect": {"score": {"below_case": [], "contains": {}, "not": [1]}}}'),
        ("README.md", "| label | train |\n" + "| good | " + "9" * 10_000 + " |\n" + "|" * 10_000),
        ("glossary.txt", "\x00\x1b[31m" + "y" * 100_000),
    ],
)
def test_a_hostile_pack_is_told_and_crashes_nothing(pack: Path, name: str, content: str) -> None:
    (pack / name).write_text(content, encoding="utf-8", errors="surrogatepass")
    found = domain_check.check(pack)
    assert any(problem.file == str(pack / name) or name == "README.md" for problem in found) or name == "README.md"
    assert len(found) < 1_000
    assert all("\x1b" not in problem.text and len(problem.text) < 700 and problem.line >= 1 for problem in found)


def test_problems_come_in_the_order_of_files_and_lines(pack: Path) -> None:
    (pack / "domain.toml").write_text(DOMAIN.replace("accuracy = 0.8", "accuracy = 8").replace("bad = 0.9", "bad = 9"))
    (pack / "glossary.txt").write_text("a\na\na\n")
    found = domain_check.check(pack)
    assert [(Path(one.file).name, one.line) for one in found] == [
        ("domain.toml", 17), ("domain.toml", 20), ("glossary.txt", 2), ("glossary.txt", 3)
    ]  # fmt: skip
