"""How the messages look, in a wide and in a narrow terminal. See the pictures in __snapshots__.

`pytest tests/test_transcript_snapshots.py --snapshot-update` accepts what is drawn now.
"""

from collections.abc import Awaitable, Callable

import pytest
from pilot import wait_until
from test_hostile_text import MARKUP, SEQUENCES
from textual.pilot import Pilot
from transcript_app import TranscriptApp, answer, question, said, turns

from data.chat import Usage
from tui.widgets import answer as answer_module

ANSWER = """# Points and signals

A **pointsman** sets the *points*, see [the rule book](https://rules.example/points) and `route()`:

1. look at the line
2. set the lever
   - never while a train is on it

> Safety first.

| lever | line | says |
|------:|:----:|------|
| 1     | up   | ready |
| 2     | down | locked until the signal behind it is on again |

```python
def route(train: Train) -> Lever:
    # the line decides
    return levers[train.line] or "none of the levers, which should never happen on this line"
```
"""
Script = Callable[[TranscriptApp, Pilot[None]], Awaitable[None]]
Compare = Callable[..., bool]


async def streaming_code(app: TranscriptApp, pilot: Pilot[None]) -> None:
    await app.transcript.add_question("q1", "Show me the code.")
    view = await app.transcript.begin_answer("")
    view.write("Here it *is*:\n\n```python\ndef route(train):\n    return 'not")
    await wait_until(pilot, lambda: "'not" in app.shown)


async def finished(app: TranscriptApp, pilot: Pilot[None]) -> None:
    usage = Usage(20, 0, 181, 0.41, 4.93)
    feedback = (said("thumb", 1), said("correction", text="better"))
    turn = answer(1, ANSWER, usage=usage, siblings=3, sibling_index=1, feedback=feedback)
    await app.transcript.show([question(1, "Who sets the points,\nand how?"), turn])


async def interrupted(app: TranscriptApp, pilot: Pilot[None]) -> None:
    turn = answer(1, "A pointsman sets", status="interrupted", error="the stream ended early")
    await app.transcript.show([question(1, "Who sets the points?"), turn])


async def thinking(app: TranscriptApp, pilot: Pilot[None]) -> None:
    await app.transcript.add_question("q1", "Who sets the points?")
    view = await app.transcript.begin_answer("")
    view.think("The user asks about railways.\nPoints are set by a pointsman.\nOr by a computer.")
    await wait_until(pilot, lambda: "computer" in app.shown)


async def thought(app: TranscriptApp, pilot: Pilot[None]) -> None:
    usage = Usage(20, 0, 64, 0.41, 4.93)
    folded = answer(1, "A pointsman.", thinking="The user asks about railways.", usage=usage)
    opened = answer(2, "A signalman.", thinking="The user asks about railways, again.\nSignals.", usage=usage)
    await app.transcript.show([question(1, "Who sets the points?"), folded, question(2, "And the signals?"), opened])
    app.transcript.toggle_details()
    await wait_until(pilot, lambda: "Signals." in app.shown)


async def truncated(app: TranscriptApp, pilot: Pilot[None]) -> None:
    usage = Usage(4000, 3000, 96, 1.2, 9.8, "length", dropped_turns=3)
    await app.transcript.show([question(1, "Go on."), answer(1, "And so the story goes", usage=usage)])


async def hostile(app: TranscriptApp, pilot: Pilot[None]) -> None:
    text = "\n\n".join([*MARKUP, *SEQUENCES[:6]])
    await app.transcript.show([question(1, "\n".join(SEQUENCES[:4])), answer(1, text, model=SEQUENCES[5])])


async def waiting(app: TranscriptApp, pilot: Pilot[None]) -> None:
    await app.transcript.show(turns(4))
    view = await app.transcript.begin_answer("")
    view.phase("reading", 0.4)
    await app.transcript.add_question("", "And what comes after that?", queued=True)
    app.transcript.move(-1)
    app.transcript.move(-1)
    await wait_until(pilot, lambda: "reading the prompt 40%" in app.shown)


async def reading_above(app: TranscriptApp, pilot: Pilot[None]) -> None:
    await app.transcript.show(turns(40))
    view = await app.transcript.begin_answer("")
    await wait_until(pilot, lambda: app.transcript.max_scroll_y > 0)
    app.transcript.scroll_relative(y=-8, animate=False)
    await wait_until(pilot, lambda: not app.transcript.following)
    view.write("one\n\ntwo\n\nthree")
    await wait_until(pilot, lambda: "new lines below" in app.shown)


async def light(app: TranscriptApp, pilot: Pilot[None]) -> None:
    app.theme = "textual-light"
    await finished(app, pilot)


async def ansi(app: TranscriptApp, pilot: Pilot[None]) -> None:
    app.theme = "ansi-dark"
    await finished(app, pilot)


SCRIPTS = [streaming_code, finished, interrupted, thinking, thought, truncated, hostile, waiting, reading_above, light, ansi]


@pytest.mark.parametrize("size", [(120, 36), (50, 24)], ids=["wide", "narrow"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_messages_look_as_they_did(
    script: Script, size: tuple[int, int], snap_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_module, "monotonic", lambda: 100.0)
    app = TranscriptApp()
    app.animation_level = "none"

    async def before(pilot: Pilot[None]) -> None:
        await wait_until(pilot, lambda: app.screen.query("NewLines"))
        await script(app, pilot)
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=before)
