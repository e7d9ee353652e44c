"""Folders of code and documentation: what becomes a row, under which licence, and what is left out and why."""

import os
from pathlib import Path

import pytest

from data.datasets._sources import ignoring
from data.datasets._sources.licences import Licences, permissive, recognise
from data.datasets.rows import Refused, Row
from data.datasets.sources import open_source
from data.errors import InputError

MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\nof this software"
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"
CODE = '''"""A module."""

import os


def area(width: float, height: float) -> float:
    """The area of a rectangle in square metres."""
    return width * height


class Tank:
    """A tank."""

    @property
    def litres(self) -> float:
        """How much the tank holds, in litres.

        Never negative.
        """
        if self.broken:
            return 0.0

        return self.volume * 1000

    def stub(self):
        """Only documented and never written at all."""
        ...

    def bare(self):
        return 1
'''


def make(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def read(root: Path, **how) -> tuple[list[Row], dict[str, str]]:
    found = list(open_source(str(root), **how).rows())
    return [one for one in found if isinstance(one, Row)], {
        one.origin.source: one.reason for one in found if isinstance(one, Refused)
    }


def test_a_function_is_written_from_its_docstring_and_explained_from_its_code(tmp_path: Path) -> None:
    rows, refused = read(make(tmp_path / "project", {"src/shapes.py": CODE}))
    assert not refused
    assert [one.completion.split("\n")[0] for one in rows] == [
        "def area(width: float, height: float) -> float:",
        "The area of a rectangle in square metres.",
        "@property",
        "How much the tank holds, in litres.",
    ]
    written, explained = rows[2], rows[3]
    assert written.text == (
        "Write this Python function.\n\ndef litres(self) -> float:\n\nHow much the tank holds, in litres.\n\nNever negative."
    )
    assert written.completion.endswith("    return self.volume * 1000")
    assert explained.text == (
        "Explain what this Python function does.\n\n```python\n@property\ndef litres(self) -> float:\n"
        "    if self.broken:\n        return 0.0\n\n    return self.volume * 1000\n```"
    )
    assert explained.completion == "How much the tank holds, in litres.\n\nNever negative."
    assert {one.shape for one in rows} == {"instruction"}
    assert {one.group for one in rows} == {"project/src/shapes.py"}
    assert [str(one.origin) for one in rows][:2] == ["project/src/shapes.py:1", "project/src/shapes.py:2"]


def test_sections_of_markdown_know_the_headings_above_them(tmp_path: Path) -> None:
    body = "Some words that say enough about the matter, so that it is worth learning from them. " * 2
    text = f"---\ntitle: x\n---\n# Guide\n\n{body}\n\n## Setup ##\n\nshort\n\n### On Linux\n\n{body}"
    text += f"\n```sh\n# no heading\n```\n\nUse\n---\n{body}"
    rows, _ = read(make(tmp_path / "docs", {"guide.md": text}))
    assert [one.text for one in rows] == [
        'Write the section "Guide".',
        'Write the section "On Linux" of "Guide > Setup".',
        'Write the section "Use" of "Guide".',
    ]
    assert rows[1].completion.endswith("# no heading\n```")


def test_sections_of_restructured_text(tmp_path: Path) -> None:
    body = "Some words that say enough about the matter, so that it is worth learning from them. " * 2
    text = f"=====\nGuide\n=====\n\n{body}\n\nSetup\n-----\n\n{body}\n\nOn Linux\n~~~~~~~~\n\n{body}\n\nUse\n---\n\n{body}\n"
    rows, _ = read(make(tmp_path / "docs", {"guide.rst": text}))
    assert [one.text for one in rows] == [
        'Write the section "Guide".',
        'Write the section "Setup" of "Guide".',
        'Write the section "On Linux" of "Guide > Setup".',
        'Write the section "Use" of "Guide".',
    ]


OTHER = {
    "add.js": """
/**
 * Adds two numbers and gives their sum.
 * @param a one
 */
export function add(a, b) {
  const s = '}';
  return a + b; // }
}
""",
    "add.go": """package x

// Add gives the sum of two numbers, whatever they are.
func Add(a, b int) int {
	return a + b
}
""",
    "add.rs": """
/// Gives the sum of two numbers, whatever they are.
pub fn add<'a>(a: &'a i32, b: i32) -> i32 {
    let c = '}';
    a + b
}
""",
    "Add.java": """class X {
    /** Gives the sum of two numbers, whatever they are. */
    @Pure
    public int add(int a, int b) {
        return a + b;
    }
}
""",
    "add.cpp": """
/// Gives the sum of two numbers, whatever they are.
int add(int a, int b = 2) {
    return a + b;
}
""",
}


@pytest.mark.parametrize("name", OTHER)
def test_documented_functions_of_other_languages(tmp_path: Path, name: str) -> None:
    rows, _ = read(make(tmp_path, {name: OTHER[name]}))
    assert len(rows) == 2
    assert rows[0].completion.endswith("}")
    assert "@param" not in rows[0].text
    assert "sum" in rows[1].completion
    assert "sum of two" not in rows[1].text
    assert rows[0].completion in rows[1].text


@pytest.mark.parametrize(
    "code",
    [
        "/** A documented class and no function. */\nclass Thing {\n  int add(int a) { return a; }\n}\n",
        "/** A documented interface method only. */\nint add(int a, int b);\n",
        "/** A documented function, never closed. */\nint add(int a) {\n  return a;\n",
        "/** A comment that nothing follows at once. */\n\nint add(int a) {\n  return a;\n}\n",
        "/** never closed comment that goes on\nint add(int a) {\n}\n",
    ],
)
def test_what_is_no_whole_function_teaches_nothing(tmp_path: Path, code: str) -> None:
    rows, refused = read(make(tmp_path, {"Thing.java": code, "area.py": CODE}))
    assert {one.group for one in rows} == {f"{tmp_path.name}/area.py"}
    assert not refused


def test_rows_name_the_nearest_licence(tmp_path: Path) -> None:
    files = {
        "LICENSE": MIT,
        "area.py": CODE,
        "gpl/COPYING": GPL,
        "gpl/deep/area.py": CODE,
        "odd/LICENSE.txt": "You may look at it on Sundays.",
        "odd/area.py": CODE,
        "own.py": f"# SPDX-License-Identifier: BSD-3-Clause\n{CODE}",
        "licences.py": CODE,
    }
    rows, _ = read(make(tmp_path / "p", files))
    found = {one.origin.source: one.origin.licence for one in rows}
    assert found == {
        "p/area.py": "MIT",
        "p/gpl/deep/area.py": "GPL-3.0",
        "p/odd/area.py": "NOASSERTION",
        "p/own.py": "BSD-3-Clause",
        "p/licences.py": "MIT",
    }


def test_rows_without_a_licence_are_marked_and_refused_where_only_permissive_ones_are_wanted(tmp_path: Path) -> None:
    root = make(
        tmp_path / "p", {"area.py": CODE, "free/LICENSE": MIT, "free/area.py": CODE, "gpl/LICENSE": GPL, "gpl/area.py": CODE}
    )
    rows, _ = read(root)
    assert {one.origin.licence for one in rows} == {"NONE", "MIT", "GPL-3.0"}
    rows, refused = read(root, licences="permissive")
    assert {one.origin.source for one in rows} == {"p/free/area.py"}
    assert refused == {"p/area.py": "the licence NONE is not permissive", "p/gpl/area.py": "the licence GPL-3.0 is not permissive"}
    rows, refused = read(root, licences="permissive", licence="Apache-2.0")
    assert {one.origin.source for one in rows} == {"p/area.py", "p/free/area.py"}


def test_a_part_of_a_checkout_has_the_checkouts_licence(tmp_path: Path) -> None:
    make(tmp_path, {"p/LICENSE": MIT, "p/.git/HEAD": "", "p/src/area.py": CODE, "LICENSE": GPL})
    rows, _ = read(tmp_path / "p" / "src")
    assert {one.origin.licence for one in rows} == {"MIT"}
    assert Licences(tmp_path / "p", "NONE").of("") == "MIT"
    assert Licences(tmp_path / "p" / ".git" / "x", "NONE").root.name == "x"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (MIT, "MIT"),
        (GPL, "GPL-3.0"),
        ("Apache License\nVersion 2.0, January 2004\nhttp://www.apache.org/licenses/", "Apache-2.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\nVersion 2.1, February 1999", "LGPL-2.1"),
        ("Mozilla Public License Version 2.0", "MPL-2.0"),
        ("Redistribution and use in source and binary forms, with or without", "BSD-2-Clause"),
        ("Redistribution and use in source and binary forms ... Neither the name of", "BSD-3-Clause"),
        ("Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International", "CC-BY-NC-SA-4.0"),
        ("Creative Commons Attribution 4.0 International Public License", "CC-BY-4.0"),
        (MIT + "\n\n“Commons Clause” License Condition v1.0", "NOASSERTION"),
        ("All rights reserved.", "NOASSERTION"),
        ("", "NOASSERTION"),
    ],
)
def test_licence_texts_are_recognised(text: str, name: str) -> None:
    assert recognise(text) == name


def test_permissive_expressions() -> None:
    assert permissive("mit")
    assert permissive("GPL-3.0 OR (MIT AND Apache-2.0)")
    assert not any(permissive(one) for one in ("", "NONE", "NOASSERTION", "GPL-3.0", "MIT AND GPL-3.0", "CC-BY-NC-4.0", "MITX"))


LEFT_OUT = {
    "node_modules/x/a.js": "vendored code",
    "sub/vendor/a.go": "vendored code",
    "third_party/a.py": "vendored code",
    "dist/a.js": "built or installed code",
    "build/a.py": "built or installed code",
    "lib/site-packages/a.py": "built or installed code",
    ".git/a.py": "a hidden folder",
    "a.min.js": "minified code",
    "wide.js": "minified code",
    "x_pb2.py": "generated code",
    "made.py": "generated code",
    "made.go": "generated code",
    "made.md": "a generated file",
    "huge.py": "bytes are too large",
    "bad.py": "is no Python that can be parsed",
    "deep.py": "is no Python that can be parsed",
    "nul.py": "NUL character",
    "latin.py": "not UTF-8 at byte 3",
    "train.csv": "a data set, which is given by its own name",
    "secret.py": "ignored by .gitignore",
    "logs/a.py": "ignored by .gitignore",
}
CONTENT: dict[str, str | bytes] = {
    "wide.js": "var a=1;" * 2000,
    "made.py": "# Generated by the protocol compiler\n" + CODE,
    "made.go": "// Code generated; DO NOT EDIT.\npackage x\n",
    "made.md": "<!-- DO NOT EDIT -->\n# x\n",
    "huge.py": "#" * 70 + "\n" + ("# a long comment line in this file\n" * 40_000),
    "bad.py": "def (:\n",
    "deep.py": "a = " + "(\n" * 5_000 + "1" + ")\n" * 5_000,
    "nul.py": "a = 1\0\n",
    "latin.py": b"# \xe9t\xe9\n".replace(b"\xe9", b"\xff") + b"",
}


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    files = {name: CONTENT.get(name, CODE) for name in LEFT_OUT} | {"area.py": CODE, ".gitignore": "secret.py\nlogs/\n"}
    files["latin.py"] = b"#  \xff\n"
    _, refused = read(make(tmp_path / "p", files))
    for name, said in LEFT_OUT.items():
        parts = f"p/{name}".split("/")
        reasons = [refused["/".join(parts[:n])] for n in range(2, len(parts) + 1) if "/".join(parts[:n]) in refused]
        assert len(reasons) == 1, name
        assert said in reasons[0], name


@pytest.mark.parametrize(("escape", "said"), [("\\ud800", "lone surrogate"), ("\\0", "NUL character")])
def test_a_docstring_that_escapes_what_is_no_text_is_refused(tmp_path: Path, escape: str, said: str) -> None:
    rows, refused = read(make(tmp_path / "p", {"a.py": CODE.replace("The area", f"The {escape} area")}))
    assert said in refused["p/a.py"]
    assert [one.completion.split("\n")[0] for one in rows] == ["@property", "How much the tank holds, in litres."]


def test_generated_is_a_word_like_others_in_documentation(tmp_path: Path) -> None:
    text = "# Report\n\nThe report is generated by the program from the answers of the model, which are kept for a year.\n"
    rows, refused = read(make(tmp_path, {"a.md": text}))
    assert len(rows) == 1
    assert not refused


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path, {"outside/secret.py": CODE, "p/area.py": CODE})
    os.symlink(tmp_path / "outside", tmp_path / "p" / "linked")
    os.symlink(tmp_path / "outside" / "secret.py", tmp_path / "p" / "secret.py")
    os.symlink(tmp_path / "p", tmp_path / "p" / "itself")
    os.symlink(tmp_path / "outside" / "LICENSE", tmp_path / "p" / "LICENSE")
    rows, refused = read(tmp_path / "p")
    assert {one.group for one in rows} == {"p/area.py"}
    assert {one.origin.licence for one in rows} == {"NONE"}
    assert set(refused.values()) == {"a symbolic link, which is not followed"}
    assert len(refused) == 4


@pytest.mark.parametrize(
    ("lines", "path", "out"),
    [
        ("*.py", "a/b.py", True),
        ("/b.py", "a/b.py", False),
        ("/a/b.py", "a/b.py", True),
        ("a/*.py", "a/b.py", True),
        ("a/*.py", "x/a/b.py", False),
        ("**/b.py", "x/a/b.py", True),
        ("a/**/b.py", "a/x/y/b.py", True),
        ("a/**", "a/b.py", True),
        ("b.py/", "a/b.py", False),
        ("*.py\n!b.py", "a/b.py", False),
        ("!b.py\n*.py", "a/b.py", True),
        ("# b.py\n\n  ", "b.py", False),
        (r"\#b.py", "#b.py", True),
        ("b.p?", "b.py", True),
        ("[ab].py", "b.py", True),
        ("[", "[", True),
        ("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", "a" * 5000 + ".py", False),
        ("**/" * 200 + "x", "/".join("a" * 30) + "/b.py", False),
    ],
)
def test_patterns_of_gitignore(tmp_path: Path, lines: str, path: str, out: bool) -> None:
    (tmp_path / ".gitignore").write_text(lines + "\n")
    found = ignoring.patterns(tmp_path, ())
    assert ignoring.ignored(found, tuple(path.split("/")), folder=False) is out


def test_an_ignore_file_counts_from_its_own_folder_down(tmp_path: Path) -> None:
    files = {"a/.gitignore": "/area.py\n", "a/area.py": CODE, "a/b/area.py": CODE, "area.py": CODE}
    _, refused = read(make(tmp_path / "p", files))
    assert refused == {"p/a/area.py": "ignored by .gitignore"}


def test_the_order_and_the_digest_depend_on_the_content_only(tmp_path: Path) -> None:
    files = {"b.py": CODE, "a/z.md": "# T\n\n" + "words " * 40, "a.py": CODE, "picture.png": b"\x89PNG"}
    one = make(tmp_path / "one" / "p", files)
    two = make(tmp_path / "two" / "p", dict(reversed(files.items())))
    first, second = open_source(str(one)), open_source(str(two))
    assert list(first.rows()) == list(second.rows()) == list(first.rows())
    assert next(row.group for row in first.rows()) == "p/a.py"
    assert first.digest() == second.digest()
    make(two, {"b.py": CODE + "\n"})
    assert first.digest() != second.digest()
    before = first.digest()
    assert first.licence == ""
    make(one, {"LICENSE": MIT})
    assert first.digest() != before
    assert first.licence == "MIT"
    assert first.name == "p"


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    root = make(tmp_path / "p", {"a.py": CODE, "b.py": CODE})
    seen: list[tuple[int, int]] = []
    list(open_source(str(root)).rows(lambda done, of: seen.append((done, of))))
    assert seen == [(len(CODE), 2 * len(CODE)), (2 * len(CODE), 2 * len(CODE))]


def test_a_folder_of_neither_code_nor_documentation_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no documentation and no documented code"):
        read(make(tmp_path, {"train.csv": "text,label\na,b\n"}))


def test_no_row_names_where_the_folder_lies(tmp_path: Path) -> None:
    rows, refused = read(make(tmp_path / "p", {"a.py": CODE, "bad.py": "def (:", "c.md": "# T\n\n" + "words " * 40}))
    for text in [*(str(one.to_dict()) for one in rows), *refused, *refused.values()]:
        assert str(tmp_path) not in text
