"""Tool calls by grammar, for models that were not made to call tools: first which tool, then its arguments.

Both answers are kept to a JSON schema while they are written, so that even the smallest model writes nothing that cannot be
read. Two small questions instead of one: the second shows the one tool's parameters only, and the answer itself needs no
JSON. Arguments that a limit of tokens cuts off are asked for once more within tighter bounds and then closed as they stand.
Not covered: whether the choice is a good one.
"""

import json
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from data.chat import ToolCall, Usage
from router.engines._calls import cleaned
from router.engines.base import Engine, Request
from router.modes._asking import plumbing, question_of, retold, whole
from router.modes._partial import partial
from router.modes._schemas import bounded, closed, normalised
from router.modes.base import Event
from router.tools.base import Tool

NONE = "none"
"""The choice of no tool."""
CHOICE_TOKENS = 96
BOUNDS = ((600, 16), (60, 4))
"""Characters of each text and items of each list in the arguments: at first, and after a cut."""
AFTER_A_CUT = 1.2
"""The repeat penalty of the second try: what reached the limit was most often one word again and again."""
DESCRIPTION_CHARS = 300


def listed(tools: Mapping[str, Tool], chars: int = DESCRIPTION_CHARS) -> str:
    """The tools by name, with at most about `chars` characters of each description."""
    return "\n".join(f"- {tool.name}: {_line(tool.description, chars)}" for tool in tools.values())


def choose(
    engine: Engine, request: Request, tools: Mapping[str, Tool], listed: str, notes: str, usages: list[Usage]
) -> Generator[Event, None, Tool | None]:
    """The tool that the model wants now, None where it wants to answer; `listed` is how the tools are described."""
    none = NONE if NONE not in tools else f"{NONE}_of_these"
    question = (
        f"Tools:\n{listed}\n- {none}: no tool is needed, the answer is clear\n\n{_asked(request, notes)}\n\n"
        'Which tool is needed now? Reply with {"tool": "NAME"}.'
    )
    schema = {
        "type": "object",
        "properties": {"tool": {"enum": [*tools, none]}},
        "required": ["tool"],
        "additionalProperties": False,
    }
    asked = replace(plumbing(engine, request), messages=retold(request.messages, question), schema=schema, max_tokens=CHOICE_TOKENS)
    reply = yield from whole(engine, asked, usages)
    found = partial(reply.text)
    name = found.get("tool") if isinstance(found, dict) else None
    return tools.get(name) if isinstance(name, str) else None


def fill(
    engine: Engine, request: Request, tool: Tool, notes: str, usages: list[Usage], tokens: int
) -> Generator[Event, None, ToolCall]:
    """The call of `tool` with arguments of its schema, in answers of at most `tokens` tokens."""
    schema = normalised(tool.parameters)
    if not schema.get("properties") and schema.get("additionalProperties") in (None, False):
        return ToolCall(tool.name, {})
    question = f"{explained(tool)}\n\n{_asked(request, notes)}\n\nReply with the arguments as JSON."
    asked = replace(plumbing(engine, request), messages=retold(request.messages, question), max_tokens=tokens)
    text = ""
    for chars, items in BOUNDS:
        reply = yield from whole(engine, replace(asked, schema=bounded(schema, chars, items)), usages, loops=False)
        text = reply.text
        asked = replace(asked, sampling=asked.sampling.model_copy(update={"repeat_penalty": AFTER_A_CUT}))
        if reply.finish != "length" and (found := _object(text)) is not None:
            return ToolCall(tool.name, cleaned(found))
    return ToolCall(tool.name, cleaned(closed(text, bounded(schema, *BOUNDS[-1]))))


def explained(tool: Tool) -> str:
    """The tool with its parameters, in words."""
    schema = normalised(tool.parameters)
    required = schema.get("required", ())
    lines = [f"Call the tool {tool.name}: {_line(tool.description)}", "Arguments:"]
    for name, part in schema.get("properties", {}).items():
        kind = part.get("type") or "any value"
        kind = " or ".join(kind) if isinstance(kind, list) else kind
        said = _line(str(part.get("description", "")))
        chosen = f", one of {', '.join(map(str, part['enum']))[:DESCRIPTION_CHARS]}" if "enum" in part else ""
        lines.append(f"- {name} ({kind}{chosen}{'' if name in required else ', optional'}){': ' if said else ''}{said}")
    return "\n".join(lines)


def _asked(request: Request, notes: str) -> str:
    question = f"Request: {question_of(request.messages)}"
    return f"{question}\n\n{notes}" if notes else question


def _line(text: str, chars: int = DESCRIPTION_CHARS) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else f"{line[:chars]}…"


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
