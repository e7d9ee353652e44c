"""Every setting, from the one schema: its value, where that comes from, what it may be; changed here, and checked while one types.

A change goes into settings.toml, whose comments and order stay. Not covered: the schema (`data.config`).
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from textual.binding import BindingType
from textual.content import Content

from data import config, paths
from data.errors import SettingsError
from data.sanitise import one_line
from tui import screen_keys, setting
from tui.screens.browse import Browse
from tui.screens.picker import Row
from tui.screens.words import blocks, lines, muted, named, title

WIDTH = 18
"""Columns of a key's name."""
THEME = "tui.theme"


@dataclass(frozen=True, slots=True)
class Everything:
    """Values by key, secrets masked; where each comes from; what each means."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)


class SettingsScreen(Browse):
    """Settings by table."""

    BINDINGS: ClassVar[list[BindingType]] = [*screen_keys.SETTINGS]
    CONTEXTS = ("Rows and details", "Settings")
    HEADING = "Settings"

    def __init__(self) -> None:
        super().__init__()
        self._found = Everything()

    def read(self) -> Everything:
        """See `Browse.read`."""
        about = config.known_keys()
        return Everything(config.flatten(config.load()), setting.origins(list(about)), about, config.flatten(config.Settings()))

    def draw(self, found: Everything) -> None:
        """See `Browse.draw`."""
        self._found = found
        self.show(list(self._listed()))

    def about(self, key: str) -> Content | None:
        """See `Browse.about`."""
        found, name = self._found, key.partition(":")[2]
        origin = found.origins[name]
        where = {"file": str(paths.settings_file()), "environment": setting.variable(name)}.get(origin, "the default")
        return blocks(
            lines(title(name), Content(one_line(found.about[name] or "see the README", 400))),
            lines(
                named("value", setting.shown(found.values[name])),
                named("from", where),
                named("default", setting.shown(found.defaults[name])),
                named("may be", setting.limits(name)),
            ),
            muted("the environment overrules what is written here") if origin == "environment" else Content(),
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what stands in the file can be taken out of it."""
        key = (self.highlighted if self.is_mounted and self._rows else "").partition(":")[2]
        if action == "unset":
            return self._found.origins.get(key) == "file"
        return bool(key) if action == "edit" else True

    def choose(self, key: str) -> None:
        """See `Browse.choose`."""
        self.action_edit()

    def action_edit(self) -> None:
        """Type another value."""
        name = self.highlighted.partition(":")[2]
        kept = self._found.values[name]
        value = "" if setting.secret(name) or kept is None else _written(kept)
        self.ask(
            f"{name}, {setting.limits(name)}",
            lambda typed: self.do("…", lambda: self._changed(name, typed), lambda: self._follow(name)),
            value=value,
            check=lambda typed: wrong(name, typed),
            secret=setting.secret(name),
        )

    def action_unset(self) -> None:
        """Let the default hold again."""
        name = self.highlighted.partition(":")[2]
        self.do("…", lambda: self._unset(name), lambda: self._follow(name))

    def _follow(self, name: str) -> None:
        """What changes at once, and the list."""
        if name == THEME:
            wanted = config.load().tui.theme
            if wanted in self.app.available_themes:
                self.app.theme = wanted
        self.action_reload()

    def _changed(self, name: str, typed: str) -> str:
        stored = setting.shown(setting.masked(name, config.change(name, typed)))
        over = f"; {setting.variable(name)} in the environment overrides it" if setting.variable(name) in os.environ else ""
        return f"{name} = {one_line(stored, 100)}{'' if name == THEME else ', from the next start on'}{over}"

    def _unset(self, name: str) -> str:
        config.remove(name)
        return f"{name} is unset; its default is {setting.shown(self._found.defaults[name])}"

    def _listed(self) -> Iterator[Row]:
        found, table = self._found, ""
        for key, value in found.values.items():
            of, _, name = key.rpartition(".")
            if of != table:
                table = of
                yield Row("", title(table))
            mark = {"file": "●", "environment": "$"}.get(found.origins[key], " ")
            yield Row(f"key:{key}", Content.assemble(f"{mark} ", f"{name:<{WIDTH}} ", muted(setting.shown(value), 60)))


def wrong(name: str, typed: str) -> str:
    """What is wrong with a value, "" for nothing."""
    try:
        config.checked(name, typed)
    except SettingsError as fault:
        return fault.what
    return ""


def _written(value: Any) -> str:
    """A value as it is typed: lists and tables as TOML."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{_quoted(key)} = {_quoted(str(one))}" for key, one in value.items())
        return f"{{ {pairs} }}" if pairs else ""
    if isinstance(value, tuple | list):
        return f"[{', '.join(_quoted(str(one)) for one in value)}]" if value else ""
    return value if isinstance(value, str) else setting.shown(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
