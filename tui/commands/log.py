"""`pointsman log`: past answers listed, shown, searched, rated, corrected, exported and forgotten."""

import json
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tui import output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data.store import Store

HELP = """List, search, rate, correct, export or forget past answers.

An ID is the end of one (eight characters as `log list` shows them), or `last` for the newest answer.

\b
  pointsman log search "borrow checker"
  pointsman log show last
  pointsman log rate last up --comment "short and right"
  pointsman log correct last "Paris, not Lyon."
  pointsman log forget --matching "my address"
"""
RATINGS = ("up", "down", "clear", "1", "2", "3", "4", "5")
THUMBS = {"up": 1, "down": -1, "clear": 0}

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")


@click.group(help=HELP)
def command() -> None:
    """List, search, rate, correct, export or forget past answers."""


@command.command("list")
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@_json
def list_(count: int, as_json: bool) -> None:
    """List the conversations, the last used first."""
    with _store() as store:
        from tui import lookup

        found = store.log.conversations(limit=count)
    if as_json:
        output.as_json([asdict(conversation) for conversation in found])
    elif not found:
        output.note('the log is empty; ask something: pointsman ask "..."')
    else:
        rows = [(lookup.short(one.id), lookup.when(one.updated), str(one.turns), one.title) for one in found]
        output.table(("id", "last used", "turns", "title"), rows)


@command.command()
@click.argument("id")
@_json
def show(id: str, as_json: bool) -> None:
    """Show the conversation ID, or the answer ID with its question; `last` is the newest answer."""
    with _store() as store:
        from tui import lookup

        found = lookup.part(store, id)
    if as_json:
        output.as_json(lookup.to_json(found))
    else:
        lookup.show(found)


@command.command()
@click.argument("text", nargs=-1, required=True)
@click.option("-m", "--model", default="", metavar="MODEL", help="Only answers of this model (ENGINE/NAME).")
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most.")
@_json
def search(text: tuple[str, ...], model: str, count: int, as_json: bool) -> None:
    """Find where all words of TEXT occur; words in double quotes must stand together."""
    with _store() as store:
        from tui import lookup

        hits = store.search(" ".join(text), model=model, limit=count)
    if as_json:
        output.as_json([asdict(hit) for hit in hits])
    elif not hits:
        output.note("nothing was found")
    else:
        rows = [(lookup.short(hit.turn or hit.conversation), lookup.when(hit.at), hit.kind, hit.snippet) for hit in hits]
        output.table(("id", "when", "in", "text"), rows)


@command.command()
@click.argument("id")
@click.argument("rating", type=click.Choice(RATINGS))
@click.option("--comment", default="", metavar="TEXT", help="Say why.")
def rate(id: str, rating: str, comment: str) -> None:
    """Rate the answer ID: up, down, 1 to 5, or clear to take the rating back."""
    with _store() as store:
        from tui import lookup

        turn = lookup.answer(store, id)
        inference = turn.inference.id if turn.inference else ""
        if rating in THUMBS:
            store.feedback.rate(inference, THUMBS[rating])
        else:
            store.feedback.stars(inference, int(rating))
        if rating == "clear":
            for item in store.feedback.of(inference):
                if item.kind == "rating":
                    store.feedback.withdraw(item.id)
        if comment:
            store.feedback.comment(inference, comment)
        now = ", ".join(lookup.said(item) for item in store.feedback.of(inference)) or "nothing is said about it"
    output.line(f"answer {lookup.short(turn.id)}: {now}")


@command.command()
@click.argument("id")
@click.argument("text", nargs=-1)
@click.option("-f", "--file", metavar="FILE", help="Take the corrected answer from this file.")
def correct(id: str, text: tuple[str, ...], file: str | None) -> None:
    """Say what the answer ID should have been: TEXT, a file, stdin, or else your editor opens with the answer in it."""
    with _store() as store:
        from tui import lookup

        turn = lookup.answer(store, id)
        corrected = _corrected(turn.message.content, text, file)
        if corrected.strip() == turn.message.content.strip():
            output.note("the text is unchanged; nothing was kept")
            return
        store.feedback.correct(turn.inference.id if turn.inference else "", corrected)
    output.line(f"answer {lookup.short(turn.id)} is corrected")


@command.command()
@click.option("--format", "form", type=click.Choice(("jsonl",)), default="jsonl", show_default=True, help="One row a branch.")
@click.option("-o", "--out", metavar="FILE", help="Write here instead of stdout; whole or not at all.")
@click.option("--trainable", is_flag=True, help="Only complete answers on whole conversations without foreign text.")
@click.option("--everything", metavar="FILE.zip", help="All that is kept of you: the log, documents, datasets, runs, settings.")
@click.option("--weights", is_flag=True, help="With --everything: the weights of runs and exports too.")
def export(form: str, out: str | None, trainable: bool, everything: str | None, weights: bool) -> None:
    """Write the log as JSON lines, one for each branch of each conversation; or everything as a zip file."""
    from data import paths

    count = 0
    if everything is not None:
        if out is not None or trainable:
            raise click.UsageError("--everything goes without --out and --trainable")
        _everything(Path(everything), weights)
        return
    if weights:
        raise click.UsageError("--weights goes with --everything")
    with _store() as store:
        rows = store.log.export(only_trainable=trainable)
        if out is None:
            for row in rows:
                output.as_json(row)
            return
        with paths.replacing(Path(out).expanduser()) as file:
            for row in rows:
                file.write(f"{json.dumps(row)}\n".encode())
                count += 1
    output.note(f"{count} branches are in {out}")


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--matching", default="", metavar="TEXT", help="All conversations in which TEXT occurs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(ids: tuple[str, ...], matching: str, yes: bool) -> None:
    """Delete conversations so that no byte of them stays in the log's files. Everywhere else too: pointsman forget"""
    if not ids and not matching.strip():
        raise click.UsageError("say what to forget: an ID, or --matching TEXT")
    with _store() as store:
        from tui import lookup

        wanted = [lookup.conversation_id(store, key) for key in ids]
        doomed = store.log.forget(*wanted, text=matching, dry_run=True)
        if not doomed.conversations:
            output.note("nothing in the log matches")
            return
        counts = f"{doomed.conversations} conversations with {doomed.turns} turns and {doomed.feedback} pieces of feedback"
        if not yes:
            backups = f", and {doomed.backups} backups of the log" if doomed.backups else ""
            output.confirm(f"Forget {counts}{backups}? This cannot be undone.")
        store.log.forget(*wanted, text=matching)
    output.line(f"forgotten: {counts}")


@command.command()
@click.option("--older-than", "days", type=click.IntRange(min=1), metavar="DAYS", help="Default: store.keep_days.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def purge(days: int | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Forget conversations by their age: those whose last turn is longer ago, and diagnostic files of that age."""
    from data import retention
    from tui import opening

    days = days or opening.settings().store.keep_days
    if not days:
        raise click.UsageError("say how old: --older-than DAYS, or for good: pointsman config set store.keep_days DAYS")
    with _store() as store:
        found = retention.purge(store, days, dry_run=True)
        counts = f"{found.conversations} conversations and {found.files} diagnostic files older than {days} days"
        wanted = not dry_run and (found.conversations or found.files)
        if wanted:
            if not yes:
                output.confirm(f"Forget {counts}? This cannot be undone.")
            found = retention.purge(store, days)
    if as_json:
        output.as_json({"days": days, "dry": dry_run, "conversations": found.conversations, "files": found.files})
    else:
        output.line(("forgotten: " if wanted else "would be forgotten: " if dry_run else "nothing to forget: ") + counts)


def _everything(target: Path, weights: bool) -> None:
    from data import my_data

    with _store() as store:
        made = my_data.export(store, target, weights=weights)
    size = output.size(made.size_bytes)
    output.note(
        f"{target}: {made.branches} branches of conversations, {made.chunks} chunks of documents, {made.files} files; {size}"
    )


@contextmanager
def _store() -> "Iterator[Store]":
    from tui import opening

    with opening.store(opening.settings().store.url) as store:
        yield store


def _corrected(answer: str, text: tuple[str, ...], file: str | None) -> str:
    import sys

    from tui import reading

    if text:
        return reading.argument(text)
    if file:
        return reading.file_text(file)
    if sys.stdin is not None and sys.stdin.isatty():
        from tui import editor

        return editor.edit(answer)
    return reading.piped()
