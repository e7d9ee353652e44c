"""Everything that Pointsman keeps of its user, as one zip file of plain text: JSON lines, JSON, TOML, CSV, HTML.

    log.jsonl         every branch of every conversation with its feedback, as `pointsman log export`
    documents.jsonl   documents of the library and of conversations, by chunks
    routes.json  registry.json
    files/            settings, rules, domains, datasets, runs, exports and diagnostic files, as they lie in Pointsman's folders
    README.txt
Passwords and keys in the settings are masked. Not covered: weights, unless asked for; caches, which hold nothing else; reading it
back in.
"""

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import paths
from data.errors import InputError

if TYPE_CHECKING:
    from data.store import Store

WEIGHTS = (".gguf", ".safetensors", ".npz", ".pt", ".pth", ".bin")
_SECRET = re.compile(rb"""^(\s*(?:api_key|token)\s*=\s*)(?:"[^"\n]*"|'[^'\n]*')""", re.MULTILINE)
_DATE = (2026, 1, 1, 0, 0, 0)
README = """\
What Pointsman keeps of you, exported by `pointsman log export --everything`.

log.jsonl        one line a branch of a conversation: its messages, which model answered, and what you said about it
documents.jsonl  one line a chunk of a document that you added
routes.json      routes that you corrected
registry.json    model versions, their history, gate decisions and experiments
files/           the files of Pointsman's folders: settings (keys masked), rules, domains, datasets, runs, exports, diagnostics
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """How much is in the file: branches of conversations, chunks of documents, other files, and the bytes of the zip."""

    branches: int
    chunks: int
    files: int
    size_bytes: int


def export(store: "Store", target: Path, *, weights: bool = False) -> Exported:
    """Write the zip, whole or not at all. weights: with the weights of runs and exports. Raises InputError, StoreError."""
    target = target.expanduser().absolute()
    with paths.replacing(target) as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, "README.txt", README.encode())
        branches = _lines(archive, "log.jsonl", store.log.export())
        chunks = _lines(archive, "documents.jsonl", _chunks(store))
        _put(archive, "routes.json", _json([asdict(one) for one in store.routing.exemplars()]))
        _put(archive, "registry.json", _json(_registry(store)))
        files = 0
        for kind, file, inside in _files(target, weights):
            _file(archive, f"files/{kind}/{inside.as_posix()}", file)
            files += 1
    return Exported(branches, chunks, files, target.stat().st_size)


def _registry(store: "Store") -> dict[str, Any]:
    registry = store.registry
    versions = registry.versions()
    return {
        "versions": [asdict(one) for one in versions],
        "history": [asdict(one) for one in registry.history()],
        "decisions": [asdict(decision) for one in versions for decision in registry.decisions(one.id)],
        "experiments": [asdict(one) for one in store.experiments.all()],
    }


def _chunks(store: "Store") -> Iterator[dict[str, Any]]:
    from sqlalchemy import select

    from data.store.tables import chunk, document
    from data.store.words import without_seams

    query = select(document.c.path, document.c.conversation_id, chunk.c.number, chunk.c.heading, chunk.c.body)
    with store.database.read() as connection:
        for row in connection.execute(query.join_from(chunk, document).order_by(document.c.path, chunk.c.number)):
            yield {
                "document": row.path,
                "conversation": row.conversation_id or "",
                "number": row.number,
                "heading": without_seams(row.heading),
                "text": without_seams(row.body),
            }


def _files(target: Path, weights: bool) -> Iterator[tuple[str, Path, Path]]:
    """Kind of folder, file, and its path within: all but the store's own files, locks and what is under way."""
    for kind, root in (("config", paths.config_dir()), ("data", paths.data_dir()), ("log", paths.log_dir())):
        for file in sorted(root.rglob("*")):
            inside = file.relative_to(root)
            hidden = any(part.startswith(".") for part in inside.parts)
            if hidden or file.is_symlink() or not file.is_file() or file == target or file.name.endswith(".lock"):
                continue
            if file.name.startswith("pointsman.db") or (file.suffix in WEIGHTS and not weights):
                continue
            yield kind, file, inside


def _file(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    try:
        if file == paths.settings_file():
            _put(archive, name, _SECRET.sub(rb'\1"********"', file.read_bytes()))
        else:
            with file.open("rb") as source, archive.open(_info(name), "w", force_zip64=True) as out:
                while piece := source.read(1 << 20):
                    out.write(piece)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}", "make it readable") from error


def _lines(archive: zipfile.ZipFile, name: str, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with archive.open(_info(name), "w", force_zip64=True) as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n")
            count += 1
    return count


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    with archive.open(_info(name), "w") as out:
        out.write(content)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str).encode("utf-8", "replace") + b"\n"
