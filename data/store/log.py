"""The log of conversations: what was asked is safe before a model runs, what arrives is kept as it comes.

A conversation is a tree of turns: asking again makes a sibling of the answer, editing makes a sibling of the question, and
the conversation remembers which branch is in use. Each writing method is one durable transaction; all may be called from
any thread. Not covered: feedback (feedback.py), search (search.py), the steps of an answer (answering.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Unpack

from sqlalchemy import select, update

from data.chat import Message, ToolCall, Usage
from data.errors import InputError, NotFound
from data.sanitise import one_line
from data.store import answering, export, forget, reading, search
from data.store import tables as t
from data.store.answering import TITLE, How, Place, Plan
from data.store.database import Database
from data.store.rows import Begun, Conversation, Forgotten, Inference, Status, Turn


class Log:
    """Conversations, turns and answers.

    `begin` and the methods of a running answer take whole ids; `conversation`, `turn`, `inference`, `rename`, `delete` and
    `forget` also take the first or last characters of one, four at least. All raise NotFound for an id that there is not.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self,
        user: Message,
        *,
        conversation: str | None = None,
        parent: str | None = None,
        incognito: bool = False,
        fresh: str = "",
        **how: Unpack[How],
    ) -> Begun:
        """Commit the question and its pending answer before the model runs.

        A new conversation where neither `conversation` nor `parent` is given. The question follows `parent` (an answer),
        or else the branch in use; parent "" puts it at the root, beside the first question. incognito keeps a new
        conversation out of search and training; for one that leaves no trace, open a store in memory. fresh: the id
        of a new conversation (`data.store.ids.new_id`), where it has to be known before. Raises InputError where `parent` is a
        question.
        """
        plan = Plan(**how)
        with self._database.write() as connection:
            if conversation or parent:
                place = answering.existing_place(connection, conversation, parent)
            else:
                place = answering.new_place(connection, user, plan, incognito, fresh)
            return answering.ask(connection, user, place, plan)

    def begin_again(self, question: str, **how: Unpack[How]) -> Begun:
        """Commit another pending answer to the same question. Raises InputError where the turn is no question."""
        with self._database.write() as connection:
            conversation, _ = _question(connection, question)
            place = answering.existing_place(connection, conversation, None)
            return answering.answer(connection, Place(conversation, question, place.incognito), Plan(**how))

    def edit(self, question: str, user: Message, **how: Unpack[How]) -> Begun:
        """Commit a changed question beside the old one, which may be the first. Raises InputError as `begin_again`."""
        with self._database.write() as connection:
            conversation, parent = _question(connection, question)
            place = answering.existing_place(connection, conversation, parent or "")
            return answering.ask(connection, user, place, Plan(**how))

    def rebind(self, inference: str, **how: Unpack[How]) -> None:
        """Another model answers than was announced; allowed only until text has arrived. Raises NotFound, InputError."""
        with self._database.write() as connection:
            answering.rebind(connection, inference, Plan(**how))

    def save_partial(self, inference: str, text: str, thinking: str = "") -> None:
        """Keep all that has arrived so far; the answer's status becomes "streaming". Nothing happens after its end."""
        with self._database.write() as connection:
            answering.save_partial(connection, inference, text, thinking)

    def finish(
        self,
        inference: str,
        *,
        status: Status,
        text: str,
        thinking: str = "",
        usage: Usage | None = None,
        error: str = "",
        tool_calls: Sequence[ToolCall] = (),
        tainted: bool = False,
        trace: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Keep how the answer ended: "complete", "interrupted", "cancelled" or "error". The first end counts.

        trace: what happened within the answer, in order, as plain JSON.
        """
        message = Message("assistant", text, thinking, tuple(tool_calls))
        with self._database.write() as connection:
            answering.finish(connection, inference, status, message, usage, error, tainted, trace)

    def turns(self, conversation: str, leaf: str | None = None) -> list[Turn]:
        """The turns from the root to `leaf`, or to the end of the branch in use."""
        with self._database.read() as connection:
            tree = reading.Tree(connection, conversation)
            end = leaf or tree.leaf_in_use()
            return tree.turns(connection, tree.path(end)) if end else []

    def turn(self, key: str) -> Turn:
        """One turn."""
        with self._database.read() as connection:
            whole = reading.whole_id(connection, t.turn, key, "turn")
            tree = reading.Tree(connection, answering.turn_row(connection, whole).conversation_id)
            return tree.turns(connection, [whole])[0]

    def siblings(self, turn: str) -> list[Turn]:
        """The turns of the same role under the same parent, oldest first, itself included."""
        with self._database.read() as connection:
            tree = reading.Tree(connection, answering.turn_row(connection, turn).conversation_id)
            return tree.turns(connection, tree.siblings(turn))

    def set_leaf(self, conversation: str, turn: str) -> str:
        """Use the branch through `turn`, to its newest end; returns the id of that end."""
        with self._database.write() as connection:
            tree = reading.Tree(connection, conversation)
            tree.path(turn)
            leaf = tree.newest_leaf(turn) or turn
            connection.execute(update(t.conversation).where(t.conversation.c.id == conversation).values(active_leaf_id=leaf))
            return leaf

    def inference(self, key: str) -> Inference:
        """One answer's circumstances."""
        with self._database.read() as connection:
            whole = reading.whole_id(connection, t.inference, key, "answer")
            return reading.inferences(connection, t.inference.c.id == whole)[0]

    def latest(self) -> Inference:
        """The circumstances of the newest answer; raises NotFound in an empty log."""
        with self._database.read() as connection:
            newest = select(t.inference.c.id).order_by(t.inference.c.id.desc()).limit(1).scalar_subquery()
            found = reading.inferences(connection, t.inference.c.id == newest)
        if not found:
            raise NotFound("the log holds no answer yet", "ask something first: pointsman ask")
        return found[0]

    def config(self, config_hash: str) -> Mapping[str, Any]:
        """The settings, system prompt included, with which an answer was made (`Inference.config_hash`)."""
        with self._database.read() as connection:
            query = select(t.config_snapshot.c.canonical_json).where(t.config_snapshot.c.sha256 == t.clean(config_hash))
            found = connection.execute(query).scalar()
        if found is None:
            raise NotFound(f"there is no configuration {config_hash!r}")
        return dict(t.load_json(found))

    def conversation(self, key: str) -> Conversation:
        """One conversation."""
        with self._database.read() as connection:
            whole = reading.whole_id(connection, t.conversation, key, "conversation")
            return reading.conversations(connection, t.conversation.c.id == whole, 1, 0)[0]

    def conversations(self, limit: int = 50, offset: int = 0) -> list[Conversation]:
        """The conversations, the last used first."""
        with self._database.read() as connection:
            return reading.conversations(connection, None, max(limit, 0), max(offset, 0))

    def rename(self, conversation: str, title: str) -> None:
        """Change the title. Raises InputError where it is empty."""
        line = one_line(title, TITLE)
        if not line:
            raise InputError("a title needs a character at least")
        document = t.search_document
        with self._database.write() as connection:
            whole = reading.whole_id(connection, t.conversation, conversation, "conversation")
            connection.execute(update(t.conversation).where(t.conversation.c.id == whole).values(title=line))
            search.remove(connection, (document.c.conversation_id == whole) & (document.c.kind == "title"))
            if not reading.conversations(connection, t.conversation.c.id == whole, 1, 0)[0].incognito:
                search.add(connection, whole, "title", line, datetime.now(UTC))

    def delete(self, conversation: str) -> None:
        """Delete a conversation and all that hangs on it. Quick, but traces may stay in the file: see `forget`."""
        with self._database.write() as connection:
            whole = reading.whole_id(connection, t.conversation, conversation, "conversation")
            forget.delete_conversations(connection, [whole])

    def forget(self, *conversations: str, text: str = "", dry_run: bool = False) -> Forgotten:
        """Delete conversations, or all in which `text` occurs, so that no byte of them stays in the files of the store.

        Reads every text once, then rewrites the file; backups from migrations are deleted as well, since they hold the
        text too. dry_run only counts. Raises StoreError where other programs keep the file from being rewritten: then
        the conversations are deleted, and calling again finishes the work. See forget.py for what a server keeps.
        """
        return forget.forget(self._database, conversations, text, dry_run)

    def export(self, *, only_trainable: bool = False, conversation: str = "") -> Iterator[dict[str, Any]]:
        """Every branch of every conversation as plain JSON, the oldest conversation first. See export.py for the fields."""
        return export.branches(self._database, only_trainable, conversation)


def _question(connection: Any, turn: str) -> tuple[str, str | None]:
    row = answering.turn_row(connection, turn)
    if row.role != "user":
        raise InputError(f"the turn {turn} is no question", "give the id of a question")
    return row.conversation_id, row.parent_turn_id
