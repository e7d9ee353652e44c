"""A tokenizer's special tokens and its chat template as GGUF keys.

Source: gguf-py's vocab.py (SpecialVocab) of the converter's version, read from the same files: roles from tokenizer_config.json and
config.json, whether a text begins or ends with one from tokenizer.json's post_processor. Where that adds nothing before a text and
no file says a word about it, the key is written as false: llama.cpp's own default would add a token that training never saw.
"""

import re
from collections.abc import Mapping
from typing import Any

from data.errors import ModelInvalid
from data.sanitise import one_line
from export._gguf.checkpoint import CONFIG, TOKENIZER, TOKENIZER_CONFIG, Folder
from export._gguf.vocabulary import Vocabulary, added_tokens
from export.families import Family

_ROLES = ("bos", "eos", "unk", "sep", "pad", "mask")
_NO_BOS_SIZE = 49_152  # of SmolLM2's and Granite's vocabulary: llama.cpp's conversion/llama.py
_PHI_3 = re.compile("(phi)-?3", re.IGNORECASE)
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


def add(writer: Any, folder: Folder, family: Family, vocabulary: Vocabulary, template: str | None) -> None:
    """The keys about special tokens; template: in place of the checkpoint's own. Raises ModelInvalid for senseless files."""
    config = folder.json_or_empty(TOKENIZER_CONFIG)
    for role, number in _numbers(folder, config, len(vocabulary.tokens)).items():
        getattr(writer, f"add_{role}_token_id")(number)
    for role, added in _around(folder, family, config).items():
        getattr(writer, f"add_add_{role}_token")(added)
    prefix = _space_prefix(family, vocabulary, config)
    if prefix is not None:
        writer.add_add_space_prefix(prefix)
    text = chat_template(folder) if template is None else template
    if text:
        writer.add_chat_template(text)


def model_name(folder: Folder, name: str) -> str:
    """The name as it may stand in the file: llama.cpp drops spaces after special tokens where it says "phi-3", and only there.

    It then also requires tokens that other models lack, and crashes without them. Source: src/llama-vocab.cpp, "set attributes by
    model/tokenizer/architecture name".
    """
    added = {one.text: one for one in added_tokens(folder)}
    needed = {"</s>", "<|endoftext|>", "<unk>", "<s>"} <= added.keys()
    strips = needed and any(one.strips for one in added.values() if one.special)
    if strips:
        return name if _PHI_3.search(name) else f"{name} (phi-3)"
    return _PHI_3.sub(r"\1 3", name)


def chat_template(folder: Folder) -> str:
    """The checkpoint's chat template, "" where it has none: of its own file first, as transformers takes it."""
    for name in _TEMPLATE_FILES:
        if folder.has(name):
            return folder.text(name) if name.endswith(".jinja") else _plain(folder.json(name).get("chat_template"), name)
    return _plain(folder.json_or_empty(TOKENIZER_CONFIG).get("chat_template"), TOKENIZER_CONFIG)


def _plain(found: Any, name: str) -> str:
    """A template as text; of several the default one."""
    if isinstance(found, list):
        named = {str(one.get("name")): one.get("template") for one in found if isinstance(one, Mapping)}
        found = named.get("default")
    if found is None or isinstance(found, str):
        return found or ""
    raise ModelInvalid(f"the checkpoint's {name} holds no chat template but {one_line(str(found), 40)}")


def _numbers(folder: Folder, config: Mapping[str, Any], size: int) -> dict[str, int]:
    """Role -> token's number: by the name in tokenizer_config.json, else as config.json has it."""
    known = {added.text: added.id for added in reversed(added_tokens(folder))}
    model = folder.json(CONFIG)
    found = {}
    for role in _ROLES:
        entry = config.get(f"{role}_token")
        text = entry.get("content") if isinstance(entry, Mapping) else entry
        number = known.get(text) if isinstance(text, str) else None
        number = model.get(f"{role}_token_id") if number is None else number
        if type(number) is int and 0 <= number < size:
            found[role] = number
    return found


def _around(folder: Folder, family: Family, config: Mapping[str, Any]) -> dict[str, bool]:
    """Role -> whether that token is put around a text."""
    found = _processed(folder.json_or_empty(TOKENIZER), config)
    for role in ("bos", "eos", "sep"):
        said = config.get(f"add_{role}_token")
        if isinstance(said, bool):
            found.setdefault(role, said)
    if folder.has(TOKENIZER):
        found.setdefault("bos", False)
    if family.architecture == "llama" and family.vocabulary == _NO_BOS_SIZE:
        found["bos"] = False
    if family.architecture == "phi2":
        found.setdefault("bos", False)
    return found


def _processed(tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, bool]:
    """What tokenizer.json's post_processor adds: a token before and after a text. A missing key: it does not say."""
    processor = tokenizer.get("post_processor")
    parts = processor.get("processors", [processor]) if isinstance(processor, Mapping) else []
    found: dict[str, bool] = {}
    for part in parts if isinstance(parts, list) else []:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "ByteLevel":
            found.setdefault("bos", False)
            found.setdefault("eos", False)
        elif kind == "TemplateProcessing":
            single = part.get("single")
            ends = [_special(one) for one in (single[0], single[-1])] if isinstance(single, list) and len(single) > 1 else ["", ""]
            if ends[0]:
                found["bos"] = True
            if ends[1]:
                found["eos"] = True
    return found


def _special(piece: Any) -> str:
    inner = piece.get("SpecialToken") if isinstance(piece, Mapping) else None
    return str(inner.get("id") or "") if isinstance(inner, Mapping) else ""


def _space_prefix(family: Family, vocabulary: Vocabulary, config: Mapping[str, Any]) -> bool | None:
    """Whether a space is put before a text; None: nothing is said, and llama.cpp's default holds."""
    if family.architecture == "gemma2":
        return False
    said = config.get("add_prefix_space")
    if family.architecture == "llama" and isinstance(said, bool):
        return said
    return False if vocabulary.kind == "llama" and not vocabulary.dummy_prefix else None
