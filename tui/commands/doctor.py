"""`pointsman doctor`: what was found, what is missing, and the exact fix for each."""

from dataclasses import asdict

import click

from tui import output

HELP = """Check this installation and say how to mend it.

Nothing is changed or downloaded. The exit code is 1 where something essential is broken; parts that are missing but
optional, such as Ollama or the training stack, leave it 0."""
COLOURS = {"ok": 32, "warning": 33, "missing": 36, "broken": 31}


@click.command(help=HELP, short_help="Check this installation and say how to mend it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check this installation and say how to mend it."""
    from tui import checks

    found = []
    for finding in checks.run():
        found.append(finding)
        if not as_json:
            output.raw(f"{output.coloured(f'{finding.state:8}', COLOURS[finding.state])} ")
            output.line(f"{finding.check:14} {finding.detail}")
            if finding.fix:
                output.line(f"{'':24}fix: {finding.fix}")
    sound = all(finding.state != "broken" for finding in found)
    if as_json:
        output.as_json({"ok": sound, "checks": [asdict(finding) for finding in found]})
    ctx.exit(0 if sound else 1)
