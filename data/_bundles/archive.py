"""The zip archive of a bundle, written the same way each time and read as if an enemy had made it.

Before a byte is unpacked: the directory stands at the end, alone, small, and is read by its own record; every name is one that a
bundle has; no entry is a link, encrypted, or in another's place; weights are stored, never compressed; sizes agree with those of
bundle.json, whose own limits bound what texts can swell to. While unpacking, sizes and SHA-256 are held against bundle.json.
Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16. Not covered: what the files say (`tui.bundling`).
"""

import hashlib
import io
import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from data import bundles, paths
from data.bundles import Bundle, Entry, Tell
from data.errors import InputError
from data.sanitise import one_line

HEAD_BYTES = 1 << 20
"""Of bundle.json at most."""
DIRECTORY_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can say
_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_END_BYTES, _END_64_BYTES, _LOCATOR_BYTES = 22, 56, 20
_LOCAL_BYTES = 30
_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError)
"""What zipfile raises for an archive that is not sound."""
_AGAIN = "ask for the bundle again"


@dataclass(frozen=True, slots=True)
class Archive:
    """An open bundle. digest: SHA-256 of its bundle.json."""

    path: Path
    bundle: Bundle
    digest: str
    _zip: zipfile.ZipFile

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> "Iterator[Archive]":
        """See `data.bundles.opened`."""
        with _regular(path) as file:
            try:
                _require_directory(file)
                found = zipfile.ZipFile(file)
                infos = _entries(found, file)
                raw = b"".join(_pieces(found, infos[bundles.FILE], HEAD_BYTES))
            except _FAULTS as error:
                raise _unsound(path, str(error)) from error
            bundle = _head(path, raw)
            try:
                _require_same(bundle, infos)
            except ValueError as error:
                raise _unsound(path, str(error)) from error
            yield cls(path, bundle, hashlib.sha256(raw).hexdigest(), found)

    def unpack(self, part: str, folder: Path, tell: Tell = bundles.silent, without: tuple[str, ...] = ()) -> None:
        """Write the files of `RUN` or `EXPORT` below the folder, which is there and empty, each on disk when this returns.

        Raises InputError where one is not what bundle.json says, or cannot be written.
        """
        wanted = [one for one in self.bundle.part(part) if one.name not in without]
        of = sum(one.bytes for one in wanted)
        done = 0
        for entry in wanted:
            target = folder / entry.name.removeprefix(part)
            paths.ensure(target.parent)
            for size in self._unpacked(entry, target):
                done += size
                tell(entry.name, done, of)

    def _unpacked(self, entry: Entry, target: Path) -> Iterator[int]:
        sha = hashlib.sha256()
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
            with os.fdopen(descriptor, "wb") as out:
                for piece in _pieces(self._zip, self._zip.getinfo(entry.name), entry.bytes):
                    sha.update(piece)
                    out.write(piece)
                    yield len(piece)
                out.flush()
                os.fsync(out.fileno())
        except _FAULTS as error:
            raise _unsound(self.path, f"{entry.name}: {error}") from error
        except OSError as error:
            raise InputError(f"cannot write {target}: {error.strerror or error}", "free space, or import elsewhere") from error
        if sha.hexdigest() != entry.sha256:
            raise _unsound(self.path, f"{entry.name} has the SHA-256 {sha.hexdigest()[:16]}…, not {entry.sha256[:16]}…")


def write(target: Path, said: Mapping[str, Any], sources: Mapping[str, Path | bytes], tell: Tell) -> Bundle:
    """See `data.bundles.write`. said: bundle.json without its files."""
    entries = tuple(entry(name, sources[name]) for name in sorted(sources))
    try:
        bundle = Bundle(files=entries, **said)
    except ValidationError as error:
        raise InputError(f"it makes no bundle: {_first(error)}", "leave the larger files out, or train it again") from error
    of, done = sum(one.bytes for one in entries), 0
    with paths.replacing(target) as out, zipfile.ZipFile(out, "w") as made:
        head = json.dumps(bundle.model_dump(mode="json"), indent=1, sort_keys=True).encode() + b"\n"
        with made.open(_info(bundles.FILE, False, len(head)), "w") as part:
            part.write(head)
        for one in entries:
            sha = hashlib.sha256()
            with _source(sources[one.name]) as file, made.open(_info(one.name, one.stored, one.bytes), "w") as part:
                while piece := file.read(_PIECE_BYTES):
                    sha.update(piece)
                    part.write(piece)
                    done += len(piece)
                    tell(one.name, done, of)
            if sha.hexdigest() != one.sha256:
                raise InputError(f"{one.name} changed while it was read", "try again when nothing writes there")
    return bundle


def entry(name: str, source: Path | bytes) -> Entry:
    """See `data.bundles.entry`."""
    sha, size = hashlib.sha256(), 0
    with _source(source) as file:
        while piece := file.read(_PIECE_BYTES):
            sha.update(piece)
            size += len(piece)
    try:
        return Entry(name=name, bytes=size, sha256=sha.hexdigest())
    except ValidationError as error:
        raise InputError(f"it makes no bundle: {_first(error)}", "name the file otherwise") from error


@contextmanager
def _source(source: Path | bytes) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    with _regular(source) as file:
        yield file


@contextmanager
def _regular(path: Path) -> Iterator[IO[bytes]]:
    """A regular file, opened for reading. Raises InputError for anything else: a device or a pipe could block for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read {path}: {reason}", "give a bundle that is there") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is no regular file", "give a file")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _info(name: str, stored: bool, size_bytes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system = 3  # Unix, whose mode bits follow
    info.external_attr = (stat.S_IFREG | 0o600) << 16
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    info.file_size = size_bytes
    return info


def _require_directory(file: IO[bytes]) -> None:
    """Raise ValueError unless the file ends in a directory of a bundle's size with nothing before, between and after."""
    size = file.seek(0, os.SEEK_END)
    if size < _END_BYTES:
        raise ValueError("it is no zip archive")
    file.seek(size - _END_BYTES)
    magic, disk, first, here, count, length, offset, comment = struct.unpack("<4s4H2LH", file.read(_END_BYTES))
    if magic != _END or comment:
        raise ValueError("it is no zip archive, or something stands behind its end")
    end = size - _END_BYTES
    file.seek(max(end - _LOCATOR_BYTES, 0))
    if file.read(len(_LOCATOR_64)) == _LOCATOR_64:  # from 2 GB on, though only from 4 GB on the numbers above do not hold it
        end, here, count, length, offset = _large_directory(file, end)
    if disk or first or here != count:
        raise ValueError("it is one part of several")
    if not 0 < count <= bundles.MOST_FILES + 1 or length > DIRECTORY_BYTES:
        raise ValueError(f"it has {count:,} files")
    if offset + length != end:
        raise ValueError("its directory is not where it says")
    file.seek(0)


def _large_directory(file: IO[bytes], end: int) -> tuple[int, int, int, int, int]:
    """Of a large archive: where the directory ends, entries here and in all, its bytes and its place."""
    begin = end - _LOCATOR_BYTES - _END_64_BYTES
    if begin < 0:
        raise ValueError("its directory is not where it says")
    file.seek(begin)
    raw = file.read(_END_64_BYTES + _LOCATOR_BYTES)
    magic, _, _, _, disk, first, here, count, length, offset = struct.unpack("<4sQ2H2L4Q", raw[:_END_64_BYTES])
    locator, _, at, _ = struct.unpack("<4sLQL", raw[_END_64_BYTES:])
    if magic != _END_64 or locator != _LOCATOR_64 or at != begin or disk or first:
        raise ValueError("its directory is not where it says")
    return begin, here, count, length, offset


def _entries(found: zipfile.ZipFile, file: IO[bytes]) -> dict[str, zipfile.ZipInfo]:
    """The archive's entries by name. Raises ValueError for whatever no bundle has."""
    infos = found.infolist()
    for info in infos:
        shown = one_line(info.orig_filename, 80)
        if info.filename != info.orig_filename or not (info.filename == bundles.FILE or bundles.known(info.filename)):
            raise ValueError(f"a bundle has no file {shown!r}")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise ValueError(f"{shown} is no regular file")
        if info.flag_bits & 0x1:
            raise ValueError(f"{shown} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{shown} is compressed in a way that no bundle uses")
    names = [info.filename for info in infos]
    if len({name.casefold() for name in names}) < len(names):
        raise ValueError("a file stands twice")
    if bundles.FILE not in names:
        raise ValueError(f"it has no {bundles.FILE}")
    _require_apart(infos, found.start_dir)
    if not 0 < found.getinfo(bundles.FILE).file_size <= HEAD_BYTES:
        raise ValueError(f"{bundles.FILE} is too large")
    return {info.filename: info for info in infos}


def _require_apart(infos: list[zipfile.ZipInfo], directory: int) -> None:
    """Raise ValueError where two entries share bytes, by which a small archive can hold a huge one (Fifield 2019)."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in ordered[1:]), directory]
    for info, end in zip(ordered, ends, strict=True):
        if info.header_offset < 0 or info.header_offset + _LOCAL_BYTES + len(info.filename) + info.compress_size > end:
            raise ValueError(f"{info.filename} stands in the place of another file")


def _require_same(bundle: Bundle, infos: Mapping[str, zipfile.ZipInfo]) -> None:
    """Raise ValueError where bundle.json and the archive's directory differ."""
    named = {one.name for one in bundle.files}
    if odd := sorted(named ^ (set(infos) - {bundles.FILE})):
        raise ValueError(f"{odd[0]} is {'missing' if odd[0] in named else f'not in {bundles.FILE}'}")
    for entry in bundle.files:
        info = infos[entry.name]
        if info.file_size != entry.bytes:
            raise ValueError(f"{entry.name} has {info.file_size:,} bytes, and {bundles.FILE} says {entry.bytes:,}")
        if entry.stored and (info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size):
            raise ValueError(f"{entry.name} is compressed, and weights are not")


def _pieces(found: zipfile.ZipFile, info: zipfile.ZipInfo, most_bytes: int) -> Iterator[bytes]:
    """The bytes of an entry, a piece at a time. Raises ValueError beyond `most_bytes`, and what zipfile raises."""
    size = 0
    with found.open(info) as part:
        while piece := part.read(_PIECE_BYTES):
            size += len(piece)
            if size > most_bytes:
                raise ValueError(f"{info.filename} is larger than it says")
            yield piece


def _head(path: Path, raw: bytes) -> Bundle:
    try:
        found = json.loads(raw, object_pairs_hook=_unique)
        version = found.get("version") if isinstance(found, dict) else None
        if isinstance(version, int) and version > 1:
            raise InputError(f"{path} is a bundle of version {version}, and this Pointsman reads 1", "use the newer Pointsman")
        return Bundle.model_validate(found)
    except ValidationError as error:
        raise _unsound(path, f"{bundles.FILE}: {_first(error)}") from error
    except (ValueError, RecursionError) as error:
        raise _unsound(path, f"{bundles.FILE} is not valid JSON") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return one_line(f"{where}: {first['msg']}", 200)


def _unsound(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is no sound bundle: {one_line(reason, 300)}", _AGAIN)
