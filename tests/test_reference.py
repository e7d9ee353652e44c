"""The trained model as the yardstick of its export: unmerged, exactly as trained, and refused where it is no longer that."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")

import tiny_checkpoints as tiny  # noqa: E402
from exportable import DOMAIN, copied, once  # noqa: E402
from packs import lines, pack  # noqa: E402

from data import domains  # noqa: E402
from data.errors import InputError, ModelInvalid, NotFound  # noqa: E402
from trainer import adapter, encode, reference, train  # noqa: E402
from trainer.recipe import StageTable  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it


@pytest.fixture
def run(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that a test may change, its pack in the test's home."""
    pack(DOMAIN)
    return copied(once(tmp_path_factory.getbasetemp()), tmp_path)


def test_logits_are_those_of_base_and_adapter_unmerged(run: Path) -> None:
    found = reference.opened(run)
    ids = [*found.validation[0].prompt, *found.validation[0].answer]
    own = found.logits(ids)
    assert own.shape == (len(ids), found.vocabulary)
    again = tiny.read(train.recipe_of(run).base.model)
    model = adapter.attach(again, found.recipe.lora, str(run))
    model.train(False)
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([ids])).logits[0].numpy()
        alone = again.model(input_ids=torch.tensor([ids])).logits[0].numpy()
        with model.disable_adapter():
            base = model(input_ids=torch.tensor([ids])).logits[0].numpy()
    assert np.abs(own - wanted).max() < 1e-4
    assert np.abs(wanted - base).max() > 0.1, "the adapter does something"
    assert alone.shape == base.shape


def test_rows_that_begin_alike_are_computed_once_and_say_the_same(run: Path) -> None:
    found = reference.opened(run)
    rows = [(*one.prompt, *one.answer) for one in found.validation]
    shared = 20
    assert len({row[:shared] for row in rows}) == 1
    first, *rest = found.logits_of([rows[0][:shared], *rows], shared)
    assert first.shape[0] == shared
    for row, part in zip(rows, rest, strict=True):
        assert np.abs(part - found.logits(row)[shared:]).max() < 1e-4


def test_prompts_are_token_for_token_those_of_training(run: Path) -> None:
    found = reference.opened(run)
    recipe = train.recipe_of(run)
    encoded = encode.sft(recipe, StageTable(kind="sft"), domains.load(DOMAIN), found.base, found.rows.validation)
    assert [one.prompt for one in found.validation] == [row.prompt for row in encoded.rows]
    assert [one.answer for one in found.validation] == [row.completion for row in encoded.rows]
    for one in found.validation:
        assert tuple(found.spelled(one.messages)[1]) == one.prompt
        assert one.answer[-1] in found.ends
    assert len(found.training(4)) == 4


def test_activations_hands_the_model_with_its_adapter_to_the_collector(run: Path) -> None:
    found = reference.opened(run)
    seen = found.activations([(1, 2)], lambda model, rows: (type(model).__name__, len(rows)))
    assert seen[0].startswith("Peft")
    assert seen[1] == 1


def test_an_adapter_that_was_changed_since_is_refused(run: Path) -> None:
    file = run / "adapter" / "adapter_model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(InputError, match="not as it was left: adapter/"):
        reference.opened(run)


def test_another_base_under_the_same_name_is_refused(run: Path, tmp_path: Path) -> None:
    other = tiny.as_gguf(tiny.checkpoint(tmp_path / "other", seed=9, max_position_embeddings=2048), tmp_path / "other.gguf")
    recipe = (run / "recipe.toml").read_text()
    manifest = json.loads((run / "manifest.json").read_text())
    fresh = recipe.replace(train.recipe_of(run).base.model, str(other))
    (run / "recipe.toml").write_text(fresh)
    manifest["artefacts"] = [one for one in manifest["artefacts"] if not one["name"].startswith("recipe.")]
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "recipe.json").unlink(missing_ok=True)
    with pytest.raises((ModelInvalid, InputError), match="was trained on|not as it was left"):
        reference.opened(run)


def test_rows_that_are_no_longer_those_of_the_run_are_not_used(run: Path) -> None:
    lines(domains.load(DOMAIN).folder / "examples.jsonl", [{"text": "new", "label": "INFO", "output": {"label": "INFO"}}] * 3)
    found = reference.opened(run)
    assert found.validation == ()
    assert "rows of the run cannot be read" in found.notes[0]
    assert reference.task(found.recipe, found.rows) is None


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no run folder"):
        reference.opened(tmp_path)


def test_task_says_what_a_file_makes_of_the_validation_rows(run: Path) -> None:
    rows, why = reference.rows_of(run)
    assert why == ""
    recipe = train.recipe_of(run)
    task = reference.task(recipe, rows)
    assert task is not None
    found = task.judged(Path(recipe.base.model))
    assert len(found.said) == len(found.right) == len(task.rows) == 3
    assert found.valid == 1.0
    said = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    right = {one["text"]: one["correct"] for one in said}
    assert reference.trained(run, task) == tuple(right[row.text] for row in task.rows)
