"""Settings: every default lives here once; the file, the environment and the flags only override.

Order, later wins: the defaults below < settings.toml < environment < flags. The environment spells a key as
POINTSMAN_<TABLE>__<KEY>, for example POINTSMAN_MODEL or POINTSMAN_SAMPLING__TEMPERATURE. An unknown key is an error that
offers the nearest known one. POINTSMAN_HOME, POINTSMAN_OFFLINE, POINTSMAN_DATASETS and POINTSMAN_SERVER_TOKEN are no settings.
"""

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from data import paths
from data.errors import Offline, SettingsError

SWITCHES = ("POINTSMAN_HOME", "POINTSMAN_OFFLINE", "POINTSMAN_DATASETS", "POINTSMAN_SERVER_TOKEN")


ModeName = Literal["auto", "standard", "chain_of_thought", "multi_step", "agent", "ensemble"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Sampling(_Table):
    """How the next token is drawn. temperature 0 is greedy and makes every other field but the penalties moot."""

    temperature: Annotated[float, Field(ge=0, le=5, description="0 is greedy")] = 0.7
    top_k: Annotated[int, Field(ge=0, description="keep the k likeliest tokens; 0 keeps all")] = 40
    top_p: Annotated[float, Field(gt=0, le=1, description="keep the likeliest tokens up to this mass")] = 0.95
    min_p: Annotated[float, Field(ge=0, le=1, description="drop tokens below this share of the likeliest")] = 0.05
    repeat_penalty: Annotated[float, Field(gt=0, le=3, description="1 is none")] = 1.1
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    repeat_last_n: Annotated[int, Field(ge=0, description="tokens that the penalties look back over")] = 64
    seed: Annotated[int | None, Field(ge=0, lt=2**32, description="absent: a new one each time")] = None


class LlamaCppSettings(_Table):
    """llama.cpp in process."""

    context: Annotated[int, Field(ge=128, description="context window in tokens, at most what the model was trained for")] = 4096
    threads: Annotated[int, Field(ge=0, description="0: one per core that this process may use")] = 0
    gpu_layers: Annotated[int, Field(ge=-1, description="layers on the GPU; -1: all, where the build has one")] = -1
    batch: Annotated[int, Field(ge=8, le=8192, description="prompt tokens computed at once; cancelling waits for one batch")] = 512
    folders: Annotated[tuple[str, ...], Field(description="folders searched for *.gguf files")] = ()
    caches_mb: Annotated[
        int, Field(ge=0, description="MB for adapters and the caches of conversations with them; 0: half of what is free")
    ] = 0


class OllamaSettings(_Table):
    """The user's Ollama server. The options are sent alike with every call: a changed context would reload the model."""

    host: Annotated[str, Field(description="empty: OLLAMA_HOST, else 127.0.0.1:11434")] = ""
    context: Annotated[int, Field(ge=128, description="num_ctx in tokens")] = 4096
    keep_alive: Annotated[str, Field(description="how long an idle model stays loaded, as a Go duration")] = "5m"
    stall_s: Annotated[float, Field(gt=0, description="seconds without a byte before the answer counts as broken off")] = 300.0


class OpenAICompatibleSettings(_Table):
    """Any server with /v1/chat/completions."""

    url: Annotated[str, Field(description="for example http://127.0.0.1:8000/v1; empty: none")] = ""
    api_key: Annotated[str, Field(description="sent as a bearer token", repr=False)] = ""
    context: Annotated[int, Field(ge=128, description="context window in tokens, where the server does not tell")] = 4096
    stall_s: Annotated[float, Field(gt=0, description="seconds without a byte before the answer counts as broken off")] = 300.0


class ModesSettings(_Table):
    """The ways of reasoning, and what bounds them."""

    steps: Annotated[int, Field(ge=1, le=20, description="sub-questions of multi_step at most")] = 5
    step_tokens: Annotated[int, Field(ge=16, description="tokens of one step's answer at most")] = 384
    thinking_tokens: Annotated[int, Field(ge=16, description="tokens of chain_of_thought's reasoning at most")] = 768
    agent_turns: Annotated[int, Field(ge=1, le=50, description="times that agent may call tools before it must answer")] = 6
    votes: Annotated[int, Field(ge=1, le=15, description="answers that ensemble draws and votes on; 1 is no vote")] = 1
    classifier: Annotated[str, Field(description="the model that classifies in ensemble; empty: the one that answers")] = ""


class ToolsSettings(_Table):
    """What agent mode may call. Writing, running and the network ask first, whatever stands here."""

    folders: Annotated[tuple[str, ...], Field(description="folders whose files tools may read and search")] = ()
    off: Annotated[tuple[str, ...], Field(description="names of tools that are never offered")] = ()
    python_s: Annotated[float, Field(gt=0, le=600, description="seconds that sandboxed Python may take")] = 10.0
    python_mb: Annotated[int, Field(ge=32, description="memory of sandboxed Python in MB")] = 512
    mcp: Annotated[dict[str, str], Field(description="MCP servers: name = 'command with arguments' or 'https://...'")] = {}
    mcp_s: Annotated[float, Field(gt=0, description="seconds to wait for an MCP server's answer")] = 30.0


class DocumentsSettings(_Table):
    """Attached documents."""

    chunk_chars: Annotated[int, Field(ge=200, le=8000, description="characters of a chunk, about")] = 1000
    chunks: Annotated[int, Field(ge=1, le=50, description="chunks put before the model for one question")] = 4
    max_mb: Annotated[int, Field(ge=1, description="MB of a document at most")] = 50


class RouterSettings(_Table):
    """Which model and which way of reasoning a question gets."""

    risk: Annotated[float, Field(gt=0, lt=0.5, description="share of wrong domains to accept at most; more abstention below")] = (
        0.05
    )
    encoder: Annotated[bool, Field(description="ask the sentence encoder where the n-grams are unsure")] = True
    margin: Annotated[float, Field(ge=0, le=1, description="gain in win rate that a switch of models needs at least")] = 0.02
    switch_weight: Annotated[float, Field(ge=0, description="gain in win rate asked for each second that a switch costs")] = 0.01
    models: Annotated[
        dict[str, str], Field(description="domain = model, used once an evaluation shows that it beats the base")
    ] = {}


class StoreSettings(_Table):
    """Where the log lives."""

    url: Annotated[str, Field(description="SQLAlchemy URL; empty: pointsman.db in the data folder")] = ""


class ServerSettings(_Table):
    """`pointsman serve`."""

    host: Annotated[str, Field(description="the address to listen on; any but this machine's own needs a token")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="0: one that is free")] = 11535
    token: Annotated[str, Field(description="asked of every client; better in POINTSMAN_SERVER_TOKEN or a file", repr=False)] = ""
    hosts: Annotated[tuple[str, ...], Field(description="names that clients may reach this machine by, beside its addresses")] = ()
    origins: Annotated[tuple[str, ...], Field(description="web pages that may ask, for example 'https://chat.example.org'")] = ()
    parallel: Annotated[int, Field(ge=1, le=256, description="answers at once on each server behind; in process it is one")] = 4
    queue: Annotated[int, Field(ge=1, le=512, description="answers that may wait; one more is refused with 503")] = 64
    body_mb: Annotated[int, Field(ge=1, le=1024, description="MB of a request at most")] = 8
    batch: Annotated[
        int, Field(ge=8, le=8192, description="llamacpp.batch while serving: a client that leaves costs one batch at most")
    ] = 32
    stall_s: Annotated[float, Field(gt=0, description="seconds that a client may take to send its request, or not to read")] = 30.0
    grace_s: Annotated[float, Field(ge=0, description="seconds that answers may go on when the server is stopped")] = 10.0


class TuiSettings(_Table):
    """The chat."""

    theme: Annotated[str, Field(description="a Textual theme name")] = "textual-dark"
    text_width: Annotated[
        int, Field(ge=20, description="columns of text at most; 0 is not allowed, 1000 is as wide as it gets")
    ] = 100
    keymap: Annotated[dict[str, str], Field(description="binding id = key, for example send = 'ctrl+enter'")] = {}


class Settings(_Table):
    """All settings, validated. Immutable: changing one means loading again."""

    model: Annotated[str, Field(description="the default model; auto: the embedded one")] = "auto"
    mode: Annotated[ModeName, Field(description="the default way of reasoning; auto chooses one for each question")] = "standard"
    system: Annotated[str, Field(description="the default system prompt")] = ""
    max_tokens: Annotated[int, Field(ge=1, description="tokens of an answer at most")] = 1024
    sampling: Sampling = Sampling()
    llamacpp: LlamaCppSettings = LlamaCppSettings()
    ollama: OllamaSettings = OllamaSettings()
    openai_compatible: OpenAICompatibleSettings = OpenAICompatibleSettings()
    modes: ModesSettings = ModesSettings()
    tools: ToolsSettings = ToolsSettings()
    documents: DocumentsSettings = DocumentsSettings()
    router: RouterSettings = RouterSettings()
    store: StoreSettings = StoreSettings()
    server: ServerSettings = ServerSettings()
    tui: TuiSettings = TuiSettings()


def load(overrides: Mapping[str, Any] | None = None, file: Path | None = None) -> Settings:
    """Settings from the file, the environment and `overrides` (dotted keys, the flags; None values are skipped).

    Raises SettingsError naming the key, where it was set, and the nearest known key.
    """
    path = file or paths.settings_file()
    merged: dict[str, Any] = {}
    for source, values in (
        (str(path), read_file(path)),
        ("the environment", _environment()),
        ("the command line", overrides or {}),
    ):
        flat = dict(_flatten(values)) if source != "the command line" else {k: v for k, v in values.items() if v is not None}
        for key, value in flat.items():
            _put(merged, key, _checked(key, value, source))
    return Settings.model_validate(merged)


def read_file(path: Path) -> dict[str, Any]:
    """The tables of settings.toml as written ({} where there is none); raises SettingsError with line and column."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}  # a home that is a file: whoever writes there first says so
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} is not valid TOML: {error}", "correct it, or move it away to start from the defaults"
        ) from error
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}", "make it readable") from error


def change(key: str, value: str, file: Path | None = None) -> Any:
    """Set one dotted key in settings.toml, keeping its comments and order; returns the value as stored.

    `value` is read as TOML where that gives the key's type, else as plain text. Raises SettingsError.
    """
    import tomlkit
    from tomlkit.items import Table

    path = file or paths.settings_file()
    read_file(path)  # refuses a damaged file with its own words
    checked = _checked(key, value, "the command line")
    document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
    table: Any = document
    *parents, last = key.split(".")
    for parent in parents:
        if not isinstance(table.get(parent), (Table, dict)):
            table[parent] = tomlkit.table()
        table = table[parent]
    if checked is None:
        table.pop(last, None)
    else:
        table[last] = list(checked) if isinstance(checked, tuple) else checked
    with paths.replacing(path) as out:
        out.write(tomlkit.dumps(document).encode())
    return checked


def remove(key: str, file: Path | None = None) -> bool:
    """Take one dotted key out of settings.toml, keeping the rest as it is; returns whether it stood there.

    The key need not be a known one, so that a file with a wrong key can be mended. Raises SettingsError.
    """
    import tomlkit

    path = file or paths.settings_file()
    table: Any = read_file(path)
    *parents, last = key.split(".")
    for parent in parents:
        table = table.get(parent) if isinstance(table, dict) else None
    if not isinstance(table, dict) or last not in table:
        return False
    document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
    table = document
    for parent in parents:
        table = table[parent]
    del table[last]
    with paths.replacing(path) as out:
        out.write(tomlkit.dumps(document).encode())
    return True


def require_known(key: str, source: str = "the command line") -> None:
    """Raise SettingsError, offering the nearest name, where no setting is called `key`."""
    if key not in known_keys():
        raise _unknown(key, source)


def known_keys() -> dict[str, str]:
    """Every dotted key with its description, in the order of declaration."""
    return dict(_fields(Settings))


def flatten(settings: Settings) -> dict[str, Any]:
    """Every dotted key with its value; secrets are shown as asterisks."""
    flat = {key: _lookup(settings, key) for key in known_keys()}
    for secret in ("openai_compatible.api_key", "server.token"):
        if flat[secret]:
            flat[secret] = "********"
    return flat


def offline() -> bool:
    """Whether POINTSMAN_OFFLINE forbids everything beyond this machine."""
    return os.environ.get("POINTSMAN_OFFLINE", "") not in ("", "0")


def require_network(host: str, purpose: str) -> None:
    """Raise Offline where POINTSMAN_OFFLINE is set and `host` is not this machine."""
    if offline() and not is_loopback(host):
        raise Offline(f"{purpose} needs the network ({host}), and POINTSMAN_OFFLINE is set", "unset it to allow this")


def is_loopback(host: str) -> bool:
    """Whether the host is this machine by its name alone; a name that merely begins with 127. is not."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _checked(key: str, value: Any, source: str) -> Any:
    table: type[BaseModel] = Settings
    *parents, last = key.split(".")
    for parent in parents:
        kind = table.model_fields.get(parent)
        if kind is None:
            raise _unknown(key, source)
        annotation = kind.annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            if annotation == dict[str, str] and parents[-1] == parent:
                return str(value)
            raise _unknown(key, source)
        table = annotation
    field = table.model_fields.get(last)
    if field is None:
        raise _unknown(key, source)
    constraints: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(constraints)
    candidates = [_toml(value), value] if isinstance(value, str) else [value]
    if field.annotation is str:
        candidates.reverse()
    errors = []
    for candidate in candidates:
        try:
            return adapter.validate_python(candidate)
        except ValidationError as error:
            errors.append(error.errors()[0]["msg"])
    raise SettingsError(f"{key} = {value!r} (from {source}) is not allowed: {errors[0]}", f"see: pointsman config show {key}")


def _unknown(key: str, source: str) -> SettingsError:
    near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
    return SettingsError(
        f"unknown setting {key!r} in {source}", f"did you mean {near[0]!r}?" if near else "see: pointsman config show"
    )


def _toml(text: str) -> Any:
    if text.lower() in ("none", "null", ""):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _environment() -> dict[str, Any]:
    flat = {}
    for name, value in os.environ.items():
        if name.startswith("POINTSMAN_") and name not in SWITCHES:
            flat[name.removeprefix("POINTSMAN_").lower().replace("__", ".")] = value
    return flat


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _fields(table: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in table.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.description or ""


def _lookup(settings: BaseModel, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value
