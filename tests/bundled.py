"""A finished run of a tiny model with a random adapter, made without training: true to its manifest, its figures invented.

Import it after `pytest.importorskip("torch")`.
"""

import json
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import tiny_checkpoints as tiny
import torch
from packs import pack

from data import domains
from trainer import adapter, manifest, material, recipe, run_folder
from trainer import base as bases
from trainer._run.folder import as_toml
from trainer.device import Policy

DOMAIN = "desk"
CPU = Policy("cpu", "float32", "adamw_torch", "sdpa", False, 1)
FIGURES = {
    "accuracy": 0.9,
    "failed_cases": [{"id": "a", "text": "my account is locked", "faults": [], "why": "", "output": {}}],
    "proof": {
        "passed": True,
        "routable": True,
        "gates": [{"name": "accuracy", "limit": 0.8, "reached": 0.9, "passed": True}],
        "base": {"n": 48, "difference": 0.3, "ci": {"low": 0.1, "high": 0.5}},
    },
}
PREDICTION = {
    "text": "my account is locked",
    "right": "RESET",
    "said": "RESET",
    "confidence": 0.9,
    "probabilities": {"RESET": 0.9},
    "output": {},
    "wanted": {},
    "valid": True,
    "voices": {},
    "reason": "",
    "fault": "",
    "correct": True,
}


def run(folder: Path, into: Path) -> Path:
    """A copy of the run in `into`; made once in this process. folder: where temporary files of all tests lie."""
    place = folder / "bundled"
    if not place.is_dir():
        with patch.dict(os.environ, {"POINTSMAN_HOME": str(place / "home"), "POINTSMAN_OFFLINE": "1"}):
            _make(place)
    return Path(shutil.copytree(place / "desk-20261120-2104-1f2e3d4c", into / "desk-20261120-2104-1f2e3d4c"))


def relisted(run: Path) -> None:
    """Let the manifest list the files as they are."""
    manifest.write(run, manifest.read(run).model_copy(update={"artefacts": tuple(manifest.artefacts(run))}))


def _make(place: Path) -> None:
    pack(DOMAIN)
    checkpoint = tiny.checkpoint(place / "base", "llama", max_position_embeddings=2048, initializer_range=0.1)
    base = tiny.as_gguf(checkpoint, place / "base.gguf")
    found = recipe.validated(
        {"name": "desk", "domain": DOMAIN, "base": {"model": str(base)}, "lora": {"rank": 8, "alpha": 16}}, "test"
    )
    folder = place / "desk-20261120-2104-1f2e3d4c"
    folder.mkdir()
    loaded = bases.load(found.base, CPU)
    model = adapter.attach(loaded, found.lora)
    torch.manual_seed(2)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            weights.data.normal_(0, 0.02)
    adapter.save(model, folder / "adapter")
    (folder / run_folder.RECIPE).write_text(as_toml(found), encoding="utf-8")
    (folder / run_folder.METRICS).write_text(json.dumps(FIGURES), encoding="utf-8")
    (folder / run_folder.CURVE).write_text(json.dumps({"doing": "training", "done": 1, "of": 2, "values": {"loss": 1.0}}) + "\n")
    (folder / run_folder.PREDICTIONS).write_text(json.dumps(PREDICTION) + "\n")
    (folder / run_folder.LOST).write_text(json.dumps({"origin": "a:1", "reason": "long", "text": "my account is locked"}) + "\n")
    rows = material.read(found, domains.load(DOMAIN))
    begun = manifest.start(found, rows, bases.look(found.base), CPU)
    manifest.write(folder, manifest.finished(begun, folder, {"training": 1.0}, {"passed": True, "routable": True}))
