"""What two answers have in common: the final answer in a text, spelled so that equal ones are equal.

Self-consistency (Wang et al. 2022, arXiv 2203.11171) counts final answers, not texts. Not covered: answers that say the same
in other words.
"""

import re
from decimal import Decimal, InvalidOperation

from router.modes._contract import unmarked

SHORT_CHARS = 120
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:[,\u2009\u202f ]\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?|[-+]?\.\d+")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}|####\s*(.+)")
_WORDS = re.compile(r"[^\W_]+")
_FILLING = frozenset("the a an is are was it its answer final so therefore of to be".split())


def final(text: str) -> str:
    """The part of an answer that says what was asked: behind the marker, in a box, or the last line."""
    _, answer = unmarked(text)
    answer = answer or text.strip()
    boxed = _BOXED.findall(answer)
    if boxed:
        return "".join(boxed[-1]).strip()
    return answer if len(answer) <= SHORT_CHARS else answer.splitlines()[-1].strip()


def normal(text: str) -> str:
    """The final answer in one spelling: its last number where it has any, else its words without small ones; "" for none."""
    answer = final(text)
    numbers = _NUMBER.findall(answer.replace("−", "-"))
    if numbers:
        return _number(numbers[-1])
    words = [word for word in _WORDS.findall(answer.casefold()) if word not in _FILLING]
    return " ".join(words or _WORDS.findall(answer.casefold()))


def _number(text: str) -> str:
    try:
        value = Decimal(re.sub(r"[,\s\u2009\u202f]", "", text)).normalize()
    except InvalidOperation:
        return text
    return f"{value:f}" if -30 < value.adjusted() < 30 else str(value)
