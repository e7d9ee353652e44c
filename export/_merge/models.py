"""One base and one adapter in memory, loaded as often as something is computed of them, merged and written.

PyTorch, transformers and PEFT are handed in by `export.merge`, where they are imported. What they raise is translated here. Not
covered: which merge is good enough, and which is kept (`export.merge`).
"""

import gc
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data.errors import InputError, ModelInvalid, ModelMissing
from data.sanitise import one_line
from export._merge import checkpoint as checkpoints
from export._merge import writing
from export._merge.adapter import PeftAdapter
from export._merge.checkpoint import Checkpoint
from export._merge.writing import Part

Quantised = Literal["none", "nf4", "int8"]
Which = Literal["original", "dequantised"]
Rows = Sequence[tuple[Sequence[int], Sequence[int]]]
"""Tokens, and the positions at which the model is asked."""
_BLOCK = 64  # weights in 4 bits that share a scale
_FAULTS = (ValueError, TypeError, KeyError, IndexError, RuntimeError, AttributeError, ArithmeticError, OSError)


@dataclass(frozen=True, slots=True)
class Libraries:
    """The modules of that name."""

    torch: Any
    transformers: Any
    peft: Any


@dataclass(frozen=True, slots=True)
class Closeness:
    """The merged beside the unmerged over the rows. largest: difference of a log-probability, nats; kl: mean, nats a token."""

    largest: float
    kl: float


class Models:
    """One base and one adapter, loaded as often as something is computed of them. Everything it raises is a PointsmanError."""

    def __init__(self, source: Checkpoint, change: PeftAdapter, libraries: Libraries, trained_in: str) -> None:
        """trained_in: the number format in which a quantised base computed. Raises ModelInvalid where shapes do not agree."""
        self.source, self.change, self.trained_in = source, change, trained_in
        self.torch, self.transformers, self.peft = libraries.torch, libraries.transformers, libraries.peft
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of a kernel of the hub, which is never fetched here
        self.kind, self.config = self._known(source)
        self.tied = self._checked()

    @property
    def unties(self) -> bool:
        """Whether the adapter changes one of two matrices that the base shares."""
        return self.tied and self.change.unties

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        return int(self.config.get_text_config().vocab_size)

    def base(self) -> Any:
        """The base in float32, its output untied where the adapter changes one of the two alone."""
        return self._untied(self.loaded(self.source))

    def quantised(self, how: Quantised) -> Any:
        """The base as it was while the adapter was trained, frozen, its 4-bit weights kept as they are made."""
        if find_spec("bitsandbytes") is None:
            raise ModelMissing(
                f"merging what was trained on {how} needs bitsandbytes, which is not installed", "pip install bitsandbytes"
            )
        dtype, kind = getattr(self.torch, self.trained_in), self.transformers.BitsAndBytesConfig
        four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
        settings = kind(load_in_4bit=True, **four) if how == "nf4" else kind(load_in_8bit=True)
        model = self.loaded(self.source, dtype=dtype, quantization_config=settings)
        for part in model.modules():
            if not hasattr(part, "support_avx512bf16_for_cpu"):
                continue
            part.support_avx512bf16_for_cpu = False
            if part.in_features % _BLOCK:
                said = f"bitsandbytes computes rows of {part.in_features} 4-bit weights wrongly on a processor"
                raise InputError(f"{said}: they are no multiple of {_BLOCK}", "such an adapter cannot have been trained there")
        return self._untied(model)

    def merged(
        self, which: Which, how: Quantised, place: Path, form: str, rows: Rows, expected: Sequence[NDArray[np.float32]]
    ) -> Closeness:
        """Merge into a fresh base, write it, and tell how close the merged numbers are before they are rounded to the form."""
        base = self.base()
        if which == "dequantised":
            self._dequantise(base, how)
        model = self.attached(base)
        with self._quiet(), self._faults("cannot be merged"):
            plain = model.merge_and_unload(safe_merge=True)
        self._require_unchanged(plain)
        found = closeness(expected, self.says(plain, rows))
        self._write(plain, place, form)
        return found

    def attached(self, base: Any) -> Any:
        """The adapter on a base, in float32 and frozen. Raises ModelInvalid where it is another base's."""
        from safetensors.torch import load_file

        with self._quiet(), self._faults("does not fit this base"):
            config = self.peft.LoraConfig(**self.change.settings, task_type="CAUSAL_LM", inference_mode=True)
            model = self.peft.get_peft_model(base, config)
            told = self.peft.set_peft_model_state_dict(model, load_file(self.change.weights.path))
            own = self.peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        strange = sorted({*told.unexpected_keys, *(name for name in own if name not in self.change.weights.entries)})
        if strange:
            said = f"{self.change.weights.path} does not fit this base, at {one_line(', '.join(strange), 160)}"
            raise ModelInvalid(said, "merge it into the checkpoint that it was trained on")
        model.requires_grad_(False)
        return model.train(False)

    def says(self, model: Any, rows: Rows) -> list[NDArray[np.float32]]:
        """Log-probabilities at the positions of each row, shape (positions, vocabulary)."""
        found = []
        with self._quiet(), self._faults("cannot be computed on this base"), self.torch.inference_mode():
            for tokens, at in rows:
                ids, kept = self.torch.tensor([list(tokens)]), self.torch.tensor(list(at))
                logits = model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits[0].float()
                found.append(self.torch.log_softmax(logits, dim=-1).numpy())
        return found

    def loaded(self, source: Checkpoint, **how: Any) -> Any:
        """A model of transformers in float32 unless told otherwise, complete, in eval mode. Raises ModelInvalid."""
        gc.collect()  # models of PEFT refer to themselves: the one before would still be in memory
        config = self.config if source is self.source else self._known(source)[1]
        how = {"dtype": self.torch.float32, "attn_implementation": "eager"} | how
        with self._quiet(), self._faults("does not make a model", source):
            model, told = self.kind.from_pretrained(
                source.folder, config=config, use_safetensors=True, local_files_only=True, output_loading_info=True, **how
            )
        wrong = sorted(
            str(one)
            for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
            for one in told[key]
            if not str(one).endswith("rotary_emb.inv_freq")  # of older checkpoints; it follows from the configuration
        )
        if wrong:
            said = f"{source.folder} does not fit its {checkpoints.CONFIG}, at {one_line(', '.join(wrong), 160)}"
            raise ModelInvalid(said, checkpoints.AGAIN)
        if source is self.source:
            self.tied = _tied(model)
        model.requires_grad_(False)
        return model.train(False)

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Without the progress bars and warnings of the libraries: what matters of them is checked here."""
        shown = self.transformers.utils.logging
        bar, level = shown.is_progress_bar_enabled(), shown.get_verbosity()
        shown.disable_progress_bar()
        shown.set_verbosity_error()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            shown.set_verbosity(level)
            if bar:
                shown.enable_progress_bar()

    @contextmanager
    def _faults(self, said: str, source: Checkpoint | None = None) -> Iterator[None]:
        """What transformers and PEFT raise, as ModelInvalid naming the checkpoint or the adapter."""
        try:
            yield
        except _FAULTS as error:
            where = source.folder if source else self.change.weights.path
            fix = checkpoints.AGAIN if source else "merge it into the checkpoint that it was trained on, or train a plain LoRA"
            raise ModelInvalid(f"{where} {said}: {one_line(str(error), 200)}", fix) from error

    def _known(self, source: Checkpoint) -> tuple[Any, Any]:
        """The class that writes text and the configuration, of transformers' own."""
        from huggingface_hub.errors import StrictDataclassError

        family, known = source.config.get("model_type"), self.transformers.CONFIG_MAPPING
        if not isinstance(family, str) or family not in known:
            said = f"{source.folder} is of the family {one_line(str(family), 40)!r}, which transformers has not built in"
            raise ModelInvalid(said, "upgrade transformers, or choose another base")
        try:
            config = known[family].from_dict(dict(source.config))
        except (*_FAULTS, StrictDataclassError) as error:
            said = f"{source.folder} has a broken {checkpoints.CONFIG}: {one_line(str(error), 200)}"
            raise ModelInvalid(said, checkpoints.AGAIN) from error
        models = self.transformers.MODEL_FOR_CAUSAL_LM_MAPPING
        if type(config) not in models:
            raise ModelInvalid(f"{source.folder} is made for something else than writing text", "choose the family's chat model")
        return models[type(config)], config

    def _checked(self) -> bool:
        """Whether input and output share their weights by the configuration; raises ModelInvalid where shapes do not agree, before
        memory is taken."""
        with self._faults("does not make a model", self.source), self._quiet(), self.torch.device("meta"):
            model = self.kind(self.config)
        wanted = {name: tuple(values.shape) for name, values in model.state_dict().items()}
        for name, shape in wanted.items():
            held = self.source.entries.get(name)
            if held is not None and held[1].shape != shape:
                said = f"{self.source.folder}: {one_line(name, 80)} has the shape {held[1].shape}, its config.json says {shape}"
                raise ModelInvalid(said, checkpoints.AGAIN)
        needed = sum(math.prod(shape) for name, shape in wanted.items() if name in self.source.entries)
        lacking = sum(math.prod(shape) for name, shape in wanted.items()) - needed
        if lacking > 2 * self.source.numbers:
            raise ModelInvalid(
                f"{self.source.folder} lacks most of the weights that its {checkpoints.CONFIG} needs", checkpoints.AGAIN
            )
        return _tied(model)

    def _untied(self, model: Any) -> Any:
        """PEFT merges in place, so a change of one of two tied matrices would reach the other: here each gets its own first."""
        if self.unties:
            head = model.get_output_embeddings()
            head.weight = self.torch.nn.Parameter(model.get_input_embeddings().weight.detach().clone(), requires_grad=False)
            model.config.tie_word_embeddings = False
        return model

    def _dequantise(self, base: Any, how: Quantised) -> None:
        """Put the quantised weights, as they compute, in the place of the originals. They have computed nothing yet."""
        model = self.quantised(how)
        for name, part in model.named_modules():
            if hasattr(part.__dict__.get("_parameters", {}).get("weight"), "quant_state") or hasattr(part, "init_8bit_state"):
                values = self.peft.utils.integrations.dequantize_module_weight(part).detach().float()
                base.get_submodule(name).weight.data.copy_(values.reshape(base.get_submodule(name).weight.shape))

    def _require_unchanged(self, model: Any) -> None:
        """Raises ModelInvalid where merging changed what a tokenizer or a runtime relies on."""
        entry, head = model.get_input_embeddings(), model.get_output_embeddings()
        if entry.weight.shape[0] != self.vocabulary or (head is not None and head.weight.shape[0] != self.vocabulary):
            said = f"the merged vocabulary has {entry.weight.shape[0]} tokens, the base's {self.vocabulary}"
            raise ModelInvalid(said, "train without resizing the vocabulary")
        if _tied(model) != (self.tied and not self.unties):
            said = "merging changed whether input and output share their weights"
            raise ModelInvalid(said, "train without modules_to_save and without embeddings among the targets")

    def _write(self, model: Any, place: Path, form: str) -> None:
        entries, values = self.source.entries, model.state_dict()
        shared: set[int] = set()
        parts = []
        for name, tensor in values.items():
            held = entries.get(name)
            if held is None and tensor.data_ptr() in shared:
                continue  # the output of a tied model
            shared.add(tensor.data_ptr())
            chosen = form or (held[1].format if held else self.source.form)
            parts.append(Part(name, chosen, tuple(tensor.shape), held[0].name if held else ""))

        def raw(part: Part) -> Any:
            cast = values[part.name].detach().to(getattr(self.torch, writing.NAMES[part.form])).contiguous()
            if not bool(self.torch.isfinite(cast).all()):
                said = f"the merged {part.name} holds numbers that {part.form} cannot"
                raise ModelInvalid(said, 'write it in another form: form = "F32"')
            return cast.reshape(-1).view(self.torch.uint8).numpy().data

        writing.weights(place, parts, raw)
        changes: dict[str, Any] = {"tie_word_embeddings": False} if self.unties else {}
        if form and form != self.source.form:
            changes["torch_dtype" if "torch_dtype" in self.source.config else "dtype"] = writing.NAMES[form]
        writing.rest(self.source, place, changes)


def closeness(expected: Sequence[NDArray[np.float32]], found: Sequence[NDArray[np.float32]]) -> Closeness:
    largest, kl, count = 0.0, 0.0, 0
    for was, now in zip(expected, found, strict=True):
        largest = max(largest, float(np.abs(was - now).max()))
        kl += float(np.einsum("ij,ij->", np.exp(was), was - now, dtype=np.float64))
        count += len(was)
    return Closeness(largest, max(kl / count, 0.0))


def _tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight
