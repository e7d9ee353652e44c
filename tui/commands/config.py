"""`pointsman config`: the settings, where each comes from, and changing them in settings.toml."""

import os

import click

from data import paths
from tui import output, setting

HELP = """Show or change settings.

Defaults < settings.toml < environment (POINTSMAN_<TABLE>__<KEY>) < flags; the later wins.

\b
  pointsman config show sampling.temperature
  pointsman config set model ollama/llama3.2:1b
  pointsman config unset model
  POINTSMAN_SAMPLING__TEMPERATURE=0 pointsman ask "..."
"""


@click.group(help=HELP)
def command() -> None:
    """Show or change settings."""


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def path(as_json: bool) -> None:
    """Print where settings.toml is; it need not exist."""
    file = paths.settings_file()
    if as_json:
        output.as_json({"path": str(file), "exists": file.is_file()})
    else:
        output.line(str(file))


@command.command()
@click.argument("key", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def show(key: str | None, as_json: bool) -> None:
    """Show every setting, or KEY and what it means."""
    from data import config

    if key:
        config.require_known(key)
    values, described = config.flatten(config.load()), config.known_keys()
    wanted = [name for name in values if key is None or name == key]
    origins = setting.origins(wanted)
    if as_json:
        rows = {name: {"value": values[name], "from": origins[name], "about": described[name]} for name in wanted}
        output.as_json(rows[key] if key else rows)
    elif key:
        output.line(f"{key} = {setting.shown(values[key])}")
        output.line(f"from: {origins[key]}")
        output.line(f"about: {described[key] or 'see the README'}")
    else:
        output.table(("setting", "value", "from"), [(name, setting.shown(values[name]), origins[name]) for name in wanted])


@command.command("set")
@click.argument("key")
@click.argument("value")
def set_(key: str, value: str) -> None:
    """Set KEY to VALUE in settings.toml; comments and order there stay."""
    from data import config

    stored = config.change(key, value)
    output.line(f"{key} = {setting.shown(setting.masked(key, stored))}")
    variable = setting.variable(key)
    if variable in os.environ:
        output.note(f"{variable} in the environment overrides it")


@command.command()
@click.argument("key")
def unset(key: str) -> None:
    """Take KEY out of settings.toml, so that its default holds again."""
    from data import config

    if not config.remove(key):
        config.require_known(key)
        output.note(f"{key} was not set in {paths.settings_file()}")
        return
    default = config.flatten(config.Settings()).get(key)
    output.line(f"{key} is unset; its default is {setting.shown(default)}")
