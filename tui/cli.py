"""The command `pointsman`: a table of verbs, and the one place where faults become a line on stderr and an exit code.

A verb's module in `tui/commands/` is imported only when the verb runs; `--help` reads the table alone. Not covered: what
the verbs do, and the chat's screens.
"""

import difflib
import os
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import click

from data.errors import PointsmanError
from data.sanitise import one_line

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_GATE = 3  # for verbs that score: the work ran and did not pass
EXIT_INTERRUPTED = 130
MESSAGE_WIDTH = 2000  # characters of a fault's one line; far above any message of ours, below a pasted novel


class Verb(NamedTuple):
    """Where a verb's `command` is, and the line that describes it."""

    module: str
    help: str


VERBS = {
    "ask": Verb("tui.commands.ask", "Ask one question and print the answer."),
    "chat": Verb("tui.commands.chat", "Open the chat (also: pointsman, without a verb)."),
    "route": Verb("tui.commands.route", "Say which model and mode a question would get."),
    "router": Verb("tui.commands.router", "Train, measure, test or undo what the router has learned."),
    "why": Verb("tui.commands.why", "Explain why an answer was given as it was."),
    "log": Verb("tui.commands.log", "List, search, rate, correct, export or forget past answers."),
    "forget": Verb("tui.commands.forget", "Forget a text or a conversation everywhere."),
    "classify": Verb("tui.commands.classify", "Label texts as a domain says, one or a file of them."),
    "eval": Verb("tui.commands.eval", "Measure a model on a domain, beside its baselines."),
    "train": Verb("tui.commands.train", "Fine-tune a model by a recipe and prove what it is worth."),
    "report": Verb("tui.commands.report", "Show what a training run has proven, and its report."),
    "reproduce": Verb("tui.commands.reproduce", "Train a run again and compare the two."),
    "export": Verb("tui.commands.export", "Make a run into GGUF files and a Modelfile, and prove them."),
    "verify": Verb("tui.commands.verify", "Check an export again: its files, and all that can be compared."),
    "bundle": Verb("tui.commands.bundle", "Carry adapters between machines and people, in one file."),
    "domains": Verb("tui.commands.domains", "List, show, check or make domain packs."),
    "data": Verb("tui.commands.data", "Build, import, check and describe datasets."),
    "docs": Verb("tui.commands.docs", "Add documents that questions may be answered from."),
    "models": Verb("tui.commands.models", "List, download, remove or prepare models."),
    "learn": Verb("tui.commands.learn", "Learn a domain from what you said, up to a promoted model."),
    "experiment": Verb("tui.commands.experiment", "Compare two models in a domain, by lot or side by side."),
    "monitor": Verb("tui.commands.monitor", "Show how the models do, what got worse, and what is asked."),
    "serve": Verb("tui.commands.serve", "Serve the router over HTTP, with OpenAI's and Ollama's APIs."),
    "config": Verb("tui.commands.config", "Show or change settings."),
    "doctor": Verb("tui.commands.doctor", "Check this installation and say how to mend it."),
    "completion": Verb("tui.commands.completion", "Print a completion script for bash, zsh or fish."),
}

EPILOG = """\b
Examples:
  pointsman                                open the chat
  pointsman ask "What is a monad?"         one answer
  git diff | pointsman ask "Review this"   one answer about what is piped in

\b
Exit codes: 0 done, 1 a fault (one line on stderr says what failed and what
to do), 2 wrong usage, 3 the work ran but did not pass its gate, 130 interrupted.
POINTSMAN_HOME moves every file below one folder; NO_COLOR turns colours off."""


class LazyGroup(click.Group):
    """A group whose verbs are the table's; completing and listing them imports nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the table's order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command, its module imported now."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        command: click.Command = import_module(verb.module).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, with the nearest verb, or the way to ask, where there is none of that name."""
        name = args[0]
        if name in VERBS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(name, VERBS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        question = one_line(" ".join(args), 60)
        raise click.UsageError(f'there is no verb {one_line(name)!r}{hint}; to ask: pointsman ask "{question}"', ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, as it stands."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """The verbs that begin so, then the options."""
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(name, help=verb.help) for name, verb in VERBS.items() if name.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> object:
        """As click, and a reader that has gone away (`| head`) is no fault."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_stdout()
            return 0
        return result


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"pointsman {version('pointsman')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A local assistant for the terminal. Without a verb it opens the chat."""
    if ctx.invoked_subcommand is None:
        command = cli.get_command(ctx, "chat")
        if command is not None:
            ctx.invoke(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; nothing but SystemExit of completion scripts leaves it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows question marks, not a traceback
    hook, threading.excepthook = threading.excepthook, _thread_crash
    try:
        result = cli.main(list(sys.argv[1:] if arguments is None else arguments), prog_name="pointsman", standalone_mode=False)
    except PointsmanError as fault:
        return _report(str(fault), EXIT_FAULT)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return EXIT_USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "pointsman"
        return _report(f"{error.format_message()}; see: {path} --help", EXIT_USAGE)
    except click.ClickException as error:
        return _report(error.format_message(), EXIT_FAULT)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except Exception as error:  # the last resort: whatever was not foreseen
        return _report(_crash(error), EXIT_FAULT)
    finally:
        threading.excepthook = hook
    return result if isinstance(result, int) else 0


def _report(message: str, code: int) -> int:
    """One sanitised line on stderr, whatever state stderr is in."""
    try:
        click.echo(f"pointsman: {one_line(message, MESSAGE_WIDTH)}", err=True)
    except OSError:
        return code  # nobody listens; the exit code still tells
    return code


def _crash(error: Exception) -> str:
    """Write the traceback into the log folder and return the line that points there."""
    from data import paths

    name = f"{type(error).__name__}: {error}"
    file = paths.log_dir() / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        with paths.replacing(file) as out:
            out.write("".join(traceback.format_exception(error)).encode("utf-8", "replace"))
    except (PointsmanError, OSError):
        return f"unforeseen fault, {name}; no crash file could be written to {file.parent}"
    return f"unforeseen fault, {name}; the details are in {file}, please report them"


def _thread_crash(fault: threading.ExceptHookArgs) -> None:
    """As an unforeseen fault of the main thread, which goes on."""
    if isinstance(fault.exc_value, Exception):
        _report(_crash(fault.exc_value), EXIT_FAULT)


def _drop_stdout() -> None:
    """Let the interpreter's last flush of stdout go nowhere instead of failing."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return  # no real stdout: nothing will be flushed


if __name__ == "__main__":
    sys.exit(main())
