"""Plots as inline SVG: well-formed, the same bytes every time, in the page's colours, and harmless whatever the labels."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from data import plots
from data.errors import InputError

HOSTILE = (
    "_hidden",
    "<script>alert(1)</script>",
    'a" onload="x',
    "\x1b[31m",
    "$\\frac{$",
    "日本",
    "x" * 500,
    "",
    'id="b" href="#c"',
)
ALL = {
    "bars": lambda label: plots.bars(label, {label: 3, "other": 4.5}, unit=label),
    "grouped bars": lambda label: plots.bars("t", {"train": {label: 3}, label: {"x": 1}}),
    "histogram": lambda label: plots.histogram(label, [1, 2, 2, 9], unit=label),
    "heatmap": lambda label: plots.heatmap(label, [label, "b"], [[3, 1], [0, 2]], rows=label),
    "reliability": lambda label: plots.reliability(label, [0.0, 0.31, 0.95, 1.0], [False, True, True, True]),
    "lines": lambda label: plots.lines(label, {label: [(0, 1.0), (1, 0.5)]}, x=label, y=label),
}


@pytest.mark.parametrize("label", HOSTILE)
@pytest.mark.parametrize("name", ALL)
def test_no_label_breaks_the_picture(name: str, label: str) -> None:
    svg = ALL[name](label)
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "g", "path", "text", "defs", "clipPath", "rect", "use"}
    assert not any("onload" in element.attrib for element in root.iter())
    assert "\x1b" not in svg


@pytest.mark.parametrize("name", ALL)
def test_text_and_axes_take_the_colour_of_the_page(name: str) -> None:
    svg = ALL[name]("label")
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert plots._INK not in svg
    assert "ffffff" not in svg


def test_ids_of_two_plots_on_one_page_never_meet() -> None:
    pages = [ET.fromstring(ALL["bars"](label)) for label in ("one", "two")]
    ids = [{element.attrib["id"] for element in page.iter() if "id" in element.attrib} for page in pages]
    assert ids[0]
    assert ids[0] & ids[1] == set()
    for page, own in zip(pages, ids, strict=True):
        used = {value[1:] for element in page.iter() for name, value in element.attrib.items() if name.endswith("href")}
        used |= {element.attrib["clip-path"][5:-1] for element in page.iter() if "clip-path" in element.attrib}
        assert used <= own


def test_every_process_draws_the_same_bytes() -> None:
    script = (
        "from data import plots as p; print(p.bars('t', {'a': 1}), p.heatmap('t', ['a'], [[1]]), p.lines('t', {'s': [(1, 2)]}))"
    )
    drawn = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "MPLBACKEND": backend},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            check=True,
        ).stdout
        for seed, backend in (("1", "agg"), ("2", "svg"))
    }
    assert len(drawn) == 1
    assert b"date" not in next(iter(drawn)).lower()


@pytest.mark.parametrize(
    "drawing",
    [
        lambda: plots.bars("t", {}),
        lambda: plots.histogram("t", []),
        lambda: plots.heatmap("t", [], []),
        lambda: plots.lines("t", {}),
        lambda: plots.reliability("t", [], []),
    ],
)
def test_nothing_to_draw_is_no_fault(drawing) -> None:
    assert drawing().startswith("<svg")


def test_many_names_are_cut_and_counted() -> None:
    svg = plots.bars("t", {f"name {number}": number for number in range(plots.MOST_BARS + 7)})
    assert "(and 7 more)" in svg
    assert "name 46" not in svg


def test_the_reliability_diagram_counts_rows_by_confidence() -> None:
    svg = plots.reliability("t", [0.95] * 17 + [0.15] * 5, [True] * 17 + [False] * 5)
    texts = [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "17" in texts
    assert "5" in texts


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pointsman\[data\]"):
        plots.bars("t", {"a": 1})
