"""Plots as inline SVG for self-contained HTML: bars, histogram, heatmap (confusion matrix), reliability diagram, lines.

The only file that draws with matplotlib. The same input gives the same bytes: no date, fixed ids, matplotlib's own font metrics.
Text and axes take the page's colour (`currentColor`) and the background is clear, so a plot is readable in light and dark. Labels
are untrusted: sanitised, escaped, never read as mathematics. Not covered: what is plotted, and the page around it.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from data.errors import InputError
from data.sanitise import one_line

COLOURS = ("#4c8fd6", "#e0863a", "#3fa66b", "#c05fae", "#8a8fd8", "#b59b2b", "#5aa9a3", "#d2605a")
"""Middle tones, seen on white and on black; also told apart by the commonest colour blindness (after Okabe and Ito, 2008)."""
MOST_BARS = 40
MOST_CLASSES = 80
LABEL_WIDTH = 32
"""Characters of a label that are shown."""
_INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
_SETTINGS = {
    "svg.hashsalt": "pointsman",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "legend.frameon": False,
}


def bars(title: str, values: Mapping[str, float] | Mapping[str, Mapping[str, float]], *, unit: str = "") -> str:
    """Horizontal bars, one a name in the mapping's order; of a mapping of mappings one a name and series, with a legend.

    More than MOST_BARS names are cut with a line that says so. Raises InputError where matplotlib is not installed.
    """
    series = _series(values)
    names = list(dict.fromkeys(name for one in series.values() for name in one))
    shown, more = names[:MOST_BARS], len(names) - MOST_BARS
    height = 0.8 / max(len(series), 1)
    with _axes(title, 6.4, 0.9 + max(len(shown), 1) * max(0.24, 0.13 * len(series))) as (axes, made):
        for place, (name, one) in enumerate(series.items()):
            at = [row + (place - (len(series) - 1) / 2) * height for row in range(len(shown))]
            found = [float(one.get(label, 0.0)) for label in shown]
            drawn = axes.barh(at, found, height=height * 0.92, color=COLOURS[place % len(COLOURS)], label=_entry(name))
            axes.bar_label(drawn, labels=[_number(value) for value in found], padding=3, fontsize=7.5)
        axes.set_yticks(range(len(shown)), [_label(name) for name in shown])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel(_label(unit + (f" (and {more} more)" if more > 0 else "")))
        if len(series) > 1:
            axes.figure.legend(loc="outside lower right", ncols=min(len(series), 4), fontsize=8)
    return made[0]


def histogram(title: str, values: Sequence[float], *, bins: int = 30, unit: str = "", log: bool = False) -> str:
    """How values are spread, as counts over equal bins; log: counts on a logarithmic axis. Raises InputError without matplotlib."""
    with _axes(title, 6.4, 2.6) as (axes, made):
        if len(values):
            axes.hist(_array(values), bins=bins, color=COLOURS[0], log=log)
        axes.set_xlabel(_label(unit))
        axes.set_ylabel("rows")
    return made[0]


def heatmap(
    title: str, labels: Sequence[str], matrix: Sequence[Sequence[float]], *, rows: str = "true", columns: str = "given"
) -> str:
    """A confusion matrix: cell (i, j) counts rows of label i that were given label j, shaded by its share of row i.

    At most MOST_CLASSES labels are drawn. Raises InputError where matplotlib is not installed.
    """
    count = min(len(labels), MOST_CLASSES)
    side = max(3.0, min(0.42 * count + 1.6, 14.0))
    room = 0.06 * max((len(_label(name)) for name in labels[:count]), default=0)  # inches for the names
    with _axes(title, side + 0.8 + room, side + room) as (axes, made):
        for row in range(count):
            whole = sum(matrix[row]) or 1.0
            for column in range(count):
                if value := matrix[row][column]:
                    _cell(axes, row, column, float(value), value / whole, count)
        names = [_label(name) for name in labels[:count]]
        axes.set_xticks(range(count), names, rotation=60, ha="right", fontsize=8 if count <= 30 else 5)
        axes.set_yticks(range(count), names, fontsize=8 if count <= 30 else 5)
        axes.set_xlim(-0.5, max(count, 1) - 0.5)
        axes.set_ylim(max(count, 1) - 0.5, -0.5)
        axes.set_xlabel(_label(columns))
        axes.set_ylabel(_label(rows))
    return made[0]


def reliability(title: str, confidences: Sequence[float], correct: Sequence[bool], *, bins: int = 10) -> str:
    """A reliability diagram: of rows with a confidence in each of `bins` equal bins, the share that was right, and how many there
    are. The dashed diagonal is perfect calibration (Guo et al. 2017, "On Calibration of Modern Neural Networks", figure 1)."""
    totals, rights, sums = [0] * bins, [0] * bins, [0.0] * bins
    for confidence, right in zip(confidences, correct, strict=True):
        place = min(max(int(confidence * bins), 0), bins - 1)
        totals[place] += 1
        rights[place] += bool(right)
        sums[place] += confidence
    most = max(totals, default=0) or 1
    with _axes(title, 4.2, 3.8) as (axes, made):
        axes.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color=_INK, alpha=0.5)
        for place, total in enumerate(totals):
            if total:
                height = rights[place] / total
                axes.bar((place + 0.5) / bins, height, width=0.92 / bins, color=COLOURS[0], alpha=0.25 + 0.75 * total / most)
                axes.plot([sums[place] / total], [height], marker="o", markersize=4, color=COLOURS[1])
                axes.annotate(
                    str(total), ((place + 0.5) / bins, height), (0, 5), textcoords="offset points", ha="center", fontsize=7
                )
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.08)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that was right")
    return made[0]


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x: str = "", y: str = "") -> str:
    """One line a series through its (x, y) points, with a legend. Raises InputError where matplotlib is not installed."""
    with _axes(title, 6.4, 3.2) as (axes, made):
        for place, (name, points) in enumerate(series.items()):
            across, up = [point[0] for point in points], [point[1] for point in points]
            axes.plot(across, up, marker="o", markersize=3, color=COLOURS[place % len(COLOURS)], label=_entry(name))
        axes.set_xlabel(_label(x))
        axes.set_ylabel(_label(y))
        if series:
            axes.legend(fontsize=8)
    return made[0]


@contextmanager
def _axes(title: str, width: float, height: float) -> Iterator[tuple[Any, list[str]]]:
    """Axes to draw on (sizes in inches), and a list that holds the SVG once they are drawn."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(f"plots need matplotlib: {error}", "pip install 'pointsman[data]'") from error
    made: list[str] = []
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the reader's own fonts show the label
        warnings.filterwarnings("ignore", "constrained_layout not applied", UserWarning)  # names take more room than there is
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(_label(title, 90), loc="left")
        yield axes, made
        made.append(_svg(figure, title))


def _svg(figure: Any, title: str) -> str:
    """The figure as an <svg> element: no XML head, ids of its own, the page's text colour."""
    import io

    written = io.StringIO()
    figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style type=\"text/css\">.*?</style>", "", text, flags=re.DOTALL)
    text = text[text.index("<svg") :].replace(f": {_INK}", ": currentColor")
    own = "p" + hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'(<\w+ [^>]*?\bid=")', rf"\g<1>{own}-", text)  # within tags only: text holds no bare > or <
    text = re.sub(r'(<\w+ [^>]*?(?:url\(|href=")#)', rf"\g<1>{own}-", text)
    head = f'<svg role="img" aria-label="{escape(_label(title, 90))}" style="stroke-linejoin:round;max-width:100%;height:auto"'
    return re.sub(r"\s+\n", "\n", text.replace("<svg", head, 1)).strip() + "\n"


def _cell(axes: Any, row: int, column: int, value: float, share: float, count: int) -> None:
    from matplotlib.patches import Rectangle

    colour = COLOURS[2] if row == column else COLOURS[1]
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=0.15 + 0.75 * min(share, 1.0), linewidth=0))
    if count <= 20:
        axes.text(column, row, _number(value), ha="center", va="center", fontsize=7.5)


def _series(values: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    if values and all(isinstance(one, Mapping) for one in values.values()):
        return dict(values)
    return {"": values}


def _label(text: str, width: int = LABEL_WIDTH) -> str:
    return one_line(text, width)


def _entry(name: str) -> str:
    """A label as a legend shows it: matplotlib leaves out empty ones and those that begin with an underscore."""
    label = _label(name)
    return f" {label}" if label.startswith("_") or not label else label


def _array(values: Sequence[float]) -> Any:
    import numpy as np

    return np.asarray(values)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"
