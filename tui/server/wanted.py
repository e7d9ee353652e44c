"""What a client wants, in one form for all APIs; made by openai.py and ollama.py, answered by desk.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data.chat import Message


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer wanted.

    model: as the client names it; messages: the whole conversation as the client sends it, the question last, or results of
    its own tools after it; overrides: fields of Sampling, and max_tokens; mode, domain: pins of the route ("" for none);
    conversation: the one in the log that this goes on ("": found by what was said before).
    """

    model: str
    messages: tuple[Message, ...]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    think: bool | None = None
    mode: str = ""
    domain: str = ""
    conversation: str = ""

    @property
    def plain(self) -> bool:
        """Whether every way of reasoning can give this answer."""
        return not (self.stop or self.tools or self.messages[-1].role == "tool") and self.schema is None and self.think is None
