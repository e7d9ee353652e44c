"""Source code in the colours of the theme. Not covered: guessing a language that the model did not name."""

from functools import lru_cache
from typing import Final

from pygments.token import Token as Lexeme  # type: ignore[import-untyped]
from textual.content import Content
from textual.highlight import HighlightTheme, highlight

from tui.widgets.inline import MUTED

LIMIT: Final = 20_000
"""Characters of code; more is shown in one colour, for lexers may be slower than linear."""


def coloured(code: str, language: str) -> Content:
    """The code, without tabs, coloured where `language` is the name of a known one."""
    if len(code) > LIMIT or language not in _languages():
        return Content(code)
    return highlight(code, language=language, theme=_Theme)


class _Theme(HighlightTheme):
    """Few colours, all of the theme: names and punctuation stay as they are, which also keeps pages cheap to draw."""

    STYLES = {
        Lexeme.Comment: f"italic {MUTED}",
        Lexeme.Keyword: "$text-accent",
        Lexeme.Literal.Number: "$text-warning",
        Lexeme.Literal.String: "$text-success",
        Lexeme.Name.Builtin: "$text-accent",
        Lexeme.Name.Class: "bold $text-primary",
        Lexeme.Name.Decorator: "$text-secondary",
        Lexeme.Name.Function: "bold $text-primary",
        Lexeme.Name.Tag: "$text-primary",
        Lexeme.Name.Attribute: "$text-warning",
        Lexeme.Operator.Word: "$text-accent",
        Lexeme.Generic.Deleted: "$text-error",
        Lexeme.Generic.Inserted: "$text-success",
        Lexeme.Generic.Heading: "bold",
    }


@lru_cache(maxsize=1)
def _languages() -> frozenset[str]:
    """The names of languages that can be coloured; asking Pygments for an unknown one would search all packages."""
    from pygments.lexers import get_all_lexers  # type: ignore[import-untyped]

    return frozenset(alias for _, aliases, _, _ in get_all_lexers(plugins=False) for alias in aliases)
