"""A small domain pack for tests, and a classifier that is told what to say."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data import domains
from data.domains import Domain
from router.classification import Classified, Voice

LABELS = ("bug", "idea", "praise")
TEXTS = {
    "bug": "the {} crashes when I press {}",
    "idea": "please add a {} that can {}",
    "praise": "I love the {}, it makes {} easy",
}
THINGS = "button menu window editor toolbar printer keyboard report calendar map filter chart inbox folder timer search".split()
DEEDS = "save print open zoom scroll sort copy share rotate undo login export resize".split()


def rows(label: str, count: int) -> list[str]:
    """Different texts of one label."""
    pairs = [(thing, deed) for thing in THINGS for deed in DEEDS]
    return [TEXTS[label].format(*pairs[at * 7 % len(pairs)]) for at in range(count)]


def pack(folder: Path, *, gates: str = "", cases: Sequence[Mapping[str, Any]] = (), train: int = 12, held: int = 8) -> Domain:
    """A pack named feedback below `folder`, read."""
    made = folder / "feedback"
    made.mkdir(parents=True)
    tables = "".join(f'[[labels]]\nname = "{label}"\ndescription = "rows about a {label}"\n' for label in LABELS)
    (made / "domain.toml").write_text(
        'name = "feedback"\ntitle = "Feedback"\ndescription = "Sorts feedback."\nlabel_field = "label"\n'
        f'base_models = ["echo/echo"]\n{tables}[gates]\n{gates}\n'
    )
    properties = {"label": {"type": "string", "enum": list(LABELS)}, "urgent": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, "required": ["label", "urgent"], "additionalProperties": False}
    (made / "schema.json").write_text(json.dumps(schema))
    (made / "README.md").write_text("# Feedback\n\nWritten for tests.\n")
    lines = []
    for label in LABELS:
        for at, text in enumerate(rows(label, train + held)):
            output = {"label": label, "urgent": label == "bug"}
            lines.append({"text": text, "label": label, "output": output, "split": "train" if at < train else "validation"})
    (made / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if cases:
        (made / "adversarial.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    return domains.read(made)


def told(text: str, label: str, confidence: float | None = 0.9, **more: Any) -> Classified:
    """An answer that fits the pack's schema; the rest of the probability is spread evenly."""
    rest = [one for one in LABELS if one != label]
    shares = {} if confidence is None else {label: confidence, **{one: (1 - confidence) / len(rest) for one in rest}}
    fields = {
        "output": {"label": label, "urgent": label == "bug"},
        "json_valid": True,
        "model": "echo/echo",
        "probabilities": shares,
    }
    return Classified(text, label, confidence=confidence, **{**fields, **more})


def right_label(text: str) -> str:
    """The label that a text of `rows` was made for."""
    return "bug" if "crashes" in text else "idea" if "please add" in text else "praise"


def saying(answer: Callable[[str], Classified]) -> Callable[[Sequence[str]], Iterator[Classified]]:
    """A classifier that gives that answer about each text."""
    return lambda texts: (answer(text) for text in texts)


def voice(name: Any, label: str) -> Voice:
    """A voice that is nearly sure of a label."""
    return Voice(name, {one: 0.98 if one == label else 0.01 for one in LABELS})
