"""The catalog is valid, its packaged files are the ones it names, and prepared models are found only when whole."""

import hashlib
import json

import pytest

from data import catalog
from data.errors import ModelMissing


@pytest.mark.parametrize("name", ["smollm2-135m", "minilm-l6"])
def test_the_packaged_file_is_the_one_the_catalog_means(name: str) -> None:
    spec = catalog.specs()[name]
    with catalog.source_file(spec).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == spec.source.sha256


def test_a_package_that_is_not_installed_is_named_with_the_command() -> None:
    spec = catalog.specs()["smollm2-135m"]
    absent = spec.model_copy(update={"source": spec.source.model_copy(update={"module": "no_such_module"})})
    with pytest.raises(ModelMissing, match="pip install"):
        catalog.source_file(absent)


def test_a_prepared_model_counts_only_with_its_file() -> None:
    folder = catalog.prepared_dir("smollm2-135m")
    assert catalog.prepared("smollm2-135m") is None
    folder.mkdir(parents=True)
    record = {
        "name": "smollm2-135m",
        "form": "Q8_0",
        "why": "fastest",
        "file": "Q8_0.gguf",
        "sha256": "0",
        "source_sha256": "0",
        "runtime": "llama.cpp",
        "processor": "x",
    }
    (folder / "prepared.json").write_text(json.dumps(record))
    assert catalog.prepared("smollm2-135m") is None
    (folder / "Q8_0.gguf").write_bytes(b"GGUF")
    found = catalog.prepared("smollm2-135m")
    assert found is not None and found.path == folder / "Q8_0.gguf"
    (folder / "prepared.json").write_text("{")
    assert catalog.prepared("smollm2-135m") is None
