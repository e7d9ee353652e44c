"""Go's text/template, as far as chat templates use it, run without Go and with a budget instead of endless work.

Actions, variables, trim markers, comments, if / else if, with, range (over lists, maps and whole numbers), break, continue,
pipelines and the functions of `functions`. Where the original would refuse, so does this, with a ModelInvalid; what is not
covered is refused too, never guessed: templates in templates, methods, printing of lists. A name that does not exist is
noticed where it is reached, and not, as in Go, before. Source: https://pkg.go.dev/text/template, Go 1.26.
"""

from collections.abc import Iterator, Mapping
from datetime import date

from export._template import parser
from export._template.functions import Record, Value, failure, functions, in_bytes, printed, truth

STEPS = 1_000_000  # nodes and turns of one rendering; a conversation of 1000 messages takes up to 170000
WEIGHT = 1 << 24  # characters of the result, and of one value


class GoTemplate:
    """A parsed template. `tree` are its nodes, `source` its text."""

    def __init__(self, source: str, tree: tuple[parser.Node, ...] | None = None) -> None:
        """Raises ModelInvalid for what cannot be parsed; tree: in place of what `source` says."""
        self.source = source
        self.tree = parser.parse(source) if tree is None else tree

    def render(self, values: Mapping[str, Value], today: date | None = None) -> str:
        """The text. values: the map that `.` is; today: what currentDate says. Raises ModelInvalid."""
        return _Run(dict(values), today or date.today()).text(self.tree)

    def names(self) -> frozenset[str]:
        """The fields and variables that the template mentions, in lower case."""
        return frozenset(name.lower() for name in _names(self.tree))


class _Leaving(Exception):
    """break or continue, on its way to the range it ends."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class _Run:
    """One rendering: variables, budget, output."""

    def __init__(self, root: dict[str, Value], today: date) -> None:
        self._variables: list[tuple[str, Value]] = [("$", root)]
        self._functions = functions(today)
        self._steps = STEPS
        self._written: list[str] = []
        self._length = 0

    def text(self, tree: tuple[parser.Node, ...]) -> str:
        self._walk(tree, self._variables[0][1])
        try:
            return in_bytes("".join(self._written)).decode()
        except UnicodeDecodeError as error:
            raise failure("it writes half a character") from error

    def _walk(self, nodes: tuple[parser.Node, ...], dot: Value) -> None:
        for node in nodes:
            self._spend()
            if isinstance(node, str):
                self._write(node)
            elif isinstance(node, parser.Jump):
                raise _Leaving(node.kind)
            elif isinstance(node, parser.Action):
                value = self._pipe(node.pipe, dot)
                if not node.pipe.names:
                    self._write(printed(value))
            elif node.kind == "range":
                self._range(node, dot)
            else:
                self._branch(node, dot)

    def _branch(self, block: parser.Block, dot: Value) -> None:
        mark = len(self._variables)
        value = self._pipe(block.pipe, dot)
        inner = value if block.kind == "with" and truth(value) else dot
        self._walk(block.body if truth(value) else block.other, inner)
        del self._variables[mark:]

    def _range(self, block: parser.Block, dot: Value) -> None:
        mark, names = len(self._variables), block.pipe.names
        value = self._pipe(block.pipe, dot, declares=False)
        turned = False
        for index, item in _items(value, len(names)):
            turned = True
            given = dict(zip(names, (index, item), strict=True)) if len(names) == 2 else dict.fromkeys(names, item)
            for name, found in given.items():
                self._set(name, found, block.pipe.assigns)
            self._spend()
            try:
                self._walk(block.body, item)
            except _Leaving as leaving:
                if leaving.kind == "break":
                    break
            finally:
                del self._variables[mark:]
        if not turned:
            self._otherwise(block, dot)
        del self._variables[mark:]

    def _otherwise(self, block: parser.Block, dot: Value) -> None:
        """What a range without items does; in Go a break there ends this range, not the one around it."""
        try:
            self._walk(block.other, dot)
        except _Leaving as leaving:
            if leaving.kind != "break":
                raise

    def _pipe(self, pipe: parser.Pipe, dot: Value, declares: bool = True) -> Value:
        self._spend()
        value: Value = None
        given: tuple[Value, ...] = ()
        for command in pipe.commands:
            value = self._command(command, dot, given)
            given = (value,)
        if declares:
            for name in pipe.names:
                self._set(name, value, pipe.assigns)
        return value

    def _command(self, command: tuple[parser.Operand, ...], dot: Value, given: tuple[Value, ...]) -> Value:
        first = command[0]
        if first == parser.Literal(None):
            raise failure("nil is no command")
        if not isinstance(first, parser.Name):
            return self._operand(first, dot)
        if first.name in ("and", "or"):
            return self._either(first.name, command[1:], dot, given)
        arguments = [self._operand(operand, dot) for operand in command[1:]]
        if first.name not in self._functions:
            raise failure(f"the function {first.name} is not known")
        try:
            found = self._functions[first.name](*arguments, *given)
        except TypeError as error:
            raise failure(f"{first.name} has the wrong number of arguments") from error
        if isinstance(found, str):
            self._weigh(len(found))
        return found

    def _either(self, name: str, operands: tuple[parser.Operand, ...], dot: Value, given: tuple[Value, ...]) -> Value:
        """`and` ends at the first false value, `or` at the first true one; what follows is not computed."""
        if not operands and not given:
            raise failure(f"{name} has no argument")
        value: Value = None
        for operand in operands:
            value = self._operand(operand, dot)
            if truth(value) == (name == "or"):
                return value
        return given[0] if given else value

    def _operand(self, operand: parser.Operand, dot: Value) -> Value:
        self._spend()
        if isinstance(operand, parser.Literal):
            return operand.value
        if isinstance(operand, parser.Name):
            return self._command((operand,), dot, ())
        if isinstance(operand, parser.Pipe):
            return self._pipe(operand, dot)
        if isinstance(operand.start, parser.Pipe):
            value = self._pipe(operand.start, dot)
        else:
            value = self._variable(operand.start) if operand.start else dot
        for field in operand.fields:
            value = _field(value, field)
        return value

    def _variable(self, name: str) -> Value:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        raise failure(f"the variable {name} is not declared")

    def _set(self, name: str, value: Value, assigns: bool) -> None:
        if not assigns:
            self._variables.append((name, value))
            return
        for place in range(len(self._variables) - 1, -1, -1):
            if self._variables[place][0] == name:
                self._variables[place] = (name, value)
                return
        raise failure(f"the variable {name} is not declared")

    def _write(self, text: str) -> None:
        self._length += len(text)
        self._weigh(self._length)
        self._written.append(text)

    def _weigh(self, length: int) -> None:
        if length > WEIGHT:
            raise failure("it writes without end")
        self._spend(length >> 12)

    def _spend(self, steps: int = 1) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise failure(f"it takes more than {STEPS} steps")


def _field(value: Value, name: str) -> Value:
    """A field of a struct, or a key of a map, which may be missing."""
    if isinstance(value, Record):
        if name not in value:
            raise failure(f"there is no field {name}")
        return value[name]
    if isinstance(value, Mapping):
        return value.get(name)
    raise failure(f"the field {name} of what has no fields")


def _items(value: Value, names: int) -> Iterator[tuple[Value, Value]]:
    if isinstance(value, int) and not isinstance(value, bool) and names < 2:
        yield from ((None, number) for number in range(value))
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, Mapping) and not isinstance(value, Record):
        yield from sorted(value.items())
    elif value is not None:
        raise failure("range over what has no items")


def _names(nodes: tuple[parser.Node, ...]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, parser.Action | parser.Block):
            yield from _pipe_names(node.pipe)
        if isinstance(node, parser.Block):
            yield from _names(node.body)
            yield from _names(node.other)


def _pipe_names(pipe: parser.Pipe) -> Iterator[str]:
    for operand in (operand for command in pipe.commands for operand in command):
        if isinstance(operand, parser.Pipe):
            yield from _pipe_names(operand)
        elif isinstance(operand, parser.Path) and isinstance(operand.start, str):
            yield from ((operand.start,) if operand.start else ())
            yield from operand.fields
