"""What `models show` tells of a model: its file and metadata, and where an exported one comes from. Long texts are cut."""

from pathlib import Path
from typing import Any

from router.engines._llamacpp.exported import PLUS, provenance
from router.engines._llamacpp.files import Found
from router.engines._llamacpp.header import Array, check

LONGEST = 2_000  # characters of a text


def described(name: str, found: Found) -> dict[str, Any]:
    """Plain JSON. Of a base with an adapter: the adapter's, and the base's under "base". Raises ModelMissing, ModelInvalid."""
    exported = {"export": provenance(found.offer)} if found.offer else {}
    if found.adapter is None:
        return {"name": name} | _file(found.path) | exported
    base = {"name": name.rpartition(PLUS)[0]} | _file(found.path)
    return {"name": name} | _file(found.adapter) | exported | {"base": base}


def _file(path: Path) -> dict[str, Any]:
    found = check(path)
    metadata = {
        key: f"{value.count} items" if isinstance(value, Array) else value[:LONGEST] if isinstance(value, str) else value
        for key, value in found.metadata.items()
    }
    return {"path": str(path), "size_bytes": found.size_bytes, "tensors": len(found.tensors), "metadata": metadata}
