"""How close a requantised model stays to its original: fixed texts, figures over every position of them, and the rule.

The original is no exact yardstick. llama.cpp rounds what goes into a quantised matrix to 8 bits, which alone moves the Q4_1
of SmolLM2-135M 0.004 nats away from its own weights computed exactly, changes 3.5 % of its first choices and leaves 2 of 8
greedy answers of 32 tokens as they were (bench/quant.py, row F16). A rule that asked for identical answers would refuse exact
weights too. So a form is admissible when all three hold:

- mean Kullback-Leibler divergence from the original of at most KL_LIMIT nats, about what two such roundings add up to (Q8_0,
  which has both, measures 0.006, the next best form, Q6_K, 0.016);
- its surprise at the texts, the logarithm of the perplexity, is at most RISE_LIMIT nats a token above the original's, less two
  standard errors: on 300 tokens chance alone makes a difference of 0.006;
- no first choice changed that the original held by more than CLEAR nats, so that only near ties fall differently.

Not covered: speed (`export.quantise.measure`), and quality on a task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KL_LIMIT = 0.01  # nats a token
RISE_LIMIT = 0.005  # nats a token, that is 0.5 % of the perplexity
CLEAR = 1.0  # nats: the original held its choice for e times as likely

_PROSE = """\
The harbour was quiet when the ferry came in, and the lamps along the quay had only just been lit. Two men in oilskins caught \
the lines and made them fast, and the passengers came ashore in ones and twos, carrying baskets and parcels tied with string. \
Nobody hurried. The next boat would not leave before Thursday, and the only inn had more rooms than guests."""

_CODE = '''\
def running_mean(values):
    """Yield the mean of all values seen so far."""
    total = 0.0
    for count, value in enumerate(values, start=1):
        total += value
        yield total / count
'''

_CHATS = (  # the answers are the first 32 tokens of SmolLM2-135M-Instruct's own, greedily decoded
    ("What is the capital of France?", "The capital of France is Paris.<|im_end|>"),
    (
        "Write a Python function that adds two numbers.",
        "```python\ndef add_two_numbers(num1, num2):\n    return num1 + num2\n\ndef add_two_numbers_",
    ),
    (
        "Why is the sky blue?",
        "The sky blue is a result of the Earth's atmosphere scattering sunlight in a specific wavelength range, specifically blue. "
        "This phenomenon occurs because of the scattering of sunlight by",
    ),
    (
        "How do I boil an egg?",
        "Boiling an egg is a simple yet effective way to preserve its nutritional value. To boil an egg, you'll need to heat it to "
        "a high temperature,",
    ),
)

TEXTS = (
    _PROSE,
    _CODE,
    *("<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}".format(*chat) for chat in _CHATS),  # ChatML
)  # about 300 tokens in all

SENTENCES = (
    "What is the capital of France?",
    "Write a function that reverses a list.",
    "Translate to German: the train is late.",
    "My invoice is wrong, who can help me?",
    "Set an alarm for half past six.",
    "How many grams are in an ounce?",
    "Summarise this article in two lines.",
    "The build fails with exit code 137.",
    "Book a table for four on Friday night.",
    "Why does my cat stare at the wall?",
    "Ça fait déjà trois jours que j'attends.",
    "Is this contract valid without a signature?",
    "SELECT name FROM users WHERE age > 30;",
    "Explain photosynthesis to a child.",
    "请问火车站怎么走？",
    "thanks, that worked!",
)  # 16 short ones, as the router sees them

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Figures:
    """What a form computes on the texts beside the original: nats, shares, and a count of clear first choices that changed.

    rise: of the mean surprise, the logarithm of the perplexity, over the original's, with its standard error; fall: of the share
    of tokens that were the first choice of the text before them, under the original's, with its standard error.
    """

    perplexity: float
    rise: float
    rise_error: float
    kl_mean: float
    kl_max: float
    agreement: float
    clear_changes: int
    kl_p99: float = 0.0
    fall: float = 0.0
    fall_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Positions:
    """One text, position by position: divergence, surprise at the next token (one fewer), its rise, lost lead, and falls.

    lead: by how many nats the original preferred its first choice to the form's; 0 where they are the same. fall: 1 where only the
    original's first choice was the next token, -1 where only the form's was (one fewer).
    """

    kl: NDArray[np.float64]
    surprise: NDArray[np.float64]
    rise: NDArray[np.float64]
    lead: NDArray[np.float64]
    fall: NDArray[np.float64]


def log_softmax(logits: Rows) -> Rows:
    """Natural log-probabilities of rows of logits, shape (positions, vocabulary)."""
    shifted: Rows = logits - logits.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


def positions(original: Rows, form: Rows, tokens: Sequence[int]) -> Positions:
    """The form's log-probabilities beside the original's, both of shape (len(tokens), vocabulary)."""
    at = np.arange(len(tokens))
    kl = np.einsum("ij,ij->i", np.exp(original), original - form, dtype=np.float64)
    lead = original.max(axis=-1) - original[at, form.argmax(axis=-1)]
    following = at[:-1], np.asarray(tokens[1:], dtype=np.int64)
    surprise = -form[following].astype(np.float64)
    found, was = (rows.argmax(axis=-1)[:-1] == following[1] for rows in (form, original))
    fall = was.astype(np.float64) - found
    return Positions(np.maximum(kl, 0), surprise, surprise + original[following], lead.astype(np.float64), fall)


def figures(texts: Sequence[Positions]) -> Figures:
    """All texts taken together, every position counting the same."""
    kl, surprise, rise, lead, fall = (
        np.concatenate([getattr(text, name) for text in texts]) for name in ("kl", "surprise", "rise", "lead", "fall")
    )
    return Figures(
        perplexity=float(np.exp(surprise.mean())),
        rise=float(rise.mean()),
        rise_error=float(rise.std() / len(rise) ** 0.5),
        kl_mean=float(kl.mean()),
        kl_max=float(kl.max()),
        agreement=float((lead == 0).mean()),
        clear_changes=int((lead > CLEAR).sum()),
        kl_p99=float(np.quantile(kl, 0.99)),
        fall=float(fall.mean()),
        fall_error=float(fall.std() / len(fall) ** 0.5),
    )


def refusals(form: Figures) -> list[str]:
    """Why the form may not stand in for the original, in words; empty for an admissible one."""
    found = []
    if not form.kl_mean <= KL_LIMIT:  # so written, a NaN is refused too
        found.append(f"its predictions are {form.kl_mean:.3f} nats from the original's, {KL_LIMIT} at most are allowed")
    if not form.rise - 2 * form.rise_error <= RISE_LIMIT:
        found.append(f"its perplexity is {100 * (np.exp(form.rise) - 1):.1f} % above the original's")
    if form.clear_changes:
        found.append(f"{form.clear_changes} clear first choices change")
    return found


def cosines(original: NDArray[Any], form: NDArray[Any]) -> NDArray[np.float64]:
    """The cosine of each row of one matrix with the same row of the other."""
    products = np.einsum("ij,ij->i", original, form, dtype=np.float64)
    lengths = np.linalg.norm(original.astype(np.float64), axis=1) * np.linalg.norm(form.astype(np.float64), axis=1)
    return np.asarray(products / lengths, dtype=np.float64)
