"""The tools of the MCP servers of `tools.mcp`. Whatever a server says about its tools, the user is asked before each is called.

A server is named by a command with arguments (split as in a shell, run without one) or by an http(s) address. What cannot be
used (a dead server, a tool with an odd name or schema) is left out, and `faults` says why. Names and descriptions of tools come
from the servers; the user chose these, so they taint nothing, but results do. How servers are reached is told in `_mcp`.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data.errors import ToolError
from data.sanitise import one_line
from router.tools import _mcp
from router.tools._mcp_transports import is_url, place
from router.tools.base import Permission, Surroundings, Tool

if TYPE_CHECKING:
    from mcp_types import CallToolResult
    from mcp_types import Tool as Described

NAME_CHARS = 64
SERVER_TOOLS = 128
"""A server that lists more tools than this is left out."""
SCHEMA_CHARS = 20_000
SCHEMA_DEPTH = 16
DESCRIPTION_CHARS = 400
RESULT_CHARS = 50_000

_faults: dict[str, str] = {}
close = _mcp.close


def build(surroundings: Surroundings) -> Sequence[Tool]:
    """The usable tools of all servers, as <server>_<tool>. Waits `mcp_s` for the servers at most; never raises for one."""
    settings = surroundings.settings
    _faults.clear()
    if not settings.mcp:
        return ()
    found: dict[str, Tool] = {}
    for server, answer in _mcp.tools(settings.mcp, settings.mcp_s):
        if isinstance(answer, ToolError):
            _faults[server] = str(answer)
        elif len(answer) > SERVER_TOOLS:
            _faults[server] = f"the MCP server {server} lists {len(answer):,} tools, at most {SERVER_TOOLS} are taken"
        else:
            for made in _usable(server, settings.mcp[server], answer, settings.mcp_s):
                if made.name in found:
                    _faults[made.name] = f"the MCP server {server} has a second tool called {made.name}, which is left out"
                found.setdefault(made.name, made)
    return tuple(found.values())


def faults() -> Mapping[str, str]:
    """What the last build left out: the server or tool, and one line why."""
    return dict(_faults)


def _usable(server: str, spec: str, listed: "Sequence[Described]", seconds: float) -> Iterator[Tool]:
    for described in listed:
        try:
            _require_plain(described)
            yield _made(server, spec, described, seconds)
        except ToolError as fault:
            _faults[f"{server}: {one_line(described.name, 40)}"] = fault.what


def _made(server: str, spec: str, described: "Described", seconds: float) -> Tool:
    kind: Permission = "network" if is_url(spec) else "run"
    text = one_line(described.description or described.title or described.name, DESCRIPTION_CHARS)
    target = f"MCP server {server}: {place(spec)}"
    run = _runner(server, spec, described.name, seconds)
    return Tool(_named(server, described.name), text, dict(described.input_schema), kind, run, untrusted=True, target=target)


def _runner(server: str, spec: str, name: str, seconds: float) -> Callable[..., str]:
    def run(**arguments: Any) -> str:
        return _text(server, _mcp.call(server, spec, name, arguments, seconds))

    return run


def _named(server: str, name: str) -> str:
    """<server>_<tool> with letters, digits, _ and - only; raises ToolError where nothing of the name is left."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if not re.search(r"[A-Za-z0-9]", plain):
        raise ToolError(f"the name {one_line(name, 40)!r} has no plain letter")
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', server)}_{plain}"[:NAME_CHARS]


def _require_plain(described: "Described") -> None:
    """Raise ToolError for names that hide something and schemas that no call could be made for."""
    if any(unicodedata.category(char)[0] == "C" for char in described.name):
        raise ToolError(f"the name {one_line(described.name, 40)!r} holds control characters")
    schema = described.input_schema
    if schema.get("type") != "object" or not isinstance(schema.get("properties", {}), Mapping):
        raise ToolError(f"the schema of {one_line(described.name, 40)} does not describe an object")
    left: list[tuple[Any, int]] = [(schema, 0)]
    while left:
        part, depth = left.pop()
        if depth > SCHEMA_DEPTH:
            raise ToolError(f"the schema of {one_line(described.name, 40)} is nested too deep")
        if isinstance(part, Mapping):
            if not str(part.get("$ref", "#")).startswith("#"):
                raise ToolError(f"the schema of {one_line(described.name, 40)} refers to something outside of it")
            left += [(value, depth + 1) for value in part.values()]
        elif isinstance(part, list):
            left += [(value, depth + 1) for value in part]
    if len(json.dumps(schema)) > SCHEMA_CHARS:
        raise ToolError(f"the schema of {one_line(described.name, 40)} is longer than {SCHEMA_CHARS:,} characters")


def _text(server: str, result: "CallToolResult") -> str:
    """The text of a result, other content named; raises ToolError where the server says that the call failed."""
    parts, length = [], 0
    for block in result.content:
        part = _block(block)
        parts.append(part[:RESULT_CHARS])
        length += len(part)
        if length > RESULT_CHARS:
            parts.append("[cut]")
            break
    if not parts and result.structured_content is not None:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False)[:RESULT_CHARS])
    text = "\n".join(parts)
    if result.is_error:
        raise ToolError(f"the MCP server {server} says: {text or 'the call failed'}")
    return text or "the tool returned nothing"


def _block(block: Any) -> str:
    if block.type == "text":
        return str(block.text)
    if block.type == "resource" and getattr(block.resource, "text", None) is not None:
        return str(block.resource.text)
    kind = getattr(block, "mime_type", None) or getattr(getattr(block, "resource", None), "mime_type", None) or "unknown kind"
    return f"[{block.type}, {one_line(str(kind), 60)}: not shown]"
