"""`pointsman serve`: the router as an HTTP server. Heavy imports come when the verb runs."""

from pathlib import Path

import click

from data.errors import EngineUnavailable
from tui import output

HELP = """Serve the router over HTTP, with OpenAI's and Ollama's APIs.

The model `auto` is the router; every other model goes by its name from: pointsman models list.

\b
  pointsman serve                                  on this machine only, port 11535
  OPENAI_BASE_URL=http://127.0.0.1:11535/v1        for OpenAI's clients
  OLLAMA_HOST=http://127.0.0.1:11535               for Ollama's clients
  pointsman serve --host 0.0.0.0 --token-file FILE for others too

The token is read from FILE, POINTSMAN_SERVER_TOKEN or server.token in the settings, never from the command line. Ctrl-C
lets answers finish for server.grace_s seconds. See docs/server.md."""


@click.command(help=HELP)
@click.option("--host", metavar="ADDRESS", help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="The port; 0: one that is free.")
@click.option("--token-file", type=click.Path(path_type=Path), metavar="FILE", help="A file that holds the token.")
def command(host: str | None, port: int | None, token_file: Path | None) -> None:
    """Serve the router over HTTP."""
    from tui import opening

    settings = opening.settings(server__host=host, server__port=port)
    try:
        from tui.server import running
    except ModuleNotFoundError as error:
        raise EngineUnavailable(f"{error.name} is not installed", "pip install 'pointsman[serve]'") from error
    token = running.token_of(settings.server, token_file)
    from tui.server.desk import Desk
    from tui.server.lines import LinedEngines

    bound = running.listen(settings.server)
    engines = LinedEngines(settings)
    try:
        with opening.store(settings.store.url) as store:
            opening.Warming(engines, None, certain=True).finish()
            server = running.server(Desk(settings, store, engines), token)
            name, number = bound.getsockname()[:2]
            where = f"[{name}]" if ":" in name else name
            output.note(f"serving on http://{where}:{number} ({'with' if token else 'without'} a token); Ctrl-C ends")
            server.run(sockets=[bound])
    finally:
        engines.close()
        bound.close()
