"""The page of one evaluation: one HTML file with its plots inside, light and dark, that needs no network and runs no script.

Texts of rows are untrusted: sanitised, escaped and cut. Not covered: what was measured (`scores`), the frame and the tables
(`page`), the drawing (data/plots.py), the page of a training run (`run_report`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from data import paths, plots
from trainer import bias_report, page
from trainer.bias import Bias
from trainer.comparison import Comparison
from trainer.figures import ClassFigures, Figures
from trainer.page import SHOWN_ROWS
from trainer.scores import FailedCase, Prediction, Scores

NAMES = {"tfidf": "TF-IDF + logistic regression", "minilm": "MiniLM + linear head", "majority": "majority class"}
"""How the page and the terminal call the baselines."""


def html(scores: Scores, compared: Comparison | None = None, bias: Bias | None = None) -> str:
    """The page; bias: of the same model, where it was measured. Raises InputError where matplotlib is not installed."""
    title = f"{scores.domain} · {scores.model or 'no model'}"
    parts = [
        f"<h1>{page.text(title)}</h1>",
        f"<p class='sub'>{scores.n:,} rows, {scores.errors:,} with a fault, {scores.rows_per_s:,.2f} rows/s</p>",
        *(f"<p class='soft'>{page.text(note, 400)}</p>" for note in (*scores.notes, *(compared.notes if compared else ()))),
        _headline(scores, compared),
        page.gates("Gates", scores.gates),
    ]
    if scores.figures is not None:
        parts += [_plots(scores, scores.figures, compared), classes_table(scores.figures.classes)]
    if scores.voices:
        parts.append(_voices(scores.voices))
    if scores.fields:
        parts.append(
            page.table("Other properties", ("property", "#right"), [(name, page.share(v)) for name, v in scores.fields.items()])
        )
    parts += [_wrong(scores), failed_table(scores.adversarial.failed, scores.adversarial.passed, scores.adversarial.of)]
    parts.append(bias_report.section((bias,) if bias else ()))
    return page.document(title, parts)


def write(file: Path, scores: Scores, compared: Comparison | None = None, bias: Bias | None = None) -> None:
    """Write the page. Raises InputError where the file cannot be written, or matplotlib is not installed."""
    whole = html(scores, compared, bias).encode("utf-8", "replace")
    with paths.replacing(file) as out:
        out.write(whole)


def confusion_plot(labels: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """The confusion matrix as SVG; its column of unusable answers is left out."""
    return plots.heatmap("Confusion", labels, [row[: len(labels)] for row in confusion], rows="right", columns="said")


def reliability_plot(predictions: Sequence[Prediction], title: str = "Reliability") -> str:
    """The reliability diagram of the rows that have probabilities as SVG, "" where none has."""
    known = [(one.confidence, one.correct) for one in predictions if one.confidence is not None and one.probabilities]
    return plots.reliability(title, [sure for sure, _ in known], [right for _, right in known], bins=15) if known else ""


def classes_table(classes: Sequence[ClassFigures]) -> str:
    """Precision, recall with its interval, and F1 of every class."""
    rows = [
        (
            one.label,
            f"{one.support:,}",
            page.share(one.precision),
            page.share(one.recall),
            page.interval(one.recall_ci),
            page.share(one.f1),
        )
        for one in classes
    ]
    return page.table("Classes", ("label", "#rows", "#precision", "#recall", "#95% interval", "#F1"), rows)


def failed_table(failed: Sequence[FailedCase], passed: int, of: int) -> str:
    """The adversarial cases that failed, with their texts; "" where all passed."""
    rows = [
        (one.id, one.text, "; ".join(one.faults), one.why, json.dumps(one.output, ensure_ascii=False, default=str))
        for one in failed[:SHOWN_ROWS]
    ]
    under = f"{passed} of {of} passed; {page.counted(len(failed), '')}"
    header = ("case", "text", "not as expected", "tests", "output")
    return page.table("Adversarial cases that failed", header, rows, under) if rows else ""


def _headline(scores: Scores, compared: Comparison | None) -> str:
    mine = scores.figures
    rows = [
        (
            scores.model or "this",
            *_cells(mine, scores.checks),
            page.share(scores.json_valid),
            page.share(scores.adversarial.rate),
            f"{scores.rows_per_s:,.1f}",
        )
    ]
    for one in compared.baselines if compared else ():
        rows.append((NAMES.get(one.name, one.name), *_cells(one.figures, None), "-", "-", f"{one.rows_per_s:,.0f}"))
    header = ("", "#accuracy", "#95% interval", "#macro-F1", "#ECE", "#JSON valid", "#adversarial", "#rows/s")
    if mine is None:
        header = ("", "#checks passed", *header[2:])
    under = f"baselines fitted on {compared.train:,} training rows" if compared else ""
    return page.table("Beside the baselines" if compared else "Figures", header, rows, under)


def _cells(found: Figures | None, checks: float | None) -> tuple[str, str, str, str]:
    if found is None:
        return page.share(checks), "-", "-", "-"
    return page.share(found.accuracy), page.interval(found.accuracy_ci), page.share(found.macro_f1), page.share(found.ece)


def _plots(scores: Scores, found: Figures, compared: Comparison | None) -> str:
    labels = [one.label for one in found.classes]
    drawn = [confusion_plot(labels, found.confusion), reliability_plot(scores.predictions)]
    measures = {
        "precision": {one.label: one.precision for one in found.classes if one.support},
        "recall": {one.label: one.recall for one in found.classes if one.support},
        "F1": {one.label: one.f1 for one in found.classes if one.support},
    }
    drawn.append(plots.bars("By class", measures))
    if compared:
        named = {one.name: one.figures for one in compared.baselines}
        beside = {scores.model or "this": found, **{NAMES.get(name, name): one for name, one in named.items()}}
        drawn.append(
            plots.bars(
                "Beside the baselines",
                {
                    "accuracy": {name: one.accuracy for name, one in beside.items()},
                    "macro-F1": {name: one.macro_f1 for name, one in beside.items()},
                },
            )
        )
    return f"<h2>Plots</h2><div class='plots'>{''.join(drawn)}</div>"


def _voices(voices: Mapping[str, Figures]) -> str:
    rows = [(name, f"{one.n:,}", *_cells(one, None)) for name, one in voices.items()]
    return page.table("Voices", ("voice", "#rows heard", "#accuracy", "#95% interval", "#macro-F1", "#ECE"), rows, "each alone")


def _wrong(scores: Scores) -> str:
    wrong = [one for one in scores.predictions if not one.correct]
    wrong.sort(key=lambda one: -(one.confidence or 0.0))
    rows = [
        (
            one.text,
            one.right or "-",
            one.said or str(one.output.get("text", "")) or "no answer",
            page.share(one.confidence),
            one.fault or one.reason,
        )
        for one in wrong[:SHOWN_ROWS]
    ]
    under = page.counted(len(wrong), "surest first")
    return page.table("Wrong rows", ("text", "right", "said", "#confidence", "why"), rows, under) if rows else ""
