"""Modes that the user corrected: the same question, or one that says the same, gets the right mode at once.

Domains are learned by heads (exemplars.py); a mode is too much a matter of the question's form for its neighbours to tell, so
only what is near to being the same counts. Not covered: where corrections are kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data.errors import EngineError, ModelError
from router.encoder import OWN_DIMENSIONS
from router.features import normalise
from router.linear import Floats

if TYPE_CHECKING:
    from router.classifier import Encode

SAME = 0.9
"""Cosine of sentence vectors from which two questions say the same: paraphrases of one intent begin at about 0.8."""


@dataclass(frozen=True, slots=True, eq=False)
class TaughtMode:
    """A question as normalised, its right mode, and its vector of length 1, None without an encoder."""

    text: str
    mode: str
    vector: Floats | None = None


def taught(pairs: Iterable[tuple[str, str]], encode: "Encode | None") -> tuple[TaughtMode, ...]:
    """Questions and modes made ready, the newest last."""
    return tuple(TaughtMode(text, mode, _vector(text, encode)) for text, mode in ((normalise(one), mode) for one, mode in pairs))


def mode_of(question: str, known: Sequence[TaughtMode], encode: "Encode | None") -> TaughtMode | None:
    """The correction that fits the question, the newest of the same words first; None where there is none."""
    text = normalise(question)
    same = [one for one in known if one.text == text]
    if same or not text:
        return same[-1] if same else None
    comparable = [one for one in known if one.vector is not None]
    vector = _vector(text, encode) if comparable else None
    if vector is None:
        return None
    cosines = np.array([one.vector @ vector for one in comparable if one.vector is not None])
    best = int(cosines.argmax())
    return comparable[best] if cosines[best] >= SAME else None


def _vector(text: str, encode: "Encode | None") -> Floats | None:
    if encode is None or not text:
        return None
    try:
        found = encode(text)[:OWN_DIMENSIONS]
    except (EngineError, ModelError):
        return None  # the domain head says that the encoder is missing
    length = float(np.linalg.norm(found))
    unit: Floats = found / max(length, 1e-9)
    return unit
