"""A forgetting from begin to end: find, plan, write down, carry out, look again.

    report = forget(store, term="Maple Street 12", who="me", tell=print_progress)
First everything is found that holds it; then new contents are written beside the files, and the journal; then all is changed at
once, the database too; then every file is searched again, and what still holds it is told. Not covered: what counts as holding it
(wanted.py), what becomes of a file (files.py), finishing after a crash (journal.py).
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import exports, paths
from data.errors import InputError
from data.forgetting import files, journal, removing, sealing, trained
from data.forgetting.files import Folders, Tell, Touched
from data.forgetting.journal import Journal, Step
from data.forgetting.report import Left, Report
from data.forgetting.trained import Survey, Trained
from data.forgetting.wanted import Wanted
from data.store import artefacts, doomed
from data.store.doomed import Change, Doomed
from data.store.ids import new_id

if TYPE_CHECKING:
    from data.store import Store

ROUNDS = 3
"""How often files are changed anew that somebody changed meanwhile."""
_RAW = 6
"""Bytes of a term from which on it stands in a database by no chance."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What holds it."""

    wanted: Wanted
    folders: Folders
    doomed: Doomed
    touched: tuple[Touched, ...]
    survey: Survey


def forget(
    store: "Store",
    *,
    term: str = "",
    conversations: Sequence[str] = (),
    dry_run: bool = False,
    models: bool = False,
    force: bool = False,
    beside: Sequence[Path] = (),
    who: str = "",
    tell: Tell = lambda doing, done, of: None,
) -> Report:
    """Forget a text, or conversations (ids or parts of them), everywhere.

    models: runs, exports and versions that were trained on it are removed too, a champion or canary only with `force`; beside:
    files and folders elsewhere that are cleared as well. Raises InputError where there is nothing to look for, another forgetting
    is under way, or a run is being trained on it; NotFound for an unknown conversation; StoreError where another program keeps the
    database busy: then the next start finishes it.
    """
    if not term.strip() and not conversations:
        raise InputError("forgetting needs a text or a conversation", "give one")
    with journal.alone() as free:
        if not free:
            raise InputError("another forgetting is under way", "wait for it")
        found = _find(store, term, conversations, beside, tell)
        key, at = new_id(), datetime.now(UTC).isoformat(timespec="seconds")
        if dry_run:
            return _report(key, at, True, found, found.survey.models, [])
        return _do(store, found, key, at, models, force, who, tell)


def _do(store: "Store", found: _Found, key: str, at: str, models: bool, force: bool, who: str, tell: Tell) -> Report:
    removing.refuse_busy(found.survey.models)
    known = removing.removable(store, found.survey.models, models, force)
    gone = [one.path for one in known if one.removed and one.path is not None]
    if found.wanted.found(str(paths.data_dir())):
        raise InputError("Pointsman's own folder is named so", "choose a longer text")
    steps = _staged(found, found.touched, gone, key, tell)
    steps += removing.recipes(known, key)
    steps += removing.caches(found.touched) + removing.routers(known, key)
    steps += [Step(str(path)) for path in gone]
    planned = replace(found.doomed, changes=(*found.doomed.changes, *_registered(store, steps)))
    removing.unregister(store, known, who)
    nothing = not (planned or steps or known)
    written = Journal(key, store.database.where, planned, tuple(steps), {} if nothing else _note(key, at, found, known))
    journal.commit(written)
    tell("rewriting the log", 0, 0)
    journal.carry_out(store.database, written)
    left = _again(store, found, gone, key, tell)
    return _report(key, at, False, found, known, left)


def _find(store: "Store", term: str, keys: Sequence[str], beside: Sequence[Path], tell: Tell) -> _Found:
    database = store.database
    plain = Wanted(term) if term.strip() else None
    tell("reading the log", 0, 0)
    named = doomed.conversations(database, keys, None)
    ids = named | (doomed.conversations(database, (), plain.found) if plain else set())
    spoken, others = doomed.said(database, named)
    wanted = Wanted(term, ids, [*spoken, *_redacted(spoken)], others)
    planned = doomed.plan(database, ids, wanted.found, wanted.cleared)
    folders = Folders.of(database.path, beside)
    journal.sweep(folders.files())
    listed = folders.files()
    runs = trained.runs(listed)
    survey = trained.survey(runs, listed, store.registry.versions(), wanted, planned, folders)
    folders = replace(folders, beside=(*folders.beside, *survey.datasets))
    return _Found(wanted, folders, planned, tuple(_look(folders, wanted, tell)), survey)


def _look(folders: Folders, wanted: Wanted, tell: Tell) -> Iterable[Touched]:
    listed = folders.files()
    for number, file in enumerate(listed):
        tell("searching files", number, len(listed))
        if (one := files.look(file, wanted, folders)) is not None:
            yield one


def _redacted(spoken: Sequence[str]) -> list[str]:
    """The texts as datasets keep them: without personal data. None where the packages for that are not installed: then no dataset
    was redacted here."""
    if not spoken:
        return []
    try:
        from data.datasets.redact import Redactor

        redactor = Redactor()
    except (ImportError, InputError):
        return []
    made = [redactor.text(text)[0] for text in spoken]
    return [text for text, was in zip(made, spoken, strict=True) if text != was]


def _staged(found: _Found, touched: Iterable[Touched], gone: Sequence[Path], key: str, tell: Tell) -> list[Step]:
    """New contents beside their files, and what goes; manifests last, since they tell of the others."""
    wanted = [one for one in touched if not any(one.path.is_relative_to(folder) for folder in gone)]
    changed = [one for one in wanted if one.how in ("rows", "texts")]
    steps = {one.path: Step(str(one.path)) for one in wanted if one.how == "removed"}
    for number, one in enumerate(changed):
        tell("writing files", number, len(changed))
        steps[one.path] = _stage(one.path, found.wanted, key)
    for folder in dict.fromkeys(parent for one in changed for parent in list(one.path.parents)[:4]):
        for name in sealing.LISTS:
            _seal(folder / name, steps, key)
    order = sorted(steps, key=lambda path: (path.name in sealing.LISTS, str(path)))
    return [steps[path] for path in order]


def _stage(path: Path, wanted: Wanted, key: str) -> Step:
    state = journal.state_of(path)
    staged = path.with_name(f".{path.name}{files.STAGED}{key[-8:]}")
    try:
        with staged.open("wb") as out:
            os.fchmod(out.fileno(), path.stat().st_mode & 0o777)
            for piece, _ in files.parts(path, wanted):
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
        raise InputError(f"cannot write beside {path}: {error.strerror or error}", "free space, and forget again") from error
    return Step(str(path), str(staged), state)


def _seal(file: Path, steps: dict[Path, Step], key: str) -> None:
    """Let a manifest tell the digests that its files will have."""
    if not file.is_file():
        return

    def now(path: Path) -> Path:
        step = steps.get(path)
        return Path(step.staged) if step and step.staged else path

    made = sealing.sealed(file, now(file).read_bytes(), now)
    if made is None:
        return
    staged = file.with_name(f".{file.name}{files.STAGED}{key[-8:]}")
    state = journal.state_of(file)
    with paths.replacing(staged, file.stat().st_mode & 0o777) as out:
        out.write(made)
    steps[file] = Step(str(file), str(staged), state)


def _registered(store: "Store", steps: Sequence[Step]) -> list[Change]:
    """The registry's rows of exports whose files change: their digests, by which they are known."""
    changes = []
    for step in steps:
        folder = Path(step.path).parent
        if Path(step.path).name != exports.FILE or not step.staged or folder.parent != exports.folder():
            continue
        before, after = _kept(folder / exports.FILE), _kept(Path(step.staged))
        for version in store.registry.versions() if before and after else ():
            if version.name == folder.name and version.sha256 == artefacts.digest(version.domain, version.name, before):
                digest = artefacts.digest(version.domain, version.name, after)
                changes.append(Change("model_version", {"id": version.id}, {"artefact": after, "sha256": digest}))
    return changes


def _kept(file: Path) -> dict[str, Any]:
    """What a version keeps of an export.json; {} for a damaged one, of which no version is any more."""
    try:
        told = exports.Export.model_validate(files.json_of(file))
    except ValueError:
        return {}
    return {"chosen": told.chosen, "files": [one.model_dump(exclude={"fallbacks"}) for one in told.files]}


def _again(store: "Store", found: _Found, gone: Sequence[Path], key: str, tell: Tell) -> list[Left]:
    """Search everything once more; change anew what was changed meanwhile; tell what still holds it."""
    touched: list[Touched] = []
    for _ in range(ROUNDS):
        touched = list(_look(found.folders, found.wanted, tell))
        todo = [one for one in touched if one.how != "left"]
        if not todo:
            break
        steps = _staged(found, todo, gone, new_id(), tell)
        again = Journal(new_id(), store.database.where, Doomed(), tuple(steps), {})
        journal.commit(again)
        journal.carry_out(store.database, again)
    left = [Left(str(one.path), one.why or "it was changed again and again meanwhile") for one in touched]
    left += [Left(f"the registry: {name}", "a name, by which it is found") for name in found.doomed.named]
    for path in (*found.folders.files(), *found.folders.folders()):
        if found.wanted.found(path.name):
            left.append(Left(str(path), "its name holds it: rename it"))
    return left + _in_store(store, found.wanted)


def _in_store(store: "Store", wanted: Wanted) -> list[Left]:
    """The files of a SQLite store, byte by byte."""
    path = store.database.path
    if path is None or len(wanted.term.encode()) < _RAW:
        return []
    held = [one for one in path.parent.glob(f"{path.name}*") if one.is_file() and wanted.in_bytes(one.read_bytes())]
    return [Left(str(one), "end other programs that use the log, and forget again") for one in held]


def _note(key: str, at: str, found: _Found, known: Sequence[Trained]) -> dict[str, Any]:
    """The line of the record: nothing of what is forgotten, and the models that still know it."""
    models = [
        {name: value for name, value in asdict(one).items() if name in ("kind", "name", "why", "command", "removed", "ollama")}
        for one in known
    ]
    counts = {"conversations": len(found.doomed.conversations), "files": sum(one.how != "left" for one in found.touched)}
    cleared: dict[str, Any] = _cleared({"id": key, "at": at, **counts, "models": models}, found.wanted)
    return cleared


def _cleared(value: Any, wanted: Wanted) -> Any:
    if isinstance(value, dict):
        return {name: _cleared(one, wanted) for name, one in value.items()}
    if isinstance(value, list):
        return [_cleared(one, wanted) for one in value]
    return wanted.cleared(value) if isinstance(value, str) else value


def _report(key: str, at: str, dry: bool, found: _Found, models: Sequence[Trained], left: Sequence[Left]) -> Report:
    plan, survey = found.doomed, found.survey
    outside = tuple(
        Left(str(path), f"{count} rows of it hold it, and it is yours: clear it with --also {path}")
        for path, count in survey.outside
    )
    return Report(
        key,
        at,
        dry,
        len(plan.conversations),
        plan.turns,
        plan.feedback,
        len(plan.documents),
        len(plan.exemplars),
        len(plan.changes),
        tuple(one for one in found.touched if one.how != "left"),
        tuple(models),
        survey.untold,
        outside,
        tuple(left) if not dry else tuple(Left(str(one.path), one.why) for one in found.touched if one.how == "left"),
    )
