"""Regexes of a rules file, compiled only where they cannot run away.

Python's engine backtracks: some patterns take time exponential in the text. The parsed pattern is looked through and
refused where a loop holds a loop or a choice that can match the same text in several ways, where it refers back, or where its
loops compete for the same characters so that their steps multiply. What passes costs at most about the square of the
text, of which regexes see the first 4,000 characters: 0.3 s for the worst text made against one pattern, microseconds for
others. Not covered: a linear-time engine (google-re2 has one; it would be one more dependency).
"""

import re
import warnings
from re import _parser  # type: ignore[attr-defined]  # the only parse tree there is: re has no public one
from typing import Any

from router._rules.facts import REGEX_CHARS

LONGEST = 300
"""Characters of a pattern at most."""
STEPS = 5 * REGEX_CHARS
"""Steps from one place in the text at most: loops that one after the other each pass over the text once, or one that
tries every length and has only a few steps to go from there."""

_Chars = frozenset[int]
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_SAMPLE = "".join(map(chr, range(128))) + "éßλЖ中あ٣\u00a0€ǅ"


def checked(pattern: str) -> re.Pattern[str]:
    """The compiled pattern. Raises ValueError(reason) or, where a place is known, ValueError(reason, offset)."""
    if len(pattern) > LONGEST:
        raise ValueError(f"the regex has {len(pattern)} characters, {LONGEST} at most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = _parser.parse(pattern)
            _Shape(tree).check()
            return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"bad regex: {error.msg}", error.pos or 0) from error
    except (Warning, OverflowError, RecursionError) as error:
        raise ValueError(f"bad regex: {str(error).split(' at position')[0]}") from error


class _Shape:
    """A parsed pattern and the sample of characters over which its classes are compared.

    The sample holds ASCII, every literal and both ends of every range: two ranges that overlap share such an end.
    """

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self.sample: _Chars = frozenset(map(ord, _SAMPLE)) | _ends(tree)

    def check(self) -> None:
        if self.steps(list(self.tree), frozenset()) > STEPS:
            raise ValueError("the regex could take very long: its loops compete for the same text; split it: regex(…) and regex(…)")

    def steps(self, items: list[Any], follow: _Chars) -> int:
        """Steps that matching a sequence takes at most from one place, `follow` being what may come after it."""
        rest = 1
        for at, (code, argument) in reversed(list(enumerate(items))):
            after, empty = self.first(items[at + 1 :])
            rest = self.item_steps(str(code), argument, after | follow if empty else after, rest)
        return rest

    def item_steps(self, code: str, argument: Any, follow: _Chars, rest: int) -> int:
        if code.startswith("GROUPREF"):
            raise ValueError("references back into the match are not allowed in rules: they can take very long")
        if code in _REPEATS:
            return self.loop_steps(argument, follow, rest)
        if code == "BRANCH":
            branches = [list(branch) for branch in argument[1]]
            steps = [self.steps(branch, follow) for branch in branches]
            return max(steps) * rest if self.distinct(branches) else sum(steps) * rest
        inner = _inner(code, argument)
        if inner is None:
            return rest
        return self.steps(inner, self.sample) + rest if code.startswith("ASSERT") else self.steps(inner, follow) * rest

    def loop_steps(self, argument: Any, follow: _Chars, rest: int) -> int:
        """Each length of a loop that competes with what follows is tried with all the rest; another loop runs through once."""
        least, most, body = int(argument[0]), min(int(argument[1]), REGEX_CHARS), list(argument[2])
        begin, empty = self.first(body)
        if most > 1 and (empty or not self.plain(body, begin | follow)):
            raise ValueError("a loop within a loop, or within one a choice that begins alike, can take very long; write it flat")
        inner = self.steps(body, begin | follow)
        if begin & follow:
            return (most - min(least, most) + 1) * inner * rest
        return most * inner + rest if most > 1 or inner > 1 else rest

    def plain(self, body: list[Any], follow: _Chars) -> bool:
        """Whether a sequence matches a text in one way only: no loop competes with what follows it, no choices begin alike."""
        for at, (code, argument) in enumerate(body):
            after, empty = self.first(body[at + 1 :])
            after = after | follow if empty else after
            if not self.plain_item(str(code), argument, after):
                return False
        return True

    def plain_item(self, code: str, argument: Any, follow: _Chars) -> bool:
        if code in _REPEATS:
            begin, empty = self.first(list(argument[2]))
            variable = argument[0] != argument[1]
            if variable and (empty or begin & follow):
                return False
            return self.plain(list(argument[2]), begin | follow if argument[1] > 1 else follow)
        if code == "BRANCH":
            branches = [list(branch) for branch in argument[1]]
            return self.distinct(branches) and all(self.plain(branch, follow) for branch in branches)
        inner = _inner(code, argument)
        return inner is None or self.plain(inner, follow)

    def distinct(self, branches: list[list[Any]]) -> bool:
        taken: set[int] = set()
        for branch in branches:
            begin, empty = self.first(branch)
            if empty or taken & begin:
                return False
            taken |= begin
        return True

    def first(self, items: list[Any]) -> tuple[_Chars, bool]:
        """The characters that a sequence can begin with, and whether it can be empty. A place (^, \\b, a lookaround) counts
        as any character, since it may fail wherever a loop before it stops."""
        begin: _Chars = frozenset()
        for code, argument in items:
            found, empty = self.item_first(str(code), argument)
            begin |= found
            if not empty:
                return begin, False
        return begin, True

    def item_first(self, code: str, argument: Any) -> tuple[_Chars, bool]:
        if code in _REPEATS:
            begin, empty = self.first(list(argument[2]))
            return begin, empty or argument[0] == 0
        if code == "BRANCH":
            found = [self.first(list(branch)) for branch in argument[1]]
            return frozenset().union(*(begin for begin, _ in found)), any(empty for _, empty in found)
        if code in ("SUBPATTERN", "ATOMIC_GROUP"):
            return self.first(_inner(code, argument) or [])
        if code == "AT" or code.startswith(("ASSERT", "GROUPREF")):
            return self.sample, True
        return self.chars(code, argument), False

    def chars(self, code: str, argument: Any) -> _Chars:
        if code == "LITERAL":
            return _cases(argument)
        if code == "NOT_LITERAL":
            return self.sample - {argument}
        if code == "RANGE":
            low, high = argument
            return frozenset(char for char in self.sample if any(low <= form <= high for form in _cases(char)))
        if code == "CATEGORY":
            letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[str(argument).rpartition("_")[2]]
            kind = re.compile("\\" + (letter.upper() if "_NOT_" in str(argument) else letter))
            return frozenset(char for char in self.sample if kind.match(chr(char)))
        if code == "IN":
            negated = str(argument[0][0]) == "NEGATE"
            parts = argument[1:] if negated else argument
            union = frozenset().union(*(self.chars(str(part), value) for part, value in parts))
            return self.sample - union if negated else union
        return self.sample


def _inner(code: str, argument: Any) -> list[Any] | None:
    if code == "SUBPATTERN":
        return list(argument[3])
    if code == "ATOMIC_GROUP":
        return list(argument)
    return list(argument[1]) if code in ("ASSERT", "ASSERT_NOT") else None


def _cases(char: int) -> _Chars:
    letter = chr(char)
    return frozenset(ord(form) for form in {letter, letter.lower(), letter.upper()} if len(form) == 1)


def _ends(tree: Any) -> _Chars:
    """Every code point that a pattern names, with its other case."""
    found: set[int] = set()
    for code, argument in tree:
        found |= _named(str(code), argument)
    return frozenset(found)


def _named(code: str, argument: Any) -> _Chars:
    if code in ("LITERAL", "NOT_LITERAL"):
        return _cases(argument)
    if code == "RANGE":
        return _cases(argument[0]) | _cases(argument[1])
    if code == "IN":
        return _ends(argument)
    if code in _REPEATS:
        return _ends(argument[2])
    if code == "BRANCH":
        return frozenset().union(*map(_ends, argument[1]))
    return _ends(_inner(code, argument) or [])
