"""The tree of a chat as lines: every question and answer, indented where versions part. Reads the store; call it in a thread.

Not covered: drawing it (`tui.screens.tree`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data.store import Store


@dataclass(frozen=True, slots=True)
class Node:
    """A turn. depth: how many forks lie above it; number, of: which of how many versions it is; used: on the branch in use;
    said: what the user said about it, as kinds and values. text and model are untrusted."""

    turn: str
    role: str
    text: str
    model: str
    depth: int
    number: int
    of: int
    used: bool
    said: tuple[tuple[str, float | None], ...] = ()


def nodes(store: "Store", conversation: str) -> list[Node]:
    """Every turn of the conversation, each before what follows it, versions oldest first. Raises NotFound, StoreError."""
    below: dict[str, list[str]] = defaultdict(list)
    messages: dict[str, Mapping[str, Any]] = {}
    used: set[str] = set()
    for branch in store.log.export(conversation=conversation):
        parent = ""
        for message in branch["messages"]:
            turn = message["turn"]
            if turn not in messages:
                messages[turn] = message
                below[parent].append(turn)
            used |= {turn} if branch["active"] else set()
            parent = turn
    return list(_walked(below, messages, used))


def _walked(below: Mapping[str, list[str]], messages: Mapping[str, Mapping[str, Any]], used: set[str]) -> Iterator[Node]:
    first = sorted(below.get("", ()))
    waiting = [(turn, 0, number, len(first)) for number, turn in enumerate(first, 1)][::-1]
    while waiting:
        turn, depth, number, of = waiting.pop()
        deeper = depth + (of > 1)
        yield _node(messages[turn], depth, number, of, turn in used)
        children = sorted(below.get(turn, ()))
        waiting += [(child, deeper, place, len(children)) for place, child in enumerate(children, 1)][::-1]


def _node(message: Mapping[str, Any], depth: int, number: int, of: int, used: bool) -> Node:
    said = tuple((str(one["kind"]), one["value"]) for one in message.get("feedback", ()))
    text = str(message.get("content", ""))
    return Node(message["turn"], str(message["role"]), text, str(message.get("model", "")), depth, number, of, used, said)
