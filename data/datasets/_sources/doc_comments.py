"""Functions of languages with braces and their documentation comments: `/** ... */`, `///`, and in Go `//`.

A comment counts where a function's head follows at once and its braces close within MOST_LINES, strings and comments skipped; all
else is passed over, because a wrong guess would teach something wrong. Not covered: macros, and languages without braces.
"""

import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from data.datasets._sources.base import Broken
from data.datasets._sources.lessons import MOST_LINES, SHORTEST_EXPLANATION, Lesson, explain_function, write_function

_NAMES = {
    "JavaScript": (".js", ".jsx", ".mjs", ".cjs"),
    "TypeScript": (".ts", ".tsx"),
    "Java": (".java",),
    "Kotlin": (".kt",),
    "Swift": (".swift",),
    "Go": (".go",),
    "Rust": (".rs",),
    "C": (".c", ".h"),
    "C++": (".cc", ".cpp", ".cxx", ".hpp"),
    "C#": (".cs",),
    "PHP": (".php",),
}
_NOT_FUNCTIONS = re.compile(
    r"\b(class|struct|interface|enum|trait|impl|namespace|module|mod|type|union|extension|object|package|record|switch|if|for|while)\b"
)
_TAG = re.compile(
    r"^[ \t]*[@\\](param|returns?|throws?|exception|see|since|author|deprecated|example)\b.*", re.DOTALL | re.MULTILINE
)
_TOKEN = re.compile(  # what is never closed reaches to the end, so that no text is searched twice
    r'//[^\n]*|/\*(?:[^*]|\*(?!/))*+(?:\*/|\Z)|"(?:[^"\\\n]|\\.)*+(?:"|(?=\n)|\\?\Z)|`(?:[^`\\]|\\.)*+(?:`|\\?\Z)'
    r"|'(?:[^'\\\n]|\\.)'|'(?:[^'\\\n{}]|\\.){0,100}+'|[{};]",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"\s*(#\[|@\w|\[[A-Z])")
_LONGEST_HEAD = 1_500  # characters from the comment to the opening brace


@dataclass(frozen=True, slots=True)
class _Comment:
    """A comment's words, and the lines that it takes."""

    text: str
    begin: int
    end: int


def _lessons(language: str, text: str) -> Iterator[Lesson | Broken]:
    lines = text.split("\n")
    for comment in _comments(language, lines):
        explanation = _TAG.sub("", comment.text).strip()
        if len(explanation) < SHORTEST_EXPLANATION:
            continue
        window = "\n".join(lines[comment.end : comment.end + MOST_LINES])
        found = _function(window)
        if found is None:
            continue
        code, head = (textwrap.dedent(part).strip() for part in found)
        yield write_function(language, head, explanation, code)
        yield explain_function(language, code, explanation)


READERS: dict[str, Callable[[str], Iterator[Lesson | Broken]]] = {
    ending: partial(_lessons, language) for language, endings in _NAMES.items() for ending in endings
}


def _comments(language: str, lines: list[str]) -> Iterator[_Comment]:
    """Documentation comments with their words, in order."""
    place = 0
    mark = "//" if language == "Go" else "///"
    while place < len(lines):
        line, begin = lines[place].strip(), place
        place += 1
        if line.startswith("/**") and not line.startswith("/**/"):
            while place < len(lines) and place - begin < MOST_LINES and "*/" not in lines[place - 1]:
                place += 1
            yield _Comment(_stars(lines[begin:place]), begin, place)
        elif line.startswith(mark):
            while place < len(lines) and lines[place].strip().startswith(mark):
                place += 1
            said = [part.strip().removeprefix(mark).removeprefix(" ") for part in lines[begin:place]]
            yield _Comment(re.sub(r"</?\w+[^>]{0,80}>", "", "\n".join(said)).strip(), begin, place)


def _stars(lines: list[str]) -> str:
    """The words of a `/** */` comment without its stars."""
    whole = "\n".join(lines).strip().removeprefix("/**")
    inside = whole[: whole.index("*/")] if "*/" in whole else whole
    return "\n".join(re.sub(r"^\s*\*? ?", "", line).rstrip() for line in inside.split("\n")).strip()


def _function(window: str) -> tuple[str, str] | None:
    """Code and head of the function with which a window begins; None where it is something else or never closes."""
    depth, head = 0, ""
    for found in _TOKEN.finditer(window):
        sign = found[0]
        if sign == "{":
            if not depth:
                head = window[: found.start()]
                if not _is_head(head):
                    return None
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth <= 0:
                code = window[: found.end()]
                return (code, head) if depth == 0 and head and _closes(code) else None
        elif sign == ";" and not depth:
            return None  # a declaration without a body
    return None


def _is_head(head: str) -> bool:
    """Whether what stands between a comment and a brace is the head of one function."""
    if len(head) > _LONGEST_HEAD:
        return False
    lines = [line for line in head.split("\n") if line.strip() and not _ATTRIBUTE.match(line)]
    bare = re.sub(r"\([^()]*\)|<[^<>]*>|\"[^\"]*\"", "", " ".join(lines))
    begins_at_once = bool(head.split("\n")[0].strip())
    return begins_at_once and "(" in head and not _NOT_FUNCTIONS.search(bare) and "=" not in bare


def _closes(code: str) -> bool:
    """Whether the last brace stands where the head begins, or all is one line; else some quote was taken for another."""
    lines = code.split("\n")
    return len(lines) == 1 or re.match(r"\s*", lines[0])[0] + "}" == lines[-1]  # type: ignore[index]
