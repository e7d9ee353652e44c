"""Finished runs of a tiny model for tests of export: really trained, so that answers end and rows are known by heart.

Import it after `pytest.importorskip("torch")`.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tiny_checkpoints as tiny
from packs import pack

from export.exporting import Source
from trainer import general, recipe, train
from tui.commands.export import source_of

DOMAIN = "desk"


def trained(folder: Path, *, as_gguf: bool, family: str = "llama", **changes: Any) -> Path:
    """A run in `folder`, on a checkpoint or on the same as a GGUF file; its pack lies in the home that is set now."""
    pack(DOMAIN)
    base = tiny.checkpoint(folder / "base", family, max_position_embeddings=2048, initializer_range=0.1)
    if as_gguf:
        base = tiny.as_gguf(base, folder / "base.gguf")
    stage = {"kind": "sft", "batch": 9, "epochs": 60, "learning_rate": 0.02, "patience": 0}
    found = recipe.validated(
        {
            "name": "desk",
            "domain": DOMAIN,
            "stages": [stage],
            "base": {"model": str(base)},
            "lora": {"rank": 8, "alpha": 16},
            "gates": {"worse_by": 1.0, "general_loss": 10.0, "general_answers": 1.0},
            **changes,
        },
        "test",
    )
    some = tuple(row for row in general.rows() if row.ask)[:1]
    with patch.object(general, "rows", lambda: some):
        done = train.run(found, out=folder / "runs")
    assert done.folder is not None
    return done.folder


def once(folder: Path, *, as_gguf: bool = True) -> Path:
    """Such a run, made once in this process, its gates passed; folder: where temporary files of all tests lie."""
    place = folder / f"exportable-{'gguf' if as_gguf else 'checkpoint'}"
    if not place.is_dir():
        with patch.dict(os.environ, {"POINTSMAN_HOME": str(place / "home"), "POINTSMAN_OFFLINE": "1"}):
            run = trained(place, as_gguf=as_gguf)
        gates(run, passed=True)
    return next(one for one in (place / "runs").iterdir() if not one.name.startswith("."))


def gates(run: Path, *, passed: bool) -> None:
    """Let the run have passed its gates, or not."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    metrics["proof"]["passed"] = passed
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def copied(run: Path, folder: Path) -> Path:
    """The same run elsewhere."""
    return Path(shutil.copytree(run, folder / run.name))


def source(run: Path, **changes: Any) -> Source:
    """The run as export takes it; changes: of its fields."""
    return replace(source_of(run, failed_gates=True), **changes)
