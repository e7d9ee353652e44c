"""The tree of the chat that is open: every question and answer, with the versions side by side. Ends with a turn to go to.

Not covered: making versions (answering again, asking in other words, going on from an earlier answer).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from data.errors import PointsmanError
from data.sanitise import one_line
from tui import branches
from tui.background import in_background
from tui.branches import Node
from tui.screens.modes import matches
from tui.screens.picker import Picker, Row

if TYPE_CHECKING:
    from data.store import Store

DEEPEST = 12
"""Forks that are indented; more would leave no room for words."""
MARKS = {"correction": "corrected", "comment": "commented", "preference": "preferred"}


class TreeScreen(Picker):
    """Ends with the id of a turn."""

    @dataclass
    class Found(Message):
        """The tree, or why there is none."""

        nodes: list[Node]
        fault: str = ""

    HEADING = "The tree of this chat  (● the branch in use)"
    PLACEHOLDER = "type to narrow"

    def __init__(self, store: "Store", conversation: str, turn: str = "") -> None:
        super().__init__()
        self._store = store
        self._conversation = conversation
        self._start = turn
        self._turns: list[Node] = []

    def begin(self) -> None:
        """Read the tree."""
        in_background("tree", self._read)

    def _read(self) -> None:
        try:
            self.post_message(self.Found(branches.nodes(self._store, self._conversation)))
        except PointsmanError as fault:
            self.post_message(self.Found([], str(fault)))

    @on(Found)
    def _found(self, message: Found) -> None:
        self._turns = message.nodes
        self.note(one_line(message.fault, 300))
        self._narrow()

    @on(Input.Changed)
    def _narrow(self) -> None:
        words = self.filter.value.casefold().split()
        shown = [node for node in self._turns if matches(words, f"{node.text} {node.model}")]
        last = next((node.turn for node in reversed(self._turns) if node.used), "")
        self.show([_row(node) for node in shown], "" if words else self.highlighted or self._start or last)


def _row(node: Node) -> Row:
    indent = "│ " * min(node.depth, DEEPEST)
    mark = "● " if node.used else "○ "
    version = f"‹{node.number}/{node.of}› " if node.of > 1 else ""
    who = "you" if node.role == "user" else one_line(node.model.rpartition("/")[2], 24) or "answer"
    said = "  ".join(_said(kind, value) for kind, value in node.said)
    return Row(
        node.turn,
        Content.assemble(
            Content.styled(indent + mark, "$foreground-muted"),
            Content.styled(version, "$text-accent"),
            Content.styled(f"{who}: ", "bold" if node.role == "user" else "$text-primary"),
            one_line(node.text, 160) or "(no text)",
            Content.styled(f"  {said}", "$text-warning") if said else "",
        ),
    )


def _said(kind: str, value: float | None) -> str:
    if kind == "thumb":
        return "rated good" if (value or 0) > 0 else "rated bad"
    return "★" * int(value or 0) if kind == "rating" else MARKS.get(kind, kind)
