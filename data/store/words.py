"""What counts as a word in search: how a query is taken apart, a text cut up for the index, and a snippet cut out of it.

Scripts that are written without spaces get an invisible seam between their characters, so that both databases index each
as a word of its own and a part of a sentence is found as a phrase. Not covered: the databases (search.py).
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

OPEN, CLOSE = "«", "»"  # around what matched, in a snippet
PART = 50_000  # characters of one indexed document: PostgreSQL keeps the places of 16,383 words (textsearch-limitations)
SNIPPET, BEFORE = 200, 60  # characters of a snippet, and of it before the first match
_TERMS, _TERM = 32, 256  # terms of a query, and characters of each, at most: FTS5 limits the depth of an expression
_SEAM = "\u200b"  # zero width space: both databases split at it, no reader sees it
_UNSPACED = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_SEAMS = re.compile(rf"(?<={_UNSPACED})(?=\S)|(?<=\S)(?={_UNSPACED})")
_TERM_OF_QUERY = re.compile(r'"([^"]+)"|(\S+)')
_PUNCTUATION = str.maketrans(dict.fromkeys("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" + _SEAM, " "))


def terms(query: str) -> list[str]:
    """The terms of a query: what stands in double quotes, and every other word. Nothing else has a meaning."""
    found = _TERM_OF_QUERY.findall(query[: _TERM * _TERMS])
    return [(quoted or bare)[:_TERM] for quoted, bare in found][:_TERMS]


def pieces(term: str) -> list[str]:
    """The words of a term, as the databases split them."""
    return seams(term).translate(_PUNCTUATION).split()


def seams(text: str) -> str:
    """`text` with seams."""
    return text if text.isascii() else _SEAMS.sub(_SEAM, text)


def folded(text: str) -> str:
    """`text` without case, accents and ASCII punctuation, for an index that does not see to that itself."""
    plain = "".join(
        character for character in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(character)
    )
    return unicodedata.normalize("NFC", plain).translate(_PUNCTUATION)


def without_seams(text: str) -> str:
    """The inverse of `seams`."""
    return text.replace(_SEAM, "")


def parts(text: str) -> Iterator[str]:
    """The text with seams, in documents for the index, cut between words where there are any."""
    size = PART if text.isascii() or not _SEAMS.search(text) else PART // 12  # there a frequent character is a frequent word
    while text.strip():
        end = size if len(text) <= size else max(text.rfind(" ", 1, size), text.rfind("\n", 1, size))
        end = end if end > 0 else size
        yield seams(text[:end])
        text = text[end:]


def snippet(text: str, query_terms: Sequence[str]) -> str:
    """About SNIPPET characters of `text` around the first match, with OPEN and CLOSE around every matching word in them."""
    found = _matches(text, query_terms)
    start = _cut(text, max(found[0][0] - BEFORE, 0) if found else 0)
    end = min(start + SNIPPET, len(text))
    shown, at = ["…" if start else ""], start
    for begin, stop in found:
        if begin >= at and stop <= end:
            shown += [text[at:begin], OPEN, text[begin:stop], CLOSE]
            at = stop
    return "".join([*shown, text[at:end], "…" if end < len(text) else ""])


class _Plain(dict[int, int]):
    """Each character without its accent, found out when first asked for. One for one, so that places stay the same."""

    def __missing__(self, code: int) -> int:
        parts = unicodedata.normalize("NFD", chr(code))
        self[code] = ord(parts[0]) if len(parts) > 1 and unicodedata.combining(parts[1]) else code
        return self[code]


_PLAIN = _Plain()


def _matches(text: str, query_terms: Sequence[str]) -> list[tuple[int, int]]:
    phrases = [pieces(unicodedata.normalize("NFC", term).translate(_PLAIN)) for term in query_terms]
    patterns = [r"[\W_]*".join(map(re.escape, phrase)) for phrase in phrases if phrase]
    if not patterns:
        return []
    begins = rf"(?:(?<![^\W_])|(?<={_UNSPACED})|(?={_UNSPACED}))"
    rest = rf"(?:(?<={_UNSPACED})|(?:(?!{_UNSPACED})[^\W_])*)"
    pattern = re.compile(f"{begins}(?:{'|'.join(patterns)}){rest}", re.IGNORECASE)
    return [match.span() for match in pattern.finditer(text.translate(_PLAIN))]


def _cut(text: str, start: int) -> int:
    """The beginning of a word at or soon after `start`."""
    blank = re.compile(r"\s").search(text, start, start + 30) if start else None
    return blank.end() if blank else start
