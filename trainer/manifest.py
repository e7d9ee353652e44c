"""manifest.json of a run: what went in, on what it ran, what came out, and the SHA-256 of every artefact.

It names no folder of the machine and no user: a path of the recipe is kept as the file's name alone. `start` is made before the
training (a resume compares it), `finished` adds results and artefacts. Not covered: running again (`reproduction`), the manifests
of datasets (data/datasets/manifest.py).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from data import domains, paths
from data.errors import InputError, NotFound
from data.sanitise import one_line
from trainer.machine import Hardware, commit, hardware, versions
from trainer.recipe import Recipe

if TYPE_CHECKING:
    from trainer.base import Identity
    from trainer.device import Policy
    from trainer.material import Material

FILE = "manifest.json"
VERSION = 1
LARGEST_BYTES = 16 << 20
NOT_ARTEFACTS = ("checkpoints", "trunk", "state.json", ".lock", "enough", "imported.json", "proven", ".proven.part", FILE)
"""Names of files and folders that no manifest lists: they are gone, or change, when the run is over, or were added here."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataNote(_Part):
    """The rows: digests of what they teach, counts by label, how many were refused or lost, lengths in tokens (length -> rows).

    prompt_sha256: of the domain's instruction and contract, "" without a domain.
    """

    sha256: str
    validation_sha256: str
    prompt_sha256: str = ""
    train: int = 0
    validation: int = 0
    by_label: dict[str, int] = {}
    lost: int = 0
    lengths: dict[int, int] = {}


class BaseNote(_Part):
    """The base, as `trainer.base.Identity` has it."""

    source: str
    revision: str = ""
    family: str = ""
    parameters: int = 0
    sha256: str = ""
    tokenizer_sha256: str = ""
    template_sha256: str = ""
    licence: str = ""
    size_bytes: int = 0


class Artefact(_Part):
    """A file of the run folder; name: its path within the folder."""

    name: str
    bytes: int
    sha256: str


class Manifest(_Part):
    """The whole. recipe: its content with paths cut to names; parent: the run it went on from, by hash; timings in seconds by part;
    results: a few figures by name."""

    version: int = VERSION
    name: str
    recipe_sha256: str
    recipe: dict[str, Any]
    seed: int
    data: DataNote
    base: BaseNote
    parent: str = ""
    versions: dict[str, str] = {}
    hardware: Hardware = Hardware()
    policy: dict[str, Any] = {}
    commit: str = ""
    timings: dict[str, float] = {}
    results: dict[str, Any] = {}
    artefacts: tuple[Artefact, ...] = ()

    @property
    def hash8(self) -> str:
        """The run's short hash: of recipe, data, base and parent, so the same for each repetition."""
        parts = (
            self.recipe_sha256,
            self.data.sha256,
            self.data.validation_sha256,
            self.data.prompt_sha256,
            self.base.sha256,
            self.parent,
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def start(recipe: Recipe, material: "Material", base: "Identity", policy: "Policy", parent: str = "") -> Manifest:
    """The manifest of a run that begins. parent: the parent run's hash. Raises NotFound for an unknown domain."""
    content = portable(recipe)
    domain = domains.load(recipe.domain) if recipe.domain else None
    identity = asdict(base) | {"source": _named(base.source)}
    return Manifest(
        name=recipe.name,
        recipe_sha256=sha256_of(content),
        recipe=content,
        seed=recipe.seed,
        data=DataNote(
            sha256=material.sha256,
            validation_sha256=material.validation_sha256,
            prompt_sha256=sha256_of([domain.instruction(recipe.data.contract), domain.schema]) if domain else "",
            train=len(material.train),
            validation=len(material.validation),
            by_label=dict(sorted(Counter(row.label for row in material.train if row.label).items())),
            lost=len(material.refused),
        ),
        base=BaseNote(**{key: value for key, value in identity.items() if key in BaseNote.model_fields}),
        parent=parent,
        versions=versions(),
        hardware=hardware(),
        policy=_plain(asdict(policy) if is_dataclass(policy) else {}),
        commit=commit(),
    )


def with_rows(manifest: Manifest, lengths: Sequence[int], lost: int) -> Manifest:
    """With the training rows' lengths in tokens, and how many rows were lost in all, which encoding tells."""
    counted = dict(sorted(Counter(int(one) for one in lengths).items()))
    return manifest.model_copy(update={"data": manifest.data.model_copy(update={"lengths": counted, "lost": lost})})


def finished(manifest: Manifest, folder: Path, timings: Mapping[str, float], results: Mapping[str, Any]) -> Manifest:
    """With what came out, every file of the folder listed. Raises InputError where one cannot be read."""
    new = {"timings": dict(timings), "results": _plain(dict(results)), "artefacts": tuple(artefacts(folder))}
    return manifest.model_copy(update=new)


def artefacts(folder: Path) -> Iterator[Artefact]:
    """Every file below the folder but NOT_ARTEFACTS, in the order of their names. Raises InputError where one cannot be read."""
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder)
        if file.is_symlink() or not file.is_file() or set(inside.parts) & set(NOT_ARTEFACTS):
            continue
        sha256, size = _digest(file)
        yield Artefact(name=inside.as_posix(), bytes=size, sha256=sha256)


def write(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json into the folder. Raises InputError where that fails."""
    text = json.dumps(manifest.model_dump(mode="json"), ensure_ascii=True, sort_keys=True, indent=1)
    with paths.replacing(folder / FILE) as out:
        out.write(f"{text}\n".encode())


def read(folder: Path) -> Manifest:
    """The manifest of a run folder. Raises NotFound where there is none, InputError where it is none of this version."""
    file = folder / FILE
    if not file.is_file():
        raise NotFound(f"{folder} holds no {FILE}, so it is no finished run", "train one: pointsman train RECIPE")
    try:
        found = json.loads(paths.read_text(file, LARGEST_BYTES, "a run's manifest is small"))
        version = found.get("version") if isinstance(found, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise InputError(f"{file} has version {version}, and this Pointsman reads {VERSION}", "use the newer Pointsman")
        return Manifest.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{file}: {one_line(where)}: {one_line(first['msg'], 200)}", "train the run again") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not valid JSON: {one_line(str(error), 120)}", "train the run again") from error


def check(folder: Path) -> list[str]:
    """What is not as the manifest says, in words: missing, changed and foreign files. Raises as `read`."""
    noted = {one.name: one for one in read(folder).artefacts}
    faults = []
    for name, one in noted.items():
        shown, file = one_line(name), folder / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or file.is_symlink():
            faults.append(f"{shown}: not a file within the run")
        elif not file.is_file():
            faults.append(f"{shown}: missing")
        elif (found := _digest(file))[0] != one.sha256:
            faults.append(f"{shown}: its SHA-256 is {found[0][:16]}…, {one_line(one.sha256[:16])}… in the manifest")
    faults += [f"{one_line(one.name)}: not in the manifest" for one in artefacts(folder) if one.name not in noted]
    return faults


def differences(old: Manifest, new: Manifest) -> list[str]:
    """What makes the new run another one than the old, in words: recipe, data, base, parent. A resume refuses on any."""
    found = [f"recipe: {one}" for one in _changes(old.recipe, new.recipe)]
    if not found and old.recipe_sha256 != new.recipe_sha256:
        found.append("recipe: its SHA-256 is not that of its content")
    for part, was, now in (
        ("training", (old.data.sha256, old.data.train), (new.data.sha256, new.data.train)),
        ("validation", (old.data.validation_sha256, old.data.validation), (new.data.validation_sha256, new.data.validation)),
    ):
        if was[0] != now[0]:
            counts = f"{was[1]:,} rows then, {now[1]:,} now" if was[1] != now[1] else f"{now[1]:,} rows as then, with other content"
            found.append(f"data: the {part} rows are not the same: {counts}")
    if old.data.prompt_sha256 != new.data.prompt_sha256:
        found.append("domain: its prompt, labels or contract are not the same")
    for what in ("sha256", "tokenizer_sha256", "template_sha256"):
        was, now = getattr(old.base, what), getattr(new.base, what)
        if was != now:
            part = {"sha256": "weights", "tokenizer_sha256": "tokenizer", "template_sha256": "chat template"}[what]
            found.append(f"base: other {part}: {one_line(was[:16]) or 'none'} then, {now[:16] or 'none'} now")
    if old.parent != new.parent:
        found.append(f"parent: {one_line(old.parent) or 'none'} then, {new.parent or 'none'} now")
    return found


def surroundings(old: Manifest, new: Manifest) -> list[str]:
    """What differs around two runs and may change numbers in their last digits, in words: versions, hardware, number format."""
    found = []
    for name, was, now in (
        ("version", old.versions, new.versions),
        ("hardware", old.hardware.model_dump(), new.hardware.model_dump()),
        ("policy", old.policy, new.policy),
    ):
        was, now = ({key: one for key, one in side.items() if key != "why"} for side in (was, now))
        found += [f"{name}: {one}" for one in _changes(was, now)]
    if old.commit != new.commit:
        found.append(f"source: commit {one_line(old.commit[:12]) or 'unknown'} then, {new.commit[:12] or 'unknown'} now")
    return found


def portable(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON with every absolute path cut to its last name: the same data in another place is the same recipe."""
    found = recipe.model_dump(mode="json")
    for key in ("train", "validation"):
        found["data"][key] = [_named(one) for one in found["data"][key]]
    for table, key in (("base", "model"), ("base", "adapter"), ("distributed", "config")):
        found[table][key] = _named(found[table][key])
    return found


def sha256_of(value: Any) -> str:
    """Of a value as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def _named(path: str) -> str:
    """The last name of an absolute path, "llamacpp//abs/x.gguf" too; a relative path, a name or a hub id stays."""
    if path.startswith("~") or PurePosixPath(path).is_absolute() or "//" in path:
        return PurePosixPath(path).name
    return PureWindowsPath(path).name if PureWindowsPath(path).is_absolute() else path


def _changes(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The leaves that differ, by their dotted paths."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _changes(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and any(isinstance(one, Mapping) for one in new):
        for at, (was, now) in enumerate(zip(old, new, strict=True), start=1):
            yield from _changes(was, now, f"{where}[{at}]")
    elif old != new:
        yield one_line(f"{where} was {_shown(old)}, is {_shown(new)}", 300)


def _shown(value: Any) -> str:
    return "not there" if value is None else one_line(json.dumps(value, ensure_ascii=False, default=str), 100)


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(value), default=str))
    return found


def _digest(file: Path) -> tuple[str, int]:
    sha, size = hashlib.sha256(), 0
    try:
        with file.open("rb") as opened:
            while piece := opened.read(1 << 20):
                sha.update(piece)
                size += len(piece)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}", "make it readable") from error
    return sha.hexdigest(), size
