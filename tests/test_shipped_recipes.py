"""Every recipe that is shipped: it loads, fits its pack, and its head says what the formula says."""

import json
from typing import get_args

import pytest
from pydantic import BaseModel

from data import catalog, domains
from trainer import estimate, recipe
from trainer._estimate import shapes

NAMES = recipe.names()
BASES = {
    "phi-3.5-mini": "microsoft/Phi-3.5-mini-instruct",
    "qwen2.5-3b": "Qwen/Qwen2.5-3B-Instruct",
    "mistral-7b": "mistralai/Mistral-7B-Instruct-v0.3",
    "gemma-2-2b": "google/gemma-2-2b-it",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B-Instruct",
    "phi-2": "microsoft/phi-2",
    "tinyllama": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "smollm2": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
}


def _domain(found):
    return domains.load(found.domain) if found.domain else None


def test_every_domain_pack_has_a_recipe_on_the_embedded_base():
    packs = [folder.parent.name for folder in domains.FOLDER.glob("*/domain.toml")]
    assert packs
    for pack in packs:
        found = recipe.load(pack)
        assert (found.domain, found.base.model) == (pack, "smollm2-135m")
    assert "smollm2-135m" in catalog.specs()


def test_every_named_base_has_a_recipe():
    assert {name: recipe.load(name).base.model for name in BASES} == BASES


@pytest.mark.parametrize("name", NAMES)
def test_recipe_is_named_after_its_file_and_says_what_it_is(name):
    found = recipe.load(name)
    lines = (recipe.FOLDER / f"{name}.toml").read_text("utf-8").splitlines()
    assert found.name == name and found.title
    assert lines[0].startswith("# ") and any(f"pointsman train {name}" in line or "my-style" in line for line in lines)
    assert max(map(len, lines)) <= 132


@pytest.mark.parametrize("name", NAMES)
def test_recipe_asks_only_for_what_its_pack_has(name):
    found = recipe.load(name)
    domain = _domain(found)
    if domain is None:
        assert found.data.train
        return
    if found.data.contract:
        domain.contract(found.data.contract)
    reasons = any(version.reasoning_tag for version in domain.described.contracts)
    assert set(found.gates.recall) <= set(domain.labels)
    assert set(found.data.labels.values()) <= set(domain.labels)
    for stage in found.stages:
        weighed = stage.loss.weights != "none" or stage.loss.label_share or stage.loss.focal or stage.best == "macro_f1"
        assert domain.labels or not weighed
        assert reasons or stage.format in ("", "answer")
        assert stage.min_rows <= sum(example.split == "train" for example in domain.examples)


@pytest.mark.parametrize("name", NAMES)
def test_adapter_layers_exist_in_the_base(name):
    found = recipe.load(name)
    shape = shapes.known()[found.base.model]
    assert shapes.targets(shape, found.lora)
    assert 0 < shapes.adapter_parameters(shape, found.lora) < 0.1 * shape.parameters


@pytest.mark.parametrize("name", NAMES)
def test_head_says_what_the_formula_says(name):
    found = recipe.load(name)
    lines = (recipe.FOLDER / f"{name}.toml").read_text("utf-8").splitlines()
    wanted = estimate.header(found, _domain(found))
    assert wanted in lines, f"the line in trainer/recipes/{name}.toml must be:\n{wanted}"


@pytest.mark.parametrize("name", NAMES)
def test_recipe_fits_the_usual_machine_for_its_base(name):
    found = recipe.load(name)
    planned = estimate.planned(found, _domain(found))
    assert planned.fits, planned.lines()
    assert planned.steps > 0 and planned.seconds > 0


def test_every_key_of_a_recipe_is_documented_with_its_default():
    written = (recipe.FOLDER.parents[1] / "docs" / "training.md").read_text("utf-8")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in written.splitlines() if line.startswith("| `")]
    rows = {cell[0].strip("`"): cell[1:] for cell in cells if len(cell) >= 3}
    wanted = dict(_keys(recipe.Recipe))
    assert {key: rows[key][0] for key in rows if key in wanted} == wanted
    assert all(rows[key][1] for key in wanted)
    assert not [key for key in rows if "." in key and key not in wanted], "documented, but no key"


def _keys(model, before=""):
    """(dotted key, default as the table writes it) of every key that holds a value."""
    for name, field in model.model_fields.items():
        inner = [
            one for one in (field.annotation, *get_args(field.annotation)) if isinstance(one, type) and issubclass(one, BaseModel)
        ]
        if inner:
            yield from _keys(inner[0], f"{before}{name}.")
        else:
            yield f"{before}{name}", "required" if field.is_required() else f"`{_toml(field.default)}`"


def _toml(value):
    return "none" if value is None else json.dumps(list(value) if isinstance(value, tuple) else value)
