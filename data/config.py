"""Settings as they are read, checked and changed. Every default lives once, in settings.py; all else only overrides.

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
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from data import paths
from data.errors import Offline, SettingsError
from data.settings import (
    DocumentsSettings,
    LlamaCppSettings,
    ModeName,
    ModesSettings,
    OllamaSettings,
    OpenAICompatibleSettings,
    RouterSettings,
    Sampling,
    ServerSettings,
    Settings,
    StoreSettings,
    ToolsSettings,
    TuiSettings,
)

__all__ = [
    "SWITCHES", "DocumentsSettings", "LlamaCppSettings", "ModeName", "ModesSettings", "OllamaSettings",
    "OpenAICompatibleSettings", "RouterSettings", "Sampling", "ServerSettings", "Settings", "StoreSettings", "ToolsSettings",
    "TuiSettings", "allowed", "change", "checked", "flatten", "is_loopback", "known_keys", "load", "offline", "read_file",
    "remove", "require_known", "require_network",
]  # fmt: skip

SWITCHES = ("POINTSMAN_HOME", "POINTSMAN_OFFLINE", "POINTSMAN_DATASETS", "POINTSMAN_SERVER_TOKEN")


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


def checked(key: str, value: str) -> Any:
    """The value as `change` would store it. Raises SettingsError with what is wrong with it."""
    return _checked(key, value, "what is typed")


def allowed(key: str) -> dict[str, Any]:
    """What a key's value may be, as JSON schema (type, enum, minimum, default, ...). Raises SettingsError for an unknown key."""
    require_known(key)
    table: Any = Settings
    *parents, last = key.split(".")
    for parent in parents:
        table = table.model_fields[parent].annotation
    found: dict[str, Any] = table.model_json_schema()["properties"][last]
    return found


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
