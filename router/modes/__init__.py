"""The ways of reasoning, one file each, found by file name."""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

from data.errors import InputError

if TYPE_CHECKING:
    from router.modes.base import Run


def require(name: str) -> None:
    """Raise InputError, which lists the modes, where there is no mode of that name."""
    known = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")
    if name not in known:
        raise InputError(f"there is no mode {name!r}", f"modes: {', '.join(known)}")


def load(name: str) -> "Run":
    """What runs the mode; raises InputError where there is none of that name."""
    require(name)
    module: Any = import_module(f"{__name__}.{name}")
    run: Run = module.run
    return run
