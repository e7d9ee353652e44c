"""A chat as a file: Markdown to read, JSON with everything that the log has. Reads the store; call it in a thread.

Not covered: the whole log (`pointsman log export`).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import paths
from data.errors import InputError
from data.sanitise import one_line, sanitise

if TYPE_CHECKING:
    from data.store import Conversation, Store, Turn

SUFFIXES = (".md", ".json")


def proposed(title: str) -> str:
    """A file name for a chat of that title."""
    name = re.sub(r"[^\w-]+", "-", one_line(title, 60)).strip("-").lower()
    return f"{name or 'chat'}.md"


def save(store: "Store", conversation: str, name: str) -> Path:
    """Write the branch in use as Markdown, or all branches as JSON, by the name's ending; returns the file.

    A file that is there is not overwritten. Raises InputError, NotFound, StoreError.
    """
    file = Path(name).expanduser()
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{one_line(file.name, 80)!r} ends neither in .md nor in .json", "end the name in one of them")
    if file.exists():
        raise InputError(f"{one_line(str(file), 200)} is there already", "take another name")
    whole = json_of(store, conversation) if file.suffix.lower() == ".json" else markdown_of(store, conversation)
    try:
        with paths.replacing(file) as out:
            out.write(whole.encode())
    except OSError as error:
        raise InputError(f"cannot write {one_line(str(file), 200)}: {error.strerror}", "take another place") from error
    return file.absolute()


def json_of(store: "Store", conversation: str) -> str:
    """Every branch, as `pointsman log export` writes them."""
    rows: list[dict[str, Any]] = list(store.log.export(conversation=conversation))
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def markdown_of(store: "Store", conversation: str) -> str:
    """The branch in use."""
    return markdown(store.log.conversation(conversation), store.log.turns(conversation))


def markdown(conversation: "Conversation", turns: "Sequence[Turn]") -> str:
    """Questions and answers under headings; what a model wrote stays the Markdown that it is, without control characters."""
    parts = [f"# {one_line(conversation.title, 200)}", f"*{conversation.created.astimezone():%Y-%m-%d %H:%M}*"]
    for turn in turns:
        if turn.role not in ("user", "assistant"):
            continue
        parts.append(f"## {_speaker(turn)}")
        parts.append(sanitise(turn.message.content).strip() or "*(no text)*")
        parts += [f"> {line}" for line in _said(turn)]
    return "\n\n".join(parts) + "\n"


def _speaker(turn: "Turn") -> str:
    if turn.inference is None:
        return "You"
    facts = [one_line(fact, 80) for fact in (turn.inference.model, turn.inference.mode, turn.inference.domain)]
    return " · ".join(fact for fact in facts if fact)


def _said(turn: "Turn") -> list[str]:
    from tui.lookup import said

    return [one_line(said(item), 2_000) for item in turn.feedback]
