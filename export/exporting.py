"""A finished run made into what llama.cpp and Ollama load, and proven to say what the trained model says, or refused.

    export(source, forms, ...)    model-<form>.gguf  adapter.gguf  adapter-Q8_0.gguf  Modelfile  export.json  in one folder

Everything is made under a hidden name beside the folder's own and renamed once every check has passed: what stands under an
export's name is complete and verified. Remains of an export that was killed are removed by the next of the same name; two of one
run wait for each other. Not covered: what is checked and how (`export.verify`), talking to Ollama (`export.ollama`).
"""

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Literal

from data import exports, paths
from data.chat import Message
from data.errors import InputError
from data.exports import Check, Export, File
from data.sanitise import one_line
from export import files
from export._exporting import described
from export._exporting.course import WORK, Course, Made
from export._exporting.forms import checked, needed_bytes
from export._exporting.source import Asked, Judge, Judged, Reference, Source
from export._exporting.steps import Step, Tell, silent
from export.modelfile import Parts

__all__ = [
    "Asked", "Exported", "Judge", "Judged", "Reference", "Source", "Step", "Tell", "checked", "export", "finished", "silent",
]  # fmt: skip

PACKAGES = ("pointsman", "llama-cpp-python", "gguf", "torch", "transformers", "peft")
PROMPTS = 2
"""Of a run, by which a server's answers are compared."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,149}")


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of an export. folder: None where a check failed and nothing stands; why: of the chosen form; notes: what else to
    know; kept: where the remains of a failed one were left, as asked; parts: of the Modelfile, None for an adapter alone; prompts:
    a few of the run's own, by which a server's answers can be compared."""

    folder: Path | None
    export: Export
    why: str = ""
    notes: tuple[str, ...] = ()
    kept: Path | None = None
    parts: Parts | None = None
    prompts: tuple[tuple[Message, ...], ...] = ()


def export(
    source: Source,
    forms: Sequence[str] = (),
    out: Path | None = None,
    tell: Tell = silent,
    *,
    adapter_only: bool = False,
    adapter_modelfile: bool = False,
    keep_failed: bool = False,
) -> Exported:
    """Make and verify the export of a run; a former one of the same name is replaced once the new one has passed.

    forms: () or "auto" tries some and chooses; out: the folder that gets the export's folder, else where exports are kept;
    adapter_only: no merged model; adapter_modelfile: one with ADAPTER too; keep_failed: leave what failed under a hidden name.
    Raises InputError for unknown forms, names and a lack of space, ModelInvalid where a file is damaged, the adapter cannot be
    expressed or does not fit its base, ModelMissing, EngineUnavailable without llama.cpp.
    """
    wanted = checked(forms)
    if not _NAME.fullmatch(source.name):
        raise InputError(f"{one_line(source.name, 80)!r} is no name of an export", "use letters, digits, dots, - and _")
    place = (out or exports.folder()).expanduser().absolute() / source.name
    waiting = lambda: tell(Step(f"waiting for another export of {source.name}"))  # noqa: E731
    with files.lock(place.with_name(f".{source.name}.lock"), waiting):
        try:
            with files.whole_folder(place) as folder:
                files.need_space(folder, needed_bytes(source, wanted or ("Q8_0", "Q4_K_M")))
                found = _made(source, wanted, folder, tell, adapter_only=adapter_only, adapter_modelfile=adapter_modelfile)
                if not found.export.passed:
                    raise _Failed(found, _kept(folder, place) if keep_failed else None)
        except _Failed as failed:
            return Exported(None, failed.found.export, failed.found.why, failed.found.notes, failed.kept, failed.found.parts)
    return replace(found, folder=place)


def finished(folder: Path, export: Export, ollama: str, checks: Sequence[Check], kept: Sequence[Path]) -> Export:
    """The export with its name on an Ollama server, written into its export.json. kept: files that were laid beside it for that."""
    fresh = [described_file(one, "other") for one in kept]
    names = {one.name for one in fresh}
    found = export.model_copy(
        update={
            "ollama": ollama,
            "checks": (*(one for one in export.checks if not one.name.startswith("ollama")), *checks),
            "files": (*(one for one in export.files if one.name not in names), *fresh),
        }
    )
    write(folder, found)
    return found


def write(folder: Path, export: Export) -> None:
    """Write export.json. Raises InputError."""
    with paths.replacing(folder / exports.FILE, 0o644) as out:
        out.write(export.model_dump_json(indent=1).encode() + b"\n")


def described_file(path: Path, kind: Literal["model", "adapter", "modelfile", "other"], form: str = "") -> File:
    """A file of the export with its size and digest."""
    return File(name=path.name, kind=kind, form=form, bytes=path.stat().st_size, sha256=files.sha256(path))


class _Failed(Exception):
    """A check failed; never leaves this module."""

    def __init__(self, found: Exported, kept: Path | None) -> None:
        super().__init__()
        self.found, self.kept = found, kept


def _made(
    source: Source, forms: Sequence[str], folder: Path, tell: Tell, *, adapter_only: bool, adapter_modelfile: bool
) -> Exported:
    """The whole export in `folder`, with its export.json."""
    course = Course(source, forms, folder, tell)
    course.adapter()
    told: Parts | None = None
    if adapter_only:
        course.alone()
    else:
        course.model()
        course.verified()
        course.quantised()
        course.measured()
        course.answers()
        told = _described(source, course.made, folder, adapter_modelfile=adapter_modelfile)
    shutil.rmtree(folder / WORK, ignore_errors=True)
    tell(Step("computing digests"))
    found = _export(source, course.made, folder)
    write(folder, found)
    asked = course.made.reference.validation[:PROMPTS] if course.made.reference else ()
    notes = tuple(dict.fromkeys(course.made.notes))
    return Exported(folder, found, course.made.why, notes, None, told, tuple(tuple(one.messages) for one in asked))


def _described(source: Source, made: Made, folder: Path, *, adapter_modelfile: bool) -> Parts:
    told, checks = described.parts(source, made)
    made.checks += checks
    described.write(folder, told)
    if adapter_modelfile:
        base = source.base_gguf or folder / WORK / "base-F16.gguf"
        if not base.is_file():
            raise InputError(
                "the base of the adapter was not made, so that no Modelfile can name it", "leave --adapter-modelfile out"
            )
        described.write_for_adapter(folder, told, made.adapters["F32"], base)
    return told


def _export(source: Source, made: Made, folder: Path) -> Export:
    listed = [described_file(file, "adapter", form) for form, file in made.adapters.items()]
    for form, file in made.forms.items():
        one = described_file(file, "model", form)
        fallbacks = tuple(f"{each.tensor}: {each.wanted} -> {each.used}" for each in made.fallbacks.get(form, ()))
        listed.append(one.model_copy(update={"fallbacks": fallbacks}))
    for name, kind in ((described.MODELFILE, "modelfile"), (described.ADAPTER_MODELFILE, "modelfile"), (described.BASE, "other")):
        if (folder / name).is_file():
            listed.append(described_file(folder / name, kind))  # type: ignore[arg-type]
    if source.failed_gates:
        made.checks.insert(0, Check(name="gates", passed=None, note=f"the run did NOT pass its gates: {source.failed_gates}"))
    return Export(
        name=source.name,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        run=source.run.name,
        domain=source.domain,
        base=source.base,
        chosen=made.chosen,
        files=tuple(listed),
        checks=tuple(made.checks),
        figures=_plain(made.figures),
        versions=_versions(),
    )


def _plain(figures: Mapping[str, Mapping[str, float | str]]) -> dict[str, dict[str, float | str]]:
    return {name: dict(one) for name, one in figures.items()}


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _kept(folder: Path, place: Path) -> Path:
    """Leave the folder of a failed export under a hidden name, which the next export of this name removes."""
    target = place.with_name(f".{place.name}.{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.part")
    os.rename(folder, target)
    return target
