"""`pointsman why`: the stored decision behind an answer, with what would have changed it."""

import click

from tui import output

HELP = """Explain why the answer ID got its model and its way of reasoning.

Without an ID it is the newest answer. It shows every stage of the decision, the words that weighed most, the nearest
labelled examples, what came second, and what would have changed the route.

\b
  pointsman why
  pointsman why 3f9a12cd --json
"""


@click.command(help=HELP)
@click.argument("id", default="last")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(id: str, as_json: bool) -> None:
    """Explain the decision behind an answer."""
    from tui import decisions, lookup, opening

    settings = opening.settings()
    with opening.engines(settings) as engines, opening.store(settings.store.url) as store:
        from router.session import Session

        found = Session(settings, store, engines).why(lookup.inference_id(store, id))
    if as_json:
        output.as_json(found.to_dict())
    else:
        decisions.explain(found)
