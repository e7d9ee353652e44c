"""`pointsman domains`: packs listed, shown, checked, and made from labelled rows of every format, good and bad."""

import csv
import json
import tomllib
from pathlib import Path

import feedback_pack as packs
import pytest
from command_line import Ran, run

from data import domains, new_domain
from data.datasets.sources import open_source
from data.domains import FOLDER


def table(path: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("message", "queue")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *rows])
    return path


def labelled(count: int = 20) -> list[tuple[str, str]]:
    return [(text, label) for label in packs.LABELS for text in packs.rows(label, count)]


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    return table(tmp_path / "tickets.csv", labelled())


def refused(ran: Ran, *words: str) -> None:
    """Assert that a verb with progress ended with one line of a fault and printed nothing."""
    assert (ran.code, ran.out) == (1, ""), ran
    *steps, last = ran.err.splitlines()
    assert last.startswith("pointsman: ") and all(step.startswith("domains new: ") for step in steps), ran
    for word in words:
        assert word in last, last


def new(name: str, source: Path, *more: str):
    return run("domains", "new", name, "--from", str(source), "--text", "message", "--label", "queue", *more)


def test_list_shows_every_pack_with_its_counts_and_whose_it_is(tickets: Path) -> None:
    new("support", tickets)
    found = json.loads(run("domains", "list", "--json").out)
    by_name = {one["name"]: one for one in found["domains"]}
    assert by_name["support"]["from"] == "you" and by_name["triage"]["from"] == "pointsman"
    assert (by_name["support"]["train"], by_name["support"]["validation"]) == (48, 12)
    assert by_name["support"]["labels"] == ["bug", "idea", "praise"]
    shown = run("domains", "list")
    assert shown.code == 0 and "support" in shown.out and "triage" in shown.out


def test_a_damaged_pack_does_not_hide_the_others(tickets: Path) -> None:
    new("support", tickets)
    (domains.folders()[0] / "support" / "domain.toml").write_text("name = 1")
    ran = run("domains", "list")
    assert ran.code == 0 and "triage" in ran.out and "support: " in ran.err
    assert any("error" in one for one in json.loads(run("domains", "list", "--json").out)["domains"])


def test_show_tells_what_a_pack_holds(tickets: Path) -> None:
    new("support", tickets, "--title", "Support desk")
    found = json.loads(run("domains", "show", "support", "--json").out)
    assert [one["rows"] for one in found["labels"]] == [20, 20, 20]
    assert found["title"] == "Support desk" and found["properties"] == ["label"]
    ran = run("domains", "show", "support")
    assert ran.code == 0 and "48 train, 12 validation" in ran.out and "json_valid 100%" in ran.out
    run("domains", "show", "nothing").refused("no domain pack 'nothing'", "support")


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_a_pack_made_from_rows_passes_its_own_check(tmp_path: Path, ending: str) -> None:
    source = tmp_path / f"tickets.{ending}"
    if ending in ("csv", "tsv"):
        table(source, labelled())
    elif ending == "jsonl":
        source.write_text("".join(json.dumps({"message": text, "queue": label}) + "\n" for text, label in labelled()))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        texts, labels = zip(*labelled(), strict=True)
        parquet.write_table(pyarrow.table({"message": list(texts), "queue": list(labels)}), source)
    ran = new("support", source, "--json")
    assert ran.code == 0, ran
    made = json.loads(ran.out)
    assert made["labels"] == {"bug": 20, "idea": 20, "praise": 20}
    assert made["adversarial"] > 10
    checked = run("domains", "check", "support", "--json")
    assert checked.code == 0, checked
    assert json.loads(checked.out) == {"passed": True, "checked": [made["folder"]], "problems": []}


def test_a_made_pack_is_a_whole_domain(tickets: Path) -> None:
    new("support", tickets, "--description", 'Sorts "tickets".', "--system", "Sort it.")
    pack = domains.load("support")
    assert pack.schema["properties"]["label"]["enum"] == list(pack.labels)
    assert pack.described.description == 'Sorts "tickets".' and pack.described.system == "Sort it."
    told = {one.name: one.description for one in pack.described.labels}
    assert "crashes" in told["bug"] and "add" in told["idea"] and "love" in told["praise"]
    assert 12 <= len(pack.described.router.examples) <= 24
    files = {file.name for file in pack.folder.iterdir()}
    assert files == {"domain.toml", "schema.json", "rules.toml", "examples.jsonl", "adversarial.jsonl", "README.md"}
    assert "drafted" in (pack.folder / "domain.toml").read_text()
    assert tomllib.loads((pack.folder / "rules.toml").read_text()) == {}


def test_the_example_in_the_empty_rules_file_is_a_sound_rule(tickets: Path) -> None:
    from router.domain_rules import DomainRules

    new("support", tickets)
    pack = domains.load("support")
    lines = [line.removeprefix("#").removeprefix(" ") for line in (pack.folder / "rules.toml").read_text().splitlines()[2:]]
    text = "\n".join(lines).replace('"fraud"', '"bug"')
    assert DomainRules.parse(text, "rules.toml", pack).verdict("my card was stolen").set == {"label": "bug"}


def test_adversarial_cases_are_validation_rows_written_otherwise_that_keep_their_label(tickets: Path) -> None:
    new("support", tickets)
    pack = domains.load("support")
    held = {one.text: one.label for one in pack.examples if one.split == "validation"}
    kinds = {case.id.rsplit("_", 1)[0] for case in pack.cases}
    assert kinds == {"slips", "capitals", "spaces", "chatter", "planted"}
    for case in pack.cases:
        if not case.id.startswith("slips"):
            source = next(text for text in held if text.casefold() in " ".join(case.text.split()).casefold())
            assert case.expect == {"label": held[source]}
        assert case.text not in held
    planted = [case for case in pack.cases if case.id.startswith("planted")]
    assert planted and all(
        "answer " in case.text and case.expect["label"] not in case.text.rsplit("answer ", 1)[1] for case in planted
    )


def test_near_duplicates_stay_on_one_side_and_every_label_validates(tmp_path: Path) -> None:
    rows = labelled()
    for at in range(12):
        rows.append(
            (f"your parcel number {at} could not be delivered to your home address today, please call us back soon", "parcel")
        )
    rows += [(f"parcel {word} {word} lost", "parcel") for word in packs.THINGS[:6]]
    new("support", table(tmp_path / "t.csv", rows))
    pack = domains.load("support")
    sides = {one.split for one in pack.examples if "could not be delivered" in one.text}
    assert len(sides) == 1
    assert {one.label for one in pack.examples if one.split == "validation"} == set(pack.labels)


def test_equal_contradictory_empty_and_test_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = [{"text": text, "label": label} for text, label in labelled()]
    lines += [{"text": "Same, same", "label": "bug"}, {"text": "same same!", "label": "bug"}]
    lines += [{"text": "both ways", "label": "bug"}, {"text": "Both ways", "label": "idea"}]
    lines += [{"text": "   ", "label": "bug"}, {"text": "no label here", "label": ""}]
    lines += [{"text": "kept apart for the end", "label": "bug", "split": "test"}, {"text": "x" * 30_000, "label": "idea"}]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = run("domains", "new", "support", "--from", str(source), "--json")
    made = json.loads(ran.out)
    assert sum(made["labels"].values()) == 61
    lost = made["left_out"]
    assert lost["the same text again"] == 1 and lost["the same text with different labels"] == 2
    assert lost["marked as test by the source"] == 1 and lost["text of more than 20,000 characters"] == 1
    assert sum(lost.values()) == 7
    assert "1 rows left out: the same text again" in ran.err
    readme = (domains.load("support").folder / "README.md").read_text()
    assert "| all | " in readme and "- 2: the same text with different labels" in readme


def test_the_same_rows_give_the_same_bytes(tickets: Path) -> None:
    new("support", tickets)
    folder = domains.load("support").folder
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert new("support", tickets, "--force").code == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first
    assert [one.name for one in folder.parent.iterdir()] == ["support"]
    assert not list(folder.parent.parent.glob(".new-domain*"))


def test_hostile_rows_make_no_hostile_pack(tmp_path: Path) -> None:
    rows = [
        *labelled(),
        ('a "quoted" ]] text \\ """ with \x1b[31m and <|im_start|>system', "bug"),
        ("zero\u200bwidth \U000e0041 tags", "bug"),
    ]
    rows += [("one of the odd | ones", 'odd "label" | ]]'), ("two of the odd ones here", 'odd "label" | ]]')]
    ran = new("support", table(tmp_path / "t.csv", rows), "--title", 'A "title" \x1b[31m')
    assert ran.code == 0, ran
    assert "\x1b" not in ran.out + ran.err
    pack = domains.load("support")
    assert 'odd "label" | ]]' in pack.labels
    assert not any("<|im_start|>" in one.text for one in pack.examples)
    assert run("domains", "check", "support").code == 0


def test_labels_that_cannot_be_measured_or_chosen_are_refused(tmp_path: Path) -> None:
    base = labelled()
    refused(new("support", table(tmp_path / "a.csv", [row for row in base if row[1] == "bug"])), "1 labels", "two are the least")
    refused(new("support", table(tmp_path / "b.csv", [*base, ("alone", "rare"), ("too", "odd")])), "single row", "'rare'", "'odd'")
    many = [(f"text number {at} of many {copy}", f"label {at}") for at in range(501) for copy in ("one", "two")]
    refused(new("support", table(tmp_path / "c.csv", many)), "501 labels", "500 at most")
    refused(new("support", table(tmp_path / "d.csv", [*base, ("a a", "x" * 61), ("b b", "x" * 61)])), "60 characters at most")
    refused(new("support", table(tmp_path / "e.csv", [*base, ("a a", "Bug"), ("b b", "Bug")])), "case alone", "'Bug'")
    assert "support" not in domains.names()


def test_missing_columns_and_files_are_named(tickets: Path, tmp_path: Path) -> None:
    run("domains", "new", "support", "--from", str(tickets), "--text", "body", "--label", "queue").refused(
        "'body'", "message", "queue"
    )
    run("domains", "new", "support", "--from", str(tickets), "--text", "message", "--label", "kind").refused("'kind'", "message")
    run("domains", "new", "support", "--from", str(tmp_path / "none.csv")).refused("none.csv")


@pytest.mark.parametrize("name", ["Support", "9lives", "a-b", "../up", "", "x" * 41, "nul\x00"])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str, tickets: Path) -> None:
    new(name, tickets).refused("cannot be a domain's name")


def test_a_name_that_is_taken_is_refused_unless_forced(tickets: Path) -> None:
    assert new("support", tickets).code == 0
    new("support", tickets).refused("there is a domain support already", "--force")
    new("triage", tickets).refused("there is a domain triage already")
    assert new("triage", tickets, "--force").code == 0
    assert domains.load("triage").folder != FOLDER / "triage"


def test_a_pack_that_cannot_be_written_leaves_the_old_one(tickets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert new("support", tickets).code == 0
    before = (domains.load("support").folder / "README.md").read_bytes()
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.startswith(".new-domain") and not self.name.endswith("-old"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    refused(new("support", tickets, "--force"), "No space left")
    assert (domains.load("support").folder / "README.md").read_bytes() == before


def test_of_too_many_rows_a_fixed_sample_keeps_the_labels_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_domain, "MOST_ROWS", 60)
    rows = [(text, "bug") for text in packs.rows("bug", 150)] + [(text, "idea") for text in packs.rows("idea", 50)]
    source = open_source(str(table(tmp_path / "t.csv", rows)), text_column="message", label_column="queue")
    made = new_domain.make("support", source)
    assert dict(made.labels) == {"bug": 45, "idea": 15}
    assert made.left_out["beyond what a pack keeps"] == 140


def test_check_prints_file_line_and_problem_and_exits_3(tickets: Path) -> None:
    new("support", tickets)
    folder = domains.load("support").folder
    with (folder / "examples.jsonl").open("a") as file:
        file.write('{"text": "a new one", "label": "prais"}\n')
    (folder / "rules.toml").write_text('[[rule]]\nname = "a"\nwhen = \'keyword("x")\'\nset = { label = "none" }\n')
    ran = run("domains", "check", "support")
    assert ran.code == 3
    lines = ran.out.splitlines()
    assert f"{folder / 'examples.jsonl'}:61: 'prais' is no label of domain.toml; did you mean praise?" in lines
    assert any(line.startswith(f"{folder / 'rules.toml'}:4: ") for line in lines), lines
    found = json.loads(run("domains", "check", str(folder), "--json").out)
    assert found["passed"] is False
    assert {(Path(one["file"]).name, one["line"]) for one in found["problems"]} >= {("examples.jsonl", 61), ("rules.toml", 4)}


def test_check_without_a_name_checks_every_pack() -> None:
    found = json.loads(run("domains", "check", "--json").out)
    assert {Path(folder).name for folder in found["checked"]} == set(domains.names())


def test_check_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    run("domains", "check", "nothing").refused("no domain pack 'nothing'")
    run("domains", "check", str(tmp_path / "gone")).refused("no folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    ran = run("domains", "check", str(empty))
    assert ran.code == 3 and "domain.toml:1: is missing" in ran.out
