"""schema.json: within what output contracts support, all properties required, and what Pointsman fills in said rightly.

Supported: objects of fixed properties, strings (maxLength), enum, const, booleans, numbers between minimum and maximum, arrays.
"""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from data._checks.pack import Pack, meant
from data.domains import FIELD_KEY, FILL_KEY, FILLS, Description, _without_fills
from data.places import Lines
from data.sanitise import one_line

NAME = "schema.json"
DEEPEST = 12
"""Levels of objects and arrays at most."""
_ALWAYS = {"type", "description", "title", FILL_KEY, FIELD_KEY}
_KEYWORDS: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties", "$schema", "$id", "$comment"},
    "string": {"maxLength", "minLength", "enum", "const"},
    "boolean": {"enum", "const"},
    "integer": {"minimum", "maximum", "enum", "const"},
    "number": {"minimum", "maximum", "enum", "const"},
    "array": {"items", "minItems", "maxItems"},
    "": {"enum", "const"},
}
Where = tuple[str | int, ...]


def schema(pack: Pack) -> tuple[dict[str, Any], Lines] | None:
    """The schema of a pack, with its places; None where there is none or it cannot be used, which is noted."""
    found = pack.json(NAME)
    if found is None:
        return None
    value, lines = found
    before = len(pack.problems)
    if not isinstance(value, dict) or value.get("type") != "object":
        pack.fault(NAME, 1, 'is no schema of an object: {"type": "object", "properties": {...}}')
        return None
    _Shape(pack, lines, value).node(value, (), False)
    return (value, lines) if len(pack.problems) == before else None


def asked(whole: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of what the model writes, closed: other properties than those are faults."""
    found = _without_fills(whole)
    return _closed(found) if isinstance(found, dict) else {}


def at_path(whole: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
    """The schema of the property at a dotted path; None where there is none."""
    found: Any = whole
    for part in path.split("."):
        found = found.get("properties", {}).get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            return None
    return dict(found)


def values(part: Mapping[str, Any]) -> list[Any] | None:
    """The values that a property may have; None where they are not listed."""
    if "const" in part:
        return [part["const"]]
    if part.get("type") == "boolean":
        return [True, False]
    found = part.get("enum")
    return list(found) if isinstance(found, list) else None


def agrees(pack: Pack, whole: dict[str, Any], lines: Lines, description: Description) -> None:
    """Note where the schema and domain.toml do not say the same: the label's property, resources and what calls for them."""
    labels = [label.name for label in description.labels]
    field = description.label_field
    if field:
        part = at_path(asked(whole), field)
        if part is None:
            names = asked(whole).get("properties", {})
            pack.fault(
                NAME, 1, f"label_field of domain.toml is {one_line(field, 60)!r}: there is no such property{meant(field, names)}"
            )
        elif sorted(map(str, values(part) or [])) != sorted(labels):
            have = [str(value) for value in values(part) or []]
            missing, extra = [one for one in labels if one not in have], [one for one in have if one not in labels]
            said = f"; not in its enum: {', '.join(missing)}" if missing else ""
            said += f"; not in domain.toml: {', '.join(extra)}" if extra else ""
            where = ("properties", *field.replace(".", ".properties.").split("."), "enum")
            pack.fault(NAME, lines.at(*where), one_line(f"the values of {field} are not the labels of domain.toml{said}", 400))
    for name, called in description.resources_when.items():
        _called(pack, whole, name, called)


def _called(pack: Pack, whole: dict[str, Any], name: str, called: tuple[str, ...]) -> None:
    part = at_path(whole, name)
    if part is None:
        pack.fault("domain.toml", 1, f"resources_when: {one_line(name, 60)!r} is no property of schema.json")
        return
    allowed = values(part)
    for value in called:
        if allowed is not None and value not in allowed:
            pack.fault("domain.toml", 1, f"resources_when: {one_line(name, 60)} is never {one_line(value, 60)!r}")


class _Shape:
    """One schema being walked through; faults go to the pack."""

    def __init__(self, pack: Pack, lines: Lines, whole: Mapping[str, Any]) -> None:
        self.pack = pack
        self.lines = lines
        self.whole = whole

    def fault(self, where: Where, text: str) -> None:
        self.pack.fault(NAME, self.lines.at(*where), f"{_shown(where)}{text}")

    def node(self, part: Any, where: Where, filled: bool) -> None:
        if not isinstance(part, dict):
            return self.fault(where, "is no schema")
        if len(where) > 2 * DEEPEST:
            return self.fault(where, f"is nested more than {DEEPEST} levels deep")
        kind = part.get("type", "")
        if not isinstance(kind, str) or kind not in _KEYWORDS:
            return self.fault(
                (*where, "type"), f"type {one_line(json.dumps(kind), 60)} is not supported{meant(str(kind), _KEYWORDS)}"
            )
        if not kind and not {"enum", "const"} & set(part):
            return self.fault(where, "has no type, enum or const")
        for key in part:
            if key not in _KEYWORDS[kind] | _ALWAYS:
                self.fault((*where, key), f"{one_line(key, 60)} is not supported here{meant(key, _KEYWORDS[kind] | _ALWAYS)}")
        filled = filled or FILL_KEY in part
        self.fills(part, where)
        self.bounds(part, where, filled)
        if kind == "object":
            self.properties(part, where, filled)
        elif kind == "array":
            self.node(part.get("items"), (*where, "items"), filled)
        return None

    def properties(self, part: dict[str, Any], where: Where, filled: bool) -> None:
        properties, required = part.get("properties"), part.get("required", [])
        if not isinstance(properties, dict) or not properties:
            return self.fault(where, "is an object without properties")
        if part.get("additionalProperties", False) is not False:
            self.fault((*where, "additionalProperties"), "additionalProperties is false or left out: the properties are fixed")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            return self.fault((*where, "required"), "required is a list of names")
        for name in properties:
            if name not in required:
                self.fault((*where, "properties", name), f"{one_line(name, 60)} is not in required; every property is")
        for at, name in enumerate(required):
            if name not in properties:
                self.fault(
                    (*where, "required", at), f"requires {one_line(name, 60)!r}, which is no property{meant(name, properties)}"
                )
        for name, inner in properties.items():
            self.node(inner, (*where, "properties", name), filled)
        return None

    def bounds(self, part: dict[str, Any], where: Where, filled: bool) -> None:
        kind = part.get("type")
        for low, high in (("minimum", "maximum"), ("minItems", "maxItems"), ("minLength", "maxLength")):
            given = [part[key] for key in (low, high) if key in part]
            whole = low != "minimum"
            if any(
                isinstance(one, bool) or not isinstance(one, int if whole else int | float) or (whole and one < 0) for one in given
            ):
                self.fault((*where, low if low in part else high), f"{low} and {high} are numbers")
            elif len(given) == 2 and given[0] > given[1]:
                self.fault((*where, low), f"{low} is above {high}")
            elif not whole and kind in ("number", "integer") and len(given) < 2 and not filled and values(part) is None:
                self.fault(where, "a number needs minimum and maximum")
        listed = part.get("enum", [0])
        if not isinstance(listed, list) or not listed or len({json.dumps(one, sort_keys=True) for one in listed}) < len(listed):
            self.fault((*where, "enum"), "enum is a list of different values")
            return
        written = sorted(json.dumps(one, ensure_ascii=False) for one in listed)
        for one, other in pairwise(written):
            if other.startswith(one):
                self.fault((*where, "enum"), f"the value {one_line(one, 60)} is the beginning of another; write them as strings")

    def fills(self, part: dict[str, Any], where: Where) -> None:
        fill, field = part.get(FILL_KEY), part.get(FIELD_KEY)
        if fill is None:
            if field is not None:
                self.fault((*where, FIELD_KEY), f"{FIELD_KEY} without {FILL_KEY}")
            return
        if fill not in FILLS:
            told = one_line(json.dumps(fill), 60)
            return self.fault((*where, FILL_KEY), f"{FILL_KEY} {told} is none of {', '.join(FILLS)}{meant(str(fill), FILLS)}")
        kinds = ("number", "integer") if fill == "probability" else ("array",)
        if part.get("type") not in kinds:
            self.fault(where, f"{FILL_KEY} {fill} fills a property of type {kinds[0]}")
        if fill == "probability":
            chosen = at_path(asked(self.whole), field) if isinstance(field, str) else None
            if chosen is None or not values(chosen):
                told = one_line(json.dumps(field), 60)
                self.fault((*where, FIELD_KEY), f"{FIELD_KEY} {told} is no property with listed values that the model writes")


def _closed(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    found = dict(part)
    if isinstance(part.get("properties"), dict):
        found["properties"] = {name: _closed(inner) for name, inner in part["properties"].items()}
        found["additionalProperties"] = False
    if "items" in part:
        found["items"] = _closed(part["items"])
    return found


def _shown(where: Where) -> str:
    names = [str(step) for step in where if step not in ("properties", "items")]
    return f"{one_line('.'.join(names), 80)}: " if names else ""
