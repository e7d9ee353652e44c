"""The ways of reasoning, one file each, found by file name; modules whose name begins with "_" are parts of them."""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

from data.errors import InputError

if TYPE_CHECKING:
    from router.modes.base import Run


AUTO = "auto"
"""Leaves the choice to the router, which puts a mode in its place before one is loaded."""


def names() -> list[str]:
    """The modes there are, without auto."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_" and module.name != "base")


def require(name: str) -> None:
    """Raise InputError, which lists the modes, where the user cannot give this name."""
    if name not in (AUTO, *names()):
        raise InputError(f"there is no mode {name!r}", f"modes: {', '.join([AUTO, *names()])}")


def load(name: str) -> "Run":
    """What runs the mode; raises InputError where there is none of that name."""
    if name not in names():
        raise InputError(f"there is no mode {name!r} to run", f"modes: {', '.join(names())}")
    module: Any = import_module(f"{__name__}.{name}")
    run: Run = module.run
    return run
