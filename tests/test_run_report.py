"""The page of a run and `pointsman report`: everything that was proven is shown, and no text of a run acts."""

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import feedback_pack
import pytest
from command_line import run as pointsman
from feedback_pack import right_label, saying, told

from data import paths
from data.domains import Domain, Example
from data.errors import InputError, NotFound
from trainer import manifest, run_folder, run_report
from trainer.comparison import Compared, Comparison
from trainer.evaluate import evaluate
from trainer.events import Event
from trainer.general import Ability, General
from trainer.manifest import BaseNote, DataNote, Manifest
from trainer.material import Lost
from trainer.proof import prove
from trainer.recipe import Recipe

NASTY = "<script>alert(1)</script> & \x1b[31m \" ' </pre></table> " + "long " * 200


class Tags(HTMLParser):
    """The tags and attributes of a page, and how deep they lie when it ends."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


@pytest.fixture
def pack(home: Path) -> Domain:
    case = {"id": "case_<b>", "text": NASTY, "expect": {"label": "praise"}, "why": NASTY}
    return feedback_pack.pack(paths.data_dir() / "domains", gates="accuracy = 0.5\nadversarial = 0.9", cases=[case], held=20)


def made(folder: Path, pack: Domain, *, steps: int = 10, text: str = "plain", wrong: int = 2) -> Path:
    """A finished run whose texts, stages and rows are `text`."""
    folder.mkdir(parents=True)
    recipe = Recipe.model_validate({"name": "trial", "title": text[:40], "domain": "feedback"})
    (folder / "recipe.toml").write_text(f'name = "trial"\n# {text}\n')
    events = [Event("training", f"1 {text[:10]}", step, steps, {"loss": 2.0 / step}) for step in range(1, steps + 1)]
    events.append(Event("evaluating", f"1 {text[:10]}", steps, steps, {"eval_loss": 0.4, "macro_f1": 0.8, "accuracy": 0.9}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one.to_dict()) + "\n" for one in events))
    rows = [one for one in pack.examples if one.split == "validation"] + [Example(text=text, label="idea")]
    missed = {one.text for one in rows[-1 - wrong :]}
    mine = evaluate(pack, saying(lambda one: told(one, "bug" if one in missed or "script" in one else right_label(one))), rows)
    base = evaluate(pack, saying(lambda one: told(one, "idea", 0.5)), rows)
    general = General(Ability(1.0, 9, ("Paris",), (True,)), Ability(1.1, 9, (text,), (False,)), (f"Where? {text}",))
    assert base.figures is not None
    compared = Comparison(tuple(Compared(name, base.figures, 10.0, None, 0.1) for name in ("majority", "tfidf")), 36)
    proof = prove(recipe, pack, mine, base, None, general)
    run_folder.write(folder, mine, base, proof, compared, [Lost("rows.csv:9", f"too long {text}", text)])
    whole = Manifest(
        name="trial",
        recipe_sha256="a" * 64,
        recipe=manifest.portable(recipe),
        seed=1,
        data=DataNote(sha256="b" * 64, validation_sha256="c" * 64, train=36, validation=61, lengths={20: 30, 44: 6}),
        base=BaseNote(source=text, sha256="d" * 64),
        versions={"torch": text},
    )
    manifest.write(folder, manifest.finished(whole, folder, {"training": 12.5}, {}))
    return folder


def page(folder: Path) -> str:
    return run_report.html(run_folder.read(folder))


def changed(folder: Path, **more: object) -> None:
    """metrics.json with other parts."""
    file = folder / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def test_the_page_shows_what_was_proven(tmp_path: Path, pack: Domain) -> None:
    found = page(made(tmp_path / "run", pack))
    for heading in (
        "Gates", "Beside the base and the baselines", "Row by row", "Plots", "Classes", "What got better", "What got worse",
        "Adversarial cases that failed", "General questions that are lost", "Rows that were lost", "Recipe", "Manifest",
    ):  # fmt: skip
        assert f"<h2>{heading}</h2>" in found, heading
    assert Tags(found).tags.count("svg") == 6  # loss, validation answers, confusion, two reliabilities, lengths
    assert "majority class" in found and "TF-IDF" in found and ">base<" in found and ">adapter<" in found
    assert "not every gate is passed" in found and ">not passed</b>" in found and ">passed</b>" in found
    assert "0.150 nats a token" in found and "at least -1.0%" in found
    assert "better than the base: yes" in found and "better than the base beyond chance" in found
    assert "too long plain" in found and "rows.csv:9" in found and "12.5" in found


def test_no_text_of_a_run_acts_or_reaches_outside(tmp_path: Path, pack: Domain) -> None:
    found = page(made(tmp_path / "run", pack, text=NASTY))
    tags = Tags(found)
    assert "script" not in tags.tags and "&lt;script&gt;" in found and "case_&lt;b&gt;" in found
    assert "\x1b" not in found and tags.tags.count("pre") == 1 and found.count("</pre>") == 1
    assert not {name for name, _ in tags.attributes if name.startswith("on")}
    links = [value for name, value in tags.attributes if name in ("href", "src", "xlink:href")]
    assert all(value is not None and value.startswith("#") for value in links)
    assert not re.search(r"url\(\s*['\"]?(?!#)", found)
    assert "default-src 'none'" in found
    assert found.count("long " * 150) == 1  # the recipe alone is shown in full


def test_the_page_stays_small_whatever_the_length_of_the_run(tmp_path: Path, pack: Domain) -> None:
    length = 20_000
    folder = made(tmp_path / "run", pack)
    line = json.dumps(Event("training", "1 sft", 1, length, {"loss": 1.0}).to_dict())
    (folder / "metrics.jsonl").write_text("".join(line.replace('"done": 1,', f'"done": {step},') + "\n" for step in range(length)))
    for name in ("predictions.jsonl", "base_predictions.jsonl", "lost.jsonl"):
        first = (folder / name).read_text().splitlines()[0]
        (folder / name).write_text((first + "\n") * 3_000)
    run = run_folder.read(folder)
    points = run_report.curves(run)["Loss of 1 sft"]["training"]
    assert len(points) <= run_report.SHOWN_POINTS + 1 and points[0][0] == 0 and points[-1] == (length - 1, 1.0)
    assert len(run_report.html(run)) < 600_000


def test_the_recipe_is_cut(tmp_path: Path, pack: Domain) -> None:
    folder = made(tmp_path / "run", pack)
    (folder / "recipe.toml").write_text("x" * 100_000)
    assert "x" * 20_000 in page(folder) and "x" * 20_001 not in page(folder)


def test_curves_of_several_stages_stand_apart_and_odd_lines_are_left_out(tmp_path: Path, pack: Domain) -> None:
    folder = made(tmp_path / "run", pack)
    values = [("1 sft", 1, {"loss": 2.0}), ("2 kto", 1, {"loss": 0.5, "eval_loss": 0.6}), ("2 kto", 2, {"loss": float("nan")})]
    lines = [{"doing": "training", "stage": stage, "done": done, "values": one} for stage, done, one in values]
    lines += [{"doing": "judging", "stage": "2 kto", "done": 7, "values": {"loss": 9}}, {"values": 3}, {"done": "x", "values": {}}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    found = run_report.curves(run_folder.read(folder))
    assert found == {
        "Loss of 1 sft": {"training": [(1.0, 2.0)]},
        "Loss of 2 kto": {"training": [(1.0, 0.5)], "validation": [(1.0, 0.6)]},
    }


@pytest.mark.parametrize(
    "more",
    [
        {"proof": 3, "base": [], "baselines": 7, "notes": 5, "adversarial_cases": "x", "confusion": []},
        {"proof": {"gates": [], "base": {"ci": 1, "p": "x"}, "general": {"base": None}, "notes": {"a": 1}}, "notes": None},
        {"baselines": {"x": {"accuracy": "much"}, "y": None}, "accuracy": None, "base": {"accuracy": float("nan")}},
        {"confusion": {"labels": ["a"], "matrix": []}, "classes": [], "failed_cases": []},
    ],
)
def test_parts_that_are_missing_or_odd_leave_the_rest_standing(tmp_path: Path, pack: Domain, more: Mapping[str, object]) -> None:
    folder = made(tmp_path / "run", pack)
    changed(folder, **more)
    assert "<h2>Manifest</h2>" in page(folder)


@pytest.mark.parametrize(
    "more",
    [
        {"proof": {"gates": [{"name": "x"}]}},
        {"proof": {"gates": 3}},
        {"classes": [{"label": "a", "precision": "high"}]},
        {"confusion": {"labels": ["a"], "matrix": [["x"]]}},
        {"failed_cases": [1]},
        {"proof": {"general": {"prompts": [1], "base": {}, "mine": {}}}},
    ],
)
def test_a_part_of_another_shape_is_said(tmp_path: Path, pack: Domain, more: Mapping[str, object]) -> None:
    folder = made(tmp_path / "run", pack)
    changed(folder, **more)
    with pytest.raises(InputError, match=r"metrics\.json"):
        page(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "[]"),
        ("metrics.json", "{"),
        ("metrics.jsonl", "3\n"),
        ("predictions.jsonl", "{}\n"),
        ("predictions.jsonl", '{"text": "a", "right": 3, "said": "b"}\n'),
        ("base_predictions.jsonl", "{\n"),
        ("lost.jsonl", "[1]\n"),
        ("lost.jsonl", "[" * 100_000),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, pack: Domain, name: str, text: str) -> None:
    folder = made(tmp_path / "run", pack)
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(name)):
        run_folder.read(folder)


def test_what_was_written_is_read_again(tmp_path: Path, pack: Domain) -> None:
    run = run_folder.read(made(tmp_path / "run", pack))
    assert len(run.predictions) == len(run.base_predictions) == 61 and run.lost == (Lost("rows.csv:9", "too long plain", "plain"),)
    assert {gate.name for gate in run.gates} >= {"accuracy", "adversarial", "not worse than the base", "general loss"}
    assert [one.label for one in run.classes] == list(feedback_pack.LABELS) and run.failed[0].id == "case_<b>"
    assert run.metrics["base"]["accuracy"] == pytest.approx(21 / 61) and run.metrics["baselines"].keys() == {"majority", "tfidf"}
    assert run.predictions[0].probabilities.keys() == set(feedback_pack.LABELS)


def test_a_run_without_a_domain_has_a_page_too(tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    folder.mkdir()
    recipe = Recipe.model_validate({"name": "chat", "data": {"train": ["x.jsonl"]}, "gates": {"win_rate": 0.7}})
    ability = Ability(1.0, 9, ("Paris",), (True,))
    proof = prove(recipe, None, None, None, None, General(ability, ability, ("Where?",)), 0.8, preferences=100)
    run_folder.write(folder, None, None, proof)
    data = DataNote(sha256="b" * 64, validation_sha256="c" * 64)
    whole = Manifest(
        name="chat", recipe_sha256="a" * 64, recipe=manifest.portable(recipe), seed=1, data=data, base=BaseNote(source="m")
    )
    manifest.write(folder, manifest.finished(whole, folder, {}, {}))
    found = page(folder)
    assert "every gate is passed" in found and "chat · chat" in found and "win rate" in found and "Classes" not in found


def test_the_page_is_the_same_each_time(tmp_path: Path, pack: Domain) -> None:
    folder = made(tmp_path / "run", pack)
    assert page(folder) == page(folder)


# --- the command ---


def test_the_command_shows_gates_figures_and_where_the_page_is(pack: Domain, tmp_path: Path) -> None:
    folder = made(run_folder.runs_dir() / "trial-1", pack)
    ran = pointsman("report", "trial")
    assert ran.code == 0, ran
    assert "gate accuracy: passed" in ran.out and "gate adversarial: NOT passed, 0.0% of at least 90.0%" in ran.out
    assert "gate general loss: passed, 0.100 nats a token of at most 0.150 nats a token" in ran.out
    assert "TF-IDF" in ran.out and f"report: {folder / 'report.html'}" in ran.out
    assert (folder / "report.html").is_file()
    assert pointsman("report", str(folder), "--out", str(tmp_path / "page.html")).code == 0
    assert (tmp_path / "page.html").read_text() == (folder / "report.html").read_text()


def test_the_command_prints_one_json_value(pack: Domain) -> None:
    folder = made(run_folder.runs_dir() / "trial-1", pack)
    ran = pointsman("report", "trial-1", "--json")
    found = json.loads(ran.out)
    assert found.keys() >= {"run", "report", "passed", "routable", "gates", "metrics", "base", "baselines", "proof", "manifest"}
    assert (found["passed"], found["routable"], found["metrics"]["n"], ran.out.count("\n")) == (False, True, 61, 1)
    assert found["run"] == str(folder) and found["proof"]["base"]["n"] == 61


def test_a_page_that_is_there_is_not_touched_and_changes_are_told(pack: Domain) -> None:
    folder = made(run_folder.runs_dir() / "trial-1", pack)
    (folder / "report.html").write_text("mine")
    (folder / "lost.jsonl").write_text("")
    ran = pointsman("report", "trial-1")
    assert (folder / "report.html").read_text() == "mine"
    assert "changed since the run: lost.jsonl" in ran.err


def test_hostile_texts_do_not_reach_the_terminal(pack: Domain) -> None:
    made(run_folder.runs_dir() / "trial-1", pack, text=NASTY)
    ran = pointsman("report", "trial-1")
    assert ran.code == 0 and "\x1b" not in ran.out + ran.err


def test_what_is_no_run_is_refused(pack: Domain, tmp_path: Path) -> None:
    pointsman("report", "nothing").refused("there is no run 'nothing'")
    (run_folder.runs_dir() / "broken").mkdir(parents=True)
    pointsman("report", "broken").refused("no finished run")
    with pytest.raises(NotFound):
        run_folder.find("")
    folder = made(run_folder.runs_dir() / "trial-1", pack)
    (folder / "metrics.json").unlink()
    pointsman("report", "trial-1").refused("metrics.json")
    (tmp_path / "file").write_text("")
    made(run_folder.runs_dir() / "trial-2", pack)
    pointsman("report", "trial-2", "--out", str(tmp_path / "file" / "x.html")).refused("cannot")
