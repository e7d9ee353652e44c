"""The pieces that report pages are made of: the frame with its style, tables, and how a share or an untrusted text is written.

A page is one HTML file, light and dark, that needs no network and runs no script. Texts are sanitised, escaped and cut. Not
covered: what a page shows (`report`, `run_report`), the drawing (data/plots.py).
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from data.sanitise import one_line, sanitise
from trainer.figures import Interval
from trainer.gates import Gate

SHOWN_ROWS = 200
"""Rows that a long table lists at most."""
TEXT_CHARACTERS = 300

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
.wide { overflow-x: auto } pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem }
 .plots { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: start } svg { max-width: 100% }
.good { color: var(--good) } .bad { color: var(--bad) }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page of these parts, which are HTML already; the title is untrusted."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    body = "\n".join(part for part in parts if part)
    top = f"<head>{head}{policy}<title>{text(title)}</title><style>{_STYLE}</style></head>"
    return f'<!doctype html>\n<html lang="en">{top}\n<body>\n{body}\n</body></html>\n'


def counted(count: int, order: str) -> str:
    """How many rows there are, how many of them a table shows, and in which order."""
    shown = f"{count:,} in all" if count <= SHOWN_ROWS else f"{SHOWN_ROWS} of {count:,} are shown"
    return f"{shown}{', ' if order else ''}{order}"


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], under: str = "") -> str:
    """A table; a heading that begins with # is of numbers."""
    kinds = [" class='n'" if cell.startswith("#") else "" for cell in header]
    top = "".join(f"<th{kind}>{text(cell.lstrip('#'))}</th>" for kind, cell in zip(kinds, header, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_marked(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>" for row in rows
    )
    caption = f"<caption>{text(under, 300)}</caption>" if under else ""
    whole = f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f"<h2>{text(title)}</h2><div class='wide'>{whole}</div>"


def block(title: str, untrusted: str, most: int = 20_000) -> str:
    """A text with its lines, as it is written; cut to `most` characters."""
    shown = sanitise(untrusted[:most]) + ("\n…" if len(untrusted) > most else "")
    return f"<h2>{text(title)}</h2><pre>{escape(shown)}</pre>" if untrusted else ""


def gates(title: str, asked: Iterable[Gate]) -> str:
    """A table of gates with limits and what was reached; "" where there are none."""
    rows = [(one.name, limit(one), amount(one, one.reached), passed(one.passed), one.note) for one in asked]
    return table(title, ("gate", "#asked", "#reached", "", ""), rows) if rows else ""


def limit(gate: Gate) -> str:
    """What a gate asks for, in words."""
    return f"{'at most' if gate.at_most else 'at least'} {amount(gate, gate.limit)}"


def amount(gate: Gate, value: float | None) -> str:
    """A value in the gate's unit; "-" for what was not measured."""
    if gate.unit == "share" or value is None:
        return share(value)
    return f"{value:.3f} {gate.unit}"


def passed(ok: bool) -> str:
    """How tables write whether a gate is passed; such cells are coloured."""
    return "passed" if ok else "not passed"


def share(value: float | None) -> str:
    """A share in per cent; "-" for what was not measured."""
    return "-" if value is None else f"{value:.1%}"


def interval(one: Interval) -> str:
    """Both ends in per cent."""
    return f"{one.low:.1%} to {one.high:.1%}"


def text(untrusted: Any, width: int = TEXT_CHARACTERS) -> str:
    """Any text on one line: sanitised, cut to `width` characters, escaped."""
    return escape(one_line(str(untrusted), width))


def _marked(cell: str) -> str:
    if cell in (passed(True), passed(False)):
        return f"<b class='{'good' if cell == passed(True) else 'bad'}'>{cell}</b>"
    return text(cell, TEXT_CHARACTERS)
