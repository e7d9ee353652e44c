"""What an OpenAI-style server says: server-sent events, answer deltas, tool calls in pieces, token counts.

Server-sent events: html.spec.whatwg.org, section 9.2. Chat completions: platform.openai.com/docs/api-reference/chat, with
the fields that vLLM and llama-server add (`reasoning_content`, `reasoning`). Not covered: sending; images and sound.
"""

import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from data.chat import Chunk, Finish, Message, ToolCall, Usage
from router.engines._faults import Garbled, Refusal, as_list, as_object, count_of, parse_object, refusal, text_of
from router.engines._http import LINE_BYTES
from router.engines._token_probabilities import Heard

FINISHES: dict[str, Finish] = {"length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}
TOOL_CALLS = 128


def events(lines: Iterator[str | None]) -> Generator[str | None, None, None]:
    """The data of each event, None for silence. A bare JSON object counts as data; raises Garbled for endless data."""
    data: list[str] = []
    size = 0
    for line in lines:
        if line is None or line.startswith(":"):
            yield None
        elif line == "":
            if data:
                yield "\n".join(data)
            data, size = [], 0
        elif line.startswith("{"):
            yield line
        else:
            field, _, value = line.partition(":")
            if field == "data":
                data.append(value.removeprefix(" "))
                size += len(value) + 1
            elif field == "error":  # llama-server before 2026
                yield json.dumps({"error": value})
            if size > LINE_BYTES:
                raise Garbled(f"it sent an event of more than {LINE_BYTES >> 20} MB")
    if data:
        yield "\n".join(data)


class Answer:
    """One answer put together: what to pass on at once, and what is known only at its end. heard: takes log-probabilities."""

    def __init__(self, heard: Heard | None = None) -> None:
        self._heard = heard
        self.finish = ""
        self.begun = False
        self._usage: Mapping[str, Any] = {}
        self._calls: dict[int, dict[str, str]] = {}

    def add(self, data: str) -> Chunk:
        """The text and thinking in one event; raises Refusal for an error, and Garbled."""
        event = parse_object(data)
        if event.get("error"):
            raise refusal(200, event)
        self._usage = as_object(event.get("usage") or self._usage)
        text = thinking = ""
        for choice in map(as_object, as_list(event.get("choices"))):
            delta = as_object(choice.get("delta") or choice.get("message") or {})  # message: from a server that does not stream
            if self._heard and isinstance(choice.get("logprobs"), dict):
                self._heard.hear(choice["logprobs"].get("content"))
            text += text_of(delta, "content")
            thinking += text_of(delta, "reasoning_content") or text_of(delta, "reasoning")
            for call in map(as_object, as_list(delta.get("tool_calls"))):
                self._add_call(call)
            self.finish = text_of(choice, "finish_reason") or self.finish
        self.begun = self.begun or bool(text or thinking or self._calls)
        return Chunk(text=text, thinking=thinking)

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The whole tool calls; raises Garbled where the arguments are no JSON object."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        return tuple(ToolCall(call["name"], parse_object(call["arguments"] or "{}"), call["id"]) for call in calls)

    def usage(self, context_tokens: int) -> Usage:
        """The measures; token counts are 0 where the server sends none."""
        details = as_object(self._usage.get("prompt_tokens_details") or {})
        return Usage(
            prompt_tokens=count_of(self._usage, "prompt_tokens"),
            cached_tokens=count_of(details, "cached_tokens"),
            completion_tokens=count_of(self._usage, "completion_tokens"),
            finish="tool_calls" if self._calls else FINISHES.get(self.finish, "stop"),
            context_tokens=context_tokens,
        )

    def _add_call(self, delta: Mapping[str, Any]) -> None:
        index = delta.get("index", len(self._calls))
        if not isinstance(index, int) or len(self._calls) > TOOL_CALLS:
            raise Garbled("its tool calls have an unexpected shape")
        call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        function = as_object(delta.get("function") or {})
        call["id"] = call["id"] or text_of(delta, "id")
        call["name"] += text_of(function, "name")
        call["arguments"] += text_of(function, "arguments")
        if len(call["arguments"]) > LINE_BYTES:
            raise Garbled(f"it sent a tool call of more than {LINE_BYTES >> 20} MB")


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation as /chat/completions takes it; each tool result names the call it answers, made up where it has no id."""
    plain: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            waiting = [(call.name, call.id or f"call_{len(plain)}_{index}") for index, call in enumerate(message.tool_calls)]
            entry["tool_calls"] = [
                {"id": id_, "type": "function", "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))}}
                for call, (_, id_) in zip(message.tool_calls, waiting, strict=True)
            ]
        if message.role == "tool":
            answered = next((call for call in waiting if call[0] == message.tool_name), waiting[0] if waiting else ("", "call_0"))
            waiting = [call for call in waiting if call != answered]
            entry["tool_call_id"] = answered[1]
        plain.append(entry)
    return plain


def numbers(answer: Any) -> list[Any]:
    """The vectors in an answer of /embeddings, in the order of the texts; raises Garbled."""
    rows = [as_object(row) for row in as_list(as_object(answer).get("data"))]
    return [row.get("embedding") for row in sorted(rows, key=lambda row: count_of(row, "index"))]


def models(answer: Any) -> list[tuple[str, int, int]]:
    """Name, context in tokens and size in bytes of each model in an answer of /models, 0 where unknown; raises Garbled."""
    found = []
    for entry in map(as_object, as_list(as_object(answer).get("data"))):
        meta = entry.get("meta") if isinstance(entry.get("meta"), dict) else {}
        context = count_of(entry, "max_model_len") or count_of(as_object(meta), "n_ctx") or count_of(entry, "context_length")
        found.append((text_of(entry, "id"), context, count_of(as_object(meta), "size")))
    return found


def unknown_field(fault: Refusal, fields: Iterable[str]) -> bool:
    """Whether the refusal says that the server does not know one of `fields` of the request."""
    return fault.status in (400, 422) and _UNKNOWN.search(fault.text) is not None and any(field in fault.text for field in fields)


_UNKNOWN = re.compile("unrecogni[sz]ed|unsupported|not supported|unknown|extra|not permitted|unexpected", re.IGNORECASE)
