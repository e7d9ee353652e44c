"""Finding what an id on the command line means, and showing log rows as text or JSON.

An id may be the last or first characters of a whole one, or `last` for the newest answer. Not covered: changing the log.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from data.errors import InputError, NotFound
from data.sanitise import one_line
from tui import output

if TYPE_CHECKING:
    from data.store import Conversation, Feedback, Inference, Store, Turn

LAST = "last"


@dataclass(frozen=True, slots=True)
class Found:
    """A part of the log: a conversation and some of its turns, in order."""

    conversation: "Conversation"
    turns: "tuple[Turn, ...]"


def short(whole_id: str) -> str:
    """The end of an id, which is random and enough to name it."""
    return whole_id[-8:]


def part(store: "Store", key: str) -> Found:
    """The conversation of that id, or the answer of that id with its question; raises NotFound."""
    missing = []
    try:
        conversation = store.log.conversation(key) if key != LAST else None
    except NotFound as fault:
        conversation = None
        missing.append(fault.what)
    if conversation:
        return Found(conversation, tuple(store.log.turns(conversation.id)))
    turn = _turn(store, key, missing)
    path = store.log.turns(turn.conversation, leaf=turn.id)
    question = path[-2:-1] if turn.role == "assistant" else []
    return Found(store.log.conversation(turn.conversation), (*question, turn))


def answer(store: "Store", key: str) -> "Turn":
    """The answer of that id; of a conversation its newest. Raises NotFound, InputError where the id is a question's."""
    found = part(store, key)
    answers = [turn for turn in found.turns if turn.inference]
    if not answers:
        raise InputError(f"{key} names no answer", "see: pointsman log show " + short(found.conversation.id))
    return answers[-1]


def inference_id(store: "Store", key: str) -> str:
    """The id of the circumstances of that answer; raises as `answer`."""
    found = answer(store, key).inference
    return found.id if found else ""


def conversation_id(store: "Store", key: str) -> str:
    """The conversation of that id, or the one that an answer or a turn of that id belongs to."""
    return part(store, key).conversation.id


def show(found: Found) -> None:
    """Print the turns for people."""
    conversation = found.conversation
    output.line(f"{one_line(conversation.title)}  (conversation {short(conversation.id)})")
    for turn in found.turns:
        output.line()
        output.line(_heading(turn))
        output.line(turn.message.content or "(no text)")
        for item in turn.feedback:
            output.line(f"  · {one_line(said(item), 500)}")


def to_json(found: Found) -> dict[str, Any]:
    """The turns as JSON."""
    return {"conversation": asdict(found.conversation), "turns": [_turn_json(turn) for turn in found.turns]}


def said(item: "Feedback") -> str:
    """One thing said about an answer, in words."""
    if item.kind == "thumb":
        return "rated up" if (item.value or 0) > 0 else "rated down"
    if item.kind == "rating":
        return f"rated {item.value:.0f} of 5"
    if item.kind == "preference":
        return "preferred to another answer" if item.value else "as good as another answer"
    return f"{'corrected to' if item.kind == 'correction' else 'comment'}: {item.text}"


def when(moment: datetime) -> str:
    """A time in the local time zone, to the minute."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def _turn(store: "Store", key: str, missing: list[str]) -> "Turn":
    if key == LAST:
        return store.log.turn(store.log.latest().turn)
    try:
        return store.log.turn(store.log.inference(key).turn)
    except NotFound as fault:
        missing.append(fault.what)
    try:
        return store.log.turn(key)
    except NotFound as fault:
        raise NotFound(", ".join(dict.fromkeys([*missing, fault.what])), "see: pointsman log list") from fault


def _heading(turn: "Turn") -> str:
    about: Sequence[str] = ("question",)
    if turn.inference:
        about = (turn.inference.model, *_measures(turn.inference))
    versions = f"version {turn.sibling_index + 1} of {turn.siblings}" if turn.siblings > 1 else ""
    return "── " + " · ".join(word for word in (*about, versions, when(turn.at), short(turn.id)) if word)


def _measures(inference: "Inference") -> tuple[str, ...]:
    usage = inference.usage
    words = [inference.status if inference.status != "complete" else "", f"{usage.completion_tokens} tokens"]
    words.append(f"{usage.tokens_per_s:.0f} tokens/s" if usage.tokens_per_s else "")
    words.append("the oldest turns were left out" if inference.truncated else "")
    return (*words, one_line(inference.error, 120))


def _turn_json(turn: "Turn") -> dict[str, Any]:
    return {
        "id": turn.id,
        "parent": turn.parent,
        "at": turn.at,
        "message": turn.message.to_dict(),
        "inference": asdict(turn.inference) if turn.inference else None,
        "feedback": [asdict(item) for item in turn.feedback],
        "siblings": turn.siblings,
        "sibling_index": turn.sibling_index,
    }
