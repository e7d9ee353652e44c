"""A Jinja environment for chat templates of unknown origin: no attribute tricks, and a budget instead of endless work.

Jinja's own immutable sandbox keeps a template away from Python's internals. What it leaves open is work without end: this
environment counts every loop turn, call and filter of one rendering, and weighs every string and list that is made. The
filters and globals are those that published chat templates use. Not covered: the meaning of a template (`template`).
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

SOURCE_CHARS = 1 << 18
STEPS = 2_000_000  # of one rendering: a loop's turn is 1, other work more; a conversation of 1000 messages takes some 200000
FILTER_STEPS, CALL_STEPS, LIST_STEPS = 5, 15, 3  # about what each takes in turns of an empty loop
WEIGHT = 1 << 24  # characters and items of one value, and characters of the whole result
REPEATS = 4_096  # the largest number that may set a width, a count or a precision

FILTERS = frozenset(
    "abs attr capitalize count d default dictsort e escape first float forceescape groupby indent int items join last length "
    "list lower map max min reject rejectattr replace reverse round safe select "
    "selectattr sort string sum title trim unique upper".split()
)


class Refused(Exception):
    """The template called raise_exception: it cannot put this conversation into words."""


class Overspent(TemplateError):
    """The template asked for more work than any chat template needs."""


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment. One rendering at a time: `render` sets the budget anew."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[loopcontrols, _Generation], finalize=self._weighed
        )
        self.filters = {name: self._guarded(found) for name, found in self.filters.items() if name in FILTERS}
        self.filters |= {
            "tojson": self._guarded(_to_json),
            "_turns": self._turns,
            "_weighed": self._weighed,
            "_joined": self._joined,
        }
        self.globals = {name: found for name, found in self.globals.items() if name in ("range", "dict", "namespace")}
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        self._steps = 0

    def prepare(self, source: str) -> "Prepared":
        """The compiled template; raises jinja2.TemplateError, or what Python's compiler raises on absurd nesting."""
        if len(source) > SOURCE_CHARS:
            raise Overspent(f"the template has {len(source)} characters, more than {SOURCE_CHARS}")
        tree = self.parse(source)
        _Counting(self).change(tree)
        return Prepared(self, self.template_class.from_code(self, self.compile(tree), self.make_globals(None)))

    def begin(self) -> None:
        """A new rendering with a full budget."""
        self._steps = STEPS

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An arithmetic operator, refused where its result would be out of all proportion."""
        self._spend(1)
        if operator == "**" and not (_magnitude(left) <= REPEATS and _magnitude(right) <= 64):
            raise Overspent("the template raises to a huge power")
        if operator == "*" and _length(left) * _length(right) > WEIGHT:
            raise Overspent("the template multiplies without measure")
        if operator == "%" and isinstance(left, str):
            _check_format(left)
            self._weighed(right)
        return self._weighed(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call from the template: counted, its arguments and its result weighed."""
        __self._spend(CALL_STEPS)
        __self._check_arguments(args, kwargs)
        method = getattr(__obj, "__wrapped__", __obj)  # Jinja wraps str.format
        owner = getattr(method, "__self__", None)
        if isinstance(owner, str):
            __self._check_method(owner, getattr(method, "__name__", ""), args)
        return __self._weighed(super().call(__context, __obj, *args, **kwargs))

    def _check_method(self, text: str, name: str, args: tuple[Any, ...]) -> None:
        if name in ("format", "format_map"):
            _check_format(text)
        if name == "replace" and len(args) > 1 and isinstance(args[0], str) and isinstance(args[1], str):
            if text.count(args[0]) * len(args[1]) > WEIGHT:
                raise Overspent("the template replaces without measure")
        if name == "join" and len(text) > REPEATS:
            raise Overspent("the template joins with a text that is too long")

    def _check_arguments(self, args: Iterable[Any], kwargs: Mapping[str, Any]) -> None:
        for value in (*args, *kwargs.values()):
            if not isinstance(value, int) or abs(value) <= REPEATS * REPEATS:
                self._weighed(value)
            else:
                raise Overspent("the template passes a huge number")

    def _guarded(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that is counted and weighed; functools.wraps keeps Jinja's marks on it."""

        @functools.wraps(plain)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self._spend(FILTER_STEPS)
            for value in (*args, *kwargs.values()):
                if isinstance(value, int) and not isinstance(value, bool) and abs(value) > REPEATS and value is not args[0]:
                    raise Overspent("the template passes a huge number to a filter")
                self._weighed(value)
            texts = [value for value in (*args, *kwargs.values()) if isinstance(value, str)]
            if plain.__name__ == "do_replace" and len(texts) > 2 and texts[0].count(texts[1]) * len(texts[2]) > WEIGHT:
                raise Overspent("the template replaces without measure")
            if "join" in plain.__name__ and texts and len(texts[-1]) > REPEATS:
                raise Overspent("the template joins with a text that is too long")
            return self._weighed(plain(*args, **kwargs))

        return guarded

    def _turns(self, items: Any) -> Iterator[Any]:
        for item in items:
            self._spend(1)
            yield item

    def _joined(self, parts: list[Any]) -> str:
        texts = [str(self._weighed(part)) for part in parts]
        return str(self._weighed("".join(texts)))

    def _weighed(self, value: Any = "") -> Any:
        """`value` itself, if its characters and items are not too many; shared parts count each time they appear."""
        if isinstance(value, str):
            if len(value) > WEIGHT:
                raise Overspent("the template makes a text without end")
        elif isinstance(value, list | tuple | dict):
            weight, waiting = 0, [value]
            while waiting:
                found = waiting.pop()
                children = [*found.keys(), *found.values()] if isinstance(found, dict) else found
                weight += 1 + len(children) + sum(len(child) for child in children if isinstance(child, str))
                self._spend(LIST_STEPS + len(children) // 8)
                if weight > WEIGHT:
                    raise Overspent("the template makes a list without end")
                waiting += [child for child in children if isinstance(child, list | tuple | dict)]
        elif isinstance(value, int) and value.bit_length() > REPEATS:
            raise Overspent("the template makes a huge number")
        return value

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise Overspent(f"the template takes more than {STEPS} steps")


class Prepared:
    """A compiled template."""

    def __init__(self, sandbox: Sandbox, template: Any) -> None:
        self._sandbox = sandbox
        self._template = template

    def render(self, values: Mapping[str, Any]) -> str:
        """The text; raises Refused, jinja2.TemplateError, or what a wrong template makes Python raise."""
        self._sandbox.begin()
        parts: list[str] = []
        length = 0
        for part in self._template.generate(**values):
            parts.append(part)
            length += len(part)
            if length > WEIGHT:
                raise Overspent("the template writes without end")
        return "".join(parts)


class _Counting:
    """Rewrites a template's tree so that loops are counted and new lists and texts are weighed."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def change(self, tree: nodes.Node) -> None:
        """Rewrite everything below `tree` in place."""
        for name, value in tree.iter_fields():
            if isinstance(value, list):
                setattr(tree, name, [self._changed(item) if isinstance(item, nodes.Node) else item for item in value])
            elif isinstance(value, nodes.Node):
                setattr(tree, name, self._changed(value))

    def _changed(self, node: nodes.Node) -> nodes.Node:
        self.change(node)
        if isinstance(node, nodes.For):
            if node.recursive:
                raise Overspent("the template has a recursive loop")
            node.iter = self._filter("_turns", node.iter)
        elif isinstance(node, nodes.Concat):
            return self._filter("_joined", nodes.List(node.nodes, lineno=node.lineno))
        elif isinstance(node, nodes.AssignBlock):
            node.filter = self._filter("_weighed", node.filter)
        elif isinstance(node, nodes.List | nodes.Dict) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
            return self._filter("_weighed", node)
        return node

    def _filter(self, name: str, node: Any) -> nodes.Filter:
        made = nodes.Filter(node, name, [], [], None, None, lineno=node.lineno if node is not None else 1)
        made.set_environment(self._sandbox)
        return made


class _Generation(Extension):
    """{% generation %}, with which training templates mark the assistant's words: here its body alone."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements up to endgeneration."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str = "") -> None:
    raise Refused(str(message)[:200])


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form[:64])


def _check_format(form: str) -> None:
    if re.search(r"%[-+ #0.]*\d{4}|\{[^{}]*\d{4}|%[^a-z%]*\*", form):
        raise Overspent("the template formats with a huge width")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else abs(value) if isinstance(value, int) else 1


def _magnitude(value: Any) -> float:
    return abs(value) if isinstance(value, int | float) else float("inf")
