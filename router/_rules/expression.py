"""The language of `when`: a boolean expression over keywords, regexes and structure, and what it costs to be wrong in it.

    expression = conjunction {"or" conjunction}          conjunction = negation {"and" negation}
    negation   = "not" negation | "(" expression ")" | "true" | FLAG | FUNCTION "(" STRING {"," STRING} ")" | comparison
    comparison = operand OPERATOR operand [OPERATOR operand]       operand = NUMBER | a name of `facts.NUMBERS`

Strings stand in single or double quotes and are raw: a backslash is one, only before the string's own quote it hides that.
Not covered: where in the file an expression stands (`source` maps offsets to lines).
"""

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router._rules.facts import FLAGS, NUMBERS, Facts, about, clean, keyword
from router._rules.regexes import checked

LONGEST = 4_000
"""Characters of an expression at most."""
DEEPEST = 40
"""Levels of parentheses and `not` at most."""

FUNCTIONS = ("keyword", "all_keywords", "about", "regex", "starts_with", "ends_with", "domain")
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\"|[^"])*"|'(?:\\'|[^'])*')|(?P<number>\d+)|(?P<word>[^\W\d]\w*)"""
    r"""|(?P<sign><=|>=|==|!=|<|>|\(|\)|,)|(?P<end>$)|(?P<bad>.))""",
    re.DOTALL,
)
_OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne
}  # fmt: skip
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
Test = Callable[[Facts], bool]


class ExpressionError(ValueError):
    """A fault in an expression: `reason`, and `offset` in characters from its begin."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition ready to be asked. Two of the same meaning have the same `key` where they differ only in form: order and
    repetition within `and` and `or`, double `not`, the side of a comparison, case of keywords, spaces."""

    key: str
    holds: Test
    joined: str = ""
    parts: tuple[str, ...] = ()


def parse(text: str, domains: frozenset[str] | None = None) -> Condition:
    """The condition of an expression; `domains`, where given, are the only ones it may name. Raises ExpressionError."""
    if len(text) > LONGEST:
        raise ExpressionError(f"the condition has {len(text)} characters, {LONGEST} at most", LONGEST)
    return _Parser(text, domains).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    offset: int


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while True:
        match = _TOKEN.match(text, at)
        kind = match.lastgroup or "end" if match else "end"  # always a match: the pattern ends in $ and any character
        token = _Token(kind, match.group(kind) if match else "", match.start(kind) if match else at)
        if token.kind == "bad":
            reason = "a string that does not end" if token.text in "\"'" else f"{token.text!r} means nothing here"
            raise ExpressionError(reason, token.offset)
        found.append(token)
        if match is None or token.kind == "end":
            return found
        at = match.end()


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str, domains: frozenset[str] | None) -> None:
        self.tokens = _tokens(text)
        self.at = 0
        self.depth = 0
        self.domains = domains

    def whole(self) -> Condition:
        found = self.choice()
        if self.next.kind != "end":
            raise ExpressionError(f"expected and, or, or the end, found {self.next.text}", self.next.offset)
        return found

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        self.at += token.kind != "end"
        return token

    def have(self, text: str) -> bool:
        if self.next.kind in ("word", "sign") and self.next.text == text:
            self.at += 1
            return True
        return False

    def need(self, text: str, why: str) -> None:
        if not self.have(text):
            raise ExpressionError(f"expected {text} {why}, found {self.next.text or 'the end'}", self.next.offset)

    def choice(self) -> Condition:
        parts = [self.conjunction()]
        while self.have("or"):
            parts.append(self.conjunction())
        return _joined("or", parts)

    def conjunction(self) -> Condition:
        parts = [self.negation()]
        while self.have("and"):
            parts.append(self.negation())
        return _joined("and", parts)

    def negation(self) -> Condition:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ExpressionError(f"more than {DEEPEST} levels deep", self.next.offset)
        try:
            return self.primary()
        finally:
            self.depth -= 1

    def primary(self) -> Condition:
        if self.have("not"):
            return _negated(self.negation())
        if self.have("("):
            inner = self.choice()
            self.need(")", "to close the parenthesis")
            return inner
        token = self.take()
        if token.kind == "number" or token.text in NUMBERS:
            return self.comparison(token)
        if token.kind != "word" or token.text in ("and", "or"):
            raise ExpressionError(f"expected a condition, found {token.text or 'the end'}", token.offset)
        if token.text == "true":
            return Condition("true", lambda facts: True)
        if token.text in FLAGS:
            return _flag(token.text)
        if token.text in FUNCTIONS:
            return self.call(token)
        raise ExpressionError(f"unknown name {token.text}{_nearest(token.text)}", token.offset)

    def call(self, name: _Token) -> Condition:
        self.need("(", f"after {name.text}")
        strings = [self.string(name.text)]
        while self.have(","):
            strings.append(self.string(name.text))
        self.need(")", f"to close {name.text}(")
        return _call(name.text, strings, self.domains)

    def string(self, name: str) -> _Token:
        token = self.take()
        if token.kind != "string":
            raise ExpressionError(f"{name} takes strings in quotes, found {token.text or 'nothing'}", token.offset)
        quote = token.text[0]
        return _Token("string", token.text[1:-1].replace("\\" + quote, quote), token.offset)

    def comparison(self, first: _Token) -> Condition:
        parts, left = [], first
        for _ in range(2):
            sign = self.next
            if sign.text not in _OPERATORS:
                break
            self.take()
            right = self.take()
            parts.append(_compared(left, sign, right))
            left = right
        if not parts:
            raise ExpressionError(f"{first.text} needs a comparison, such as {_example(first)}", first.offset)
        return _joined("and", parts)


def _example(token: _Token) -> str:
    return f"{token.text} < words" if token.kind == "number" else f"{token.text} > 0"


def _compared(left: _Token, sign: _Token, right: _Token) -> Condition:
    for token in (left, right):
        if token.kind != "number" and token.text not in NUMBERS:
            wanted = f"a number or one of {', '.join(NUMBERS)}"
            raise ExpressionError(f"expected {wanted}, found {token.text or 'the end'}", token.offset)
    if left.kind == right.kind == "number":
        raise ExpressionError("a comparison of two numbers is always the same", left.offset)
    symbol = sign.text
    if left.kind == "number":
        left, right, symbol = right, left, _FLIPPED[symbol]
    compare, name = _OPERATORS[symbol], left.text
    if right.kind != "number":
        other = right.text
        return Condition(f"{name} {symbol} {other}", lambda facts: compare(facts.number(name), facts.number(other)))
    if len(right.text) > 9:
        raise ExpressionError("a number of more than nine digits", right.offset)
    value = int(right.text)
    strict = {"<": ("<=", value - 1), ">": (">=", value + 1)}.get(symbol, (symbol, value))
    return Condition(f"{name} {strict[0]} {strict[1]}", lambda facts: compare(facts.number(name), value))


def _flag(name: str) -> Condition:
    return Condition(name, lambda facts: facts.flag(name))


def _negated(inner: Condition) -> Condition:
    key = inner.key[5:-1] if inner.key.startswith("not (") else f"not ({inner.key})"
    holds = inner.holds
    return Condition(key, lambda facts: not holds(facts))


def _joined(word: str, parts: Sequence[Condition]) -> Condition:
    unique = {part.key: part for part in parts}
    if len(unique) == 1:
        return parts[0]
    tests = tuple(part.holds for part in unique.values())
    keys = sorted({key for part in unique.values() for key in (part.parts if part.joined == word else (part.key,))})
    test = _all(tests) if word == "and" else _any(tests)
    return Condition(f"{word}[{'; '.join(keys)}]", test, word, tuple(keys))


def _all(tests: Sequence[Test]) -> Test:
    def holds(facts: Facts) -> bool:
        for test in tests:  # not all(): a generator costs three times as much
            if not test(facts):
                return False
        return True

    return holds


def _any(tests: Sequence[Test]) -> Test:
    def holds(facts: Facts) -> bool:
        for test in tests:
            if test(facts):
                return True
        return False

    return holds


def _call(name: str, strings: Sequence[_Token], domains: frozenset[str] | None) -> Condition:
    parts = []
    for string in strings:
        try:
            parts.append(_single(name, string.text, domains))
        except ValueError as error:
            within = error.args[1] + 1 if len(error.args) > 1 else 0
            raise ExpressionError(str(error.args[0]), string.offset + within) from error
    return _joined("and" if name == "all_keywords" else "or", parts)


def _single(name: str, text: str, domains: frozenset[str] | None) -> Condition:
    if name in ("keyword", "all_keywords"):
        return Condition(f"keyword({' '.join(clean(text).casefold().split())!r})", keyword(text))
    if name == "about":
        return Condition(f"about({' '.join(clean(text).casefold().split())!r})", about(text))
    if name == "regex":
        search = checked(text).search
        return Condition(f"regex({text!r})", lambda facts: search(facts.start) is not None)
    if name == "domain":
        if domains is not None and text not in domains:
            raise ValueError(f"unknown domain {text!r}; known: {', '.join(sorted(domains)) or 'none'}")
        return Condition(f"domain({text!r})", lambda facts: facts.domain == text)
    wanted = clean(text).casefold().strip()
    if not wanted:
        raise ValueError(f"{name} takes a text that is not empty")
    if name == "starts_with":
        return Condition(f"starts_with({wanted!r})", lambda facts: facts.folded.startswith(wanted))
    return Condition(f"ends_with({wanted!r})", lambda facts: facts.tail.endswith(wanted))


def _nearest(name: str) -> str:
    known = [*FUNCTIONS, *FLAGS, *NUMBERS, "and", "or", "not", "true"]
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"
