"""The chat line by line: what `pointsman chat --text` opens, for screen readers and for terminals without a screen.

Nothing is redrawn, no colours, no boxes: a line says who speaks, the answer comes as plain text, a line says how it went.
Lines that begin with a slash are commands. Not covered: the chat with a screen (`tui.app`).
"""

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from data.errors import PointsmanError
from data.sanitise import one_line
from tui import answers, modes, opening, output
from tui.consent import Consent

if TYPE_CHECKING:
    from data.config import Settings
    from router.modes.base import Event
    from router.session import Session

HELP: Final = """\
/model NAME   answer with this model; /model alone leaves it to the settings
/mode NAME    reason in this way: auto, standard, chain_of_thought, multi_step, agent, ensemble
/good  /bad   rate the last answer
/remark TEXT  say something about the last answer
/again        answer the last question once more
/why          why the last answer took its route
/new          begin a new chat
/quit         leave; so does control-D"""


class TextChat:
    """One conversation on stdin and stdout."""

    def __init__(self, session: "Session", conversation: str | None) -> None:
        self._session = session
        self._conversation = conversation
        self._pins = modes.Pins()
        self._question = self._inference = ""
        self._reasons: tuple[str, ...] = ()
        self._commands: dict[str, Callable[[str], object]] = {
            "help": lambda _: output.line(HELP),
            "model": lambda name: self._pin(modes.Pins(name, self._pins.mode, self._pins.domain)),
            "mode": lambda name: self._pin(modes.Pins(self._pins.model, name.replace("-", "_"), self._pins.domain)),
            "good": lambda _: self._say(lambda inference: session.store.feedback.rate(inference, 1)),
            "bad": lambda _: self._say(lambda inference: session.store.feedback.rate(inference, -1)),
            "remark": lambda text: self._say(lambda inference: session.store.feedback.comment(inference, text)),
            "again": lambda _: self._again(),
            "why": lambda _: output.line("; ".join(one_line(reason, 300) for reason in self._reasons) or "there is no answer yet"),
            "new": lambda _: self._new(),
        }

    def run(self) -> None:
        """Read lines until the end."""
        output.line("Pointsman, line by line. /help lists the commands, control-D leaves.")
        while (line := _read()) is not None:
            try:
                if not self._take(line):
                    return
            except PointsmanError as fault:
                output.line(f"Error: {fault}")
            except KeyboardInterrupt:
                output.line()
                output.line("Stopped; what had come is kept.")

    def _take(self, line: str) -> bool:
        """Do what the line says; False where that is to leave."""
        text = line.strip()
        name, _, argument = text[1:].partition(" ")
        if text in ("/quit", "/exit"):
            return False
        if text.startswith("/") and name in self._commands:
            self._commands[name](argument.strip())
        elif text.startswith("/") and name.isalpha():
            output.line(f"There is no command /{one_line(name, 40)}; /help lists them.")
        elif text:
            self._ask(text)
        return True

    def _ask(self, text: str) -> None:
        pins = self._pins
        self._show(
            self._session.ask(
                text,
                conversation=self._conversation,
                model=pins.model or None,
                mode=pins.mode or None,
                domain=pins.domain or None,
                fallback=True,
            )
        )

    def _again(self) -> None:
        if not self._question:
            output.line("There is no question yet.")
            return
        pins = self._pins
        self._show(self._session.again(self._question, model=pins.model or None, mode=pins.mode or None, fallback=True))

    def _show(self, events: "Iterator[Event]") -> None:
        output.line("Answer:")
        face = answers.Plain()
        self._session.approve = Consent(face.pause)
        answer = answers.show(events, face)
        if answer.started is not None:
            started = answer.started
            self._conversation, self._question, self._inference = started.conversation, started.question, started.inference
            self._reasons = started.reasons
        for remark in answers.remarks(answer):
            output.line(f"Note: {one_line(remark, 300)}")
        output.line(f"End of the answer. {one_line(answers.measures(answer), 200)}")

    def _say(self, say: Callable[[str], object]) -> None:
        if not self._inference:
            output.line("There is no answer yet.")
            return
        say(self._inference)
        output.line("Kept.")

    def _pin(self, pins: modes.Pins) -> None:
        self._pins = pins
        output.line(f"From now on: {modes.standing(pins, self._session.settings.mode)}, model: {pins.model or 'chosen for you'}.")

    def _new(self) -> None:
        self._conversation = None
        self._question = self._inference = ""
        output.line("A new chat.")


def run(settings: "Settings", conversation: str | None = None) -> None:
    """Chat until the end of stdin. Raises PointsmanError where log or engines cannot be opened."""
    with opening.engines(settings) as engines, opening.store(settings.store.url) as store:
        from router.session import Session

        TextChat(Session(settings, store, engines), conversation).run()


def _read() -> str | None:
    """The next line, None at the end."""
    output.raw("You: ")
    sys.stdout.flush()
    try:
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        line = ""
    if not line:
        output.line()
        return None
    return line
