"""Tiny random models for tests of training: checkpoints of every supported family, with a byte-level tokenizer, and as GGUF.

Import it after `pytest.importorskip("torch")`.
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from data.chat import Message
from trainer.base import Base, load
from trainer.device import Policy
from trainer.recipe import BaseTable

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "<|reserved|>")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CLASSES = {
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "phi3": "Phi3",
    "phi": "Phi",
    "gemma2": "Gemma2",
}
MERGES = ("t h", "th e", "Ġ a", "Ġ t", "Ċ Ċ", "1 2", "Ġ Ġ")

CPU = Policy("cpu", "float32", "adamw_torch_fused", "sdpa", False, 1)
QUESTION = [Message("user", "What is the capital of France?")]


def read(model: Path | str, **more: object) -> Base:
    """The base of that name, loaded on the processor in float32; more: for the recipe's table."""
    return load(BaseTable(model=str(model), **more), CPU)


def refused(kind: type[Exception], words: str, model: Path | str, **more: object) -> str:
    """The message with which loading is refused, which must match `words`."""
    with pytest.raises(kind, match=words or None) as caught:
        read(model, **more)
    return str(caught.value)


def checkpoint(folder: Path, family: str = "llama", *, template: str | None = CHATML, seed: int = 0, **changes: Any) -> Path:
    """A folder with a random model of a family: 32 wide, 2 layers, grouped heads; `changes` go into its configuration.

    Of `changes` are taken out: adds_bos, spm (a SentencePiece vocabulary).
    """
    folder.mkdir(parents=True, exist_ok=True)
    bos = changes.pop("adds_bos", False)
    spm = changes.pop("spm", False)
    tokens = write_sentencepiece(folder, template, prefix=family != "gemma2") if spm else write_tokenizer(folder, template, bos)
    values = {
        "vocab_size": len(tokens) + 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "bos_token_id": tokens.index("<s>"),
        "eos_token_id": tokens.index("<|im_end|>"),
        "pad_token_id": None,
    }
    if family in ("gemma2", "qwen3"):
        values["head_dim"] = 8
    config = getattr(transformers, f"{CLASSES[family]}Config")(**values | changes)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{CLASSES[family]}ForCausalLM")(config)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, template: str | None = CHATML, adds_bos: bool = False) -> list[str]:
    """A byte-level BPE tokenizer beside a checkpoint, digits cut as SmolLM2 does; gives its tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    tokens = [*SPECIALS, *letters, *("".join(merge) for merge in merges)]
    built = Tokenizer(BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    built.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIALS])
    if adds_bos:
        built.post_processor = TemplateProcessing(single="<s>:0 $A:0", special_tokens=[("<s>", tokens.index("<s>"))])
    built.save(str(folder / "tokenizer.json"))
    said = {"bos_token": "<s>", "eos_token": {"content": "<|im_end|>", "special": True}, "model_max_length": 512}
    if template is not None:
        said["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return tokens


def write_sentencepiece(folder: Path, template: str | None = CHATML, *, prefix: bool = True) -> list[str]:
    """A SentencePiece vocabulary as Llama 2's, tokenizer.model and the tokenizer.json made of it; gives its tokens.

    prefix: whether a space is put before a text, as Llama does and Gemma does not.
    """
    joined = ("▁▁", "▁t", "he", "▁the", "▁a", "in", "▁▁▁▁", "er", "▁in", "th", "33", "▁▁▁▁▁▁▁▁")
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{code:02X}>", 0.0, 6) for code in range(256)]
    letters = ["▁", *(chr(code) for code in range(33, 127)), "é", "ß", "→"]
    pieces += [(text, float(-rank), 1) for rank, text in enumerate((*joined, *letters))]
    (folder / "tokenizer.model").write_bytes(sentencepiece_model(pieces, prefix=prefix))
    tokens = [text for text, _, _ in pieces]
    numbers = {text: number for number, text in enumerate(tokens)}
    merges = []
    for text in joined:
        cuts = [(text[:at], text[at:]) for at in range(1, len(text)) if text[:at] in numbers and text[at:] in numbers]
        merges += sorted(cuts, key=lambda cut: (numbers[cut[0]], numbers[cut[1]]))
    built = Tokenizer(BPE(vocab=numbers, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replaced = normalizers.Replace(" ", "▁")
    built.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replaced]) if prefix else replaced
    built.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    added = {**dict.fromkeys(("<unk>", "<s>", "</s>"), True), "<|im_start|>": True, "<|im_end|>": True, "<note>": False}
    built.add_tokens([AddedToken(text, normalized=False, special=special) for text, special in added.items()])
    built.post_processor = TemplateProcessing(single="<s>:0 $A:0", special_tokens=[("<s>", 1)])
    built.save(str(folder / "tokenizer.json"))
    listed = {str(built.token_to_id(text)): {"content": text, "special": special} for text, special in added.items()}
    said = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "added_tokens_decoder": listed}
    if template is not None:
        said["chat_template"] = template
    said["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(said), encoding="utf-8")
    return [built.id_to_token(number) for number in range(built.get_vocab_size())]


def sentencepiece_model(pieces: Sequence[tuple[str, float, int]], *, prefix: bool = True, kind: int = 2) -> bytes:
    """The file of a SentencePiece model: pieces with scores and kinds. kind: 2 BPE, 1 unigram."""

    def field(number: int, data: bytes) -> bytes:
        size, length = len(data), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + data

    rows = (field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind]) for text, score, kind in pieces)
    trainer, normaliser = bytes([0x18, kind, 0x98, 0x02, 1]), bytes([0x18, prefix, 0x20, 0])
    return b"".join(field(1, row) for row in rows) + field(2, trainer) + field(3, normaliser)


def change(folder: Path, file: str, **values: Any) -> None:
    """Change a JSON file; None removes a key."""
    path = folder / file
    found = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}), encoding="utf-8")


def split_weights(folder: Path) -> None:
    """The weights in two files with an index, as large models have them."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, kept in parts.items():
        save_file({name: weights[name] for name in kept}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, kept in parts.items() for name in kept}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "model.safetensors").unlink()


def as_gguf(folder: Path, path: Path, **changes: Any) -> Path:
    """The checkpoint of a llama or qwen2 as a GGUF file in F32, its rows of q and k ordered as llama.cpp has them.

    changes: architecture, pre, template, drop (a tensor's name), more (name and shape of one more), set (metadata by key).
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    family = changes.get("architecture", config["model_type"])
    writer = gguf.GGUFWriter(path, family)
    writer.add_type("model")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    for key, value in changes.get("set", {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_float32)(key, value)
    _write_tokenizer(writer, folder, config, changes)
    _write_weights(writer, folder, config, changes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict, changes: dict) -> None:
    built = Tokenizer.from_file(str(folder / "tokenizer.json"))
    known = [built.id_to_token(number) or f"[PAD{number}]" for number in range(config["vocab_size"])]
    unused = [token.startswith("[PAD") for token in known]
    kinds = [
        gguf.TokenType.CONTROL if token in SPECIALS else gguf.TokenType.UNUSED if odd else gguf.TokenType.NORMAL
        for token, odd in zip(known, unused, strict=True)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(changes.get("pre", "smollm"))
    writer.add_token_list(changes.get("tokens", known))
    writer.add_token_types(kinds)
    writer.add_token_merges(changes.get("merges", list(MERGES)))
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(changes.get("adds_bos", False))
    template = changes.get("template", CHATML)
    if template is not None:
        writer.add_chat_template(template)


def _write_weights(writer: gguf.GGUFWriter, folder: Path, config: dict, changes: dict) -> None:
    family = gguf.MODEL_ARCH.QWEN2 if config["model_type"] == "qwen2" else gguf.MODEL_ARCH.LLAMA
    names = gguf.get_tensor_name_map(family, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = tensor.float().numpy()
        part = name.split(".")[-2]
        if part in heads and family == gguf.MODEL_ARCH.LLAMA:
            rows = values.shape[0] // heads[part]
            values = values.reshape(heads[part], 2, rows // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        translated = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if translated == changes.get("nan"):
            values = values * np.nan
        if translated != changes.get("drop"):
            writer.add_tensor(translated, np.ascontiguousarray(values))
    for name, shape in changes.get("more", {}).items():
        writer.add_tensor(name, np.ones(shape, np.float32))
