"""What the screens beside the chat say of a row, in the same shapes everywhere; every text that comes in is untrusted.

Not covered: what is said (the screens).
"""

from textual.content import Content

from data.sanitise import one_line

MUTED = "$foreground-muted"
LABEL = 15
"""Columns of the names at the left of what is told."""


def named(name: str, value: str | Content, style: str = "") -> Content:
    """A line with its name to the left; nothing where there is no value. A value that is no Content is untrusted."""
    shown = (
        value
        if isinstance(value, Content)
        else Content.styled(one_line(value, 600), style)
        if style
        else Content(one_line(value, 600))
    )
    return Content.assemble(Content.styled(f"{name:<{LABEL}} ", MUTED), shown) if shown.plain else Content()


def lines(*parts: Content) -> Content:
    """Those that say something, one below the other."""
    return Content("\n").join(part for part in parts if part.plain)


def blocks(*parts: Content) -> Content:
    """Those that say something, with an empty line between."""
    return Content("\n\n").join(part for part in parts if part.plain)


def title(text: str) -> Content:
    """A title within what is told; untrusted text."""
    return Content.styled(one_line(text, 200), "bold")


def muted(text: str, width: int = 600) -> Content:
    """Words beside the matter; untrusted text, whose spaces at both ends stay."""
    bare = text.strip(" ")
    at = text.find(bare)
    return Content.styled(f"{text[:at]}{one_line(bare, width)}{text[at + len(bare) :]}", MUTED)


def bar(share: float, width: int = 20, style: str = "$text-accent") -> Content:
    """A share from 0 to 1 as a bar that also reads without colours."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return Content.assemble(Content.styled("━" * filled, style), Content.styled("─" * (width - filled), MUTED))
