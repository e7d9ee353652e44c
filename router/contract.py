"""Output contracts: what a domain's answer looks like, compiled for the engines, and the answer read back and judged.

A contract is a domain's JSON schema in one of its layouts. `structure` is what engines complete (fixed parts are written, labels
are chosen by their probabilities, only text is free); its `schema` says the same to servers. The schemas that can be used: objects
with fixed properties, all required; strings with maxLength; enum and const; booleans; numbers with both bounds; arrays with
maxItems; nested. Properties are written in the schema's order. Not covered: whose word counts (`classification`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data.config import Sampling
from data.domains import ContractVersion, Domain
from data.errors import InputError
from data.sanitise import one_line
from router.engines.base import Request
from router.engines.structure import Literal, Node, Number, Repeat, Select, Series, Structure, Text

STRING_CHARS = 600
"""Of a string without maxLength."""
REASONING_CHARS = 600
"""Of free reasoning before the JSON."""
MAX_ITEMS = 8
"""Of an array without maxItems."""
MAX_TOKENS = 1_024
SPECIALISED = 500
"""Structures with values in place that are kept."""
_GREEDY = Sampling(temperature=0.0, repeat_penalty=1.0)


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer read back: the JSON object, and the reasoning before it."""

    output: Mapping[str, Any]
    reasoning: str = ""


class Contract:
    """A domain's schema in the layout of that name ("" the first). Raises NotFound, InputError where the schema cannot be used."""

    def __init__(self, domain: Domain, name: str = "") -> None:
        if not domain.asked:
            raise InputError(f"the domain {domain.name} has no schema.json, so its answers have no contract", "ask it instead")
        self.domain = domain
        self.version: ContractVersion = domain.contract(name)
        self.label_path = domain.described.label_field
        self.structure = _structure(domain.asked, self.version)
        self._specialised: dict[str, Structure] = {}

    def request(self, text: str, model: str) -> Request:
        """The request for the answer about `text`: the domain's own prompt, the likeliest answer."""
        messages = self.domain.prompt(text, self.version.name)
        return Request(model=model, messages=messages, sampling=_GREEDY, max_tokens=MAX_TOKENS)

    @cached_property
    def reasons_first(self) -> bool:
        """Whether the model writes free text before it names the label."""
        return any(isinstance(part, Text) for part in self._upto_label())

    def label_structure(self) -> tuple[Structure, bool]:
        """The structure up to and with the label alone, and whether that is the whole answer. Raises InputError without a label."""
        return self._label_structure

    @cached_property
    def _label_structure(self) -> tuple[Structure, bool]:
        properties = self.domain.asked["properties"]
        if list(properties) == [self.label_path]:
            return self.structure, True
        kept = list(properties)[: list(properties).index(self.label_path) + 1]
        schema = {
            "type": "object",
            "properties": {name: properties[name] for name in kept},
            "required": kept,
            "additionalProperties": False,
        }
        return Structure(joined([*self._upto_label(), Literal("}")]), schema, self.version.reasoning_tag), False

    def _upto_label(self) -> list[Node]:
        root = self.structure.root
        parts: list[Node] = list(root.parts) if isinstance(root, Series) else [root]
        for at, part in enumerate(parts):
            if isinstance(part, Select) and part.path == self.label_path:
                return parts[: at + 1]
        raise InputError(
            f"{self.domain.name}: the label {self.label_path!r} is no property with an enum at the top of schema.json",
            f"pointsman domains check {self.domain.name}",
        )

    def structure_with(self, fixed: Mapping[str, Any], never: Mapping[str, tuple[Any, ...]]) -> Structure:
        """The structure with those values (by dotted path) in place and without those that are forbidden; made once for each."""
        if not fixed and not never:
            return self.structure
        key = _written([sorted(fixed.items()), sorted((path, list(values)) for path, values in never.items())])
        found = self._specialised.get(key)
        if found is None:
            schema = _pinned(self.domain.asked, "", fixed, never)
            if len(self._specialised) >= SPECIALISED:
                self._specialised.clear()
            found = self._specialised[key] = _structure(schema, self.version)
        return found

    def parse(self, text: str) -> Parsed:
        """An answer read back, tags and reasoning taken off. Raises InputError where it is no JSON object or has other tags."""
        reasoning, rest = _parted(text.strip(), self.version)
        try:
            output = json.loads(rest, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the answer is no JSON ({one_line(str(error), 80)}): {one_line(text, 120)}") from error
        if not isinstance(output, dict):
            raise InputError(f"the answer is no JSON object: {one_line(text, 120)}")
        return Parsed(output, reasoning)

    def faults(self, output: Mapping[str, Any], whole: bool = False) -> list[str]:
        """How an output breaks the schema, in words; whole: with what Pointsman fills in."""
        validator = self._whole if whole else self._asked
        errors = sorted(validator.iter_errors(output), key=lambda error: error.json_path)
        return [f"{error.json_path}: {one_line(error.message, 200)}" for error in errors]

    @cached_property
    def _asked(self) -> Any:
        import jsonschema

        return jsonschema.Draft202012Validator(dict(self.domain.asked))

    @cached_property
    def _whole(self) -> Any:
        import jsonschema

        return jsonschema.Draft202012Validator(self.domain.schema)


def _structure(schema: Mapping[str, Any], version: ContractVersion) -> Structure:
    parts: list[Node] = []
    if version.reasoning_tag:
        close = f"</{version.reasoning_tag}>"
        parts += [Literal(f"<{version.reasoning_tag}>"), Text(close, REASONING_CHARS, 1), Literal("\n")]
    body = node(schema, "")
    parts += [Literal(f"<{version.answer_tag}>"), body, Literal(f"</{version.answer_tag}>")] if version.answer_tag else [body]
    return Structure(joined(parts), schema, version.reasoning_tag, version.answer_tag)


def _pinned(
    schema: Mapping[str, Any], path: str, fixed: Mapping[str, Any], never: Mapping[str, tuple[Any, ...]]
) -> Mapping[str, Any]:
    """The schema with const for fixed values and smaller enums; a ban that leaves nothing is not heard."""
    if path in fixed:
        return {"const": fixed[path]}
    if "enum" in schema and path in never:
        left = [value for value in schema["enum"] if value not in never[path]]
        return {**schema, "enum": left or schema["enum"]}
    if schema.get("type") != "object":
        return schema
    parts = {name: _pinned(part, f"{path}.{name}".lstrip("."), fixed, never) for name, part in schema.get("properties", {}).items()}
    return {**schema, "properties": parts}


def node(schema: Mapping[str, Any], path: str) -> Node:
    """The structure of the values of a schema; path: dotted, of the property. Raises InputError naming what cannot be used."""
    if "const" in schema:
        return Literal(_written(schema["const"]))
    if "enum" in schema:
        return _select(schema["enum"], path)
    kind = schema.get("type")
    if kind == "object":
        return _object(schema, path)
    if kind == "array":
        return _array(schema, path)
    if kind == "string":
        most = schema.get("maxLength", STRING_CHARS)
        return Series((Literal('"'), Text('"', most, schema.get("minLength", 0))))
    if kind == "boolean":
        return _select((True, False), path)
    if kind in ("number", "integer"):
        if "minimum" not in schema or "maximum" not in schema:
            raise _unusable(path, "a number needs minimum and maximum")
        return Number(schema["minimum"], schema["maximum"], kind == "integer")
    raise _unusable(path, f"the type {kind!r} cannot be written" if kind else "it has no type, enum or const")


def joined(parts: "list[Node]") -> Node:
    """The parts one after the other, literals that meet made one and series in series flattened."""
    flat: list[Node] = []
    for part in parts:
        for one in part.parts if isinstance(part, Series) else (part,):
            last = flat[-1] if flat else None
            if isinstance(one, Literal) and isinstance(last, Literal):
                flat[-1] = Literal(last.text + one.text)
            else:
                flat.append(one)
    return flat[0] if len(flat) == 1 else Series(tuple(flat))


def _object(schema: Mapping[str, Any], path: str) -> Node:
    properties = schema.get("properties", {})
    missing = [name for name in properties if name not in schema.get("required", ())]
    if missing:
        raise _unusable(f"{path}.{missing[0]}".lstrip("."), "every property has to be listed as required")
    if not properties:
        return Literal("{}")
    parts: list[Node] = []
    for at, (name, part) in enumerate(properties.items()):
        parts.append(Literal(("{" if at == 0 else ", ") + _written(name) + ": "))
        parts.append(node(part, f"{path}.{name}".lstrip(".")))
    return joined([*parts, Literal("}")])


def _array(schema: Mapping[str, Any], path: str) -> Node:
    items = schema.get("items")
    if not isinstance(items, Mapping):
        raise _unusable(path, "an array needs items")
    least, most = schema.get("minItems", 0), schema.get("maxItems", MAX_ITEMS)
    if most < least:
        raise _unusable(path, "maxItems is below minItems")
    return Repeat(node(items, f"{path}[]"), least, most) if most else Literal("[]")


def _select(values: Any, path: str) -> Node:
    options = tuple(_written(value) for value in values)
    if not options:
        raise _unusable(path, "an enum needs values")
    for option in options:
        if any(other != option and other.startswith(option) for other in options):
            raise _unusable(path, f"the value {option} is the beginning of another; write them as strings")
    return Select(path, options, tuple(values)) if len(options) > 1 else Literal(options[0])


def _parted(text: str, version: ContractVersion) -> tuple[str, str]:
    """(reasoning, JSON text)."""
    reasoning = ""
    if version.reasoning_tag:
        opening, closing = f"<{version.reasoning_tag}>", f"</{version.reasoning_tag}>"
        if not text.startswith(opening) or closing not in text:
            raise InputError(f"the answer does not begin with {opening}…{closing}: {one_line(text, 120)}")
        reasoning, _, text = text.removeprefix(opening).partition(closing)
        text = text.strip()
    if version.answer_tag:
        opening, closing = f"<{version.answer_tag}>", f"</{version.answer_tag}>"
        if not (text.startswith(opening) and text.endswith(closing)):
            raise InputError(f"the answer is not in {opening}…{closing}: {one_line(text, 120)}")
        text = text[len(opening) : -len(closing)]
    return reasoning.strip(), text


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _unusable(path: str, why: str) -> InputError:
    return InputError(f"schema.json: {path or 'the schema'}: {why}", "see CONTRIBUTING.md for the schemas that a contract can have")
