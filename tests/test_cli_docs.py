"""`pointsman docs`: documents added, listed, shown, searched and removed, with the real encoder where it matters."""

import json
import os
from pathlib import Path

import pytest
from command_line import run

from data import catalog, paths
from export import embedded

ENCODER = "minilm-l6"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the encoder, prepared once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POINTSMAN_HOME", str(tmp_path_factory.mktemp("home")))
        embedded.prepare(ENCODER, lambda _: None)
        return catalog.prepared_dir(ENCODER)


@pytest.fixture
def prepared(encoder: Path, home: Path) -> None:
    """The prepared encoder in this test's home."""
    (paths.ensure(catalog.prepared_dir(ENCODER).parent) / encoder.name).symlink_to(encoder)


@pytest.fixture
def words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No encoder and no way to prepare one."""
    monkeypatch.setattr("tui.opening.prepare", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    (project / "guide.md").write_text("# Guide\n\n## Installation\n\nRun make install.\n\n## Licence\n\nApache.\n")
    (project / "cats.txt").write_text("The kitten sleeps on the sofa.\n")
    (project / ".env").write_text("TOKEN=1")
    (project / "logo.png").write_bytes(b"\x89PNG" + bytes(100))
    return project


@pytest.mark.usefixtures("prepared")
def test_documents_are_found_by_meaning_with_the_real_encoder(folder: Path) -> None:
    ran = run("docs", "add", str(folder), "--json")
    assert ran.code == 0, ran
    added = json.loads(ran.out)
    assert [(one["name"], one["vectors"], one["unchanged"]) for one in added["added"]] == [
        ("project/cats.txt", 1, False),
        ("project/guide.md", 1, False),
    ]
    assert {Path(one["path"]).name: one["why"].split(" is ")[-1] for one in added["left_out"]} == {
        ".env": "named like a secret",
        "logo.png": "a PNG picture, not text",
    }
    assert added["problem"] == ""
    (found,) = json.loads(run("docs", "search", "where is the feline resting", "-n", "1", "--json").out)
    assert (found["place"], found["similarity"] > 0.3) == ("project/cats.txt:1", True)
    (found,) = json.loads(run("docs", "search", "how do I set it up", "-n", "1", "--json").out)
    assert found["place"] == "project/guide.md:1-9"
    assert run("docs", "search", "set up", "-n", "1").out.startswith("── project/guide.md:1-9 (Guide)\n# Guide\n")


@pytest.mark.usefixtures("words_alone")
def test_without_an_encoder_it_is_said_and_words_are_searched(folder: Path) -> None:
    ran = run("docs", "add", str(folder / "guide.md"))
    assert (ran.code, ran.out) == (0, "added: guide.md (markdown, 9 lines, 1 chunks)\n")
    assert "searched by words alone" in ran.err and ENCODER in ran.err
    assert "unchanged: guide.md" in run("docs", "add", str(folder / "guide.md")).out
    assert "Run make install." in run("docs", "search", "installing").out


@pytest.mark.usefixtures("words_alone")
def test_listing_showing_and_removing(folder: Path) -> None:
    ran = run("docs", "list")
    assert (ran.code, ran.out) == (0, "") and "pointsman docs add" in ran.err
    assert json.loads(run("docs", "list", "--json").out) == []
    run("docs", "add", str(folder))
    rows = json.loads(run("docs", "list", "--json").out)
    assert [(row["name"], row["kind"], row["lines"]) for row in rows] == [
        ("project/cats.txt", "text", 1),
        ("project/guide.md", "markdown", 9),
    ]
    assert rows[1]["id"][-8:] in run("docs", "list").out
    shown = json.loads(run("docs", "show", rows[1]["id"][-8:], "--json").out)
    assert [(one["first_line"], one["last_line"], one["heading"]) for one in shown["chunks"]] == [(1, 9, "Guide")]
    assert "1-9    Guide" in run("docs", "show", "project/guide.md").out
    assert run("docs", "rm", "project/cats.txt", rows[1]["path"]).out == "removed: project/cats.txt\nremoved: project/guide.md\n"
    assert json.loads(run("docs", "list", "--json").out) == []
    assert (folder / "guide.md").exists()


@pytest.mark.usefixtures("words_alone")
def test_a_removed_document_leaves_no_byte_behind(folder: Path, home: Path) -> None:
    run("docs", "add", str(folder))
    assert any(b"kitten" in path.read_bytes() for path in home.rglob("*") if path.is_file())
    run("docs", "rm", "project/cats.txt")
    assert not any(b"kitten" in path.read_bytes() for path in home.rglob("*") if path.is_file())


@pytest.mark.usefixtures("words_alone")
def test_what_cannot_be_added_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "nothing.txt").write_text("")
    os.mkfifo(tmp_path / "pipe")
    run("docs", "add", str(tmp_path / "missing.md")).refused("missing.md")
    run("docs", "add", str(tmp_path / "empty")).refused("no file to add")
    run("docs", "add", str(tmp_path / "nothing.txt")).refused("nothing.txt is empty")
    run("docs", "add", str(tmp_path / "pipe")).refused("no regular file")
    run("docs", "add", str(folder / "logo.png")).refused("a PNG picture")
    run("docs", "add", "a\0b").refused()
    for verb in ("show", "rm"):
        run("docs", verb, "missing").refused("there is no document 'missing'")
    assert run("docs", "add").code == 2


@pytest.mark.usefixtures("words_alone")
def test_what_stands_in_a_document_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "evil\x1b[31m.md").write_text("# \x1b]0;title\x07\n\nplain \x1b[2J words\n")
    texts = [
        run("docs", *rest).out
        for rest in (("add", str(tmp_path)), ("list",), ("show", f"{tmp_path.name}/evil␛[31m.md"), ("search", "words"))
    ]
    assert all(text and "\x1b" not in text and "\x07" not in text for text in texts), texts


@pytest.mark.usefixtures("words_alone")
def test_a_search_that_finds_nothing_says_so(folder: Path) -> None:
    assert "pointsman docs add" in run("docs", "search", "x").err
    run("docs", "add", str(folder / "guide.md"))
    ran = run("docs", "search", "xylophone")
    assert (ran.code, ran.out) == (0, "") and "nothing was found" in ran.err
