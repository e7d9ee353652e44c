"""The line under the prompt: how questions are answered, what happens now or how fast the last answer was, and a chip when
Ollama is away.

Not covered: errors, which stand in the transcript where the answer would be.
"""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from data.sanitise import one_line
from tui.messages import Activity, OllamaState, Rated


class StatusLine(Horizontal):
    """Mode and activity to the left, the chip of the Ollama server to the right."""

    def compose(self) -> ComposeResult:
        """The texts."""
        yield Static("", id="status-mode", markup=False)
        yield Static("", id="status-text", markup=False)
        yield Static("", id="status-rated", markup=False)
        yield Static("", id="status-chip", markup=False)

    def show(self, activity: Activity) -> None:
        """Draw the activity."""
        self.query_one("#status-text", Static).update(words(activity))

    def show_mode(self, standing: str, pinned: bool) -> None:
        """How the next question is answered, set off where the user chose it."""
        mode = self.query_one("#status-mode", Static)
        mode.update(standing)
        mode.set_class(pinned, "-pinned")

    def show_rated(self, rated: Rated) -> None:
        """How many answers were rated, and how many more the next training wants; nothing before the first."""
        text = self.query_one("#status-rated", Static)
        wanted = f"{rated.wanted} to the next training" if rated.wanted else "enough for a training"
        text.update(f"rated {rated.answers:,} · {wanted}")
        text.display = rated.answers > 0

    def show_ollama(self, found: OllamaState) -> None:
        """The chip for the state of the user's Ollama server; none while it is ready."""
        chip = self.query_one("#status-chip", Static)
        offline = found.state == "not running"
        chip.update(f"ollama: offline {one_line(found.host, 40)}".strip() if offline else f"ollama: {one_line(found.state, 40)}")
        chip.set_class(offline, "-away")
        chip.display = found.state != "ready"


def words(activity: Activity) -> str:
    """The activity on one line, for example `answering · 31.2 tokens/s · first token 0.41 s · context 12%`."""
    parts = [activity.phase]
    if activity.tokens_per_s:
        parts.append(f"{activity.tokens_per_s:.1f} tokens/s")
    if activity.ttft_s:
        parts.append(f"first token {activity.ttft_s:.2f} s")
    if activity.context is not None:
        parts.append(f"context {activity.context:.0%}")
    if activity.queued:
        parts.append(f"{activity.queued} queued")
    return " · ".join(part for part in parts if part)
