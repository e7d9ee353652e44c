"""A request's body as JSON, within bounds of size, depth and time, with text that a database and a tokenizer can hold.

Not covered: what the fields mean (openai.py, ollama.py).
"""

import asyncio
import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from data.sanitise import one_line
from tui.server.faults import Refused

DEPTH = 64
"""Objects and arrays within each other at most."""
_SURROGATE = re.compile("[\ud800-\udfff\0]")
M = TypeVar("M", bound=BaseModel)


async def read(request: Request, model: type[M], limit_bytes: int, patience_s: float) -> M:
    """The body as `model`. Raises Refused: 400, 408 after `patience_s` seconds, 413 beyond `limit_bytes`."""
    try:
        async with asyncio.timeout(patience_s):
            raw = await _whole(request, limit_bytes)
    except TimeoutError as error:
        raise Refused(f"the request did not arrive within {patience_s:g} s", status=408) from error
    return checked(model, parse(raw))


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`; raises Refused."""
    try:
        value = json.loads(raw or b"null", parse_constant=_no_constant)
    except RecursionError as error:
        raise Refused(f"the request is nested deeper than {DEPTH} levels") from error
    except ValueError as error:
        raise Refused(f"the request is not JSON: {one_line(str(error), 120)}") from error
    if not isinstance(value, dict):
        raise Refused("the request is not a JSON object")
    if _depth(value) > DEPTH:
        raise Refused(f"the request is nested deeper than {DEPTH} levels")
    cleaned: dict[str, Any] = _clean(value)
    return cleaned


def checked(model: type[M], value: dict[str, Any]) -> M:
    """The object as `model`; raises Refused naming the field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused(f"{one_line(where, 100)}: {one_line(first['msg'], 200)}", param=one_line(where, 100)) from error


async def _whole(request: Request, limit_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:15]) > limit_bytes:
        raise Refused(f"the request has more than {limit_bytes} bytes", "raise server.body_mb", status=413)
    raw = bytearray()
    try:
        async for part in request.stream():
            raw += part
            if len(raw) > limit_bytes:
                raise Refused(f"the request has more than {limit_bytes} bytes", "raise server.body_mb", status=413)
    except ClientDisconnect as error:
        raise Refused("the client has gone away") from error
    return bytes(raw)


def _depth(value: Any) -> int:
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else None
        if inner is not None:
            deepest = max(deepest, depth)
            waiting += [(item, depth + 1) for item in inner]
    return deepest


def _clean(value: Any) -> Any:
    """As data.store.tables.clean does it, for every text: NUL becomes U+2400, a lone surrogate U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub(lambda found: "\u2400" if found[0] == "\0" else "\ufffd", value)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
