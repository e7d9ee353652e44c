"""The rules of a domain pack: what has the last word over a model's output. Read from the pack's rules.toml.

    [[rule]]
    name = "self_harm"
    priority = 100
    when = 'keyword("kill myself", "end my life")'
    set = { risk = "high" }
    reason = "words of self-harm"
    [[rule.test]]
    text = "I want to end my life"

`set` forces properties; `never` lists values that are not allowed, so that the next most probable takes their place; `at_most`
and `at_least` bound numbers, those that Pointsman fills in included. Paths are dotted; `label` is the label whatever its property
is called. Higher priorities first, then the file's order; for one property the first rule that says anything about it wins.
Conditions are those of docs/rules.md. Not covered: weighing rules against other voices (`classification`).
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.domains import Domain
from data.errors import RulesError
from data.sanitise import one_line
from router._rules.expression import Condition, ExpressionError, parse
from router._rules.facts import Facts
from router._rules.source import Source, read
from router._rules.table import LARGEST, Problem, syntax_problem

RULE_KEYS = ("name", "priority", "when", "set", "never", "at_most", "at_least", "reason", "test")
TEST_KEYS = ("text", "match")
ACTIONS = ("set", "never", "at_most", "at_least")
LABEL = "label"
_SPACES = re.compile(r"[^\S\n]{2,}")  # a second space hides nothing from a regex


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say about one text, by dotted path; matched: names of the rules that held, reasons: why, by path."""

    matched: tuple[str, ...] = ()
    set: Mapping[str, Any] = field(default_factory=dict)
    never: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    priority: int
    condition: Condition
    actions: Mapping[str, Mapping[str, Any]]
    reason: str


@dataclass(frozen=True, slots=True)
class DomainRules:
    """The rules of one pack in the order in which they are asked. Immutable."""

    rules: tuple[_Rule, ...] = ()

    @classmethod
    def of(cls, domain: Domain) -> "DomainRules":
        """The rules of a pack; none where it has no rules.toml. Raises RulesError with every problem and its line."""
        file = domain.folder / "rules.toml"
        if not file.is_file():
            return cls()
        try:
            with file.open("rb") as opened:
                text = opened.read(4 * LARGEST + 1).decode("utf-8-sig")
        except OSError as error:
            raise RulesError(f"cannot read {file}: {error.strerror or error}", "make it a readable file") from error
        except UnicodeDecodeError as error:
            raise RulesError(f"{file} is not UTF-8 text, at byte {error.start}", "save it as UTF-8") from error
        return cls.parse(text, str(file), domain)

    @classmethod
    def parse(cls, text: str, source: str, domain: Domain) -> "DomainRules":
        """The rules of a file's text; raises RulesError with every problem: faults, else tests that fail."""
        reader = _Reader(text, domain)
        found = cls(tuple(sorted(reader.rules, key=lambda rule: -rule.priority)))
        problems = reader.problems or reader.failed(found)
        if problems:
            ordered = sorted(problems, key=lambda problem: (problem.place.line, problem.place.column))
            shown = tuple(problem.shown(source) for problem in ordered)
            first = shown[0].partition("\n")[0]
            what = first if len(shown) == 1 else f"{len(shown)} faults in {source}, the first: {first}"
            raise RulesError(what, "correct the file", shown)
        return found

    def __len__(self) -> int:
        return len(self.rules)

    def verdict(self, text: str) -> Verdict:
        """What the rules say about a text; nothing about an empty one."""
        facts = Facts.of(_SPACES.sub(" ", text))
        if not facts.text:
            return Verdict()
        matched: list[str] = []
        reasons: dict[str, str] = {}
        kept: dict[str, dict[str, Any]] = {action: {} for action in ACTIONS}
        for rule in self.rules:
            if not rule.condition.holds(facts):
                continue
            matched.append(rule.name)
            said = {path for action in ACTIONS for path in rule.actions[action]}
            fresh = said - reasons.keys()
            for action in ACTIONS:
                kept[action] |= {path: value for path, value in rule.actions[action].items() if path in fresh}
            reasons |= dict.fromkeys(fresh, rule.reason or rule.name)
        return Verdict(tuple(matched), **kept, reasons=reasons)


def properties(schema: Mapping[str, Any], prefix: str = "") -> dict[str, Mapping[str, Any]]:
    """Every property of an object schema and of the objects in it, by dotted path."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, part in schema.get("properties", {}).items():
        if isinstance(part, Mapping):
            found[prefix + name] = part
            found |= properties(part, f"{prefix}{name}.")
    return found


class _Reader:
    """A rules file being read: rules without a fault, and the problems of the others."""

    def __init__(self, text: str, domain: Domain) -> None:
        self.rules: list[_Rule] = []
        self.problems: list[Problem] = []
        self._tests: list[tuple[str, int, int, str, bool]] = []
        self._known = dict(properties(domain.schema))
        if domain.labels:
            self._known[LABEL] = {"enum": list(domain.labels)}
        text = text.replace("\r\n", "\n")
        self.source: Source = read("")
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.problems.append(syntax_problem(text, str(error)))
            return
        except RecursionError:
            self.fault(0, "", "not TOML: nested too deeply")
            return
        self.source = read(text)
        tables = document.pop("rule", [])
        for key in document:
            self.fault(0, "", f"unknown key {one_line(key)}; a pack's rules file holds [[rule]] tables only")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.fault(0, "", "rule is not a list of tables; write [[rule]]")
            return
        for number, table in enumerate(tables):
            self._rule(number, table)

    def failed(self, rules: DomainRules) -> list[Problem]:
        """The inline tests that do not hold."""
        found = []
        for name, number, test, text, match in self._tests:
            if (name in rules.verdict(text).matched) != match:
                said = f"a test of {name} fails: {one_line(text, 60)!r} should{'' if match else ' not'} match"
                found.append(Problem(self.source.place(number, test), said))
        return found

    def fault(self, number: int, key: str, text: str, test: int = -1) -> None:
        self.problems.append(Problem(self.source.place(number, test, key), text))

    def _rule(self, number: int, table: dict[str, Any]) -> None:
        before = len(self.problems)
        self._unknown(number, table, RULE_KEYS)
        name, when, reason = (self._string(number, table, key) for key in ("name", "when", "reason"))
        if not name:
            self.fault(number, "name", "the rule has no name")
        elif any(rule.name == name for rule in self.rules):
            self.fault(number, "name", f"a second rule named {one_line(name)}")
        priority = table.get("priority", 0)
        if type(priority) is not int:
            self.fault(number, "priority", "priority is a whole number")
        condition = self._condition(number, when)
        actions = {action: self._action(number, action, table.get(action, {})) for action in ACTIONS}
        if not any(actions.values()):
            self.fault(number, "", f"the rule does nothing; give one of {', '.join(ACTIONS)}")
        self._cases(number, name, table.get("test", []))
        if condition is not None and len(self.problems) == before:
            self.rules.append(_Rule(name, priority, condition, actions, reason))

    def _condition(self, number: int, when: str) -> Condition | None:
        if not when:
            self.fault(number, "when", "the rule has no when")
            return None
        try:
            return parse(when)
        except ExpressionError as error:
            place = self.source.within(self.source.place(number, -1, "when"), error.offset)
            self.problems.append(Problem(place, one_line(error.reason, 400)))
            return None

    def _action(self, number: int, action: str, table: Any) -> dict[str, Any]:
        if not isinstance(table, dict):
            self.fault(number, action, f"{action} is a table: {action} = {{ property = value }}")
            return {}
        found = {}
        for path, value in _flattened(table, self._known).items():
            if path not in self._known:
                close = difflib.get_close_matches(path, self._known, 1)
                offer = f"did you mean {close[0]}?" if close else f"there are: {', '.join(self._known)}"
                self.fault(number, action, f"unknown property {one_line(path)}; {offer}")
            elif problem := _unfit(action, value, self._known[path]):
                self.fault(number, action, f"{path}: {problem}")
            else:
                found[path] = tuple(value) if action == "never" else value
        return found

    def _cases(self, number: int, name: str, tables: Any) -> None:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.fault(number, "test", "test is not a list of tables; write [[rule.test]]")
            return
        for at, table in enumerate(tables):
            self._unknown(number, table, TEST_KEYS, at)
            text, match = table.get("text"), table.get("match", True)
            if not isinstance(text, str) or not isinstance(match, bool):
                self.fault(number, "", "a test has a text, and match = true or false", at)
            else:
                self._tests.append((name, number, at, text, match))

    def _string(self, number: int, table: dict[str, Any], key: str) -> str:
        value = table.get(key, "")
        if not isinstance(value, str):
            self.fault(number, key, f"{key} is not a string")
            return ""
        return value.strip()

    def _unknown(self, number: int, table: dict[str, Any], keys: tuple[str, ...], test: int = -1) -> None:
        for key in table:
            if key not in keys:
                close = difflib.get_close_matches(key, keys, 1)
                self.fault(number, key, f"unknown key {one_line(key)}" + (f"; did you mean {close[0]}?" if close else ""), test)


def _flattened(table: Mapping[str, Any], known: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted paths of a table: `a.b = 1` without quotes is a table in a table for TOML."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and prefix + key not in known:
            found |= _flattened(value, known, f"{prefix}{key}.")
        elif isinstance(value, dict) and "properties" in known[prefix + key]:
            found |= _flattened(value, known, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _unfit(action: str, value: Any, schema: Mapping[str, Any]) -> str:
    """Why a value cannot stand there, "" where it can."""
    if action in ("at_most", "at_least"):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (
            "" if number and schema.get("type") in ("number", "integer") else "bounds are numbers, for properties that are numbers"
        )
    if action == "never":
        if "enum" not in schema:
            return "never is for properties with an enum"
        if not isinstance(value, list) or not value:
            return "never is a list of values"
        strange = [one for one in value if one not in schema["enum"]]
        return f"{strange[0]!r} is none of its values" if strange else "" if len(value) < len(schema["enum"]) else "nothing is left"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is none of its values: {', '.join(map(str, schema['enum']))}"
    kinds: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "boolean": bool,
        "array": list,
        "number": (int, float),
        "integer": int,
    }
    kind = kinds.get(schema.get("type", ""))
    if isinstance(value, str) and len(value) > schema.get("maxLength", len(value)):
        return f"the text has {len(value)} characters, and schema.json allows {schema['maxLength']}"
    return "" if kind is None or isinstance(value, kind) else f"{value!r} is no {schema['type']}"
