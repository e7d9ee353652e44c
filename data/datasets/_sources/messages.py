"""Conversations of a record: `messages` with role and content, sharegpt's `conversations` with from and value.

Only the roles system, user, assistant and tool come through; whether a role is played inside a text is for the cleaner to judge.
Not covered: images and sound in a message, which refuse the record.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from data.chat import Message, Role, ToolCall
from data.datasets._sources.base import Turns
from data.errors import InputError
from data.sanitise import one_line

SPEAKERS: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}
"""sharegpt's names of who speaks."""
MOST_MESSAGES = 10_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question with its answer, and what came before."""

    before: tuple[Message, ...]
    text: str
    completion: str
    thinking: str


def conversation(value: Any) -> list[Message]:
    """The messages of a list (or of a list as JSON text, as tables hold it). Raises InputError saying what is wrong with which."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _listed(value)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise InputError("its conversation is no list of messages")
    if len(value) > MOST_MESSAGES:
        raise InputError(f"its conversation has {len(value):,} messages (at most {MOST_MESSAGES:,})")
    return [_message(one, place) for place, one in enumerate(value, start=1)]


def exchanges(messages: Sequence[Message], turns: Turns) -> list[Exchange]:
    """The last answer of the assistant, or each, with its question. Raises InputError where none can be told."""
    answers = [place for place, message in enumerate(messages) if message.role == "assistant"]
    if not answers:
        raise InputError("its conversation has no answer of the assistant")
    if turns == "last":
        return [_exchange(messages, answers[-1])]
    usable = [place for place in answers if place and messages[place - 1].role == "user" and messages[place].content.strip()]
    return [_exchange(messages, place) for place in usable or answers[-1:]]


def history(value: Any) -> list[Message]:
    """alpaca's `history`: earlier questions with their answers, as pairs. Raises InputError where it is anything else."""
    if not value:
        return []
    pairs = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in pairs):
        raise InputError("its history is no list of questions with their answers")
    return [message for asked, said in pairs for message in (Message("user", asked), Message("assistant", said))]


def question(value: Any) -> tuple[tuple[Message, ...], str]:
    """A prompt as what came before and the text: a string, or messages that end with the user's. Raises InputError."""
    if isinstance(value, str) and not value.lstrip().startswith('[{"'):
        return (), value
    if not isinstance(value, str | list | tuple):
        raise InputError("its question is neither text nor a list of messages")
    messages = conversation(value)
    if messages[-1].role != "user":
        raise InputError("its prompt does not end with a message of the user")
    return tuple(messages[:-1]), messages[-1].content


def answer(value: Any) -> str:
    """An answer as text: a string, or messages of which the last is the assistant's. Raises InputError."""
    if isinstance(value, str) and not value.lstrip().startswith('[{"'):
        return value
    last = conversation(value)[-1]
    if last.role != "assistant":
        raise InputError("its answer does not end with a message of the assistant")
    return last.content


def _exchange(messages: Sequence[Message], place: int) -> Exchange:
    wanted = messages[place]
    if not place or messages[place - 1].role != "user":
        asked = messages[place - 1].role if place else "nothing"
        raise InputError(f"before the answer stands {asked}, not a message of the user")
    if not wanted.content.strip():
        raise InputError("the answer of the assistant is empty" + (" but for tool calls" if wanted.tool_calls else ""))
    return Exchange(tuple(messages[: place - 1]), messages[place - 1].content, wanted.content, wanted.thinking)


def _message(value: Any, place: int) -> Message:
    if not isinstance(value, Mapping):
        raise InputError(f"message {place} is no object")
    role = _role(value, place)
    content = _content(value.get("content", value.get("value")), place)
    thinking = value.get("thinking") or value.get("reasoning_content") or ""
    name = value.get("tool_name") or ""
    if not isinstance(thinking, str) or not isinstance(name, str):
        raise InputError(f"message {place} has a thinking or tool_name that is no text")
    calls = value.get("tool_calls") or ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise InputError(f"message {place} has tool_calls that are no list")
    return Message(role, content, thinking, tuple(_call(call, place) for call in calls), name)


def _role(value: Mapping[str, Any], place: int) -> Role:
    if "role" in value:
        if value["role"] in get_args(Role):
            return cast(Role, value["role"])
        raise InputError(f"message {place} has the role {one_line(str(value['role']), 40)!r}, which is none of {_roles()}")
    speaker = value.get("from")
    if isinstance(speaker, str) and speaker in SPEAKERS:
        return SPEAKERS[speaker]
    said = "neither role nor from" if speaker is None else f"the speaker {one_line(str(speaker), 40)!r}, who is none of {_roles()}"
    raise InputError(f"message {place} has {said}")


def _content(value: Any, place: int) -> str:
    """Text, or the joined text parts of a list; None (beside tool calls) is empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in value):
        return "".join(part["text"] for part in value)
    raise InputError(f"message {place} holds something that is no text")


def _call(value: Any, place: int) -> ToolCall:
    """A call as ours or as OpenAI's (`function` with `arguments` as JSON text)."""
    found = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(found, Mapping) or not isinstance(found.get("name"), str):
        raise InputError(f"message {place} has a tool call without a name")
    arguments = found.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            raise InputError(f"message {place} has a tool call whose arguments are no JSON") from error
    if not isinstance(arguments, Mapping):
        raise InputError(f"message {place} has a tool call whose arguments are no object")
    return ToolCall(found["name"], arguments, str(value.get("id") or ""))


def _listed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("its conversation is a text that is no JSON list") from error


def _roles() -> str:
    return ", ".join(get_args(Role))
