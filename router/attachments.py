"""The documents of a question: `@file` mentions taken in, passages looked for, and put before the model as data.

Nothing is imported or searched where there is neither a document nor a mention. Not covered: reading, cutting and searching
documents (router/documents).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.chat import Message
from data.config import Settings
from data.errors import PointsmanError
from data.store import Store
from router.engines import Engines
from router.modes.base import Cited
from router.tools.base import Passage

if TYPE_CHECKING:
    from router.documents.library import Documents


NEAR = 0.3
"""Cosine from which a passage of the library is put before a question that did not name it (docs/experiments.md)."""
EMBEDDED_BYTES = 60_000
"""Size up to which a mentioned file gets its sentence vectors at once; they take about 2 s for each 20 kB."""


@dataclass(frozen=True, slots=True)
class Found:
    """The question as the model sees it, the passages that were put before it, and what went wrong, one line each."""

    message: Message
    cited: tuple[Cited, ...] = ()
    problems: tuple[str, ...] = ()


class Attachments:
    """The documents of one session. mentions: whether `@file` means a file of this machine."""

    def __init__(self, settings: Settings, store: Store, engines: Engines, mentions: bool = True) -> None:
        self._settings = settings
        self._store = store
        self._engines = engines
        self._mentions = mentions
        self._documents: Documents | None = None
        self.conversation = ""
        """The conversation that was last read for."""

    @property
    def documents(self) -> "Documents":
        """The documents, with the embedded sentence encoder."""
        if self._documents is None:
            from router.documents.library import Documents

            self._documents = Documents(self._store, self._engines.get("llamacpp").embed, self._settings.documents)
        return self._documents

    def any(self, conversation: str = "") -> bool:
        """Whether there is a document that a question of this conversation can be answered from."""
        return bool(self._store.documents.versions(conversation))

    def search(self, query: str, limit: int) -> Sequence[Passage]:
        """Passages of the library's documents and of those attached to the conversation last read for, best first."""
        return self.documents.search(query, limit, self.conversation)

    def read(self, text: str, conversation: str) -> Found:
        """The question with the passages that speak of it. A file that cannot be read is a problem, not an end."""
        self.conversation = conversation
        if not (self._mentions and "@" in text) and not self.any(conversation):
            return Found(Message("user", text))
        from router.documents.attach import Attached, context_of, expand

        attached = expand(text, Path.cwd()) if self._mentions else Attached(text, (), ())
        problems = list(attached.problems)
        for path in attached.paths:
            try:
                self.documents.add(path, conversation, vectors=path.stat().st_size <= EMBEDDED_BYTES)
            except PointsmanError as fault:
                problems.append(str(fault))
        passages = self._relevant(attached.text, conversation) if self.any(conversation) else []
        cited = tuple(Cited(number, one.source, one.first_line, one.last_line, one.page) for number, one in enumerate(passages, 1))
        shown = f"{context_of(passages)}\n\n{attached.text}" if passages else text
        return Found(Message("user", shown), cited, tuple(problems))

    def _relevant(self, text: str, conversation: str) -> list[Passage]:
        """The passages for a question: of what was attached to the conversation always, of the library's only near ones."""
        found = self.documents.search(text, self._settings.documents.chunks, conversation)
        if any(one.conversation for one in self._store.documents.all(conversation)):
            return list(found)
        return [one for one in found if one.similarity >= NEAR]
