"""Data sets of the Hugging Face hub: `owner/name[@revision][#config[/split]]`, their data files and nothing else.

The revision is resolved to a commit once, so that all files are of one state, and only Parquet, JSON, CSV and TSV files are
fetched, into the cache folder. Loading scripts and pickles are never fetched, let alone run. HF_ENDPOINT names another server,
as it does for the hub's own library. Not covered: gated data sets without a token, and writing to the hub.
"""

import fnmatch
import functools
import hashlib
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from data import paths
from data.config import require_network
from data.datasets._sources.base import SPLITS, Progress, silent
from data.datasets._sources.files import FORMATS, FileSource, open_file
from data.datasets._sources.licences import permissive
from data.datasets._sources.shapes import Shaper
from data.datasets.rows import Refused, Row, Split
from data.errors import InputError
from data.sanitise import one_line

ENDPOINT = "https://huggingface.co"
PREFERRED = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""One format is read, so that no row comes twice where a data set has several."""
_GIVEN = re.compile(r"([\w.-]+/)?([\w.-]+)(?:@([\w./-]+))?(?:#([^/#]*)(?:/([^/#]+))?)?")
_NO_DATA = frozenset({"dataset_infos.json", "dataset_info.json", "state.json", "config.json", "package.json", "metadata.json"})
_SPLIT = re.compile(rf"(?:^|[/_.\- ])({'|'.join(SPLITS)})(?=[/_.\- \d]|$)", re.IGNORECASE)
_HIGHEST_COUNT = 10_000  # files
_COMMIT = re.compile(r"[0-9a-f]{40}")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HubFile:
    """A data file of the repository and the split that it belongs to."""

    path: str
    split: Split | Literal[""]


@dataclass(frozen=True, slots=True)
class HubSource:
    """Files of one commit. name: `hf:owner/name@commit`, the commit shortened."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]
    name: str
    licence: str
    shaper: Shaper
    labelled: bool

    def rows(self, progress: Progress = silent) -> Iterator[Row | Refused]:
        """See Source.rows. Files are fetched one after another and kept; progress counts each as it comes and as it is read."""
        for file in self.files:
            yield from self._opened(file, progress).rows(progress)

    def digest(self) -> str:
        """sha256 over the names and contents of the files."""
        sha256 = hashlib.sha256()
        for file in self.files:
            sha256.update(f"{file.path}\0{self._opened(file).digest()}\n".encode())
        return sha256.hexdigest()

    def _opened(self, file: HubFile, progress: Progress = silent) -> FileSource:
        path = download(self.repository, file.path, self.commit, progress)
        kind = FORMATS[_ending(file.path)]
        return open_file(path, self.shaper, kind, name=f"{self.name}/{file.path}", labelled=self.labelled, split=file.split)


def open_hub(given: str, shaper: Shaper, licences: str, labelled: bool) -> HubSource:
    """The data files of a hub data set. Raises Offline, and InputError where there is none or it cannot be reached."""
    asked = _GIVEN.fullmatch(given)
    if asked is None:
        raise InputError(f"{one_line(given, 100)!r} is no data set of the hub", "write hf:owner/name@revision#config/split")
    repository = f"{asked[1] or ''}{asked[2]}"
    found = look_up(repository, asked[3] or "main")
    licence = one_line(found.licence or shaper.licence, 80)
    if licences == "permissive" and not permissive(licence):
        said = f"the licence of {repository} is {licence or 'not known'}"
        raise InputError(f"{said}, and only permissive ones are allowed", "say its licence, or allow any")
    files = choose(repository, found.files, found.configs, asked[4] or "", asked[5] or "")
    return HubSource(
        repository,
        found.commit,
        files,
        f"hf:{repository}@{found.commit[:12]}",
        licence,
        replace(shaper, licence=licence),
        labelled,
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """What the hub says of a data set; configs: of its README's head, as they stand there."""

    commit: str
    files: tuple[str, ...]
    licence: str
    configs: tuple[Mapping[str, Any], ...]


def look_up(repository: str, revision: str) -> Listing:
    """Ask the hub for the files of a revision. Raises Offline and InputError."""
    server = _allowed(repository)

    def ask() -> Any:
        import huggingface_hub

        return huggingface_hub.HfApi(endpoint=server).dataset_info(repository, revision=revision, timeout=30)

    found = _translated(repository, ask)
    if not _COMMIT.fullmatch(str(found.sha)):
        raise InputError(f"the hub names no commit for hf:{repository}", "try again, or name another revision")
    names = [sibling.rfilename for sibling in found.siblings or ()]
    card = found.card_data.to_dict() if found.card_data else {}
    licence = card.get("license") or ""
    configs = card.get("configs") or ()
    return Listing(
        str(found.sha),
        tuple(sorted(name for name in names if _is_data(name))),
        " AND ".join(map(str, licence)) if isinstance(licence, list) else str(licence),
        tuple(one for one in configs if isinstance(one, Mapping)) if isinstance(configs, list) else (),
    )


class Bar:
    """What the hub's library takes for a progress bar: it only tells `progress`."""

    def __init__(self, progress: Progress, total: int | None = None, initial: int = 0, **_: Any) -> None:
        self.total, self.n = total, initial
        self._progress = progress

    def update(self, count: float | None = 1) -> None:
        self.n += int(count or 0)
        self._progress(self.n, max(self.total or 0, self.n))

    def close(self) -> None:
        """Nothing was opened."""

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def download(repository: str, file: str, commit: str, progress: Progress = silent) -> Path:
    """A file of that commit in the cache, fetched where it is not there yet. Raises Offline and InputError."""
    folder = paths.ensure(paths.cache_dir() / "hub")

    server = _allowed(repository)

    def ask() -> str:
        import huggingface_hub

        bar: Any = functools.partial(Bar, progress)
        where = {"repo_type": "dataset", "revision": commit, "cache_dir": folder, "endpoint": server}
        return str(huggingface_hub.hf_hub_download(repository, file, tqdm_class=bar, **where))

    return Path(_translated(f"{repository}/{file}", ask))


def choose(
    repository: str, files: Sequence[str], configs: Sequence[Mapping[str, Any]], config: str, split: str
) -> tuple[HubFile, ...]:
    """The files of a configuration and split, in order, of one format. Raises InputError naming what there is instead."""
    if not split and config.casefold() in SPLITS and config not in _config_names(configs):
        config, split = "", config
    ending = next((one for one in PREFERRED if any(_ending(file) == one for file in files)), "")
    if not ending:
        raise InputError(
            f"{repository} has no Parquet, JSON, CSV or TSV file", "data sets that only come as a script or packed are not read"
        )
    found = _configured(files, configs, config, repository) if configs else None
    if found is None:
        found = _by_path([file for file in files if _ending(file) == ending], config, repository)
    if split:
        wanted = SPLITS.get(split.casefold())
        there = sorted({file.split for file in found if file.split})
        found = [file for file in found if wanted and file.split == wanted]
        if not found:
            raise InputError(f"{repository} has no split {one_line(split, 40)!r}", f"it has: {', '.join(there) or 'one, unnamed'}")
    return tuple(found[:_HIGHEST_COUNT])


def _configured(files: Sequence[str], configs: Sequence[Mapping[str, Any]], config: str, repository: str) -> list[HubFile] | None:
    """The files that the README names for a configuration; None where it names none that is there."""
    names = _config_names(configs)
    chosen = [one for one in configs if config and str(one.get("config_name")) == config]
    if not config:
        chosen = [one for one in configs if one.get("default") or one.get("config_name") == "default"] or list(configs[:1])
        if len(configs) > 1 and chosen[0] is configs[0] and not chosen[0].get("default") and names[0] != "default":
            raise InputError(f"{repository} has several configurations: {one_line(', '.join(names), 200)}", "name one: hf:…#config")
    if not chosen:
        raise InputError(
            f"{repository} has no configuration {one_line(config, 60)!r}", f"it has: {one_line(', '.join(names), 200)}"
        )
    found: dict[str, HubFile] = {}
    for split, pattern in _patterns(chosen[0].get("data_files")):
        for file in files:
            if fnmatch.fnmatchcase(file, pattern.removeprefix("./")):
                found.setdefault(file, HubFile(file, SPLITS.get(split.casefold(), "") if split else _split_of(file)))
    return list(found.values()) or None


def _patterns(value: Any) -> Iterator[tuple[str, str]]:
    """Split and pattern of a README's data_files: a pattern, a list of them, or {split, path} with one or a list."""
    if isinstance(value, str):
        yield "", value
    elif isinstance(value, Mapping):
        for _, pattern in _patterns(value.get("path")):
            yield str(value.get("split", "")), pattern
    elif isinstance(value, list):
        for one in value:
            yield from _patterns(one)


def _by_path(files: Sequence[str], config: str, repository: str) -> list[HubFile]:
    """Without a README's word: the configuration is a folder of that name, the split stands in the path."""
    kept = [file for file in files if not config or config in file.split("/")[:-1]]
    if not kept:
        folders = sorted({file.split("/")[0] for file in files if "/" in file})
        said = f"it has the folders {one_line(', '.join(folders), 200)}" if folders else "it has no folders"
        raise InputError(f"{repository} has no configuration {one_line(config, 60)!r}", said)
    return [HubFile(file, _split_of(file)) for file in kept]


def _split_of(file: str) -> Split | Literal[""]:
    """The split that a path names; the last one, nearest to the file, counts."""
    named = _SPLIT.findall(file)
    return SPLITS[named[-1].casefold()] if named else ""


def _config_names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(one.get("config_name", "default")) for one in configs]


def _is_data(name: str) -> bool:
    """Whether a file is data of a known format, at a path that stays within its folder."""
    parts = name.split("/")
    inside = not name.startswith("/") and "\\" not in name and "\0" not in name and not {"", ".", ".."} & set(parts)
    return inside and _ending(name) in PREFERRED and parts[-1] not in _NO_DATA and not parts[-1].startswith(".")


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].casefold()


def _allowed(repository: str) -> str:
    """The hub's address, where the network may be used; raises Offline."""
    server = os.environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT
    require_network(urllib.parse.urlsplit(server).hostname or server, f"loading hf:{repository}")
    return server


def _translated(what: str, ask: Callable[[], T]) -> T:
    """Call the hub's library with its faults as InputError."""
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise InputError(
            "loading from the hub needs huggingface_hub", "install the extra: pip install 'pointsman[data]'"
        ) from error
    try:
        return ask()
    except errors.GatedRepoError as error:
        raise InputError(f"hf:{what} is gated", "accept its terms on the hub and set HF_TOKEN") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise InputError(f"the hub has no data set {what}, or it is private", "check its name, or set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"hf:{what} has no such revision", "name a branch, tag or commit after @") from error
    except (errors.HfHubHTTPError, errors.HTTPError, OSError) as error:
        raise InputError(f"cannot load hf:{what}: {one_line(str(error), 160)}", "check the connection and try again") from error
