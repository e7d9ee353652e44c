"""A setting as people read it: its value, where that comes from, and what it may be.

For `pointsman config` and the settings' screen. Not covered: reading and changing settings (`data.config`).
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from data import config, paths


def origins(keys: list[str]) -> dict[str, str]:
    """Where each key's value comes from: default, file or environment."""
    written = set(_leaves(config.read_file(paths.settings_file())))
    found = {}
    for key in keys:
        in_file = any(leaf == key or leaf.startswith(f"{key}.") for leaf in written)
        set_outside = any(name == variable(key) or name.startswith(f"{variable(key)}__") for name in os.environ)
        found[key] = "environment" if set_outside else "file" if in_file else "default"
    return found


def _leaves(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in table.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return found


def variable(key: str) -> str:
    """The variable of the environment that sets a key."""
    return f"POINTSMAN_{key.upper().replace('.', '__')}"


def masked(key: str, value: Any) -> Any:
    """The value, a secret as asterisks."""
    return "********" if value and secret(key) else value


def shown(value: Any) -> str:
    """A value as it is written."""
    if value is None:
        return "(none)"
    return value if isinstance(value, str) and value else json.dumps(value)


def secret(key: str) -> bool:
    """Whether the value is not to be shown."""
    return key.endswith(("api_key", ".token"))


def limits(key: str) -> str:
    """What the value may be, in words: its kind, its bounds, its choices. Raises SettingsError for an unknown key."""
    found = config.allowed(key)
    kinds = [found, *found.get("anyOf", ())]
    choices = next((one["enum"] for one in kinds if "enum" in one), ())
    if choices:
        return "one of " + ", ".join(str(one) for one in choices)
    words = {"number": "a number", "integer": "a whole number", "boolean": "true or false", "string": "text"}
    words |= {"array": 'a list, as ["a", "b"]', "object": 'names with values, as { name = "value" }', "null": "none"}
    kind = " or ".join(words[one["type"]] for one in kinds if one.get("type") in words)
    bounds = [
        f"{word} {one[name]:,}"
        for one in kinds
        for name, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if isinstance(one.get(name), int | float)
    ]
    return ", ".join([kind, *bounds])
