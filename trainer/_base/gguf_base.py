"""A base that is a GGUF file: what it is, and how it is loaded.

Not covered: its parts (`gguf_file`, `gguf_model`, `gguf_tokenizer`).
"""

from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from data.catalog import ModelSpec
from data.sanitise import one_line
from trainer._base import gguf_model, gguf_tokenizer, parity
from trainer._base.digests import file_sha256
from trainer._base.gguf_file import GgufFile
from trainer._base.quantised import loading


class GgufBase:
    """One file; spec: its entry in the catalog, where it has one."""

    def __init__(self, path: Path, spec: ModelSpec | None = None) -> None:
        self._path = path
        self._spec = spec

    @cached_property
    def _file(self) -> GgufFile:
        found = GgufFile(self._path)
        gguf_model.admit(found)
        return found

    def fetch(self) -> None:
        """The file is here."""

    @property
    def place(self) -> Path:
        """See Source.place."""
        return self._path

    def identity(self) -> Any:
        """See Source.identity."""
        from trainer.base import Identity

        found = self._file
        template = found.metadata.get("tokenizer.chat_template", "")
        return Identity(
            source=self._spec.name if self._spec else str(self._path),
            revision="",
            family=found.architecture,
            parameters=found.parameters,
            sha256=file_sha256(self._path),
            tokenizer_sha256=found.tokenizer_sha256,
            template_sha256=sha256(str(template).encode()).hexdigest(),
            licence=self._spec.licence if self._spec else one_line(found.header.text("general.license"), 80),
            size_bytes=found.header.size_bytes,
        )

    def loaded(self, quantisation: str, policy: Any) -> tuple[Any, Any, tuple[int, ...], tuple[str, ...]]:
        """See Source.loaded."""
        tokenizer = gguf_tokenizer.tokenizer(self._file)
        name = self._spec.name if self._spec else str(self._path)
        parity.require(tokenizer, name, name)
        model = gguf_model.model(self._file, **loading(quantisation, policy))
        note = f"weights of {self._path.name}, dequantised: what the file's rounding lost stays lost"
        ends = (self._file.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom"))
        return model, tokenizer, tuple(end for end in ends if isinstance(end, int)), (note,)
