"""OpenAI's API: what chat completions, completions and embeddings ask for.

Fields as in OpenAI's reference (platform.openai.com/docs/api-reference); a field `pointsman` may pin mode, domain and
conversation. Images, sound, log-probabilities and several choices are refused; fields that only OpenAI's own service knows are
ignored. Not covered: how answers look (openai_replies.py).
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from data.chat import Message, Role, ToolCall
from tui.server.faults import Refused
from tui.server.wanted import Wanted

Name = Annotated[str, Field(max_length=300)]


class Pins(BaseModel):
    """The field `pointsman` of a request."""

    mode: Name = ""
    domain: Name = ""
    conversation: Name = ""


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str = ""


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class _Sampled(BaseModel):
    model: Name
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    temperature: Annotated[float | None, Field(ge=0, le=5)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    seed: int | None = None
    max_tokens: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    stop: str | list[str] | None = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    n: int | None = 1
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, Any] | None = None
    pointsman: Pins = Pins()


class ChatBody(_Sampled):
    """POST /v1/chat/completions."""

    messages: Annotated[list[_Message], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Annotated[int | None, Field(ge=1, lt=2**31)] = None
    response_format: dict[str, Any] | None = None
    tools: Annotated[list[dict[str, Any]] | None, Field(max_length=128)] = None
    tool_choice: str | dict[str, Any] | None = None


class CompletionBody(_Sampled):
    """POST /v1/completions."""

    prompt: str | list[str]
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None


class EmbeddingsBody(BaseModel):
    """POST /v1/embeddings."""

    model: Name
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def chat_wanted(body: ChatBody, conversation: str) -> Wanted:
    """What a chat completion asks for; raises Refused for what cannot be given."""
    _refuse(body)
    calls: dict[str, str] = {}
    messages = tuple(_message(message, calls) for message in body.messages)
    tools = () if body.tool_choice == "none" else tuple(body.tools or ())
    if body.tool_choice not in (None, "none", "auto"):
        raise Refused("a tool cannot be forced", 'leave tool_choice at "auto"', param="tool_choice")
    limit = body.max_completion_tokens or body.max_tokens
    return _wanted(body, messages, limit, conversation, _schema(body.response_format), tools)


def completion_wanted(body: CompletionBody, conversation: str) -> Wanted:
    """What a completion asks for: the prompt becomes a question, since models here are made for chats. Raises Refused."""
    _refuse(body)
    for name in ("suffix", "echo"):
        if getattr(body, name):
            raise Refused(f"{name} is not supported", param=name)
    if body.best_of not in (None, 1):
        raise Refused("best_of must be 1", param="best_of")
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if len(prompts) != 1:
        raise Refused("one prompt at a time", "send a request for each", param="prompt")
    return _wanted(body, (Message("user", prompts[0]),), body.max_tokens, conversation)


def texts_of(given: str | Sequence[str], most: int = 2048) -> list[str]:
    """The texts to embed; raises Refused."""
    texts = [given] if isinstance(given, str) else list(given)
    if not 0 < len(texts) <= most or not all(text.strip() for text in texts):
        raise Refused(f"input must be 1 to {most} texts, none of them empty", param="input")
    return texts


def _refuse(body: _Sampled) -> None:
    if body.n not in (None, 1):
        raise Refused("only one answer at a time (n = 1)", "ask again for another", param="n")
    if body.logprobs not in (None, False) or body.top_logprobs:
        raise Refused("log-probabilities are not given", "leave logprobs out", param="logprobs")
    if body.logit_bias:
        raise Refused("logit_bias is not supported", param="logit_bias")


def _wanted(
    body: _Sampled,
    messages: tuple[Message, ...],
    limit: int | None,
    conversation: str,
    schema: dict[str, Any] | None = None,
    tools: tuple[dict[str, Any], ...] = (),
) -> Wanted:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if len(stop) > 16 or any(not text for text in stop):
        raise Refused("stop takes 1 to 16 texts, none of them empty", param="stop")
    overrides = {
        "temperature": body.temperature,
        "top_p": None if body.top_p is None else max(body.top_p, 1e-6),
        "seed": None if body.seed is None else body.seed % 2**32,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "max_tokens": limit,
    }
    pins = body.pointsman
    return Wanted(
        body.model,
        messages,
        {name: value for name, value in overrides.items() if value is not None},
        stop,
        schema,
        tools,
        mode=pins.mode,
        domain=pins.domain,
        conversation=conversation or pins.conversation,
    )


def _message(message: _Message, calls: dict[str, str]) -> Message:
    """A message; `calls` learns the names of calls by their ids, and names the tool that a result comes from."""
    content = _text(message.content)
    role: Role = "system" if message.role == "developer" else message.role
    if role == "tool":
        return Message("tool", content, tool_name=calls.get(message.tool_call_id, ""))
    found = tuple(_call(call) for call in message.tool_calls or ()) if role == "assistant" else ()
    calls.update({call.id: call.name for call in found})
    return Message(role, content, message.reasoning_content or "" if role == "assistant" else "", found)


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if not isinstance(content, list):
        return content or ""
    parts = []
    for part in content:
        text = part.get("text")
        if part.get("type") != "text" or not isinstance(text, str):
            raise Refused("only text can be taken in, no images and no sound", param="messages")
        parts.append(text)
    return "\n".join(parts)


def _call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function")
    try:
        raw = function["arguments"]  # type: ignore[index]
        arguments = json.loads(raw) if isinstance(raw, str) else raw
        return ToolCall(str(function["name"]), dict(arguments or {}), str(call.get("id", "")))  # type: ignore[index]
    except (TypeError, KeyError, ValueError, RecursionError) as error:
        raise Refused("a tool call has no function with a name and arguments in JSON", param="messages") from error


def _schema(wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    kind = (wanted or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    inner = (wanted or {}).get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        raise Refused('response_format is "text", "json_object" or "json_schema" with a schema', param="response_format")
    return schema
