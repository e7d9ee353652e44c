"""How answers look in OpenAI's API: whole, streamed as events, vectors and models.

Fields as in OpenAI's reference, reasoning as `reasoning_content` as vLLM and DeepSeek name it; a field `pointsman` says what the
router chose. Not covered: what is asked for (openai.py).
"""

import base64
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from data.errors import PointsmanError
from router.engines.base import ModelInfo
from router.modes.base import Event, Text, Thought, ToolCalled
from tui.server.faults import Refused
from tui.server.openai import EmbeddingsBody
from tui.server.replying import Shape, fault_text
from tui.server.written import line

PATH = "/v1/"
_FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


class Chat(Shape):
    """A chat completion."""

    media_type = "text/event-stream; charset=utf-8"

    def __init__(self, model: str, tools: bool, include_usage: bool) -> None:
        super().__init__(model, tools)
        self._include_usage = include_usage
        self._created = int(time.time())
        self._begun = False

    def piece(self, event: Event) -> bytes:
        """A chunk for a piece of text or reasoning."""
        if isinstance(event, Text):
            return self._chunk({"content": event.text})
        if isinstance(event, Thought):
            return self._chunk({"reasoning_content": event.text})
        return (
            self._chunk({"tool_calls": [self._call(len(self.calls) - 1)]}) if isinstance(event, ToolCalled) and self.tools else b""
        )

    def end(self) -> bytes:
        """The reason why it ended, the measures where they were asked for, and the mark."""
        last = self._chunk({}, self._reason, {"pointsman": self.decision})
        usage = _event({**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage}) if self._include_usage else b""
        return last + usage + b"data: [DONE]\n\n"

    def beat(self) -> bytes:
        """A comment, which readers of event streams skip."""
        return b": waiting\n\n"

    def fault(self, fault: PointsmanError) -> bytes:
        """An event with an error, as OpenAI's clients look for it."""
        return f"data: {fault_text(fault, PATH)}\n\n".encode()

    def whole(self) -> dict[str, Any]:
        """The completion."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.text), "refusal": None}
        if self.thinking:
            message["reasoning_content"] = "".join(self.thinking)
        if self.calls:
            message["tool_calls"] = [_without_index(self._call(number)) for number in range(len(self.calls))]
            message["content"] = message["content"] or None
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self._usage, "pointsman": self.decision}

    @property
    def _reason(self) -> str:
        if self.calls:
            return "tool_calls"
        return _FINISH.get(self.usage.finish, "stop") if self.usage else "stop"

    @property
    def _usage(self) -> dict[str, Any]:
        return _usage(self)

    def _chunk(self, delta: dict[str, Any], reason: str | None = None, more: dict[str, Any] | None = None) -> bytes:
        if not self._begun:
            self._begun = True
            delta = {"role": "assistant", "content": ""} | delta
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _event({**self._head("chat.completion.chunk"), "choices": [choice], **(more or {})})

    def _head(self, kind: str) -> dict[str, Any]:
        model = self.started.model if self.started else self.model
        return {"id": f"chatcmpl-{self.key}", "object": kind, "created": self._created, "model": model}

    def _call(self, number: int) -> dict[str, Any]:
        call = self.calls[number]
        function = {"name": call.name, "arguments": json.dumps(dict(call.arguments))}
        return {"index": number, "id": call.id, "type": "function", "function": function}


class Completion(Shape):
    """A completion of the old kind."""

    media_type = "text/event-stream; charset=utf-8"

    def __init__(self, model: str, include_usage: bool) -> None:
        super().__init__(model)
        self._include_usage = include_usage
        self._created = int(time.time())

    def piece(self, event: Event) -> bytes:
        """A chunk for a piece of text."""
        return _event(self._body(event.text, None)) if isinstance(event, Text) else b""

    def end(self) -> bytes:
        """The reason why it ended, and the mark."""
        last = self._body("", self._reason) | {"pointsman": self.decision}
        usage = _event(self._body("", None) | {"choices": [], "usage": _usage(self)}) if self._include_usage else b""
        return _event(last) + usage + b"data: [DONE]\n\n"

    def beat(self) -> bytes:
        """A comment."""
        return b": waiting\n\n"

    def fault(self, fault: PointsmanError) -> bytes:
        """An event with an error."""
        return f"data: {fault_text(fault, PATH)}\n\n".encode()

    def whole(self) -> dict[str, Any]:
        """The completion."""
        return self._body("".join(self.text), self._reason) | {"usage": _usage(self), "pointsman": self.decision}

    @property
    def _reason(self) -> str:
        return _FINISH.get(self.usage.finish, "stop") if self.usage else "stop"

    def _body(self, text: str, reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        model = self.started.model if self.started else self.model
        return {
            "id": f"cmpl-{self.key}",
            "object": "text_completion",
            "created": self._created,
            "model": model,
            "choices": [choice],
        }


def embeddings(body: EmbeddingsBody, rows: Sequence[Any], tokens: int) -> dict[str, Any]:
    """The answer to EmbeddingsBody; raises Refused for another number of dimensions."""
    if body.dimensions not in (None, len(rows[0])):
        raise Refused(f"this model has {len(rows[0])} dimensions", "leave dimensions out", param="dimensions")
    data = [{"object": "embedding", "index": number, "embedding": _vector(row, body)} for number, row in enumerate(rows)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body.model, "usage": usage}


def model(info: ModelInfo) -> dict[str, Any]:
    """A model in the list."""
    reference = info.reference if info.engine else info.name
    return {"id": reference, "object": "model", "created": 0, "owned_by": info.engine or "pointsman"}


def _usage(shape: Shape) -> dict[str, Any]:
    usage = shape.usage
    if usage is None:
        return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + line(value) + b"\n\n"


def _without_index(call: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in call.items() if name != "index"}


def _vector(row: Any, body: EmbeddingsBody) -> Any:
    values = np.asarray(row, dtype="<f4")
    return base64.b64encode(values.tobytes()).decode() if body.encoding_format == "base64" else values.tolist()
