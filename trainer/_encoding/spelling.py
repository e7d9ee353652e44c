"""Messages and answers as tokens, those of serving, and fast: what many prompts begin with is tokenised once.

Not covered: which messages and answers (`layouts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from data.chat import Message
from trainer._encoding.layouts import THINKING

if TYPE_CHECKING:
    from trainer.base import Base

COMPARED = 4
"""Prompts of each beginning that are tokenised whole as well: tokenisers that look back across a special token are found out."""
MOST_HEADS = 64
REMEMBERED = 4_096
"""Answers whose tokens are kept; a domain of labels has a few."""

Text = TypeVar("Text", str, tuple[int, ...])


def common(texts: Sequence[Text]) -> Text:
    """What all begin with, at least the last item of the shortest left out. Raises ValueError where there are none."""
    lowest, highest = min(texts), max(texts)  # in the order of sequences: what these two share, all between them share
    most = min(len(text) for text in texts) - 1
    same = next((at for at in range(most) if lowest[at] != highest[at]), most)
    return lowest[:same]


@dataclass
class _Head:
    """What prompts of one kind begin with, up to the last special token before the text. left: prompts still to be compared."""

    text: str
    ids: tuple[int, ...]
    left: int = COMPARED


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's tokens. ends: the bytes that are spelt after each; exact: whether they spell the text to the byte, with no
    unknown token and nothing normalised away."""

    text: str
    ids: tuple[int, ...]
    ends: tuple[int, ...]
    exact: bool

    def place(self, at: tuple[int, int]) -> tuple[int, int]:
        """The tokens that hold the characters `at`, both half-open; (0, 0) for none."""
        begin, end = (len(self.text[:place].encode("utf-8", "replace")) for place in at)
        held = [
            number
            for number, (here, done) in enumerate(zip((0, *self.ends), self.ends, strict=False))
            if done > begin and here < end
        ]
        return (held[0], held[-1] + 1) if held and begin < end else (0, 0)


class Speller:
    """Tokens of one base. think: as the answers are served, see `Base.prompt`."""

    def __init__(self, base: "Base", think: bool | None) -> None:
        self._base, self._think = base, think
        self.end = tuple(base.ids(base.end))
        self.unknown: int | None = base.tokenizer.unk_token_id if base.tokenizer.unk_token_id not in base.stop_ids else None
        self._heads: dict[object, _Head | None] = {}
        self._answers: dict[str, Answer] = {}
        self._thinking = tuple(tuple(base.ids(tag)) for tag in THINKING)

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The tokens of a prompt, up to where the answer begins. Raises EngineRejected where the template refuses it."""
        key = tuple((message.role, message.content) for message in messages[:-1])
        if len(messages) > 2 or messages[-1].role != "user" or (len(self._heads) >= MOST_HEADS and key not in self._heads):
            return tuple(self._base.prompt_ids(messages, self._think))
        if key not in self._heads:
            self._heads[key] = self._head(messages)
        head = self._heads[key]
        if head is None:
            return tuple(self._base.prompt_ids(messages, self._think))
        text = self._base.prompt(messages, self._think)
        if not text.startswith(head.text):
            return tuple(self._base.prompt_ids(messages, self._think))
        found = (*head.ids, *self._base.ids(text[len(head.text) :]))
        if head.left:
            head.left -= 1
            whole = tuple(self._base.prompt_ids(messages, self._think))
            if whole != found:
                self._heads[key] = None
                return whole
        return found

    def answer(self, text: str) -> Answer:
        """The tokens of an answer as a model goes on after its prompt, without the end; control tokens in it stay text.

        Reasoning in <think> tags at its beginning is what a model writes with the tokens that its vocabulary has for them.
        """
        found = self._answers.get(text)
        if found is None:
            ids = tuple(self._spelled(text))
            spelt = [self._base.vocab.spelling([token]) for token in ids]
            ends = tuple(accumulate(len(part) for part in spelt))
            found = Answer(text, ids, ends, b"".join(spelt) == text.encode("utf-8", "replace"))
            if len(self._answers) < REMEMBERED:
                self._answers[text] = found
        return found

    def _spelled(self, text: str) -> list[int]:
        opens, closes = THINKING
        if not text.startswith(opens) or closes not in text or any(len(ids) != 1 for ids in self._thinking):
            return self._base.vocab.tokenise_within(text)
        inside, _, after = text.removeprefix(opens).partition(closes)
        within = self._base.vocab.tokenise_within
        return [*self._thinking[0], *within(inside), *self._thinking[1], *within(after)]

    def _head(self, messages: Sequence[Message]) -> _Head | None:
        """The beginning that prompts with these messages before the text share, cut before its last special token."""
        *before, last = messages
        one, other = (self._base.prompt([*before, Message(last.role, text)], self._think) for text in ("a", "b"))
        same = common([one, other])
        cut = max((same.rfind(special) for special in self._base.vocab.specials), default=-1)
        if cut <= 0:
            return None
        whole = self._base.prompt_ids([*before, Message(last.role, "a")], self._think)
        rest = self._base.ids(one[cut:])
        if whole[len(whole) - len(rest) :] != rest:
            return None
        return _Head(same[:cut], tuple(whole[: len(whole) - len(rest)]))
