"""Exact arithmetic as a tool: whole numbers and fractions stay exact, roots, logarithms and angles are given to 30 digits.

Its own small parser; nothing is ever handed to Python to run. A value is a Fraction (exact) or a Decimal (rounded, shown after
"≈"). Not covered: units (see units), variables, complex numbers, comparisons.
"""

import decimal
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from data.errors import ToolError
from router.tools import _functions as functions
from router.tools._numbers import CONTEXT, Number, exact, shown
from router.tools.base import Surroundings, Tool, tool

CHARS = 1_000
"""Length of an expression at most; with the bound on digits it keeps every calculation within a fraction of a second."""
DEPTH = 50
"""Parentheses, powers and signs within each other at most."""

_TOKEN = re.compile(
    r"\s*(?P<number>(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,6}(?![\w.]))?)"
    r"|\s*(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|\s*(?P<sign>\*\*|//|[-+*/%^!(),°√])"
)
_GROUPED = re.compile(r"(?<![\d.,_])\d{1,3}(?:,\d{3})+(?![\d_]|,\d)")
_SPACED = re.compile(r"(?<![\d.,_])\d{1,3}(?:[ \u00a0\u2009\u202f]\d{3})+(?![\d_])")
_ASKED = re.compile(
    r"(?:(?:please|can you|could you)\s+)*(?:what(?:'s|\s+is|\s+are)|how much is|calculate|compute|work out|evaluate|solve)?:?\s*"
    r"(?:the (?:value|result) of\s+)?(?P<expression>[^?]+?)\s*[=?.\s]*",
    re.IGNORECASE,
)
_SIGNS = {"plus": "+", "minus": "-", "times": "*", "multiplied by": "*", "divided by": "/", "to the power of": "**", "percent": "%"}
_IN_WORDS = re.compile("|".join(rf"\b{words}\b" for words in _SIGNS).replace(" ", r"\s+"), re.IGNORECASE)
_NO_SUM = re.compile(r"[\d\s.,]*|\d+(?:[-/]\d+)+")  # a lone number such as a year, a date, a phone number, 24/7
_SPELLINGS = str.maketrans(
    {"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "∕": "/", "π": "pi", "τ": "tau", "²": "**2", "³": "**3"}
)


def build(surroundings: Surroundings) -> Sequence[Tool]:
    """The one tool of this file."""

    @tool("none", spelled=spelled)
    def calculator(expression: str) -> str:
        """Calculate exactly. expression: for example 3*(4+5)/7, 17% of 250, 2^64, 10!, sqrt(2), log(8, 2), sin(30°), round(2/3, 2).
        Functions: sqrt root ln log log2 log10 exp sin cos tan asin acos atan abs round floor ceil min max sum mean gcd lcm comb
        perm factorial mod powmod."""
        return calculate(expression)

    return (calculator,)


def calculate(expression: str) -> str:
    """The value as text: "42", "0.125", "1/3 ≈ 0.33333333333333333333" or "≈ 1.41421…"; raises ToolError."""
    text = _plain(expression)
    with decimal.localcontext(CONTEXT):
        try:
            value = _Parser(_tokens(text)).whole()
            return shown(value)
        except decimal.Overflow as error:
            raise ToolError("the result is too large", "calculate with its logarithm instead") from error
        except decimal.InvalidOperation as error:
            raise ToolError(f"{_short(expression)} is not defined") from error


def spelled(question: str) -> dict[str, str] | None:
    """The expression of a question that asks for nothing but its value, None for any other."""
    found = _ASKED.fullmatch(question.strip()) if len(question) <= CHARS else None
    if found is None:
        return None
    expression = _IN_WORDS.sub(lambda word: _SIGNS[" ".join(word[0].casefold().split())], found["expression"])
    if _NO_SUM.fullmatch(expression.strip()):
        return None
    try:
        calculate(expression)
    except ToolError:
        return None
    return {"expression": expression}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, name, sign, end
    text: str
    spaced: bool = False  # white space stands before it
    at: int = 0


def _plain(expression: str) -> str:
    """The expression with one spelling of everything, thousands separators taken out."""
    if len(expression) > CHARS:
        raise ToolError(f"the expression has {len(expression):,} characters, at most {CHARS:,} are taken", "calculate in steps")
    text = expression.translate(_SPELLINGS)
    text = "".join(unicodedata.normalize("NFKC", char) if char.isspace() or "\uff01" <= char <= "\uff5e" else char for char in text)
    text = text.strip().removesuffix("=").rstrip()
    if not text:
        raise ToolError("the expression is empty", "give one such as 3*(4+5)/7")
    return _SPACED.sub(lambda found: re.sub(r"\s", "", found[0]), text)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    calls: list[int | None] = []  # for each open parenthesis: where the call's arguments begin, or None
    at = 0
    while at < len(text):
        begin = at + len(text[at:]) - len(text[at:].lstrip())
        if not any(place is not None for place in calls) and (grouped := _GROUPED.match(text, begin)):
            text = text[:begin] + grouped[0].replace(",", "") + text[grouped.end() :]
        match = _TOKEN.match(text, at)
        if match is None or not match.lastgroup:
            if not text[at:].strip():
                break
            raise ToolError(f"{text[begin]!r} at character {begin + 1} means nothing here", "write numbers, + - * / // % ** ! ( )")
        token = _Token(match.lastgroup, match[match.lastgroup], begin > at, begin)
        _follow(calls, token, found, text)
        found.append(token)
        at = match.end()
    return [*found, _Token("end", "", at=len(text))]


def _follow(calls: list[int | None], token: _Token, before: list[_Token], text: str) -> None:
    """Keep account of open calls; within one a comma separates arguments, and a thousands separator must not hide among them."""
    if token.text == "(":
        calls.append(token.at if before and before[-1].kind == "name" and before[-1].text.lower() in functions.FUNCTIONS else None)
    elif token.text == ")" and calls and (begin := calls.pop()) is not None:
        inside = text[begin : token.at]
        doubtful = [group for found in _GROUPED.finditer(inside) for group in found[0].split(",")[1:]]
        if doubtful and (", " in inside or any(group.startswith("0") for group in doubtful)):
            raise ToolError(f"the commas in {inside}) can be read in two ways", "write numbers without thousands separators there")


@dataclass(slots=True)
class _Parser:
    """Recursive descent. sum: product (+ product)*; product: signed (* signed)*; power binds tighter than a sign before it."""

    tokens: list[_Token]
    at: int = 0
    depth: int = field(default=0)

    def whole(self) -> Number:
        value = self._sum()
        if self._next.kind != "end":
            raise self._unexpected()
        return value

    @property
    def _next(self) -> _Token:
        return self.tokens[self.at]

    def _take(self, *texts: str) -> str:
        """The next token's text where it is one of these (and steps over it), else ""."""
        token = self._next
        if token.kind != "number" and token.text.lower() in texts:
            self.at += 1
            return token.text.lower()
        return ""

    def _sum(self) -> Number:
        value = self._product()
        while sign := self._take("+", "-"):
            other = self._product()
            value = functions.add(value, other if sign == "+" else functions.negative(other))
        return value

    def _product(self) -> Number:
        value = self._signed()
        while sign := self._operator():
            value = _PRODUCTS[sign](value, self._signed())
        return value

    def _operator(self) -> str:
        if self._next.text == "%":
            self.at += 1
            return "%"  # a percent sign was taken by _postfix already
        return self._take("*", "/", "//", "of", "x", "mod")

    def _signed(self) -> Number:
        self._deeper()
        sign = self._take("+", "-")
        value = self._signed() if sign else self._power()
        self.depth -= 1
        return functions.negative(value) if sign == "-" else value

    def _power(self) -> Number:
        value = self._postfix()
        if self._take("**", "^"):
            return functions.power(value, self._signed())
        return value

    def _postfix(self) -> Number:
        value = self._atom()
        while True:
            if self._take("!"):
                if self._next.text == "!":
                    raise ToolError("'!!' can be read in two ways", "write (n!)! for the factorial of a factorial")
                value = functions.factorial(value)
            elif self._take("°"):
                value = functions.radians(value)
            elif self._next.text == "%" and self._is_percent():
                self.at += 1
                value = functions.multiply(value, Fraction(1, 100))
            else:
                return value

    def _is_percent(self) -> bool:
        """`%` before an operand is the remainder, else percent; ` % -3` could be both."""
        sign, after = self._next, self.tokens[self.at + 1]
        if after.text in ("+", "-") and sign.spaced and not self.tokens[self.at + 2].spaced:
            raise ToolError(f"'% {after.text}' can be read in two ways", "write mod(a, b) for the remainder, (a%) for percent")
        operand = after.kind == "number" or after.text in ("(", "√")
        return not (operand or (after.kind == "name" and after.text.lower() not in ("of", "x", "mod")))

    def _atom(self) -> Number:
        token = self._next
        self.at += 1
        if token.kind == "number":
            return exact(token.text)
        if token.text == "(":
            self._deeper()
            value = self._sum()
            self._close()
            self.depth -= 1
            return value
        if token.text == "√":
            self._deeper()
            value = functions.square_root(self._atom())
            self.depth -= 1
            return value
        if token.kind == "name":
            return self._named(token.text.lower())
        self.at -= 1
        raise self._unexpected()

    def _named(self, name: str) -> Number:
        if name in functions.CONSTANTS:
            return functions.CONSTANTS[name]
        called = functions.FUNCTIONS.get(name)
        if called is None:
            raise ToolError(f"{_short(name)} is unknown", f"known: {', '.join([*functions.CONSTANTS, *functions.FUNCTIONS])}")
        if not self._take("("):
            raise ToolError(f"{name} needs its arguments in parentheses", f"write {name}(...)")
        self._deeper()
        values = [] if self._next.text == ")" else [self._sum()]
        while self._take(","):
            values.append(self._sum())
        self._close()
        self.depth -= 1
        least, most = called.arity
        if not least <= len(values) <= most:
            count = str(least) if least == most else f"{least} to {most}" if most < CHARS else f"at least {least}"
            raise ToolError(f"{name} takes {count} arguments, {len(values)} given")
        return called.of(*values)

    def _close(self) -> None:
        if not self._take(")"):
            raise self._unexpected("a closing parenthesis is missing; ")

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > DEPTH:
            raise ToolError(f"the expression is nested more than {DEPTH} deep", "calculate in steps")

    def _unexpected(self, note: str = "") -> ToolError:
        token = self._next
        if token.kind == "end":
            return ToolError(f"{note}the expression ends too early")
        hint = "use a point for decimals" if token.text == "," else "an operator may be missing; write 2*(3+4), not 2(3+4)"
        return ToolError(f"{note}{_short(token.text)} at character {token.at + 1} is not expected there", hint)


_PRODUCTS: dict[str, Callable[[Number, Number], Number]] = {
    "*": functions.multiply,
    "of": functions.multiply,
    "x": functions.multiply,
    "/": functions.divide,
    "//": functions.floor_divide,
    "%": functions.remainder,
    "mod": functions.remainder,
}


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:39] + "…")
