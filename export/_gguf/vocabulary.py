"""A checkpoint's vocabulary as GGUF keys: SentencePiece from tokenizer.model, or BPE over bytes from tokenizer.json.

Source: llama.cpp's conversion/base.py (_create_vocab_sentencepiece, get_vocab_base) and phi.py. A tokenizer.json made from
SentencePiece's vocabulary has lost the scores, without which llama.cpp joins repeated spaces otherwise: then tokenizer.model is
required. Added tokens come from tokenizer.json too, since transformers 5 writes no added_tokens_decoder. Not covered: special
tokens and the chat template (`special`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data.errors import ModelInvalid
from data.sanitise import one_line
from export._gguf import pretokenizer, sentencepiece
from export._gguf.checkpoint import FIX, SENTENCEPIECE, TOKENIZER, TOKENIZER_CONFIG, Folder
from export._gguf.sentencepiece import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED
from export.families import Family

LONGEST_TOKEN = 1 << 16  # characters
_PAD_SCORE, _ADDED_SCORE = -10_000.0, -1_000.0
_LOOK_SPECIAL = ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
_FRAMES = (("<|", "|>"), ("<｜", "｜>"), ("<unused", ">"))
_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(slots=True)
class Vocabulary:
    """Tokens by id with their kinds. kind: "llama" (SentencePiece) with scores, or "gpt2" (BPE over bytes) with merges."""

    kind: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    dummy_prefix: bool = True
    notes: tuple[str, ...] = ()

    def add(self, writer: Any) -> None:
        """The vocabulary's own keys, in the reference's order."""
        writer.add_tokenizer_model(self.kind)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.scores:
            writer.add_token_scores(self.scores)
        writer.add_token_types(self.kinds)
        if self.merges:
            writer.add_token_merges(self.merges)


@dataclass(frozen=True, slots=True)
class Added:
    """A token that was added to the vocabulary. special: it is control, not text; strips: spaces after it are dropped."""

    id: int
    text: str
    special: bool
    strips: bool = False


def read(folder: Folder, family: Family) -> Vocabulary:
    """Raises ModelInvalid naming the file that is missing or damaged, and why it is needed."""
    if folder.has(SENTENCEPIECE):
        return _sentencepiece(folder, family)
    if not folder.has(TOKENIZER):
        raise ModelInvalid(
            f"there is no tokenizer in {folder.path}", f"copy the base model's {TOKENIZER} or {SENTENCEPIECE} into it"
        )
    tokenizer = folder.json(TOKENIZER)
    if not pretokenizer.is_byte_level(tokenizer):
        raise ModelInvalid(
            f"{folder.path} lacks {SENTENCEPIECE}, and {TOKENIZER} does not hold the scores that llama.cpp tokenises by",
            f"copy {SENTENCEPIECE} of the base model into it (transformers 5 does not save it)",
        )
    return _byte_level(folder, family, tokenizer)


def added_tokens(folder: Folder) -> list[Added]:
    """Of tokenizer.json and of tokenizer_config.json's added_tokens_decoder, whose word counts where both name an id."""
    found: dict[int, Added] = {}
    rows = folder.json_or_empty(TOKENIZER).get("added_tokens") or []
    listed = [(row.get("id"), row) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    decoder = folder.json_or_empty(TOKENIZER_CONFIG).get("added_tokens_decoder") or {}
    for key, row in (*listed, *(decoder.items() if isinstance(decoder, Mapping) else ())):
        number = int(key) if isinstance(key, str) and key.isdecimal() and len(key) < 9 else key
        text = row.get("content") if isinstance(row, Mapping) else None
        if type(number) is not int or number < 0 or not isinstance(text, str) or not 0 < len(text) <= LONGEST_TOKEN:
            raise ModelInvalid(f"{folder.path / TOKENIZER} has an added token that cannot be: {one_line(str(row), 80)}", FIX)
        found[number] = Added(number, text, row.get("special") is True, row.get("rstrip") is True)
    return [found[number] for number in sorted(found)]


def _sentencepiece(folder: Folder, family: Family) -> Vocabulary:
    path = folder.path / SENTENCEPIECE
    model = sentencepiece.read(path)
    size = family.vocabulary
    tokens = [f"[PAD{number}]" for number in range(size)]
    scores, kinds = [_PAD_SCORE] * size, [UNUSED] * size
    for number, piece in enumerate(model.pieces[:size]):
        tokens[number], scores[number] = piece.text, piece.score
        kinds[number] = NORMAL if piece.kind == USER_DEFINED else piece.kind
    _require_same(folder, model)
    for text, number in _beside(folder).items():
        if number < size:
            tokens[number], scores[number], kinds[number] = text, _ADDED_SCORE, USER_DEFINED
    for added in added_tokens(folder):
        if added.id < size:
            text, kind = _kind(added, plain=family.architecture == "phi3")
            tokens[added.id], scores[added.id], kinds[added.id] = text, _ADDED_SCORE, kind
    notes = (f"{SENTENCEPIECE} makes one space of several, llama.cpp keeps them",) if model.squeezes else ()
    return Vocabulary("llama", "default", tokens, kinds, scores, dummy_prefix=model.dummy_prefix, notes=notes)


def _require_same(folder: Folder, model: sentencepiece.Model) -> None:
    """Raise ModelInvalid where tokenizer.json lies beside tokenizer.model and gives a piece another number."""
    words = _words(folder.json_or_empty(TOKENIZER))
    for number, piece in enumerate(model.pieces):
        if words and piece.kind in (NORMAL, BYTE) and words.get(piece.text, number) != number:
            raise ModelInvalid(
                f"{folder.path / SENTENCEPIECE} and {TOKENIZER} differ: {one_line(piece.text, 40)!r} has two numbers",
                f"copy both from the base model into {folder.path}",
            )


def _beside(folder: Folder) -> dict[str, int]:
    """added_tokens.json."""
    found = folder.json_or_empty("added_tokens.json")
    if not all(type(number) is int and number >= 0 and 0 < len(text) <= LONGEST_TOKEN for text, number in found.items()):
        raise ModelInvalid(f"{folder.path / 'added_tokens.json'} names tokens that cannot be", FIX)
    return found


def _byte_level(folder: Folder, family: Family, tokenizer: Mapping[str, Any]) -> Vocabulary:
    words = _words(tokenizer)
    added = {one.id: one for one in added_tokens(folder)}
    by_number = {number: text for text, number in words.items()} | {number: one.text for number, one in added.items()}
    largest = max(by_number, default=-1)
    if len(by_number) < len(words) or not 0 <= largest < family.vocabulary:
        raise ModelInvalid(
            f"{folder.path / TOKENIZER} has tokens up to number {largest}, and the model {family.vocabulary} embeddings",
            "save the model and its tokenizer together",
        )
    named = _named(folder)
    tokens, kinds = [], []
    for number in range(family.vocabulary):
        text, kind = by_number.get(number, f"[PAD{number}]"), NORMAL if number in by_number else UNUSED
        if number in added or (number in by_number and text in named):
            text, kind = _kind(Added(number, text, text in named or (number in added and added[number].special)))
        tokens.append(text)
        kinds.append(kind)
    merges = list(_merges(tokenizer["model"].get("merges"), folder))
    pre = pretokenizer.name(tokenizer, folder.text(TOKENIZER))
    return Vocabulary("gpt2", "phi-2" if pre == "gpt-2" and family.architecture == "phi2" else pre, tokens, kinds, merges=merges)


def _words(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """The vocabulary of a tokenizer.json, empty where there is no file. Raises ModelInvalid."""
    model = tokenizer.get("model") if tokenizer else {"vocab": {}}
    words = model.get("vocab") if isinstance(model, Mapping) else None
    if not isinstance(words, dict) or not all(type(number) is int and len(text) <= LONGEST_TOKEN for text, number in words.items()):
        raise ModelInvalid(f"the checkpoint's {TOKENIZER} has no vocabulary of words with numbers", FIX)
    return words


def _merges(found: Any, folder: Folder) -> Iterator[str]:
    """As "left right"; a space inside a part is written as llama.cpp's letter for it."""
    for merge in found if isinstance(found, list) else (None,):
        match merge:
            case str():
                yield merge
            case [str(left), str(right)]:
                yield " ".join(part.replace(" ", "Ġ") for part in (left, right))
            case _:
                raise ModelInvalid(f"{folder.path / TOKENIZER} has merges that are no pairs", FIX)


def _named(folder: Folder) -> set[str]:
    """The texts of the tokens that tokenizer_config.json gives a role."""
    config = folder.json_or_empty(TOKENIZER_CONFIG)
    values: list[Any] = [config.get(role) for role in _NAMED]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        more: Any = config.get(key)
        values += list(more.values()) if isinstance(more, Mapping) else list(more) if isinstance(more, Sequence) else []
    texts = (value.get("content") if isinstance(value, Mapping) else value for value in values)
    return {text for text in texts if isinstance(text, str)}


def _kind(added: Added, plain: bool = False) -> tuple[str, int]:
    """The text and kind of an added token; plain: as Phi 3's converter has it, which looks only at `special`."""
    looks = added.text in _LOOK_SPECIAL or any(
        added.text.startswith(left) and added.text.endswith(right) for left, right in _FRAMES
    )
    if added.special or (looks and not plain):
        return added.text, CONTROL
    return added.text if plain else added.text.replace("▁", " "), USER_DEFINED
