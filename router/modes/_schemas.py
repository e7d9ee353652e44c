"""Tool parameters as JSON schemas that a grammar can keep: sloppy types put right, everything given an end, and cut-off JSON
closed so that it still satisfies the schema.

Tool descriptions come from other people (MCP servers, data sets) and name types in many ways. Not covered: validating what a
model without a grammar wrote, which the tools do themselves.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from router.modes._partial import partial

TYPES = {
    "dict": "object", "map": "object", "hashmap": "object", "struct": "object",
    "float": "number", "double": "number", "decimal": "number", "num": "number",
    "int": "integer", "long": "integer", "short": "integer", "byte": "integer",
    "str": "string", "char": "string", "text": "string", "date": "string", "datetime": "string",
    "bool": "boolean", "none": "null", "list": "array", "tuple": "array", "set": "array", "arraylist": "array",
}  # fmt: skip
"""Names of types in other languages, as in the Berkeley function calling data, by those of JSON schema."""
KINDS = ("object", "number", "integer", "string", "boolean", "null", "array")
DEPTH = 12
"""Schemas nested deeper than this are open to any value."""
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_DROPPED = ("pattern", "patternProperties", "propertyNames", "not", "if", "then", "else", "dependentSchemas", "contains")


def normalised(schema: Any, depth: int = 0) -> dict[str, Any]:
    """The schema with JSON schema's own types, without conditions and patterns, which no grammar expresses.

    Never raises: what makes no sense becomes a schema that takes any value.
    """
    if not isinstance(schema, Mapping) or depth > DEPTH:
        return {}
    found = {str(key): value for key, value in schema.items() if key not in _DROPPED}
    kind = _kind(found.pop("type", None))
    if kind:
        found["type"] = kind
    for key in ("properties", "$defs", "definitions"):
        if key in found:
            parts = found[key] if isinstance(found[key], Mapping) else {}
            found[key] = {str(name): normalised(part, depth + 1) for name, part in parts.items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(found.get(key), list) and found[key]:
            found[key] = [normalised(part, depth + 1) for part in found[key]]
        else:
            found.pop(key, None)
    if "items" in found:
        found["items"] = normalised(found["items"], depth + 1)
    return _consistent(found, depth)


def bounded(schema: Mapping[str, Any], chars: int, items: int) -> dict[str, Any]:
    """The normalised schema with an end to everything: strings of at most `chars` characters, arrays of at most `items`."""
    found = dict(schema)
    if "const" in found or "enum" in found or "$ref" in found:
        return found
    for key in ("properties", "$defs", "definitions"):
        if key in found:
            found[key] = {name: bounded(part, chars, items) for name, part in found[key].items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if key in found:
            found[key] = [bounded(part, chars, items) for part in found[key]]
            if key != "prefixItems":
                return found
    kind = found.get("type", "object" if "properties" in found else None)
    return _bounded_kinds(found, kind if isinstance(kind, list) else [kind], chars, items) if kind else _anything(chars, items)


def closed(text: str, schema: Mapping[str, Any]) -> Any:
    """What a cut-off JSON text says, completed to satisfy the normalised schema; what is missing is the least there is."""
    return conformed(partial(text), schema, schema)


def conformed(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> Any:
    """`value` where the schema takes it, with as little as possible changed where it does not."""
    if depth > 2 * DEPTH:
        return None
    if "$ref" in schema:
        return conformed(value, _target(schema["$ref"], root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return value if value in schema["enum"] else schema["enum"][0]
    if "allOf" in schema:
        return conformed(value, _joined(schema, root), root, depth + 1)
    for part in (choice := schema.get("anyOf") or schema.get("oneOf") or ()):
        if conformed(value, part, root, depth + 1) == value:
            return value
    if choice:
        return conformed(value, choice[0], root, depth + 1)
    return _typed(value, schema, root, depth)


def _typed(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    kinds = schema.get("type", "object" if "properties" in schema else None)
    if kinds is None:
        return value
    kinds = kinds if isinstance(kinds, list) else [kinds]
    kind = next((kind for kind in kinds if _is(value, kind)), kinds[0])
    if kind == "object":
        return _object(value if isinstance(value, dict) else {}, schema, root, depth)
    if kind == "array":
        return _array(value if isinstance(value, list) else [], schema, root, depth)
    if kind == "string":
        text = value if isinstance(value, str) else ""
        return text[: schema.get("maxLength")].ljust(schema.get("minLength", 0), "-")
    if kind in ("integer", "number"):
        return _number(value if _is(value, kind) else 0, kind, schema)
    if kind == "boolean":
        return value is True
    return None


def _object(value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties", {})
    required = schema.get("required", ())
    found = {
        name: conformed(value.get(name), part, root, depth + 1)
        for name, part in properties.items()
        if name in value or name in required
    }
    found |= {name: value.get(name) for name in required if name not in found}
    return found if properties or required else dict(value)


def _array(value: list[Any], schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> list[Any]:
    if "prefixItems" in schema:
        parts = schema["prefixItems"]
        return [conformed(value[at] if at < len(value) else None, part, root, depth + 1) for at, part in enumerate(parts)]
    value = value[: schema.get("maxItems")]
    value = value + [None] * (schema.get("minItems", 0) - len(value))
    return [conformed(item, schema.get("items", {}), root, depth + 1) for item in value]


def _number(value: float, kind: str, schema: Mapping[str, Any]) -> float:
    least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    number: float = min(max(value, least), most)
    if kind == "integer" and not isinstance(number, int):
        return math.ceil(number) if number == least else math.floor(number)
    return number


def _is(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, {"object": dict, "array": list, "string": str, "boolean": bool}[kind])


def _kind(kind: Any) -> str | list[str] | None:
    """The type or types, None for any value."""
    if isinstance(kind, list):
        kinds = [found for one in kind if isinstance(found := _kind(one), str)]
        return list(dict.fromkeys(kinds)) or None
    if not isinstance(kind, str):
        return None
    kind = kind.strip().lower()
    kind = TYPES.get(kind, kind)
    return kind if kind in KINDS else None


def _consistent(found: dict[str, Any], depth: int) -> dict[str, Any]:
    """Without keys whose values have the wrong shape, and with a type that suits the others."""
    names = list(found.get("properties", {}))
    if names and "type" not in found and not any(key in found for key in ("anyOf", "oneOf", "allOf")):
        found["type"] = "object"
    required = found.pop("required", None)
    if isinstance(required, list):
        found["required"] = [name for name in dict.fromkeys(map(str, required)) if name in names] if names else []
    if not (isinstance(found.get("enum"), list) and found["enum"]):
        found.pop("enum", None)
    elif isinstance(found.get("type"), str) and found["type"] != "array":
        fitting = [value for value in found["enum"] if _is(value, found["type"])]
        found["enum"] = fitting or found["enum"]
        found = found if fitting else {key: value for key, value in found.items() if key != "type"}
    elif found.get("type") == "array":  # a list of values to choose several from, as it is often written
        found["items"] = {"enum": found.pop("enum")}
    extra = found.get("additionalProperties")
    if isinstance(extra, Mapping):
        found["additionalProperties"] = normalised(extra, depth + 1)
    elif not isinstance(extra, bool):
        found.pop("additionalProperties", None)
    for key in ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"):
        if key in found and (
            isinstance(found[key], bool) or not isinstance(found[key], int | float) or not math.isfinite(found[key])
        ):
            del found[key]
    return found


def _bounded_kinds(found: dict[str, Any], kinds: list[str], chars: int, items: int) -> dict[str, Any]:
    if "string" in kinds and "format" not in found:
        found["maxLength"] = max(min(found.get("maxLength", chars), chars), found.get("minLength", 0))
    if "array" in kinds and "prefixItems" not in found:
        found["maxItems"] = max(min(found.get("maxItems", items), items), found.get("minItems", 0))
        found["items"] = bounded(found["items"], chars, max(1, items // 2)) if found.get("items") else _scalar(chars)
    return _closed_object(found, chars, items) if "object" in kinds else found


def _closed_object(found: dict[str, Any], chars: int, items: int) -> dict[str, Any]:
    if found.get("properties"):
        return found | {"additionalProperties": False}
    extra = found.get("additionalProperties")
    if extra is False:
        return found | {"properties": {}}
    value = bounded(extra, chars, 1) if isinstance(extra, Mapping) and extra else _scalar(chars)
    return found | {"additionalProperties": value, "maxProperties": items}


def _scalar(chars: int) -> dict[str, Any]:
    return {"anyOf": [{"type": "string", "maxLength": chars}, {"type": "number"}, {"type": "boolean"}, {"type": "null"}]}


def _anything(chars: int, items: int) -> dict[str, Any]:
    """Any value that ends: a scalar, or a list or a mapping of scalars."""
    scalar = _scalar(chars)
    array = {"type": "array", "items": scalar, "maxItems": items}
    return {"anyOf": [*scalar["anyOf"], array, {"type": "object", "additionalProperties": scalar, "maxProperties": items}]}


def _target(reference: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    target: Any = root
    for name in filter(None, str(reference).removeprefix("#").split("/")):
        target = target.get(name.replace("~1", "/").replace("~0", "~"), {}) if isinstance(target, Mapping) else {}
    return target if isinstance(target, Mapping) else {}


def _joined(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        part = _target(part["$ref"], root) if "$ref" in part else part
        found["properties"] = found.get("properties", {}) | part.get("properties", {})
        found["required"] = [*found.get("required", ()), *part.get("required", ())]
    return found


def canonical(value: Any) -> str:
    """One spelling of a JSON value, to compare by."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
