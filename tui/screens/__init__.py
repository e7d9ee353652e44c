"""The screens of the chat. `SCREENS` names those that the palette, a slash command or a key opens; each is imported when it is."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.screen import Screen

    from data.config import Settings
    from router.session import Session


@dataclass(frozen=True, slots=True)
class Place:
    """A screen: its title and a line of words for the palette, its key ("" for none), its module and class.

    logged: whether it needs the log, so that it cannot be opened while that is closed. The slash command is the name.
    """

    title: str
    line: str
    key: str
    module: str
    screen: str
    make: "Callable[[Any, Settings, Any], Screen[Any]]"
    logged: bool = True

    def open(self, settings: "Settings", session: "Session | None") -> "Screen[Any]":
        """A new screen of it; session: None while the log is closed."""
        return self.make(getattr(import_module(f"{__name__}.{self.module}"), self.screen), settings, session)


SCREENS: dict[str, Place] = {
    "training": Place(
        "Training",
        "Train by a recipe while you chat: losses, answers, pause, stop and keep",
        "f3",
        "training",
        "TrainingScreen",
        lambda kind, settings, session: kind(),
        logged=False,
    ),
    "registry": Place(
        "Registry",
        "Which version answers which domain, on what evidence; promote, roll back, compare",
        "f4",
        "registry",
        "RegistryScreen",
        lambda kind, settings, session: kind(session),
    ),
    "models": Place(
        "Models",
        "The models of this machine: get, prepare, remove, make one the default",
        "f8",
        "stock",
        "StockScreen",
        lambda kind, settings, session: kind(session.engines),
    ),
    "settings": Place(
        "Settings",
        "Every setting, where it comes from, and changing it",
        "f9",
        "settings",
        "SettingsScreen",
        lambda kind, settings, session: kind(),
        logged=False,
    ),
    "data": Place(
        "Training data",
        "What would be trained on and why, what is redacted; keep an answer out",
        "f10",
        "inspector",
        "InspectorScreen",
        lambda kind, settings, session: kind(session.store),
    ),
    "monitor": Place(
        "Monitor",
        "How each model does, what got worse, whether other things are asked",
        "",
        "monitor",
        "MonitorScreen",
        lambda kind, settings, session: kind(session.store),
    ),
    "domains": Place(
        "Domains",
        "The domain packs: labels, rows, gates, and what is wrong with them",
        "",
        "domains",
        "DomainsScreen",
        lambda kind, settings, session: kind(),
        logged=False,
    ),
    "doctor": Place(
        "Doctor",
        "What is missing or broken here, and the exact fix",
        "",
        "doctor",
        "DoctorScreen",
        lambda kind, settings, session: kind(),
        logged=False,
    ),
}
"""Every screen by its name, in the order of the palette."""
