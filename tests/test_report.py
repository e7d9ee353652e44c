"""The report: one file that shows everything, needs nothing from outside, and lets no text of a row act."""

import re
from html.parser import HTMLParser
from pathlib import Path

import feedback_pack as packs
import pytest
from feedback_pack import right_label, saying, told

from data.domains import Example
from data.errors import PointsmanError
from trainer import report
from trainer.comparison import compare
from trainer.evaluate import evaluate

NASTY = "<script>alert(1)</script> & \x1b[31m \" ' " + "long " * 200


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def made(tmp_path: Path, compared: bool = True) -> str:
    case = {"id": "case_<b>", "text": NASTY, "expect": {"label": "praise"}, "why": NASTY}
    pack = packs.pack(tmp_path, gates="accuracy = 0.5\nece = 0.01", cases=[case])
    rows = [one for one in pack.examples if one.split == "validation"]
    rows.append(Example(text=NASTY, label="idea"))
    train = [one for one in pack.examples if one.split == "train"]
    voices = (packs.voice("model", "idea"), packs.voice("encoder", "bug"))
    found = evaluate(
        pack, saying(lambda text: told(text, "bug" if "script" in text else right_label(text), voices=voices)), rows, notes=(NASTY,)
    )
    return report.html(found, compare(pack, train, rows, None) if compared else None)


def test_the_page_holds_plots_tables_gates_and_wrong_rows(tmp_path: Path) -> None:
    page = made(tmp_path)
    for heading in ("Beside the baselines", "Gates", "Plots", "Classes", "Voices", "Wrong rows", "Adversarial cases that failed"):
        assert f"<h2>{heading}</h2>" in page
    tags = Tags()
    tags.feed(page)
    assert tags.tags.count("svg") == 4
    assert "majority class" in page and "TF-IDF" in page and "prefers-color-scheme: dark" in page
    assert ">passed</b>" in page and ">not passed</b>" in page


def test_no_text_of_a_row_acts_or_reaches_outside(tmp_path: Path) -> None:
    page = made(tmp_path)
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags and "&lt;script&gt;" in page and "case_&lt;b&gt;" in page
    assert "\x1b" not in page
    assert not {name for name, _ in tags.attributes if name.startswith("on")}
    links = [value for name, value in tags.attributes if name in ("href", "src", "xlink:href")]
    assert all(value is not None and value.startswith("#") for value in links)
    assert not re.search(r"url\(\s*['\"]?(?!#)", page)
    assert "default-src 'none'" in page


def test_long_texts_are_cut(tmp_path: Path) -> None:
    assert "long " * 100 not in made(tmp_path)


def test_the_same_scores_give_the_same_page_but_for_the_times(tmp_path: Path) -> None:
    def timeless(page: str) -> str:
        return re.sub(r"[\d,.]+ rows/s|<td class='n'>[\d,.]+</td>", "", page)

    assert timeless(made(tmp_path / "a", False)) == timeless(made(tmp_path / "b", False))


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    pack = packs.pack(tmp_path)
    found = evaluate(pack, saying(lambda text: told(text, "bug")), [one for one in pack.examples if one.split == "validation"])
    (tmp_path / "file").write_text("")
    with pytest.raises(PointsmanError, match="cannot"):
        report.write(tmp_path / "file" / "page.html", found)
