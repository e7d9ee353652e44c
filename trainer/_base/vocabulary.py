"""A tokenizer of transformers under the rules by which pointsman's llama.cpp engine makes prompts.

The rules are the engine's own code (`router.engines._llamacpp.vocab`), only what lies beneath is another tokenizer: text from
outside never becomes a control token, and a model is trained on the ids that it will be served. Not covered: the template.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from router.engines._llamacpp.vocab import Vocab


class TokenizerVocab(Vocab):
    """The vocabulary of a PreTrainedTokenizerFast."""

    def __init__(self, tokenizer: Any, ends: Sequence[int], size: int) -> None:
        """ends: the tokens that end an answer; size: of the model's output, which may exceed the tokenizer's."""
        self._fast = tokenizer.backend_tokenizer
        self._added = tokenizer.added_tokens_decoder
        self.size = size
        self.bos = -1 if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        self.eos = -1 if tokenizer.eos_token_id is None else tokenizer.eos_token_id
        self.adds_bos = self._fast.encode("", add_special_tokens=True).ids[:1] == [self.bos]
        spelled = self._fast.encode(" ", add_special_tokens=False).tokens
        self._byte_level = "Ġ" in "".join(spelled)
        self.spaces_first = not self._byte_level and "".join(self._fast.encode("a", add_special_tokens=False).tokens) == "▁a"
        self._cuts_freely = self._byte_level
        self._decomposes = False
        self._pieces: dict[int, bytes] = {}
        self._ends = dict.fromkeys(ends, True)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end an answer."""
        return tuple(self._ends)

    def text(self, token: int) -> str:
        """The token as the vocabulary spells it, "" for no token."""
        return (self._fast.id_to_token(token) or "") if 0 <= token < self.size else ""

    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer."""
        return token in self._ends

    def is_control(self, token: int) -> bool:
        """Whether the token steers the model instead of standing for text."""
        return token in self._added and self._added[token].special

    @cached_property
    def specials(self) -> tuple[str, ...]:
        """The texts that the tokeniser takes for one special token, longest first; those of mere white space left out."""
        found = {token.content for token in self._added.values()}
        return tuple(sorted((text for text in found if len(text.replace("▁", " ").strip()) > 1), key=len, reverse=True))

    def _tokens(self, text: str, special: bool, around: bool = False) -> list[int]:
        sound = text.encode("utf-8", "replace").decode("utf-8")
        found: list[int] = self._fast.encode(sound, add_special_tokens=around).ids
        return found

    def _bytes(self, token: int, special: bool) -> bytes:
        text = self.text(token)
        if token in self._added:
            return text.encode() if special or not self._added[token].special else b""
        if self._byte_level:
            return bytes(_BYTES[letter] for letter in text) if all(letter in _BYTES for letter in text) else text.encode()
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return bytes([int(text[3:5], 16)])
        return text.replace("▁", " ").encode()


def _letters() -> dict[str, int]:
    """The letters that stand for the 256 bytes in GPT-2's vocabulary (openai/gpt-2, src/encoder.py, bytes_to_unicode)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [code for code in range(256) if code not in plain]
    return {chr(code): code for code in plain} | {chr(256 + number): code for number, code in enumerate(rest)}


_BYTES = _letters()
