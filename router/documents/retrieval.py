"""Which chunks answer a question: full text and sentence vectors, each with its own ranking, joined by their ranks.

Reciprocal rank fusion (Cormack, Clarke, Buettcher 2009) needs no calibration between the two scores. Chunks that say the same
are taken once, chunks that follow each other become one passage. Equal input gives equal output. Not covered: how chunks and
vectors come to be (library.py).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data.store.chunks import Chunk
from data.store.documents import Library
from router.tools.base import Passage

K = 10
"""The paper's 60 is for rankings of 1,000; in ones of 50 it puts two middling places above one first place (bench/retrieval.py)."""
CANDIDATES = 50
"""Chunks of each ranking that are joined."""
Floats = NDArray[np.float32]
Nearest = tuple[list[int], dict[int, float]]
"""A ranking of chunk ids, nearest first, and cosines by chunk id."""


def packed(vectors: Floats) -> list[bytes]:
    """Vectors as the store keeps them: float16, little-endian."""
    return [vector.tobytes() for vector in vectors.astype("<f2")]


class Vectors:
    """The vectors of all visible chunks in one matrix, read again only for documents that changed."""

    def __init__(self, library: Library, encoder: str) -> None:
        self._library = library
        self._encoder = encoder
        self._read: dict[str, tuple[str, list[int], Floats]] = {}  # by document: version, chunk ids, vectors
        self._versions: tuple[tuple[str, str], ...] | None = None
        self._ids: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._matrix: Floats = np.zeros((0, 0), dtype=np.float32)

    def load(self, conversation: str = "") -> int:
        """Bring the matrix up to date; the number of chunks in it that have a vector."""
        versions = self._library.versions(conversation)
        if versions != self._versions:
            for key, version in versions:
                if self._read.get(key, ("",))[0] != version:
                    self._read[key] = (version, *self._fetched(key))
            self._read = {key: self._read[key] for key, _ in versions}
            parts = [part for part in self._read.values() if part[1]]
            self._ids = np.array([one for _, ids, _ in parts for one in ids], dtype=np.int64)
            self._matrix = np.concatenate([part[2] for part in parts]) if parts else np.zeros((0, 0), dtype=np.float32)
            self._versions = versions
        return len(self._ids)

    def nearest(self, query: Floats, most: int, also: Sequence[int] = ()) -> Nearest:
        """The chunks whose vectors are nearest to `query` (dimensions,), and the cosines of those and of the chunks `also`."""
        if not len(self._ids) or self._matrix.shape[1] != len(query):
            return [], {}
        cosines = self._matrix @ query
        order = np.lexsort((self._ids, -cosines))[:most]
        wanted = np.concatenate([order, np.flatnonzero(np.isin(self._ids, also))])
        return self._ids[order].tolist(), dict(zip(self._ids[wanted].tolist(), cosines[wanted].tolist(), strict=True))

    def _fetched(self, key: str) -> tuple[list[int], Floats]:
        found = self._library.vectors(key, self._encoder)
        usual = len(found[0][1]) if found else 0
        sound = [(one, vector) for one, vector in found if len(vector) == usual and usual % 2 == 0]
        if not sound:
            return [], np.zeros((0, 0), dtype=np.float32)
        matrix = np.frombuffer(b"".join(vector for _, vector in sound), dtype="<f2").reshape(len(sound), -1)
        return [one for one, _ in sound], np.nan_to_num(matrix.astype(np.float32))


def fused(rankings: Iterable[Sequence[int]]) -> dict[int, float]:
    """Reciprocal rank fusion: each id with its score, best first, among equals the smaller id."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, 1):
            scores[one] = scores.get(one, 0.0) + 1 / (K + rank)
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))


def passages(chunks: Sequence[Chunk], scores: Mapping[int, float], cosines: Mapping[int, float], limit: int) -> list[Passage]:
    """The first `limit` different chunks as passages, best first; neighbours joined into one."""
    chosen: list[Chunk] = []
    texts: set[str] = set()
    for chunk in chunks:
        plain = " ".join(chunk.piece.text.split())
        if plain and plain not in texts and len(chosen) < limit:
            texts.add(plain)
            chosen.append(chunk)
    place = {chunk.id: index for index, chunk in enumerate(chosen)}
    runs = _runs(sorted(chosen, key=lambda chunk: (chunk.document, chunk.number)))
    runs.sort(key=lambda run: min(place[chunk.id] for chunk, _ in run))
    return [_passage(run, scores, cosines) for run in runs]


_Run = list[tuple[Chunk, str]]  # neighbours, each with what it adds to the text before it


def _runs(chunks: Sequence[Chunk]) -> list[_Run]:
    runs: list[_Run] = []
    for chunk in chunks:
        added = _added(runs[-1][-1][0], chunk) if runs else None
        if added is None:
            runs.append([(chunk, chunk.piece.text)])
        else:
            runs[-1].append((chunk, added))
    return runs


def _added(before: Chunk, after: Chunk) -> str | None:
    """What `after` adds to `before` where it follows it without a gap, line by line; None where it does not."""
    if (before.document, before.number + 1, before.piece.page) != (after.document, after.number, after.piece.page):
        return None
    common = before.piece.last_line - after.piece.first_line + 1
    lines = after.piece.text.split("\n")
    if common < 0 or (common and before.piece.text.split("\n")[-common:] != lines[:common]):
        return None
    return "".join(f"\n{line}" for line in lines[common:])


def _passage(run: _Run, scores: Mapping[int, float], cosines: Mapping[int, float]) -> Passage:
    first, last = run[0][0], run[-1][0]
    keys = [chunk.id for chunk, _ in run]
    return Passage(
        source=first.name,
        first_line=first.piece.first_line,
        last_line=last.piece.last_line,
        text="".join(added for _, added in run),
        score=max(scores.get(key, 0.0) for key in keys),
        page=first.piece.page,
        heading=first.piece.heading,
        similarity=max(cosines.get(key, 0.0) for key in keys),
    )
