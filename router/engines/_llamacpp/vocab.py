"""A model's vocabulary: text to tokens, tokens to bytes, and which texts are control tokens.

Text from outside must never become a control token: `plain` breaks every such occurrence with MARK, a private-use
character at which `tokenise` cuts the text, so that no part contains the whole of a control token. Very long words are cut
too, because llama.cpp's regular expressions overflow the stack on them. Not covered: turning bytes into text (`text`), and
the chat template (`template`).
"""

import re
import unicodedata
from collections.abc import Iterable
from ctypes import create_string_buffer
from functools import cached_property, partial
from typing import Any

MARK = "\ue000"
_LONG_RUN = re.compile(r"\S{512}|\s{512}")  # a stack of 8 MiB overflows at 22000 characters (deepseek-llm, tekken, llama4)
_SPECIAL = 1 << 0 | 1 << 3 | 1 << 4  # LLAMA_TOKEN_ATTR_UNKNOWN, _CONTROL, _USER_DEFINED
_CONTROL = 1 << 0 | 1 << 3
_SPM, _BPE, _WPM = 1, 2, 3  # LLAMA_VOCAB_TYPE_SPM, LLAMA_VOCAB_TYPE_BPE, LLAMA_VOCAB_TYPE_WPM
_SHOWN = frozenset(("<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>"))
# control tokens in some models, yet part of what the model says


class Vocab:
    """The vocabulary of one loaded model; valid as long as the model is."""

    def __init__(self, api: Any, pointer: int) -> None:
        self._api = api
        self._pointer = pointer
        self.size: int = api.llama_vocab_n_tokens(pointer)
        self.adds_bos: bool = api.llama_vocab_get_add_bos(pointer)
        self.bos: int = api.llama_vocab_bos(pointer)
        self.eos: int = api.llama_vocab_eos(pointer)
        self.spaces_first = api.llama_vocab_type(pointer) == _SPM
        self._cuts_freely = api.llama_vocab_type(pointer) == _BPE
        self._decomposes = api.llama_vocab_type(pointer) == _WPM
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}

    def text(self, token: int) -> str:
        """The token as the vocabulary spells it, "" for no token."""
        return self._api.llama_vocab_get_text(self._pointer, token).decode("utf-8", "replace") if 0 <= token < self.size else ""

    def piece(self, token: int) -> bytes:
        """The bytes that the token stands for in an answer; none for control tokens."""
        found = self._pieces.get(token)
        if found is None:
            shown = self.text(token) in _SHOWN
            found = self._pieces[token] = self._bytes(token, special=shown)
        return found

    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer."""
        found = self._ends.get(token)
        if found is None:
            found = self._ends[token] = self._api.llama_vocab_is_eog(self._pointer, token)
        return found

    def is_control(self, token: int) -> bool:
        """Whether the token steers the model instead of standing for text."""
        return bool(self._api.llama_vocab_get_attr(self._pointer, token) & _CONTROL)

    def tokenise(self, text: str) -> list[int]:
        """The tokens of a rendered prompt: control tokens are read, but none across a MARK, which itself vanishes."""
        if self._cuts_freely and _LONG_RUN.search(text):
            text = "".join(part if part in self.specials else _cut(part) for part in self._around_specials.split(text))
        return self._joined(text, special=True)

    def tokenise_text(self, text: str) -> list[int]:
        """The tokens of plain text, in which nothing is a control token."""
        text = self.plain(text)
        return self._joined(_cut(text) if self._cuts_freely else text, special=False)

    def tokenise_within(self, text: str) -> list[int]:
        """The tokens of plain text that goes on where other text ended, in which nothing is a control token."""
        parts = self.plain(_cut(text) if self._cuts_freely else text).split(MARK)
        return [token for part in parts if part for token in self._continued(part, special=False)]

    def tokenise_document(self, text: str) -> list[int]:
        """The tokens of plain text with the start and end tokens that the model wants around a document."""
        if self._cuts_freely:
            text = _cut(text.replace(MARK, "")).replace(MARK, " . ")
        if self._decomposes:  # as BERT's own tokeniser does; llama.cpp's leaves composed Hangul whole, which no vocabulary has
            text = unicodedata.normalize("NFD", text)
        return self._tokens(text, special=False, around=True)

    def spelling(self, tokens: Iterable[int]) -> bytes:
        """The exact bytes of tokens, control tokens spelled out."""
        return b"".join(self._bytes(token, special=True) for token in tokens)

    @cached_property
    def specials(self) -> tuple[str, ...]:
        """The texts that the tokeniser takes for one special token, longest first; those of mere white space left out."""
        attribute = partial(self._api.llama_vocab_get_attr, self._pointer)
        found = {self.text(token) for token, attr in enumerate(map(attribute, range(self.size))) if attr & _SPECIAL}
        return tuple(sorted((text for text in found if len(text.replace("▁", " ").strip()) > 1), key=len, reverse=True))

    def plain(self, text: str) -> str:
        """`text` with a MARK inside everything that would be read as a special token."""
        text = text.replace(MARK, "")
        present = [special for special in self.specials if special in text]
        if not present:
            return text
        anywhere = re.compile(f"(?={'|'.join(map(re.escape, present))})")
        cuts = [match.start() + 1 for match in anywhere.finditer(text)]
        parts = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        return MARK.join(parts)

    def edged(self, text: str) -> str:
        """`text`, already plain, with a MARK wherever its beginning or end could complete a special token around it."""
        core = text.strip()
        if not core or not self._could_complete(core):
            return text
        begin = text.index(core)
        return f"{text[:begin]}{MARK}{core}{MARK}{text[begin + len(core) :]}"

    def count_specials(self, text: str) -> int:
        """How many special tokens the rendered prompt has, overlapping ones counted each."""
        count = 0
        for special in self.specials:
            at = text.find(special)
            while at >= 0:
                count += 1
                at = text.find(special, at + 1)
        return count

    @cached_property
    def _fragments(self) -> tuple[int, frozenset[str], frozenset[str]]:
        longest = max(map(len, self.specials), default=0)
        heads = frozenset(special[:size] for special in self.specials for size in range(1, len(special)))
        tails = frozenset(special[-size:] for special in self.specials for size in range(1, len(special)))
        return longest, heads, tails

    def _could_complete(self, core: str) -> bool:
        longest, heads, tails = self._fragments
        sizes = range(1, min(longest, len(core)) + 1)
        if any(core[:size] in tails or core[-size:] in heads for size in sizes):
            return True
        return len(core) < longest and any(core in special for special in self.specials)

    @cached_property
    def _around_specials(self) -> re.Pattern[str]:
        return re.compile(f"({'|'.join(map(re.escape, self.specials)) or '(?!)'})")

    def _joined(self, text: str, special: bool) -> list[int]:
        first, *rest = text.split(MARK)
        tokens = self._tokens(first, special=special)
        for part in rest:
            if part:
                tokens += self._continued(part, special)
        return tokens

    def _continued(self, part: str, special: bool) -> list[int]:
        """The tokens of text in the middle of a line: some tokenisers put a space before every text they are given."""
        if self._cuts_freely:
            return self._tokens(part, special=special)
        anchor = self._anchor
        found = self._tokens(MARK + part, special=special)
        return found[len(anchor) :] if found[: len(anchor)] == anchor else self._tokens(part, special=special)

    @cached_property
    def _anchor(self) -> list[int]:
        return self._tokens(MARK, special=True)

    def _tokens(self, text: str, special: bool, around: bool = False) -> list[int]:
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 8
        while True:
            buffer = (self._api.llama_token * room)()
            count = self._api.llama_tokenize(self._pointer, raw, len(raw), buffer, room, around, special)
            if count >= 0:
                return list(buffer[:count])
            room = -count

    def _bytes(self, token: int, special: bool) -> bytes:
        room = 64
        while True:
            buffer = create_string_buffer(room)
            size = self._api.llama_token_to_piece(self._pointer, token, buffer, room, 0, special)
            if size >= 0:
                return buffer.raw[:size]
            room = -size


def _cut(text: str) -> str:
    return _LONG_RUN.sub(lambda run: run[0] + MARK, text)
