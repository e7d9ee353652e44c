"""The page of one evaluation: one HTML file with its plots inside, light and dark, that needs no network and runs no script.

Texts of rows are untrusted: sanitised, escaped and cut. Not covered: what was measured (`scores`), the drawing (data/plots.py).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from data import paths, plots
from data.sanitise import one_line
from trainer.comparison import Comparison
from trainer.figures import Figures, Interval
from trainer.scores import Scores

SHOWN_ROWS = 200
"""Wrong rows and failed cases that are listed at most."""
TEXT_CHARACTERS = 300
NAMES = {"tfidf": "TF-IDF + logistic regression", "minilm": "MiniLM + linear head", "majority": "majority class"}
"""How the page and the terminal call the baselines."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #fdfdfc; --line: #d9d9d6; --soft: #6b6b70; --good: #2d7a4b;
  --bad: #b3402f }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e6; --paper: #18191b; --line: #3a3b3e; --soft: #9a9aa0; --good: #6cc48f; --bad: #e88473 } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p.sub, caption, .soft { color: var(--soft) } caption { text-align: left; padding-bottom: .3rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere } td.n, th.n { text-align: right; white-space: nowrap }
.wide { overflow-x: auto } .plots { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: start } svg { max-width: 100% }
.good { color: var(--good) } .bad { color: var(--bad) }
"""


def html(scores: Scores, compared: Comparison | None = None) -> str:
    """The page. Raises InputError where matplotlib is not installed."""
    title = f"{scores.domain} · {scores.model or 'no model'}"
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p class='sub'>{scores.n:,} rows, {scores.errors:,} with a fault, {scores.rows_per_s:,.2f} rows/s</p>",
        *(f"<p class='soft'>{_text(note, 400)}</p>" for note in (*scores.notes, *(compared.notes if compared else ()))),
        _headline(scores, compared),
        _gates(scores),
    ]
    if scores.figures is not None:
        parts += [_plots(scores, scores.figures, compared), _classes(scores.figures)]
    if scores.voices:
        parts.append(_voices(scores.voices))
    if scores.fields:
        parts.append(_table("Other properties", ("property", "#right"), [(name, _share(v)) for name, v in scores.fields.items()]))
    parts += [_wrong(scores), _adversarial(scores)]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    body = "\n".join(parts)
    top = f"<head>{head}{policy}<title>{_text(title)}</title><style>{_STYLE}</style></head>"
    return f'<!doctype html>\n<html lang="en">{top}\n<body>\n{body}\n</body></html>\n'


def write(file: Path, scores: Scores, compared: Comparison | None = None) -> None:
    """Write the page. Raises InputError where the file cannot be written, or matplotlib is not installed."""
    page = html(scores, compared).encode("utf-8", "replace")
    with paths.replacing(file) as out:
        out.write(page)


def _headline(scores: Scores, compared: Comparison | None) -> str:
    mine = scores.figures
    rows = [
        (
            scores.model or "this",
            *_cells(mine, scores.checks),
            _share(scores.json_valid),
            _share(scores.adversarial.rate),
            f"{scores.rows_per_s:,.1f}",
        )
    ]
    for one in compared.baselines if compared else ():
        rows.append((NAMES.get(one.name, one.name), *_cells(one.figures, None), "-", "-", f"{one.rows_per_s:,.0f}"))
    header = ("", "#accuracy", "#95% interval", "#macro-F1", "#ECE", "#JSON valid", "#adversarial", "#rows/s")
    if mine is None:
        header = ("", "#checks passed", *header[2:])
    under = f"baselines fitted on {compared.train:,} training rows" if compared else ""
    return _table("Beside the baselines" if compared else "Figures", header, rows, under)


def _cells(found: Figures | None, checks: float | None) -> tuple[str, str, str, str]:
    if found is None:
        return _share(checks), "-", "-", "-"
    return _share(found.accuracy), _interval(found.accuracy_ci), _share(found.macro_f1), _share(found.ece)


def _gates(scores: Scores) -> str:
    rows = [
        (
            gate.name,
            f"{'at most' if gate.at_most else 'at least'} {_share(gate.limit)}",
            _share(gate.reached),
            _passed(gate.passed),
            gate.note,
        )
        for gate in scores.gates
    ]
    return _table("Gates", ("gate", "#asked", "#reached", "", ""), rows) if rows else ""


def _plots(scores: Scores, found: Figures, compared: Comparison | None) -> str:
    labels = [one.label for one in found.classes]
    drawn = [plots.heatmap("Confusion", labels, [row[: len(labels)] for row in found.confusion], rows="right", columns="said")]
    known = [(one.confidence, one.correct) for one in scores.predictions if one.confidence is not None and one.probabilities]
    if known:
        drawn.append(plots.reliability("Reliability", [sure for sure, _ in known], [right for _, right in known], bins=15))
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


def _classes(found: Figures) -> str:
    rows = [
        (one.label, f"{one.support:,}", _share(one.precision), _share(one.recall), _interval(one.recall_ci), _share(one.f1))
        for one in found.classes
    ]
    return _table("Classes", ("label", "#rows", "#precision", "#recall", "#95% interval", "#F1"), rows)


def _voices(voices: Mapping[str, Figures]) -> str:
    rows = [(name, f"{one.n:,}", *_cells(one, None)) for name, one in voices.items()]
    return _table("Voices", ("voice", "#rows heard", "#accuracy", "#95% interval", "#macro-F1", "#ECE"), rows, "each alone")


def _wrong(scores: Scores) -> str:
    wrong = [one for one in scores.predictions if not one.correct]
    wrong.sort(key=lambda one: -(one.confidence or 0.0))
    rows = [
        (
            one.text,
            one.right or "-",
            one.said or str(one.output.get("text", "")) or "no answer",
            _share(one.confidence),
            one.fault or one.reason,
        )
        for one in wrong[:SHOWN_ROWS]
    ]
    under = _counted(len(wrong), "surest first")
    return _table("Wrong rows", ("text", "right", "said", "#confidence", "why"), rows, under) if rows else ""


def _adversarial(scores: Scores) -> str:
    failed, of = scores.adversarial.failed, scores.adversarial.of
    rows = [
        (one.id, one.text, "; ".join(one.faults), one.why, json.dumps(one.output, ensure_ascii=False, default=str))
        for one in failed[:SHOWN_ROWS]
    ]
    under = f"{scores.adversarial.passed} of {of} passed; {_counted(len(failed), '')}"
    return (
        _table("Adversarial cases that failed", ("case", "text", "not as expected", "tests", "output"), rows, under) if rows else ""
    )


def _counted(count: int, order: str) -> str:
    shown = f"{count:,} in all" if count <= SHOWN_ROWS else f"{SHOWN_ROWS} of {count:,} are shown"
    return f"{shown}{', ' if order else ''}{order}"


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], under: str = "") -> str:
    """A table; a heading that begins with # is of numbers."""
    kinds = [" class='n'" if cell.startswith("#") else "" for cell in header]
    top = "".join(f"<th{kind}>{_text(cell.lstrip('#'))}</th>" for kind, cell in zip(kinds, header, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_marked(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>" for row in rows
    )
    caption = f"<caption>{_text(under, 300)}</caption>" if under else ""
    table = f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f"<h2>{_text(title)}</h2><div class='wide'>{table}</div>"


def _marked(cell: str) -> str:
    if cell in (_passed(True), _passed(False)):
        return f"<b class='{'good' if cell == _passed(True) else 'bad'}'>{cell}</b>"
    return _text(cell, TEXT_CHARACTERS)


def _passed(passed: bool) -> str:
    return "passed" if passed else "not passed"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _interval(one: Interval) -> str:
    return f"{one.low:.1%} to {one.high:.1%}"


def _text(untrusted: Any, width: int = TEXT_CHARACTERS) -> str:
    return escape(one_line(str(untrusted), width))
