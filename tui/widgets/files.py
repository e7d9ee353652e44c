"""The files that what is typed behind an @ may become, above the prompt. Not covered: finding them (`tui.mentions`)."""

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from data.sanitise import one_line

WIDTH = 100
"""Characters of a path that are displayed: its end, for there the names differ."""


class Files(Static):
    """A few lines, one of them marked."""

    def show(self, paths: Sequence[str], marked: int) -> None:
        """Display these paths; none hides the widget."""
        self.display = bool(paths)
        lines = [_row(path, number == marked) for number, path in enumerate(paths)]
        self.update(Content("\n").join(lines))


def _row(path: str, marked: bool) -> Content:
    shown = one_line(path if len(path) <= WIDTH else f"…{path[1 - WIDTH :]}", WIDTH)
    hint = Content.styled("  tab takes it", "$foreground-muted") if marked else Content()
    return Content.assemble("● " if marked else "  ", shown, hint)
