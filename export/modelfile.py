"""Modelfiles: what an exported model is to Ollama, written so that Ollama reads exactly that, or refused.

A Modelfile has no escapes, so some texts cannot be written in one (a line that ends in three quotation marks, a character that
Go does not print). Every text that is composed is read back with Ollama's own grammar and must give the same parts; what the
grammar cannot carry goes through the create API (`request`). A TEMPLATE is taken from modelfiles/ only where it writes the same
prompts as the model's own chat template over twelve conversations. Not covered: talking to Ollama (`export.ollama`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from data.chat import Message
from data.errors import EngineRejected, InputError, ModelInvalid
from data.sanitise import one_line
from export._template import ollama, reader
from export._template.families import Family, families
from export._template.go import GoTemplate
from export._template.parameters import Parameter, checked, parameters_for, read, rope_limit, written
from export._template.shapes import SHAPES

__all__ = [
    "SHAPES", "Found", "Parts", "compose", "differing", "families", "parameters_for", "parse", "prompt", "request", "rope_limit",
    "template_for", "uncarried",
]  # fmt: skip

ADAPTER_NOTE = "For Ollama up to 0.34.0: later versions attach no adapters and refuse this file."
NO_TEMPLATE_NOTE = (
    "No TEMPLATE: Ollama (0.30.0 or later) uses the chat template in the model's own file,\n"
    "or its own template of that kind where it recognises one."
)
API_NOTE = "cannot be written in a Modelfile and is set through Ollama's API: pointsman export RUN --ollama NAME"
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_MODEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:/-]{0,499}")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a Modelfile says.

    model_file, adapter_file: names of GGUF files beside it; from_: the name of a model that Ollama has, in place of model_file;
    template: None where the model's own chat template is used; note: comments, which are not read back.
    """

    model_file: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    system: str = ""
    template: str | None = None
    licence: str = ""
    messages: tuple[Message, ...] = ()
    adapter_file: str = ""
    from_: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A template of modelfiles/ that is equal to the model's own. note: for the Modelfile; refused: the names of the SHAPES that
    the model's own template refuses; context: the family's limit in tokens, 0 for none."""

    family: str
    template: str
    stops: tuple[str, ...] = ()
    context: int = 0
    note: str = ""
    refused: tuple[str, ...] = ()


def compose(parts: Parts, *, api: bool = False) -> str:
    """The Modelfile's text. api: whether what it cannot carry goes through the create API; a comment then says so.

    Raises InputError for a wrong name or parameter, and, without `api`, for what the grammar cannot carry.
    """
    parts = replace(parts, parameters=checked(parts.parameters), template=parts.template or None)
    left_out = uncarried(parts)
    if left_out and not api:
        raise InputError(
            f"a Modelfile cannot carry the {', '.join(left_out)}: Ollama would read something else",
            "use the create API: pointsman export RUN --ollama NAME",
        )
    kept = _without(parts, left_out)
    lines = [_comment(parts.note), _from(parts)]
    lines += [_comment(ADAPTER_NOTE) + f"ADAPTER ./{parts.adapter_file}\n"] if parts.adapter_file else []
    lines.append(_comment(NO_TEMPLATE_NOTE) if parts.template is None and parts.model_file else "")
    lines += [_comment(f"The {name} {API_NOTE}") for name in left_out]
    lines += [f"TEMPLATE {reader.quoted(kept.template)}\n"] if kept.template else []
    lines += [f"SYSTEM {reader.quoted(kept.system)}\n"] if kept.system else []
    for name, value in kept.parameters.items():
        texts = [reader.quoted(stop) for stop in value] if isinstance(value, tuple) else [written(value)]
        lines += [f"PARAMETER {name} {text}\n" for text in texts]
    lines += [f"MESSAGE {message.role} {reader.quoted(message.content)}\n" for message in kept.messages]
    lines += [f"LICENSE {reader.quoted(kept.licence)}\n"] if kept.licence else []
    text = "".join(lines)
    if parse(text) != replace(kept, note=""):
        raise InputError(
            "the Modelfile would not be read as it was meant", "use the create API: pointsman export RUN --ollama NAME"
        )
    return text


def uncarried(parts: Parts) -> tuple[str, ...]:
    """The parts that the grammar cannot carry: of "template", "system", "stop", "messages" and "licence"."""
    stops = parts.parameters.get("stop", ())
    found = {
        "template": _carries(parts.template or ""),
        "system": _carries(parts.system),
        "stop": all(map(_carries, stops)) if isinstance(stops, tuple | list) else False,
        "messages": all(map(_carries_message, parts.messages)),
        "licence": _carries(parts.licence),
    }
    return tuple(name for name, carried in found.items() if not carried)


def parse(text: str) -> Parts:
    """What a Modelfile says, read as Ollama reads it. Several licences are joined by an empty line.

    Raises InputError with the line where Ollama would refuse it, and for what no export has: several FROM, RENDERER, PARSER, DRAFT,
    REQUIRES.
    """
    single: dict[str, str] = {}
    several: dict[str, list[str]] = {"license": [], "message": []}
    parameters: dict[str, list[str]] = {}
    for name, value in reader.commands(text):
        if name in several:
            several[name].append(value)
        elif name in ("template", "system", "adapter") or (name == "model" and name not in single):
            single[name] = value
        elif name in ("model", *reader.COMMANDS):
            raise InputError(
                f"the Modelfile has {name.upper().replace('MODEL', 'a second FROM')}, which no export has", "remove it"
            )
        else:
            parameters.setdefault(name, []).append(value)
    origin = single["model"]
    beside = origin.startswith("./") and _FILE.fullmatch(origin[2:]) is not None
    return Parts(
        model_file=origin[2:] if beside else "",
        parameters={name: read(name, texts) for name, texts in parameters.items()},
        system=single.get("system", ""),
        template=single.get("template") or None,
        licence="\n\n".join(several["license"]),
        messages=tuple(_message(value) for value in several["message"]),
        adapter_file=single.get("adapter", "").removeprefix("./"),
        from_="" if beside else origin,
    )


def request(parts: Parts, digests: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The body for /api/create without the model's name: every text exactly as it is. digests: "sha256:…" by file name; a file
    without one is left for the caller to fill in. Raises InputError for a wrong name or parameter."""
    digests = digests or {}
    _from(parts)
    body: dict[str, Any] = {"from": parts.from_} if parts.from_ else {}
    for key, name in (("files", parts.model_file), ("adapters", parts.adapter_file)):
        if name in digests:
            body[key] = {name: digests[name]}
    parameters = {name: list(value) if isinstance(value, tuple) else value for name, value in checked(parts.parameters).items()}
    texts = {"template": parts.template, "system": parts.system, "license": parts.licence, "parameters": parameters}
    body |= {key: value for key, value in texts.items() if value}
    return body | ({"messages": [_as_ollama_has_it(message) for message in parts.messages]} if parts.messages else {})


def prompt(template: str, messages: Sequence[Message], think: bool | None = None, today: date | None = None) -> str:
    """The prompt that Ollama writes with that TEMPLATE; raises ModelInvalid where the template does not work."""
    return ollama.render(GoTemplate(template), messages, think, today)


def template_for(
    jinja: str, render: Callable[[list[Message]], str], *, bos: str = "", adds_bos: bool = False, today: date | None = None
) -> Found | None:
    """The family template that writes the same prompts as the model's own chat template over all SHAPES; None where there is none.

    jinja: the model's own template, "" where it has none; render: what it makes of a conversation, raising EngineRejected where it
    refuses; bos, adds_bos: the text of the token for the beginning, and whether the tokenizer adds it, so that a prompt must not
    hold it twice. Raises what `render` raises for a template that does not work.
    """
    expected, refused = _expected(render, bos, adds_bos)
    for family in families() if "one question" in expected else ():
        if _unequal(expected, family.template, bos if adds_bos else "", today) == ():
            return Found(family.name, family.template, family.stops, family.context, _note(family, jinja), refused)
    return None


def differing(
    template: str, render: Callable[[list[Message]], str], *, bos: str = "", adds_bos: bool = False, today: date | None = None
) -> tuple[str, ...]:
    """The names of the SHAPES for which a TEMPLATE and the model's own chat template (see `template_for`) write different prompts.

    Conversations that the model's own template refuses are left out. Raises ModelInvalid for a TEMPLATE that cannot be parsed.
    """
    return _unequal(_expected(render, bos, adds_bos)[0], template, bos if adds_bos else "", today)


def _expected(render: Callable[[list[Message]], str], bos: str, adds_bos: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """The prompts by shape, without the beginning that the tokenizer adds, and the shapes that are refused."""
    found: dict[str, str] = {}
    refused: list[str] = []
    for name, messages in SHAPES.items():
        try:
            text = render(list(messages))
        except EngineRejected:
            refused.append(name)
        else:
            found[name] = text.removeprefix(bos) if adds_bos else text
    return found, tuple(refused)


def _unequal(expected: Mapping[str, str], template: str, bos: str, today: date | None) -> tuple[str, ...]:
    """bos: what no prompt may begin with, for the tokenizer adds it; "" for nothing."""
    parsed = GoTemplate(template)
    found: list[str] = []
    for name, wanted in expected.items():
        try:
            text = ollama.render(parsed, SHAPES[name], today=today)
        except ModelInvalid:
            found.append(name)
        else:
            found += [name] if text != wanted or (bos and text.startswith(bos)) else []
    return tuple(found)


def _note(family: Family, jinja: str) -> str:
    note = f"TEMPLATE {family.name}: the same prompts as the model's own chat template, proven over {len(SHAPES)} conversations."
    if "tools" in jinja or "tool_call" in jinja:
        note += "\nOllama from 0.30.0 uses the model's own, which can also call tools; older versions use this one."
    return note


def _from(parts: Parts) -> str:
    """The FROM line; raises InputError for names of files and models that it cannot hold."""
    if bool(parts.model_file) == bool(parts.from_):
        raise InputError("a Modelfile needs either a model's file or the name of a model", "give one of them")
    for name in filter(None, (parts.model_file, parts.adapter_file)):
        if not _FILE.fullmatch(name):
            raise InputError(f"{one_line(name)!r} is no name of a file beside the Modelfile", "use letters, digits, . _ and -")
    if parts.from_ and not _MODEL.fullmatch(parts.from_):
        raise InputError(f"{one_line(parts.from_)!r} is no name of an Ollama model", "for example: smollm2:135m")
    return f"FROM ./{parts.model_file}\n" if parts.model_file else f"FROM {parts.from_}\n"


def _comment(text: str) -> str:
    """Comment lines; a comment ends at every line end, so nothing of a foreign text may hold one."""
    lines = [one_line(line, 200) for line in re.split(r"[\r\n]+", text)]
    return "".join(f"# {line}\n" for line in lines if line)


def _carries(text: str) -> bool:
    """Whether a quoted value holds the text; a carriage return would be, but editors and version control change it."""
    return "\r" not in text and reader.quoted(text) is not None


def _carries_message(message: Message) -> bool:
    plain = Message(message.role, message.content)
    return message == plain and message.role in reader.ROLES and _carries(message.content)


def _without(parts: Parts, left_out: Sequence[str]) -> Parts:
    """The parts that are written; of the stops, those that can be."""
    parameters = dict(parts.parameters)
    stops = parameters.pop("stop", ())
    kept = tuple(stop for stop in stops if _carries(stop)) if isinstance(stops, tuple) else ()
    return replace(
        parts,
        parameters=parameters | ({"stop": kept} if kept else {}),
        template=None if "template" in left_out else parts.template,
        system="" if "system" in left_out else parts.system,
        messages=() if "messages" in left_out else parts.messages,
        licence="" if "licence" in left_out else parts.licence,
    )


def _message(value: str) -> Message:
    role, _, content = value.partition(": ")
    return Message(role, content)  # type: ignore[arg-type]


def _as_ollama_has_it(message: Message) -> dict[str, Any]:
    found = message.to_dict()
    if message.tool_calls:
        calls = [{"function": {"name": call.name, "arguments": dict(call.arguments)}} for call in message.tool_calls]
        found |= {"tool_calls": calls}
    return found
