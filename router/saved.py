"""A domain head as files: head.json for names and thresholds, head.npz for arrays, no pickles.

The sparse weights are kept in half precision, which changes no decision. Not covered: which folder (`learning`), the user's
examples, which are in the log.
"""

import json
import zipfile
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from data import paths
from data.errors import ModelInvalid
from router.classifier import DomainHead
from router.exemplars import Exemplar
from router.features import Vocabulary
from router.heads import Dense, Detector, Gate, Pairs, Trained
from router.linear import Linear
from router.spelling import Spelling

FORMAT = 1
FIX = "go back to the version before: pointsman router undo, or train again: pointsman router train"


def save(head: DomainHead, folder: Path) -> None:
    """Write both files into `folder`."""
    arrays: dict[str, Any] = {}
    described: dict[str, Any] = {
        "format": FORMAT,
        "version": head.version,
        "domains": list(head.domains),
        "words": head.spelling.words,
        "others": list(head.spelling.others),
        "seeds": [asdict(one) for one in head.seeds],
    }
    if head.seed_vectors is not None:
        arrays["seed_vectors"] = head.seed_vectors.astype(np.float16)
    trained = head.trained
    if trained is not None:
        described["intents"] = list(trained.intents)
        described["sparse_gate"] = _gate_out(trained.sparse_gate, "sparse_gate", arrays)
        arrays |= {
            "groups": trained.groups,
            "hashes": trained.vocabulary.hashes,
            "idf": trained.vocabulary.idf,
            "sparse": trained.sparse.weights.astype(np.float16),
            "sparse_bias": trained.sparse.bias,
        }
        if trained.dense is not None and trained.mixed_gate is not None:
            described["mixed_gate"] = _gate_out(trained.mixed_gate, "mixed_gate", arrays)
            dense = trained.dense
            arrays |= {"mean": dense.mean, "scale": dense.scale, "centroids": dense.centroids}
            arrays |= {"dense": dense.head.weights, "dense_bias": dense.head.bias}
            if dense.pairs is not None:
                arrays |= {"pairs": dense.pairs.weights, "pairs_axes": dense.pairs.axes}
    with paths.replacing(folder / "head.npz") as file:
        np.savez(file, **arrays)
    with paths.replacing(folder / "head.json") as file:
        file.write(json.dumps(described).encode())


def load(folder: Path) -> DomainHead:
    """The head in `folder`; raises ModelInvalid naming the file and what is wrong with it."""
    try:
        described = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        if not isinstance(described, dict) or described.get("format") != FORMAT:
            raise ModelInvalid(f"{folder / 'head.json'} is of another format", FIX)
        with (folder / "head.npz").open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        head = _head(described, arrays)
    except OSError as error:
        raise ModelInvalid(f"cannot read the router's version in {folder}: {error.strerror or error}", FIX) from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelInvalid(f"the router's version in {folder} is damaged: {type(error).__name__}: {error}", FIX) from error
    _check(head, folder)
    return head


def _head(described: dict[str, Any], arrays: dict[str, Any]) -> DomainHead:
    words = {str(word): int(count) for word, count in described["words"].items()}
    spelling = Spelling(words, [str(one) for one in described["others"]])
    seeds = tuple(Exemplar(**one) for one in described["seeds"])
    trained = None
    if "intents" in described:
        dense = gate = None
        if "mixed_gate" in described:
            gate = _gate_in(described["mixed_gate"], "mixed_gate", arrays)
            head = Linear(arrays["dense"], arrays["dense_bias"])
            pairs = Pairs(arrays["pairs_axes"], arrays["pairs"]) if "pairs" in arrays else None
            dense = Dense(arrays["mean"], arrays["scale"], head, arrays["centroids"], pairs)
        trained = Trained(
            tuple(map(str, described["intents"])),
            arrays["groups"],
            Vocabulary(arrays["hashes"], arrays["idf"]),
            Linear(arrays["sparse"].astype(np.float32), arrays["sparse_bias"]),
            _gate_in(described["sparse_gate"], "sparse_gate", arrays),
            dense,
            gate,
        )
    vectors = arrays["seed_vectors"].astype(np.float32) if "seed_vectors" in arrays else None
    made = DomainHead(str(described["version"]), tuple(map(str, described["domains"])), spelling, trained, seeds, vectors)
    if trained is None:  # examples are all that it is made of
        return replace(made, domains=()).with_exemplars(())
    return made


def _check(head: DomainHead, folder: Path) -> None:
    """That the arrays' shapes belong together and every number is one."""
    trained = head.trained
    if trained is None:
        return
    intents = len(trained.intents)
    right = [
        trained.groups.shape == (intents, len(head.domains)),
        trained.sparse.weights.shape == (len(trained.vocabulary), intents),
        trained.sparse.bias.shape == (intents,),
        len(trained.vocabulary.idf) == len(trained.vocabulary),
        bool(np.isfinite(trained.sparse.weights).all()),
    ]
    dense = trained.dense
    if dense is not None:
        right += [
            dense.mean.shape == dense.scale.shape,
            dense.head.weights.shape == (len(dense.mean), intents),
            len(dense.centroids) == intents and dense.own <= len(dense.mean),
            bool(np.isfinite(dense.head.weights).all()),
        ]
        if (pairs := dense.pairs) is not None:
            axes = pairs.axes.shape[1]
            right += [
                len(pairs.axes) == len(dense.mean),
                pairs.weights.shape == (axes + axes * (axes + 1) // 2, intents),
                bool(np.isfinite(pairs.weights).all()),
            ]
    if not all(right):
        raise ModelInvalid(f"the router's version in {folder} is damaged: its parts do not fit together", FIX)


def _gate_out(gate: Gate, name: str, arrays: dict[str, Any]) -> dict[str, float]:
    detector = gate.detector
    arrays[name] = np.stack([detector.mean, detector.scale, detector.weights]).astype(np.float32)
    named = {"temperature": gate.temperature, "out_of_scope": gate.out_of_scope, "accept": gate.accept, "sure": gate.sure}
    return {"bias": float(detector.bias)} | {key: float(np.clip(value, -1e30, 1e30)) for key, value in named.items()}


def _gate_in(values: dict[str, float], name: str, arrays: dict[str, Any]) -> Gate:
    mean, scale, weights = arrays[name]
    detector = Detector(mean, scale, weights, float(values["bias"]))
    return Gate(
        float(values["temperature"]), detector, float(values["out_of_scope"]), float(values["accept"]), float(values["sure"])
    )
