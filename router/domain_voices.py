"""The voices that a classification listens to: the model, the encoder's head on the domain's examples, and the calibration of all
voices on its validation rows. Head and calibration are fitted once for each version of pack and model and kept in the cache folder.

Not covered: the decision (`classification`).
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from data import paths
from data.domains import Domain
from data.errors import EngineError, EngineUnavailable, InputError, ModelError
from router.contract import Contract
from router.domain_calibration import Calibration
from router.domain_head import DomainClassifier, fit
from router.encoder import Encoder
from router.engines import Engines, Resolved
from router.engines.structure import Completion, Structure
from router.linear import Floats, Linear

CALIBRATION_ROWS = 64
"""Validation rows at most that a model is calibrated on."""
SLOW_ROWS = 16
"""The same where the model reasons before it names the label."""

Missing = (EngineError, ModelError)
"""What says that a voice is not there."""

Progress = Callable[[str, int, int], object]


def quiet(doing: str, done: int, of: int) -> None:
    """No progress shown."""


class EncoderVoice:
    """The probabilities of a domain's labels by the sentence encoder. Raises ModelError or EngineError where there is none."""

    def __init__(self, domain: Domain, encoder: Encoder, progress: Progress = quiet) -> None:
        self._encoder = encoder
        rows = [(one.text, one.label) for one in domain.examples if one.split == "train" and one.label]
        if len({label for _, label in rows}) < 2:
            raise InputError(f"{domain.name} has too few examples for the encoder's classifier", "add lines to examples.jsonl")
        file = _folder(domain) / f"encoder-{digest(domain, encoder.name)}.npz"
        self._head = _read(file) or _fitted(domain, rows, encoder, file, progress)

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Shape (len(texts), labels), in the domain's order."""
        return self._head.probabilities(self._encoder.fresh(texts))


class ModelVoice:
    """Completions by the first model in line that can be had. Where one is absent the next takes its place, and `notes` says so.

    model: the only one where named; else the settings' tuned model for the domain, then the pack's base models. Once nobody is
    left `stand_in` is asked whether another voice can answer alone; where it cannot, the last fault is raised.
    """

    def __init__(self, contract: Contract, engines: Engines, model: str, stand_in: Callable[[], bool]) -> None:
        domain = contract.domain
        tuned = engines.settings.router.models.get(domain.name, "")
        wanted = [model] if model else [*([tuned] if tuned else []), *domain.described.base_models]
        self.notes: list[str] = []
        self._line = list(dict.fromkeys(wanted))
        self._contract, self._engines, self._stand_in = contract, engines, stand_in

    @property
    def reference(self) -> str:
        """The model that is asked now, "" where none is left."""
        return self._engines.resolve(self._line[0]).reference if self._line else ""

    @property
    def identity(self) -> str:
        """What tells this model from another of the same name, "" where none is left."""
        return identity(self._engines.resolve(self._line[0])) if self._line else ""

    def completed(self, wanted: Sequence[tuple[str, Structure]]) -> list[Completion]:
        """A completion for each text in its structure; with faults where no model is left, and for texts that are empty."""
        while self._line:
            try:
                return self._by(self._engines.resolve(self._line[0]), wanted)
            except Missing as fault:
                if len(self._line) == 1 and not self._stand_in():
                    raise
                self.notes.append(f"{self._line[0]} is absent: {fault.what}")
                del self._line[0]
        absent = Completion(fault=EngineUnavailable("no model can be had", "see: pointsman models list"))
        return [absent] * len(wanted)

    def _by(self, resolved: Resolved, wanted: Sequence[tuple[str, Structure]]) -> list[Completion]:
        """Texts of one structure are completed together, wherever they stand."""
        found = [Completion(fault=InputError("the text is empty"))] * len(wanted)
        groups: dict[int, list[int]] = {}
        for at, (text, structure) in enumerate(wanted):
            if text.strip():
                groups.setdefault(id(structure), []).append(at)
        for rows in groups.values():
            requests = (self._contract.request(wanted[at][0], resolved.model) for at in rows)
            for at, answer in zip(rows, resolved.engine.complete(requests, wanted[rows[0]][1]), strict=True):
                found[at] = answer
        return found


def calibration(domain: Domain, key: Sequence[str], made: Callable[[], Calibration]) -> Calibration:
    """The calibration for those voices, from the cache or made now; key: what it depends on beside the pack."""
    file = _folder(domain) / f"calibration-{digest(domain, *key)}.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        weights = tuple((str(name), float(weight)) for name, weight in found["weights"])
        return Calibration(float(found["temperature"]), weights, int(found["rows"]))
    except (OSError, ValueError, KeyError, TypeError):  # absent or damaged
        fresh = made()
    with paths.replacing(file) as out:
        out.write(json.dumps(asdict(fresh), sort_keys=True).encode())
    return fresh


def validation(domain: Domain, most: int) -> list[tuple[str, str]]:
    """Validation rows (text, label) to calibrate on, the same ones every time."""
    rows = [(one.text, one.label) for one in domain.examples if one.split == "validation" and one.label]
    return sorted(rows, key=lambda row: hashlib.sha256(row[0].encode("utf-8", "surrogatepass")).digest())[:most]


def digest(domain: Domain, *more: str) -> str:
    """What tells this version of a pack, with `more` beside it, from any other: 16 hexadecimal digits."""
    found = hashlib.sha256(json.dumps(more).encode())
    for name in ("domain.toml", "schema.json", "rules.toml", "examples.jsonl", "indicators.toml", "glossary.txt"):
        file = domain.folder / name
        found.update(file.read_bytes() if file.is_file() else b"")
    return found.hexdigest()[:16]


def identity(resolved: Resolved) -> str:
    """What tells this model from another of the same name: for a file its size and time, else what its engine says."""
    if resolved.engine.name != "llamacpp":
        return f"{resolved.reference} {resolved.engine.version(resolved.model)}".rstrip()
    stat = Path(resolved.engine.show(resolved.model)["path"]).stat()
    return f"{resolved.reference} {stat.st_size} {stat.st_mtime_ns}"


def _fitted(domain: Domain, rows: Sequence[tuple[str, str]], encoder: Encoder, file: Path, progress: Progress) -> DomainClassifier:
    vectors = encoder.many([text for text, _ in rows], lambda done, of: progress("sentence vectors", done, of))
    weights = {label.name: label.weight for label in domain.described.labels}
    head = fit([label for _, label in rows], vectors, domain.labels, weights)
    with paths.replacing(file) as out:
        np.savez(out, weights=head.head.weights, bias=head.head.bias, temperature=head.temperature, classes=np.array(head.classes))
    return head


def _read(file: Path) -> DomainClassifier | None:
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as found:
            head = Linear(found["weights"], found["bias"])
            return DomainClassifier(tuple(map(str, found["classes"])), head, float(found["temperature"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # absent or damaged
        return None


def _folder(domain: Domain) -> Path:
    return paths.cache_dir() / "domains" / domain.name
