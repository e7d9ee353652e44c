"""A BERT sentence encoder as sentence-transformers packages it (safetensors, vocab.txt) -> one GGUF file for llama.cpp.

Tensors get llama.cpp's names from the `gguf` package; matrices become F16, while biases, norms, positions and token types
stay F32, as in llama.cpp's own converter (conversion/bert.py, conversion/base.py), whose output this one equals. Words of
the vocabulary get llama.cpp's convention for WordPiece: "##ing" -> "ing", "run" -> "▁run" (src/llama-vocab.cpp). Not covered:
other architectures, cased vocabularies, quantising (`export.quantise`), and Korean in composed form: llama.cpp does not take
Hangul apart, as the vocabulary expects, so such text must be given to it in Unicode's form NFD.
"""

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from data.errors import ModelInvalid
from export.files import whole_file
from export.safetensors import Safetensors

JSON_BYTES = 4 << 20  # of a JSON file or a vocabulary, at most
ARCHITECTURE = "bert"
_SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
_UNUSED_TENSORS = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")  # a sentence vector needs none of them
_F32_TENSORS = ("position_embd.weight", "token_types.weight")
_Size = Field(gt=0, le=1 << 20)


class _Config(BaseModel):
    """What config.json says of a BERT."""

    architectures: list[str]
    model_type: Literal["bert"]
    hidden_act: Literal["gelu"]
    position_embedding_type: Literal["absolute"] = "absolute"
    hidden_size: int = _Size
    intermediate_size: int = _Size
    num_attention_heads: int = _Size
    num_hidden_layers: int = Field(gt=0, le=256)
    max_position_embeddings: int = _Size
    type_vocab_size: int = _Size
    vocab_size: int = _Size
    layer_norm_eps: float = Field(gt=0, lt=1)


class _Tokeniser(BaseModel):
    """What tokenizer_config.json says. llama.cpp drops accents where it lower-cases, which is the default of both."""

    do_lower_case: Literal[True]
    strip_accents: Literal[True, None] = None
    tokenize_chinese_chars: Literal[True] = True


class _Pooling(BaseModel):
    """What 1_Pooling/config.json says."""

    pooling_mode_mean_tokens: bool = False
    pooling_mode_cls_token: bool = False


_Json = TypeVar("_Json", bound=BaseModel)


def convert(source: Path, target: Path, name: str, licence: str = "") -> int:
    """Write the encoder of `source`, a model.safetensors beside its other files, to `target`; returns the size in bytes.

    Raises ModelInvalid naming the file that is missing, damaged or of another kind, InputError where `target` cannot be
    written. The same input gives the same bytes.
    """
    folder = source.parent
    config = _read(folder / "config.json", _Config)
    _read(folder / "tokenizer_config.json", _Tokeniser)
    tokens = _vocabulary(folder / "vocab.txt", config.vocab_size)
    tensors = _tensors(Safetensors(source), config)
    with whole_file(target) as temporary:
        from gguf import GGUFWriter

        writer = GGUFWriter(temporary, ARCHITECTURE)
        writer.add_type("model")
        writer.add_name(name)
        if licence:
            writer.add_license(licence)
        _add_config(writer, config, _pooling(folder))
        _add_vocabulary(writer, tokens)
        for tensor, values in tensors.items():
            writer.add_tensor(tensor, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return target.stat().st_size


def _add_config(writer: Any, config: _Config, pooling: Any) -> None:
    """The keys in the order of the reference converter."""
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    writer.add_causal_attention(False)
    writer.add_pooling_type(pooling)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_token_type_count(config.type_vocab_size)


def _add_vocabulary(writer: Any, tokens: list[str]) -> None:
    from gguf import TokenType

    special = {token: tokens.index(token) for token in _SPECIAL}
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token if token in special else _phantom(token) for token in tokens])
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    writer.add_bos_token_id(special["[CLS]"])
    writer.add_eos_token_id(special["[SEP]"])
    writer.add_unk_token_id(special["[UNK]"])
    writer.add_sep_token_id(special["[SEP]"])
    writer.add_pad_token_id(special["[PAD]"])
    writer.add_mask_token_id(special["[MASK]"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_add_sep_token(False)  # between two texts; the one after a text is the end token
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", True)  # gguf 0.19 has no method for it


def _phantom(token: str) -> str:
    return token[2:] if token.startswith("##") else f"▁{token}"


def _tensors(weights: Safetensors, config: _Config) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors under llama.cpp's names in their final number format; raises ModelInvalid for one missing, odd or unknown."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    names = get_tensor_name_map(MODEL_ARCH.BERT, config.num_hidden_layers)
    wanted = _shapes(config)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name in weights:
        plain = name.removeprefix("bert.")
        if plain in _UNUSED_TENSORS:
            continue
        target = names.get_name(plain, try_suffixes=(".weight", ".bias"))
        shape = weights.entries[name].shape
        if target in found or wanted.get(target) != shape:
            raise ModelInvalid(f"{weights.path} has a tensor {name[:80]!r} of shape {shape}, which no BERT of this size has")
        values = weights[name]
        half = values.ndim == 2 and target not in _F32_TENSORS
        with np.errstate(over="ignore"):  # found out in the next line
            found[target] = values.astype(np.float16) if half else values
        if half and not np.isfinite(found[target]).all():
            raise ModelInvalid(f"{weights.path}: the tensor {name[:80]!r} holds values too large for F16")
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ModelInvalid(f"{weights.path} lacks {len(missing)} tensors, the first of which is {missing[0]}")
    return found


def _shapes(config: _Config) -> dict[str, tuple[int, ...]]:
    """Every tensor that the model must have: llama.cpp's name -> shape (rows, columns)."""
    width, inner = config.hidden_size, config.intermediate_size
    matrices = {
        "attn_q": (width, width),
        "attn_k": (width, width),
        "attn_v": (width, width),
        "attn_output": (width, width),
        "ffn_up": (inner, width),
        "ffn_down": (width, inner),
    }
    found: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (config.vocab_size, width),
        "position_embd.weight": (config.max_position_embeddings, width),
        "token_types.weight": (config.type_vocab_size, width),
        "token_embd_norm.weight": (width,),
        "token_embd_norm.bias": (width,),
    }
    for block in range(config.num_hidden_layers):
        for name, shape in matrices.items():
            found[f"blk.{block}.{name}.weight"] = shape
            found[f"blk.{block}.{name}.bias"] = shape[:1]
        for name in ("attn_output_norm", "layer_output_norm"):
            found[f"blk.{block}.{name}.weight"] = found[f"blk.{block}.{name}.bias"] = (width,)
    return found


def _vocabulary(path: Path, size: int) -> list[str]:
    tokens = _text(path).split("\n")
    if tokens[-1] == "":
        tokens.pop()
    if len(tokens) != size or len(set(tokens)) != size or not all(tokens):
        raise ModelInvalid(f"{path} should hold {size} different words, one a line")
    missing = [token for token in _SPECIAL if token not in tokens]
    if missing:
        raise ModelInvalid(f"{path} lacks the word {missing[0]}")
    return tokens


def _pooling(folder: Path) -> Any:
    from gguf import PoolingType

    pooling = _read(folder / "1_Pooling" / "config.json", _Pooling)
    if pooling.pooling_mode_mean_tokens == pooling.pooling_mode_cls_token:
        raise ModelInvalid(f"{folder / '1_Pooling'}: only mean or CLS pooling can be converted")
    return PoolingType.MEAN if pooling.pooling_mode_mean_tokens else PoolingType.CLS


def _read(path: Path, kind: type[_Json]) -> _Json:
    try:
        return kind.model_validate(json.loads(_text(path)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelInvalid(f"{path}: {key or 'it'} is not of a kind that can be converted: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise ModelInvalid(f"{path} is not sound JSON: {error}") from error


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > JSON_BYTES:
            raise ModelInvalid(f"{path} is too large to be what its name says")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelInvalid(f"{path} cannot be read: {error}", "install the model's package again") from error
