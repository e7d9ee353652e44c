"""The user's own approved answers as a source: what they liked, preferred or corrected, one row an answer, redacted.

Of an answer counts the strongest word: its correction, else that it was found better than another, else a thumb up or 4 stars and
more; a thumb down without a correction leaves it out. Without a domain, answers under an output contract are left out too: JSON has
no style. As in `log`: only complete, untainted answers that saw the whole conversation, never incognito ones, and only what the
user said. Personal data and secrets are replaced, since an adapter may be handed on. Not covered: what a model makes of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from data.datasets._sources.base import excerpt
from data.datasets._sources.log import GOOD_STARS, USERS_OWN, LogSource, row_of
from data.datasets.rows import Origin, Refused, Row
from data.errors import InputError

if TYPE_CHECKING:  # the database's libraries load when a store is opened, not before
    from data.datasets.redact import Redactor
    from data.store import Store
    from data.store.rows import Conversation, Feedback, Turn

NAME = "approved"


@dataclass(frozen=True, slots=True)
class ApprovedSource(LogSource):
    """The approved answers of a store, or of one domain. Reading raises InputError where the packages that redact are missing."""

    name: str = NAME

    def _said(self, conversation: "Conversation", path: "Sequence[Turn]", turns: "dict[str, Turn]") -> Iterator[Row | Refused]:
        answer = path[-1]
        said = _strongest(answer.feedback)
        if said is None:
            return
        try:
            row = row_of(self._base(conversation, path, said), answer, said, turns)
            if not self.domain and answer.inference and _contracted(self.store, answer.inference.config_hash):
                raise InputError("an answer under an output contract has no style")
            if answer.message.tool_calls and said.kind != "correction":
                raise InputError("it calls tools")
        except InputError as error:
            yield Refused(Origin(self.name), NAME, error.what, excerpt(answer.message.content))
            return
        yield _redactor().row(row)[0]


def _strongest(feedback: "Sequence[Feedback]") -> "Feedback | None":
    """What makes an answer approved; None where nothing does."""
    mine = [said for said in feedback if said.source in USERS_OWN]
    found = {said.kind: said for said in mine}
    if "correction" in found:
        return found["correction"]
    disliked = "thumb" in found and (found["thumb"].value or 0) < 0
    better = next((said for said in mine if said.kind == "preference" and said.value), None)
    if disliked or better:
        return None if disliked else better
    if "thumb" in found:
        return found["thumb"]
    return found["rating"] if "rating" in found and (found["rating"].value or 0) >= GOOD_STARS else None


def _contracted(store: "Store", config_hash: str) -> bool:
    """Whether an answer had to keep a JSON schema."""
    return bool(store.log.config(config_hash).get("schema"))


@cache
def _redactor() -> "Redactor":
    try:
        from data.datasets.redact import Redactor

        return Redactor()
    except ImportError as error:
        raise InputError(
            f"redacting your answers needs {error.name or 'more packages'}", "pip install 'pointsman[data]'"
        ) from error
