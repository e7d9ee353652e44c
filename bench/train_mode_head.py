"""Fit the mode head's weights on the fitted half of the queries of bench/modes.py and write router/mode_head.json.

    python bench/train_mode_head.py [--datasets DIR]

Three L2-regularised linear models, by full-batch descent (Adam, a fixed number of steps from zero, no randomness): a softmax of
three modes, a logistic regression of the need of our own tools, and one of the need of any tool by its description. Words that
are rare in the fitted half are no features. The temperature and the threshold of tool need come from five folds of it.
"""

import argparse
import json
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from numpy.typing import NDArray

from bench.modes import OURS, Query, queries
from router._modes.cues import BUILT_IN
from router.mode_features import features, fit, users_words
from router.mode_head import MODES

TARGET = Path(__file__).parent.parent / "router" / "mode_head.json"
SEEN = 4
"""Queries of the fitted half that must hold a word for it to be a feature."""
SMALLEST = 0.05
"""Weights below this size are dropped where they are of words."""
WORD_PENALTY, PENALTY = 0.01, 0.0003
BY_HAND = 3
"""How often a hand-written query counts."""
STEPS = 500
FOLDS = 5

Array = NDArray[np.float64]
Sparse = Mapping[str, float]


def train(asked: Sequence[Query], kept: tuple[float, float] | None = None) -> str:
    """The text of the weights file of those queries, of which the hand-written ones, few and various, count several times.

    kept: temperature and threshold, where they are not to be found anew.
    """
    asked = [query for query in asked for _ in range(BY_HAND if query.source == "by hand" else 1)]
    raw = _heads(asked)
    raw["temperature"], raw["tool_threshold"] = kept or _calibrated(asked)
    return _written(raw)


def _heads(asked: Sequence[Query]) -> dict[str, Any]:
    vectors = [features(users_words(query.text)) for query in asked]
    kept = _kept(vectors)
    vectors = [{name: value for name, value in vector.items() if name in kept} for vector in vectors]
    reasoned = [(vector, query.mode) for vector, query in zip(vectors, asked, strict=True) if query.mode != "agent"]
    reasoned += [(vector, mode) for vector, query in zip(vectors, asked, strict=True) if (mode := _without_tools(query))]
    modes = _fitted([vector for vector, _ in reasoned], [MODES.index(mode) for _, mode in reasoned], 3)
    ours = [(vector, query) for vector, query in zip(vectors, asked, strict=True) if _own(query)]
    own = _fitted([vector for vector, _ in ours], [int(query.mode == "agent") for _, query in ours], 2)
    pairs = list(_pairs(asked))
    other = _fitted([vector for vector, _ in pairs], [label for _, label in pairs], 2)
    return {
        "modes": {name: dict(zip(MODES, weights.tolist(), strict=False)) for name, weights in modes.items()},
        "own": {name: float(weights[1] - weights[0]) for name, weights in own.items()},
        "other": {name: float(weights[1] - weights[0]) for name, weights in other.items()},
    }


def _kept(vectors: Iterable[Sparse]) -> set[str]:
    counts = Counter(name for vector in vectors for name in vector)
    return {name for name, count in counts.items() if count >= SEEN or not _is_word(name)}


def _is_word(name: str) -> bool:
    return name.startswith(("w:", "first:"))


def _own(query: Query) -> bool:
    """Whether a query tells about the need of our own tools: they are on offer, and a cue could speak for one."""
    return any(name in BUILT_IN for name in query.offered)


def _without_tools(query: Query) -> str:
    """The mode of a query that needs a tool of ours, were none on offer: bare sums are reasoned out, all else is answered."""
    if query.mode != "agent" or not query.tools or not _own(query):
        return ""
    return "chain_of_thought" if query.tools[0] in ("calculator", "convert_units") and re.search(r"\d", query.text) else "standard"


def _pairs(asked: Sequence[Query]) -> Iterable[tuple[Sparse, int]]:
    """Words and description of a tool, and whether it is needed; each query also with the tools of two others."""
    foreign = [query for query in asked if any(name not in BUILT_IN for name in query.offered)]
    for at, query in enumerate(foreign):
        words = users_words(query.text)
        for name, text in query.offered.items():
            yield fit(words, name, text), int(name in query.tools)
        for step in (7, 23):
            name, text = next(iter(foreign[(at + step) % len(foreign)].offered.items()))
            if query.tools and name not in query.offered:
                yield fit(words, name, text), 0


def _fitted(vectors: Sequence[Sparse], labels: Sequence[int], classes: int) -> dict[str, Array]:
    """A softmax regression, feature -> weights of the classes; words are penalised more than the named features."""
    names = sorted({name for vector in vectors for name in vector})
    column = {name: at for at, name in enumerate(names)}
    matrix = np.zeros((len(vectors), len(names)))
    for row, vector in enumerate(vectors):
        for name, value in vector.items():
            matrix[row, column[name]] = value
    truth = np.eye(classes)[np.asarray(labels)]
    penalty = np.array([0.0 if name == "bias" else WORD_PENALTY if _is_word(name) else PENALTY for name in names])[:, None]
    weights, mean, square = np.zeros((len(names), classes)), 0.0, 0.0
    for step in range(1, STEPS + 1):
        gradient = matrix.T @ (_softmax(matrix @ weights) - truth) / len(vectors) + penalty * weights
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        weights = weights - 0.05 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return {name: weights[at] for name, at in column.items() if not _is_word(name) or np.abs(weights[at]).max() >= SMALLEST}


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _calibrated(asked: Sequence[Query]) -> tuple[float, float]:
    """Temperature of the softmax and threshold of tool need, from queries that the model of their fold was not fitted on."""
    from router.mode_head import ModeHead

    read: list[tuple[Query, float, tuple[tuple[str, float], ...]]] = []
    for fold in range(FOLDS):
        rest = [query for query in asked if _fold(query) != fold]
        head = ModeHead.from_json(_written({**_heads(rest), "temperature": 1.0, "tool_threshold": 0.5}))
        for query in (query for query in asked if _fold(query) == fold):
            found = head.read(query.text, tools=query.offered)
            read.append((query, found.tool_need, found.probabilities))
    thresholds = np.arange(0.3, 0.71, 0.02)
    threshold = max(thresholds, key=lambda limit: (_f1(read, float(limit)), -abs(limit - 0.5)))
    return _temperature(read), round(float(threshold), 2)


def _fold(query: Query) -> int:
    return zlib.crc32(query.text.encode("utf-8", "replace")) % FOLDS


def _f1(read: Sequence[tuple[Query, float, Any]], limit: float) -> float:
    hits = sum(query.mode == "agent" and need >= limit for query, need, _ in read)
    wrong = sum((query.mode == "agent") != (need >= limit) for query, need, _ in read)
    return 2 * hits / max(1, 2 * hits + wrong)


def _temperature(read: Sequence[tuple[Query, float, tuple[tuple[str, float], ...]]]) -> float:
    rows = [(MODES.index(query.mode), found) for query, _, found in read if query.mode != "agent"]
    logits = np.log(np.array([[max(share, 1e-9) for _, share in found[:3]] for _, found in rows]))
    truth = np.array([mode for mode, _ in rows])

    def loss(temperature: float) -> float:
        return float(-np.log(_softmax(logits / temperature)[np.arange(len(truth)), truth] + 1e-12).mean())

    return round(float(min(np.arange(0.4, 2.01, 0.05), key=lambda value: loss(float(value)))), 2)


def _written(raw: Mapping[str, Any]) -> str:
    """The file's text: a line a feature, sorted by name, two decimals and a half."""
    lines = []
    for name in sorted(raw["modes"]):
        weights = {mode: round(value, 3) for mode, value in raw["modes"][name].items()}
        lines.append(f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(weights)}")
    parts = {
        part: ",\n".join(f"  {json.dumps(name, ensure_ascii=False)}: {round(raw[part][name], 3)}" for name in sorted(raw[part]))
        for part in ("own", "other")
    }
    head = f'"version": "1",\n"temperature": {raw["temperature"]},\n"tool_threshold": {raw["tool_threshold"]}'
    joined = ",\n".join(lines)
    return f'{{\n{head},\n"modes": {{\n{joined}\n}},\n"own": {{\n{parts["own"]}\n}},\n"other": {{\n{parts["other"]}\n}}\n}}\n'


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--datasets", type=Path, default=os.environ.get("POINTSMAN_DATASETS"))
    options = arguments.parse_args()
    if options.datasets is None:
        arguments.error("say where the shared data is: --datasets DIR or POINTSMAN_DATASETS")
    asked = [query for query in queries(Path(options.datasets)) if not query.held_out]
    TARGET.write_text(train(asked), encoding="utf-8")
    print(f"{TARGET.name}: fitted on {len(asked)} queries, {TARGET.stat().st_size:,} bytes, our tools: {', '.join(OURS)}")


if __name__ == "__main__":
    main()
