"""`pointsman forget`: a text or a conversation is forgotten everywhere, and the models that learnt from it are told."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.errors import NotFound
from tui import output

if TYPE_CHECKING:
    from data.forgetting import Report, Trained
    from data.store import Store

HELP = """Forget WHAT everywhere: a text, or a conversation (the end of its id, or `last`).

The log with its index and backups, documents, datasets, drafts, runs, exports, caches and diagnostic files lose it, so that
no byte is left; conversations and dataset rows that hold it go as a whole. What models learnt stays in their weights: each that
was trained on it is listed with the command that trains it again without. Nothing is changed before you said yes.
Without WHAT the models are listed that still know what was forgotten before.

\b
  pointsman forget "Maple Street 12" --dry-run   what holds it
  pointsman forget "Maple Street 12"             forget it, after asking
  pointsman forget 8f3a91c2                      forget one conversation
  pointsman forget "Maple Street 12" --models    and remove the models that were trained on it

Exit code 3 where something is left that only you can remove."""
SHOWN = 20
_ID = re.compile(r"[0-9a-f]{4,32}")


@click.command(help=HELP)
@click.argument("what", nargs=-1)
@click.option("--text", "as_text", is_flag=True, help="WHAT is a text, even if it looks like an id.")
@click.option("--dry-run", is_flag=True, help="Only tell what holds it.")
@click.option("--models", is_flag=True, help="Remove runs, exports and versions that were trained on it.")
@click.option("--force", is_flag=True, help="With --models: a champion and a canary too.")
@click.option("--also", multiple=True, metavar="PATH", help="A file or folder elsewhere that is cleared too; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(
    what: tuple[str, ...], as_text: bool, dry_run: bool, models: bool, force: bool, also: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Forget a text or a conversation everywhere."""
    from tui import lineage, opening

    given = " ".join(what).strip()
    if not given:
        _remembered(as_json)
        return
    if force and not models:
        raise click.UsageError("--force goes with --models")
    with opening.store(opening.settings().store.url) as store:
        from data import forgetting

        conversation = "" if as_text else _conversation(store, given)
        place: Any = {"conversations": [conversation]} if conversation else {"term": given}
        place["beside"] = [_there(path) for path in also]
        with output.Progress("forgetting", amount=lambda count: f"{count:,.0f}") as progress:
            tell = lambda doing, done, of: progress.show(doing, done, of)  # noqa: E731
            if dry_run or not yes:
                found = forgetting.forget(store, dry_run=True, models=models, force=force, tell=tell, **place)
        if not dry_run and not yes and not found.nothing:
            _list(found)
            output.confirm(_question(found, models))
        if not dry_run and (yes or not found.nothing):
            with output.Progress("forgetting", amount=lambda count: f"{count:,.0f}") as progress:
                found = forgetting.forget(store, models=models, force=force, who=lineage.user(), tell=tell, **place)
    if as_json:
        output.as_json(_plain(found))
    else:
        _say(found, listed=dry_run or yes)
    if not dry_run and found.left:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


def _conversation(store: "Store", given: str) -> str:
    """The conversation that is meant; "" where a text is."""
    from tui import lookup

    if given != "last" and not _ID.fullmatch(given):
        return ""
    try:
        return lookup.conversation_id(store, given)
    except NotFound:
        return ""


def _there(path: str) -> Path:
    found = Path(path).expanduser().absolute()
    if not found.exists():
        raise NotFound(f"there is no {found}", "give a file or a folder")
    return found


def _question(found: "Report", models: bool) -> str:
    gone = sum(one.removed for one in found.models) if models else 0
    also = f" and remove {len(found.models)} models" if models and not gone and found.models else ""
    return f"Forget this{also}? It cannot be undone."


def _say(found: "Report", listed: bool) -> None:
    if found.nothing:
        output.note("nothing holds it")
        return
    if listed:
        _list(found)
    if not found.dry:
        output.line("forgotten: " + _counts(found))
        for one in found.left:
            output.line(f"LEFT {one.path}: {one.why}")
        if not found.left:
            output.line("every file was searched again: nothing is left")
    _models(found.models)
    for name in found.untold:
        output.note(f"the rows of the run {name} are not here any more, so nobody can tell whether it was trained on it")
    for one in found.outside:
        output.note(f"{one.path}: {one.why}")


def _list(found: "Report") -> None:
    output.line(("would be forgotten: " if found.dry else "") + _counts(found))
    for one in found.files[:SHOWN]:
        what = {"rows": f"{one.count} rows", "texts": f"{one.count} texts", "removed": "the file"}[one.how]
        output.line(f"  {one.path}: {what}" + (f" ({one.why})" if one.why else ""))
    if len(found.files) > SHOWN:
        output.line(f"  and {len(found.files) - SHOWN} more files")
    for left in found.left if found.dry else ():
        output.line(f"  {left.path} would be left: {left.why}")


def _counts(found: "Report") -> str:
    hows = Counter(one.how for one in found.files)
    parts = [
        (found.conversations, f"conversations with {found.turns} turns and {found.feedback} pieces of feedback"),
        (found.documents, "documents"),
        (found.exemplars, "corrected routes"),
        (found.notes, "notes"),
        (hows["rows"] + hows["texts"], "files cleared"),
        (hows["removed"], "files removed"),
    ]
    return ", ".join(f"{count} {name}" for count, name in parts if count) or "nothing but models"


def _models(models: "Sequence[Trained]") -> None:
    if not models:
        return
    output.line("trained on it, which no clearing takes out of weights:")
    for one in models:
        state = "removed" if one.removed else one.kept
        stage = f" ({one.stage})" if one.stage else ""
        output.line(f"  {one.kind} {one.name}{stage}: {one.why}" + (f"; {state}" if state else ""))
        if one.ollama:
            output.line(f"    also in Ollama: ollama rm {one.ollama}")
    for again in dict.fromkeys(one.command for one in models if one.command):
        output.line(f"  again without it: {again}")


def _plain(found: "Report") -> dict[str, Any]:
    told = asdict(found)
    for one in (*told["files"], *told["models"]):
        one["path"] = str(one["path"]) if one["path"] else None
    return told


def _remembered(as_json: bool) -> None:
    """What was forgotten before: the models that still know it, and forgettings that a crash broke off."""
    from data import forgetting

    record, waiting = forgetting.done(), len(forgetting.pending())
    if as_json:
        output.as_json({"done": record, "pending": waiting})
        return
    if waiting:
        output.note(f"{waiting} forgettings were broken off; end other programs that use the log, then: pointsman doctor")
    rows = [
        (str(one.get("at", ""))[:10], str(model.get("kind", "")), str(model.get("name", "")), str(model.get("command", "")))
        for one in record
        for model in one.get("models", ())
        if not model.get("removed")
    ]
    if rows:
        output.table(("forgotten on", "still known by", "name", "again without it"), rows)
    else:
        output.note(f"{len(record)} times something was forgotten; no model that is left was trained on it")
