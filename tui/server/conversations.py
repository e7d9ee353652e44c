"""Which conversation of the log a request goes on: clients send the whole conversation each time, and name none.

What was said is hashed message by message, system prompts left out; the hash up to an answer that the log holds names the
turn that the question follows. The same question after the same answer is asked anew, as a sibling of the answers it has; a
question after a part of what is known is a fork; what was never seen begins a conversation of its own. Two chats that were
alike so far cannot be told apart: the newer goes on. Not covered: what the model sees, which is always what the client sent.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from data.chat import Message
from data.errors import InputError, NotFound
from data.store import Store
from router.modes.base import Started

KNOWN = 20_000
"""Hashes kept, the latest used; one takes about 300 bytes."""
RECALLED = 100
"""Conversations, the last used, that are read from the log at the first question that follows something unknown."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A turn of the log. strange: clients have told of more around it than the log holds."""

    conversation: str
    turn: str
    strange: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer belongs.

    conversation: "" for a new one; parent: the turn that the question follows (None: the end of the branch in use); question:
    the turn to answer once more ("": a new question); text: the question; before, after: the messages around it; strange:
    the log does not hold all of what stands before or after.
    """

    conversation: str
    parent: str | None
    question: str
    text: str
    before: tuple[Message, ...]
    after: tuple[Message, ...]
    strange: bool


class Conversations:
    """The hashes of one server. Any thread may call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._lock = threading.Lock()
        self._recalled = False

    def place(self, messages: Sequence[Message], conversation: str = "") -> Place:
        """Where the answer to `messages` belongs; conversation: what the client named. Raises InputError, NotFound."""
        said = [message for message in messages if message.role != "system"]
        at = max((number for number, message in enumerate(said) if message.role == "user"), default=-1)
        if at < 0 or said[-1].role == "assistant":
            raise InputError("the last message is not a question", "end with a message of the user, or of a tool")
        before, after = tuple(said[:at]), tuple(said[at + 1 :])
        if conversation:
            conversation = self._store.log.conversation(conversation).id
        hashes = _chain(said)
        text = said[at].content
        asked = self._standing(hashes[at], "user") if before or after else None
        if asked and conversation in ("", asked.conversation):
            return Place(asked.conversation, None, asked.turn, text, before, after, asked.strange or bool(after))
        found, length = self._follows(hashes[:at])
        if found and conversation in ("", found.conversation):
            strange = found.strange or length < at or bool(after)
            return Place(found.conversation, found.turn, "", text, before, after, strange)
        return Place(conversation, None, "", text, before, after, bool(before or after))

    def asked(self, messages: Sequence[Message], started: Started, strange: bool) -> None:
        """Remember the turn of the question."""
        said = [message for message in messages if message.role != "system"]
        at = max(number for number, message in enumerate(said) if message.role == "user")
        self._keep(_chain(said)[at], _Known(started.conversation, started.question, strange))

    def answered(self, messages: Sequence[Message], answer: Message, started: Started, strange: bool) -> None:
        """Remember the turn of the answer."""
        said = [message for message in messages if message.role != "system"]
        self._keep(_chain([*said, answer])[-1], _Known(started.conversation, started.answer, strange))

    def _follows(self, hashes: Sequence[bytes]) -> tuple[_Known | None, int]:
        """The turn of the longest known beginning, and how many messages that is."""
        for length in range(len(hashes), 0, -1):
            if found := self._standing(hashes[length - 1], "assistant"):
                return found, length
        return None, 0

    def _standing(self, key: bytes, role: str) -> _Known | None:
        """The turn of that hash and role, where the log still holds it."""
        found = self._turn(key)
        try:
            return found if found and self._store.log.turn(found.turn).role == role else None
        except NotFound:
            return None  # forgotten since

    def _turn(self, key: bytes) -> _Known | None:
        with self._lock:
            found = self._known.get(key)
        if found is None and not self._recalled:
            self._recall()
            with self._lock:
                found = self._known.get(key)
        return found

    def _keep(self, key: bytes, known: _Known) -> None:
        with self._lock:
            self._known[key] = known
            self._known.move_to_end(key)
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)

    def _recall(self) -> None:
        """Know the branches in use of the last conversations, as after a restart."""
        self._recalled = True
        for conversation in reversed(self._store.log.conversations(limit=RECALLED)):
            turns = self._store.log.turns(conversation.id)
            for key, turn in zip(_chain([turn.message for turn in turns]), turns, strict=True):
                with self._lock:
                    self._known.setdefault(key, _Known(conversation.id, turn.id))


def _chain(messages: Sequence[Message]) -> list[bytes]:
    """For each message the hash of everything up to it. White space around a text, and ids of calls, do not count."""
    found = []
    digest = b""
    for message in messages:
        calls = [call.name for call in message.tool_calls]
        digest = hashlib.sha256(digest + json.dumps([message.role, message.content.strip(), calls]).encode()).digest()
        found.append(digest)
    return found
