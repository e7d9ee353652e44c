"""What code and documentation teach: a question that their authors answered, with the answer.

The wording is the same for every language, so that a row is told by its content and not by its phrasing.
"""

from dataclasses import dataclass

SHORTEST_EXPLANATION = 20
"""Characters of a documentation comment that says enough to be learnt from."""
SHORTEST_SECTION = 80
MOST_LINES = 200
"""Of one function; a longer one is no example to write in one answer."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question and its answer."""

    asked: str
    answer: str


def write_function(language: str, signature: str, explanation: str, code: str) -> Lesson:
    """The code of a function from its signature and what its authors say of it."""
    return Lesson(f"Write this {language} function.\n\n{signature}\n\n{explanation}", code)


def explain_function(language: str, code: str, explanation: str) -> Lesson:
    """What a function's authors say of it, from its code without that."""
    return Lesson(f"Explain what this {language} function does.\n\n```{language.lower()}\n{code}\n```", explanation)


def write_section(title: str, headings: tuple[str, ...], body: str) -> Lesson:
    """The text of a section from its heading and those above it."""
    where = f' of "{" > ".join(headings)}"' if headings else ""
    return Lesson(f'Write the section "{title}"{where}.', body)
