"""card.html of a dataset: one self-contained page, readable in light and dark, that says what is in it and what it cannot do.

Everything that comes from data is escaped and stripped of control characters; there is no script and nothing is loaded. Not
covered: the numbers themselves (`manifest`), drawing (`data.plots`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from data import plots
from data.datasets.formats import FORMATS
from data.datasets.manifest import Counts, Manifest
from data.sanitise import sanitise

FILE = "card.html"
EXAMPLE_CHARS = 1_200

_SPLIT_NOTE = (
    "Rows of one near-duplicate cluster, one conversation or document, and one question are in one split; "
    "where rows have a time, the newest test."
)
_FILTER_NOTE = "Each row that was kept out is in quarantine.jsonl with its reason."

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2126; --paper: #fdfdfc; --line: #d6d9dc; --faint: #5c656d; --box: #f3f4f4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe3e6; --paper: #16191c; --line: #3a4046; --faint: #9aa4ac; --box: #1f2327; }
}
body { color: var(--ink); background: var(--paper); font: 16px/1.55 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem;
  padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0.2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.faint, figcaption { color: var(--faint); font-size: 0.9rem; }
table { border-collapse: collapse; font-size: 0.92rem; }
td, th { border-bottom: 1px solid var(--line); padding: 0.25rem 0.8rem 0.25rem 0;
  text-align: left; vertical-align: top; overflow-wrap: anywhere; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--box); padding: 0.7rem 0.9rem; border-radius: 6px; font-size: 0.82rem; white-space: pre-wrap;
  overflow-wrap: anywhere; } figure { margin: 1rem 0; overflow-x: auto; } li { margin: 0.2rem 0; }
"""


def card(made: Manifest, examples: Sequence[tuple[str, Mapping[str, Any]]], lengths: Mapping[str, Sequence[int]]) -> str:
    """The page. examples: a few (label, line) of the training file; lengths: of the kept rows, by unit.

    Raises InputError where matplotlib is not installed.
    """
    counts = made.counts
    parts = [
        f"<h1>{_text(made.name)}</h1>",
        f"<p>{_text(_summary(made))}</p>",
        _section("Rows", _rows_table(counts)),
        _section("Splits", _table(("split", "rows", "lines"), _splits(counts)), note=_SPLIT_NOTE),
        _section("Labels", *_labels(counts)) if counts.by_label else "",
        _section("Lengths", *_lengths(made, lengths)),
        _section("Filters", _table(("filter", "rows kept out"), sorted(counts.by_filter.items())), note=_FILTER_NOTE),
        _section("Cleaning and redaction", _table(("changed", "times"), sorted(counts.cleaned.items())),
                 _table(("redacted", "finds"), sorted(made.redactions.items()))),
        _section("Reasoning", _table(("source of the reasoning", "rows"), [*sorted(made.chains.by_source.items()),
                 *((f"written by {name}", count) for name, count in sorted(made.chains.by_model.items())),
                 ("refused, naming what is not in the text", made.chains.refused)])),
        _section("Sources and licences", _table(("source", "licence", "rows read", "sha256"),
                 [(one.name, one.licence or "not stated", one.rows, one.sha256[:16]) for one in made.sources]),
                 _table(("licence", "rows kept"), sorted(made.licences.items()))),
        _section("Examples", *(_example(label, line) for label, line in examples), note="From training, after redaction."),
        _section("Limits", _list([*_limits(made), *made.warnings])),
        _section("How it was built", _table(("option", "value"), _options(made))),
    ]  # fmt: skip
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(made.name)}: data card</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _summary(made: Manifest) -> str:
    counts = made.counts
    what = f"the domain {made.domain}" if made.domain else "chat without a domain"
    shapes = ", ".join(f"{count:,} {shape}" for shape, count in sorted(counts.by_shape.items()))
    layout = f"{made.format}: {FORMATS.get(made.format, '')}"
    return f"{counts.kept:,} rows for {what} ({shapes}), in the format {layout}. Seed {made.seed}."


def _rows_table(counts: Counts) -> str:
    return _table(
        ("rows", ""),
        [
            ("read", counts.read),
            ("kept", counts.kept),
            ("quarantined", counts.quarantined),
            ("exact duplicates", counts.exact_duplicates),
            ("near duplicates", counts.near_duplicates),
            ("kept, their text cut to fit", counts.truncated),
        ],
    )


def _splits(counts: Counts) -> list[tuple[str, int, int]]:
    return [(name, counts.by_split.get(name, 0), lines) for name, lines in counts.lines.items()]


def _labels(counts: Counts) -> list[str]:
    names = sorted(counts.by_label, key=lambda label: (-sum(counts.by_label[label].values()), label))
    splits = [name for name in counts.lines if counts.by_split.get(name)]
    rows = [(name, *(counts.by_label[name].get(split, 0) for split in splits)) for name in names]
    series = {split: {name: float(counts.by_label[name].get(split, 0)) for name in names} for split in splits}
    return [_figure(plots.bars("Rows by label", series, unit="rows")), _table(("label", *splits), rows)]


def _lengths(made: Manifest, lengths: Mapping[str, Sequence[int]]) -> list[str]:
    found = [_figure(plots.histogram(f"Rows by length in {unit}", values, unit=unit)) for unit, values in lengths.items()]
    shares = list(made.lengths[0].quantiles) if made.lengths else []
    header = ("length in", "mean", *(f"{float(share):.0%}" for share in shares))
    return [*found, _table(header, [(one.unit, f"{one.mean:.1f}", *map(int, one.quantiles.values())) for one in made.lengths])]


def _limits(made: Manifest) -> list[str]:
    found = [
        "Redaction finds what has a form (addresses, numbers, keys) and the words of the deny list; names of people are not found.",
        "Near duplicates are texts that look alike; paraphrases and texts contained in longer ones stay.",
    ]
    if made.domain:
        found.append(
            "Whether a label is right was not checked, only that it is one of the domain's and that no equal text has another."
        )
    if made.chains.by_source.get("knowledge base") or made.chains.by_source.get("teacher"):
        found.append("Reasoning that was not given explains a label that was known beforehand; it names only what is in the text.")
    return found


def _options(made: Manifest) -> list[tuple[str, str]]:
    options = [(name, json.dumps(value, ensure_ascii=False)) for name, value in sorted(made.options.items())]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(made.made_with.items()))
    return [("format", made.format), ("seed", str(made.seed)), *options, ("made with", versions)]


def _example(label: str, line: Mapping[str, Any]) -> str:
    shown = sanitise(json.dumps(line, ensure_ascii=False, indent=1, sort_keys=False))
    cut = shown if len(shown) <= EXAMPLE_CHARS else shown[:EXAMPLE_CHARS] + "…"
    head = f"<figcaption>{_text(label)}</figcaption>" if label else ""
    return f"<figure>{head}<pre>{escape(cut)}</pre></figure>"


def _section(title: str, *parts: str, note: str = "") -> str:
    body = "\n".join(part for part in parts if part)
    if not body:
        return ""
    return f"<h2>{_text(title)}</h2>\n{body}" + (f'\n<p class="faint">{_text(note)}</p>' if note else "")


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    found = [
        "<tr>"
        + "".join(f'<td class="n">{cell:,}</td>' if isinstance(cell, int) else f"<td>{_text(str(cell))}</td>" for cell in row)
        + "</tr>"
        for row in rows
    ]
    if not found:
        return ""
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    return f"<table><tr>{head}</tr>\n" + "\n".join(found) + "\n</table>"


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>"


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"


def _text(untrusted: str) -> str:
    return escape(sanitise(untrusted))
