"""The interaction log as a source: what was said about answers, as corrections, preferences and thumbs.

Only answers that are complete, saw the whole conversation and had no untrusted text in sight, on conversations whose earlier
answers were so too; incognito conversations never. What was superseded, withdrawn or forgotten is not there any more. A rating
of 4 or 5 counts as a thumb up and of 1 or 2 as a thumb down where there is no thumb; comments go with the rows of their answer.
Rows of one conversation share its id as their group. Not covered: answers about which nothing was said.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from data.chat import Message
from data.datasets import excluded
from data.datasets._sources.base import Progress, excerpt, silent
from data.datasets.rows import Origin, Refused, Row
from data.errors import InputError, NotFound

if TYPE_CHECKING:  # the database's libraries load when a store is opened, not before
    from data.store import Store
    from data.store.rows import Conversation, Feedback, Turn

NAME = "log"
KEPT_OUT = "you keep it out of training"
USERS_OWN = ("user", "import")
"""Sources of feedback that train; what a judge or the program's own guess said does not."""
GOOD_STARS, BAD_STARS = 4, 2


@dataclass(frozen=True, slots=True)
class LogSource:
    """The feedback of a store. domain: only answers given in it, "" for all; chats: a liked answer is a chat row as well; whole:
    with the answers that the user keeps out, which are refused otherwise."""

    store: "Store"
    domain: str = ""
    chats: bool = False
    name: str = NAME
    licence: str = ""
    whole: bool = False

    def rows(self, progress: Progress = silent) -> Iterator[Row | Refused]:
        """See Source.rows; the oldest conversation first, one in memory at a time. Progress counts conversations."""
        number = 0
        ids = self._conversations()
        out = frozenset[str]() if self.whole else excluded.keys()
        for done, key in enumerate(ids):
            progress(done, len(ids))
            for found in self._of(key):
                number += 1
                if isinstance(found, Row) and excluded.key(found) in out:
                    found = Refused(Origin(self.name), "excluded", KEPT_OUT, excerpt(found.text))
                yield replace(found, origin=Origin(self.name, number))
        progress(len(ids), len(ids))

    def digest(self) -> str:
        """sha256 of the rows as JSON lines."""
        sha256 = hashlib.sha256()
        for found in self.rows():
            sha256.update(json.dumps(found.to_dict(), ensure_ascii=True, sort_keys=True).encode() + b"\n")
        return sha256.hexdigest()

    def _conversations(self) -> list[str]:
        from sqlalchemy import select

        from data.store.tables import conversation

        with self.store.database.read() as connection:
            wanted = select(conversation.c.id).where(~conversation.c.incognito).order_by(conversation.c.id)
            return list(connection.execute(wanted).scalars())

    def _of(self, key: str) -> Iterator[Row | Refused]:
        """What was said in one conversation, in the order of its turns."""
        from data.store import reading

        try:
            conversation = self.store.log.conversation(key)
            with self.store.database.read() as connection:
                tree = reading.Tree(connection, key)
                turns = {turn.id: turn for turn in tree.turns(connection, tree.rows)}
                paths = {turn.id: tree.path(turn.id) for turn in turns.values() if turn.inference and turn.feedback}
        except NotFound:  # deleted meanwhile
            return
        for turn, path in paths.items():
            answer = turns[turn].inference
            if self.domain and self.domain not in (conversation.domain, answer.domain if answer else ""):
                continue
            yield from self._said(conversation, [turns[one] for one in path], turns)

    def _said(self, conversation: "Conversation", path: "Sequence[Turn]", turns: "dict[str, Turn]") -> Iterator[Row | Refused]:
        """The rows of the answer at the end of a path."""
        answer = path[-1]
        comment = "\n".join(said.text for said in answer.feedback if said.kind == "comment" and said.source in USERS_OWN)
        judged = any(said.kind == "thumb" for said in answer.feedback)
        for said in answer.feedback:
            if said.kind == "comment" or (said.kind == "rating" and judged):
                continue
            try:
                row = replace(self._base(conversation, path, said), comment=comment)
                made = row_of(row, answer, said, turns)
            except InputError as error:
                yield Refused(Origin(self.name), "log", error.what, excerpt(answer.message.content))
                continue
            yield made
            if self.chats and made.thumb:
                yield replace(made, shape="chat", thumb=None)

    def _base(self, conversation: "Conversation", path: "Sequence[Turn]", said: "Feedback") -> Row:
        """What every row about this answer shares. Raises InputError with the reason where it may not train."""
        if said.source not in USERS_OWN:
            raise InputError(f"said by {said.source}, not by the user")
        for turn in path:
            if turn.inference and (reason := _untrainable(turn)):
                raise InputError(reason if turn is path[-1] else f"an earlier answer of the conversation: {reason}")
        if len(path) < 2 or path[-2].role != "user":
            raise InputError("the answer has no question")
        before = [Message("system", conversation.system)] if conversation.system else []
        before += [turn.message for turn in path[:-2]]
        at = path[-1].at.timestamp()
        return Row("thumb", path[-2].message.content, Origin(self.name), before=tuple(before), group=conversation.id, at=at)


def row_of(base: Row, answer: "Turn", said: "Feedback", turns: "dict[str, Turn]") -> Row:
    """The row of one thing said about an answer. Raises InputError where it says nothing that could be learnt."""
    given, thinking = answer.message.content, answer.message.thinking
    if said.kind == "correction":
        return replace(base, shape="correction", completion=said.text, rejected=given)
    if not given.strip():
        raise InputError("the answer is empty")
    kept = replace(base, completion=given, reasoning=thinking, reasoning_source="given" if thinking else "")
    if said.kind == "preference":
        return replace(kept, shape="preference", rejected=_other(answer, said, turns).message.content)
    if said.kind == "rating":
        if BAD_STARS < (said.value or 0) < GOOD_STARS:
            raise InputError(f"a rating of {said.value:g} says neither good nor bad")
        return replace(kept, thumb=(said.value or 0) >= GOOD_STARS)
    return replace(kept, thumb=(said.value or 0) > 0)


def _other(answer: "Turn", said: "Feedback", turns: "dict[str, Turn]") -> "Turn":
    """The answer that was found worse. Raises InputError where the two cannot be compared."""
    if not said.value:
        raise InputError("a tie: neither answer is better")
    other = next((turn for turn in turns.values() if turn.inference and turn.inference.id == said.rejected), None)
    if other is None or other.parent != answer.parent:
        raise InputError("the two answers are not to the same question")
    if reason := _untrainable(other):
        raise InputError(f"the other answer: {reason}")
    return other


def _untrainable(turn: "Turn") -> str:
    answer = turn.inference
    if answer is None or answer.trainable:
        return ""
    if answer.status != "complete":
        return f"not complete ({answer.status})"
    return "did not see the whole conversation" if answer.truncated else "had untrusted text in sight"
