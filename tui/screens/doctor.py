"""What `pointsman doctor` finds, each with the exact fix, one finding after the other as they come.

Not covered: the checks themselves (`tui.checks`); nothing is mended here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.content import Content
from textual.message import Message

from data.sanitise import one_line
from tui.background import in_background
from tui.screens.browse import Browse
from tui.screens.picker import Row
from tui.screens.words import lines, muted, named, title

if TYPE_CHECKING:
    from tui.checks import Finding

MARKS = {"ok": "✓", "warning": "!", "missing": "–", "broken": "✗"}
STYLES = {"ok": "$text-success", "warning": "$text-warning", "missing": "$text-muted", "broken": "$text-error"}


class DoctorScreen(Browse):
    """Findings in their order."""

    @dataclass
    class Looked(Message):
        """A check has ended with this; None: that was all. number: which reading it was."""

        finding: "Finding | None"
        number: int

    CONTEXTS: ClassVar[tuple[str, ...]] = ("Rows and details",)
    HEADING = "Doctor: looking …"
    NOTHING = "looking …"

    def __init__(self) -> None:
        super().__init__()
        self._found: list[Finding] = []

    def action_reload(self) -> None:
        """Look again."""
        self._number += 1
        self._found = []
        self.heading(self.HEADING)
        self.show(())
        in_background("doctor", self._examine, self._number)

    def about(self, key: str) -> Content | None:
        """See `Browse.about`."""
        found = self._found[int(key.partition(":")[2])]
        return lines(title(found.check), muted(found.state), Content(one_line(found.detail, 1000)), named("fix", found.fix))

    @on(Looked)
    def _came_up(self, message: Looked) -> None:
        if message.number != self._number:
            return
        if message.finding is not None:
            self._found.append(message.finding)
            self.show(list(_rows(self._found)))
            return
        counts = {state: sum(one.state == state for one in self._found) for state in MARKS}
        said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        sound = "everything essential works" if not counts["broken"] else "something essential is broken"
        self.heading(f"Doctor: {sound} ({said})")

    def _examine(self, number: int) -> None:
        from tui import checks

        for finding in checks.run():
            self.post_message(self.Looked(finding, number))
        self.post_message(self.Looked(None, number))


def _rows(found: "list[Finding]") -> Iterator[Row]:
    for index, one in enumerate(found):
        mark = Content.styled(f"{MARKS[one.state]} ", STYLES[one.state])
        yield Row(f"check:{index}", Content.assemble(mark, f"{one_line(one.check, 20):<15} ", muted(one.detail, 200)))
