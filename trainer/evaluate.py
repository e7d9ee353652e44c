"""What a model is worth on a domain: its answers about labelled rows and adversarial cases, held against what is wanted.

Works on any function that classifies texts (`router.classification.Classifier.classify`); nothing here loads a model. A row whose
answer is faulty counts as wrong. The adversarial cases come first, so that loading a model does not count in the seconds of a
row. Not covered: answers in free text (`answers`), what a model is compared with (`baseline`), the page (`report`).
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data.cases import Case, at_path
from data.domains import Domain, Example
from data.errors import InputError
from data.sanitise import one_line
from router.classification import Classified
from router.linear import Floats
from trainer.figures import Figures, Labels, figures
from trainer.scores import Adversarial, FailedCase, Prediction, Scores

Classify = Callable[[Sequence[str]], Iterable[Classified]]
Progress = Callable[[str, int, int], object]

SHOWN_LABELS = 12
"""Labels that a message lists at most."""


def evaluate(
    domain: Domain,
    classify: Classify,
    rows: Sequence[Example],
    progress: Progress = lambda doing, done, of: None,
    notes: Sequence[str] = (),
) -> Scores:
    """The scores of what `classify` says about the rows and about the pack's adversarial cases.

    Raises InputError where there are no rows or a row has a label that the domain does not know; what `classify` raises goes on.
    """
    require_rows(domain, rows)
    hard = _adversarial(domain, classify, progress)
    started = time.perf_counter()
    answers = list(_told(classify([row.text for row in rows]), "rows", len(rows), progress))
    seconds = time.perf_counter() - started
    predictions = _predictions(domain, rows, answers)
    schema = bool(domain.schema)
    return Scores(
        domain.name,
        next((one.model for one in answers if one.model), ""),
        len(rows),
        sum(bool(one.fault) for one in predictions),
        _label_figures(domain, predictions) if domain.labels else None,
        None,
        sum(bool(one.valid) for one in predictions) / len(rows) if schema else None,
        hard,
        _fields(domain, predictions),
        _voices(domain, predictions),
        seconds,
        predictions,
        domain,
        tuple(notes),
    )


def require_rows(domain: Domain, rows: Sequence[Example]) -> None:
    """Raise InputError where nothing can be measured: no rows, or labels that the domain does not know, which are listed."""
    if not rows:
        raise InputError(f"there are no rows to measure {domain.name} with", "give --data, or add validation rows to its examples")
    if not domain.labels:
        return
    strange = Counter(row.label for row in rows if row.label not in domain.labels)
    if not strange:
        return
    listed = ", ".join(f"{one_line(label, 40) or 'no label'!r} ({count})" for label, count in strange.most_common(SHOWN_LABELS))
    more = f" and {len(strange) - SHOWN_LABELS} more" if len(strange) > SHOWN_LABELS else ""
    known = ", ".join(domain.labels[:SHOWN_LABELS]) + (", …" if len(domain.labels) > SHOWN_LABELS else "")
    raise InputError(f"{domain.name} does not know these labels of the rows: {listed}{more}", f"its labels are {known}")


def sampled(rows: Sequence[Example], limit: int) -> list[Example]:
    """At most `limit` of the rows, the same ones every time, whatever their order: by the hash of their texts; 0 takes all."""
    if not limit or len(rows) <= limit:
        return list(rows)
    return sorted(rows, key=lambda row: (hashlib.sha256(row.text.encode("utf-8", "surrogatepass")).digest(), row.label))[:limit]


def choices(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The dotted paths of the properties that are one of some values."""
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        if "enum" in part or part.get("type") == "boolean":
            yield here
        elif part.get("type") == "object":
            yield from choices(part, here)


def _adversarial(domain: Domain, classify: Classify, progress: Progress) -> Adversarial:
    cases = [case for case in domain.cases if case.expect]
    if not cases:
        return Adversarial()
    answers = list(_told(classify([case.text for case in cases]), "adversarial cases", len(cases), progress))
    outputs = {case.id: _whole(answer) for case, answer in zip(cases, answers, strict=True)}
    found = [_failed(case, answer, outputs) for case, answer in zip(cases, answers, strict=True)]
    failed = tuple(one for one in found if one is not None)
    return Adversarial(len(cases) - len(failed), len(cases), failed)


def _failed(case: Case, answer: Classified, outputs: Mapping[str, Mapping[str, Any]]) -> FailedCase | None:
    faults = [answer.fault] if answer.fault else case.failures(outputs[case.id], outputs)
    return FailedCase(case.id, case.text, tuple(faults), case.why, outputs[case.id]) if faults else None


def _whole(answer: Classified) -> dict[str, Any]:
    """The output as cases expect it: with the label and its confidence, whatever the pack calls them."""
    return {"label": answer.label, "confidence": answer.confidence, **answer.output}


def _predictions(domain: Domain, rows: Sequence[Example], answers: Sequence[Classified]) -> tuple[Prediction, ...]:
    import jsonschema

    validator = jsonschema.Draft202012Validator(domain.schema) if domain.schema else None
    return tuple(
        Prediction(
            row.text,
            row.label,
            "" if one.fault else one.label,
            one.confidence,
            {} if one.fault else one.probabilities,
            one.output,
            row.output,
            None if validator is None else not one.fault and validator.is_valid(dict(one.output)),
            {voice.name: voice.probabilities for voice in one.voices if voice.probabilities},
            one.reason,
            one.fault,
        )
        for row, one in zip(rows, answers, strict=True)
    )


def _label_figures(domain: Domain, predictions: Sequence[Prediction]) -> Figures:
    right = np.array([domain.labels.index(one.right) for one in predictions])
    said = np.array([domain.labels.index(one.said) if one.said in domain.labels else -1 for one in predictions])
    shares = _shares(domain.labels, [one.probabilities for one in predictions])
    confidence = np.array([np.nan if one.confidence is None else one.confidence for one in predictions], np.float32)
    shares[~np.isfinite(confidence)] = np.nan
    return figures(domain.labels, right, said, shares, confidence)


def _voices(domain: Domain, predictions: Sequence[Prediction]) -> dict[str, Figures]:
    """Each voice alone, where more than one was heard."""
    names = list(dict.fromkeys(name for one in predictions for name in one.voices))
    if not domain.labels or len(names) < 2:
        return {}
    found = {}
    for name in names:
        heard = [one for one in predictions if name in one.voices]
        right: Labels = np.array([domain.labels.index(one.right) for one in heard])
        shares = _shares(domain.labels, [one.voices[name] for one in heard])
        found[name] = figures(domain.labels, right, shares.argmax(axis=1), shares)
    return found


def _shares(labels: Sequence[str], given: Sequence[Mapping[str, float]]) -> Floats:
    """Shape (rows, labels); a row of nan where nothing was given."""
    found = np.full((len(given), len(labels)), np.nan, np.float32)
    for at, one in enumerate(given):
        if one:
            found[at] = [one.get(label, 0.0) for label in labels]
    return found


def _fields(domain: Domain, predictions: Sequence[Prediction]) -> dict[str, float]:
    found = {}
    for path in choices(domain.asked):
        wanted = [(value, one) for one in predictions if (value := _at(one.wanted, path)) is not None]
        if wanted and path != domain.described.label_field:
            found[path] = sum(not one.fault and _at(one.output, path) == value for value, one in wanted) / len(wanted)
    return found


def _at(output: Mapping[str, Any], path: str) -> Any:
    try:
        return at_path(output, path)
    except KeyError:
        return None


def _told(answers: Iterable[Classified], doing: str, of: int, progress: Progress) -> Iterator[Classified]:
    progress(doing, 0, of)
    for done, one in enumerate(answers, start=1):
        yield one
        progress(doing, done, of)
