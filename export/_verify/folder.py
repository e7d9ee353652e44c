"""What can be checked of an export's files alone, which may come from anywhere: digests, headers, loading, the Modelfile.

Not covered: whether a model says what it was trained to say (`numerics`, `spelling`).
"""

import stat
from collections.abc import Iterator
from pathlib import Path

from data import exports, paths
from data.errors import EngineUnavailable, InputError, ModelInvalid, ModelMissing
from data.exports import Check, Export, File
from data.sanitise import one_line
from export import files, modelfile
from export._exporting import described
from export._template.shapes import SHAPES
from export._verify import computing
from export._verify.computing import Spelled
from router.engines._llamacpp import header

MODELFILE_BYTES = 4 << 20
SHOWN = 5  # foreign files that are named


def whole(folder: Path, export: Export) -> Iterator[Check]:
    """Each file: there, no link, of its size and digest, and a sound GGUF file of its kind where it is one."""
    for file in export.files:
        fault = _fault(folder / file.name, file)
        yield Check(name="file", of=file.name, passed=not fault, note=fault or "as it was written")
        if not fault and file.kind in ("model", "adapter"):
            yield _sound(folder / file.name, file)
    if not export.files or (export.chosen and export.model() is None):
        yield Check(name="file", passed=False, note="export.json names no file of the chosen form")
    known = {exports.FILE, *(file.name for file in export.files)}
    foreign = sorted(one.name for one in folder.iterdir() if one.name not in known and not one.name.startswith("."))
    if foreign:
        named = one_line(", ".join(foreign[:SHOWN]), 200)
        yield Check(name="other files", passed=None, note=f"not checked: export.json does not name {named}")


def loaded(folder: Path, file: File) -> tuple[Check, Spelled | None]:
    """Whether llama.cpp loads a model, tried in a child process, and what it reads."""
    try:
        found = computing.spell(folder / file.name, [], list(SHAPES.values()), None)
    except ModelInvalid as error:
        return Check(name="loads", of=file.name, passed=False, note=one_line(error.what, 300)), None
    except EngineUnavailable as error:
        return Check(name="loads", of=file.name, passed=None, note=f"not checked: {one_line(error.what, 200)}"), None
    return Check(name="loads", of=file.name, passed=True, note="loaded in a process of its own"), found


def attached(folder: Path, file: File, base: Path | None) -> Check:
    """Whether llama.cpp attaches an adapter to its base."""
    if base is None:
        return Check(name="loads", of=file.name, passed=None, note="not checked: its base is not here as a GGUF file")
    try:
        computing.answer(base, folder / file.name, [[0, 1]], 1)
    except ModelInvalid as error:
        return Check(name="loads", of=file.name, passed=False, note=one_line(error.what, 300))
    except EngineUnavailable as error:
        return Check(name="loads", of=file.name, passed=None, note=f"not checked: {one_line(error.what, 200)}")
    return Check(name="loads", of=file.name, passed=True, note="attached to its base in a process of its own")


def modelfiles(folder: Path, export: Export, spelled: Spelled | None) -> Iterator[Check]:
    """Whether each Modelfile is read as Ollama reads it, names files of the export, and its TEMPLATE writes the model's prompts."""
    there = {file.name for file in export.files}
    for file in (one for one in export.files if one.kind == "modelfile"):
        try:
            told = modelfile.parse(paths.read_text(folder / file.name, MODELFILE_BYTES, "a Modelfile is smaller"))
        except InputError as error:
            yield Check(name="Modelfile", of=file.name, passed=False, note=one_line(error.what, 300))
            continue
        strange = [name for name in (told.model_file, told.adapter_file) if name and name not in there]
        note = f"it names {one_line(strange[0], 80)}, which is not part of the export" if strange else "read as Ollama reads it"
        yield Check(name="Modelfile", of=file.name, passed=not strange and bool(told.model_file), note=note)
        yield _template(file.name, told, spelled)


def _template(name: str, told: modelfile.Parts, spelled: Spelled | None) -> Check:
    if told.template is None:
        return Check(name="template", of=name, passed=None, note="not checked: it has no TEMPLATE, the model's own is used")
    if spelled is None:
        return Check(name="template", of=name, passed=None, note="not checked: the model does not load")
    try:
        wrong = described.differing(told, spelled)
    except (ModelInvalid, InputError) as error:
        return Check(name="template", of=name, passed=False, note=one_line(error.what, 300))
    note = (
        f"other prompts for: {', '.join(wrong[:SHOWN])}" if wrong else f"the model's own prompts over {len(SHAPES)} conversations"
    )
    return Check(name="template", of=name, passed=not wrong, value=len(wrong), limit=0, note=note)


def _fault(path: Path, file: File) -> str:
    """What is wrong with a file, "" for nothing. Its size is compared before its bytes are read."""
    try:
        found = path.lstat()
    except OSError:
        return "it is missing"
    if not stat.S_ISREG(found.st_mode):
        return "it is no regular file"
    if found.st_size != file.bytes:
        return f"it has {found.st_size:,} bytes, and {file.bytes:,} in export.json"
    digest = files.sha256(path)
    return "" if digest == file.sha256 else f"its SHA-256 is {digest[:16]}…, and {one_line(file.sha256[:16])}… in export.json"


def _sound(path: Path, file: File) -> Check:
    try:
        found = header.check(path)
    except (ModelInvalid, ModelMissing) as error:
        return Check(name="header", of=file.name, passed=False, note=one_line(error.what, 300))
    kind = "adapter" if found.is_adapter else "model"
    note = f"a sound GGUF file: {kind} of the family {one_line(found.architecture, 40)}"
    return Check(name="header", of=file.name, passed=kind == file.kind, note=note)
