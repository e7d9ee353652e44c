"""The one conversation format: what the log keeps, engines read and training uses.

    {"role": "user", "content": "…"}
    {"role": "assistant", "content": "…", "thinking": "…", "tool_calls": [{"name": "…", "arguments": {…}}]}
    {"role": "tool", "content": "…", "tool_name": "…"}

`Message` is that JSON as a frozen object; `Chunk` is a piece of an answer on its way; `Usage` are its measures.
Not covered: images and sound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool_calls", "cancelled", "interrupted", "error"]
"""Why an answer ended: by itself or at a stop string; at the token or context limit; to call tools; by the user; by a
crash or a broken stream; by an error before or while answering."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function the model wants called, with its arguments as parsed JSON."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The call as plain JSON; an empty id is left out."""
        call: dict[str, Any] = {"name": self.name, "arguments": dict(self.arguments)}
        return call | ({"id": self.id} if self.id else {})


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The message as plain JSON; empty optional fields are left out."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.thinking:
            message["thinking"] = self.thinking
        if self.tool_calls:
            message["tool_calls"] = [call.to_dict() for call in self.tool_calls]
        if self.tool_name:
            message["tool_name"] = self.tool_name
        return message

    @classmethod
    def from_dict(cls, message: Mapping[str, Any]) -> "Message":
        """The inverse of `to_dict`; raises KeyError where role or content is missing."""
        calls = tuple(ToolCall(c["name"], c["arguments"], c.get("id", "")) for c in message.get("tool_calls", ()))
        return cls(message["role"], message["content"], message.get("thinking", ""), calls, message.get("tool_name", ""))


@dataclass(frozen=True, slots=True)
class Usage:
    """The measures of one answer. Token counts are the engine's own; 0 where it does not tell.

    prompt_tokens: all tokens of the prompt, cached ones included; cached_tokens: those that were not computed again;
    ttft_s: seconds from the request to the first token (loading included); total_s: seconds in all; load_s: of these,
    seconds spent loading the model; context_tokens: the size of the context window; dropped_turns: whole oldest turns
    (a question with its answer) left out because the conversation did not fit.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    ttft_s: float = 0.0
    total_s: float = 0.0
    finish: Finish = "stop"
    load_s: float = 0.0
    context_tokens: int = 0
    dropped_turns: int = 0

    @property
    def truncated(self) -> bool:
        """Whether the model saw less than the whole conversation."""
        return self.dropped_turns > 0

    @property
    def tokens_per_s(self) -> float:
        """Decode speed after the first token, in tokens per second; 0.0 where there are fewer than two tokens."""
        seconds = self.total_s - self.ttft_s
        return (self.completion_tokens - 1) / seconds if self.completion_tokens > 1 and seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. Only the last one carries `usage`.

    phase: "loading" (the model is being read), "reading" (the prompt is being computed, `progress` from 0 to 1), or ""
    for text. Text is untrusted: it goes through `data.sanitise` before it is shown.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    phase: Literal["", "loading", "reading"] = ""
    progress: float = 0.0
