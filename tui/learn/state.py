"""Where a learn stands: <data>/learn/<id>/state.json, written whole and on disk before the next step begins.

A learn belongs to a domain and has one process at a time, by a file lock that the system releases with the process. Its folder
also holds the dataset that it trained on. Not covered: what the steps do (`course`).
"""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data import paths
from data.errors import InputError, NotFound
from data.sanitise import one_line
from tui.learn import remains

FILE, DATASET, SEEN = "state.json", "dataset", "seen.txt"
LARGEST_BYTES = 16 << 20
Outcome = Literal["", "promoted", "failed", "given up"]
"""Under way or broken off; its model got its place; a gate stopped it; somebody began anew instead."""
Target = Literal["staging", "canary", "champion"]
_ID = re.compile(r"[a-z0-9_]+-\d{8}-\d{6}-[0-9a-f]{6}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Held(_Part):
    """A gate that was held against the model. passed: None where it could not be checked."""

    name: str
    passed: bool | None
    reached: float | None = None
    limit: float | None = None
    note: str = ""


class Done(_Part):
    """A step that is done, and what later steps and readers need to know of it."""

    step: str
    at: datetime
    facts: dict[str, Any] = {}


class State(_Part):
    """state.json. recipe: as it was given, "" for the domain's own; least: rows that are enough, 0 for the usual number; outcome,
    reason: how it ended, and why in words; gates: every gate of every step so far."""

    version: Literal[1] = 1
    id: str = Field(pattern=_ID.pattern)
    domain: str
    recipe: str = ""
    to: Target = "canary"
    least: int = 0
    begun: datetime
    steps: tuple[Done, ...] = ()
    outcome: Outcome = ""
    reason: str = ""
    gates: tuple[Held, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return folder() / self.id

    @property
    def dataset(self) -> Path:
        """The dataset that it trains on."""
        return self.folder / DATASET

    def facts(self, step: str) -> Mapping[str, Any] | None:
        """What a finished step left; None where it is not done."""
        return next((one.facts for one in self.steps if one.step == step), None)

    def after(self, step: str, facts: Mapping[str, Any], gates: tuple[Held, ...] = ()) -> "State":
        """The state with that step done, on disk."""
        made = Done(step=step, at=datetime.now(UTC), facts=json.loads(json.dumps(dict(facts), default=str)))
        return self.written(steps=(*self.steps, made), gates=(*self.gates, *gates))

    def ended(self, outcome: Outcome, reason: str) -> "State":
        """The state with its end, on disk."""
        return self.written(outcome=outcome, reason=reason)

    def written(self, **changes: Any) -> "State":
        """The state with those changes, on disk. Raises InputError where that fails."""
        found = self.model_copy(update=changes)
        with paths.replacing(found.folder / FILE) as out:
            out.write(found.model_dump_json(indent=1).encode() + b"\n")
        return found


def folder() -> Path:
    """Where the learns of all domains are kept."""
    return paths.data_dir() / "learn"


def begin(domain: str, *, recipe: str = "", to: Target = "canary", least: int = 0) -> State:
    """A new learn, on disk."""
    now = datetime.now(UTC)
    name = f"{domain}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    return State(id=name, domain=domain, recipe=recipe, to=to, least=least, begun=now).written()


def read(place: Path) -> State:
    """The learn in a folder. Raises NotFound where there is none, InputError where its state.json is damaged."""
    file = place / FILE
    if not file.is_file():
        raise NotFound(f"{place} is no learn: it has no {FILE}", "see: pointsman learn --help")
    try:
        return State.model_validate(json.loads(paths.read_text(file, LARGEST_BYTES, "a state is small; delete the folder")))
    except (ValidationError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged: {one_line(str(error), 160)}", f"delete {place} and learn anew") from error


def found(domain: str) -> list[State]:
    """The learns of a domain, oldest first; folders without a sound state.json are left out."""
    states = []
    for place in sorted(folder().glob(f"{domain}-*")) if folder().is_dir() else ():
        if not _ID.fullmatch(place.name) or not place.name.startswith(f"{domain}-2"):
            continue
        try:
            one = read(place)
        except (NotFound, InputError):
            continue
        if one.domain == domain and one.id == place.name:
            states.append(one)
    return sorted(states, key=lambda one: (one.begun, one.id))


def unfinished(domain: str) -> State | None:
    """The newest learn of a domain that has not ended."""
    return next((one for one in reversed(found(domain)) if not one.outcome), None)


@contextmanager
def locked(domain: str) -> Iterator[None]:
    """While open, no other process learns this domain. Raises InputError where one does. Clears what a killed one left in the
    folder of learns."""
    place = paths.ensure(folder())
    descriptor = os.open(place / f".{domain}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not paths.try_lock(descriptor):
            raise InputError(f"{domain} is being learnt by another process", "wait for it, or stop it")
        remains.stateless(place, domain, FILE)
        yield
    finally:
        os.close(descriptor)
