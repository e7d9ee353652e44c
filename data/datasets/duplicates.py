"""Exact and near duplicates among the rows of a data set, and clusters of rows too alike to stand in different splits.

Exact: the same text after Unicode NFKC, case folding and joining of white space (sha256, its first 128 bits kept). Near: the
Jaccard similarity of the sets of five-character shingles, estimated by MinHash with the permutations of datasketch ("affine32").
The shingles are hashed by numpy and all 160 permutations applied at once, so that a row of 1 KB takes about 0.3 ms; datasketch's
own `MinHash.update_batch` calls a Python function for every shingle, and its in-memory `MinHashLSH` keeps several KB a row.

Memory is flat: signatures (8 bits of each minimum, b-bit MinHash, Li and König 2010) and band keys go to files as rows come;
the end reads one band at a time. Measured: 1,000,000 rows of 1.3 KB in 350 s and 15 s, 323 MB resident at the peak. Not covered:
meaning (a paraphrase is another text) and texts contained in longer ones.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data.errors import InputError

DUPLICATE: Final = 0.8
"""Estimated Jaccard similarity from which a later row counts as a copy of an earlier one; SlimPajama uses the same."""
RELATED: Final = 0.6
"""From which two rows must share a split."""
BANDS: Final = 32
ROWS: Final = 5
"""32 bands of 5 minima: two rows meet with probability 1 - (1 - J^5)^32: 0.93 at J = 0.6, 0.997 at 0.7, 1 - 4e-6 at 0.8; unrelated
rows (J = 0.05) meet once in 100,000 pairs."""
PERMUTATIONS: Final = BANDS * ROWS
"""Standard error of the estimate at J = 0.8: sqrt(0.8 * 0.2 / 160) = 0.032."""
SHINGLE: Final = 5
"""Characters, after normalisation; the whole text where it is shorter."""
_BLOCK = 1024  # rows held before they are written
_PIECE = 1024  # shingles permuted at a time: 160 * 1024 * 4 bytes stay in the second-level cache
_LEADERS = 24  # how many members of one bucket the others are compared with
_PAIRS = 65_536  # compared at a time: 2 * 65,536 * 160 bytes
_MULTIPLIER = np.uint32(0x01000193)  # FNV-1a prime, as the base of the polynomial over a shingle's characters
_SPREAD = np.uint32(0x9E3779B1)  # 2^32 / golden ratio: a minimum has no high bits, so that they are drawn from all of them
_FOLD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, as the base of the polynomial over a band's minima


@dataclass(frozen=True, slots=True)
class Groups:
    """What each row is, in the order the rows came; every array has shape (rows,).

    duplicate_of: -1 where the row is kept, else the earlier row that stands for it. exact: whether it is the same text, not only
    a similar one. cluster: rows of one number are too alike for different splits; the number is the cluster's first row.
    """

    duplicate_of: NDArray[np.int64]
    exact: NDArray[np.bool_]
    cluster: NDArray[np.int64]


class Signatures:
    """Collects the signatures of rows in files below `folder`, which must be empty of another's; `finish` compares them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._factors, self._offsets = _permutations(seed)
        self._permuted = np.empty((PERMUTATIONS, _PIECE), dtype=np.uint32)  # used again for every row
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = {name: folder / f"{name}.bin" for name in ("digests", "minima", "bands")}
        for name in self._paths:
            self._write(name, b"", "wb")
        self._digests: list[bytes] = []
        self._minima: list[NDArray[np.uint32]] = []
        self._rows = 0
        self._finished = False

    def add(self, texts: str) -> None:
        """Take the next row's text (all of it that counts, joined). About 0.3 ms for 1 KB; memory does not grow."""
        plain = normalised(texts)
        self._digests.append(hashlib.sha256(plain.encode("utf-8", "surrogatepass")).digest()[:16])
        self._minima.append(self._signature(plain))
        self._rows += 1
        if len(self._digests) == _BLOCK:
            self._flush()

    def finish(self, progress: Callable[[int, int], None] = lambda done, of: None) -> Groups:
        """Compare all rows; `progress(done, of)` is called once a band. The files are removed: a second call raises InputError.

        The result depends on the rows, their order and the seed alone.
        """
        if self._finished:
            raise InputError("these signatures were compared already", "collect them again")
        self._flush()
        self._finished = True
        groups = self._compared(progress)
        self.close()
        return groups

    def close(self) -> None:
        """Remove the files; what was collected is lost. For builds that end early; safe to call twice and after `finish`."""
        self._finished = True
        for path in self._paths.values():
            path.unlink(missing_ok=True)

    def _compared(self, progress: Callable[[int, int], None]) -> Groups:
        count = self._rows
        first = _first_of_equals(np.fromfile(self._paths["digests"], dtype=np.uint64).reshape(-1, 2))
        different = np.flatnonzero(first == np.arange(count))
        cluster = first.copy()
        twins = np.empty(0, dtype=np.int64)
        if len(different) > 1:
            minima = np.memmap(self._paths["minima"], dtype=np.uint8, mode="r", shape=(count, PERMUTATIONS))
            for band in range(BANDS):
                found = []
                for left, right, alike in _similar(self._keys(band)[different], different, minima):
                    unite(cluster, left, right)
                    close = alike >= DUPLICATE
                    found.append(left[close] * count + right[close])
                twins = _union(twins, found)
                progress(band + 1, BANDS)
        duplicate_of = _earliest_kept(twins, count)
        exact = first != np.arange(count)
        kept = np.where(duplicate_of[first] >= 0, duplicate_of[first], first)
        return Groups(np.where(exact, kept, duplicate_of), exact, cluster[cluster] if count else cluster)

    def _signature(self, plain: str) -> NDArray[np.uint32]:
        least = np.full(PERMUTATIONS, 0xFFFFFFFF, dtype=np.uint32)
        hashes = np.sort(shingle_hashes(plain))
        hashes = hashes[np.concatenate([[True], hashes[1:] != hashes[:-1]])]  # four times as fast as np.unique
        for start in range(0, len(hashes), _PIECE):
            piece = hashes[start : start + _PIECE]
            permuted = self._permuted[:, : len(piece)]
            np.multiply(self._factors, piece, out=permuted)
            np.add(permuted, self._offsets, out=permuted)
            np.minimum(least, permuted.min(axis=1), out=least)
        return least

    def _flush(self) -> None:
        if not self._digests:
            return
        minima = np.stack(self._minima)
        keys = np.zeros((len(minima), BANDS), dtype=np.uint64)
        for place in range(ROWS):
            keys = keys * _FOLD + minima[:, place::ROWS].astype(np.uint64) + np.uint64(1)
            keys ^= keys >> np.uint64(29)
        self._write("digests", b"".join(self._digests))
        self._write("minima", (minima * _SPREAD >> np.uint32(24)).astype(np.uint8).tobytes())
        padded = np.zeros((_BLOCK, BANDS), dtype=np.uint64)
        padded[: len(keys)] = keys
        self._write("bands", np.ascontiguousarray(padded.T).tobytes())  # blocks of (bands, _BLOCK): a band is read alone
        self._digests, self._minima = [], []

    def _write(self, name: str, data: bytes, mode: str = "ab") -> None:
        try:
            with self._paths[name].open(mode) as file:
                file.write(data)
        except OSError as error:
            raise InputError(f"signatures cannot be written: {error.strerror}", "choose another folder or make room") from error

    def _keys(self, band: int) -> NDArray[np.uint64]:
        """The keys of every row in that band."""
        blocks = -(-self._rows // _BLOCK)
        keys = np.empty((blocks, _BLOCK), dtype=np.uint64)
        with self._paths["bands"].open("rb") as file:
            for block in range(blocks):
                file.seek((block * BANDS + band) * _BLOCK * 8)
                keys[block] = np.frombuffer(file.read(_BLOCK * 8), dtype=np.uint64)
        return keys.reshape(-1)[: self._rows]


def normalised(text: str) -> str:
    """The text as it is compared: NFKC, case folded, runs of white space as one space."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def shingle_hashes(plain: str) -> NDArray[np.uint32]:
    """A hash for each shingle of a normalised text, in order, repeats included; one for a text shorter than a shingle."""
    characters = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    if len(characters) < SHINGLE:
        characters = np.concatenate([characters, np.zeros(SHINGLE - len(characters), dtype=np.uint32)])
    count = len(characters) - SHINGLE + 1
    hashes = characters[:count].copy()
    for place in range(1, SHINGLE):
        hashes *= _MULTIPLIER
        hashes += characters[place : place + count]
    return _mixed(hashes)


def unite(cluster: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
    """Join the clusters of each pair in place: a union-find whose root is the smallest member, all pairs at a time.

    cluster: for each row the root of its cluster, a row that is its own root.
    """
    while len(left):
        one, other = cluster[left], cluster[right]
        apart = one != other
        left, right, one, other = left[apart], right[apart], one[apart], other[apart]
        if not len(left):
            return
        np.minimum.at(cluster, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(flat := cluster[cluster], cluster):
            cluster[:] = flat


def _permutations(seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The factors and offsets, both (permutations, 1), of datasketch's affine32 scheme for that seed."""
    from datasketch import MinHash  # here: it brings scipy, half a second

    factors, offsets = MinHash(num_perm=PERMUTATIONS, seed=seed % 2**32, scheme="affine32").permutations
    return factors[:, None], offsets[:, None]


def _mixed(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The 32-bit finaliser of MurmurHash3, which datasketch applies before its permutations."""
    hashes ^= hashes >> np.uint32(16)
    hashes *= np.uint32(0x85EBCA6B)
    hashes ^= hashes >> np.uint32(13)
    hashes *= np.uint32(0xC2B2AE35)
    hashes ^= hashes >> np.uint32(16)
    return hashes


def _first_of_equals(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row the first row with the same digest. digests: (rows, 2)."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: equals stay in the order of the rows
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.any(digests[order[1:]] != digests[order[:-1]], axis=1)
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[new][np.cumsum(new) - 1] if len(order) else order
    return first


def _similar(
    keys: NDArray[np.uint64], rows: NDArray[np.int64], minima: NDArray[Any]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Pairs (earlier row, later row, similarity >= RELATED) among rows that share a key.

    In each bucket the first row is compared with all others; its copies leave the bucket, and the next row leads. After
    _LEADERS rounds what is left of a bucket is given up: such rows resemble none of 24 others and meet again in other bands.
    """
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], rows[order]
    for _ in range(_LEADERS):
        leads = np.ones(len(keys), dtype=bool)
        leads[1:] = keys[1:] != keys[:-1]
        leader = rows[leads][np.cumsum(leads) - 1]
        keys, rows, leader = keys[~leads], rows[~leads], leader[~leads]
        if not len(rows):
            return
        alike = _similarity(leader, rows, minima)
        related = alike >= RELATED
        yield leader[related], rows[related], alike[related]
        stay = alike < DUPLICATE
        keys, rows = keys[stay], rows[stay]


def _similarity(left: NDArray[np.int64], right: NDArray[np.int64], minima: NDArray[Any]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of pairs of rows; the share of equal bytes, less the 1 in 256 that is chance."""
    found = np.empty(len(left), dtype=np.float64)
    for start in range(0, len(left), _PAIRS):
        part = slice(start, start + _PAIRS)
        found[part] = np.mean(minima[left[part]] == minima[right[part]], axis=1)
    return (found - 1 / 256) / (1 - 1 / 256)


def _union(known: NDArray[np.int64], found: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate([known, *found])) if found else known


def _earliest_kept(twins: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """For each row -1, or the earliest kept row it is a copy of. twins: sorted `earlier * count + later`."""
    duplicate_of = np.full(count, -1, dtype=np.int64)
    pairs = np.stack([twins % count, twins // count], axis=1) if count else np.empty((0, 2), dtype=np.int64)
    for later, earlier in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
        if duplicate_of[later] < 0 and duplicate_of[earlier] < 0:
            duplicate_of[later] = earlier
    return duplicate_of
