"""Tiny GGUF files with random weights for tests: chat models with either kind of tokeniser, adapters, and an encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

CHATML = ("<|im_start|>", "<|im_end|>")
WORDS = ("the", "capital", "of", "France", "is", "Paris", "hello", "user", "assistant", "system", "a", "b", "INST")


def bpe_model(path: Path, *, specials: Sequence[str] = CHATML, template: str | None = None, **changes: Any) -> Path:
    """A llama with a byte-level BPE vocabulary; the last special token ends an answer."""
    tokens = [*_byte_letters(), *(f"Ġ{word}" for word in ("a", "b")), *specials]
    kinds = [gguf.TokenType.NORMAL] * (len(tokens) - len(specials)) + [gguf.TokenType.CONTROL] * len(specials)
    vocabulary = {
        "model": "gpt2",
        "pre": changes.get("pre", "smollm"),
        "merges": ["Ġ a", "Ġ b"],
        "bos": len(tokens) - len(specials),
        "eos": len(tokens) - 1,
    }
    return _llama(path, tokens, kinds, vocabulary, template, changes)


def spm_model(
    path: Path, *, specials: Sequence[str] = (), template: str | None = None, bytes_too: bool = True, **changes: Any
) -> Path:
    """A llama with a SentencePiece vocabulary: it puts a space before every text and has <s> and </s>."""
    words = [f"▁{word}" for word in WORDS] + list(WORDS)
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{code:02X}>" for code in range(256) if bytes_too), "▁", *words]
    tokens += [letter for letter in letters if letter not in tokens]
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    kinds[:3] = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds = [gguf.TokenType.BYTE if token.startswith("<0x") else kind for token, kind in zip(tokens, kinds, strict=True)]
    tokens, kinds = [*tokens, *specials], [*kinds, *[gguf.TokenType.CONTROL] * len(specials)]
    scores = [float(len(token)) for token in tokens]
    vocabulary = {"model": "llama", "pre": "default", "scores": scores, "bos": 1, "eos": 2, "add_bos": True}
    return _llama(path, tokens, kinds, vocabulary, template, changes)


def adapter(path: Path, base: Path, *, strength: float, seed: int = 0, rank: int = 2, **changes: Any) -> Path:
    """A LoRA adapter for the attention queries of `base`; strength 0 makes it do nothing."""
    reader = gguf.GGUFReader(base)
    found = {tensor.name: tensor for tensor in reader.tensors}
    architecture = str(bytes(reader.fields["general.architecture"].parts[-1]), "utf-8")
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, changes.get("architecture", architecture))
    writer.add_type(changes.get("type", "adapter"))
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0)
    for name, tensor in found.items():
        if name.endswith("attn_q.weight"):
            columns, rows = (int(size) for size in tensor.shape)
            writer.add_tensor(f"{name}.lora_a", random.normal(size=(rank, columns)).astype(np.float32))
            writer.add_tensor(f"{name}.lora_b", (strength * random.normal(size=(rows, rank))).astype(np.float32))
    return _finish(writer, path)


def encoder(path: Path, *, width: int = 32, context: int = 64) -> Path:
    """A one-layer BERT with mean pooling."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"▁{word}" for word in WORDS)]
    words += [f"▁{chr(code)}" for code in range(97, 123) if f"▁{chr(code)}" not in words] + [chr(code) for code in range(97, 123)]
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(2 * width)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_type_count(2)
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(words) - 5))
    for name, token in (("padding", 0), ("unknown", 1), ("cls", 2), ("seperator", 3), ("mask", 4), ("bos", 2), ("eos", 3)):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)
    shapes = {"token_embd": (len(words), width), "token_types": (2, width), "position_embd": (context, width)}
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        shapes[f"blk.0.{part}"] = (width, width)
    shapes |= {"blk.0.ffn_up": (2 * width, width), "blk.0.ffn_down": (width, 2 * width)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(scale=0.3, size=shape).astype(np.float32))
        if name.startswith("blk"):
            writer.add_tensor(f"{name}.bias", np.zeros(shape[0], np.float32))
    for name in ("token_embd_norm", "blk.0.attn_output_norm", "blk.0.layer_output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(width, np.float32))
    return _finish(writer, path)


def _llama(
    path: Path,
    tokens: Sequence[str],
    kinds: Sequence[int],
    vocabulary: Mapping[str, Any],
    template: str | None,
    changes: Mapping[str, Any],
) -> Path:
    width, heads, layers, context = (
        changes.get(key, value) for key, value in (("width", 64), ("heads", 2), ("layers", 1), ("context", 512))
    )
    writer = gguf.GGUFWriter(path, changes.get("architecture", "llama"))
    writer.add_type("model")
    writer.add_name(changes.get("name", "tiny"))
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(2 * width)
    writer.add_block_count(changes.get("block_count", layers))
    writer.add_head_count(heads)
    writer.add_head_count_kv(changes.get("heads_kv", heads))
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_file_type(0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model(vocabulary["model"])
    writer.add_tokenizer_pre(vocabulary["pre"])
    writer.add_token_list(changes.get("tokens", tokens))
    writer.add_token_types(kinds)
    if "merges" in vocabulary:
        writer.add_token_merges(vocabulary["merges"])
    if "scores" in vocabulary:
        writer.add_token_scores(vocabulary["scores"])
    writer.add_bos_token_id(vocabulary["bos"])
    writer.add_eos_token_id(vocabulary["eos"])
    writer.add_add_bos_token(vocabulary.get("add_bos", False))
    if template is not None:
        writer.add_chat_template(template)
    _weights(writer, len(tokens), width, layers, changes)
    return _finish(writer, path)


def _weights(writer: gguf.GGUFWriter, vocab_size: int, width: int, layers: int, changes: Mapping[str, Any]) -> None:
    random = np.random.default_rng(changes.get("seed", 0))
    shapes = {"token_embd.weight": (vocab_size, width), "output.weight": (vocab_size, width), "output_norm.weight": (width,)}
    for layer in range(layers):
        shapes |= {f"blk.{layer}.{part}.weight": (width, width) for part in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"blk.{layer}.{part}_norm.weight": (width,) for part in ("attn", "ffn")}
        shapes |= {f"blk.{layer}.ffn_gate.weight": (2 * width, width), f"blk.{layer}.ffn_up.weight": (2 * width, width)}
        shapes[f"blk.{layer}.ffn_down.weight"] = (width, 2 * width)
    for name, shape in shapes.items():
        values = np.ones(shape) if len(shape) == 1 else random.normal(scale=changes.get("scale", 0.5), size=shape)
        if changes.get("nan") and name == "output.weight":
            values = values * np.nan
        writer.add_tensor(name, values.astype(np.float32))


def _finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _byte_letters() -> list[str]:
    """The letters that stand for the 256 bytes in GPT-2's vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [code for code in range(256) if code not in plain]
    letters = {code: chr(code) for code in plain} | {code: chr(256 + number) for number, code in enumerate(rest)}
    return [letters[code] for code in range(256)]
