"""The `[[rule]]` tables of a file as drafts, with every fault that can be seen in one table alone.

Not covered: faults between rules (`conflicts`) and the rules' own tests, which need the whole file.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from data.config import ModeName
from data.sanitise import one_line
from router._rules.expression import Condition, ExpressionError, parse
from router._rules.source import Place, Source, at, read

RULE_KEYS = ("name", "priority", "when", "model", "mode", "domain", "tools", "reason", "stop", "test")
TEST_KEYS = ("text", "match", "pinned", "attachments", "model", "mode", "domain", "tools")
FIELDS = ("model", "mode", "domain", "tools")
"""What a rule can set."""
LARGEST = 262_144
"""Characters of a rules file at most."""
_PRIORITIES = 1_000_000
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")

Value = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """The names that rules may use; None where they are not known, so that any is taken."""

    models: frozenset[str] | None = None
    modes: frozenset[str] | None = frozenset(get_args(ModeName))
    domains: frozenset[str] | None = None
    tools: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault and where it is."""

    place: Place
    text: str

    def shown(self, source: str) -> str:
        """`file:line:column: text`, below it the line and a caret."""
        head = f"{source}:{self.place.line}:{self.place.column}: {self.text}"
        if not self.place.excerpt.strip():
            return head
        skipped = max(0, self.place.column - 80)
        cut = self.place.excerpt[skipped : skipped + 120].replace("\t", " ")
        return f"{head}\n    {cut}\n    {' ' * (self.place.column - 1 - skipped)}^"


@dataclass(frozen=True, slots=True)
class DraftTest:
    """An inline test: `expects` the fields of the whole file's answer, `match` whether its own rule matches (None: not said)."""

    place: Place
    text: str
    match: bool | None
    expects: Mapping[str, Value]
    pinned: str
    attachments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A rule as its table says it."""

    place: Place
    name: str
    priority: int
    when: str
    condition: Condition
    sets: Mapping[str, Value]
    reason: str
    stop: bool
    tests: tuple[DraftTest, ...]


def drafts(text: str, known: Known) -> tuple[list[Draft], list[Problem]]:
    """The rules of a file in its order, and what is wrong with them. A rule with a fault is left out."""
    if len(text) > LARGEST:
        return [], [Problem(Place(1, 1), f"the file has {len(text):,} characters, {LARGEST:,} at most")]
    text = text.replace("\r\n", "\n")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return [], [syntax_problem(text, str(error))]
    except RecursionError:
        return [], [Problem(Place(1, 1), "not TOML: nested too deeply")]
    source = read(text)
    problems = [
        Problem(_top(text, key), f"unknown key {key}; a rules file holds [[rule]] tables only") for key in document if key != "rule"
    ]
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return [], [*problems, Problem(_top(text, "rule"), "rule is not a list of tables; write [[rule]]")]
    read_tables = [_Table(source, number, known, problems).draft(table) for number, table in enumerate(tables)]
    found = [draft for draft in read_tables if draft is not None]
    return found, problems + _twice(found)


class _Table:
    """One `[[rule]]` being read; faults go to `problems`."""

    def __init__(self, source: Source, number: int, known: Known, problems: list[Problem]) -> None:
        self.source = source
        self.number = number
        self.known = known
        self.problems = problems
        self.test = -1

    def draft(self, table: dict[str, Any]) -> Draft | None:
        before = len(self.problems)
        self.unknown(table, RULE_KEYS, "a rule")
        name, when = self.string(table, "name", needed=True), self.string(table, "when", needed=True)
        if name and not _NAME.fullmatch(name):
            self.fault("name", f"name {one_line(name)!r} is not letters, digits, '.', '-' and '_' (64 at most)")
        priority, stop = table.get("priority", 0), table.get("stop", False)
        if type(priority) is not int or abs(priority) > _PRIORITIES:
            self.fault("priority", f"priority is a whole number from -{_PRIORITIES} to {_PRIORITIES}")
        if not isinstance(stop, bool):
            self.fault("stop", "stop is true or false")
        sets, reason = self.fields(table), self.string(table, "reason")
        if not sets and stop is not True:
            self.fault("", f"the rule sets nothing; give one of {', '.join(FIELDS)}, or stop = true")
        condition = self.condition(when)
        place = self.source.place(self.number)
        tests = tuple(self.tests(table.get("test", [])))
        if condition is None or len(self.problems) > before:
            return None
        return Draft(place, name, priority, when, condition, sets, reason, stop, tests)

    def condition(self, when: str) -> Condition | None:
        if not when:
            return None
        try:
            return parse(when, self.known.domains)
        except ExpressionError as error:
            place = self.source.within(self.source.place(self.number, -1, "when"), error.offset)
            self.problems.append(Problem(place, one_line(error.reason, 400)))
            return None

    def tests(self, tables: Any) -> list[DraftTest]:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.fault("test", "test is not a list of tables; write [[rule.test]]")
            return []
        found = []
        for self.test, table in enumerate(tables):
            found.append(self.one_test(table))
        self.test = -1
        return found

    def one_test(self, table: dict[str, Any]) -> DraftTest:
        self.unknown(table, TEST_KEYS, "a test")
        if "text" not in table:
            self.fault("", "the test has no text")
        text, match = self.string(table, "text"), table.get("match")
        if match is not None and not isinstance(match, bool):
            self.fault("match", "match is true or false")
        expects = self.fields(table)
        place = self.source.place(self.number, self.test)
        wanted = match if match is not None or expects else True
        return DraftTest(place, text, wanted, expects, self.string(table, "pinned"), self.strings(table, "attachments") or ())

    def fields(self, table: dict[str, Any]) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for field, known in (("model", self.known.models), ("mode", self.known.modes), ("domain", self.known.domains)):
            value = self.string(table, field)
            if field in table and not value:
                self.fault(field, f"{field} is empty")
            elif value:
                found[field] = value
                self.named(field, value, known)
        tools = self.strings(table, "tools")
        if tools is not None:
            found["tools"] = tools
            for tool in tools:
                self.named("tools", tool, self.known.tools)
        return found

    def named(self, field: str, value: str, known: frozenset[str] | None) -> None:
        if known is None or value in known:
            return
        close = difflib.get_close_matches(value, known, 1)
        offer = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known)) or 'none'}"
        self.fault(field, f"unknown {field.removesuffix('s')} {one_line(value)!r}; {offer}")

    def string(self, table: dict[str, Any], key: str, *, needed: bool = False) -> str:
        value = table.get(key, "")
        if not isinstance(value, str):
            self.fault(key, f"{key} is not a string")
            return ""
        if needed and not value.strip():
            self.fault(key, f"the rule has no {key}")
        return value

    def strings(self, table: dict[str, Any], key: str) -> tuple[str, ...] | None:
        value = table.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self.fault(key, f"{key} is not a list of strings")
            return None
        return tuple(dict.fromkeys(value))

    def unknown(self, table: dict[str, Any], keys: tuple[str, ...], what: str) -> None:
        for key in table:
            if key not in keys:
                close = difflib.get_close_matches(key, keys, 1)
                offer = f"did you mean {close[0]}?" if close else f"{what} has {', '.join(keys)}"
                self.fault(key, f"unknown key {one_line(key)}; {offer}")

    def fault(self, key: str, text: str) -> None:
        self.problems.append(Problem(self.source.place(self.number, self.test, key), text))


def _twice(found: list[Draft]) -> list[Problem]:
    first: dict[str, Draft] = {}
    problems = []
    for draft in found:
        other = first.setdefault(draft.name, draft)
        if other is not draft:
            problems.append(Problem(draft.place, f"a second rule named {draft.name}; the first is on line {other.place.line}"))
    return problems


def syntax_problem(text: str, message: str) -> Problem:
    """Where and why a text is not TOML, by tomllib's own message."""
    match = re.search(r"\(at (?:line (\d+), column (\d+)|end of document)\)", message)
    reason = f"not TOML: {message[: match.start()].strip() if match else message}"
    if match is None or match.group(1) is None:
        return Problem(at(text, len(text)), reason)
    line, column = int(match.group(1)), int(match.group(2))
    excerpt = text.split("\n")[line - 1] if line <= text.count("\n") + 1 else ""
    return Problem(Place(line, column, excerpt), one_line(reason, 300))


def _top(text: str, key: str) -> Place:
    match = re.search(rf"^[ \t]*\[*[ \t]*[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    return at(text, match.start()) if match else Place(1, 1)
