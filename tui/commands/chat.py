"""`pointsman chat`, and `pointsman` alone: the chat in the terminal."""

import sys

import click

from tui import output


@click.command(short_help="Open the chat (also: pointsman, without a verb).")
@click.option("-m", "--model", metavar="MODEL", help="A model from: pointsman models list.")
@click.option("-c", "--continue", "go_on", is_flag=True, help="Go on with the newest conversation.")
@click.option("--conversation", metavar="ID", help="Go on with this conversation.")
@click.option("--incognito", is_flag=True, help="Keep nothing of this chat: its log is in memory alone.")
@click.option("--inline", is_flag=True, help="Below the shell's prompt: the terminal keeps what stands above it.")
@click.option("--text", "spoken", is_flag=True, help="Line by line, without a screen: for screen readers.")
def command(
    model: str | None = None,
    go_on: bool = False,
    conversation: str | None = None,
    incognito: bool = False,
    inline: bool = False,
    spoken: bool = False,
) -> None:
    """Open the chat in the terminal. For scripts and pipes there is: pointsman ask"""
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stdout)):
        raise click.UsageError('the chat needs a terminal; without one: pointsman ask "...", or pipe the question into it')
    if incognito and (go_on or conversation):
        raise click.UsageError("--incognito cannot go on with a conversation")
    from tui import opening

    settings = opening.settings(model=model, store__url="sqlite://" if incognito else None)
    with opening.engines(settings) as engines:
        opening.prepare(opening.local_model(engines, settings.model))
    where = None
    if go_on or conversation:
        with opening.store(settings.store.url) as store:
            where = opening.conversation(store, go_on, conversation)
    if spoken:
        from tui import text_chat

        text_chat.run(settings, where)
    else:
        from tui import app

        app.run(settings, where, inline=inline)
    if incognito:
        output.note("nothing of this chat was kept")
