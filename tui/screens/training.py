"""Training beside the chat: recipes to train by, the training under way with its losses and answers, runs to go on with, and runs.

The training is a process of its own (`tui.training`): leaving the screen or the chat does not stop it. Not covered: exporting a
run, and letting it answer (`tui.screens.registry`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Sparkline

from data.sanitise import one_line, sanitise
from tui import screen_keys, training
from tui.background import in_background
from tui.screens.browse import Browse
from tui.screens.picker import Row
from tui.screens.training_words import MARKS, Live, called, run, seen, short, told
from tui.screens.words import blocks, lines, muted, title
from tui.training import Job

POLL_S = 0.5
"""Seconds between two looks at the training under way."""


@dataclass(frozen=True, slots=True)
class Everything:
    """What the screen lists. recipes: name and text; runs: name and whether it passed; left: runs that can go on."""

    live: tuple[Live, ...] = ()
    left: tuple[str, ...] = ()
    runs: tuple[tuple[str, bool | None], ...] = ()
    recipes: tuple[tuple[str, str, str], ...] = field(default=())


class TrainingScreen(Browse):
    """Trainings, runs and recipes."""

    @dataclass
    class Seen(Message):
        """A look at the trainings."""

        live: tuple[Live, ...]

    BINDINGS: ClassVar[list[BindingType]] = [*screen_keys.TRAINING]
    CSS_PATH = ["browse.tcss", "training.tcss"]
    CONTEXTS = ("Rows and details", "Training")
    HEADING = "Training: it goes on while you chat"

    def __init__(self) -> None:
        super().__init__()
        self._found = Everything()
        self._jobs: list[Job] = []
        self._looking = False
        self._wanted = ""  # the row to go to once it is there

    def within(self) -> ComposeResult:
        """The losses of the highlighted training."""
        yield Sparkline([], id="losses")

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one(Sparkline).display = False
        self.set_interval(POLL_S, self._poll)

    def read(self) -> Everything:
        """See `Browse.read`."""
        from trainer import recipe

        known = {job.folder: job for job in self._jobs}
        self._jobs = [known.get(job.folder, job) for job in training.jobs()]
        live = tuple(seen(job) for job in self._jobs)
        under_way = {one.progress.run for one in live if one.outcome == "running"}
        recipes = []
        for name in recipe.names():
            file = recipe.FOLDER / f"{name}.toml"
            text = file.read_text(encoding="utf-8")
            recipes.append((name, recipe.load(name).title, text))
        left = tuple(name for name in training.unfinished() if name not in under_way)
        return Everything(live, left, tuple(training.finished()), tuple(recipes))

    def draw(self, found: Everything) -> None:
        """See `Browse.draw`."""
        self._found = found
        self.show(list(self._listed()), self._wanted)
        self._wanted = ""

    def about(self, key: str) -> Content | None:
        """See `Browse.about`."""
        kind, _, name = key.partition(":")
        live = self._live(key)
        losses = live.progress.losses if live else []
        spark = self.query_one(Sparkline)
        spark.display = len(losses) > 1
        spark.data = losses
        if live:
            return told(live)
        if kind == "left":
            return lines(title(name), muted("this run was paused or broke off"), Content("r goes on where it stopped"))
        if kind == "recipe":
            text = next((text for recipe, _, text in self._found.recipes if recipe == name), "")
            return blocks(title(name), Content(sanitise(text)))
        return None

    def look(self, key: str) -> Content:
        """See `Browse.look`: a finished run."""
        from trainer import run_folder

        return run(run_folder.find(key.partition(":")[2]))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are for what the highlighted row is."""
        key = self.highlighted if self.is_mounted and self._rows else ""
        kind = key.partition(":")[0]
        live = self._live(key)
        if action in ("start", "dry"):
            return kind == "recipe"
        if action in ("pause", "keep"):
            return bool(live and live.outcome == "running" and (action == "pause" or not live.job.dry))
        if action == "resume":
            return kind == "left" or bool(live and live.outcome == "paused")
        return True

    def choose(self, key: str) -> None:
        """See `Browse.choose`."""
        if key.startswith("recipe:"):
            self.action_start()

    def action_start(self) -> None:
        """Ask for options, then train."""
        name = self.highlighted.partition(":")[2]
        words = "recipe and options, as --data mails.csv --seed 7"
        self.ask(words, lambda line: self._begin(line, ""), value=f"{name} ", check=training.wrong)

    def action_dry(self) -> None:
        """Estimate by the highlighted recipe."""
        self._begin(self.highlighted.partition(":")[2], "--dry-run")

    def action_resume(self) -> None:
        """Go on with a run."""
        live = self._live(self.highlighted)
        name = live.progress.run if live else self.highlighted.partition(":")[2]
        self.do(f"going on with {name} …", lambda: self._began(training.resume(name)))

    def action_pause(self) -> None:
        """Stop after the step in hand."""
        if live := self._live(self.highlighted):
            self.do("pausing …", lambda: _after(live.job.pause, "it stops after the step in hand; r goes on"))

    def action_keep(self) -> None:
        """End the training and keep the best."""
        live = self._live(self.highlighted)
        if live and self.sure(f"keep {live.job.folder}", "end the training now and judge the best so far?"):
            self.do("…", lambda: _after(live.job.keep, "it ends after the step in hand, then the best so far is judged"))

    def _begin(self, line: str, flag: str) -> None:
        import shlex

        arguments = [*shlex.split(line), *([flag] if flag else [])]
        self.do("starting …", lambda: self._began(training.begin(arguments)))

    def _began(self, job: Job) -> str:
        """In a thread: keep the handle of what was begun, which tells best whether it runs."""
        self._jobs = [*self._jobs, job]
        self._wanted = f"job:{job.folder.name}"
        return f"{job.name} is under way; you can go back to the chat"

    def _poll(self) -> None:
        if self._jobs and not self._looking and self.is_current:
            self._looking = True
            in_background("trainings", self._see)

    def _see(self) -> None:
        try:
            self.post_message(self.Seen(tuple(seen(job) for job in list(self._jobs))))
        finally:
            self._looking = False

    @on(Seen)
    def _came_to_see(self, message: Seen) -> None:
        before = [(one.job.folder, one.outcome) for one in self._found.live]
        if [(one.job.folder, one.outcome) for one in message.live] != before:
            self.action_reload()  # a run has ended: it is listed elsewhere now
        else:
            self.draw(replace(self._found, live=message.live))

    def _live(self, key: str) -> Live | None:
        return next((one for one in self._found.live if key == f"job:{one.job.folder.name}"), None)

    def _listed(self) -> Iterator[Row]:
        found = self._found
        for one in reversed(found.live):
            name = one.job.name if one.outcome == "running" else called(one)
            shown = Content.assemble(f"{MARKS[one.outcome]} ", one_line(name, 60), "  ", short(one))
            yield Row(f"job:{one.job.folder.name}", shown)
        for name in reversed(found.left):
            yield Row(f"left:{name}", Content.assemble("‖ ", one_line(name, 60), "  ", muted("can go on")))
        for name, passed in found.runs:
            mark = "?" if passed is None else "✓" if passed else "✗"
            yield Row(f"run:{name}", Content.assemble(f"{mark} ", one_line(name, 60), "  ", muted("run")))
        for name, words, _ in found.recipes:
            yield Row(f"recipe:{name}", Content.assemble("  ", f"{one_line(name, 24):<18}", muted(words, 60)))


def _after(done: Any, words: str) -> str:
    done()
    return words
