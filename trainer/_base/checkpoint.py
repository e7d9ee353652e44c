"""A base that is a folder with a checkpoint: config.json, safetensors and a tokenizer, as the hub keeps them.

What is wrong with it is said before weights are loaded: pickles, code of its own, unknown families, parts that are missing or cut
off, no tokenizer, no chat template. Its code is never run: the classes are transformers' own. Not covered: downloading (`hub`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from data import paths
from data.errors import ModelInvalid, ModelMissing
from data.sanitise import one_line
from trainer._base import turns, weights
from trainer._base.digests import file_sha256
from trainer._base.quantised import loading, quiet
from trainer._base.weights import CONFIG

FAMILIES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "phi3": "Phi3",
    "phi": "Phi",
    "gemma2": "Gemma2",
}
"""model_type of config.json, and how transformers' classes of it begin."""
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
LARGEST_BYTES = {TOKENIZER: 64 << 20}
_DEFAULT_BYTES = 4 << 20
_LICENCE = re.compile(r"^license:\s*[\"']?([\w.+-]{1,60})", re.MULTILINE)
_UNUSED = re.compile(r"rotary_emb\.inv_freq$")  # older checkpoints hold it; it follows from the configuration


@dataclass(frozen=True)
class Checkpoint:
    """A folder. source: as identities call it; revision and licence: as the hub told, of a folder found otherwise ""."""

    folder: Path
    source: str
    revision: str = ""
    licence: str = ""

    def fetch(self) -> None:
        """The folder is here."""

    @property
    def place(self) -> Path:
        """See Source.place."""
        return self.folder

    def identity(self) -> Any:
        """See Source.identity."""
        from trainer.base import Identity

        family = self.family
        files = weights.files(self.folder)
        return Identity(
            source=self.source,
            revision=self.revision,
            family=family,
            parameters=weights.parameters(files),
            sha256=weights.combined({file.name: file_sha256(file) for file in files}),
            tokenizer_sha256=file_sha256(self.folder / TOKENIZER),
            template_sha256=sha256(self.template.encode()).hexdigest(),
            licence=self.licence or self._licence(),
            size_bytes=sum(file.stat().st_size for file in files),
        )

    def loaded(self, quantisation: str, policy: Any) -> tuple[Any, Any, tuple[int, ...], tuple[str, ...]]:
        """See Source.loaded."""
        family = self.family
        weights.parameters(weights.files(self.folder))
        tokenizer = self._tokenizer()
        how = loading(quantisation, policy)
        notes = []
        if family == "gemma2" and how["attn_implementation"] == "sdpa":  # sdpa knows no soft cap of the scores
            how["attn_implementation"] = "eager"
            notes.append("Gemma 2 computes attention eagerly: the faster way leaves out its soft cap")
        if "auto_map" in self.config:
            notes.append(f"{self.source} brings code of its own, which is not run: transformers has the family built in")
        model = self._model(family, how)
        if len(tokenizer) > model.config.vocab_size:
            raise self._invalid(f"has {len(tokenizer)} tokens and only {model.config.vocab_size} embeddings")
        return model, tokenizer, self._stops(), tuple(notes)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """config.json."""
        if not (self.folder / CONFIG).is_file():
            raise self._without_config()
        return self._json(CONFIG)

    @cached_property
    def family(self) -> str:
        """The model_type, after all checks that need no weights' file. Raises ModelInvalid."""
        family = self.config.get("model_type")
        if not isinstance(family, str) or family not in FAMILIES:
            said = f"is of the family {one_line(str(family), 40)!r}, which is not supported"
            raise self._invalid(said, f"supported are: {', '.join(FAMILIES)}")
        self._require_no_code(FAMILIES[family])
        wanted = f"{FAMILIES[family]}ForCausalLM"
        named = self.config.get("architectures") or [wanted]
        if wanted not in named:
            raise self._invalid(f"is made for {one_line(str(named), 60)}, not to write text", "choose the family's chat model")
        method = self.config.get("quantization_config")
        if method:
            kind = method.get("quant_method", "") if isinstance(method, Mapping) else ""
            raise self._invalid(f"is quantised already ({one_line(str(kind), 40)})", "give the original, and set base.quantisation")
        self._require_tokenizer()
        self._stops()
        return family

    @cached_property
    def template(self) -> str:
        """The chat template's text, "" where there is none; Phi-2 comes without one and gets that of its model card."""
        beside = self.folder / TEMPLATE
        if beside.is_file():
            return paths.read_text(beside, _DEFAULT_BYTES, "a chat template is a page")
        found = self._tokenizer_config.get("chat_template") or ""
        if isinstance(found, list):
            named = {str(one.get("name")): one.get("template") for one in found if isinstance(one, Mapping)}
            found = named.get("default") or ""
        text = found if isinstance(found, str) else ""
        return turns.PHI_2 if not text.strip() and self.config.get("model_type") == "phi" else text

    @cached_property
    def _tokenizer_config(self) -> Mapping[str, Any]:
        return self._json(TOKENIZER_CONFIG) if (self.folder / TOKENIZER_CONFIG).is_file() else {}

    def _tokenizer(self) -> Any:
        """The tokenizer of tokenizer.json as it stands there: transformers' classes for some families would rebuild it."""
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        text = self._text(TOKENIZER)
        try:
            built = Tokenizer.from_str(text)
        except Exception as error:  # the library has no narrower kind
            raise self._invalid(f"has a broken {TOKENIZER}: {one_line(str(error), 160)}") from error
        named = {}
        for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
            value = self._tokenizer_config.get(name)
            content = value.get("content") if isinstance(value, Mapping) else value
            if isinstance(content, str) and built.token_to_id(content) is not None:
                named[name] = content
        if "eos_token" not in named:
            raise self._invalid(f"names no end token in {TOKENIZER_CONFIG} that its tokenizer knows")
        kind: Any = PreTrainedTokenizerFast
        return kind(tokenizer_object=built, clean_up_tokenization_spaces=False, chat_template=self.template or None, **named)

    def _model(self, family: str, how: Mapping[str, Any]) -> Any:
        import transformers
        from huggingface_hub.errors import StrictDataclassError

        name = FAMILIES[family]
        try:
            config = getattr(transformers, f"{name}Config").from_dict(dict(self.config))
            with quiet():
                model, told = getattr(transformers, f"{name}ForCausalLM").from_pretrained(
                    self.folder, config=config, use_safetensors=True, local_files_only=True, output_loading_info=True, **how
                )
        except (ValueError, TypeError, KeyError, RuntimeError, ArithmeticError, OSError, StrictDataclassError) as error:
            raise self._invalid(f"does not make a model: {one_line(str(error), 200)}") from error
        wrong = {str(one) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") for one in told[key]}
        strange = sorted(one for one in wrong if not _UNUSED.search(one))
        if strange:
            raise self._invalid(f"does not fit its {CONFIG}, at {one_line(', '.join(strange), 160)}")
        weights.require_finite(model, self.source)
        return model

    def _stops(self) -> tuple[int, ...]:
        generation = self._json("generation_config.json") if (self.folder / "generation_config.json").is_file() else {}
        found: list[Any] = []
        for value in (generation.get("eos_token_id"), self.config.get("eos_token_id")):
            found += value if isinstance(value, list) else [value]
        return tuple(sorted({value for value in found if isinstance(value, int) and value >= 0}))

    def _require_no_code(self, name: str) -> None:
        """Code that only copies what transformers has (Phi-3.5 brings such) is left alone, everything else is refused."""
        named = list(_names(self.config.get("auto_map"))) + [f"!{one}" for one in _names(self._tokenizer_config.get("auto_map"))]
        strange = [one for one in named if not re.fullmatch(rf"[\w.]*{name}(Config|Model|ForCausalLM|For\w+Classification)", one)]
        if strange:
            said = f"needs code of its own ({one_line(strange[0].lstrip('!'), 80)}), and foreign code is never run"
            raise self._invalid(said, "choose a base that transformers has built in")

    def _require_tokenizer(self) -> None:
        if not (self.folder / TOKENIZER).is_file():
            raise self._invalid(
                f"has no {TOKENIZER}", f"put the {TOKENIZER} and {TOKENIZER_CONFIG} of the model beside its {CONFIG}"
            )
        turns.require_template(self.template, self.source)

    def _without_config(self) -> ModelMissing | ModelInvalid:
        if (self.folder / "adapter_config.json").is_file():
            return self._invalid("is an adapter, not a model", "name the model it was trained on, and this folder as base.adapter")
        if any(self.folder.glob("*.gguf")):
            return self._invalid("holds GGUF files and no checkpoint", "name one of the files")
        if weights.pickled(self.folder):
            return weights.pickle_refused(self.source)
        return ModelMissing(f"there is no {CONFIG} in {self.source}", "name a folder with a checkpoint: config.json, *.safetensors")

    def _licence(self) -> str:
        card = self.folder / "README.md"
        if not card.is_file() or card.stat().st_size > _DEFAULT_BYTES:
            return ""
        head = card.read_text(encoding="utf-8", errors="replace")
        parts = head.split("---", 2)
        found = _LICENCE.search(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
        return found[1] if found else ""

    def _json(self, name: str) -> Mapping[str, Any]:
        try:
            found = json.loads(self._text(name))
        except (ValueError, RecursionError) as error:
            raise self._invalid(f"has a broken {name}: {one_line(str(error), 160)}") from error
        if not isinstance(found, dict):
            raise self._invalid(f"has a broken {name}: it is no table")
        return found

    def _text(self, name: str) -> str:
        return paths.read_text(self.folder / name, LARGEST_BYTES.get(name, _DEFAULT_BYTES), f"it is no usual {name}")

    def _invalid(self, said: str, fix: str = "download or convert it again") -> ModelInvalid:
        return ModelInvalid(f"{self.source} {said}", fix)


def _names(value: Any) -> Sequence[str]:
    """The class names of an auto_map, whose values are names or lists of them."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [name for one in value.values() for name in _names(one)]
    return [name for one in value for name in _names(one)] if isinstance(value, list | tuple) else []
