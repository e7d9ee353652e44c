"""Personal style: which answers count as approved, stages that may be left out, going on from a run, and a whole run of each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import bundled
import tiny_checkpoints as tiny
from command_line import run as pointsman
from packs import pack
from store_support import again, ask

from data import paths
from data.chat import Message, ToolCall
from data.datasets.rows import Origin, Refused, Row
from data.datasets.sources import approved
from data.errors import InputError, NotFound
from data.store import Store
from trainer import general, going_on, manifest, material, recipe, run_folder

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it


def rows(store: Store, domain: str = "") -> list[Row | Refused]:
    return list(approved(store, domain).rows())


def test_an_answer_counts_once_by_the_strongest_word_about_it(file_store: Store) -> None:
    store = file_store
    liked = ask(store, "One?", "Liked.")
    store.feedback.rate(liked.inference, 1)
    store.feedback.stars(liked.inference, 5)
    corrected = ask(store, "Two?", "Wrong.")
    store.feedback.rate(corrected.inference, -1)
    store.feedback.correct(corrected.inference, "Right.")
    better = ask(store, "Three?", "Better.")
    worse = again(store, better.question, "Worse.")
    store.feedback.prefer(better.inference, worse.inference)
    store.feedback.rate(better.inference, 1)
    starred = ask(store, "Four?", "Starred.")
    store.feedback.stars(starred.inference, 4)
    found = rows(store)
    assert [(one.text, one.completion, one.rejected, one.shape) for one in found] == [
        ("One?", "Liked.", "", "thumb"),
        ("Two?", "Right.", "Wrong.", "correction"),
        ("Three?", "Better.", "Worse.", "preference"),
        ("Four?", "Starred.", "", "thumb"),
    ]
    assert [str(one.origin) for one in found] == [f"approved:{number}" for number in (1, 2, 3, 4)]


def test_what_was_not_approved_is_not_there(file_store: Store) -> None:
    store = file_store
    store.feedback.rate(ask(store, "a").inference, -1)
    store.feedback.stars(ask(store, "b").inference, 3)
    store.feedback.comment(ask(store, "c").inference, "hm")
    store.feedback.rate(ask(store, "d").inference, 1, source="judge")
    disliked = ask(store, "e", "Best of two bad.")
    store.feedback.prefer(disliked.inference, again(store, disliked.question).inference)
    store.feedback.rate(disliked.inference, -1)
    tie = ask(store, "f")
    store.feedback.prefer(tie.inference, again(store, tie.question).inference, tie=True)
    ask(store, "g")
    assert rows(store) == []


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"status": "complete", "text": "So.", "tainted": True}, "untrusted text"),
        ({"status": "cancelled", "text": "So."}, "not complete"),
        ({"status": "complete", "text": "So.", "tool_calls": [ToolCall("search", {})]}, "calls tools"),
        ({"status": "complete", "text": " "}, "empty"),
    ],
)
def test_an_approved_answer_that_may_not_train_is_refused_with_the_reason(file_store: Store, end: dict, said: str) -> None:
    begun = ask(file_store, reply=None)
    file_store.log.finish(begun.inference, **end)
    file_store.feedback.rate(begun.inference, 1)
    (found,) = rows(file_store)
    assert isinstance(found, Refused)
    assert said in found.reason


def test_answers_under_a_contract_have_no_style_but_count_in_their_domain(file_store: Store) -> None:
    asked = ask(file_store, "x", '{"label": "INFO"}', domain="desk", config={"schema": {"type": "object"}})
    file_store.feedback.rate(asked.inference, 1)
    (refused,) = rows(file_store)
    assert isinstance(refused, Refused)
    assert "contract" in refused.reason
    assert [one.completion for one in rows(file_store, "desk")] == ['{"label": "INFO"}']
    assert rows(file_store, "other") == []


def test_personal_data_in_approved_answers_is_replaced(file_store: Store) -> None:
    asked = ask(file_store, "Write to ann@example.org", "Dear ann@example.org, hello.")
    file_store.feedback.rate(asked.inference, 1)
    (found,) = rows(file_store)
    assert "example.org" not in json.dumps(found.to_dict())
    assert found.completion.startswith("Dear <EMAIL_ADDRESS>")


def test_incognito_answers_are_not_there(file_store: Store) -> None:
    begun = file_store.log.begin(Message("user", "Secret?"), incognito=True, model="echo/echo", mode="standard", config={})
    file_store.log.finish(begun.inference, status="complete", text="Yes.")
    file_store.feedback.rate(begun.inference, 1)
    assert rows(file_store) == []


def stages(*kinds: dict[str, Any]) -> recipe.Recipe:
    return recipe.validated({"name": "t", "data": {"train": ["approved"]}, "stages": list(kinds)}, "test")


def test_an_optional_stage_without_enough_rows_is_left_out_and_told(file_store: Store) -> None:
    approve(file_store, 12, str)
    asked = stages({"kind": "sft"}, {"kind": "dpo", "optional": True, "min_rows": 2})
    found = material.read(asked, None, file_store)
    assert [stage.kind for stage in material.staged(asked, found.train).stages] == ["sft"]
    assert "the stage dpo is left out: it has fewer than 2 training rows" in found.notes
    with pytest.raises(InputError, match=r"stage 2 \(dpo\) has 0 training rows"):
        material.read(stages({"kind": "sft"}, {"kind": "dpo", "min_rows": 2}), None, file_store)
    with pytest.raises(InputError, match="no stage"):
        material.staged(stages({"kind": "dpo", "optional": True}), ())


def test_an_optional_stage_with_enough_rows_stays() -> None:
    asked = stages({"kind": "sft"}, {"kind": "dpo", "optional": True, "min_rows": 1})
    row = Row("correction", "?", Origin("approved", 1), completion="Right.", rejected="Wrong.")
    assert material.staged(asked, (row,)) is asked


def test_a_recipe_from_before_optional_stages_is_still_the_same_recipe() -> None:
    plain = stages({"kind": "sft"}).model_dump(mode="json")
    assert "optional" not in plain["stages"][0]
    assert recipe.validated(stages({"kind": "sft", "optional": True}).model_dump(), "again").stages[0].optional


@pytest.fixture
def parent(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the domain desk among the user's runs."""
    pack(bundled.DOMAIN)
    return bundled.run(tmp_path_factory.getbasetemp(), paths.ensure(paths.data_dir() / "runs"))


def test_going_on_takes_base_lora_and_domain_from_the_run(parent: Path) -> None:
    found = going_on.onto(recipe.load("style"), "desk")
    before = recipe.load(str(parent / "recipe.toml"))
    assert (found.base.model, found.base.adapter) == (before.base.model, str(parent))
    assert found.lora == before.lora
    assert (found.domain, found.data.train, found.data.validation) == ("desk", ("approved",), ("pack",))
    with pytest.raises(InputError, match="is for triage"):
        going_on.onto(recipe.load("triage"), "desk")
    with pytest.raises(NotFound):
        going_on.onto(recipe.load("style"), "nothing")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One general question instead of all."""
    some = tuple(row for row in general.rows() if row.ask)[:1]
    monkeypatch.setattr(general, "rows", lambda: some)


def approve(store: Store, count: int, reply: Callable[[int], str], **how: Any) -> None:
    words = "river stone cloud garden window letter morning bread winter paper island mirror candle forest".split()
    for number in range(count):
        question = f"What about {words[number % 14]} and {words[(number * 5 + 3) % 14]}, number {number}?"
        store.feedback.rate(ask(store, question, reply(number), **how).inference, 1)


def test_a_style_adapter_is_trained_from_approved_answers(file_store: Store, home: Path, tmp_path: Path, few: None) -> None:
    approve(file_store, 16, lambda number: f"- Yes.\n- Number {number}.")
    base = tiny.checkpoint(tmp_path / "base", "llama", max_position_embeddings=2048, initializer_range=0.1)
    done = pointsman("train", "style", "--base", str(base), "--json")
    assert done.code in (0, 3), done.err
    told = json.loads(done.out)
    run = Path(told["run"])
    assert run.name.startswith("style-")
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert "the stage dpo is left out: it has fewer than 20 training rows" in told["notes"]
    assert [one["kind"] for one in manifest.read(run).recipe["stages"]] == ["sft"]
    assert {gate["name"] for gate in told["gates"]} == {"general loss", "general answers"}
    assert manifest.check(run) == []
    losses = [event["values"]["loss"] for event in run_folder.curve(run) if "loss" in event.get("values", {})]
    assert losses[-1] < losses[0]


def test_a_style_adapter_goes_on_from_a_domains_adapter_and_is_held_against_it(file_store: Store, parent: Path, few: None) -> None:
    labels = ("FRAUD", "RESET", "INFO")
    approve(file_store, 15, lambda number: json.dumps({"label": labels[number % 3]}), domain="desk")
    before = (parent / "adapter" / "adapter_model.safetensors").read_bytes()
    done = pointsman("train", "style", "--adapter", "desk", "--json")
    assert done.code in (0, 3), done.err
    told = json.loads(done.out)
    run = Path(told["run"])
    noted = manifest.read(run)
    assert noted.parent == manifest.read(parent).hash8
    assert noted.recipe["domain"] == "desk"
    assert (noted.data.train, noted.data.validation) == (15, 3)  # the pack's validation rows judge
    assert "not worse than the parent" in {gate["name"] for gate in told["gates"]}
    assert (parent / "adapter" / "adapter_model.safetensors").read_bytes() == before
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() != before
    pointsman("train", "style", "--adapter", "desk", "--dry-run", "--json")
    assert pointsman("train", "style", "--adapter", "desk", "--base", "x").code == 2


def test_too_few_approved_answers_are_refused_with_how_many(file_store: Store, home: Path, tmp_path: Path) -> None:
    approve(file_store, 3, str)
    done = pointsman("train", "style", "--dry-run")
    assert done.code == 1
    assert "min_rows is 10" in done.err
