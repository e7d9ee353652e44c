"""Small domain packs and row files that tests of datasets share."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.domains import Domain, read

INDICATORS = """
[[indicator]]
name = "gift_card_payment"
label = "scam"
description = "asks to be paid in gift cards"
keywords = ["gift card", "gift cards"]
weight = 2.0
against = ["legitimate"]
test = ["Pay with a gift card."]

[[indicator]]
name = "urgency"
label = "phishing"
description = "presses for an answer at once"
keywords = ["immediately", "within 24 hours"]

[[indicator]]
name = "credential_request"
label = "phishing"
description = "wants a password or a code"
patterns = ['(?:confirm|verify) your (?:password|account)']
weight = 3.0
against = ["legitimate", "scam"]

[[indicator]]
name = "known_sender"
label = "legitimate"
description = "names an appointment that was made"
keywords = ["your appointment"]
"""


def scam_pack(folder: Path, examples: Sequence[dict[str, Any]] = (), reasoning_chars: int = 0) -> Domain:
    """A pack with three labels, a risk that the label decides in its examples, and a knowledge base; with room for reasoning in
    its output where that has characters."""
    return _pack(
        folder / "scams",
        description="""
name = "scams"
title = "Scams"
description = "Says what kind of scam a message is"
system = "You look at messages."
label_field = "label"
[[labels]]
name = "phishing"
description = "wants credentials"
[[labels]]
name = "scam"
description = "wants money"
[[labels]]
name = "legitimate"
description = "neither"
""",
        schema={
            "label": {"enum": ["phishing", "scam", "legitimate"]},
            "risk": {"enum": ["low", "high"]},
            **({"reasoning": {"type": "string", "maxLength": reasoning_chars}} if reasoning_chars else {}),
            "confidence": {"type": "number", "minimum": 0, "maximum": 1, "x-from": "probability", "x-field": "label"},
        },
        examples=examples
        or [
            {"text": f"example {number} of {label}", "output": {"label": label, "risk": risk}}
            for label, risk in (("phishing", "high"), ("scam", "high"), ("legitimate", "low"))
            for number in range(3)
        ],
        indicators=INDICATORS,
    )


def intent_pack(folder: Path) -> Domain:
    """A pack without labels, with a contract that is JSON only and one that reasons first."""
    return _pack(
        folder / "intents",
        description="""
name = "intents"
title = "Intents"
description = "Reads requests"
[[contracts]]
name = "v1"
[[contracts]]
name = "v2"
reasoning_tag = "reasoning"
answer_tag = "intent_ir"
""",
        schema={"intent": {"enum": ["list", "count"]}, "clear": {"type": "boolean"}},
        examples=(),
    )


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A JSONL file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The values of a JSONL file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def _pack(
    folder: Path, description: str, schema: dict[str, Any], examples: Sequence[dict[str, Any]], indicators: str = ""
) -> Domain:
    folder.mkdir(parents=True)
    (folder / "domain.toml").write_text(description, encoding="utf-8")
    whole = {"type": "object", "additionalProperties": False, "required": list(schema), "properties": schema}
    (folder / "schema.json").write_text(json.dumps(whole), encoding="utf-8")
    write_rows(folder / "examples.jsonl", examples)
    if indicators:
        (folder / "indicators.toml").write_text(indicators, encoding="utf-8")
    return read(folder)
