"""`pointsman ask`: one answer, streamed. Heavy imports come when the verb runs, so that its help is instant."""

import gc
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from router.session import Session
    from tui.answers import Face

HELP = """Ask one question and print the answer.

What is piped in comes after TEXT, then the files, each under its name. A single file without TEXT is the question.

\b
  pointsman ask "What does EAGAIN mean?"
  git diff | pointsman ask "Write a commit message"
  pointsman ask -f main.py -f test_main.py "Why does the test fail?"
  pointsman ask -c "And in Rust?"                     go on with the newest conversation
  pointsman ask --json "2+2?" | jq -r .text

In a terminal the answer is Markdown; piped it is plain text as the model wrote it, without control characters.
Remarks and reasoning go to stderr. With --json stdout holds exactly one JSON value, or nothing where it failed
(the reason is on stderr, the exit code is 1)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The flags. temperature, max_tokens and seed override the settings; None leaves them."""

    model: str | None
    mode: str | None
    domain: str | None
    system: str | None
    go_on: bool
    conversation: str | None
    temperature: float | None
    max_tokens: int | None
    seed: int | None
    no_log: bool
    as_json: bool
    json_stream: bool


@click.command(help=HELP)
@click.argument("text", nargs=-1)
@click.option("-f", "--file", "files", multiple=True, metavar="FILE", help="A text file to add; may be repeated.")
@click.option("-m", "--model", metavar="MODEL", help="A model from: pointsman models list.")
@click.option("--mode", metavar="MODE", help="The way of reasoning, for example standard.")
@click.option("--domain", metavar="DOMAIN", help="The domain of the question.")
@click.option("-s", "--system", metavar="TEXT", help="The system prompt.")
@click.option("-c", "--continue", "go_on", is_flag=True, help="Go on with the newest conversation.")
@click.option("--conversation", metavar="ID", help="Go on with this conversation.")
@click.option("--temperature", type=float, metavar="T", help="0 is greedy.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Tokens of the answer at most.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Makes sampling repeatable.")
@click.option("--no-log", "--incognito", is_flag=True, help="Keep nothing of this question and its answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value at the end.")
@click.option("--json-stream", is_flag=True, help="Print one JSON object a line as things happen.")
def command(text: tuple[str, ...], files: tuple[str, ...], **flags: Any) -> None:
    """Ask one question and print the answer."""
    wanted = Wanted(**flags)
    if wanted.as_json and wanted.json_stream:
        raise click.UsageError("--json and --json-stream exclude each other")
    if wanted.no_log and _follows(wanted):
        raise click.UsageError("--no-log cannot go on with a conversation")
    gc.disable()  # importing 500 modules makes no garbage, and looking for it costs a tenth of the start-up
    try:
        _ask(text, files, wanted)
    finally:
        gc.enable()


def _ask(text: tuple[str, ...], files: tuple[str, ...], wanted: Wanted) -> None:
    from router import modes
    from tui import opening, reading

    settings = opening.settings(max_tokens=wanted.max_tokens, sampling__temperature=wanted.temperature, sampling__seed=wanted.seed)
    if wanted.mode is not None:
        modes.require(wanted.mode)
    with opening.engines(settings) as engines:
        model = opening.Warming(engines, wanted.model, certain=bool(wanted.model) or not _follows(wanted))
        question = reading.question(text, files)
        model.finish()
        with opening.store("sqlite://" if wanted.no_log else settings.store.url) as store:
            from router.session import Session

            session = Session(settings, store, engines)
            gc.enable()
            _answer(session, question, wanted)


def _answer(session: "Session", question: str, wanted: Wanted) -> None:
    from tui import answers, opening
    from tui.consent import Consent

    face = _face(session.settings.tui.text_width, wanted)
    session.approve = Consent(face.pause)
    events = session.ask(
        question,
        conversation=opening.conversation(session.store, wanted.go_on, wanted.conversation),
        model=wanted.model,
        mode=wanted.mode,
        domain=wanted.domain,
        system=wanted.system,
    )
    try:
        answer = answers.show(events, face)
    except KeyboardInterrupt:
        output.note("stopped" if wanted.no_log else "stopped; what had come is kept: pointsman log show last")
        raise
    if wanted.as_json:
        output.as_json(answer.to_dict())
    for remark in answers.remarks(answer):
        output.note(remark)
    if isinstance(face, answers.Terminal) and output.is_terminal(sys.stderr):
        output.dim_note(answers.measures(answer))


def _follows(wanted: Wanted) -> bool:
    return wanted.go_on or wanted.conversation is not None


def _face(text_width: int, wanted: Wanted) -> "Face":
    from tui import answers

    if wanted.as_json:
        return answers.Silent()
    if wanted.json_stream:
        return answers.Stream()
    return answers.Terminal(text_width) if output.is_terminal(sys.stdout) else answers.Plain()
