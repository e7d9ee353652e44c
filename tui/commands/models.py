"""`pointsman models`: what can answer on this machine, and downloading, removing and preparing it."""

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from tui import output, stock
from tui.commands import _registry

if TYPE_CHECKING:
    from router.engines.base import ModelInfo

HELP = """List, download, remove or prepare models, and say which tuned one answers.

A model is named ENGINE/NAME; the name alone is enough where it is unambiguous. A path of a GGUF file is a model too, and so is what
`pointsman export` made: EXPORT is its merged model, BASE+EXPORT the base with its adapter attached, which many exports can share.

\b
  pointsman models list
  pointsman models pull llama3.2:1b            from Ollama's library
  pointsman ask -m ./my-model.gguf "..."
  pointsman ask -m smollm2-135m+triage "..."   the base with the adapter of the export triage
  pointsman models promote triage              let it answer the questions of its domain, if its gates let it
  pointsman models rollback triage             the one before it answers that domain again
"""


@click.group(help=HELP)
def command() -> None:
    """List, download, remove or prepare models."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def list_(as_json: bool) -> None:
    """List the models that can answer now, over all engines."""
    from tui import opening

    with opening.engines(opening.settings()) as engines:
        found, states = stock.survey(engines)
        default = stock.default(engines)
    if as_json:
        rows = [asdict(model) | {"reference": model.reference} for model in found]
        output.as_json({"models": rows, "engines": states, "default": default})
        return
    header = ("model", "size", "parameters", "quantisation", "context", "from")
    output.table(header, [_row(model, default) for model in found])
    for state in states:
        if state["state"] != "ready":
            output.note(f"{state['name']}: {state['detail'] or state['state']}" + (f"; {state['fix']}" if state["fix"] else ""))


@command.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def show(model: str, as_json: bool) -> None:
    """Show what its engine tells of MODEL."""
    from tui import opening

    with opening.engines(opening.settings()) as engines:
        found = engines.resolve(model)
        told = {"reference": found.reference} | found.engine.show(found.model)
    if as_json:
        output.as_json(told)
        return
    for key, value in told.items():
        for name, leaf in stock.leaves(key, value):
            output.line(f"{name}: {stock.short(leaf)}")


@command.command()
@click.argument("model")
def pull(model: str) -> None:
    """Download MODEL (from Ollama's library, unless it names another engine). Ctrl-C stops; again resumes."""
    from tui import opening

    with opening.engines(opening.settings()) as engines:
        engine, name = stock.source(engines, model)
        with closing(engine.pull(name)) as steps, output.Progress(f"pulling {name}") as progress:  # type: ignore[type-var]
            for step in steps:
                progress.show(step.status, step.done_bytes, step.total_bytes)
    output.line(f"{engine.name}/{name} is ready")


@command.command()
@click.argument("model")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(model: str, yes: bool) -> None:
    """Remove MODEL from its engine's disk."""
    from tui import opening

    with opening.engines(opening.settings()) as engines:
        found = engines.resolve(model)
        found.engine.show(found.model)  # whether it is there, before anybody is asked
        if not yes:
            output.confirm(f"Remove {found.reference} from the disk?")
        found.engine.delete(found.model)
    output.line(f"{found.reference} is removed")


@command.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def prepare(name: str | None, as_json: bool) -> None:
    """Choose and make the fastest form of the model NAME (default: all that come with Pointsman) for this processor."""
    from data import catalog
    from export import embedded

    names = [name] if name else [spec for spec in catalog.specs() if stock.installed(spec)]
    made = [embedded.prepare(one, output.note) for one in names]
    if as_json:
        output.as_json([one.model_dump() for one in made])
        return
    for one in made:
        output.line(f"{one.name}: {one.form} runs; {one.why}")


for _verb in _registry.COMMANDS:
    command.add_command(_verb)


def _row(model: "ModelInfo", default: str) -> tuple[str, ...]:
    mark = " (default)" if model.reference == default else ""
    size = output.size(model.size_bytes) if model.size_bytes else ""
    context = str(model.context_tokens) if model.context_tokens else ""
    return (f"{model.reference}{mark}", size, model.parameters, model.quantisation, context, model.source)
