"""Whether the embedded model's tool calls can be read and satisfy their schema: BFCL simple_python, one function a question.

    python bench/bfcl.py [--data DIR] [--limit N] [--tokens 384] [--model llamacpp/smollm2-135m]

DIR holds BFCL_v4_simple_python.json and possible_answer/ of the Berkeley Function Calling Leaderboard (default:
$POINTSMAN_DATASETS/bfcl). Each call is made by the agent's way for models without tool calls of their own, that is by grammar
from the function's schema with its types put right ("dict", "float" and so on are none of JSON schema's). "chosen" counts the
questions for which the model itself would take the tool rather than answer, "asked again" the calls that the limit of tokens (or a
loop) cut off, "closed" those whose second try was cut off too, so that what was written was completed to fit the schema. Validity
is judged by the `jsonschema` package; "arguments right" by the possible answers: every parameter among the values listed, none left
out that must be there, texts compared without case, spaces and punctuation. Exit code 3 where a call breaks its schema.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data.chat import Message, ToolCall, Usage
from data.config import Sampling, Settings
from router.engines import EMBEDDED, Engines
from router.engines.base import Engine, Request
from router.modes import _constrained
from router.modes._schemas import normalised
from router.tools.base import Tool

FILE = "BFCL_v4_simple_python.json"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, default=Path(os.environ.get("POINTSMAN_DATASETS", ".")) / "bfcl")
    arguments.add_argument("--limit", type=int, default=0)
    arguments.add_argument("--tokens", type=int, default=384, help="tokens of one answer at most")
    arguments.add_argument("--model", default=f"llamacpp/{EMBEDDED}")
    options = arguments.parse_args()
    engines = Engines(Settings())
    resolved = engines.resolve(options.model)
    rows = [json.loads(line) for line in (options.data / FILE).read_text(encoding="utf-8").splitlines()]
    answers = {row["id"]: row["ground_truth"][0] for row in _lines(options.data / "possible_answer" / FILE)}
    rows = rows[: options.limit or None]
    done: list[dict[str, Any]] = []
    started = time.perf_counter()
    for number, row in enumerate(rows, 1):
        done.append(measured(resolved.engine, resolved.model, row, answers[row["id"]], options.tokens))
        if number % 10 == 0:
            left_s = (time.perf_counter() - started) / number * (len(rows) - number)
            print(f"{number}/{len(rows)}, {left_s:.0f} s left", file=sys.stderr, flush=True)
    engines.close()
    result = summed(done) | {"seconds a call": (time.perf_counter() - started) / max(1, len(done)), "model": resolved.reference}
    print(harness.table([result], [key for key in result if key != "model"]))
    wrong = [row for row in done if not row["valid"]]
    harness.write("bfcl", {"result": result, "tokens": options.tokens, "invalid": wrong, "rows": done})
    return 0 if result["parsed %"] == result["valid %"] == 100 else 3


def measured(engine: Engine, model: str, row: Mapping[str, Any], answer: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """One question: the call that was made, and what is right about it."""
    function = row["function"][0]
    tool = Tool(function["name"], function.get("description", ""), function["parameters"], "none", lambda **given: "")
    messages = tuple(Message(turn["role"], turn["content"]) for turn in row["question"][0])
    request = Request(model, messages, Sampling(temperature=0, repeat_penalty=1.0))
    usages: list[Usage] = []
    tools = {tool.name: tool}
    chosen = _ended(_constrained.choose(engine, request, tools, _constrained.listed(tools), "", usages))
    at = len(usages)
    call: ToolCall = _ended(_constrained.fill(engine, request, tool, "", usages, tokens))
    text = json.dumps(dict(call.arguments))
    (expected,) = answer.values()
    return {
        "id": row["id"],
        "chosen": chosen is not None,
        "parsed": json.loads(text) == dict(call.arguments),
        "valid": _valid(call.arguments, function["parameters"]),
        "name": call.name in answer,
        "arguments": right(dict(call.arguments), expected),
        "requests": len(usages) - at,
        "closed": any(usage.finish == "length" for usage in usages[at + 1 :]),
        "tokens": sum(usage.completion_tokens for usage in usages[at:]),
        "call": dict(call.arguments),
    }


def right(found: Mapping[str, Any], expected: Mapping[str, list[Any]]) -> bool:
    """Whether every argument is one of the values listed for it; "" in a list says that it may be left out."""
    if not set(found) <= set(expected):
        return False
    return all(_among(found[name], values) if name in found else "" in values for name, values in expected.items())


def summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of all rows, in per cent."""
    count = max(1, len(rows))
    shares = {
        "parsed %": "parsed",
        "valid %": "valid",
        "name right %": "name",
        "arguments right %": "arguments",
        "chosen %": "chosen",
    }
    found: dict[str, Any] = {"calls": len(rows)}
    found |= {title: 100 * sum(row[key] for row in rows) / count for title, key in shares.items()}
    again = {"asked again %": [row["requests"] > 1 for row in rows], "closed %": [row["closed"] for row in rows]}
    return found | {title: 100 * sum(values) / count for title, values in again.items()}


def _valid(call: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    import jsonschema

    schema = {**normalised(parameters), "additionalProperties": False}
    return next(jsonschema.Draft202012Validator(schema).iter_errors(dict(call)), None) is None


def _among(value: Any, values: list[Any]) -> bool:
    return any(_same(value, other) for other in values)


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, str) and isinstance(other, str):
        return _plain(value) == _plain(other)
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(_same(one, two) for one, two in zip(value, other, strict=True))
    if isinstance(value, dict) and isinstance(other, dict):
        return right(value, {key: item if isinstance(item, list) else [item] for key, item in other.items()})
    return bool(value == other)


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^'\"]", "", text).lower()


def _ended(turn: Generator[Any, None, Any]) -> Any:
    """What a turn returns, its events left unseen."""
    while True:
        try:
            next(turn)
        except StopIteration as end:
            return end.value


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
