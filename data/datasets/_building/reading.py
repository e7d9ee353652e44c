"""The first pass of a build: read, clean, redact, judge, reason, measure. What passes goes to the work file, the rest aside.

Rows go one at a time from the source to a file; only their facts stay in memory. Not covered: duplicates and splits (`deciding`).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from data.datasets._building.facts import Facts, compared
from data.datasets._building.judging import Judge
from data.datasets.chains import PROPERTY, Chains, check_chain, from_knowledge, name_faults, with_reasoning
from data.datasets.manifest import SourceNote
from data.datasets.rows import Origin, Refused, Row
from data.domains import Domain
from data.sanitise import one_line

if TYPE_CHECKING:
    from data.datasets.build import BuildOptions
    from data.datasets.duplicates import Signatures

ROWS_FILE = "rows.jsonl"
QUARANTINE = "quarantine.jsonl"
CUT = " […]"
"""Marks where a text was cut to fit."""
LEAST_TOKENS = 16
"""Of a text that may be left by cutting."""

_ENCODER = json.JSONEncoder(ensure_ascii=False)

Progress = Callable[[str, float, float], None]
"""What is being done, and how far: bytes done of bytes in all, 0 of 0 where that is not known."""


class Quarantine:
    """quarantine.jsonl: the refused rows with their reasons, counted by filter."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("wb")
        self.by_filter: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()
        self._first = ""

    def add(self, refused: Refused) -> None:
        """Write one row; duplicates are counted apart."""
        counter = self.duplicates if refused.filter.endswith("duplicate") else self.by_filter
        counter[refused.filter] += 1
        self._first = self._first or f"{refused.origin}: {refused.reason}"
        self._file.write(line(refused.to_dict()))

    def summary(self) -> str:
        """The filters that refused most, and the first reason."""
        counts = ", ".join(f"{count} by {name}" for name, count in (self.by_filter + self.duplicates).most_common(3))
        return f"{counts}; {self._first}" if counts else "the sources are empty"

    def __enter__(self) -> "Quarantine":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


class Reading:
    """The filters of one build, in their order, and what they counted."""

    def __init__(self, domain: Domain | None, options: "BuildOptions") -> None:
        from data.datasets.clean import Cleaner
        from data.datasets.redact import Redactor

        self.facts = Facts()
        self.sources: list[SourceNote] = []
        self.redactions: Counter[str] = Counter()
        self.cleaner = Cleaner()
        self.chains = Chains(domain, options.teacher, options.teacher_name, options.chains != "none") if domain else None
        self.truncated = 0
        self._redactor = Redactor(deny=options.deny, region=options.region) if options.redact else None
        self._judge = Judge(domain)
        self._rename = dict(options.rename)
        self._domain = domain
        self._options = options
        self._fixed_tokens = options.count_tokens(domain.instruction()) if options.count_tokens and domain else 0

    def read(
        self, sources: Iterable[Any], work: Path, signatures: "Signatures", quarantine: Quarantine, progress: Progress
    ) -> None:
        """Read every source to its end into the work file."""
        with (work / ROWS_FILE).open("wb") as rows:
            for source in sources:
                self._source(source, rows.write, signatures, quarantine, progress)

    def _source(
        self, source: Any, write: Callable[[bytes], Any], signatures: "Signatures", quarantine: Quarantine, progress: Progress
    ) -> None:
        name = _unused(source.name, [note.name for note in self.sources])
        step = f"reading {name}"
        progress(step, 0, 0)
        count = 0
        for found in source.rows(lambda done, of: progress(step, done, of)):
            count += 1
            if name != source.name:
                found = replace(found, origin=replace(found.origin, source=name))
            passed = found if isinstance(found, Refused) else self._passed(found)
            if isinstance(passed, Refused):
                quarantine.add(self._shown(passed))
                continue
            row, label, tokens = passed
            write(line(row.to_dict()))
            signatures.add(compared(row))
            self.facts.add(row, label, tokens)
        self.sources.append(SourceNote(name=name, sha256=source.digest(), licence=source.licence, rows=count))

    def _passed(self, row: Row) -> tuple[Row, str, int] | Refused:
        """The row as it is kept, its label, its tokens; or why it is not kept."""
        cleaned = self.cleaner.check(row)
        if isinstance(cleaned, Refused):
            return cleaned
        row = self._renamed(cleaned) if self._rename else cleaned
        if self._redactor:
            row, findings = self._redactor.row(row)
            self.redactions.update(finding.kind for finding in findings)
        judged = self._judge.labels(row)
        reasoned = judged if isinstance(judged, Refused) else self._reasoned(judged)
        judged = reasoned if isinstance(reasoned, Refused) else self._judge.output(reasoned)
        if isinstance(judged, Refused):
            return judged
        row = judged
        measured = self._measured(row)
        if isinstance(measured, Refused):
            return measured
        row, tokens = measured
        return row, self._judge.label(row), tokens

    def _renamed(self, row: Row) -> Row:
        names = self._rename
        right, wrong = (tuple(names.get(one, one) for one in labels) for labels in (row.correct_labels, row.incorrect_labels))
        return replace(row, label=names.get(row.label, row.label), correct_labels=right, incorrect_labels=wrong)

    def _reasoned(self, row: Row) -> Row | Refused:
        """The row with its reasoning; refused where the one in its output is wrong and nothing takes its place."""
        if self.chains is None:
            return row
        found = self.chains.row(row)
        if row.output.get(PROPERTY) and not found.output.get(PROPERTY):
            faults = name_faults(f"{row.reasoning} {row.output[PROPERTY]}", row.text, self.chains.indicators)
            return refused(row.origin, "reasoning", f"its reasoning is wrong: {'; '.join(faults)}", row.text)
        return self.cleaner.check(found) if found.reasoning_source == "teacher" else found  # a model wrote it: untrusted text

    def _shown(self, refused: Refused) -> Refused:
        """The refused row without personal data in its excerpt; of a cut excerpt the last word goes, as half of a secret is one."""
        if self._redactor is None or not refused.excerpt:
            return refused
        shown = refused.excerpt.removesuffix("…")
        whole = shown == refused.excerpt
        text, _ = self._redactor.text(shown if whole else shown.rpartition(" ")[0])
        return replace(refused, excerpt=text if whole else f"{text}…")

    def _measured(self, row: Row) -> tuple[Row, int] | Refused:
        """The row with its tokens, cut where that was asked for; refused where it stays too long."""
        count, most = self._options.count_tokens, self._options.max_tokens
        if count is None:
            return row, 0
        tokens = self._tokens(row)
        if not most or tokens <= most:
            return row, tokens
        if self._options.overlong == "truncate_prompt":
            cut = self._cut(row, tokens - most, count)
            if (found := self._tokens(cut)) <= most:
                self.truncated += 1
                return cut, found
        return refused(row.origin, "length", f"{tokens} tokens, more than {most}", row.text)

    def _cut(self, row: Row, over: int, count: Callable[[str], int]) -> Row:
        """The row with its text cut so that it has about `over` tokens fewer and its reasoning true; itself where it cannot."""
        room = count(row.text) - over - count(CUT) - 1
        if room < LEAST_TOKENS:
            return row
        least, most = 0, len(row.text)
        while least < most:  # the longest beginning that fits
            middle = (least + most + 1) // 2
            least, most = (middle, most) if count(row.text[:middle]) <= room else (least, middle - 1)
        cut = replace(row, text=row.text[:least].rstrip() + CUT)
        if not row.reasoning or not self.chains or not self._domain:
            return cut
        if not check_chain(row.reasoning, cut.text, self.chains.indicators, self._domain.labels):
            return cut
        if row.reasoning_source != "knowledge base":
            return row
        told = from_knowledge(cut.text, self._judge.label(cut), self._domain, self.chains.indicators)
        return with_reasoning(cut, self._domain, told, "knowledge base")

    def _tokens(self, row: Row) -> int:
        """Tokens of what a trained model would read and write, the domain's own message included, a chat template's not."""
        count = self._options.count_tokens
        if count is None:
            return 0
        answers = [text for text in (row.completion, row.rejected) if text] or [row.label]
        if row.output:
            answers.append(json.dumps(dict(row.output), ensure_ascii=False))
        before = "\n".join(message.content for message in row.before)
        read = sum(count(text) for text in (before, row.text, row.reasoning) if text)
        return self._fixed_tokens + read + max(count(text) for text in answers)


def _unused(name: str, used: list[str]) -> str:
    """The name, or with a number behind it where another source has it."""
    return next(one for one in (name, *(f"{name}#{number}" for number in range(2, len(used) + 3))) if one not in used)


def line(value: dict[str, Any]) -> bytes:
    """One line of JSONL, UTF-8; a lone surrogate as its JSON escape."""
    return (_ENCODER.encode(value) + "\n").encode("utf-8", "backslashreplace")


def refused(origin: Origin, by: str, reason: str, text: str) -> Refused:
    """A refused row with the beginning of its text."""
    return Refused(origin, by, reason, one_line(text, 120))
