"""The manifest of a dataset folder: what went in, what was done, what came out, and the SHA-256 of every file.

It holds no time, no path of the machine and nothing that differs between two builds of the same inputs. A dataset is known by the
SHA-256 of its manifest's bytes, which names every other file's. Not covered: how the files are made (`build`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.errors import InputError, NotFound
from data.sanitise import one_line

FILE = "manifest.json"
VERSION = 1
"""Of this format; a reader refuses a newer one."""
LARGEST_BYTES = 64 << 20
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)

_Count = Annotated[int, Field(ge=0)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceNote(_Part):
    """One source: the name as it was given, the SHA-256 of its content, its licence, and how many rows were read from it."""

    name: str
    sha256: str
    licence: str = ""
    rows: _Count = 0


class FileNote(_Part):
    """One file of the folder. rows: lines of a JSONL file, 0 for any other."""

    name: str
    rows: _Count
    bytes: _Count
    sha256: _Sha256


class Counts(_Part):
    """Rows by what became of them; read = kept + quarantined + exact_duplicates + near_duplicates, as `check` verifies.

    by_filter: of the quarantined, by the filter that refused them; by_label: of the kept, by label and split; lines: of the splits'
    files, where a format makes several of a row; cleaned: what cleaning changed, by kind.
    """

    read: _Count = 0
    kept: _Count = 0
    quarantined: _Count = 0
    exact_duplicates: _Count = 0
    near_duplicates: _Count = 0
    truncated: _Count = 0
    by_filter: dict[str, _Count] = {}
    by_split: dict[str, _Count] = {}
    by_label: dict[str, dict[str, _Count]] = {}
    by_shape: dict[str, _Count] = {}
    lines: dict[str, _Count] = {}
    cleaned: dict[str, _Count] = {}

    def faults(self) -> list[str]:
        """Which sums do not add up, in words."""
        found = []
        duplicates = self.exact_duplicates + self.near_duplicates
        if self.read != self.kept + self.quarantined + duplicates:
            found.append(f"{self.read} rows read, but {self.kept} kept + {self.quarantined} quarantined + {duplicates} duplicates")
        for what, wanted, parts in (
            ("filter", self.quarantined, self.by_filter),
            ("split", self.kept, self.by_split),
            ("shape", self.kept, self.by_shape),
        ):
            if sum(parts.values()) != wanted:
                found.append(f"the counts by {what} make {sum(parts.values())}, not {wanted}")
        return found


class Lengths(_Part):
    """How long the kept rows are: characters and, where a tokeniser was at hand, tokens; quantile -> length."""

    unit: str
    mean: float = 0.0
    quantiles: dict[str, float] = {}


class ChainCounts(_Part):
    """Reasoning of the kept rows by where it comes from; refused: chains that named what is not in the text."""

    by_source: dict[str, _Count] = {}
    by_model: dict[str, _Count] = {}
    refused: _Count = 0


class Manifest(_Part):
    """manifest.json. options: those of the build that can change its bytes; made_with: the versions that can; redactions: finds in
    all rows that were read, by kind."""

    name: str
    version: int = VERSION
    domain: str = ""
    domain_sha256: str = ""
    format: str = "rows"
    seed: int = 0
    options: dict[str, Any] = {}
    made_with: dict[str, str] = {}
    sources: tuple[SourceNote, ...] = ()
    files: tuple[FileNote, ...] = ()
    counts: Counts = Counts()
    redactions: dict[str, _Count] = {}
    lengths: tuple[Lengths, ...] = ()
    chains: ChainCounts = ChainCounts()
    licences: dict[str, _Count] = {}
    warnings: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The file's bytes: sorted keys, UTF-8, one trailing newline."""
        text = json.dumps(self.model_dump(mode="json"), ensure_ascii=False, sort_keys=True, indent=1)
        return (text + "\n").encode("utf-8", "backslashreplace")


def read(folder: Path) -> Manifest:
    """The manifest of a dataset folder. Raises NotFound where there is none, InputError where it is no manifest of this version."""
    file = folder / FILE
    if not file.is_file():
        raise NotFound(
            f"{folder} holds no {FILE}, so it is no dataset", "make one: pointsman data build DOMAIN --source FILE --out DIR"
        )
    try:
        if file.stat().st_size > LARGEST_BYTES:
            raise InputError(f"{file} is larger than {LARGEST_BYTES >> 20} MB, so it is no manifest", "build the dataset again")
        found = json.loads(file.read_bytes())
        version = found.get("version") if isinstance(found, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise InputError(f"{file} has version {version}, and this Pointsman reads {VERSION}", "use the newer Pointsman")
        return Manifest.model_validate(found)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}", "make it readable") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{file}: {one_line(where)}: {first['msg']}", "build the dataset again") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not valid JSON: {one_line(str(error), 120)}", "build the dataset again") from error


def digest(folder: Path) -> str:
    """The dataset's own SHA-256: that of its manifest's bytes, in hexadecimal. Raises NotFound."""
    read(folder)
    return hashlib.sha256((folder / FILE).read_bytes()).hexdigest()


def check(folder: Path, progress: Callable[[float, float], None] = lambda done, of: None) -> list[str]:
    """What is not as the manifest says, in words: missing, changed and foreign files, line counts and sums that do not add up.

    progress: bytes read of bytes in all. Raises NotFound and InputError as `read` does.
    """
    manifest = read(folder)
    faults = manifest.counts.faults()
    whole, done = sum(note.bytes for note in manifest.files), 0
    for note in manifest.files:
        faults += _file_faults(folder, note, lambda count, before=done: progress(before + count, whole))  # type: ignore[misc]
        done += note.bytes
    for split, lines in manifest.counts.lines.items():
        listed = [note.rows for note in manifest.files if note.name == f"{split}.jsonl"]
        if listed != [lines]:
            faults.append(f"{split}.jsonl: {lines} lines are counted, and {listed[0] if listed else 'none'} listed")
    known = {note.name for note in manifest.files} | {FILE}
    faults += [f"{one_line(file.name)}: not in the manifest" for file in sorted(folder.iterdir()) if file.name not in known]
    return faults


def note_of(file: Path) -> FileNote:
    """A file's name, lines (of JSONL), bytes and SHA-256, read in pieces."""
    sha, rows, size = hashlib.sha256(), 0, 0
    for piece in _pieces(file):
        sha.update(piece)
        size += len(piece)
        rows += piece.count(b"\n") if file.suffix == ".jsonl" else 0
    return FileNote(name=file.name, rows=rows, bytes=size, sha256=sha.hexdigest())


def _file_faults(folder: Path, note: FileNote, progress: Callable[[float], None]) -> list[str]:
    shown = one_line(note.name)
    if Path(note.name).name != note.name:
        return [f"{shown}: a path, not the name of a file in this folder"]
    file = folder / note.name
    if file.is_symlink() or not file.is_file():
        return [f"{shown}: missing, or no plain file"]
    try:
        found = note_of(file)
    except OSError as error:
        return [f"{shown}: cannot be read: {error.strerror or error}"]
    progress(found.bytes)
    faults = [] if found.bytes == note.bytes else [f"{shown}: {found.bytes} bytes, {note.bytes} in the manifest"]
    if found.rows != note.rows:
        faults.append(f"{shown}: {found.rows} lines, {note.rows} in the manifest")
    if found.sha256 != note.sha256:
        faults.append(f"{shown}: its SHA-256 is {found.sha256[:16]}…, {note.sha256[:16]}… in the manifest")
    return faults


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(1 << 20):
            yield piece
