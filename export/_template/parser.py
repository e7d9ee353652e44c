"""The tree of a Go template: text, actions, if, with, range, and pipelines of commands.

Follows text/template/parse of Go 1.26. Not covered: define, template and block, which no chat template needs.
"""

from dataclasses import dataclass
from typing import TypeAlias

from data.errors import ModelInvalid
from export._template.lexer import Token, fault, pieces

DEPTH = 100  # blocks and parentheses in one another


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, number, true, false, or nil (None)."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Name:
    """A function."""

    name: str


@dataclass(frozen=True, slots=True)
class Path:
    """`.` and `.A.B` (start ""), `$` and `$x.A` (start "$", "$x"), or `(pipeline).A`."""

    start: "str | Pipe"
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pipe:
    """`$x := commands` or `$x = commands`: the last value of the commands, each given the value before it."""

    commands: "tuple[tuple[Operand, ...], ...]"
    names: tuple[str, ...] = ()
    assigns: bool = False


Operand: TypeAlias = Literal | Name | Path | Pipe


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline whose value is printed unless it declares."""

    pipe: Pipe
    line: int


@dataclass(frozen=True, slots=True)
class Jump:
    """break or continue."""

    kind: str


@dataclass(frozen=True, slots=True)
class Block:
    """if, with or range, with what stands after else."""

    kind: str
    pipe: Pipe
    body: "tuple[Node, ...]"
    other: "tuple[Node, ...]"
    line: int


Node: TypeAlias = str | Action | Jump | Block


def parse(source: str) -> tuple[Node, ...]:
    """The tree; raises ModelInvalid with the line where Go would refuse it, or where it uses what is not covered."""
    parser = _Parser(list(pieces(source)))
    found, end = parser.nodes(frozenset(), 0)
    if end is not None:
        raise ModelInvalid("the Go template has an {{ end }} too many", "correct the template")
    return found


class _Parser:
    def __init__(self, found: list[str | tuple[Token, ...]]) -> None:
        self._pieces = found
        self._at = 0
        self._loops = 0

    def nodes(self, ends: frozenset[str], variables: int) -> tuple[tuple[Node, ...], "_Line | None"]:
        """The nodes up to a keyword of `ends`, and the rest of its action; None at the template's end."""
        if variables > DEPTH:
            raise ModelInvalid(f"the Go template has more than {DEPTH} blocks in one another", "use a simpler one")
        found: list[Node] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            self._at += 1
            if isinstance(piece, str):
                found.append(piece)
                continue
            line = _Line(piece)
            keyword = line.keyword()
            if keyword in ("end", "else"):
                if keyword not in ends:
                    raise fault(f"unexpected {keyword}", line.number)
                line.found = keyword
                return tuple(found), line
            found.append(self._node(line, keyword, variables))
        if ends:
            raise ModelInvalid("the Go template ends inside a block", "add the missing {{ end }}")
        return tuple(found), None

    def _node(self, line: "_Line", keyword: str, depth: int) -> Node:
        if keyword in ("if", "with", "range"):
            return self._block(line, keyword, depth)
        if keyword in ("break", "continue"):
            line.done()
            if not self._loops:
                raise fault(f"{keyword} outside a range", line.number)
            return Jump(keyword)
        if keyword:
            raise fault(f"{keyword} is not supported here", line.number)
        return Action(line.whole_pipe(1), line.number)

    def _block(self, line: "_Line", kind: str, depth: int) -> Block:
        pipe = line.whole_pipe(2 if kind == "range" else 1)
        self._loops += kind == "range"
        body, end = self.nodes(frozenset(("end", "else")), depth + 1)
        self._loops -= kind == "range"
        other: tuple[Node, ...] = ()
        if end is not None and end.found == "else":
            again = end.keyword()
            if again and (again != kind or kind == "range"):
                raise fault(f"unexpected {again} after else", end.number)
            if again:
                other = (self._block(end, kind, depth + 1),)
                return Block(kind, pipe, body, other, line.number)
            end.done()
            other, end = self.nodes(frozenset(("end",)), depth + 1)
        if end is not None:
            end.done()
        return Block(kind, pipe, body, other, line.number)


class _Line:
    """The tokens of one action, read from the left."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._at = 0
        self.number = tokens[0].line if tokens else 1
        self.found = ""

    def keyword(self) -> str:
        """The keyword that stands next, taken; "" where there is none."""
        self._blanks()
        if self._kind() == "keyword":
            self._at += 1
            return self._tokens[self._at - 1].value
        return ""

    def done(self) -> None:
        """Raises ModelInvalid where something is left."""
        self._blanks()
        if self._at < len(self._tokens):
            raise fault(f"unexpected {self._tokens[self._at].value!r}", self.number)

    def whole_pipe(self, names: int) -> Pipe:
        """The pipeline that fills the rest of the action, declaring at most that many variables."""
        found = self._pipe(names, 0)
        self.done()
        return found

    def _pipe(self, most: int, depth: int) -> Pipe:
        if depth > DEPTH:
            raise fault(f"more than {DEPTH} parentheses in one another", self.number)
        names, assigns = self._declared(most)
        commands = [self._command(depth)]
        while self._kind() == "|":
            self._at += 1
            commands.append(self._command(depth))
        for command in commands[1:]:
            if not isinstance(command[0], Name):
                raise fault("only a function can stand after |", self.number)
        return Pipe(tuple(commands), names, assigns)

    def _declared(self, most: int) -> tuple[tuple[str, ...], bool]:
        start, names = self._at, list[str]()
        while len(names) < most:
            self._blanks()
            if self._kind() != "variable":
                break
            names.append(self._tokens[self._at].value)
            self._at += 1
            self._blanks()
            if self._kind() in ("declare", "assign"):
                self._at += 1
                return tuple(names), self._tokens[self._at - 1].kind == "assign"
            if self._kind() != ",":
                break
            self._at += 1
        self._at = start
        return (), False

    def _command(self, depth: int) -> tuple[Operand, ...]:
        found: list[Operand] = []
        while True:
            self._blanks()
            if self._kind() in ("", "|", ")"):
                break
            found.append(self._operand(depth))
            if self._kind() not in ("", "|", ")", "space"):
                raise fault(f"unexpected {self._tokens[self._at].value!r}", self.number)
        if not found:
            raise fault("a command is missing", self.number)
        if len(found) > 1 and not isinstance(found[0], Name):
            raise fault("only a function can be given arguments", self.number)
        return tuple(found)

    def _operand(self, depth: int) -> Operand:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "string":
            return Literal(token.value)
        if token.kind == "number":
            return Literal(float(token.value) if set(token.value) & set(".eE") else _whole(token))
        if token.kind == "word":
            constants = {"true": True, "false": False, "nil": None}
            return Literal(constants[token.value]) if token.value in constants else Name(token.value)
        if token.kind == "variable":
            return Path(token.value, self._fields())
        if token.kind in ("dot", "field"):
            self._at -= token.kind == "field"
            return Path("", self._fields())
        if token.kind == "(":
            inner = self._pipe(0, depth + 1)
            self._blanks()
            if self._kind() != ")":
                raise fault("a parenthesis is not closed", self.number)
            self._at += 1
            fields = self._fields()
            return Path(inner, fields) if fields else inner
        raise fault(f"unexpected {token.value!r}", token.line)

    def _fields(self) -> tuple[str, ...]:
        start = self._at
        while self._kind() == "field":
            self._at += 1
        return tuple(token.value for token in self._tokens[start : self._at])

    def _blanks(self) -> None:
        while self._kind() == "space":
            self._at += 1

    def _kind(self) -> str:
        return self._tokens[self._at].kind if self._at < len(self._tokens) else ""


def _whole(token: Token) -> int:
    """A decimal integer; Go reads 010 as octal, which nobody means."""
    digits = token.value.lstrip("+-")
    if (len(digits) > 1 and digits.startswith("0")) or len(digits) > 18:
        raise fault(f"the number {token.value} is not plain decimal", token.line)
    return int(token.value)
