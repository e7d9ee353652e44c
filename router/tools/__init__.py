"""The tools that agent mode may call, one file each, found by file name, and the rule of who may call what.

Reading within what the user allowed needs no word. Writing, running and the network ask first, each time anew once text of
strangers (a file, a document, a server) has entered the conversation; before that, an "always" holds to the session's end.
Nobody to ask means no.
"""

import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from data.chat import ToolCall
from data.errors import PointsmanError
from data.sanitise import one_line, sanitise
from router.tools._review import require_bounded, require_reviewable, visible
from router.tools.base import SIDE_EFFECTS, Permission, Surroundings, Tool

RESULT_CHARS = 8_000
"""Characters of a result that the model sees; the rest is cut and said to be."""

Answer = Literal["once", "always", "no"]


@dataclass(frozen=True, slots=True)
class Wish:
    """A call that the user is asked about. tainted: text of strangers is in the conversation and may have caused it.

    target: what the call reaches (a sandbox, a server's command or address).
    """

    tool: str
    arguments: Mapping[str, Any]
    permission: Permission
    tainted: bool
    target: str = ""

    def shown(self) -> str:
        """The whole call as the user must see it: nothing cut, no character invisible, no gap that hides what follows it."""
        lines = [self.tool + (f" ({self.target})" if self.target else "")]
        for name, value in self.arguments.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)
            key = name if name.isidentifier() else repr(name)
            lines.append(f"{key}: {text}" if "\n" not in text else f"{key}:\n│ " + text.replace("\n", "\n│ "))
        return visible("\n".join(lines))


Approve = Callable[[Wish], Answer]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: text for the model, whether it failed, and whether it is text of strangers."""

    text: str
    failed: bool = False
    untrusted: bool = False


def refuse(wish: Wish) -> Answer:
    """The answer where there is nobody to ask."""
    return "no"


class Toolbox:
    """The tools of one answer. `granted` is shared by the answers of a session: names of tools allowed for good."""

    def __init__(
        self, tools: Iterable[Tool] = (), approve: Approve = refuse, *, tainted: bool = False, granted: set[str] | None = None
    ) -> None:
        self.tools: dict[str, Tool] = {}
        for tool in tools:
            self.tools.setdefault(tool.name, tool)  # the first of a name, so that no server's tool takes another's place
        self.tainted = tainted
        self._approve = approve
        self._granted = set() if granted is None else granted

    def describe(self) -> tuple[dict[str, Any], ...]:
        """The descriptions of all tools, for the model."""
        return tuple(tool.describe() for tool in self.tools.values())

    def call(self, call: ToolCall) -> Outcome:
        """Do what the model wants, if it may. Never raises for what a model can get wrong: the outcome says it instead."""
        found = self.tools.get(call.name)
        if found is None:
            known = ", ".join(self.tools) or "none"
            return Outcome(f"there is no tool {one_line(str(call.name))!r}; tools: {_cut(known)}", failed=True)
        try:
            require_bounded(call.arguments)
            if found.check is not None:
                found.check(call.arguments)
            if found.permission in SIDE_EFFECTS:
                require_reviewable(call.arguments)
        except PointsmanError as fault:
            return Outcome(_cut(str(fault)), failed=True)
        if found.permission in SIDE_EFFECTS and not self._may(found, call.arguments):
            return Outcome(f"the user did not allow {found.name}; go on without it", failed=True)
        try:
            text = found.run(**call.arguments)
        except PointsmanError as fault:
            return Outcome(_cut(str(fault)), failed=True, untrusted=self._taint(found))
        return Outcome(_cut(text), untrusted=self._taint(found))

    def _may(self, tool: Tool, arguments: Mapping[str, Any]) -> bool:
        if tool.name in self._granted and not self.tainted:
            return True
        answer = self._approve(Wish(tool.name, arguments, tool.permission, self.tainted, tool.target))
        if answer == "always" and not self.tainted:  # a yes given under the influence of strangers is for this once
            self._granted.add(tool.name)
        return answer in ("once", "always")

    def _taint(self, tool: Tool) -> bool:
        self.tainted = self.tainted or tool.untrusted
        return tool.untrusted


def load(surroundings: Surroundings) -> list[Tool]:
    """Every tool that the settings do not switch off, in the order of the files' names."""
    tools: list[Tool] = []
    for found in sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base"):
        if found.startswith("_"):
            continue
        module: Any = import_module(f"{__name__}.{found}")
        tools += [tool for tool in module.build(surroundings) if tool.name not in surroundings.settings.off]
    return tools


def _cut(text: str) -> str:
    if len(text) <= RESULT_CHARS:
        return sanitise(text)
    return f"{sanitise(text[:RESULT_CHARS])}\n[cut: {len(text) - RESULT_CHARS:,} more characters]"
