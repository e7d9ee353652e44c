"""What a pack's patterns see of a text, and which patterns are taken: those that cannot run away.

Invisible characters, accents, compatibility forms and letters of other alphabets that look Latin are seen through, in patterns and
in texts alike. Not covered: the regexes of rules files (router), which follow rules of their own.
"""

import re
import unicodedata
import warnings
from collections.abc import Sequence
from functools import lru_cache
from re import _parser  # type: ignore[attr-defined]  # the parsed pattern is looked through before it is compiled
from typing import Any

PATTERN_CHARS = 4_000
"""Characters of a text in which patterns are looked for: from each place one may take `STEPS`."""
LONGEST_PATTERN = 300
STEPS = 20_000
_LOOKALIKES = {
    ord(pair[0]): pair[1]
    for pair in (
        "аa вb еe һh іi јj кk мm нh оo рp сc ѕs тt уy хx ԁd ԛq ԝw ӏl АA ВB ЕE НH ІI ЈJ КK МM ОO РP СC ЅS ТT ХX УY "
        "αa εe ιi κk νv οo ρp τt υu χx ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX ıi ʼ' ’' ‘' ‛' “\" ”\" ‐- ‑- ‒- –- —- −-"
    ).split()
}
"""Cyrillic and Greek letters that look like Latin ones, after Unicode TR39's confusables; typographic quotes and dashes."""
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


def checked(pattern: str) -> re.Pattern[str]:
    """The compiled pattern, blind to case. Raises ValueError in words where it is wrong or could take very long."""
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"the pattern has {len(pattern)} characters, {LONGEST_PATTERN} at most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shape = seen(pattern)[0]
            steps = _steps(_parser.parse(shape, re.IGNORECASE))
            compiled = re.compile(shape, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"bad pattern: {error.msg}") from error
    except (Warning, OverflowError, RecursionError) as error:
        raise ValueError(f"bad pattern: {error}") from error
    if steps > STEPS:
        raise ValueError("the pattern could take very long: bound its loops as in .{0,40}, and put none within another")
    if compiled.match(""):
        raise ValueError("the pattern matches an empty text")
    return compiled


def plain(phrase: str) -> str:
    return seen(phrase)[0].lower()


def seen(text: str) -> tuple[str, Sequence[int]]:
    """The text as it is searched, and for each of its characters the place in the text that it came from."""
    if text.isascii():
        return text, range(len(text))
    chars: list[str] = []
    origin: list[int] = []
    for place, char in enumerate(text):
        if not char.isascii():
            category = unicodedata.category(char)
            char = "" if category in ("Cf", "Cs", "Mn") else _base(char)
        chars.extend(char)
        origin.extend([place] * len(char))
    return "".join(chars), origin


@lru_cache(maxsize=4096)
def _base(char: str) -> str:
    """A character's compatibility form without its accents, or the Latin letter that it looks like."""
    parts = unicodedata.normalize("NFKD", char)
    return "".join(part for part in parts if not unicodedata.combining(part)).translate(_LOOKALIKES)


def _steps(items: Any) -> int:
    """An upper bound of the ways in which a parsed pattern can match from one place; capped a little above `STEPS`."""
    total = 1
    for code, argument in items:
        total = min(total * _item_steps(str(code), argument), STEPS + 1)
    return total


def _item_steps(code: str, argument: Any) -> int:
    if code.startswith("GROUPREF"):
        return STEPS + 1
    if code in _REPEATS:
        least, most = int(argument[0]), min(int(argument[1]), PATTERN_CHARS)
        inner = _steps(argument[2])
        ways = inner ** min(most, 64) if inner > 1 else 1
        return min(ways * (most - min(least, most) + 1), STEPS + 1)
    if code == "BRANCH":
        choices: list[int] = [_steps(branch) for branch in argument[1]]
        return max(choices) if _exclusive(argument[1]) else min(sum(choices), STEPS + 1)
    if code == "SUBPATTERN":
        return _steps(argument[3])
    if code in ("ATOMIC_GROUP", "ASSERT", "ASSERT_NOT"):
        return _steps(argument if code == "ATOMIC_GROUP" else argument[1])
    return 1


def _exclusive(branches: Any) -> bool:
    """Whether no text can match two branches: their literal beginnings differ, within the shortest of them."""
    starts = [_start(branch) for branch in branches]
    shortest = min(map(len, starts))
    return shortest > 0 and all(
        not one.startswith(other) and not other.startswith(one) for at, one in enumerate(starts) for other in starts[at + 1 :]
    )


def _start(branch: Any) -> str:
    """The literal characters that a branch begins with."""
    found = ""
    for code, argument in branch:
        if str(code) != "LITERAL":
            break
        found += chr(argument).lower()
    return found
