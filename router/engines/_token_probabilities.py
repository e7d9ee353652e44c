"""Label probabilities from the log-probabilities that a server tells of its tokens: one `Choice` for each `Select` with a path.

The tokens are laid along the answer's text. Where a label begins, each token that could stand there is taken for those labels
that it is the beginning of (after what was written before it), and the probabilities of all such tokens are normalised, token
by token: so it does not matter whether the server tells them before or after its grammar. A token that leads to one label
gives it its whole probability; along the token that was chosen the walk goes on with the labels still possible. The numbers
are those of sampling under the grammar, not the products over whole labels that the embedded engine gives, of which a server
does not tell enough; the label that stands in the answer need not have the highest.

Exact: where every token that begins a label is listed, and those not chosen lead to one label each. A bound: servers list 20
tokens at most. One that is not listed is missing from its labels, so that the others are too high, by much where the model
wanted none of the labels and the grammar made it write one (llama.cpp's servers and vLLM list tokens before the grammar). An
estimate: a token that was not chosen and leads to several labels is divided evenly among them; their sum is exact.
`Choice.complete` is False where some label was reached only so, or not at all (-inf). A label at which the server left out
its alternatives has no Choice.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from router.engines._json_text import find, values
from router.engines.structure import Choice, Node, Repeat, Select, Series, Structure

STEPS = (20, 5, 0)
"""Alternatives asked for, in turn while the server refuses: the most of OpenAI, vLLM and Ollama (api/types.go); few; none."""
TOKENS = 1 << 16
"""Remembered of one answer."""
LISTED = 128
"""Alternatives read of one token; llama_cpp.server sends as many as it is asked for, and the chosen one."""
CHOICES = 256
"""Told of one answer."""
LOST_BYTES = 16
"""Of the text, that may lie between two tokens whose place is looked for."""
_SPACE = b" \t\r\n"
_LOST = "\ufffd".encode()


@dataclass(frozen=True, slots=True)
class Token:
    """A token of an answer: its bytes, its natural log-probability (None where unknown), and the likeliest in its place."""

    text: bytes
    log_probability: float | None
    listed: tuple[tuple[bytes, float], ...] = ()


class Heard:
    """The tokens of one answer, and how many alternatives of each are asked for (0: none)."""

    def __init__(self, top: int, sure: bool = False) -> None:
        self.top = top
        self.tokens: list[Token] = []
        self.lossy = False  # the server drops parts of characters from the text, as llama_cpp.server does with log-probabilities
        self._sure = sure

    @property
    def listed(self) -> bool:
        """Whether any alternatives came."""
        return any(token.listed for token in self.tokens)

    def clear(self) -> None:
        """Forget the tokens, before another attempt."""
        self.tokens.clear()
        self.lossy = False

    def hear(self, entries: Any) -> None:
        """Take in a list of tokens in the words of OpenAI and Ollama. What cannot be read is left out: no answer breaks of it."""
        for entry in entries if isinstance(entries, list) else ():
            token = token_of(entry)
            if token is not None and len(self.tokens) < TOKENS:
                self.tokens.append(token)
                self.lossy = self.lossy or not token.text

    def ask_less(self) -> bool:
        """Ask for fewer alternatives from now on, after a refusal because of them; False where none are asked for."""
        asked, self.top = self.top, next((step for step in STEPS if step < self.top), 0)
        return asked > 0

    def doubted(self) -> bool:
        """Ask for none any more, after a refusal that does not say why; False where none are asked for, or some once came."""
        if self._sure or not self.top:
            return False
        self.top = 0
        return True


def token_of(entry: Any) -> Token | None:
    """A token as the server tells it, None where it has no text. `bytes` go before `token`, which may hold half a character."""
    text = _text(entry)
    if text is None:
        return None
    listed = entry.get("top_logprobs")
    others = []
    for other in listed[:LISTED] if isinstance(listed, list) else ():
        other_text, number = _text(other), _number(other)
        if other_text is not None and number is not None:
            others.append((other_text, number))
    return Token(text, _number(entry), tuple(others))


def choices(structure: Structure, text: str, tokens: Sequence[Token]) -> tuple[Choice, ...]:
    """How each label in the answer `text` came out, in the order of the text; labels of which too little is known are left out."""
    encoded = text.encode("utf-8", "surrogatepass")
    placed = list(_placed(encoded, tokens))
    ends = [end for _, end, _ in placed]
    found = []
    for decision in decisions(structure, text)[:CHOICES]:
        start = len(text[: decision.start].encode("utf-8", "surrogatepass"))
        onward = islice(placed, bisect_right(ends, start), None)
        odds = _Walk(encoded, start, _spellings(decision)).odds(onward, decision.chosen)
        if odds is not None:
            found.append(Choice(decision.select.path, decision.select.values, odds[0], decision.chosen, odds[1]))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Decision:
    """A label as it stands in an answer, from character `start`, written as `raw`: option `chosen` of `select`."""

    select: Select
    start: int
    raw: str
    chosen: int


def decisions(structure: Structure, text: str) -> list[Decision]:
    """The labels that stand in an answer; values that are no label are left out, and all of them where there is no JSON object."""
    found = find(text, structure.schema.get("properties", {}))
    if found is None:
        return []
    selects = {select.path: select for select in _selects(structure.root) if select.path}
    taken = []
    last: dict[str, int] = {}
    for path, start, end in values(text, found):
        select, raw = selects.get(path), text[start:end]
        chosen = _chosen(select, raw) if select else None
        if select is not None and chosen is not None:
            taken.append(Decision(select, start, raw, chosen))
        last[path] = start
    return [
        one for one in taken if "[]" in one.select.path or one.start == last[one.select.path]
    ]  # of one name twice the last counts


class _Walk:
    """The way through the tokens of one label, which begins at byte `start` of `text`.

    spellings: of each option, all the ways of writing it.
    """

    def __init__(self, text: bytes, start: int, spellings: Sequence[Collection[bytes]]) -> None:
        self._text = text
        self._start = start
        self._spellings = spellings
        self._left = frozenset(range(len(spellings)))
        self._share = 1.0
        self._mass = [0.0] * len(spellings)
        self._reached: set[int] = set()

    def odds(self, placed: Iterable[tuple[int, int, Token]], chosen: int) -> tuple[tuple[float, ...], bool] | None:
        """(log-probability of each option, whether all are known), None where the tokens do not tell."""
        at = self._start
        for begin, end, token in placed:
            gap = begin > at and self._leads_to(begin, b"") != self._left
            if gap or not self._step(begin, token):  # something was decided, and it is not known how
                return None
            at = end
            if self._left == {chosen}:
                break
        else:
            return None
        self._mass[chosen] += self._share
        self._reached.add(chosen)
        total = sum(self._mass)
        logs = tuple(math.log(mass / total) if mass > 0 else -math.inf for mass in self._mass)
        return logs, all(option in self._reached and self._mass[option] > 0 for option in range(len(logs)))

    def _step(self, begin: int, token: Token) -> bool:
        """Share out the probability at one token; False where that cannot be known."""
        own = self._leads_to(begin, token.text)
        known = dict(sorted(token.listed, key=lambda pair: pair[1]))  # of two tokens of the same text the likelier
        if token.log_probability is not None:
            known[token.text] = token.log_probability
        if not token.listed or token.text not in known:
            return own == self._left  # all the same where nothing was decided
        if not own:
            return False
        led = {text: self._leads_to(begin, text) for text in known}
        led = {text: options for text, options in led.items() if options and (text == token.text or options != self._left)}
        highest = max(known[text] for text in led)
        weights = {text: math.exp(known[text] - highest) for text in led}
        whole = sum(weights.values())
        for text, options in led.items():
            if text != token.text:
                self._give(options, self._share * weights[text] / whole)
        self._share *= weights[token.text] / whole
        self._left = own
        return self._share > 0 or sum(self._mass) > 0

    def _give(self, options: frozenset[int], probability: float) -> None:
        for option in options:
            self._mass[option] += probability / len(options)
        if len(options) == 1:
            self._reached |= options

    def _leads_to(self, begin: int, token: bytes) -> frozenset[int]:
        """The options still possible that may go on with `token` at byte `begin`."""
        if begin > self._start:
            rest: bytes | None = self._text[self._start : begin] + token
        else:
            rest = _after(self._text[begin : self._start], token)
        if rest is None:
            return frozenset()
        return frozenset(option for option in self._left if any(_begins(rest, way) for way in self._spellings[option]))


def _after(lead: bytes, token: bytes) -> bytes | None:
    """What of `token` stands after `lead`, whatever the white space; None where it says something else."""
    at = 0
    for byte in lead.translate(None, _SPACE):
        while at < len(token) and token[at] in _SPACE:
            at += 1
        if at == len(token):
            return b""
        if token[at] != byte:
            return None
        at += 1
    return token[at:].lstrip(_SPACE)


def _begins(written: bytes, way: bytes) -> bool:
    """Whether `written` is the beginning of `way`, or `way` and what may stand after it."""
    if len(written) <= len(way):
        return way.startswith(written)
    return written.startswith(way) and (way.endswith(b'"') or written[len(way)] in b",]}" + _SPACE)


def _placed(text: bytes, tokens: Sequence[Token]) -> Iterator[tuple[int, int, Token]]:
    """(start, end, token) in bytes of the text, in order. Thinking before it has negative places.

    Where the tokens are not the text, as when parts of characters are lost, each is looked for from the end on, and left out
    where it stands nowhere; the tokens without text are left out too.
    """
    at = b"".join(token.text for token in tokens).rfind(text)  # the answer comes after any thinking
    if at >= 0:
        end = -at
        for token in tokens:
            begin, end = end, end + len(token.text)
            if begin < end:
                yield begin, end, token
        return
    found = []
    end = len(text)
    for token in reversed(tokens):
        size = len(token.text)
        begin = -1 if _LOST in token.text else text.rfind(token.text, max(0, end - size - LOST_BYTES), end)
        if size and begin >= 0:
            found.append((begin, begin + size, token))
            end = begin
    yield from reversed(found)


def _selects(node: Node) -> Iterator[Select]:
    if isinstance(node, Select):
        yield node
    elif isinstance(node, Repeat):
        yield from _selects(node.item)
    elif isinstance(node, Series):
        for part in node.parts:
            yield from _selects(part)


def _chosen(select: Select, raw: str) -> int | None:
    if raw in select.options:
        return select.options.index(raw)
    value = json.loads(raw)
    same = [at for at, other in enumerate(select.values) if type(other) is type(value) and other == value]
    return same[0] if same else None


def _spellings(decision: Decision) -> list[set[bytes]]:
    """Each option as given, with and without JSON's escapes for characters beyond ASCII, and the chosen one as it stands there."""
    ways = []
    for option, value in zip(decision.select.options, decision.select.values, strict=True):
        ways.append({option, json.dumps(value), json.dumps(value, ensure_ascii=False)})
    ways[decision.chosen].add(decision.raw)
    return [{way.encode("utf-8", "surrogatepass") for way in one} for one in ways]


def _text(entry: Any) -> bytes | None:
    if not isinstance(entry, Mapping):
        return None
    raw, token = entry.get("bytes"), entry.get("token")
    if isinstance(raw, list) and raw and all(type(byte) is int and 0 <= byte < 256 for byte in raw):
        return bytes(raw)
    return token.encode("utf-8", "surrogatepass") if isinstance(token, str) else None


def _number(entry: Any) -> float | None:
    number = entry.get("logprob") if isinstance(entry, Mapping) else None
    if not isinstance(number, int | float) or isinstance(number, bool) or not abs(number) < 1e300:
        return None  # infinite, or no number
    return min(float(number), 0.0)
