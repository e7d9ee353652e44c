"""Whether a row fits its domain: a known label, an output that the schema allows, and both of one mind.

Not covered: whether the label is right, and what a training format needs (`formats`).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from data.cases import at_path
from data.datasets.rows import Refused, Row
from data.domains import Domain
from data.sanitise import one_line

FILTER = "domain"


class Judge:
    """Judges rows by a domain; without one every row fits."""

    def __init__(self, domain: Domain | None) -> None:
        self._domain = domain
        self._known = frozenset(domain.labels) if domain else frozenset()
        self._field = domain.described.label_field if domain else ""

    def check(self, row: Row) -> Row | Refused:
        """The row, its label taken from its output where it has none of its own; or why it does not fit."""
        labelled = self.labels(row)
        return labelled if isinstance(labelled, Refused) else self.output(labelled)

    def labels(self, row: Row) -> Row | Refused:
        """As `check`, of the labels alone; an answer that is a bare label, as corrections often are, is the row's label."""
        if self._domain is None:
            return row
        inner = self._inner(row.output)
        if row.label and inner and row.label != inner:
            return self._refused(row, f"the label is {row.label!r}, but its output says {inner!r}")
        row = replace(row, label=inner) if inner and not row.label else self._bare(row)
        for label in (row.label, *row.correct_labels, *row.incorrect_labels):
            if label and label not in self._known:
                return self._refused(
                    row, f"unknown label {one_line(label, 60)!r}; known: {', '.join(self._domain.labels) or 'none'}"
                )
        if both := set(row.correct_labels) & set(row.incorrect_labels):
            return self._refused(row, f"the label {sorted(both)[0]!r} is said to be right and wrong")
        return row

    def output(self, row: Row) -> Row | Refused:
        """As `check`, of the output alone."""
        if row.output and (fault := self._fault(row.output)):
            return self._refused(row, f"the output is not valid: {fault}")
        return row

    def label(self, row: Row) -> str:
        """The label that a row counts under: its own, or the only one that is right; "" for none."""
        return row.label or (row.correct_labels[0] if len(row.correct_labels) == 1 else "")

    def _bare(self, row: Row) -> Row:
        """The row with the label that its answer is, where it has no other; what was judged bad is no label."""
        given = row.label or row.output or row.correct_labels or row.thumb is False
        return replace(row, label=said) if not given and (said := row.completion.strip()) in self._known else row

    def _inner(self, output: Mapping[str, Any]) -> str:
        if not self._field or not output:
            return ""
        try:
            found = at_path(output, self._field)
        except KeyError:
            return ""
        return found if isinstance(found, str) else ""

    def _fault(self, output: Mapping[str, Any]) -> str:
        """How an output breaks the schema of what the model writes, in words; "" where it does not."""
        if self._validator is None:
            return ""
        import jsonschema

        error = jsonschema.exceptions.best_match(self._validator.iter_errors(dict(output)))
        return f"{error.json_path}: {one_line(error.message, 160)}" if error else ""

    @cached_property
    def _validator(self) -> Any:
        if self._domain is None or not self._domain.asked:
            return None
        import jsonschema

        return jsonschema.Draft202012Validator(dict(self._domain.asked))

    def _refused(self, row: Row, reason: str) -> Refused:
        return Refused(row.origin, FILTER, reason, one_line(row.text, 120))
