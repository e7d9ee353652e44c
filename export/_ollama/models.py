"""A model on the server: made from files it holds, looked at, given another name, taken away.

Not covered: whether it answers rightly (`answers`).
"""

import json
import re
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from data.errors import EngineRejected, InputError, ModelInvalid, PointsmanError
from data.exports import Check
from data.sanitise import one_line
from export._exporting.steps import Step, Tell
from export.quantise import FORMS
from router.engines import _ollama as wire
from router.engines._faults import Dropped, Fault, Garbled, Refusal, as_list, as_object, text_of
from router.engines._llamacpp.header import Header
from router.engines._ollama_connection import Connection

ASK_S = 60.0
STALL_S = 1800.0  # versions before 0.34 copy the whole file and say nothing meanwhile
EVENTS = 100_000  # of one creation, at most
_FORM_OF = {number: form for form, number in FORMS.items()} | {3: "Q4_1", 32: "BF16"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([^xuU]))")
_REASONS: tuple[tuple[str, type[PointsmanError], str, str], ...] = (
    ("adapters? (are|is) no longer supported", EngineRejected, "Ollama attaches no adapters any more", "publish the merged model"),
    ("no space left", EngineRejected, "Ollama's disk is full", "free space there: ollama rm MODEL"),
    ("template error", ModelInvalid, "Ollama cannot read the TEMPLATE", "export again without one"),
    ("invalid model name", InputError, "Ollama does not take the name", "choose another"),
    (
        "unsupported|unknown (model )?(type|architecture)|invalid file magic|unable to|not in GGUF|llama-quantize",
        ModelInvalid,
        "Ollama cannot use the file",
        "update Ollama, or export with another --quant",
    ),
    ("must be of type|unknown parameter|invalid (option|parameter)", InputError, "Ollama refuses a parameter", "export again"),
    ("digest|blob", EngineRejected, "Ollama has lost what was sent", "try again"),
)


def create(connection: Connection, request: Mapping[str, Any], tell: Tell) -> None:
    """Have the server make the model of a request; raises the server's refusal in our words, EngineUnavailable where it is lost."""
    model = str(request["model"])
    try:
        with closing(connection.server().lines("/api/create", {**request, "stream": True}, stall_s=STALL_S)) as lines:
            said = ""
            for number, event in enumerate(filter(None, map(wire.event, lines))):
                if number >= EVENTS:
                    raise Garbled("it never comes to an end")
                status = text_of(event, "status")
                if status == "success":
                    return
                if status != said:
                    tell(Step(f"Ollama: {status}"))
                said = status
            raise Dropped("the creation has no end")
    except Fault as fault:
        raise _translated(connection, fault, model) from fault


def copy(connection: Connection, source: str, target: str) -> None:
    """Give a model a second name; a model that had it loses it."""
    with connection.translating(source):
        connection.server().whole("POST", "/api/copy", {"source": source, "destination": target}, deadline_s=ASK_S)


def remove(connection: Connection, model: str) -> None:
    """Take a model away; raises Fault."""
    connection.server().whole("DELETE", "/api/delete", {"model": model, "name": model}, deadline_s=ASK_S)


def unload(connection: Connection, model: str) -> None:
    """End the process that serves the file, which another model of the same file may have started otherwise; raises Fault."""
    connection.server().whole("POST", "/api/chat", {"model": model, "messages": [], "keep_alive": 0}, deadline_s=ASK_S)


def checked(connection: Connection, request: Mapping[str, Any], header: Header) -> tuple[Check, ...]:
    """What /api/show tells, beside what was asked for. Raises ModelInvalid naming what differs."""
    model = str(request["model"])
    with connection.translating(model):
        shown = as_object(connection.server().json("POST", "/api/show", {"model": model}, deadline_s=ASK_S))
        template, system = text_of(shown, "template"), text_of(shown, "system")
        parameters = text_of(shown, "parameters")
        form = text_of(as_object(shown.get("details") or {}), "quantization_level")
    if system != request.get("system", ""):
        raise _differs("system prompt", str(request.get("system", "")), system)
    _check_parameters(as_object(request.get("parameters") or {}), parameters)
    number = header.metadata.get("general.file_type")
    wanted = _FORM_OF.get(number) if isinstance(number, int) else None
    if wanted and form not in ("", "unknown", wanted):
        raise _differs("quantisation", wanted, form)
    return (
        Check(name="ollama system and parameters", of=header.path.name, passed=True),
        _template(request.get("template"), template, header),
    )


def parameters_of(shown: str) -> dict[str, list[Any]]:
    """The parameters in an answer of /api/show: a name and a Go value a line (%#v), a name as often as it has values."""
    found: dict[str, list[Any]] = {}
    for line in shown.splitlines():
        name, _, value = line.strip().partition(" ")
        if name:
            found.setdefault(name, []).append(_go_value(value.strip()))
    return found


def _check_parameters(asked: Mapping[str, Any], shown: str) -> None:
    found = parameters_of(shown)
    for name, value in asked.items():
        wanted = as_list(value) if isinstance(value, list | tuple) else [value]
        if not _alike(wanted, found.get(name, [])):
            raise _differs(f"parameter {name}", repr(wanted), repr(found.get(name, [])))


def _template(asked: Any, shown: str, header: Header) -> Check:
    """That the TEMPLATE is ours, where there is one. The file's own in its place is told; whether it says the same is compared."""
    own = header.text("tokenizer.chat_template")
    name, of = "ollama template", header.path.name
    if asked and shown == asked:
        return Check(name=name, of=of, passed=True)
    if own and shown == own:
        note = "Ollama prefers the file's own template to the TEMPLATE" if asked else "the file's own"
        return Check(name=name, of=of, passed=True, note=note)
    if asked:
        raise _differs("template", str(asked), shown)
    return Check(name=name, of=of, passed=None, note="Ollama has put one of its own in the place of the file's; see the prompt")


def _alike(wanted: list[Any], found: list[Any]) -> bool:
    return len(wanted) == len(found) and all(_equal(one, other) for one, other in zip(wanted, found, strict=True))


def _equal(wanted: Any, found: Any) -> bool:
    numbers = (int, float)
    if isinstance(wanted, numbers) and isinstance(found, numbers) and not isinstance(wanted, bool):
        return abs(wanted - found) <= 1e-6 * max(1.0, abs(wanted))  # Ollama keeps float32
    return bool(wanted == found)


def _go_value(text: str) -> Any:
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        return _ESCAPED.sub(_unescaped, text[1:-1])
    try:
        return {"true": True, "false": False}[text] if text in ("true", "false") else json.loads(text)
    except (ValueError, RecursionError):
        return text


def _unescaped(match: "re.Match[str]") -> str:
    code = match[1] or match[2] or match[3]
    if code:
        return chr(int(code, 16)) if int(code, 16) < 0x110000 else "\ufffd"
    return _ESCAPES.get(match[4], match[4])


def _differs(what: str, asked: str, found: str) -> ModelInvalid:
    return ModelInvalid(
        f"Ollama has made another model than asked for: its {what} is {one_line(found)!r}, and {one_line(asked)!r} was asked for",
        "nothing was published; update Ollama",
    )


def _translated(connection: Connection, fault: Fault, model: str) -> PointsmanError:
    if isinstance(fault, Refusal):
        for pattern, kind, what, fix in _REASONS:
            if re.search(pattern, fault.text, re.IGNORECASE):
                return kind(f"{what}: {fault}", fix)
        if fault.status in (200, 400, 500):
            return EngineRejected(f"Ollama refuses to make the model: {fault}", "its log says more; nothing was published")
    return connection.translated(fault, model)
