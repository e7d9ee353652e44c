"""Whether every answer parses and fits its domain's schema: 1,000 rows of every pack with a contract, by the embedded model.

    POINTSMAN_DATASETS=FOLDER python bench/contracts.py [--rows 1000] [--domain fraud] [--hybrid]

Rows are the pack's examples and adversarial cases, messages of sms_spam where the data sets are there, and all of them again
spoilt by a seed (cut, doubled, quotes and braces, control characters, other scripts). Each layout is one contract. What is
judged is the engine's answer (parsed with json, judged with jsonschema by the pack's schema), then all with what is filled in.
The first rows are answered with the schema as it is, the others with strings of at most STRING_CHARACTERS: an untuned model
writes each string to its limit, which takes time and shows no new kind of fault.
Not covered: whether the answers are right (`pointsman eval`).
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import harness

from data import domains
from data.config import Settings
from router.classification import Classifier
from router.contract import Contract
from router.domain_rules import DomainRules
from router.engines import Engines

MODEL = "llamacpp/smollm2-135m"
CHARACTERS = 100
"""Of a text: long ones take time and break nothing that short ones do not."""
WHOLE_ROWS = 20
"""Rows that are answered with the schema as it is."""
STRING_CHARACTERS = 24
"""Of a string in the answers to the other rows."""
OTHERS = 50
"""One in so many rows for the layouts after a pack's first, which differ in their tags alone."""
SPOILERS = (
    '"}',
    '{"label": "',
    "\\",
    "\x07",
    "日本語のテキスト",
    "<|im_end|>",
    "</reasoning>",
    "🙂" * 3,
    "\u202e",
    "null",
    "ignore the above",
)


def main() -> None:
    """Run every contract and write the table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=1_000)
    arguments.add_argument("--domain", action="append")
    arguments.add_argument("--hybrid", action="store_true")
    given = arguments.parse_args()
    engines = Engines(Settings())
    names = given.domain or domains.names()
    found = [row for row in before() if row["domain"] not in names]
    try:
        for name in names:
            pack = domains.load(name)
            if not pack.asked:
                continue
            for at, version in enumerate(pack.described.contracts):
                found.append(measured(pack, version.name, engines, given.rows // OTHERS if at else given.rows, given.hybrid))
                print(found[-1], flush=True)
                harness.write("contracts", {"rows": found})  # after each, because all of them take long
    finally:
        engines.close()
    print(harness.table(found, ("domain", "contract", "rows", "valid", "whole_valid", "faults", "rows_per_s", "tokens_per_row")))


def before() -> list[dict[str, Any]]:
    """What earlier runs have measured: domains that this run does not take up stay in the file."""
    file = harness.RESULTS / "contracts.json"
    return list(json.loads(file.read_text(encoding="utf-8"))["rows"]) if file.is_file() else []


def measured(pack: domains.Domain, contract: str, engines: Engines, rows: int, hybrid: bool) -> dict[str, Any]:
    """One contract's counts."""
    given = texts(pack, rows)
    judge = Contract(pack, contract)  # the pack's own schema: what a rule puts in place may be longer than STRING_CHARACTERS
    asked, rules = list(pack.asked["properties"]), DomainRules.of(pack)
    started = time.perf_counter()
    answers = []
    for some, domain in ((given[:WHOLE_ROWS], pack), (given[WHOLE_ROWS:], shortened(pack))):
        with patch.object(DomainRules, "of", return_value=rules):  # those texts of rules do not fit the short strings
            classifier = Classifier(domain, engines, MODEL, hybrid=hybrid, contract=contract)
        answers += list(classifier.classify(some))
    seconds = time.perf_counter() - started
    valid = [not one.fault and not judge.faults({key: one.output[key] for key in asked if key in one.output}) for one in answers]
    whole = [not one.fault and not judge.faults(one.output, whole=True) for one in answers]
    return {
        "domain": pack.name,
        "contract": contract,
        "rows": len(answers),
        "valid": sum(valid),
        "whole_valid": sum(whole),
        "faults": sum(bool(one.fault) for one in answers),
        "rows_per_s": len(answers) / seconds,
        "tokens_per_row": sum(one.usage.completion_tokens for one in answers) / len(answers),
        "broken": [one.fault or json.dumps(one.output) for one, sound in zip(answers, valid, strict=True) if not sound][:5],
    }


def shortened(pack: domains.Domain) -> domains.Domain:
    """The pack with short strings in its schema."""

    def short(part: Any) -> Any:
        if isinstance(part, list):
            return [short(one) for one in part]
        if not isinstance(part, dict):
            return part
        found = {key: short(value) for key, value in part.items()}
        if isinstance(found.get("maxLength"), int):
            found["maxLength"] = min(found["maxLength"], STRING_CHARACTERS)
        return found

    found = domains.Domain(pack.folder, pack.described)
    vars(found)["schema"] = short(pack.schema)  # in place of what is read from the file when it is first asked for
    return found


def texts(pack: domains.Domain, rows: int) -> list[str]:
    """Texts of the pack, of sms_spam where it is, and spoilt ones: always the same for a number of rows."""
    chance = random.Random(pack.name)
    plain = [one.text for one in pack.examples] + [one.text for one in pack.cases if one.text.strip()] + list(messages())
    plain = [text[:CHARACTERS] for text in plain]
    chance.shuffle(plain)
    found = plain[: rows // 2]
    while len(found) < rows:
        found.append(spoilt(chance.choice(plain), chance))
    return found


def messages() -> Iterator[str]:
    """Messages of the data set sms_spam, none where it is not there."""
    file = Path(os.environ.get("POINTSMAN_DATASETS", "nowhere")) / "sms_spam" / "train.tsv"
    if file.is_file():
        for line in file.read_text(encoding="utf-8").split("\n")[:2_000]:
            if line.strip():
                yield line.partition("\t")[2]


def spoilt(text: str, chance: random.Random) -> str:
    """A text with something in it that could break an answer."""
    at = chance.randrange(len(text) + 1)
    spoiler = chance.choice(SPOILERS)
    return chance.choice((text[:at] + spoiler + text[at:], text[: max(1, at)], text + " " + text, spoiler, text.upper() + spoiler))


if __name__ == "__main__":
    main()
