"""Leaving out the oldest turns of a conversation that a server refuses as too long.

A turn is a user message with all that follows it up to the next one; system messages in front and the last turn always
stay. A server that does not tell its token counts is asked again and again, each time with at most half of what could
still go. Not covered: counting tokens, and servers that cut a conversation without saying so.
"""

import json
import re
from collections.abc import Sequence

from data.chat import Message

OVERFLOW = re.compile(
    r"longer than the context|exceeds? the (available |maximum )?context|exceed_context_size|maximum context length"
    r"|context_length_exceeded|exceeds? context window|context (length|window|size) (was |is )?exceeded|maximum input length",
    re.IGNORECASE,
)
COUNTS = (  # prompt tokens and window tokens, as llama-server, OpenAI, vLLM and llama-cpp-python word it
    re.compile(r"request \((?P<prompt>\d+) tokens\) exceeds the available context size \((?P<window>\d+) tokens\)", re.IGNORECASE),
    re.compile(
        r"maximum context length is (?P<window>\d+) tokens.*?\((?P<prompt>\d+) in the (?:messages|prompt)",
        re.IGNORECASE | re.DOTALL,
    ),
    re.compile(r"maximum context length is (?P<window>\d+) tokens.*?(?P<prompt>\d+) input tokens", re.IGNORECASE | re.DOTALL),
    re.compile(r"maximum context length is (?P<window>\d+) tokens.*?resulted in (?P<prompt>\d+) tokens", re.IGNORECASE | re.DOTALL),
    re.compile(r"Requested tokens \((?P<prompt>\d+)\) exceed context window of (?P<window>\d+)", re.IGNORECASE),
)
CHARS_PER_TOKEN = 3.0  # on the careful side: English prose has 4 to 5, code about 3
MARGIN = 0.95


class Overflow:
    """A refusal because of length: the prompt's tokens and the window's, 0 where the server does not tell."""

    def __init__(self, text: str) -> None:
        found = next((match for pattern in COUNTS if (match := pattern.search(text))), None)
        self.prompt_tokens = int(found["prompt"]) if found else 0
        self.window_tokens = int(found["window"]) if found else 0


def overflow(text: str, code: str = "") -> Overflow | None:
    """The refusal as an Overflow, None where it is about something else."""
    return Overflow(text) if OVERFLOW.search(f"{text} {code}") else None


class Shortening:
    """The part of a conversation that is sent; `dropped` counts the whole turns left out."""

    def __init__(self, messages: Sequence[Message]) -> None:
        first = next((index for index, message in enumerate(messages) if message.role != "system"), len(messages))
        self._system = tuple(messages[:first])
        self._turns: list[list[Message]] = []
        for message in messages[first:]:
            if message.role == "user" or not self._turns:
                self._turns.append([])
            self._turns[-1].append(message)
        self.dropped = 0
        self._tries = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is left of the conversation."""
        return self._system + tuple(message for turn in self._turns[self.dropped :] for message in turn)

    @property
    def chars(self) -> int:
        """The length of what is left, in characters."""
        return sum(_chars(message) for message in self.messages)

    def shorten(self, refused: Overflow, window_tokens: int, answer_tokens: int) -> bool:
        """Leave out as many of the oldest turns as should do; False where only the last turn is left.

        `answer_tokens` are kept free for the answer, up to a quarter of the window.
        """
        last = len(self._turns) - 1
        if self.dropped >= last:
            return False
        self._tries += 1
        window = refused.window_tokens or window_tokens
        density = self.chars / refused.prompt_tokens if refused.prompt_tokens else CHARS_PER_TOKEN
        room = (window - min(answer_tokens, window // 4)) * density * MARGIN
        least = self.dropped + (1 if self._tries == 1 else (last - self.dropped + 1) // 2)
        self.dropped = least
        while self.dropped < last and self.chars > room:
            self.dropped += 1
        return True


def _chars(message: Message) -> int:
    calls = json.dumps([call.to_dict() for call in message.tool_calls]) if message.tool_calls else ""
    return len(message.content) + len(calls) + 12  # 12: role and turn marks of a chat template, about 4 tokens
