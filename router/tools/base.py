"""What a tool is: a typed Python function with a docstring and a declared permission.

A new tool is one file here with `build(surroundings) -> Sequence[Tool]`. Not covered: who may call it (`router.tools`).

    @tool("read")
    def read_file(path: str, first_line: int = 1) -> str:
        \"\"\"Read a text file. path: relative to an allowed folder. first_line: where to begin, from 1.\"\"\"
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from data.config import ToolsSettings
from data.errors import ToolError
from data.sanitise import one_line

if TYPE_CHECKING:
    from pydantic import BaseModel

Permission = Literal["none", "read", "write", "run", "network"]
"""What a call can do beyond computing: nothing, read what the user allowed, change files, run a program, use the network."""
SIDE_EFFECTS: frozenset[Permission] = frozenset({"write", "run", "network"})
"""Permissions that the user is asked for."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool. `parameters` is the JSON schema of its arguments; `run` takes them by name and raises ToolError.

    untrusted: the result may hold text of strangers (files, servers), so that after it nothing with side effects runs unasked.
    check: raises ToolError, before the user is asked, where the call could not work. target: what a call reaches, for the
    user who is asked, such as a server's command. spelled: the arguments where a question is nothing but this call in words, else
    None; what the tool says is then the answer, so that a model too small for tools need not copy figures.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    permission: Permission
    run: Callable[..., str]
    untrusted: bool = False
    check: Callable[[Mapping[str, Any]], None] | None = None
    target: str = ""
    spelled: Callable[[str], Mapping[str, Any] | None] | None = None

    def describe(self) -> dict[str, Any]:
        """The OpenAI-style function description that engines and chat templates take."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class Passage:
    """A found piece of a document: which, where (lines from 1, both included), and its text, which is untrusted.

    page: from 1, 0 where the document has none; heading: what stands above it in the document; similarity: the cosine of its
    meaning and the query's, 0 where no vector was compared.
    """

    source: str
    first_line: int
    last_line: int
    text: str
    score: float = 0.0
    page: int = 0
    heading: str = ""
    similarity: float = 0.0

    @property
    def place(self) -> str:
        """What it is cited as: "notes.md:10-24", "notes.md:7", "paper.pdf p.3". The name in it is untrusted."""
        if self.page:
            return f"{self.source} p.{self.page}"
        return f"{self.source}:{self.first_line}" + (f"-{self.last_line}" if self.last_line > self.first_line else "")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What tools may be built upon. `search` looks for passages in the attached documents, at most so many."""

    settings: ToolsSettings = field(default_factory=ToolsSettings)
    search: Callable[[str, int], Sequence[Passage]] | None = None


def tool(
    permission: Permission,
    *,
    untrusted: bool = False,
    name: str = "",
    ready: Callable[[], None] | None = None,
    target: str = "",
    spelled: Callable[[str], Mapping[str, Any] | None] | None = None,
) -> Callable[[Callable[..., str]], Tool]:
    """Make a Tool of a function: its schema from the type hints, its description from the docstring.

    Arguments are validated before the call; a wrong one raises ToolError, which names it. Bounds of length or value belong
    into the function: in the schema they would blow up the grammars made of it. `ready` raises ToolError where the tool
    cannot work on this machine.
    """

    def made(function: Callable[..., str]) -> Tool:
        model = _arguments(function)

        def run(**arguments: Any) -> str:
            return function(**_validated(model, function.__name__, arguments))

        def check(arguments: Mapping[str, Any]) -> None:
            if ready is not None:
                ready()
            _validated(model, function.__name__, arguments)

        schema = model.model_json_schema()
        schema.pop("title", None)
        for field_schema in schema.get("properties", {}).values():
            field_schema.pop("title", None)
        description = inspect.cleandoc(function.__doc__ or "")
        return Tool(name or function.__name__, description, schema, permission, run, untrusted, check, target, spelled)

    return made


def _arguments(function: Callable[..., str]) -> "type[BaseModel]":
    from pydantic import ConfigDict, create_model

    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in inspect.signature(function).parameters.values()
    }
    return create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)


def _validated(model: "type[BaseModel]", name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError

    try:
        found = model.model_validate(dict(arguments))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)[:5]
        wrong = "; ".join(f"{one_line('.'.join(map(str, item['loc']))) or 'arguments'}: {item['msg']}" for item in faults)
        raise ToolError(f"wrong arguments for {name}: {wrong}", "correct them and call again") from error
    return {key: getattr(found, key) for key in model.model_fields}
