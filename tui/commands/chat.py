"""`pointsman chat`, and `pointsman` alone: the chat in the terminal."""

import sys

import click

from tui import output


@click.command(short_help="Open the chat (also: pointsman, without a verb).")
@click.option("-m", "--model", metavar="MODEL", help="A model from: pointsman models list.")
@click.option("-c", "--continue", "go_on", is_flag=True, help="Go on with the newest conversation.")
@click.option("--conversation", metavar="ID", help="Go on with this conversation.")
def command(model: str | None = None, go_on: bool = False, conversation: str | None = None) -> None:
    """Open the chat in the terminal. For scripts and pipes there is: pointsman ask"""
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stdout)):
        raise click.UsageError('the chat needs a terminal; without one: pointsman ask "...", or pipe the question into it')
    from tui import opening

    settings = opening.settings(model=model)
    with opening.engines(settings) as engines:
        opening.prepare(opening.local_model(engines, settings.model))
    where = None
    if go_on or conversation:
        with opening.store(settings.store.url) as store:
            where = opening.conversation(store, go_on, conversation)
    from tui import app

    app.run(settings, where)
