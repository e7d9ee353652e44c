"""What an exported file answers here, greedily, and how sure it is of each token: what a server's answer is measured against.

Computed in a child process twice, with flash attention and without: llama-server uses it, and on a processor that alone moves
a quantised model's log-probabilities by up to 0.25 nats (SmolLM2-135M, Q4_1), while everything else is equal to 0.0002. How far
the two are apart says how exact any other computation of the same file can be asked to be. Not covered: the comparison
(`answers`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.chat import Message
from data.errors import PointsmanError
from export.quantise import in_child

if TYPE_CHECKING:
    from router.engines._llamacpp.context import Context
    from router.engines._llamacpp.model import LoadedModel

TOKENS = 24  # of an answer: Ollama breaks off without a word after 30 equal ones
LISTED = 20  # likeliest tokens kept of each position
CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was chosen: its bytes, its natural log-probability, and the likeliest at its place (text, log-probability)."""

    raw: bytes
    logprob: float
    listed: tuple[tuple[str, float], ...]

    @property
    def text(self) -> str:
        """As a server writes it: parts of characters become U+FFFD."""
        return self.raw.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Answer:
    """One greedy answer, and whether it ended by itself."""

    tokens: tuple[Token, ...]
    ended: bool

    @property
    def text(self) -> str:
        """The whole answer."""
        return b"".join(token.raw for token in self.tokens).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Expected:
    """One prompt's text and number of tokens, and its answer with flash attention and without.

    refused: why there is no prompt; bos: the text of the token that begins every prompt, "" where none does; plain: False where a
    message holds the text of a control token, which is broken up here and which a server takes for the token.
    """

    text: str = ""
    prompt_tokens: int = 0
    bos: str = ""
    plain: bool = True
    refused: str = ""
    answers: tuple[Answer, ...] = ()


def expected(
    file: Path, prompts: Sequence[Sequence[Message]], *, adapter: Path | None = None, context: int = CONTEXT
) -> tuple[Expected, ...]:
    """What the file answers to each prompt. Raises ModelInvalid with llama.cpp's last words where it cannot be run."""
    found = in_child(
        "greedy",
        f"{file} cannot be asked",
        file=str(file),
        adapter=str(adapter or ""),
        prompts=[[message.to_dict() for message in prompt] for prompt in prompts],
        context=context,
    )
    return tuple(map(_expected, found))


def greedy(api: Any, file: str, adapter: str, prompts: Sequence[Sequence[Mapping[str, Any]]], context: int) -> list[dict[str, Any]]:
    """The child's part of `expected`, as plain JSON; raises SystemExit with a line where llama.cpp fails."""
    from data.config import LlamaCppSettings
    from router.engines._llamacpp.model import LoadedModel
    from router.engines.base import Adapter

    try:
        model = LoadedModel(Path(file), LlamaCppSettings(context=context))
        rows = [_spelled(model, [Message.from_dict(message) for message in prompt]) for prompt in prompts]
        for flash in (True, False):
            computing = model.batch_context(Adapter(adapter) if adapter else None, 1, flash)
            for row in rows:
                if not row["refused"]:
                    row["answers"].append(_answer(api, model, computing, row["tokens"]))
            model.release(computing)
    except PointsmanError as error:
        raise SystemExit(error.what) from error
    return rows


def _expected(row: Mapping[str, Any]) -> Expected:
    answers = tuple(Answer(tuple(map(_token, tokens)), ended) for tokens, ended in row["answers"])
    return Expected(row["text"], len(row["tokens"]), row["bos"], row["plain"], row["refused"], answers)


def _token(told: Sequence[Any]) -> Token:
    raw, logprob, listed = told
    return Token(bytes.fromhex(raw), logprob, tuple((text, value) for text, value in listed))


def _spelled(model: "LoadedModel", prompt: Sequence[Message]) -> dict[str, Any]:
    from data.errors import EngineRejected
    from router.engines._llamacpp.prompt import spelled
    from router.engines._llamacpp.vocab import MARK

    row: dict[str, Any] = {"text": "", "tokens": [], "bos": "", "plain": True, "refused": "", "answers": []}
    if model.vocab.adds_bos:
        row["bos"] = model.vocab.text(model.vocab.bos)
    try:
        row["text"], row["tokens"] = spelled(prompt, model.vocab, model.template)
    except EngineRejected as error:
        return row | {"refused": error.what}
    row["plain"] = MARK not in row["text"]
    if len(row["tokens"]) + TOKENS > model.context_tokens:
        row["refused"] = f"a prompt of {len(row['tokens'])} tokens is too long for a context of {model.context_tokens}"
    return row


def _answer(api: Any, model: "LoadedModel", computing: "Context", prompt: Sequence[int]) -> tuple[list[Any], bool]:
    """[bytes in hex, log-probability, listed] of each token, and whether the end was chosen; the prompt is read from its start."""
    computing.clear()
    for start in range(0, len(prompt), computing.batch):
        computing.read(prompt[start : start + computing.batch])
    found: list[Any] = []
    while len(found) < TOKENS:
        logs = np.ctypeslib.as_array(api.llama_get_logits_ith(computing.pointer, -1), (model.vocab.size,)).astype(np.float64)
        if not np.isfinite(logs).any() or np.isnan(logs).any():
            raise SystemExit("the model computes values that are no numbers")
        logs -= logs.max()
        logs -= np.log(np.exp(logs).sum())
        best = np.argsort(-logs, kind="stable")[:LISTED]
        chosen = int(best[0])
        if model.vocab.is_end(chosen):
            return found, True
        listed = [(_shown(model, int(token)), float(logs[token])) for token in best]
        found.append((model.vocab.piece(chosen).hex(), float(logs[chosen]), listed))
        computing.read([chosen])
    return found, False


def _shown(model: "LoadedModel", token: int) -> str:
    return "" if model.vocab.is_end(token) else model.vocab.piece(token).decode("utf-8", "replace")
