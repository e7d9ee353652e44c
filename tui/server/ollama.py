"""Ollama's API: chat, generate, tags, show, ps, version, embed; what is asked for, and how answers look.

Fields as in ollama's api/types.go. keep_alive, truncate, num_ctx and the other options of loading are accepted and change
nothing: models are loaded as the settings say. Not covered: images, raw and suffix prompts, templates, which are refused.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StrictStr

from data.chat import Message, ToolCall
from data.errors import PointsmanError
from router.engines.base import ModelInfo
from router.modes.base import Event, Text, Thought, ToolCalled
from tui.server.faults import Refused
from tui.server.openai import Name, Pins
from tui.server.replying import Shape, fault_text
from tui.server.wanted import Wanted
from tui.server.written import line

PATH = "/api/"
LEVEL = "0.12.6"
"""The version of Ollama whose API this is; clients look for the least that they need."""
_ALL = 4096  # tokens that penalties look back over for repeat_last_n -1, the whole context


class _Function(BaseModel):
    name: str
    arguments: dict[str, Any] = {}


class _Call(BaseModel):
    function: _Function


class _Message(BaseModel):
    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None


class _Options(BaseModel):
    temperature: Annotated[float | None, Field(ge=0, le=5)] = None
    top_k: Annotated[int | None, Field(ge=0)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    repeat_penalty: Annotated[float | None, Field(gt=0, le=3)] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    repeat_last_n: Annotated[int | None, Field(ge=-1)] = None
    seed: int | None = None
    num_predict: int | None = None
    stop: StrictStr | list[str] | None = None


class _Asked(BaseModel):
    model: Annotated[str, Field(min_length=1, max_length=300)]
    stream: bool | None = True
    format: str | dict[str, Any] | None = None
    options: _Options | None = None
    think: bool | str | None = None
    pointsman: Pins = Pins()


class ChatBody(_Asked):
    """POST /api/chat."""

    messages: Annotated[list[_Message], Field(max_length=10_000)] = []
    tools: Annotated[list[dict[str, Any]] | None, Field(max_length=128)] = None
    logprobs: bool | None = None


class GenerateBody(_Asked):
    """POST /api/generate."""

    prompt: str = ""
    system: str = ""
    suffix: str = ""
    template: str = ""
    raw: bool | None = None
    images: list[Any] | None = None
    logprobs: bool | None = None


class EmbedBody(BaseModel):
    """POST /api/embed."""

    model: Name
    input: str | list[str]
    dimensions: int | None = None


class EmbeddingsBody(BaseModel):
    """POST /api/embeddings."""

    model: Name
    prompt: str


class NamedBody(BaseModel):
    """POST /api/show."""

    model: Name = ""
    name: Name = ""


def chat_wanted(body: ChatBody, conversation: str) -> Wanted:
    """What a chat asks for; raises Refused for what cannot be given."""
    _refuse(body)
    return _wanted(body, tuple(_message(message) for message in body.messages), conversation, tuple(body.tools or ()))


def generate_wanted(body: GenerateBody, conversation: str) -> Wanted:
    """What a prompt asks for; raises Refused for what cannot be given."""
    _refuse(body)
    for name in ("suffix", "template", "raw", "images"):
        if getattr(body, name):
            raise Refused(f"{body.model!r} does not support {name}", param=name)
    system = (Message("system", body.system),) if body.system else ()
    return _wanted(body, (*system, Message("user", body.prompt)), conversation)


def loaded(body: ChatBody | GenerateBody) -> dict[str, Any]:
    """The answer to a request without a question, which Ollama takes as one to load the model."""
    part = {"message": {"role": "assistant", "content": ""}} if isinstance(body, ChatBody) else {"response": ""}
    return {"model": body.model, "created_at": _now(), **part, "done": True, "done_reason": "load"}


def tag(info: ModelInfo) -> dict[str, Any]:
    """A model in the list."""
    name = info.reference if info.engine else info.name
    return {
        "name": name,
        "model": name,
        "modified_at": "1970-01-01T00:00:00Z",
        "size": info.size_bytes,
        "digest": "",
        "details": details(info),
    }


def details(info: ModelInfo) -> dict[str, Any]:
    """What is known of a model's kind."""
    return {
        "parent_model": "",
        "format": "gguf" if info.engine == "llamacpp" else "",
        "family": info.family,
        "families": [info.family] if info.family else [],
        "parameter_size": info.parameters,
        "quantization_level": info.quantisation,
    }


def shown(info: ModelInfo, abilities: list[str], told: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to /api/show. told: what the engine tells; where its file is stays here."""
    metadata = told.get("model_info") or told.get("metadata") or {}
    template = told.get("template") or metadata.get("tokenizer.chat_template", "")
    return {
        "modelfile": "",
        "parameters": "",
        "template": str(template),
        "details": details(info),
        "model_info": {str(key): value for key, value in metadata.items() if key != "tokenizer.chat_template"},
        "capabilities": abilities,
    }


class Chat(Shape):
    """The lines of a chat, or of an answer to a prompt (`generate`)."""

    media_type = "application/x-ndjson"

    def __init__(self, model: str, tools: bool = False, generate: bool = False) -> None:
        super().__init__(model, tools)
        self._generate = generate
        self._arrived = time.perf_counter()

    def piece(self, event: Event) -> bytes:
        """A line for a piece of text or reasoning, or for calls."""
        if isinstance(event, Text):
            return _line(self._body(event.text))
        if isinstance(event, Thought):
            return _line(self._body("", event.text))
        return _line(self._body("", calls=self.calls[-1:])) if isinstance(event, ToolCalled) and self.tools else b""

    def end(self) -> bytes:
        """The line with the measures."""
        return _line(self._body("") | self._last())

    def beat(self) -> bytes:
        """A line that says nothing."""
        return _line(self._body(""))

    def fault(self, fault: PointsmanError) -> bytes:
        """A line with an error, as Ollama sends it."""
        return fault_text(fault, PATH).encode() + b"\n"

    def whole(self) -> dict[str, Any]:
        """All in one."""
        return self._body("".join(self.text), "".join(self.thinking), self.calls) | self._last()

    def _body(self, text: str, thinking: str = "", calls: list[ToolCall] | None = None) -> dict[str, Any]:
        head = {"model": self.model, "created_at": _now()}
        more: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if self._generate:
            return {**head, "response": text, **more, "done": False}
        if calls:
            more["tool_calls"] = [{"function": {"name": call.name, "arguments": dict(call.arguments)}} for call in calls]
        return {**head, "message": {"role": "assistant", "content": text, **more}, "done": False}

    def _last(self) -> dict[str, Any]:
        last = {"done": True, "done_reason": "length" if self.usage and self.usage.finish == "length" else "stop"}
        measures = {"total_duration": time.perf_counter() - self._arrived}
        counts = {}
        if usage := self.usage:
            measures |= {"load_duration": usage.load_s, "prompt_eval_duration": max(usage.ttft_s - usage.load_s, 0.0)}
            measures |= {"eval_duration": max(usage.total_s - usage.ttft_s, 0.0)}
            counts = {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
        return {**last, **{name: int(value * 1e9) for name, value in measures.items()}, **counts, "pointsman": self.decision}


def _refuse(body: ChatBody | GenerateBody) -> None:
    if body.logprobs:
        raise Refused("log-probabilities are not given", "leave logprobs out", param="logprobs")


def _wanted(body: _Asked, messages: tuple[Message, ...], conversation: str, tools: tuple[dict[str, Any], ...] = ()) -> Wanted:
    options = body.options or _Options()
    last_n, limit = options.repeat_last_n, options.num_predict
    overrides: dict[str, Any] = options.model_dump(exclude={"stop", "num_predict", "repeat_last_n", "seed", "top_p"}) | {
        "top_p": None if options.top_p is None else max(options.top_p, 1e-6),
        "repeat_last_n": _ALL if last_n == -1 else last_n,
        "seed": None if options.seed is None else options.seed % 2**32,
        "max_tokens": limit if limit is not None and limit > 0 else None,
    }
    stop = (options.stop,) if isinstance(options.stop, str) else tuple(options.stop or ())
    return Wanted(
        body.model,
        messages,
        {name: value for name, value in overrides.items() if value is not None},
        tuple(text for text in stop if text),
        _schema(body.format),
        tools,
        None if body.think is None else bool(body.think),
        body.pointsman.mode,
        body.pointsman.domain,
        conversation or body.pointsman.conversation,
    )


def _message(message: _Message) -> Message:
    if message.images:
        raise Refused("only text can be taken in, no images")
    if message.role == "tool":
        return Message("tool", message.content, tool_name=message.tool_name or "")
    calls = tuple(ToolCall(call.function.name, call.function.arguments) for call in message.tool_calls or ())
    if message.role != "assistant":
        return Message(message.role, message.content)
    return Message("assistant", message.content, message.thinking or "", calls)


def _schema(form: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if isinstance(form, dict):
        return form
    if form in (None, ""):
        return None
    if form != "json":
        raise Refused('format is "json" or a JSON schema', param="format")
    return {"type": "object"}


def _line(value: Mapping[str, Any]) -> bytes:
    return line(value) + b"\n"


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
