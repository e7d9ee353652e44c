"""Which of llama.cpp's pre-tokenizers (`tokenizer.ggml.pre`) cuts text as a byte-level BPE tokenizer.json does.

llama.cpp names them by a hash of how a fixed text is tokenised (conversion/base.py, get_vocab_base_pre), which knows the published
vocabularies and no other. So that a vocabulary which is not published can be written too, one whose pre_tokenizer says exactly what
llama.cpp's code computes (src/llama-vocab.cpp) is taken as well. Not covered: proving it, as `export.verify` does with token ids.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from data.errors import ModelInvalid

TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= "
    "нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, "
    "'D you like some tea? We'Ve a'lL"
)
KNOWN = {
    "0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5": "llama-bpe",  # Llama 3
    "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea": "qwen2",  # Qwen 1.5 to 3
    "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249": "smollm",
    "fcace8b9cac38ce847670c970cd5892031a753a1ef381abd1d9af00f713da085": "phi-2",
    "63b97e4253352e6f357cc59ea5b583e3a680eaeaf2632188c2b952de2588485e": "tekken",  # Mistral Nemo
    "b3f499bb4255f8ca19fccd664443283318f2fd2414d5e0b040fbdd0cc195d6c5": "deepseek-r1-qwen",
}
"""sha256 of the printed list of TEXT's tokens -> name."""

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CUTS = {_WORDS + r"\p{N}{1,3}" + _REST: ("llama-bpe", True), _WORDS + r"\p{N}" + _REST: ("qwen2", False)}
"""A Split's pattern -> name, and whether words that are tokens skip the merges."""
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False}
_FIX = "convert it where its pre-tokenizer is known, or ask llama.cpp to add it"


def is_byte_level(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json is BPE over bytes, as GPT-2's; SentencePiece's vocabularies are over characters."""
    model, parts = tokenizer.get("model"), _parts(tokenizer.get("pre_tokenizer"), "pretokenizers")
    kind = model.get("type", "BPE") if isinstance(model, Mapping) else ""
    return kind == "BPE" and any(part.get("type") == "ByteLevel" for part in parts)


def name(tokenizer: Mapping[str, Any], text: str) -> str:
    """The pre-tokenizer's name; tokenizer: what `text`, the tokenizer.json, says. Raises ModelInvalid for one that is not known."""
    found = KNOWN.get(_digest(text)) or _by_structure(tokenizer)
    if not found:
        raise ModelInvalid("the checkpoint's tokenizer cuts text in a way that llama.cpp is not known to have", _FIX)
    return found


def _digest(text: str) -> str:
    """Of the fixed text's tokens, special ones included; "" where the tokenizers package is not installed or refuses the file."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return ""
    try:
        built = Tokenizer.from_str(text)
        built.no_truncation()
        built.no_padding()
        ids = built.encode(TEXT).ids
    except Exception as error:  # the library has no narrower kind
        raise ModelInvalid(f"the checkpoint's tokenizer.json does not make a tokenizer: {str(error)[:120]}") from error
    return hashlib.sha256(str(ids).encode()).hexdigest()


def _by_structure(tokenizer: Mapping[str, Any]) -> str:
    """The name by what the pre_tokenizer says, "" where it is none of those that llama.cpp computes for these families."""
    if any(part.get("type") != "NFC" for part in _parts(tokenizer.get("normalizer"), "normalizers")):
        return ""
    parts = [dict(part) for part in _parts(tokenizer.get("pre_tokenizer"), "pretokenizers")]
    skips = bool(tokenizer["model"].get("ignore_merges", False))
    last = parts.pop() if parts else {}
    regex = last.pop("use_regex", True)
    last.pop("trim_offsets", None)
    if last != _BYTE_LEVEL or len(parts) > 1:
        return ""
    if regex:
        plain = "gpt-2" if not parts else "smollm" if parts == [{"type": "Digits", "individual_digits": True}] else ""
        return "" if skips else plain
    pattern = parts[0].get("pattern") if parts and parts[0].get("type") == "Split" else None
    wanted = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    found, skipping = _CUTS.get(str(pattern.get("Regex")) if isinstance(pattern, Mapping) else "", ("", False))
    return found if parts == [wanted] and skips == skipping else ""


def _parts(found: Any, inner: str) -> list[Mapping[str, Any]]:
    """A component of tokenizer.json as a list of plain ones."""
    if not isinstance(found, Mapping):
        return []
    parts = found.get(inner, []) if found.get("type") == "Sequence" else [found]
    return [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list) else []
