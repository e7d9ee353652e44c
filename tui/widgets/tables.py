"""Tables of styled cells as lines of text that fit a width. Not covered: reading them (typeset.py)."""

from itertools import zip_longest
from typing import Final

from textual.content import Content

from tui.widgets.inline import MUTED

SEPARATOR: Final = " │ "
NARROWEST: Final = 6
"""Cells of a column at least; a table that cannot have them is shown as "header: cell" lines."""


def set_table(rows: list[list[Content]], aligns: list[str], room: int) -> list[Content]:
    """The lines of a table; columns shrink to fit, and a table too wide for that becomes one line a cell."""
    count = len(rows[0])
    rows = [(row + [Content()] * count)[:count] for row in rows]
    space = room - len(SEPARATOR) * (count - 1)
    natural = [max(cell.cell_length for cell in column) for column in zip(*rows, strict=True)]
    if sum(natural) > space < NARROWEST * count:
        return _stacked(rows)
    widths = _fitted(natural, space)
    lines: list[Content] = []
    for number, row in enumerate(rows):
        cells = [cell.wrap(width) for cell, width in zip(row, widths, strict=True)]
        for pieces in zip_longest(*cells, fillvalue=Content()):
            padded = [_aligned(*piece) for piece in zip(pieces, widths, aligns, strict=True)]
            line = Content.styled(SEPARATOR, MUTED).join(padded).rstrip()
            lines.append(line.stylize("bold") if number == 0 else line)
        if number == 0:
            lines.append(Content.styled("─┼─".join("─" * width for width in widths), MUTED))
    return lines


def _fitted(natural: list[int], space: int) -> list[int]:
    """Column widths of at most `space` in all: narrow columns keep theirs, the wide ones share what is left."""
    widths = [0] * len(natural)
    left, open_columns = space, sorted(range(len(natural)), key=lambda column: natural[column])
    while open_columns:
        column = open_columns.pop(0)
        widths[column] = max(min(natural[column], left // (len(open_columns) + 1)), 1)
        left -= widths[column]
    return widths


def _aligned(cell: Content, width: int, align: str) -> Content:
    missing = max(width - cell.cell_length, 0)
    before = {"right": missing, "center": missing // 2}.get(align, 0)
    return Content.assemble(" " * before, cell, " " * (missing - before))


def _stacked(rows: list[list[Content]]) -> list[Content]:
    header, *body = rows
    lines: list[Content] = []
    for row in body or [[Content()] * len(header)]:
        lines.extend(Content.assemble(name.stylize("bold"), ": ", cell) for name, cell in zip(header, row, strict=True))
        lines.append(Content())
    return lines[:-1]
