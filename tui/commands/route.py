"""`pointsman route`: which model and which way of reasoning a question would get, and why; nothing is asked or logged."""

import click

from tui import output

HELP = """Say which model, domain and way of reasoning TEXT would get, and why.

Nothing is asked and nothing is logged. The mode is the settings' own; --mode auto shows what Auto would choose.

\b
  pointsman route "what is 17% of 2,340?" --mode auto
  pointsman route "where is my parcel" --json
"""


@click.command(help=HELP)
@click.argument("text", nargs=-1, required=True)
@click.option("--model", default="", metavar="MODEL", help="As if this model had been chosen.")
@click.option("--mode", default="", metavar="MODE", help="As if this mode had been chosen; auto: the router chooses.")
@click.option("--domain", default="", metavar="DOMAIN", help="As if this domain had been chosen.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(text: tuple[str, ...], model: str, mode: str, domain: str, as_json: bool) -> None:
    """Print the decision on a question."""
    from data.errors import InputError
    from tui import decisions, opening

    question = " ".join(text)
    if not question.strip():
        raise InputError("the question is empty", "give one: pointsman route TEXT")
    settings = opening.settings()
    with opening.engines(settings) as engines, opening.store(settings.store.url) as store:
        from router.session import Session

        found = Session(settings, store, engines).route(question, model=model, mode=mode, domain=domain).to_dict()
    if as_json:
        output.as_json(found)
    else:
        decisions.show(found)
