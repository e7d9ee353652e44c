"""Export folders for tests: the model and adapter files given, and an export.json that tells of them truly."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from data import exports


def folder(
    name: str,
    *,
    base: Path | None = None,
    reference: str = "",
    adapter: Path | None = None,
    model: Path | None = None,
    **changes: Any,
) -> Path:
    """A complete export in the data folder: base is the file that its adapter was trained on, `changes` those of export.json."""
    place = exports.folder() / name
    place.mkdir(parents=True, exist_ok=True)
    files = []
    for kind, form, source in (("model", "F32", model), ("adapter", "", adapter)):
        if source is not None:
            target = place / ("model-F32.gguf" if kind == "model" else "adapter.gguf")
            shutil.copyfile(source, target)
            files.append(
                {"name": target.name, "kind": kind, "form": form, "bytes": target.stat().st_size, "sha256": digest(target)}
            )
    told = {
        "name": name,
        "at": "2026-11-20T10:00:00Z",
        "run": "runs/one",
        "domain": "triage",
        "base": {"reference": reference, "source": "the base", "sha256": digest(base) if base else "0" * 64, "family": "llama"},
        "chosen": "F32" if model else "",
        "files": files,
        "checks": [{"name": "merge", "passed": True}, {"name": "ollama", "passed": None, "note": "no server"}],
    }
    (place / exports.FILE).write_text(json.dumps(told | changes), encoding="utf-8")
    return place


def digest(path: Path) -> str:
    """A file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
