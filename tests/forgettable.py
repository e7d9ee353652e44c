"""A home full of one text, for tests of forgetting: everything that Pointsman writes, small, and true to its digests."""

import hashlib
import html
import json
import struct
from pathlib import Path
from typing import Any

from registry_support import export

from data import paths
from data.chat import Message
from data.datasets.build import BuildOptions, build
from data.datasets.sources import from_log, open_source
from data.store import Begun, Store

STAMP = "20991231-235959"  # after everything that the tests say


def said(store: Store, mark: str, *, domain: str = "", **how: Any) -> Begun:
    """A conversation about the mark that was corrected, rated and commented on."""
    begun = store.log.begin(
        Message("user", f"What do you know of {mark} and where does it live today?"),
        model="echo/echo",
        mode="standard",
        domain=domain,
        config={},
        **how,
    )
    store.log.finish(begun.inference, status="complete", text=f"I know that {mark} lives in a small town by the sea.")
    store.feedback.correct(begun.inference, f"No, {mark} lives in the mountains, where it snows in every winter.")
    store.feedback.comment(begun.inference, f"wrong about {mark}")
    return begun


def others(store: Store, count: int = 30) -> None:
    """Conversations about something else, liked."""
    for number in range(count):
        begun = store.log.begin(
            Message("user", f"How far is station {number} from the harbour of city {number * 7}?"),
            model="echo/echo",
            mode="standard",
            config={},
        )
        store.log.finish(begun.inference, status="complete", text=f"It is {number} kilometres, by train {number * 3} minutes.")
        store.feedback.rate(begun.inference, 1)


def dataset(store: Store, folder: Path, *more: Path, **options: Any) -> Path:
    """A dataset built from the log and files."""
    sources = [from_log(store, ""), *(open_source(str(file)) for file in more)]
    build(sources, None, folder, BuildOptions(**{"redact": False, **options}))
    return folder


def run(name: str, *train: str, texts: str = "", parent: str = "", **recipe: Any) -> Path:
    """A finished run in the data folder; texts: stands in its predictions, figures and report."""
    hash8 = hashlib.sha256(name.encode()).hexdigest()[:8]
    folder = paths.ensure(paths.data_dir() / "runs" / f"{name}-{STAMP}-{hash8}")
    domain = recipe.get("domain", "")
    rows = json.dumps(list(train))
    base = recipe.get("base", "smollm2-135m")
    (folder / "recipe.toml").write_text(
        f'name = "{name}"\ndomain = "{domain}"\n[base]\nmodel = "{base}"\n[data]\ntrain = {rows}\npack = false\n'
    )
    line = {"text": texts, "right": "a", "said": "b", "confidence": 0.5, "correct": False}
    (folder / "predictions.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line | {"text": "fine"}) + "\n")
    (folder / "metrics.json").write_text(json.dumps({"n": 2, "accuracy": 0.5, "failed_cases": [{"text": texts}]}, indent=1))
    (folder / "report.html").write_text(f'<!doctype html><p>0.5</p><td title="{html.escape(texts)}">{html.escape(texts)}</td>')
    (folder / "adapter").mkdir(exist_ok=True)
    head = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))
    noted = [
        {"name": str(file.relative_to(folder)), "bytes": file.stat().st_size, "sha256": digest(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "manifest.json"
    ]
    told = {
        "version": 1,
        "name": name,
        "recipe_sha256": "0" * 64,
        "recipe": {},
        "seed": 0,
        "data": {"sha256": "1" * 64, "validation_sha256": "2" * 64},
        "base": {"source": "smollm2-135m"},
        "parent": parent,
        "artefacts": noted,
    }
    (folder / "manifest.json").write_text(json.dumps(told, sort_keys=True, indent=1) + "\n")
    return folder


def exported(name: str, of: Path, text: str = "") -> Path:
    """An export of a run with a Modelfile; text: one of its MESSAGEs."""
    place = export(name, run=of.name)
    modelfile = place / "Modelfile"
    modelfile.write_text(f"FROM ./model-Q4_0.gguf\nMESSAGE user {text}\nMESSAGE assistant fine\n")
    told = json.loads((place / "export.json").read_text())
    told["files"].append({"name": "Modelfile", "kind": "modelfile", "bytes": modelfile.stat().st_size, "sha256": digest(modelfile)})
    (place / "export.json").write_text(json.dumps(told))
    return place


def digest(file: Path) -> str:
    """A file's SHA-256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def holding(folder: Path, mark: str) -> list[Path]:
    """Every file below a folder in whose bytes, or those of the archives in it, the mark stands, in any case."""
    import gzip
    import zipfile

    found = []
    low = mark.lower().encode()
    for file in sorted(folder.rglob("*")):
        raw = file.read_bytes() if file.is_file() else b""
        inner = [raw]
        if raw[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(file) as archive:
                inner += [archive.read(one) for one in archive.namelist()]
        elif raw[:2] == b"\x1f\x8b":
            inner.append(gzip.decompress(raw))
        elif raw[:4] == b"PAR1":
            import pyarrow.parquet as pq

            inner.append(str(pq.read_table(file).to_pylist()).encode())
        wide = mark.lower().encode("utf-32-le")
        if any(low in one.lower() or wide in one.lower() for one in inner) or low in file.name.lower().encode():
            found.append(file)
    return found
