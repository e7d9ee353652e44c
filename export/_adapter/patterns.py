"""The keys of rank_pattern and alpha_pattern: which of them speaks of a module, as PEFT finds it.

They are regular expressions out of a foreign file, so that they are taken only where matching them cannot take long: single
characters, classes, groups without repetition, and few repetitions. Source: PEFT 0.21, utils/other.py, get_pattern_key.
Not covered: other uses of regular expressions in an adapter's configuration (target_modules is never matched).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from data.errors import ModelInvalid
from data.sanitise import one_line

LONGEST = 256  # characters of a key
MOST_STEPS = 300_000_000  # of all matching together, reckoned at the worst: some seconds

_ATOM = r"(?:[A-Za-z0-9_\-^$.]|\\[.dw_-]|\[\^?(?:\w(?:-\w)?)+\])"
_REPEAT = r"(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})"
_SAFE = re.compile(rf"(?:{_ATOM}{_REPEAT}?|[()|])*", re.ASCII)
_Value = TypeVar("_Value")


def matched(patterns: Mapping[str, _Value], modules: Sequence[str], default: _Value, where: str) -> dict[str, _Value]:
    """The value for each module: of the first key that matches the end of its name, else the default.

    where: begins the message of the ModelInvalid that is raised for keys that are no such expressions or too costly to match.
    """
    compiled = [(_compiled(key, where), value) for key, value in patterns.items()]
    length, dots = (max(map(count, modules), default=0) for count in (len, lambda module: module.count(".")))
    if len(modules) * sum(_steps(key, length, dots) for key in patterns) > MOST_STEPS:
        raise ModelInvalid(f"{where} has patterns that take too long to match", _FIX)
    return {module: _first(compiled, module, default) for module in modules}


_FIX = "name the modules in full, or merge the adapter into its checkpoint and export that"


def _first(compiled: Iterable[tuple[re.Pattern[str], _Value]], module: str, default: _Value) -> _Value:
    return next((value for pattern, value in compiled if pattern.match(module)), default)


def _compiled(key: str, where: str) -> re.Pattern[str]:
    if len(key) <= LONGEST and _SAFE.fullmatch(key):
        try:
            return re.compile(rf"(.*\.)?({key})$")
        except re.error:
            pass  # unbalanced: told below
    raise ModelInvalid(f"{where} has the pattern {one_line(key, 80)!r}, which is not taken from a file", _FIX)


def _steps(key: str, length: int, dots: int) -> int:
    """How many steps matching a name of that length and with so many dots takes at the worst.

    The key is tried after every dot; each of its repetitions may end anywhere, and each branch of its groups be tried.
    """
    repeats = len(re.findall(r"[*+?{]", re.sub(r"\[[^]]*\]|\\.", "x", key)))
    return length + (dots + 1) * (len(key) + 1) * int(max(length, 2) ** min(repeats, 12)) * (1 << min(key.count("|"), 20))
