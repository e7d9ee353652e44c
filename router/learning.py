"""Versions of the domain head on disk: trained, refitted behind a golden set, and undone.

    <folder>/current.json          the version in force, and those it followed
    <folder>/v0007/                head.json, head.npz, rows.json (what it was fitted on), golden.json, version.json

A version's folder is complete under its name and never changed. The golden set is frozen when a version is trained from data and
handed on by every refit; a refit that answers it worse is refused and thrown away. Corrections themselves are in the log and
count at once (`DomainHead.with_exemplars`); a refit lets what they teach reach further. Not covered: fitting (`training`).
"""

import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError, ModelInvalid, NotFound, PointsmanError
from router import labelled
from router.classifier import DomainHead, Encode, from_exemplars
from router.encoder import Encoder
from router.exemplars import Exemplar
from router.features import grams
from router.labelled import Labelled, Row
from router.training import RISK, Progress, train_head

GOLDEN = 500
"""Rows of the golden set at most."""
REFIT_AFTER = 20
"""New corrections after which a refit is worth its time."""
TOLERANCE = 0.002
"""Share of the golden set that a refit may lose: one row of 500."""
KEPT = 10
"""Versions that are kept."""

_NAME = re.compile(r"v\d{4,}")


@dataclass(frozen=True, slots=True)
class Version:
    """One version. made: seconds since 1970; golden: share of the golden set that is answered rightly; note: how it came about."""

    name: str
    made: float
    note: str
    domains: tuple[str, ...]
    rows: int
    golden: float
    thresholds: dict[str, float]
    current: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """A refit that is in force: its version, and the golden set's share answered rightly before and after."""

    version: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A refit that was thrown away, and why; the old version stays in force."""

    version: str
    before: float
    after: float
    why: str


class Versions:
    """The versions in one folder. Any thread may call; nothing is made until something is trained."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or paths.data_dir() / "router"
        self._loaded: DomainHead | None = None
        self._lock = threading.Lock()

    def name(self) -> str:
        """The version in force, "" where there is none; raises ModelInvalid where current.json is damaged."""
        return str(self._state()["current"])

    def current(self) -> DomainHead | None:
        """The head in force, None where nothing was trained; raises ModelInvalid where its files are damaged."""
        name = self.name()
        if not name:
            return None
        with self._lock:
            if self._loaded is None or self._loaded.version != name:
                self._loaded = DomainHead.load(self.folder / name)
                if self._loaded.version != name:
                    raise ModelInvalid(
                        f"{self.folder / name} holds {self._loaded.version!r}", "train again: pointsman router train"
                    )
            return self._loaded

    def with_exemplars(
        self, head: DomainHead | None, exemplars: Sequence[Exemplar], encode: Encode | None = None
    ) -> DomainHead | None:
        """A head that knows the examples too, or them alone; None where there is neither head nor example.

        Examples without a domain, as corrections of the mode are, are left out.
        """
        usable = [one for one in exemplars if one.domain.strip() and one.text.strip()]
        if head is None:
            return from_exemplars(usable, encode) if usable else None
        return head.with_exemplars(usable, encode) if usable else head

    def train(
        self,
        data: Path | Labelled,
        encoder: Encoder | None = None,
        *,
        words: Sequence[str] = (),
        risk: float = RISK,
        progress: Progress = lambda doing, done, of: None,
    ) -> Version:
        """Train on a folder or file, put the version into force and return it. Raises InputError for data that does not serve."""
        rows = (labelled.load(data) if isinstance(data, Path) else data).split()
        name = self._next()
        head = train_head(rows, encoder, words=words, risk=risk, version=name, progress=progress)
        golden = [(text, rows.domain_of[intent]) for text, intent in _spread(rows.held or rows.train)]
        made = _described(name, f"trained on {rows.name}", head, rows, _score(head, golden, encoder), risk)
        self._add(head, rows, golden, words, made)
        return made

    def refit(
        self,
        exemplars: Sequence[Exemplar],
        encoder: Encoder | None = None,
        *,
        progress: Progress = lambda doing, done, of: None,
    ) -> Accepted | Refused:
        """Fit the current version's rows and the examples together; takes seconds to minutes, so call it beside the work.

        Raises NotFound where nothing was trained yet, InputError where there are no examples.
        """
        head = self.current()
        if head is None:
            raise NotFound("no version of the router was trained yet", "pointsman router train --data FOLDER")
        usable = [one for one in exemplars if one.domain.strip() and one.text.strip()]
        if not usable:
            raise InputError("there are no examples to refit on", "correct some routes first")
        kept = self._json(head.version, "rows.json")
        golden = [(str(text), str(domain)) for text, domain in self._json(head.version, "golden.json")]
        info = self._json(head.version, "version.json")
        original = _labelled(kept)
        rows = _joined(original, usable, head)
        before = _score(head, golden, encoder)
        name = self._next()
        words = tuple(head.spelling.others)
        fitted = train_head(rows, encoder, words=words, risk=float(info["risk"]), version=name, progress=progress)
        after = _score(fitted, golden, encoder)
        if after < before - TOLERANCE:
            why = f"the golden set fell from {before:.1%} to {after:.1%} of {len(golden)} rows"
            return Refused(head.version, before, after, why)
        note = f"refitted with {len(usable)} examples"
        fitted = _without_texts(fitted, len(rows.train) - len(usable))
        self._add(fitted, original, golden, words, _described(name, note, fitted, rows, after, float(info["risk"])))
        return Accepted(name, before, after)

    def refit_later(
        self, exemplars: Sequence[Exemplar], encoder: Encoder | None, done: Callable[[Accepted | Refused | PointsmanError], object]
    ) -> threading.Thread:
        """`refit` in a thread of its own; `done` is called there with what came of it, a fault too."""

        def work() -> None:
            try:
                found: Accepted | Refused | PointsmanError = self.refit(exemplars, encoder)
            except PointsmanError as fault:
                found = fault
            done(found)

        thread = threading.Thread(target=work, name="router-refit", daemon=True)
        thread.start()
        return thread

    def undo(self) -> str:
        """Go back to the version before and return its name, "" where that was none; raises NotFound where there is nothing."""
        state = self._state()
        if not state["current"]:
            raise NotFound("there is no version of the router to undo", "pointsman router train --data FOLDER")
        before = [name for name in state["before"] if name == "" or (self.folder / name).is_dir()]
        target = before.pop() if before else ""
        self._write_state({"current": target, "before": before})
        return str(target)

    def history(self) -> list[Version]:
        """Every version that is kept, the newest first."""
        now = self.name()
        found = []
        for name in sorted(self._names(), reverse=True):
            info = self._json(name, "version.json")
            info.pop("risk", None)
            try:
                one = Version(**{**info, "domains": tuple(info["domains"])})
            except (TypeError, KeyError) as error:
                raise ModelInvalid(f"{self.folder / name / 'version.json'} is damaged: {error}", "delete that folder") from error
            found.append(replace(one, current=name == now))
        return found

    def golden(self) -> list[Row]:
        """Text and domain of the current version's golden set; raises NotFound where nothing was trained."""
        name = self.name()
        if not name:
            raise NotFound("no version of the router was trained yet", "pointsman router train --data FOLDER")
        return [(str(text), str(domain)) for text, domain in self._json(name, "golden.json")]

    def _add(self, head: DomainHead, rows: Labelled, golden: Sequence[Row], words: Sequence[str], made: Version) -> None:
        """Write the whole folder under another name, rename it, and put it into force."""
        paths.ensure(self.folder)
        risk = made.thresholds.get("risk", RISK)
        temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=self.folder))
        try:
            head.save(temporary)
            for name, content in (
                ("rows.json", {**asdict(rows), "domain_of": dict(rows.domain_of)}),
                ("golden.json", list(golden)),
                ("version.json", {**asdict(made), "risk": risk}),
            ):
                with paths.replacing(temporary / name) as file:
                    file.write(json.dumps(content).encode())
            os.rename(temporary, self.folder / made.name)
            paths.sync_folder(self.folder)
        except OSError as error:
            raise InputError(
                f"cannot write {self.folder / made.name}: {error.strerror or error}", "free space, or try again"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        state = self._state()
        self._write_state({"current": made.name, "before": [*state["before"], state["current"]][-KEPT:]})
        self._prune()

    def _prune(self) -> None:
        state = self._state()
        wanted = {state["current"], *state["before"], *sorted(self._names())[-KEPT:]}
        for name in self._names():
            if name not in wanted:
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def _names(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return [path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]

    def _next(self) -> str:
        return f"v{max((int(name[1:]) for name in self._names()), default=0) + 1:04d}"

    def _state(self) -> dict[str, Any]:
        path = self.folder / "current.json"
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"current": "", "before": []}
        except OSError as error:
            raise ModelInvalid(f"cannot read {path}: {error.strerror or error}", "make it readable") from error
        except ValueError as error:
            raise ModelInvalid(f"{path} is damaged: {error}", "delete it and train again: pointsman router train") from error
        named = [state.get("current"), *state.get("before", ())] if isinstance(state, dict) else [None]
        if not all(isinstance(name, str) and (name == "" or _NAME.fullmatch(name)) for name in named):
            raise ModelInvalid(f"{path} is damaged: it names no versions", "delete it and train again: pointsman router train")
        return {"current": named[0], "before": named[1:]}

    def _write_state(self, state: dict[str, Any]) -> None:
        with paths.replacing(self.folder / "current.json") as file:
            file.write(json.dumps(state).encode())

    def _json(self, name: str, file: str) -> Any:
        path = self.folder / name / file
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelInvalid(f"{path} cannot be read: {error}", "go back: pointsman router undo") from error


def _described(name: str, note: str, head: DomainHead, rows: Labelled, golden: float, risk: float) -> Version:
    limits = {"risk": risk}
    if head.trained is not None:
        gate = head.trained.mixed_gate or head.trained.sparse_gate
        limits |= {"temperature": gate.temperature, "accept": gate.accept, "out_of_scope_log_odds": gate.out_of_scope}
        limits["sure"] = min(head.trained.sparse_gate.sure, 1e9)
    return Version(name, time.time(), note, head.domains, len(rows.train), golden, limits)


def _spread(rows: Sequence[Row]) -> list[Row]:
    """At most GOLDEN rows, evenly over the intents' order."""
    ordered = sorted(rows, key=lambda row: (row[1], row[0]))
    step = max(1.0, len(ordered) / GOLDEN)
    return [ordered[int(at * step)] for at in range(min(GOLDEN, len(ordered)))]


def _score(head: DomainHead, golden: Sequence[Row], encoder: Encoder | None) -> float:
    """Share of the golden set whose likeliest domain is the right one."""
    right = sum(head.read(text, encoder).probabilities[0][0] == domain for text, domain in golden)
    return right / max(len(golden), 1)


def _labelled(kept: dict[str, Any]) -> Labelled:
    try:
        train, held = (tuple((str(text), str(intent)) for text, intent in kept[name]) for name in ("train", "held"))
        outside_train, outside_held = (tuple(map(str, kept[name])) for name in ("outside_train", "outside_held"))
        return Labelled(str(kept["name"]), dict(kept["domain_of"]), train, held, outside_train, outside_held)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelInvalid(
            f"the rows of the router's version are damaged: {error}", "train again: pointsman router train"
        ) from error


def _joined(rows: Labelled, exemplars: Sequence[Exemplar], head: DomainHead) -> Labelled:
    """The rows with the examples, each as the intent of its domain that it is likeliest to be, in place of equal texts."""
    domain_of = dict(rows.domain_of)
    added = [(one.text, _intent(one, head, domain_of)) for one in exemplars]
    said = {text for text, _ in added}
    kept = tuple(row for row in rows.train if row[0] not in said)
    return replace(rows, domain_of=domain_of, train=(*kept, *added))


def _without_texts(head: DomainHead, own: int) -> DomainHead:
    """The head without the examples' own words in it: what the user forgets in the log must not stay in a version.

    own: rows that came before the examples.
    """
    kept = [at for at, one in enumerate(head.seeds) if int(one.id.removeprefix("seed-")) < own]
    vectors = head.seed_vectors[kept] if head.seed_vectors is not None else None
    return replace(head, seeds=tuple(head.seeds[at] for at in kept), seed_vectors=vectors)


def _intent(one: Exemplar, head: DomainHead, domain_of: dict[str, str]) -> str:
    trained = head.trained
    if trained is None or one.domain not in domain_of.values():
        domain_of.setdefault(one.domain, one.domain)
        return one.domain
    logits = trained.sparse_logits(grams(head.spelling.mend(one.text)))
    mine = [at for at, intent in enumerate(trained.intents) if domain_of.get(intent) == one.domain]
    return trained.intents[max(mine, key=lambda at: float(logits[at]))] if mine else one.domain
