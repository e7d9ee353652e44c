"""A word diff as styled text: what went struck through, what came underlined, long stretches that stayed cut short.

It also reads without colours. Everything in it is untrusted text. Not covered: finding the changes (`tui.diff`).
"""

from collections.abc import Iterable
from typing import Final

from textual.content import Content

from data.sanitise import sanitise
from tui.diff import Change

STYLES: Final = {"old": "strike $text-error", "new": "underline $text-success", "same": ""}
KEPT: Final = 60
"""Characters of what stayed that are shown on either side of a change."""


def drawn(changes: Iterable[Change]) -> Content:
    """The changes, one after the other."""
    parts = [Content.styled(_shown(change), STYLES[change.kind]) for change in changes]
    return Content("").join(parts)


def _shown(change: Change) -> str:
    text = sanitise(change.text)
    if change.kind != "same" or len(text) <= 2 * KEPT + 3:
        return text
    return f"{text[:KEPT]} … {text[-KEPT:]}"
