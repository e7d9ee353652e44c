"""A model's name as Ollama takes it, checked before anything is sent, and the versions that can do what is asked.

    [[host/]namespace/]model[:tag]
Rules: types/model/name.go (characters, lengths) and internal/modelref (tags that name a source). Not covered: registries.
"""

import re

from data.errors import EngineRejected, EngineUnavailable, InputError
from data.sanitise import one_line

FILES = (0, 5, 5)  # /api/create takes files by their digests: release notes of 0.5.5
NATIVE = (0, 30, 0)  # a model without TEMPLATE is asked through the template in its GGUF file: commit 9db4bdbad
NO_ADAPTERS = (0, 34, 1)  # /api/create refuses adapters: commit of pull request 14969
TAG_LETTERS = 80
_LENGTHS = {"host": 350, "namespace": 80, "model": 80, "tag": TAG_LETTERS}
_BEYOND = {"host": r"\-.:", "namespace": r"\-", "model": r"\-.", "tag": r"\-."}
_CALLS = {"host": "host", "namespace": "namespace", "model": "name", "tag": "tag"}
_SOURCES = ("cloud", "local")
UPDATE = "update it: https://ollama.com/download"

Version = tuple[int, int, int]


def checked(name: str) -> str:
    """`name` with its tag. Raises InputError saying which part of it Ollama would not take, and why."""
    rest, _, tag = name.rpartition(":") if name.rfind(":") > name.rfind("/") else (name, "", "latest")
    parts = rest.split("/")
    if len(parts) > 3:
        raise InputError(
            f"{one_line(name)!r} is no name for an Ollama model: it has more than three parts", "for example: me/triage:q8"
        )
    labelled = list(zip(("model", "namespace", "host"), reversed(parts), strict=False))
    for part, text in [*reversed(labelled), ("tag", tag)]:
        _check(name, part, text)
    if tag.lower() in _SOURCES or tag.lower().endswith("-cloud"):
        raise InputError(
            f"{one_line(name)!r} is no name for a model here: to Ollama the tag {tag!r} says where a model runs",
            "choose another tag",
        )
    return f"{rest}:{tag}"


def provisional(full: str, digest: str) -> str:
    """The name under which a model is tried before it gets the name `full`: the same with a longer tag."""
    rest, _, tag = full.rpartition(":")
    suffix = f"-unchecked-{digest.removeprefix('sha256:')[:8]}"
    return f"{rest}:{tag[: TAG_LETTERS - len(suffix)]}{suffix}"


def version_of(said: str) -> Version:
    """The numbers of a version, (0, 0, 0) for a build from source and for what is none."""
    found = re.match(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", said)
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def require(said: str, *, adapter: bool, template: bool) -> None:
    """Refuse a version that cannot take the model: EngineUnavailable where a newer one could, EngineRejected where none can.

    adapter: whether an adapter is to be attached; template: whether the model brings a TEMPLATE of its own.
    """
    version, shown = version_of(said), one_line(said, 40)
    if version == (0, 0, 0):
        return  # a build from source: what it says when asked must do
    if version < FILES:
        raise EngineUnavailable(f"Ollama {shown} is too old: models are given to it as files from 0.5.5 on", UPDATE)
    if adapter and version >= NO_ADAPTERS:
        raise EngineRejected(
            f"Ollama {shown} attaches no adapters any more (up to 0.34.0 it did)",
            "publish the merged model: pointsman export RUN --ollama NAME without --adapter-modelfile",
        )
    if not template and version < NATIVE:
        raise EngineUnavailable(f"Ollama {shown} is too old: it uses the chat template in a model's file from 0.30.0 on", UPDATE)


def _check(name: str, part: str, text: str) -> None:
    where = f"{one_line(name)!r} is no name for an Ollama model: its {_CALLS[part]}"
    if not text:
        raise InputError(f"{where} is empty", "for example: me/triage:q8")
    if len(text) > _LENGTHS[part]:
        raise InputError(f"{where} has {len(text)} characters, and {_LENGTHS[part]} at most are allowed", "choose a shorter one")
    if not re.fullmatch(f"[A-Za-z0-9_][A-Za-z0-9_{_BEYOND[part]}]*", text):
        allowed = "letters, digits, _ and - (not first)" if part == "namespace" else "letters, digits, _ and - . (not first)"
        raise InputError(f"{where} {one_line(text, 40)!r} may hold only {allowed}", "choose another name")
