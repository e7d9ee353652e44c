"""A conversation made into prompt tokens that fit the context, in which content cannot become control tokens.

Where all of it does not fit, whole oldest turns are left out: a turn is a user message with all that follows it up to the
next. System messages and the last turn always stay. Not covered: summarising what is left out, images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data.chat import Message
from data.errors import ContextOverflow, EngineRejected
from router.engines._llamacpp.context import Context, common_prefix
from router.engines._llamacpp.model import LoadedModel
from router.engines._llamacpp.template import ChatTemplate
from router.engines._llamacpp.vocab import Vocab
from router.engines.base import Request

SLICE_CHARS = 16_384
DENSITY = 16  # characters per token above which a text is counted in slices before it is rendered whole
SPAN_TOKENS = 32  # the longest stretch in which two tokenisations of one text may differ


@dataclass(frozen=True, slots=True)
class Prompt:
    """The rendered text, its tokens, and how many oldest turns were left out."""

    text: str
    tokens: list[int]
    dropped_turns: int = 0


def compose(model: LoadedModel, request: Request, context: Context, answer_tokens: int | None = None) -> Prompt:
    """The prompt of `request`, with room for its answer (at most a quarter of the context).

    answer_tokens: keep this much room instead, and spell the prompt without regard to what is cached, as scores need it.
    Raises ContextOverflow where system messages and the last turn alone are too long, EngineRejected where the template
    refuses the conversation, ModelInvalid where the template does not work.
    """
    reserve = min(request.max_tokens, context.size // 4) if answer_tokens is None else answer_tokens
    conversation = _Conversation(model, request, context.size - reserve)
    prompt = conversation.fitted()
    if answer_tokens is not None:
        return prompt
    tokens = aligned(prompt.tokens, context.tokens, model.vocab)
    return prompt if len(tokens) > conversation.room else Prompt(prompt.text, tokens, prompt.dropped_turns)


def rendered(messages: Sequence[Message], vocab: Vocab, template: ChatTemplate, think: bool | None = None) -> str:
    """The text of a whole conversation, as `compose` makes it where everything fits.

    A text of the conversation that looks like a special token has a MARK inside. Raises as `ChatTemplate.render`.
    """
    answered = _answered(messages)
    shaped = [_mapped(_openai(message, answered.get(id(message), "")), vocab.plain) for message in messages]
    return _rendered(shaped, [], think, vocab, template)


def spelled(messages: Sequence[Message], vocab: Vocab, template: ChatTemplate, think: bool | None = None) -> tuple[str, list[int]]:
    """The text as `rendered` gives it, and its tokens. Raises as `rendered`."""
    text = rendered(messages, vocab, template, think)
    return text, _tokens(text, vocab)


def aligned(fresh: list[int], cached: Sequence[int], vocab: Vocab) -> list[int]:
    """`fresh`, spelled with the cached tokens as far as both say the same text.

    What a model wrote can be tokenised in other ways than it chose; with its own choice the cache stays of use.
    """
    at = common_prefix(fresh, cached)
    found, other = fresh[:at], at
    while at < len(fresh) and other < len(cached):
        if fresh[at] == cached[other]:
            found.append(fresh[at])
            at, other = at + 1, other + 1
            continue
        ends = _same_text(fresh, at, cached, other, vocab)
        if ends is None:
            break
        found += cached[other : ends[1]]
        at, other = ends
    return found + fresh[at:]


class _Conversation:
    """The messages in the template's shape, and the search for how many turns must go."""

    def __init__(self, model: LoadedModel, request: Request, room: int) -> None:
        if not request.messages:
            raise EngineRejected("the conversation is empty", "ask something")
        self.room = room
        self._model, self._request = model, request
        self._vocab = model.vocab
        self._think = False if request.think is None and request.schema is not None else request.think
        self._system, self._turns = _parted(request.messages)
        self._shaped: dict[int, dict[str, Any]] = {}
        self._answered = _answered(request.messages)

    def fitted(self) -> Prompt:
        """The prompt with as few turns left out as possible; the number of renderings grows with the logarithm of turns."""
        whole = self._attempt(0)
        if isinstance(whole, Prompt):
            return whole
        most = len(self._turns) - 1
        best = self._attempt(most) if most > 0 else whole
        if not isinstance(best, Prompt):
            raise self._overflow(best)
        fails = 0
        while most - fails > 1:
            middle = (fails + most) // 2
            found = self._attempt(middle)
            if isinstance(found, Prompt):
                best, most = found, middle
            else:
                fails = middle
        return best

    def _attempt(self, dropped: int) -> Prompt | int:
        """The prompt without the `dropped` oldest turns, or the number of tokens (at least) that it would have."""
        messages = [*self._system, *(message for turn in self._turns[dropped:] for message in turn)]
        chars = sum(len(message.content) + len(message.thinking) for message in messages)
        least = chars // (self._model.header.longest_token_bytes or 1024)
        if least > self.room:
            return least
        if chars > DENSITY * self.room:
            counted = self._counted(messages)
            if counted > self.room:
                return counted
        text = self._render(messages)
        tokens = _tokens(text, self._vocab)
        if not tokens:
            raise EngineRejected("the prompt is empty: the model's chat template leaves nothing of this conversation")
        return Prompt(text, tokens, dropped) if len(tokens) <= self.room else len(tokens)

    def _counted(self, messages: Sequence[Message]) -> int:
        """Tokens of the contents, counted slice by slice until there are too many; at most as many as there are."""
        count = 0
        for message in messages:
            for begin in range(0, len(message.content), SLICE_CHARS):
                count += max(0, len(self._vocab.tokenise_text(message.content[begin : begin + SLICE_CHARS])) - 8)  # 8: the cuts
                if count > self.room:
                    return count
        return count

    def _estimated(self) -> int:
        """About how many tokens the shortest prompt has, by the beginning of its longest message."""
        contents = [message.content for message in (*self._system, *(self._turns[-1] if self._turns else ()))]
        sample = max(contents, key=len)[:SLICE_CHARS]
        return len(self._vocab.tokenise_text(sample)) * sum(map(len, contents)) // max(1, len(sample))

    def _render(self, messages: Sequence[Message]) -> str:
        tools = _mapped([dict(tool) for tool in self._request.tools], self._vocab.plain)
        return _rendered([self._shape(message) for message in messages], tools, self._think, self._vocab, self._model.template)

    def _shape(self, message: Message) -> dict[str, Any]:
        found = self._shaped.get(id(message))
        if found is None:
            found = self._shaped[id(message)] = _mapped(_openai(message, self._answered.get(id(message), "")), self._vocab.plain)
        return found

    def _overflow(self, tokens: int) -> ContextOverflow:
        tokens = max(tokens, self._estimated())
        what = "the question" if len(self._turns) <= 1 else "the last question"
        if self._system:
            what += " with the system prompt"
        trained = self._model.trained_context
        wanted = 1 << (tokens + tokens // 3 - 1).bit_length()  # with a quarter for the answer, as a power of two
        enlarge = f"shorten it, or: pointsman config set llamacpp.context {min(wanted, trained)}"
        fits = tokens < trained and self._model.settings.context < trained
        return ContextOverflow(
            f"{what} is too long: about {tokens} tokens, and the context has room for {self.room} beside the answer",
            enlarge if fits else "shorten it, or use a model with a longer context",
        )


def _rendered(
    shaped: list[dict[str, Any]], tools: list[dict[str, Any]], think: bool | None, vocab: Vocab, template: ChatTemplate
) -> str:
    """The text of messages whose contents are plain; what the template puts beside a content makes no control token with it."""
    text = template.render(shaped, tools, think)
    edged = [_mapped(message, vocab.edged) for message in shaped]
    edged_tools = _mapped(tools, vocab.edged)
    if edged != shaped or edged_tools != tools:
        apart = template.render(edged, edged_tools, think)
        if vocab.count_specials(apart) != vocab.count_specials(text):
            return apart
    return text


def _tokens(text: str, vocab: Vocab) -> list[int]:
    tokens = vocab.tokenise(text)
    if vocab.adds_bos and tokens[:1] != [vocab.bos]:
        tokens.insert(0, vocab.bos)
    return tokens


def _parted(messages: Sequence[Message]) -> tuple[list[Message], list[list[Message]]]:
    system = [message for message in messages if message.role == "system"]
    turns: list[list[Message]] = []
    for message in messages:
        if message.role == "system":
            continue
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return system, turns


def _answered(messages: Sequence[Message]) -> dict[int, str]:
    """For each tool result, by the message's identity, the id of the call that it answers: the calls' order decides."""
    found: dict[int, str] = {}
    waiting: list[str] = []
    for message in messages:
        if message.tool_calls:
            waiting = [call.id for call in message.tool_calls]
        elif message.role == "tool" and waiting:
            found[id(message)] = waiting.pop(0)
    return found


def _openai(message: Message, answered: str = "") -> dict[str, Any]:
    """The message in the shape that chat templates are written for; `answered` is the id of the call that it answers."""
    found: dict[str, Any] = {"role": message.role, "content": message.content}
    if answered:
        found["tool_call_id"] = answered
    if message.thinking:
        found["reasoning_content"] = message.thinking
    if message.tool_name:
        found["name"] = message.tool_name
    if message.tool_calls:
        found["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in message.tool_calls
        ]
    return found


def _mapped(value: Any, change: Callable[[str], str], key: str = "") -> Any:
    """`value` with every text in it changed, except roles and types, which are not the user's words."""
    if isinstance(value, str):
        return value if key in ("role", "type") else change(value)
    if isinstance(value, Mapping):
        return {change(str(name)): _mapped(item, change, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(item, change) for item in value]
    return value


def _same_text(fresh: Sequence[int], at: int, cached: Sequence[int], other: int, vocab: Vocab) -> tuple[int, int] | None:
    """Where two differing stretches of tokens that spell the same text end, None where they say different things."""
    here, there = b"", b""
    first, second = at, other
    while max(at - first, other - second) <= SPAN_TOKENS:
        tokens, index = (fresh, at) if len(here) <= len(there) else (cached, other)
        if index == len(tokens) or vocab.is_control(tokens[index]):
            return None
        if tokens is fresh:
            here, at = here + vocab.spelling(tokens[at : at + 1]), at + 1
        else:
            there, other = there + vocab.spelling(tokens[other : other + 1]), other + 1
        shared = min(len(here), len(there))
        if here[:shared] != there[:shared]:
            return None
        if len(here) == len(there):
            return at, other
    return None
