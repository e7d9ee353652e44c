"""The shape of a model: the few numbers of its configuration that say how large it is. Not covered: anything that is learnt."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data.errors import InputError
from trainer.recipe import LoraTable

FILE = Path(__file__).with_name("shapes.toml")
BIASES = {"qwen2": ("q_proj", "k_proj", "v_proj"), "phi": ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2")}
"""Linear layers with a bias, by family; the others have none."""


@dataclass(frozen=True, slots=True)
class Shape:
    """hidden, ff: widths; heads: of queries, kv_heads: of keys and values, head_dim wide each; tied: the head is the embedding."""

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ff: int
    vocab: int
    tied: bool

    @property
    def queries(self) -> int:
        """The width of all queries together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """The width of all keys together, and of all values."""
        return self.kv_heads * self.head_dim

    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one block: name -> (inputs, outputs)."""
        hidden, queries, keys, ff = self.hidden, self.queries, self.keys, self.ff
        if self.family == "phi3":
            attention = {"qkv_proj": (hidden, queries + 2 * keys), "o_proj": (queries, hidden)}
            return {**attention, "gate_up_proj": (hidden, 2 * ff), "down_proj": (ff, hidden)}
        attention = {"q_proj": (hidden, queries), "k_proj": (hidden, keys), "v_proj": (hidden, keys)}
        if self.family == "phi":
            return {**attention, "dense": (queries, hidden), "fc1": (hidden, ff), "fc2": (ff, hidden)}
        mlp = {"gate_proj": (hidden, ff), "up_proj": (hidden, ff), "down_proj": (ff, hidden)}
        return {**attention, "o_proj": (queries, hidden), **mlp}

    @property
    def linear_parameters(self) -> int:
        """The weights of all blocks' linear layers: what is quantised, and what makes up nearly all of the work."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears().values())

    @property
    def other_parameters(self) -> int:
        """Embeddings, head, norms and biases."""
        biases = sum(outputs for name, (_, outputs) in self.linears().items() if name in BIASES.get(self.family, ()))
        norms = {"gemma2": 4, "phi": 2}.get(self.family, 2) * self.hidden
        last = self.hidden
        head = 0 if self.tied else self.vocab * self.hidden
        if self.family == "phi":  # one LayerNorm a block, with a bias; the head has a bias too
            last, head = 2 * self.hidden, head + self.vocab
        return self.vocab * self.hidden + head + self.layers * (norms + biases) + last

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.linear_parameters + self.other_parameters


def of(config: Any) -> Shape:
    """The shape that a configuration of transformers describes. Raises InputError where it lacks a number."""
    try:
        heads = int(config.num_attention_heads)
        hidden = int(config.hidden_size)
        return Shape(
            family=str(config.model_type),
            hidden=hidden,
            layers=int(config.num_hidden_layers),
            heads=heads,
            kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
            head_dim=int(getattr(config, "head_dim", None) or hidden // heads),
            ff=int(config.intermediate_size),
            vocab=int(config.vocab_size),
            tied=bool(getattr(config, "tie_word_embeddings", True)),
        )
    except AttributeError as error:
        raise InputError(f"the model's configuration lacks a number that says how large it is: {error}") from error


@cache
def known() -> Mapping[str, Shape]:
    """The shapes of shapes.toml, by the name under which a recipe asks for the model."""
    return {name: Shape(**numbers) for name, numbers in tomllib.loads(FILE.read_text("utf-8")).items()}


def targets(shape: Shape, lora: LoraTable) -> dict[str, tuple[int, int]]:
    """The linear layers of a block that get an adapter."""
    found = shape.linears()
    return found if lora.targets == "all-linear" else {name: found[name] for name in lora.targets if name in found}


def trained_layers(shape: Shape, lora: LoraTable) -> int:
    """How many blocks get an adapter."""
    return shape.layers if lora.layers == "all" else min(shape.layers, int(lora.layers.removeprefix("top:")))


def adapter_parameters(shape: Shape, lora: LoraTable) -> int:
    """The weights that are trained: rank * (inputs + outputs) a layer (Hu et al. 2021), with DoRA a magnitude an output more."""
    each = sum(lora.rank * (inputs + outputs) + outputs * lora.dora for inputs, outputs in targets(shape, lora).values())
    return each * trained_layers(shape, lora)
