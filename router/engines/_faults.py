"""What can go wrong with a request to a server, and the reading of JSON from one that may send anything.

Engines translate a `Fault` into `data.errors`; none leaves them. Not covered: where faults come from; see _http.py.
"""

import json
from collections.abc import Mapping
from typing import Any

from data.sanitise import one_line


class Fault(Exception):
    """What went wrong with a request, in a few words; an engine translates it into `data.errors`."""


class Unreachable(Fault):
    """Nobody answers at the address."""


class Dropped(Fault):
    """The connection was lost, or the answer ended, before it was complete."""


class Stalled(Fault):
    """Not one byte for as long as was allowed."""


class Garbled(Fault):
    """What arrived is not what the protocol promises."""


class Refusal(Fault):
    """The server says no, by its status (400 and above) or by an error within its answer (status 200).

    text: its own words, untrusted; code: its machine-readable reason or ""; structured: whether the body was JSON;
    retry_after_s: seconds it asks to wait, or 0.
    """

    def __init__(self, status: int, text: str, *, code: str = "", structured: bool = True, retry_after_s: float = 0.0) -> None:
        super().__init__(one_line(text, 300) or f"HTTP status {status}")
        self.status = status
        self.text = text
        self.code = code
        self.structured = structured
        self.retry_after_s = retry_after_s


def parse(text: str | bytes) -> Any:
    """The JSON value in `text`; raises Garbled."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        shown = one_line(text[:80].decode("utf-8", "replace") if isinstance(text, bytes) else text, 60)
        raise Garbled(f"it sent {shown!r} where JSON belongs") from error


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object in `text`; raises Garbled."""
    value = parse(text)
    if not isinstance(value, dict):
        raise Garbled(f"it sent {one_line(text, 60)!r} where a JSON object belongs")
    return value


def as_object(value: Any) -> dict[str, Any]:
    """`value` where it is a JSON object; raises Garbled."""
    if not isinstance(value, dict):
        raise Garbled("its answer has an unexpected shape")
    return value


def as_list(value: Any) -> list[Any]:
    """`value` where it is a JSON array, [] for null; raises Garbled."""
    if value is not None and not isinstance(value, list):
        raise Garbled("its answer has an unexpected shape")
    return value or []


def text_of(entry: Mapping[str, Any], key: str) -> str:
    """The text under `key`, "" where there is none; raises Garbled."""
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise Garbled(f"its {key!r} is not text")
    return value or ""


def count_of(entry: Mapping[str, Any], key: str) -> int:
    """The number under `key`, 0 where there is none."""
    value = entry.get(key)
    return int(value) if isinstance(value, int | float) and 0 < value < 2**63 else 0


def refusal(status: int, body: Any, *, structured: bool = True, retry_after_s: float = 0.0) -> Refusal:
    """The Refusal within an error body, in any of the shapes in use, also as JSON within a string within JSON."""
    text, code = _reason(body)
    return Refusal(status, text, code=code, structured=structured, retry_after_s=retry_after_s)


def _reason(body: Any) -> tuple[str, str]:
    code = ""
    for _ in range(8):  # the deepest in use is Ollama's: JSON within a string within JSON
        if isinstance(body, str) and body.lstrip().startswith("{"):
            try:
                body = json.loads(body)
            except (ValueError, RecursionError):
                return body, code
        if not isinstance(body, dict):
            break
        code = next((value for key in ("code", "type") if isinstance(value := body.get(key), str)), code)
        inner = next((body[key] for key in ("error", "detail", "message") if body.get(key)), None)
        if inner is None:
            break
        body = inner
    return (body if isinstance(body, str) else json.dumps(body)), code
