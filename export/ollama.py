"""An exported model published to an Ollama server: sent, made, proven to answer as the file does, and only then given its name.

The model is made under a provisional name, so that one that exists keeps its place until the new one has passed, and nothing
stays behind where it fails. Not covered: starting Ollama, registries, and making the files (`export.exporting`).
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data import paths
from data.chat import Message
from data.errors import InputError
from data.exports import Check
from export import modelfile
from export._exporting.steps import Step, Tell, silent
from export._ollama import answers, blobs, greedy, models, names
from export._ollama.greedy import CONTEXT, Expected
from export.modelfile import Parts
from router.engines import _ollama as wire
from router.engines._faults import Fault
from router.engines._llamacpp import header
from router.engines._ollama_connection import Connection

__all__ = ["PROMPTS", "Ask", "Published", "Step", "Tell", "publish", "silent"]

QUESTION = (Message("user", "What is the capital of France?"),)
PROMPTS = 3
"""Prompts compared at most, a fixed question among them."""
VERSION_S = 10.0
Ask = Callable[..., tuple[Expected, ...]]
"""As `export._ollama.greedy.expected`."""


@dataclass(frozen=True, slots=True)
class Published:
    """What is now on the server. name: with its tag; answer: its greedy answer to the first prompt compared.

    sent_bytes: 0 where the server held the file already; kept: the files that say what was sent, in the model's folder.
    """

    name: str
    host: str
    version: str
    sent_bytes: int
    answer: str
    checks: tuple[Check, ...]
    kept: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A conversation as Ollama is asked, and as it completes it by the model's system prompt and examples."""

    asked: tuple[Message, ...]
    whole: tuple[Message, ...]


def publish(
    model_file: Path,
    parts: Parts,
    name: str,
    tell: Tell = silent,
    *,
    host: str = "",
    replaced: bool = False,
    prompts: Sequence[Sequence[Message]] = (),
    check: Ask | None = greedy.expected,
) -> Published:
    """Make the model `name` of a GGUF file and what a Modelfile says of it; what was sent is written beside the file.

    host: as OLLAMA_HOST, which an empty one stands for; replaced: whether a model that has the name may lose it; prompts:
    conversations that are compared beside a fixed question, the most telling first; check: computes what the file answers here,
    None compares nothing. Raises InputError for a name that Ollama does not take or that is taken, EngineUnavailable and
    EngineRejected for a server that is absent, too old or unwilling, Offline, and ModelInvalid where the model does not answer
    as the file does. Only one that has passed gets its name.
    """
    full = names.checked(name)
    if parts.from_:
        raise InputError(
            f"what is made of Ollama's own {parts.from_!r} cannot be compared with a file here", "publish a model's file"
        )
    parts = replace(parts, model_file=model_file.name)
    with closing(Connection(host)) as connection:
        with connection.translating():
            version = connection.version(VERSION_S)
        names.require(version, adapter=bool(parts.adapter_file), template=parts.template is not None)
        _refuse_taken(connection, full, replaced=replaced)
        asked = _prompts(parts, prompts)
        expected = _expected(check, model_file, parts, asked, tell)
        request, sent = _sent(connection, model_file, parts, tell)
        with _provisional(connection, names.provisional(full, request["files"][model_file.name])) as trial:
            models.create(connection, {**request, "model": trial}, tell)
            checks = models.checked(connection, {**request, "model": trial}, header.summary(model_file))
            answer, compared = _compared(connection, trial, model_file.name, parts, asked, expected, tell)
            models.copy(connection, trial, full)
        kept = _keep(model_file.parent, parts, {**request, "model": full})
        return Published(full, connection.host, version, sent, answer, (*checks, *compared), kept)


def _refuse_taken(connection: Connection, full: str, *, replaced: bool) -> None:
    """Raise InputError where a model has the name and may not lose it; names are the same in any letter case."""
    listed = full.removeprefix("registry.ollama.ai/").removeprefix("library/")  # Ollama leaves its own parts out
    taken = {wire.full_name(model.name): model.name for model in connection.models()}
    if not replaced and (there := taken.get(wire.full_name(listed))):
        raise InputError(
            f"Ollama at {connection.host} has a model {there!r}", "choose another name, or let it be replaced: --replace"
        )


def _prompts(parts: Parts, prompts: Sequence[Sequence[Message]]) -> list[_Prompt]:
    """As ChatHandler in Ollama's server/routes.go: examples come first, the system prompt only where none is asked with."""
    found = []
    for asked in map(tuple, (*prompts[: PROMPTS - 1], QUESTION)):
        system = (Message("system", parts.system),) if parts.system and asked[0].role != "system" else ()
        found.append(_Prompt(asked, (*system, *parts.messages, *asked)))
    return found


def _expected(check: Ask | None, model_file: Path, parts: Parts, asked: Sequence[_Prompt], tell: Tell) -> tuple[Expected, ...]:
    if check is None:
        return ()
    tell(Step(f"asking {model_file.name} here"))
    context = parts.parameters.get("num_ctx")
    return check(
        model_file,
        [prompt.whole for prompt in asked],
        adapter=model_file.parent / parts.adapter_file if parts.adapter_file else None,
        context=context if isinstance(context, int) else CONTEXT,
    )


def _sent(connection: Connection, model_file: Path, parts: Parts, tell: Tell) -> tuple[dict[str, Any], int]:
    """Have the server hold the files; the creation's request, and how many bytes were sent."""
    sent, digests = 0, {}
    for file in filter(None, (model_file, model_file.parent / parts.adapter_file if parts.adapter_file else None)):
        digest = blobs.digest(file, tell)
        sent += blobs.ensure(connection, file, digest, tell)
        digests[file.name] = f"sha256:{digest}"
    return modelfile.request(parts, digests), sent


@contextmanager
def _provisional(connection: Connection, trial: str) -> Iterator[str]:
    """The name under which a model is tried, and which is gone afterwards, whatever happens."""
    try:
        yield trial
    finally:
        with contextlib.suppress(Fault):  # it was never made, or the server is gone
            models.remove(connection, trial)


def _compared(
    connection: Connection,
    trial: str,
    file: str,
    parts: Parts,
    asked: Sequence[_Prompt],
    expected: Sequence[Expected],
    tell: Tell,
) -> tuple[str, tuple[Check, ...]]:
    """The first answer, and what was found equal. Raises ModelInvalid, EngineUnavailable, EngineRejected."""
    if not expected:
        return "", (Check(name="ollama answer", of=file, passed=None, note="not checked: nothing was asked here"),)
    stop = parts.parameters.get("stop", ())
    stops = [stop] if isinstance(stop, str) else [str(one) for one in stop] if isinstance(stop, tuple | list) else []
    first, checks = "", list[Check]()
    with connection.translating(trial):
        models.unload(connection, trial)
        for prompt, here in zip(asked, expected, strict=True):
            if not here.plain:
                continue  # a text that spells a control token is that token to Ollama and none here
            tell(Step("asking Ollama"))
            told = answers.ask(connection, trial, prompt.asked)
            checks += answers.compared(file, here, told, stops)
            first = first or told.text
    return first, tuple(checks)


def _keep(folder: Path, parts: Parts, request: dict[str, Any]) -> tuple[Path, ...]:
    """Write what was sent, without the digests, and as much of it as a Modelfile can carry."""
    stem = "ollama-" + re.sub(r"[^A-Za-z0-9._-]", "-", str(request["model"]))[:150]
    plain = {key: sorted(value) if key in ("files", "adapters") else value for key, value in request.items()}
    contents = {
        f"{stem}.json": json.dumps(plain, indent=2, ensure_ascii=False) + "\n",
        f"{stem}.Modelfile": modelfile.compose(parts, api=True),
    }
    for name, content in contents.items():
        with paths.replacing(folder / name, 0o644) as file:
            file.write(content.encode("utf-8", "replace"))
    return tuple(folder / name for name in contents)
