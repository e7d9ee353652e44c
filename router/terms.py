"""What a program that asks may add to a question: the conversation as it has it, and how the answer must be made.

A person's face needs none of it. Not covered: the sampling (`overrides` of Session.ask) and the route (its pins).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from data.chat import Message
from data.errors import EngineRejected
from router.engines import Resolved
from router.engines.base import Request
from router.modes.base import Planned

GO_ON = "Go on exactly where you stopped. Do not repeat anything, and do not comment on it."
"""What asks a model for the rest of an answer whose beginning stands before it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of one answer; the defaults change nothing.

    before: what was said before the question, instead of what the log holds (None: the log); after: calls and results of the
    asker's own tools that follow the question; stop, schema, tools, think: as in `Request`; tainted: text stands in the
    conversation that the log does not hold as the model's or the user's, so that nothing of it may become training data.
    plan: the steps of a multi-step answer, some of them done; said: the beginning of the answer, which the model goes on from.
    """

    before: tuple[Message, ...] | None = None
    after: tuple[Message, ...] = ()
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    think: bool | None = None
    tainted: bool = False
    plan: tuple[Planned, ...] = ()
    said: str = ""

    @property
    def plain(self) -> bool:
        """Whether every way of reasoning can keep to them; otherwise only the direct one does."""
        return not (self.after or self.stop or self.tools or self.schema is not None or self.think is not None)

    def messages(self, system: str, text: str) -> tuple[Message, ...]:
        """The conversation for the model; `before` must be given."""
        return joined([*([Message("system", system)] if system else []), *(self.before or ()), Message("user", text), *self.after])

    def applied(self, request: Request) -> Request:
        """The request on these terms."""
        return replace(request, stop=self.stop, schema=self.schema, tools=self.tools, think=self.think)

    def require_possible(self, resolved: Resolved) -> None:
        """Raise EngineRejected where the model cannot keep to them."""
        if self.schema is not None and not resolved.engine.capabilities.schema:
            raise EngineRejected(f"{resolved.reference} cannot be held to a JSON schema", "take another model")
        if self.tools and not resolved.engine.can_call(resolved.model):
            raise EngineRejected(f"{resolved.reference} does not support tools", "take a model that was made to call tools")

    def config(self) -> dict[str, Any]:
        """What the log keeps of them beside the settings."""
        kept = {"stop": list(self.stop), "schema": self.schema, "tools": [_name(tool) for tool in self.tools], "think": self.think}
        return {name: value for name, value in kept.items() if value not in (None, [])}


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages, empty answers left out and questions that follow each other joined: most chat templates refuse two
    messages of one role in a row."""
    kept: list[Message] = []
    for message in messages:
        if message.role == "assistant" and not message.content and not message.tool_calls:
            continue
        if message.role == "user" and kept and kept[-1].role == "user":
            kept[-1] = Message("user", f"{kept[-1].content}\n\n{message.content}")
        else:
            kept.append(message)
    return tuple(kept)


def _name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function", tool)
    return str(function.get("name", "")) if isinstance(function, Mapping) else ""
