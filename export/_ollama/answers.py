"""What a model of the server answers, beside what the exported file answers here.

Four things are compared, and none alone would do: the rendered prompt (where the server shows it) and its number of tokens,
which must be equal and find a wrong template, a lost system message or a second start token; the log-probability of every token
both chose, which finds other weights even where the words are the same; and the words up to the first difference, which may only
be a near tie. How near follows from the file itself: `greedy` computes it in two ways, and a server may be FACTOR times as far
from the nearer one as those are from each other, or the least figures below where they agree. Not covered: sampling.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from data.chat import Message
from data.errors import ModelInvalid
from data.exports import Check
from data.sanitise import one_line
from export._ollama.greedy import TOKENS, Answer, Expected
from router.engines import _ollama as wire
from router.engines._faults import Dropped, Garbled, Refusal, as_list, as_object, count_of, text_of
from router.engines._ollama_connection import Connection

STALL_S = 600.0  # a large model is read from the disk before the first token
RENDER_S = 600.0
LETTERS = 100_000  # of an answer, at most
FACTOR = 3.0
MEAN_NATS = 0.05  # mean difference of log-probabilities that is allowed in any case; see docs/experiments.md
MOST_NATS = 0.25  # largest one, and what a first choice may be ahead of another that the server took
SEVERAL = 4  # tokens over which a mean says more than the largest
CAP = 4.0  # times the least figures, whatever the file's own
SEED = 1
_LOST = "\ufffd"


@dataclass(frozen=True, slots=True)
class Told:
    """A server's greedy answer: the text, each token as text with its log-probability (none from an old server), and the prompt.

    rendered: the prompt's text, "" where the server does not show it; prompt_tokens: 0 where it does not tell.
    """

    text: str
    tokens: tuple[tuple[str, float], ...]
    prompt_tokens: int
    rendered: str = ""


@dataclass(frozen=True, slots=True)
class Noise:
    """Differences of log-probabilities in nats: of the tokens both chose, the mean and the largest; `tie` where they part."""

    mean: float = 0.0
    most: float = 0.0
    tie: float = 0.0
    tokens: int = 0


def ask(connection: Connection, model: str, messages: Sequence[Message]) -> Told:
    """The server's greedy answer, with the model's own stops and context; raises Fault."""
    body = {
        "model": model,
        "messages": [wire.plain_message(message) for message in messages],
        "options": {
            "temperature": 0, "top_k": 1, "seed": SEED, "num_predict": TOKENS,
            "repeat_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0,
        },
    }  # fmt: skip
    said, tokens, letters = "", [], 0
    streamed = {"stream": True, "logprobs": True, "top_logprobs": 1}
    with closing(connection.server().lines("/api/chat", body | streamed, stall_s=STALL_S)) as lines:
        for event in map(wire.event, lines):
            if event is None:
                continue
            piece = wire.piece(event)
            heard = _heard(event.get("logprobs"))
            letters += len(piece.text) + len(piece.thinking) + sum(1 + len(text) for text, _ in heard)
            if letters > LETTERS:
                raise Garbled(f"it answers with more than {LETTERS} characters, where {TOKENS} tokens were asked for")
            said += piece.thinking + piece.text
            tokens += heard
            if event.get("done") is True:
                return Told(said, tuple(tokens), count_of(event, "prompt_eval_count"), _rendered(connection, body))
    raise Dropped("its answer has no end")


def compared(file: str, expected: Expected, told: Told, stops: Sequence[str]) -> tuple[Check, ...]:
    """What was found equal, and what was not checked. Raises ModelInvalid with both sides where they differ."""
    checks = [_prompt(file, expected, told), _prompt_tokens(file, expected, told)]
    if expected.refused:
        note = f"not asked here: {expected.refused}"
        return (*checks, Check(name="ollama answer", of=file, passed=None, note=one_line(note, 200)))
    allowed = limits(expected)
    found = min((apart(answer, told, stops) for answer in expected.answers), key=lambda noise: _excess(noise, allowed))
    if _excess(found, allowed) > 1:
        ours = " or ".join(repr(text) for text in dict.fromkeys(one_line(_cut(one.text, stops)) for one in expected.answers))
        raise _differs(_reason(found, allowed), ours, repr(one_line(told.text)))
    note = f"{found.tokens} tokens compared" + ("" if told.tokens else "; the server tells no log-probabilities")
    value = round(max(found.most, found.tie), 6)
    return (*checks, Check(name="ollama answer", of=file, passed=True, value=value, limit=round(allowed.most, 6), note=note))


def limits(expected: Expected) -> Noise:
    """How far a server may be from the file's own answers, by how far those are from each other."""
    first, second = expected.answers
    told = Told("", tuple((token.text, token.logprob) for token in second.tokens), 0)
    own = apart(first, told, ())
    return Noise(_between(MEAN_NATS, FACTOR * own.mean), _between(MOST_NATS, FACTOR * max(own.most, own.tie)))


def apart(answer: Answer, told: Told, stops: Sequence[str]) -> Noise:
    """How far a server's answer is from one of the file's, up to the first token that differs.

    Without log-probabilities the words alone decide; a difference then costs what the file's choice is ahead of the server's.
    """
    differences = list(_differences(answer, told))
    mean = sum(differences) / len(differences) if differences else 0.0
    whole = told.text or "".join(text for text, _ in told.tokens)
    return Noise(mean, max(differences, default=0.0), _tie(answer, whole, stops), len(differences) or _shared(answer, whole))


def _between(least: float, value: float) -> float:
    return min(max(least, value), CAP * least)


def _tie(answer: Answer, whole: str, stops: Sequence[str]) -> float:
    """By how many nats the file prefers its token to what the server says where they part; 0 where they do not."""
    if _trimmed(_cut(answer.text, stops)) == _trimmed(_cut(whole, stops)):
        return 0.0
    at = _shared(answer, whole)
    if at == len(answer.tokens):  # the server goes on where the file ended, or the file's tokens ran out
        return float("inf") if answer.ended else 0.0
    said = len(b"".join(token.raw for token in answer.tokens[:at]).decode("utf-8", "replace").lstrip())
    rest = whole.lstrip()[said:]
    token = answer.tokens[at]
    likely = [value for text, value in token.listed if (rest.startswith(text) if text else not rest)]
    return token.logprob - max(likely) if likely else float("inf")


def _shared(answer: Answer, whole: str) -> int:
    """How many of the file's first tokens the server's text begins with."""
    text = _trimmed(whole)
    for count in range(len(answer.tokens), 0, -1):
        begun = b"".join(token.raw for token in answer.tokens[:count]).decode("utf-8", "ignore").lstrip()
        if text.startswith(begun.rstrip()):
            return count
    return 0


def _excess(found: Noise, allowed: Noise) -> float:
    """The largest of the differences as a share of what is allowed."""
    mean = found.mean / allowed.mean if found.tokens >= SEVERAL else 0.0
    return max(mean, found.most / allowed.most, found.tie / allowed.most)


def _reason(found: Noise, allowed: Noise) -> str:
    if found.tie > allowed.most:
        by = "which it hardly holds possible" if found.tie == float("inf") else f"{found.tie:.2f} nats behind the file's choice"
        return f"it says something else, {by} (near ties of {allowed.most:.2f} are allowed)"
    return (
        f"its log-probabilities are {found.mean:.2f} nats away, at most {found.most:.2f} ({allowed.mean:.2f} and {allowed.most:.2f}"
        " are allowed)"
    )


def _prompt(file: str, expected: Expected, told: Told) -> Check:
    if not told.rendered:
        return Check(name="ollama prompt", of=file, passed=None, note="not checked: this version does not show it")
    if expected.refused:
        return Check(name="ollama prompt", of=file, passed=None, note=one_line(f"not checked: {expected.refused}", 200))
    ours, theirs = (text.removeprefix(expected.bos) for text in (expected.text, told.rendered))
    if ours != theirs:
        raise _differs("its prompt is another", *_around(ours, theirs))
    return Check(name="ollama prompt", of=file, passed=True)


def _prompt_tokens(file: str, expected: Expected, told: Told) -> Check:
    name = "ollama prompt tokens"
    if not told.prompt_tokens or expected.refused:
        return Check(name=name, of=file, passed=None, note="not checked: one side does not tell")
    value, limit = float(told.prompt_tokens), float(expected.prompt_tokens)
    if value != limit:
        why = ", so a start token is doubled or missing" if abs(value - limit) == 1 else ""
        raise _differs(f"its prompt is another{why}", f"{expected.prompt_tokens} tokens", f"{told.prompt_tokens}")
    return Check(name=name, of=file, passed=True, value=value, limit=limit)


def _differs(what: str, ours: str, theirs: str) -> ModelInvalid:
    other = "publish with a TEMPLATE, or a system prompt" if "prompt" in what else "export with another --quant"
    return ModelInvalid(
        f"Ollama does not answer as the exported file does: {what}; here {ours}, there {theirs}",
        f"nothing was published; update Ollama, or {other}",
    )


def _around(ours: str, theirs: str) -> tuple[str, str]:
    """Both texts from a little before their first difference on, sanitised and short."""
    at = max(0, _parting(ours, theirs) - 30)
    return tuple(repr(one_line(text[at:], 100)) for text in (ours, theirs))  # type: ignore[return-value]


def _parting(ours: str, theirs: str) -> int:
    """The place of the first character that differs, or the length of the shorter text."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(ours), len(theirs)))


def _rendered(connection: Connection, body: Mapping[str, Any]) -> str:
    """The prompt's text, "" from a version that answers instead of showing it."""
    shown = {**body, "stream": False, "_debug_render_only": True, "options": {**body["options"], "num_predict": 1}}
    try:
        told = as_object(connection.server().json("POST", "/api/chat", shown, deadline_s=RENDER_S))
    except Refusal:
        return ""
    return text_of(as_object(told.get("_debug_info") or {}), "rendered_template")


def _heard(entries: Any) -> list[tuple[str, float]]:
    found = []
    for entry in as_list(entries):
        token, logprob = text_of(as_object(entry), "token"), entry.get("logprob")
        if not isinstance(logprob, int | float) or not -1e4 < logprob <= 1e-3:
            raise Garbled("it sends log-probabilities that are none")
        found.append((token, float(logprob)))
    return found


def _differences(answer: Answer, told: Told) -> Iterator[float]:
    """Of the log-probabilities of each token that both have at the same place, and of the first that the server chose otherwise.

    Tokens are matched by their place in the text: a server that has held back a part of a character tells of several tokens at
    once, with the log-probability of the last.
    """
    ours, theirs = answer.text, "".join(text for text, _ in told.tokens)
    shift = (len(ours) - len(ours.lstrip())) - (len(theirs) - len(theirs.lstrip()))
    same = _parting(ours.lstrip(), theirs.lstrip()) + len(ours) - len(ours.lstrip())
    there: dict[int, tuple[str, float]] = {}
    at = shift
    for text, logprob in told.tokens:
        there[at] = (text, logprob)
        at += len(text)
    written = b""
    for token in answer.tokens:
        begin = len(written.decode("utf-8", "replace"))
        written += token.raw
        text, logprob = there.get(begin, ("", 0.0))
        if not token.raw or not text or _LOST in text or begin > same:
            continue
        if begin + len(text) > same or text != token.text:
            yield from [abs(value - logprob) for listed, value in token.listed if listed == text][:1]
        else:
            yield abs(token.logprob - logprob)


def _cut(text: str, stops: Sequence[str]) -> str:
    return text[: min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=len(text))]


def _trimmed(text: str) -> str:
    """Without the white space around it, which the server or the vocabulary may take away, and lost characters at its end."""
    return text.strip().rstrip(_LOST).rstrip()
