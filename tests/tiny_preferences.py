"""A tiny random model with the embedded model's own tokenizer, feedback rows, and the work of a preference or reward stage."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from data import catalog
from data.chat import Message
from data.datasets.rows import Origin, Row
from data.domains import Domain
from trainer import adapter
from trainer._base import gguf_tokenizer
from trainer._base.gguf_file import GgufFile
from trainer.base import Base, Identity
from trainer.device import Policy
from trainer.material import Material, digest
from trainer.recipe import DataTable, LoraTable, Recipe, StageTable
from trainer.stages import Work

CPU = Policy("cpu", "float32", "adamw_torch_fused", "sdpa", False, 1)
GOOD = "- Boil it.\n- Cool it."
BAD = "Great question! There are so many things that one could say about it."


@cache
def tokenizer() -> Any:
    """That of SmolLM2, from the packaged GGUF file."""
    return gguf_tokenizer.tokenizer(GgufFile(catalog.source_file(catalog.specs()["smollm2-135m"])))


def base() -> Base:
    """Random weights, the same each time."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=len(tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=tokenizer().pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.requires_grad_(False)
    model.train(False)
    identity = Identity("tiny", "", "llama", 1, "", "", "", "", 1)
    return Base(model, tokenizer(), identity, (0, 2), "<|im_end|>", 1024)


def thumb(number: int, good: bool) -> Row:
    """A judged answer as the log yields it."""
    return Row("thumb", f"How do I boil egg {number}?", Origin("log", number), completion=GOOD if good else BAD, thumb=good)


def correction(number: int) -> Row:
    """A corrected answer as the log yields it."""
    return Row("correction", f"How do I boil egg {number}?", Origin("log", number), completion=GOOD, rejected=BAD)


def labelled(number: int, domain: Domain) -> Row:
    """A row with the label in turn."""
    label = domain.labels[number % len(domain.labels)]
    example = next(one for one in domain.examples if one.label == label)
    return Row("label", example.text, Origin("pack", number), label=label, output=example.output)


def work(
    folder: Path,
    kind: str,
    train: list[Row],
    validation: list[Row] | None = None,
    domain: Domain | None = None,
    dropout: float = 0.0,
    **stage: Any,
) -> Work:
    """A stage on the tiny model with a fresh adapter; `stage` are the stage's own fields."""
    table = StageTable.model_validate(
        {"kind": kind, "batch": 4, "epochs": 4, "learning_rate": 1e-2, "schedule": "constant", "warmup": 0.0, **stage}
    )
    recipe = Recipe(
        name="tiny",
        domain=domain.name if domain else "",
        data=DataTable(train=("log",), overlong="truncate", lost=1.0),
        lora=LoraTable(rank=4, alpha=8, dropout=dropout),
        stages=(table,),
    )
    found = base()
    rows, held_out = tuple(train), tuple(validation or ())
    material = Material(rows, held_out, (), digest(rows), digest(held_out))
    folder.mkdir(parents=True, exist_ok=True)
    return Work(recipe, table, 1, domain, found, adapter.attach(found, recipe.lora), CPU, material, folder)


def weights(model: Any, kind: str) -> dict[str, torch.Tensor]:
    """Copies of the adapter's weights ("lora_A", "lora_B") or of all others ("base")."""
    chosen = model.named_parameters()
    wanted = {name: value for name, value in chosen if (kind in name if kind != "base" else "lora_" not in name)}
    return {name: value.detach().clone() for name, value in wanted.items()}


def prompt_ids(found: Base, text: str) -> tuple[int, ...]:
    """As serving makes them."""
    return tuple(found.prompt_ids([Message("user", text)]))
