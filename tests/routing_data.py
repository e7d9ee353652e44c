"""Labelled questions made from templates, and a sentence encoder that needs no model, for the router's tests."""

import itertools
import zlib

import numpy as np

from router.encoder import Encoder
from router.labelled import Labelled

TEMPLATES = {
    "music": {
        "play": ["play {} songs", "put on some {} music", "i want to hear {} tunes", "start the {} playlist"],
        "volume": [
            "turn the {} volume down",
            "make the {} speakers louder",
            "lower the sound of the {} radio",
            "mute the {} speaker",
        ],
    },
    "travel": {
        "flight": [
            "book a flight to {}",
            "find me a plane ticket to {}",
            "i need to fly to {} tomorrow",
            "are there flights to {}",
        ],
        "hotel": ["reserve a hotel in {}", "find a room in {}", "i need somewhere to sleep in {}", "which hotels are near {}"],
    },
    "cooking": {
        "recipe": ["how do i cook {}", "give me a recipe for {}", "what do i need to make {}", "teach me to bake {}"],
        "calories": ["how many calories are in {}", "is {} healthy to eat", "how much sugar does {} have", "nutrition facts of {}"],
    },
}
FILLERS = {
    "music": "loud soft kitchen bedroom jazz rock summer winter office garden party old new slow fast happy sad blue".split(),
    "travel": "paris london rome madrid tokyo boston chicago vienna prague oslo dublin lisbon athens cairo lima denver".split(),
    "cooking": "pasta bread soup rice pizza lentils salmon pancakes cake stew curry beans omelette salad pie noodles".split(),
}
OUTSIDE = [
    f"{first} {second}"
    for first, second in itertools.product(
        ["who invented", "what is the history of", "explain the theory behind", "define the word"],
        [
            "electricity",
            "gravity",
            "philosophy",
            "democracy",
            "the telescope",
            "algebra",
            "evolution",
            "entropy",
            "irony",
            "inflation",
        ],
    )
]
PREFIXES = ("", "please ", "could you ", "hey ", "can you quickly ")


def labelled(outside: bool = True) -> Labelled:
    """480 questions or so in scope with six intents of three domains, and forty out of scope."""
    rows, domain_of = [], {}
    for domain, intents in TEMPLATES.items():
        for intent, templates in intents.items():
            domain_of[intent] = domain
            for prefix, template, filler in itertools.product(PREFIXES[:3], templates, FILLERS[domain][:8]):
                rows.append((f"{prefix}{template.format(filler)}", intent))
    return Labelled("made", domain_of, tuple(rows), outside_train=tuple(OUTSIDE) if outside else ())


def embed(texts) -> np.ndarray:
    """Vectors of length 1 in 64 dimensions: sums of random directions, one for each word and each of its beginnings."""
    found = []
    for text in texts:
        total = np.zeros(64)
        for word in text.split() or [""]:
            for piece in (word, word[:4]):
                total += np.random.default_rng(zlib.crc32(piece.encode())).normal(size=64)
        found.append(total / np.linalg.norm(total))
    return np.array(found, np.float32)


def encoder() -> Encoder:
    """An encoder over `embed`."""
    return Encoder(embed, "made")
