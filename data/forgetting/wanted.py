"""What is looked for: a text in every way that it may be written down, and what was said in conversations.

A text counts as found whatever its case, its Unicode form and the white space between its words, and where JSON, HTML or a web
address escapes it. What was said in a conversation is found by its runs of words, so that it is found cut off, redacted in part or
in another layout; runs that other conversations have too are no sign of it. Ids are found as they are. Not covered: where is looked
(files.py), and texts put into other words.
"""

import html
import json
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from urllib.parse import quote, quote_plus

from data.errors import InputError

MARKS = ("[forgotten]", "[...]", "")
"""What stands where a text was; the first that does not hold the text itself."""
LEAST_CHARACTERS = 3
RUN = 8  # words that stand together in two texts by no chance
SHORT = 4  # words of a shorter text that is looked for as a whole
EXACT = 16  # characters of a text of fewer words, found only where it is all there is
CUT = 24  # characters of a text's beginning by which it is known where it was cut off
_WORD = re.compile(r"\w+")
_UNSEEN = re.compile(
    "[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Characters that do not show: the Unicode category Cf, as far as they stand in texts."""
_ID = re.compile(r"[0-9a-f]{32}")
_ESCAPES = re.compile(r"\\[nrtfb]|&nbsp;|&#160;|%20|\+")


class Wanted:
    """term: a text; ids: of conversations (uuid7 in hex); said: what was said in them; others: gives all other texts of the log.

    Raises InputError for a term that nearly every text holds.
    """

    def __init__(
        self,
        term: str = "",
        ids: Collection[str] = (),
        said: Iterable[str] = (),
        others: Callable[[], Iterable[str]] = lambda: (),
    ) -> None:
        self.term = term.strip()
        self._forms = _forms(self.term) if self.term else ()
        if self.term and len(folded(self.term)) < (LEAST_CHARACTERS if self.term.isascii() else LEAST_CHARACTERS - 1):
            raise InputError(f"{self.term!r} is too short: it stands in nearly every text", "give more of it")
        self._pattern = re.compile(r"\s+".join(map(re.escape, self.term.split())), re.IGNORECASE) if self.term else None
        self._ids = frozenset(ids)
        self._runs: dict[int, set[str]] = defaultdict(set)
        self._exact: set[str] = set()
        self._starts: list[str] = []
        self._learn(said)
        if self._runs or self._exact:
            self._without(others())
        self._starts = sorted(one for one in self._starts if self._telling(one.split()))
        self.mark = next((mark for mark in MARKS if not self.found(mark)), "")

    def found(self, text: str) -> bool:
        """Whether this text, unescaped or escaped, holds what is looked for."""
        if self._ids and not self._ids.isdisjoint(_ID.findall(text)):
            return True
        if self._forms:
            plain = folded(text)
            if any(form in plain for form in self._forms):
                return True
        return bool(self._runs or self._exact) and self._said(text)

    def maybe(self, raw: str) -> bool:
        """False only where no part of `raw`, a piece of a file, can hold it: quicker than looking at the parts."""
        return bool(self._exact) or self.within(raw)

    def within(self, raw: str) -> bool:
        """Whether a piece of a file holds it somewhere, escaped or not; not counting texts that are found only alone."""
        if self.found(raw):
            return True
        loose = _ESCAPES.sub(" ", raw)
        return ("\\" in raw or "&" in raw or loose != raw) and self.found(_unescaped(loose))

    def cleared(self, text: str) -> str:
        """The text without it: a term is replaced where it stands; a text with something that was said is replaced as a whole."""
        if not self.found(text):
            return text
        cut = self._pattern.sub(self.mark, text) if self._pattern else text
        if self._ids:
            cut = _ID.sub(lambda one: self.mark if one[0] in self._ids else one[0], cut)
        return self.mark if self.found(cut) else cut

    def is_term(self, text: str) -> bool:
        """Whether this is the term and nothing else."""
        return bool(self._forms) and folded(text) in self._forms

    def in_bytes(self, raw: bytes) -> bool:
        """Whether a file that is no text holds the term or an id, in UTF-8, UTF-16 or UTF-32."""
        low = raw.lower()
        return any(needle in low for needle in self._needles())

    def _needles(self) -> Iterator[bytes]:
        written = {self.term, self.term.lower(), self.term.casefold(), *self._forms} - {""} if self.term else set()
        for text in (*written, *self._ids):
            for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
                yield text.encode(encoding, "surrogatepass").lower()

    def _learn(self, said: Iterable[str]) -> None:
        for text in said:
            words = _words(text)
            if len(words) >= SHORT:
                self._runs[min(len(words), RUN)].update(_runs(words, min(len(words), RUN)))
                self._starts.append(" ".join(words))
            elif len(whole := " ".join(words)) >= EXACT:
                self._exact.add(whole)

    def _without(self, others: Iterable[str]) -> None:
        """Drop the runs that other conversations have: greetings, and a model's set phrases."""
        for text in others:
            words = _words(text)
            self._exact.discard(" ".join(words))
            for length, runs in self._runs.items():
                if length <= len(words):
                    runs.difference_update(_runs(words, length))

    def _telling(self, words: list[str]) -> bool:
        """Whether a text's first words are its own."""
        length = min(len(words), RUN)
        return " ".join(words[:length]) in self._runs.get(length, ())

    def _said(self, text: str) -> bool:
        words = _words(text.rstrip(" .…"))
        for length, runs in self._runs.items():
            if len(words) >= length and not runs.isdisjoint(_runs(words, length)):
                return True
        whole = " ".join(words)
        if whole in self._exact:
            return True
        if len(whole) < CUT:
            return False
        at = bisect_left(self._starts, whole)
        return at < len(self._starts) and self._starts[at].startswith(whole)


def folded(text: str) -> str:
    """For comparing: NFKC, without case and characters that do not show, white space as single spaces."""
    if text.isascii():
        return " ".join(text.lower().split())
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(_UNSEEN.sub("", plain).split())


def _forms(term: str) -> tuple[str, ...]:
    """How the term may stand in a file, folded."""
    escaped = json.dumps(term)[1:-1]
    written = (
        term,
        escaped,
        json.dumps(escaped)[1:-1],  # JSON within JSON
        json.dumps(term, ensure_ascii=False)[1:-1],
        html.escape(term),
        html.escape(html.escape(term)),
        term.encode("ascii", "xmlcharrefreplace").decode(),
        quote(term),
        quote_plus(term),
    )
    return tuple(dict.fromkeys(one for one in map(folded, written) if one))


def _unescaped(raw: str) -> str:
    plain = html.unescape(raw) if "&" in raw else raw
    if "\\u" in plain:
        plain = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), plain)
    return plain.replace('\\"', '"').replace("\\/", "/")


def _words(text: str) -> list[str]:
    return _WORD.findall(folded(text))


def _runs(words: list[str], length: int) -> Iterator[str]:
    return (" ".join(words[at : at + length]) for at in range(len(words) - length + 1))
