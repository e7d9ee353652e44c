"""A JSON schema as a grammar (GBNF) that llama.cpp keeps the answer to, written as json.dumps writes.

With one way to write each value the model decides about content only. llama-cpp-python's own converter is not used: it lets
raw line breaks into strings and spells é as \\u00e9. Left to whoever parses the answer: some bounds of fractions (see `ranges`),
multipleOf, uniqueItems, unknown formats. Refused: patterns, conditions, references to elsewhere.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from data.errors import EngineRejected
from data.sanitise import one_line
from router.engines._llamacpp import bindings, ranges

SCHEMA_CHARS = 1 << 18
GRAMMAR_CHARS = 1 << 20
REPETITIONS = 2_000  # the largest minItems, maxLength and so on: MAX_REPETITION_THRESHOLD in llama-grammar.cpp
KEY_CHARS = 48  # of the names in an object whose number of entries is bounded
_FIX = "simplify the schema"
_REFUSED = ("pattern", "patternProperties", "propertyNames", "not", "if", "dependentSchemas", "contains", "$dynamicRef")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INTEGER = '"-"? ("0" | [1-9] [0-9]{0,15})'
_HEX = "[0-9a-fA-F]"
_DATE, _TIME = (
    '[0-9]{4} "-" [01] [0-9] "-" [0-3] [0-9]',
    '[0-2] [0-9] ":" [0-5] [0-9] ":" [0-5] [0-9] ("Z" | [-+] [0-2] [0-9] ":" [0-5] [0-9])',
)
_BUILT_IN = {
    "char": r'[^"\\\x7F\x00-\x1F] | [\\] (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "string": r'"\"" char* "\""',
    "integer": _INTEGER,
    "number": f'{_INTEGER} ("." [0-9]{{1,15}})? ([eE] [-+]? [0-9]{{1,2}})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "object": '"{" (string ": " value (", " string ": " value)*)? "}"',
    "array": '"[" (value (", " value)*)? "]"',
    "value": "object | array | string | number | boolean | null",
}
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f'{_DATE} "T" {_TIME}',
    "uuid": ' "-" '.join(f"{_HEX}{{{size}}}" for size in (8, 4, 4, 4, 12)),
}


def compiled(api: Any, vocab: int, schema: Mapping[str, Any]) -> Any:
    """A grammar sampler, to be freed by the caller; raises EngineRejected where the schema cannot be expressed."""
    grammar = grammar_of(schema)
    bindings.forget_log()
    with bindings.written() as said:
        found = api.llama_sampler_init_grammar(vocab, grammar.encode("utf-8", "replace"), b"root")
    if not found:
        said = said[0].splitlines() or [bindings.last_complaint() or "llama.cpp refuses its grammar"]
        reason = one_line(said[0], 200)
        raise EngineRejected(f"the JSON schema cannot be used: {reason}", _FIX)
    return found


def grammar_of(schema: Mapping[str, Any]) -> str:
    """The JSON schema as a GBNF grammar; raises EngineRejected saying what cannot be expressed."""
    try:
        text = json.dumps(schema)
        if len(text) > SCHEMA_CHARS:
            raise EngineRejected(f"the JSON schema has {len(text)} characters, more than {SCHEMA_CHARS}", _FIX)
        grammar = _Rules(json.loads(text)).text()
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EngineRejected(
            f"the JSON schema cannot be used: {one_line(str(error), 200) or type(error).__name__}", _FIX
        ) from error
    if len(grammar) > GRAMMAR_CHARS:
        raise EngineRejected(f"the JSON schema makes a grammar of {len(grammar)} characters, more than {GRAMMAR_CHARS}", _FIX)
    return grammar


class _Rules:
    """The rules of one schema, by name; each part of the schema becomes an expression or the name of a rule."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._rules: dict[str, str] = dict(_BUILT_IN)
        self._references: dict[str, str] = {}

    def text(self) -> str:
        """The whole grammar."""
        self._rules["root"] = self._expression(self._schema)
        return "\n".join(f"{name} ::= {rule}" for name, rule in self._rules.items())

    def _expression(self, schema: Any) -> str:
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, dict):
            raise ValueError(f"{json.dumps(schema)[:80]} is no schema")
        refused = [key for key in _REFUSED if key in schema]
        if refused:
            raise ValueError(f"{refused[0]!r} cannot be made into a grammar")
        if "$ref" in schema:
            return self._referred(schema["$ref"])
        if "const" in schema:
            return _literal(schema["const"])
        if "enum" in schema:
            return _either([_literal(value) for value in schema["enum"]])
        if "allOf" in schema:
            return self._expression(self._merged(schema))
        choice = schema.get("anyOf") or schema.get("oneOf")
        if choice and "properties" not in schema:
            return _either([self._named(part) for part in choice])
        return self._typed(schema)

    def _typed(self, schema: dict[str, Any]) -> str:
        kind = schema.get("type") or ("object" if "properties" in schema else "array" if "items" in schema else "")
        if isinstance(kind, list):
            return _either([self._named(schema | {"type": one}) for one in kind])
        if kind == "object" and ("properties" in schema or "additionalProperties" in schema):
            return self._object(schema)
        if kind == "array" and ({"items", "prefixItems", "minItems", "maxItems"} & set(schema)):
            return self._array(schema)
        if kind == "string":
            return self._string(schema)
        if kind in ("integer", "number"):
            return (ranges.integers if kind == "integer" else ranges.numbers)(schema) or kind
        if kind and kind not in _BUILT_IN:
            raise ValueError(f"there is no type {kind!r}")
        return kind or "value"

    def _string(self, schema: dict[str, Any]) -> str:
        form = _FORMATS.get(schema.get("format", ""))
        if form is not None:
            return f'"\\"" {form} "\\""'
        if "minLength" in schema or "maxLength" in schema:
            return f'"\\"" char{_times(schema.get("minLength", 0), schema.get("maxLength"))} "\\""'
        return "string"

    def _array(self, schema: dict[str, Any]) -> str:
        if isinstance(schema.get("prefixItems"), list):
            items = ' ", " '.join(self._named(item) for item in schema["prefixItems"])
            return f'"[" {items} "]"'
        item = self._named(schema.get("items", {}))
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if most == 0:
            return '"[]"'
        more = f'{item} (", " {item}){_times(max(0, least - 1), None if most is None else most - 1)}'
        return f'"[" {more} "]"' if least else f'"[" ({more})? "]"'

    def _object(self, schema: dict[str, Any]) -> str:
        properties = schema.get("properties", {})
        required = set(schema.get("required", ()))
        extra = schema.get("additionalProperties", False)
        most = schema.get("maxProperties")
        if most is not None and extra is not False and not properties:
            return self._counted(self._named(extra), schema.get("minProperties", 0), most)
        pair = "" if extra is False else f'string ": " {self._named(extra)}'
        started = self._rule(f'(", " {pair})*') if pair else ""  # what may follow when something came before
        fresh = f"({pair} {started})?" if pair else ""  # and when nothing did
        for name, part in reversed(properties.items()):
            entry = f"{_literal(name)} {_quoted(': ')} {self._named(part)}"
            if name in required:
                fresh = f"{entry} {started}"
                started = self._rule(f'", " {entry} {started}')
            else:
                fresh = _either([f"{entry} {started}", fresh]) if fresh else f"({entry} {started})?"
                started = self._rule(f'(", " {entry})? {started}')
        return f'"{{" {fresh} "}}"'

    def _counted(self, value: str, least: int, most: int) -> str:
        """An object of so many entries under any names, which are then short, so that it ends."""
        if most == 0:
            return '"{}"'
        pair = f'"\\"" char{{0,{KEY_CHARS}}} "\\": " {value}'
        more = f'{pair} (", " {pair}){_times(max(0, least - 1), most - 1)}'
        return f'"{{" {more} "}}"' if least else f'"{{" ({more})? "}}"'

    def _merged(self, schema: dict[str, Any]) -> dict[str, Any]:
        found = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            part = self._target(part["$ref"]) if "$ref" in part else part
            part = self._merged(part) if "allOf" in part else part
            joined = {
                "properties": found.get("properties", {}) | part.get("properties", {}),
                "required": [*found.get("required", ()), *part.get("required", ())],
            }
            found = found | part | {key: value for key, value in joined.items() if value}
        return found

    def _referred(self, reference: Any) -> str:
        if reference not in self._references:
            target = self._target(reference)
            name = self._references[reference] = self._rule("")
            self._rules[name] = self._expression(target)
        return self._references[reference]

    def _target(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise ValueError(f"the reference {reference!r} leads out of the schema")
        target = self._schema
        for name in filter(None, reference[1:].split("/")):
            name = name.replace("~1", "/").replace("~0", "~")
            target = target[int(name)] if isinstance(target, list) else target[name]
        return target

    def _named(self, schema: Any) -> str:
        """The expression, as a rule of its own where it is more than a name."""
        expression = self._expression(schema)
        return expression if expression in self._rules else self._rule(expression)

    def _rule(self, expression: str) -> str:
        name = f"r{len(self._rules)}"
        self._rules[name] = expression
        return name


def _literal(value: Any) -> str:
    return _quoted(json.dumps(value, ensure_ascii=False))


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in text) + '"'


def _either(choices: Sequence[str]) -> str:
    if not choices:
        raise ValueError("a choice among nothing")
    return f"({' | '.join(choices)})"


def _times(least: int, most: int | None) -> str:
    if max(least, most or 0) > REPETITIONS or least < 0 or (most is not None and most < least):
        raise ValueError(f"{least} to {'any number' if most is None else most} repetitions are not possible")
    return f"{{{least},{'' if most is None else most}}}"
