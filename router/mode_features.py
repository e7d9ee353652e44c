"""What the mode head sees of a question: named features of the user's own words, and how well a tool's description fits them.

The user's words are the text outside code fences, quoted lines (>), quotations in double quotes, and blocks marked as attached
(`<document>`, `<file>`, `<attachment>`, `<context>`, `<quote>`, `=== … end`); of a long text the first 500 and the last 300
characters, of more than 100,000 characters only what begins there. What stands inside counts only as being there (`has:code`,
`has:quote`, `has:attached`), so that text of strangers cannot ask for a tool. Features are 0 or 1 or a small number; their
weights are in mode_head.json. Not covered: the meaning of words beyond lists and patterns, English before all.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from router._modes.cues import CUES, PATTERNS, WORDS, numbers

HEAD_CHARS, TAIL_CHARS = 500, 300
"""Characters of the user's words that are read."""
CUE_HEAD_CHARS, CUE_TAIL_CHARS = 250, 150
"""Of these, those in which a tool can be asked for: who pastes a long text asks before or after it."""
_LONG_REQUEST = 16  # words; a request for a tool of ours is seldom longer
_SCANNED = 100_000  # beyond it, what stands between the marks could not be told from the user's words at bounded cost
_OUT = re.compile(
    r"(?P<code>^[ \t]*(?P<fence>```|~~~).*?(?:^[ \t]*(?P=fence)|\Z))"
    r"|(?P<attached><(?P<tag>document|documents|file|attachment|context|quote|passage)\b[^>]{0,200}>.*?(?:</(?P=tag)>|\Z)"
    r"|^=== (?P<mark>\S{1,64}) (?:\[\d+\].*?(?:^=== (?P=mark) end|\Z)))"
    r"|(?P<quote>^[ \t]*>[^\n]*)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_QUOTED = re.compile(r"\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|«[^»\n]{1,400}»|„[^“”\n]{1,400}[“”]")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|\n+")
_ITEM = re.compile(r"^\s{0,8}(?:\d{1,2}[.)]|[-*•]|\(?[a-h]\))\s+\S", re.MULTILINE)
_PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")
_ENDINGS = ("ization", "ation", "ations", "ingly", "ings", "ing", "edly", "ed", "ies", "ers", "er", "es", "s", "ly", "e", "y")
_IDLE = frozenset(
    "a an the of to in on at for from by with and or is are was be do does did can could would should will i me my "
    "we you your it its this "
    "that these those what which who how when where please tell show give get find need want let know retrieve "
    "return returns fetch "
    "provide provides information info detail details specific given based using use user data function certain "
    "particular some any "
    "about if as into their there have has one two s t m re".split()
)
_COMMON = frozenset(
    "calcul comput determin find search creat mak generat list check analyz analys solv valu number typ nam tim dat search "
    "amount total year current lat new result stat api servic tool list item perform process set".split()
)
"""Stems that many tools share: they say little of which one."""


@dataclass(frozen=True, slots=True)
class Words:
    """The user's words: `text` normalised (NFKC, case kept), and what stood between them."""

    text: str
    code: bool = False
    attached: bool = False
    quote: bool = False


def users_words(question: str) -> Words:
    """The user's own words of a question. Looks at its first 100,000 characters at most."""
    question = question[:_SCANNED]
    kinds = {match.lastgroup for match in _OUT.finditer(question)} if _may_hold(question) else set()
    text = _OUT.sub("\n", question) if kinds else question
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("×", "*")
    if not text.isprintable():
        text = "".join(_plain(char) for char in text)
    unquoted = _QUOTED.sub(" quotation ", text)
    return Words(unquoted.strip(), "code" in kinds, "attached" in kinds, "quote" in kinds or unquoted != text)


def features(words: Words) -> dict[str, float]:
    """The features of a question, by name; what is 0 is left out. `cue:…` are those that speak for a tool."""
    text = words.text.lower()
    tokens = _WORD.findall(text)
    there = {"code": words.code, "attached": words.attached, "quote": words.quote}
    found = {"bias": 1.0} | {f"has:{name}": 1.0 for name, has in there.items() if has}
    found |= _measures(text, tokens) | _listed(tokens)
    found |= {f"like:{name}": 1.0 for name, pattern in PATTERNS.items() if pattern.search(text)}
    for name in cues(words, text):
        found[f"cue:{name}"] = 1.0
        if len(tokens) >= _LONG_REQUEST:
            found[f"long:{name}"] = 1.0
    found |= {f"w:{token}": 1.0 for token in tokens[:200]}
    found |= {f"w:{first} {second}": 1.0 for first, second in pairwise(tokens[:61])}
    return found | ({f"first:{tokens[0]}": 1.0} if tokens else {"no words": 1.0})


def cues(words: Words, text: str) -> Iterator[str]:
    """The names of the cues that speak for a tool of our own."""
    if len(text) > CUE_HEAD_CHARS + CUE_TAIL_CHARS:
        text = f"{text[:CUE_HEAD_CHARS]}\n{text[-CUE_TAIL_CHARS:]}"
    for name, cue in CUES.items():
        if cue(text, words.code, words.attached):
            yield name


def fit(words: Words, name: str, description: str) -> dict[str, float]:
    """How the name and the description of any tool fit the user's words: features of the pair."""
    asked, figures = _stems(words.text), bool(_NUMBER.search(words.text))
    named = _stems(name.replace("_", " ").replace(".", " "))
    told = list(dict.fromkeys([*named, *_stems(description)]))
    in_name, cover = _share(named, asked)
    in_told, depth = _share(told, asked)
    _, answered = _share(asked, told)
    whole = math.sqrt(max(1.0, sum(map(_weight, told))) * max(1.0, sum(map(_weight, asked))))
    return {
        "bias": 1.0,
        "name": cover,
        "name:all": float(cover > 0.99),
        "name:none": float(cover < 0.1),
        "name:last": _near(named[-1], asked) * _weight(named[-1]) if named else 0.0,
        "told": depth,
        "told:two": float(in_told >= 2),
        "told:three": float(in_told >= 3),
        "told:none": float(in_told < 0.5),
        "asked": answered,
        "both": math.sqrt(cover * depth),
        "cosine": in_told / whole,
        "unanswered": min(3.0, len(asked) * (1 - answered)) / 3,
        "numbers": float(figures),
        "asks": float("?" in words.text),
        "bare": float(not description),
        "name:found": min(3.0, in_name) / 3,
    }


def _share(stems: list[str], others: list[str]) -> tuple[float, float]:
    """The weight of the stems that are among the others, and its share of the weight of all."""
    found = sum(_weight(stem) * _near(stem, others) for stem in stems)
    return found, found / max(0.3, sum(map(_weight, stems)))


def _weight(stem: str) -> float:
    return 0.3 if stem in _COMMON else 1.0


_STEPS: Mapping[str, tuple[int, ...]] = {
    "numbers": (1, 2, 3, 5),
    "length": (8, 16, 32, 80),
    "sentences": (2, 3, 5),
    "items": (2, 4),
    "commas": (2, 4),
    "tasks": (2, 3, 4),
}
"""Counts, and the sizes at each of which a feature begins to hold."""


def _measures(text: str, tokens: list[str]) -> dict[str, float]:
    counts = {
        "numbers": numbers(text, tokens),
        "length": len(tokens),
        "sentences": sum(bool(piece.strip()) for piece in _SENTENCE_END.split(text)),
        "items": len(_ITEM.findall(text)),
        "commas": text.count(","),
        "tasks": len(WORDS["task"].intersection(tokens)),
    }
    found = {f"{name}:{size}": 1.0 for name, sizes in _STEPS.items() for size in sizes if counts[name] >= size}
    found["length"] = min(1.5, math.log2(1 + len(tokens)) / 6)
    if counts["sentences"] >= 2 and counts["numbers"] >= 2:
        found["sentences with numbers"] = 1.0
    if any(mark in text for mark in "?？؟"):
        found["asks"] = 1.0
    return found


def _listed(tokens: list[str]) -> dict[str, float]:
    counts = {name: sum(token in wanted for token in tokens) for name, wanted in WORDS.items()}
    found = {f"word:{name}": 1.0 for name, count in counts.items() if count}
    return found | {f"words:{name}": min(1.0, math.log2(count) / 2) for name, count in counts.items() if count > 1}


def _stems(text: str) -> list[str]:
    pieces = (piece.lower() for piece in _PIECES.findall(text))
    return list(dict.fromkeys(_stem(piece) for piece in pieces if piece not in _IDLE and not piece.isdigit() and len(piece) > 1))


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: len(word) - len(ending)]
    return word


def _near(stem: str, others: Sequence[str]) -> float:
    """1 for an equal stem, 0.7 for one that begins alike for five letters or is one long part of the other, else 0."""
    if stem in others:
        return 1.0
    if len(stem) < 4:
        return 0.0
    return 0.7 if any(len(other) >= 4 and (stem[:5] == other[:5] or stem in other or other in stem) for other in others) else 0.0


def _may_hold(question: str) -> bool:
    return any(mark in question for mark in ("```", "~~~", "<", ">", "==="))


def _plain(char: str) -> str:
    if char == "\n":
        return char
    return " " if unicodedata.category(char) in ("Cc", "Zs", "Zl", "Zp") else "" if unicodedata.category(char) == "Cf" else char


def top(contributions: Mapping[str, float], most: int = 6) -> tuple[tuple[str, float], ...]:
    """The contributions of largest size, largest first, rounded; the bias is none."""
    ranked = sorted(
        (item for item in contributions.items() if item[0] != "bias" and abs(item[1]) > 0.01), key=lambda item: -abs(item[1])
    )
    return tuple((name, round(value, 3)) for name, value in ranked[:most])
