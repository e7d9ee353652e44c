"""Search in the attached documents as a tool; offered only where documents are attached.

What is found is text of strangers. How passages are found is the caller's part (`Surroundings.search`).
"""

from collections.abc import Sequence

from data.errors import ToolError
from data.sanitise import one_line
from router.tools.base import Surroundings, Tool, tool

PASSAGES = 5
QUERY_CHARS = 1_000


def build(surroundings: Surroundings) -> Sequence[Tool]:
    """search_documents, or nothing where there is nothing to search."""
    search = surroundings.search
    if search is None:
        return ()

    @tool("read", untrusted=True)
    def search_documents(query: str) -> str:
        """Search the documents that the user attached. query: the question or words to find. Cite what you use as [n]."""
        if not query.strip() or len(query) > QUERY_CHARS:
            raise ToolError(f"a query has 1 to {QUERY_CHARS:,} characters, not {len(query.strip()):,}")
        found = list(search(query, PASSAGES))[:PASSAGES]
        if not found:
            return "nothing was found in the attached documents"
        return "\n\n".join(
            f"[{number}] {one_line(passage.source)}:{passage.first_line}-{passage.last_line}\n{passage.text.strip()}"
            for number, passage in enumerate(found, 1)
        )

    return (search_documents,)
