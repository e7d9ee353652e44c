"""What the router learns from and answers to: the user's corrected routes, and evaluations of tuned models.

Not covered: the learned heads themselves, which are files (router/learning.py), and decisions, which are in the log.
"""

from datetime import UTC, datetime

from sqlalchemy import Connection, Select, delete, insert, select, update

from data.errors import InputError, NotFound
from data.store import reading
from data.store import tables as t
from data.store.database import Database
from data.store.ids import new_id
from data.store.rows import Evaluation, Exemplar


class Routing:
    """Exemplars and evaluations. Every method is one transaction and may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def teach(self, text: str, *, domain: str = "", mode: str = "", inference: str = "") -> Exemplar:
        """Keep that questions like `text` belong to `domain` and are answered in `mode` ("" leaves one open).

        inference: the answer whose route was wrong; an earlier exemplar of the same answer is withdrawn. Raises InputError
        where nothing is said, where text is empty, and for an incognito conversation, NotFound for an unknown answer.
        """
        if not text.strip():
            raise InputError("there is no text to learn a route from", "give one")
        if not (domain or mode):
            raise InputError("neither a domain nor a mode was said to be right", "give one")
        found = Exemplar(new_id(), text, domain, mode, inference, datetime.now(UTC))
        with self._database.write() as connection:
            if inference:
                self._withdraw_earlier(connection, inference)
            connection.execute(
                insert(t.exemplar).values(
                    id=found.id,
                    inference_id=inference or None,
                    text=text,
                    domain=domain,
                    mode=mode,
                    source="correction",
                    withdrawn=False,
                    created_at=found.at,
                )
            )
        return found

    def withdraw(self, exemplar: str) -> None:
        """Take an exemplar back. Raises NotFound."""
        with self._database.write() as connection:
            whole = reading.whole_id(connection, t.exemplar, exemplar, "exemplar")
            connection.execute(update(t.exemplar).where(t.exemplar.c.id == whole).values(withdrawn=True))

    def exemplars(self) -> list[Exemplar]:
        """The exemplars in force, oldest first."""
        query = select(t.exemplar).where(~t.exemplar.c.withdrawn).order_by(t.exemplar.c.id)
        with self._database.read() as connection:
            return [
                Exemplar(row.id, row.text, row.domain, row.mode, row.inference_id or "", row.created_at)
                for row in connection.execute(query)
            ]

    def evaluated(self, model: str, *, base: str, domain: str, pairs: int, gain: float, lower: float) -> Evaluation:
        """Keep how a tuned model did against its base on `pairs` held-out questions of `domain`.

        gain: difference in win rate, from -1 to 1; lower: its lower 90% bound. Raises InputError for impossible numbers.
        """
        if pairs < 1 or not -1 <= lower <= gain <= 1:
            raise InputError(f"an evaluation of {pairs} pairs with gain {gain} and lower bound {lower} is impossible")
        found = Evaluation(new_id(), model, base, domain, pairs, gain, lower, datetime.now(UTC))
        with self._database.write() as connection:
            connection.execute(
                insert(t.evaluation).values(
                    id=found.id,
                    model=model,
                    base=base,
                    domain=domain,
                    pairs=pairs,
                    gain=gain,
                    lower=lower,
                    created_at=found.at,
                )
            )
        return found

    def evaluations(self) -> list[Evaluation]:
        """The newest evaluation of each model in each domain."""
        with self._database.read() as connection:
            rows = connection.execute(select(t.evaluation).order_by(t.evaluation.c.id)).all()
        newest = {(row.model, row.domain): row for row in rows}
        return [
            Evaluation(row.id, row.model, row.base, row.domain, row.pairs, row.gain, row.lower, row.created_at)
            for row in newest.values()
        ]

    def _withdraw_earlier(self, connection: Connection, inference: str) -> None:
        found = connection.execute(
            select(t.conversation.c.incognito)
            .join_from(t.inference, t.turn, t.turn.c.id == t.inference.c.turn_id)
            .join(t.conversation, t.conversation.c.id == t.turn.c.conversation_id)
            .where(t.inference.c.id == inference)
        ).first()
        if found is None:
            raise NotFound(f"there is no answer {inference!r}", "see: pointsman log list")
        if found.incognito:
            raise InputError("this conversation is incognito: nothing is learned from it", "ask again in another one")
        connection.execute(update(t.exemplar).where(t.exemplar.c.inference_id == inference).values(withdrawn=True))


def delete_exemplars(connection: Connection, answers: Select[tuple[str]]) -> None:
    """Delete what was learned from these answers (a query of their ids)."""
    connection.execute(delete(t.exemplar).where(t.exemplar.c.inference_id.in_(answers)))


def delete_exemplars_with(connection: Connection, wanted: str) -> None:
    """Delete the exemplars in whose text `wanted` (casefolded) occurs."""
    rows = connection.execute(select(t.exemplar.c.id, t.exemplar.c.text)).all()
    for key in [row.id for row in rows if wanted in row.text.casefold()]:
        connection.execute(delete(t.exemplar).where(t.exemplar.c.id == key))
