"""Exports and runs for tests of the registry: small, true to their digests, and computing nothing."""

import hashlib
import json
from pathlib import Path
from typing import Any

from data import exports
from data.store import Store
from data.store.versions import Evidence, Gate, Lineage, Version

BASE = "llamacpp/smollm2-135m"
GOOD = Evidence(True, (Gate("run: accuracy", True, 0.91, 0.88),), 48, 0.29, 0.11)
CHECKS = [{"name": "divergence", "of": "model-Q4_0.gguf", "passed": True, "value": 0.01, "limit": 0.05}]


def export(name: str, domain: str = "triage", *, content: bytes = b"", **changes: Any) -> Path:
    """A complete export in the data folder whose model file is no model beyond its first four bytes."""
    place = exports.folder() / name
    place.mkdir(parents=True, exist_ok=True)
    model = b"GGUF" + (content or name.encode()) * 200
    (place / "model-Q4_0.gguf").write_bytes(model)
    told = {
        "name": name,
        "at": "2026-11-20T10:00:00Z",
        "run": f"{name}-run",
        "domain": domain,
        "base": {"reference": BASE, "source": "smollm2-135m", "sha256": "b" * 64, "family": "llama"},
        "chosen": "Q4_0",
        "files": [
            {
                "name": "model-Q4_0.gguf",
                "kind": "model",
                "form": "Q4_0",
                "bytes": len(model),
                "sha256": hashlib.sha256(model).hexdigest(),
            }
        ],
        "checks": CHECKS,
    }
    (place / exports.FILE).write_text(json.dumps(told | changes), encoding="utf-8")
    return place


def version(store: Store, name: str, domain: str = "triage", evidence: Evidence = GOOD, **changes: Any) -> Version:
    """A registered candidate."""
    place = export(name, domain, **changes)
    lineage = Lineage(f"{name}-run", "1a2b3c4d", "smollm2-135m", "b" * 64, "d" * 64, 150, 12)
    return store.registry.register(place, lineage=lineage, evidence=evidence, who="tester", why="a test")


def champion(store: Store, name: str, domain: str = "triage") -> Version:
    """A promoted version."""
    done = store.registry.promote(version(store, name, domain).id, who="tester", why="better")
    assert done.moved
    return done.version


def damage(place: Path) -> None:
    """Change one byte of a model file, and neither its size nor its beginning."""
    file = place / "model-Q4_0.gguf"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
