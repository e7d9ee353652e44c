"""`pointsman completion`: the script that teaches a shell to complete verbs and options."""

import click

from tui import output

SHELLS = ("bash", "zsh", "fish")
INSTALL = """To install the completion for your shell:

  bash: pointsman completion bash > ~/.local/share/bash-completion/completions/pointsman
  zsh:  pointsman completion zsh > ~/.zfunc/_pointsman     (with fpath+=~/.zfunc before compinit in ~/.zshrc)
  fish: pointsman completion fish > ~/.config/fish/completions/pointsman.fish

Then open a new shell."""


@click.command(short_help="Print a completion script for bash, zsh or fish.")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.pass_context
def command(ctx: click.Context, shell: str | None) -> None:
    """Print a completion script for SHELL (bash, zsh or fish); without SHELL, how to install it."""
    if shell is None:
        output.line(INSTALL)
        return
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion is known for {shell}")
    output.raw(kind(ctx.find_root().command, {}, "pointsman", "_POINTSMAN_COMPLETE").source() + "\n")
