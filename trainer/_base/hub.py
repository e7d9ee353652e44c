"""A base from the Hugging Face hub: looked up, checked by its small files, and fetched at one commit.

Only safetensors, JSON and tokenizer files are fetched, into the cache that the hub's own library uses, so that nothing is fetched
twice. Without the network a commit that is there already is used. Not covered: what the files hold (`checkpoint`).
"""

import functools
import os
import re
import shutil
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from data.config import offline, require_network
from data.datasets._sources.hub import Bar
from data.datasets.sources import Progress
from data.errors import InputError, ModelInvalid, ModelMissing, Offline
from data.sanitise import one_line
from trainer._base import weights
from trainer._base.checkpoint import TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, Checkpoint
from trainer._base.digests import file_sha256
from trainer._base.weights import CONFIG, INDEX, ONE

ENDPOINT = "https://huggingface.co"
SMALL = (CONFIG, "generation_config.json", TOKENIZER, TOKENIZER_CONFIG, TEMPLATE, INDEX)
"""What is fetched to look at a base."""
BESIDE = ("tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")
"""What is fetched with the weights, for whom the adapter is exported."""
REPOSITORY = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SPARE_BYTES = 1 << 30  # of the disk, left free
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing:
    """What the hub says of a model: the commit, the sizes of its files in bytes, the sha256 of the large ones, parameters or 0."""

    commit: str
    sizes: Mapping[str, int]
    digests: Mapping[str, str]
    licence: str
    parameters: int


@dataclass(frozen=True)
class HubBase:
    """A repository at a revision; "": the newest."""

    repository: str
    revision: str
    progress: Progress

    def fetch(self) -> None:
        """See Source.fetch."""
        self._small.family  # noqa: B018  says what is wrong before gigabytes are fetched
        if self._listing is None:
            return
        wanted = [name for name in (*self._weights, *BESIDE) if name in self._listing.sizes]
        missing = sum(self._listing.sizes[name] for name in wanted if not self._cached(name))
        self._require_space(missing)
        for name in wanted:
            self._fetched(name)

    def identity(self) -> Any:
        """See Source.identity."""
        if self._listing is None:
            return self._small.identity()
        from trainer.base import Identity

        found, small = self._listing, self._small
        digests = {name: found.digests.get(name, "") or file_sha256(Path(self._fetched(name))) for name in self._weights}
        family = small.family
        return Identity(
            source=self.repository,
            revision=found.commit,
            family=family,
            parameters=found.parameters,
            sha256=weights.combined(digests),
            tokenizer_sha256=file_sha256(small.folder / TOKENIZER),
            template_sha256=sha256(small.template.encode()).hexdigest(),
            licence=found.licence,
            size_bytes=sum(found.sizes[name] for name in self._weights),
        )

    @property
    def place(self) -> Path:
        """See Source.place."""
        return self._small.folder

    def loaded(self, quantisation: str, policy: Any) -> tuple[Any, Any, tuple[int, ...], tuple[str, ...]]:
        """See Source.loaded."""
        return self._small.loaded(quantisation, policy)

    @cached_property
    def _listing(self) -> Listing | None:
        """None: the network is forbidden, and what is in the cache is used."""
        return None if offline() and not _is_loopback() else look_up(self.repository, self.revision or "main")

    @cached_property
    def _small(self) -> Checkpoint:
        """The checkpoint's folder with its small files in it."""
        if self._listing is None:
            folder = self._kept()
            commit = folder.name if _COMMIT.fullmatch(folder.name) else ""
            return Checkpoint(folder, self.repository, commit)
        names = set(self._listing.sizes)
        if not {ONE, INDEX} & names:
            if weights.any_pickle(names):
                raise weights.pickle_refused(self.repository)
            raise ModelInvalid(f"{self.repository} holds no safetensors", "choose the repository with the model's own weights")
        if CONFIG not in names:
            raise ModelInvalid(f"{self.repository} holds no {CONFIG}: it is no checkpoint of a model", "choose another repository")
        fetched = [Path(self._fetched(name)) for name in SMALL if name in names]
        return Checkpoint(fetched[0].parent, self.repository, self._listing.commit, self._listing.licence)

    @cached_property
    def _weights(self) -> tuple[str, ...]:
        found = self._listing
        if found is None or INDEX not in found.sizes:
            return (ONE,)
        names = weights.index((self._small.folder / INDEX).read_text(encoding="utf-8"), self.repository)
        missing = [name for name in names if name not in found.sizes]
        if missing:
            raise ModelInvalid(
                f"{self.repository} lacks {one_line(missing[0], 80)}, which its index names", "choose another revision"
            )
        return names

    def _fetched(self, name: str) -> str:
        server = _allowed(self.repository)
        commit = self._listing.commit if self._listing else ""

        def ask() -> str:
            import huggingface_hub

            bar: Any = functools.partial(Bar, self.progress)
            where = {"revision": commit, "cache_dir": cache(), "endpoint": server}
            return str(huggingface_hub.hf_hub_download(self.repository, name, tqdm_class=bar, **where))

        return _translated(self.repository, self.revision, ask)

    def _cached(self, name: str) -> bool:
        import huggingface_hub

        commit = self._listing.commit if self._listing else ""
        found = huggingface_hub.try_to_load_from_cache(self.repository, name, cache_dir=cache(), revision=commit)
        return isinstance(found, str)

    def _kept(self) -> Path:
        """The folder of the commit in the cache; raises Offline where there is none."""
        import huggingface_hub
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            revision = self.revision or "main"
            kept = huggingface_hub.snapshot_download(self.repository, revision=revision, cache_dir=cache(), local_files_only=True)
        except (LocalEntryNotFoundError, HFValidationError, OSError) as error:
            said = f"loading {self.repository} needs the network (huggingface.co), and POINTSMAN_OFFLINE is set"
            raise Offline(said, "unset it to allow this, or name a folder with the checkpoint") from error
        return Path(kept)

    def _require_space(self, missing: int) -> None:
        folder = cache()
        there = next(one for one in (folder, *folder.parents) if one.is_dir())
        free = shutil.disk_usage(there).free
        if missing and missing + _SPARE_BYTES > free:
            said = f"{self.repository} needs {missing / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free"
            raise InputError(said, "free space, set HF_HOME to a folder with more, or choose a smaller base")


def look_up(repository: str, revision: str) -> Listing:
    """Ask the hub what a revision holds. Raises Offline, ModelMissing, and InputError for a gated one."""
    server = _allowed(repository)

    def ask() -> Any:
        import huggingface_hub

        return huggingface_hub.HfApi(endpoint=server).model_info(repository, revision=revision, timeout=30, files_metadata=True)

    found = _translated(repository, revision, ask)
    if not _COMMIT.fullmatch(str(found.sha)):
        raise InputError(f"the hub names no commit for {repository}", "try again, or name another revision")
    files = {one.rfilename: one for one in found.siblings or () if "/" not in one.rfilename}
    card = found.card_data.to_dict() if found.card_data else {}
    licence = card.get("license") or ""
    return Listing(
        str(found.sha),
        {name: int(one.size or 0) for name, one in files.items()},
        {name: str(one.lfs.sha256) for name, one in files.items() if one.lfs and one.lfs.sha256},
        one_line(" AND ".join(map(str, licence)) if isinstance(licence, list) else str(licence), 80),
        int(found.safetensors.total) if found.safetensors else 0,
    )


def cache() -> Path:
    """The folder in which the hub's library keeps what it fetched."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def kept() -> list[str]:
    """The repositories that are in the cache."""
    return [folder.name.removeprefix("models--").replace("--", "/") for folder in cache().glob("models--*--*")]


def _server() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT


def _is_loopback() -> bool:
    from data.config import is_loopback

    return is_loopback(urllib.parse.urlsplit(_server()).hostname or "")


def _allowed(repository: str) -> str:
    """The hub's address, where the network may be used; raises Offline."""
    server = _server()
    require_network(urllib.parse.urlsplit(server).hostname or server, f"loading {repository}")
    return server


def _translated(repository: str, revision: str, ask: Callable[[], T]) -> T:
    """Call the hub's library with its faults as ours."""
    from huggingface_hub import errors

    try:
        return ask()
    except errors.GatedRepoError as error:
        access = f"ask for access at {ENDPOINT}/{repository}, then log in: hf auth login (or set HF_TOKEN)"
        raise InputError(f"{repository} is gated: its owner decides who may load it", access) from error
    except errors.RevisionNotFoundError as error:
        raise ModelMissing(f"{repository} has no revision {one_line(revision, 60)!r}", "name a branch, tag or commit") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        said = f"the hub has no model {repository}, or it is private"
        raise ModelMissing(said, f"{near(repository)}; for a private one set HF_TOKEN") from error
    except (errors.HfHubHTTPError, errors.HTTPError, OSError) as error:
        raise InputError(f"cannot load {repository}: {one_line(str(error), 160)}", "check the connection and try again") from error


def near(name: str) -> str:
    """What of the catalog, the cache and the shipped recipes is spelled like `name`, as a sentence."""
    import difflib

    from data import catalog
    from trainer import recipe

    known = {*catalog.specs(), *kept(), *(recipe.load(one).base.model for one in recipe.names())}
    found = difflib.get_close_matches(name, sorted(known), 3, 0.5)
    return f"did you mean {' or '.join(found)}?" if found else "check its name"
