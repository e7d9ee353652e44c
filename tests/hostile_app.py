"""A program for a pseudo-terminal: a transcript that is fed hostile texts in every way there is, and says when it is done.

    python tests/hostile_app.py TEXTS.json REPORT.json

TEXTS holds a list of strings. Each one is the text of a live answer of its own; they all arrive in two pieces, again and
again, cut after every character, and each half is drawn. Then each is a question, an answer's thinking, a model's name and
an error. REPORT is written once all of that is on the screen; it is written again when the program is quit.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from textual.widgets import Static
from transcript_app import TranscriptApp, answer, question

from data.chat import Usage
from tui.widgets.answer import AnswerView


class HostileApp(TranscriptApp):
    """Feeds itself."""

    real = 0

    def __init__(self, texts: list[str], report: Path) -> None:
        super().__init__()
        self._texts = texts
        self._report = report

    def on_ready(self) -> None:
        self.run_worker(self._run())

    def report(self, done: bool) -> None:
        """What happened so far."""
        temporary = self._report.with_suffix(".part")
        temporary.write_text(json.dumps({"done": done, "acted": self.acted, "opened": self.opened, "real": self.real}))
        os.replace(temporary, self._report)

    async def _run(self) -> None:
        await self._stream()
        await self._from_the_log()
        await self._last()
        self.report(done=True)

    async def _stream(self) -> None:
        views = [await self.transcript.begin_answer("") for _ in self._texts]
        for cut in range(1, max([len(text) for text in self._texts if not text.isprintable()])):
            for view, text in zip(views, self._texts, strict=True):
                await self._piece(view, text[:cut])
            await self._drawn()
            for view, text in zip(views, self._texts, strict=True):
                await self._piece(view, text[cut:] + "\n\n")
            await self._drawn()
        for view, text in zip(views, self._texts, strict=True):
            await view.finish("interrupted", Usage(), text)
        await self._drawn()

    async def _from_the_log(self) -> None:
        for number, text in enumerate(self._texts):
            turn = answer(number, f"{text}\n\n```{text}\n{text}\n```\n", thinking=text, model=text, error=text, status="error")
            await self.transcript.show([question(number, text), turn])
            self.transcript.toggle_details()
            await self._drawn()

    async def _last(self) -> None:
        """The last texts on one screen, to be clicked on, and a real link that shows that clicks arrive."""
        texts = self._texts[-10:]
        paragraphs = "\n\n".join(texts)
        await self.transcript.show([question(0, "\n".join(texts)), answer(0, paragraphs, thinking=paragraphs)])
        self.transcript.toggle_details()
        await self.mount(Static("[@click=app.real]a real link[/]"))
        await self._drawn()

    def action_real(self) -> None:
        self.real += 1

    async def _piece(self, view: AnswerView, text: str) -> None:
        view.write(text)
        view._flush()

    async def _drawn(self) -> None:
        drawn = asyncio.Event()
        self.call_after_refresh(drawn.set)
        await drawn.wait()


def main() -> None:
    texts = json.loads(Path(sys.argv[1]).read_text(encoding="ascii"))
    app = HostileApp(texts, Path(sys.argv[2]))
    app.run()
    app.report(done=False)


if __name__ == "__main__":
    main()
