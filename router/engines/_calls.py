"""Tool calls as models write them into their answers, read back: Hermes and Qwen, Mistral, Llama 3, plain JSON.

    <tool_call>{"name": …, "arguments": {…}}</tool_call>      [TOOL_CALLS][{"name": …, "arguments": {…}}]
    <|python_tag|>{"name": …, "parameters": {…}}              [TOOL_CALLS]name[ARGS]{…}
    {"name": …, "parameters": {…}}                            ```json … ```

Whatever cannot be read stays text. Not covered: forms that are no JSON (pythonic lists, XML of Qwen-Coder and GLM).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from data.chat import ToolCall

MARKS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>")
MOST = 32
"""Calls read from one answer."""
SEARCHED_CHARS = 1 << 16
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
_NAMED = re.compile(r"\s*([\w.\-]{1,128})\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\])?\s*(?=\{)")
_FENCE = re.compile(r"\A```[\w-]*\s*(.*?)\s*(?:```)?\s*\Z", re.DOTALL)
_HEADS = frozenset(mark[:size] for mark in MARKS for size in range(1, len(mark)))
_NAMES = ("name", "tool", "function", "tool_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input")


class Calls:
    """Parts an answer into text, which is passed on, and calls, which are known at its end.

    From a mark on, or where the answer begins like JSON, everything is held back. names: the tools there are.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._held = ""
        self._state = "before"

    def feed(self, text: str) -> str:
        """What is certainly no call."""
        self._held += text
        if self._state == "before" and self._held.strip():
            begun = self._held.lstrip()
            if "```".startswith(begun[:3]) and len(begun) < 3:
                return ""
            self._state = "held" if begun.startswith(("{", "[", "```")) else "text"
        if self._state != "text":
            return ""
        found = [at for mark in MARKS if (at := self._held.find(mark)) >= 0]
        if found:
            self._state = "held"
            keep = min(found)
        else:
            longest = max(map(len, MARKS)) - 1
            keep = len(self._held) - next(
                (size for size in range(min(longest, len(self._held)), 0, -1) if self._held[-size:] in _HEADS), 0
            )
        text, self._held = self._held[:keep], self._held[keep:]
        return text

    def flush(self) -> tuple[str, tuple[ToolCall, ...]]:
        """(text, calls) of what was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return read(held, self._names) if self._state == "held" else (held, ())


def read(text: str, names: Collection[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """The calls that `text` is made of, and what of it is none. Without a mark only calls of the tools `names` count."""
    if "<tool_call>" in text:
        found = [(block[0], call_of(_json(block[1]))) for block in _TAGGED.finditer(text)]
        for whole, call in found:
            text = text.replace(whole, "", 1) if call else text
        return _result(text, [call for _, call in found])
    mark = next((mark for mark in MARKS if mark in text), "")
    before, _, body = text.partition(mark) if mark else ("", "", text)
    body = fenced[1] if (fenced := _FENCE.match(body.strip())) else body
    calls = [call_of(value) for value in _values(body)]
    if not mark and any(call is not None and call.name not in names for call in calls):
        return text, ()
    return _result(before, calls) if calls and None not in calls else (text, ())


def call_of(value: Any) -> ToolCall | None:
    """A call written as a JSON object, None where it is not one."""
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("function"), Mapping):
        value = value["function"]
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str) and value[key]), None)
    arguments: Any = next((value[key] for key in _ARGUMENTS if key in value), None)
    if arguments is None and set(value) <= {*_NAMES, "id", "type"}:
        arguments = {}
    if isinstance(arguments, str):
        arguments = _json(arguments)
    return ToolCall(name, cleaned(arguments)) if name and isinstance(arguments, dict) else None


def search(text: str) -> ToolCall | None:
    """The first call written as JSON anywhere in `text`, None where there is none."""
    text = text[:SEARCHED_CHARS]
    decoder = json.JSONDecoder()
    for at in [match.start() for match in re.finditer(r"\{", text)][:MOST]:
        try:
            call = call_of(decoder.raw_decode(text, at)[0])
        except (ValueError, RecursionError):
            continue
        if call is not None:
            return call
    return None


def cleaned(value: Any) -> Any:
    """JSON without lone surrogates, which no file and no database takes."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {cleaned(str(key)): cleaned(item) for key, item in value.items()}
    return [cleaned(item) for item in value] if isinstance(value, list | tuple) else value


def _values(text: str) -> Iterator[Any]:
    """JSON values one after the other, a list's items each; None for what is no JSON. Also Mistral's name[ARGS]{…}."""
    decoder = json.JSONDecoder()
    text = text.strip()
    at = 0
    while at < len(text):
        named = _NAMED.match(text, at)
        try:
            value, at = decoder.raw_decode(text, named.end() if named else at)
        except (ValueError, RecursionError):
            yield None
            return
        if named:
            value = {"name": named[1], "arguments": value}
        yield from value if isinstance(value, list) else [value]
        while at < len(text) and text[at] in " \t\r\n,;":
            at += 1
        if text.startswith("[TOOL_CALLS]", at):
            at += len("[TOOL_CALLS]")


def _result(text: str, calls: list[ToolCall | None]) -> tuple[str, tuple[ToolCall, ...]]:
    good = [call for call in calls if call is not None][:MOST]
    numbered = (ToolCall(call.name, call.arguments, f"call{at:05}") for at, call in enumerate(good))  # Mistral wants nine letters
    return text if text.strip() else "", tuple(numbered)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
