"""The chat template: the model's own from its GGUF file, else ChatML where the vocabulary has it, else a plain form.

Templates come from strangers and run in `sandbox`. One that refuses a system message or two messages of a role in a row is
asked again with the system text in front of the first question and neighbours of a role joined. Not covered: tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from data.errors import EngineRejected, ModelInvalid
from data.sanitise import one_line
from router.engines._llamacpp.sandbox import Refused, Sandbox
from router.engines._llamacpp.text import OPEN

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}{% if message.role == 'system' %}{{ message.content + '\\n\\n' }}{% else %}"
    "{{ message.role | capitalize + ': ' + message.content + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
PLAIN_STOPS = ("\nUser:", "\nSystem:", "\nTool:")
_FAULTS = (
    TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, NameError, RecursionError, MemoryError,
    SyntaxError, NotImplementedError, RuntimeError,
)  # fmt: skip


class ChatTemplate:
    """One model's template, compiled once. `stops` are strings that end an answer beside the end tokens."""

    def __init__(self, source: str, specials: Sequence[str], bos: str, eos: str, where: str) -> None:
        """Raises ModelInvalid naming `where` the template comes from."""
        self.stops: tuple[str, ...] = ()
        if not source.strip():
            chatml = "<|im_start|>" in specials and "<|im_end|>" in specials
            source, self.stops = (CHATML, ()) if chatml else (PLAIN, PLAIN_STOPS)
        self.thinks = OPEN in source or OPEN in specials
        self._values = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": True, "documents": None}
        self._where = where
        try:
            self._template = Sandbox().prepare(source)
        except _FAULTS as error:
            raise self._invalid(error) from error

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = (), think: bool | None = None
    ) -> str:
        """The prompt's text. Raises EngineRejected where the template refuses the conversation, else ModelInvalid."""
        values = dict(self._values, tools=list(tools) or None)
        if think is not None:
            values |= {"enable_thinking": think, "thinking": think}
        try:
            return self._template.render(values | {"messages": list(messages)})
        except Refused as refused:
            return self._render_simple(messages, values, refused)
        except _FAULTS as error:
            raise self._invalid(error) from error

    def _render_simple(self, messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any], refused: Refused) -> str:
        try:
            return self._template.render({**values, "messages": _simple(messages)})
        except Refused:
            raise EngineRejected(f"the model's chat template refuses this conversation: {one_line(str(refused), 200)}") from refused
        except _FAULTS as error:
            raise self._invalid(error) from error

    def _invalid(self, error: BaseException) -> ModelInvalid:
        reason = one_line(str(error), 200) or type(error).__name__
        return ModelInvalid(f"the chat template of {self._where} does not work: {reason}", "use another file of this model")


def _simple(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The conversation without system messages and without two messages of the same role in a row."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    found: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "system":
            continue
        if found and found[-1]["role"] == message["role"] and "tool_calls" not in {*message, *found[-1]}:
            found[-1] = found[-1] | {"content": f"{found[-1]['content']}\n\n{message['content']}"}
        else:
            found.append(dict(message))
    first = next((message for message in found if message["role"] == "user"), None)
    if first is not None and system:
        first["content"] = "\n\n".join([*system, first["content"]])
    return found
