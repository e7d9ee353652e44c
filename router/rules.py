"""Routing rules that the user writes: a TOML file of conditions on the question and of what they set. See docs/rules.md.

    [[rule]]
    name = "refunds"
    priority = 20
    when = 'keyword("refund", "charge back") and not regex("(?i)\\btest\\b") and words < 40'
    domain = "billing"
    reason = "money that should come back"
    [[rule.test]]
    text = "I want a refund"

Higher priorities first, then the order in the file; per field the first rule that matches wins. A file counts only when it has no
fault, its rules do not contradict each other, and all of its tests pass. A rule costs about a microsecond on a question.
Not covered: what the fields lead to (`route`), and whether a model that a rule names can be had at the moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from data import paths
from data.errors import RulesError
from data.sanitise import one_line
from router._rules.conflicts import contradictions, shadows
from router._rules.facts import REGEX_CHARS, SEEN_CHARS, Facts
from router._rules.table import LARGEST, Draft, DraftTest, Known, Problem, Value, drafts

__all__ = ["REGEX_CHARS", "SEEN_CHARS", "Facts", "Known", "Matches", "Rule", "Rules", "RulesFile", "TestResult", "Won"]

T = TypeVar("T", str, tuple[str, ...])


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as a decision tells of it; `line` is that of its [[rule]] header."""

    name: str
    line: int
    priority: int
    reason: str


@dataclass(frozen=True, slots=True)
class Won(Generic[T]):
    """What a field was set to, and by which rule."""

    value: T
    rule: Rule


@dataclass(frozen=True, slots=True)
class Matches:
    """What the rules say about one text: per field the winner (None: no rule sets it), and all rules that matched in order."""

    model: Won[str] | None = None
    mode: Won[str] | None = None
    domain: Won[str] | None = None
    tools: Won[tuple[str, ...]] | None = None
    matched: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class TestResult:
    """One inline test: its rule, its line, and in words what was expected and what came."""

    rule: str
    line: int
    text: str
    passed: bool
    expected: str
    got: str

    __test__ = False  # not a test of pytest's, in spite of its name


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one file in the order in which they are asked. Immutable; made by `parse`."""

    source: str = ""
    notes: tuple[str, ...] = ()
    """What is no fault but will surprise: rules that can never set a field."""
    _entries: tuple[tuple[Draft, Rule], ...] = ()

    @classmethod
    def parse(cls, text: str, source: str, known: Known | None = None) -> "Rules":
        """The rules of a file's text. Raises RulesError with every problem: faults, else contradictions, else failed tests."""
        found, problems = drafts(text, known or Known())
        _refuse(source, problems)
        _refuse(source, contradictions(found))
        ordered = sorted(found, key=lambda draft: -draft.priority)
        entries = tuple((draft, Rule(draft.name, draft.place.line, draft.priority, draft.reason)) for draft in ordered)
        rules = cls(source, tuple(note.shown(source).partition("\n")[0] for note in shadows(ordered)), entries)
        places = {test.place.line: test.place for draft in ordered for test in draft.tests}
        failed = [result for result in rules.tests() if not result.passed]
        _refuse(
            source,
            [
                Problem(
                    places[test.line],
                    f"a test of {test.rule} fails for {one_line(test.text, 60)!r}: expected {test.expected}, got {test.got}",
                )
                for test in failed
            ],
        )
        return rules

    def __len__(self) -> int:
        return len(self._entries)

    def match(self, facts: Facts) -> Matches:
        """What the rules say about a text. An empty text matches nothing."""
        if not facts.text:
            return Matches()
        won: dict[str, Won[Any]] = {}
        matched = []
        for draft, rule in self._entries:
            if not draft.condition.holds(facts):
                continue
            matched.append(rule)
            for field, value in draft.sets.items():
                if field not in won:
                    won[field] = Won(value, rule)
            if draft.stop:
                break
        return Matches(**won, matched=tuple(matched))

    def tests(self) -> list[TestResult]:
        """Run every inline test, in the order of the file."""
        results = [self._run(draft, test) for draft, _ in self._entries for test in draft.tests]
        return sorted(results, key=lambda result: result.line)

    def _run(self, draft: Draft, test: DraftTest) -> TestResult:
        found = self.match(Facts.of(test.text, domain=test.pinned, attachments=test.attachments))
        got = {field: won.value for field in test.expects if (won := getattr(found, field)) is not None}
        wanted = {"match": _bool(test.match), **_shown(test.expects)} if test.match is not None else _shown(test.expects)
        came = dict.fromkeys(test.expects, "nothing") | _shown(got)
        if test.match is not None:
            came = {"match": _bool(any(rule.name == draft.name for rule in found.matched)), **came}
        line, expected, result = test.place.line, _listed(wanted), _listed(came)
        return TestResult(draft.name, line, test.text, wanted == came, expected, result)


class RulesFile:
    """The rules file of a user or of a domain pack, read again when it has changed. One thread at a time."""

    def __init__(self, path: Path | None = None, known: Known | None = None) -> None:
        self.path = path or paths.config_dir() / "rules.toml"
        self._known = known
        self._seen: tuple[int, int] | None = None
        self._good = Rules(str(self.path))
        self._fault = ""

    def load(self) -> Rules:
        """The file's rules; none where there is no file. Raises RulesError where it cannot be read or is wrong."""
        try:
            if not self.path.exists():
                return Rules(str(self.path))
            with self.path.open("rb") as file:
                content = file.read(4 * LARGEST + 1)
            return Rules.parse(content.decode("utf-8-sig"), str(self.path), self._known)
        except OSError as error:
            raise RulesError(f"cannot read {self.path}: {error.strerror or error}", "make it a readable file") from error
        except UnicodeDecodeError as error:
            raise RulesError(f"{self.path} is not UTF-8 text, at byte {error.start}", "save it as UTF-8") from error

    def current(self) -> tuple[Rules, str]:
        """The rules in force, and "" or why the file's newer ones are not: those before it stay."""
        seen = self._stamp()
        if seen != self._seen:
            self._seen = seen
            try:
                self._good, self._fault = self.load(), ""
            except RulesError as error:
                self._fault = "\n".join(error.problems)
        return self._good, self._fault

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except OSError:  # absent, or told by load
            return (-1, int(self.path.is_symlink()))
        return (status.st_mtime_ns, status.st_size)


def _refuse(source: str, problems: Sequence[Problem]) -> None:
    if not problems:
        return
    ordered = sorted(problems, key=lambda problem: (problem.place.line, problem.place.column))
    first = f"{source}:{ordered[0].place.line}:{ordered[0].place.column}: {ordered[0].text}"
    what = first if len(ordered) == 1 else f"{len(ordered)} faults in {source}, the first: {first}"
    raise RulesError(what, "correct the file; until then it is not used", tuple(problem.shown(source) for problem in ordered))


def _shown(values: Mapping[str, Value]) -> dict[str, str]:
    return {field: value if isinstance(value, str) else f"[{', '.join(value)}]" for field, value in values.items()}


def _bool(value: bool | None) -> str:
    return str(value).lower()


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{key} = {one_line(value)}" for key, value in values.items())
