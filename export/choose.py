"""Which form of a model is served (`--quant auto`): the fastest on this processor that says and does the same as the original.

    measured(files, texts, ...)    size, speed, divergence, first choices and task score of each form, and why it is refused, if so
    auto(found)                    the fastest that is not refused; of those as good as equally fast, the smallest
    why(best, found)               the choice in one line, with the reasons against the others

A form is refused where its mean Kullback-Leibler divergence from the original is above its limit, or where it is worse than the
original on the same texts and rows by more than a margin and by more than chance explains (three standard errors of the paired
differences, five points at most): at the first choice for the next token, and at the task. Not covered: making the forms
(`export.quantise`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.errors import InputError
from export import embedded
from export.embedded import ANSWER_TOKENS, PROMPT_TOKENS, Option
from export.fidelity import Figures
from export.quantise import Speed, measure

CANDIDATES = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_NL")
KL_LIMITS = {
    "F32": 0.001,
    "F16": 0.001,
    "BF16": 0.005,
    "Q8_0": 0.01,
    "Q6_K": 0.02,
    "Q5_K_M": 0.04,
    "Q4_K_M": 0.08,
    "IQ4_NL": 0.12,
    "Q4_0": 0.2,
}
"""Nats a token, at most, unless a recipe says otherwise. SmolLM2-135M with an importance matrix measures on the triage pack 0.006
(Q8_0), 0.043 (Q4_K_M), 0.084 (IQ4_NL) and 0.19 (Q4_0), without one 0.084, 0.21 and 0.32 (bench/forms.py)."""
SAFEST = ("F16", "BF16", "F32", "Q8_0")
"""What is served where every form is refused, in this order."""
ERRORS = 3.0
"""Standard errors within which a difference counts as chance: six forms at two gates are refused by it in 2 of 100 choices."""

CHANCE_MOST = 0.05
"""What chance may explain at most: on few rows three standard errors would excuse a loss that anyone notices."""

Task = Callable[[Path], float | Sequence[float]]
"""The task score of a model file, or one score a row, always of the same rows."""


@dataclass(frozen=True, slots=True)
class Limits:
    """kl: nats a token by form; top1, task: the share by which a form may be worse than the original even beyond chance."""

    kl: Mapping[str, float] = field(default_factory=lambda: KL_LIMITS)
    top1: float = 0.005
    task: float = 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """One form beside the original, the first that was measured.

    kl_mean, kl_p99: nats a token; top1: share of positions with the original's first choice; fall: of the share of next tokens that
    were the first choice, with its standard error; prefill, decode: tokens per second, and turn_s the seconds of a turn, 0 where
    no speed was measured; task: mean score, None where it was not judged, with the standard error of its fall under the original's;
    refused: every reason against it.
    """

    form: str
    bytes: int
    kl_mean: float
    kl_p99: float = 0.0
    top1: float = 1.0
    fall: float = 0.0
    fall_error: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    turn_s: float = 0.0
    task: float | None = None
    task_error: float = 0.0
    refused: tuple[str, ...] = ()

    def row(self) -> dict[str, float | str]:
        """The figures as an export's notes keep them."""
        found: dict[str, float | str] = {
            "bytes": self.bytes,
            "kl_mean": round(self.kl_mean, 6),
            "kl_p99": round(self.kl_p99, 5),
            "top1": round(self.top1, 4),
        }
        if self.turn_s:
            found |= {"prefill": round(self.prefill, 1), "decode": round(self.decode, 1), "turn_s": round(self.turn_s, 3)}
        if self.task is not None:
            found["task"] = round(self.task, 4)
        return found | ({"refused": "; ".join(self.refused)} if self.refused else {})


def measured(
    files: Mapping[str, Path],
    texts: Sequence[str | Sequence[int]],
    limits: Limits | None = None,
    task: Task | None = None,
    *,
    turn: tuple[float, float] = (PROMPT_TOKENS, ANSWER_TOKENS),
    rounds: int = 3,
    seconds: float = 20.0,
) -> tuple[Measured, ...]:
    """Each form's figures, the original (F16, or the most exact there is) first in `files` and never refused.

    texts: or their tokens, of the domain's own data; turn: tokens of a prompt and of an answer, by which reading and writing weigh;
    rounds 0: no speeds. A form that is refused already is not judged on the task, which may take minutes. Raises InputError without
    forms or texts, ModelInvalid where a file cannot be loaded or run, and what `task` raises.
    """
    if not files or not texts:
        raise InputError("a form is chosen among files and by texts, and there are none", "name forms, and the domain's rows")
    bounds = limits or Limits()
    found: list[Measured] = []
    first: NDArray[np.float64] | None = None
    rows = measure(list(files.values()), texts, rounds, seconds)
    for (form, file), (figures, speed) in zip(files.items(), rows, strict=True):
        one = _figures(form, file, figures, speed, turn, bounds if found else None)
        if task is not None and not one.refused:
            scores = np.atleast_1d(np.asarray(task(file), dtype=np.float64))
            first = scores if first is None else first
            one = _judged(one, first, scores, bounds.task)
        found.append(one)
    return tuple(found)


def bearable(margin: float, error: float) -> float:
    """By how much a share may be below the original's: the margin, or what chance explains (ERRORS, CHANCE_MOST)."""
    return max(margin, min(ERRORS * error, CHANCE_MOST))


def auto(found: Sequence[Measured]) -> Measured:
    """The form to serve. Without speeds the smallest counts as the fastest; where all are refused, the first of SAFEST is served.

    Raises InputError without forms.
    """
    if not found:
        raise InputError("there is no form to choose from", f"name some of {', '.join(CANDIDATES)}")
    if all(one.refused for one in found):
        order = {form: at for at, form in enumerate(SAFEST)}
        return min(found, key=lambda one: (order.get(one.form, len(order)), one.kl_mean))
    timed = all(one.turn_s for one in found)
    options = [Option(one.form, one.bytes, one.turn_s if timed else float(one.bytes), "; ".join(one.refused)) for one in found]
    return found[options.index(embedded.choose(options))]


def why(best: Measured, found: Sequence[Measured]) -> str:
    """Why this form, in one line: how the others compare."""
    said = []
    for one in found:
        if one is best:
            continue
        if one.refused:
            said.append(f"{one.form} is refused: {' and '.join(one.refused)}")
        elif one.turn_s > best.turn_s * embedded.TIE:
            said.append(f"{one.form} takes {one.turn_s / best.turn_s:.2f} times as long")
        else:
            said.append(f"{one.form} is no faster and {'larger' if one.bytes > best.bytes else 'within the same margin'}")
    others = f": {'; '.join(said)}" if said else ""
    if best.refused:
        return f"every form is refused, so the most exact is served; {best.form} itself: {' and '.join(best.refused)}{others}"
    return f"{best.form} is the fastest form here that says the same{others}"


def _figures(
    form: str, file: Path, figures: Figures, speed: Speed | None, turn: tuple[float, float], limits: Limits | None
) -> Measured:
    """limits: None for the original."""
    return Measured(
        form=form,
        bytes=file.stat().st_size,
        kl_mean=figures.kl_mean,
        kl_p99=figures.kl_p99,
        top1=figures.agreement,
        fall=figures.fall,
        fall_error=figures.fall_error,
        prefill=speed.prefill if speed else 0.0,
        decode=speed.decode if speed else 0.0,
        turn_s=turn[0] / speed.prefill + turn[1] / speed.decode if speed else 0.0,
        refused=_refusals(form, figures, limits) if limits else (),
    )


def _refusals(form: str, figures: Figures, limits: Limits) -> tuple[str, ...]:
    found = []
    limit = limits.kl.get(form, min(KL_LIMITS.values()))
    if not figures.kl_mean <= limit:  # so written, a NaN is refused too
        found.append(f"its predictions are {figures.kl_mean:.4f} nats from the original's, {limit:g} at most are allowed")
    if not figures.fall <= bearable(limits.top1, figures.fall_error):
        found.append(f"its first choice is the next token {100 * figures.fall:.1f} % less often")
    return tuple(found)


def _judged(
    one: Measured,
    first: NDArray[np.float64],
    scores: NDArray[np.float64],
    margin: float,
) -> Measured:
    """With its task score; `first` are the original's. Raises InputError where they are not of the same rows."""
    if scores.shape != first.shape or not scores.size:
        raise InputError(
            f"the task gave {scores.size} scores for {one.form} and {first.size} for the original",
            "judge all forms on the same rows",
        )
    falls = first - scores
    fall, error = float(falls.mean()), float(falls.std() / len(falls) ** 0.5)
    refused = one.refused
    if not fall <= bearable(margin, error) + 1e-9:  # 0.90 - 0.89 is a little more than 0.01
        refused = (*refused, f"its task score is {scores.mean():.3f}, the original's {first.mean():.3f}")
    return replace(one, task=float(scores.mean()), task_error=error, refused=refused)
