"""`pointsman experiment`: two models compared in a domain, on conversations by lot or side by side."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from data.store import Store
    from data.store.versions import ArmFigures, Status

HELP = """Compare two models in a domain, and see what is proven so far.

A conversation gets its model by lot once and keeps it; what you pin does not count. --paired draws nothing: both answer the same
question and you say blindly which answer is better, which takes far fewer answers. It may be looked at as often as you like.

\b
  pointsman experiment start smollm2-135m smollm2-135m+triage --domain triage --paired
  pointsman experiment status triage
  pointsman experiment stop triage
"""

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")


@click.group(help=HELP)
def command() -> None:
    """Compare two models in a domain."""


@command.command()
@click.argument("first")
@click.argument("second")
@click.option("--domain", required=True, metavar="NAME", help="The domain whose questions they answer.")
@click.option("--paired", is_flag=True, help="Side by side, instead of a half of the conversations each.")
@click.option("--why", default="", metavar="TEXT", help="Why, for the history.")
@_json
def start(first: str, second: str, domain: str, paired: bool, why: str, as_json: bool) -> None:
    """Compare SECOND with FIRST, which answers now. Each is a model, a version, or `champion`."""
    from tui import lineage, opening

    settings = opening.settings()
    with opening.engines(settings) as engines, opening.store(settings.store.url) as store:
        models = [engines.resolve(_meant(store, one, domain)).reference for one in (first, second)]
        found = store.experiments.start(domain, *models, paired=paired, who=lineage.user(), why=why)
    if as_json:
        output.as_json(asdict(found))
        return
    how = "side by side, on demand" if paired else "on a half of the conversations each"
    output.line(f"experiment {found.id[-8:]} in {domain}: {models[1]} against {models[0]}, {how}")
    output.line(f"decided at an e-value of {found.threshold:g}; see: pointsman experiment status {domain}")


@command.command()
@click.argument("name", default="")
@_json
def status(name: str, as_json: bool) -> None:
    """Show the evidence of the experiment NAME (an id or a domain; default: all that run)."""
    from tui import opening

    with opening.store(opening.settings().store.url) as store:
        done = store.experiments.watch()
        wanted = [name] if name else [one.id for one in store.experiments.running()]
        found = [store.experiments.status(one) for one in wanted]
    for words in done:
        output.note(words)
    if as_json:
        output.as_json([_plain(one) for one in found])
        return
    if not found:
        output.note("no experiment runs; begin one: pointsman experiment start A B --domain D")
    for one in found:
        _show(one)


@command.command()
@click.argument("name")
@click.option("--why", default="", metavar="TEXT", help="Why, for the history.")
@_json
def stop(name: str, why: str, as_json: bool) -> None:
    """End the experiment NAME (an id or a domain). What it has found stays."""
    from tui import lineage, opening

    with opening.store(opening.settings().store.url) as store:
        found = store.experiments.stop(name, who=lineage.user(), why=why)
        last = store.experiments.status(found.id)
    if as_json:
        output.as_json(_plain(last))
        return
    output.line(f"experiment {found.id[-8:]} in {found.domain} has ended: {last.verdict}")


def _meant(store: "Store", name: str, domain: str) -> str:
    """The model that a word on the command line means: the champion's, a version's, or the word itself."""
    from data.errors import NotFound

    if name == "champion":
        return store.registry.champion(domain).model
    try:
        return store.registry.get(name, domain).model
    except NotFound:
        return name


def _plain(found: "Status") -> dict[str, Any]:
    one = found.experiment
    return {
        "id": one.id,
        "domain": one.domain,
        "kind": one.kind,
        "state": one.state,
        "outcome": one.outcome,
        "started": one.started,
        "ended": one.ended,
        "arms": [asdict(arm) for arm in found.arms],
        "pairs": asdict(found.pairs),
        "better": found.better,
        "worse": found.worse,
        "slower": found.slower,
        "longer": found.longer,
        "threshold": one.threshold,
        "baseline": one.baseline,
        "more": found.more,
        "verdict": found.verdict,
    }


def _show(found: "Status") -> None:
    one = found.experiment
    ended = f", {one.state}: {one.outcome}" if one.state != "running" else ""
    output.line(f"{one.kind} {one.id[-8:]} in {one.domain}{ended}")
    header = ("model", "share", "conversations", "answers", "bad", "liked", "seconds", "first token", "tokens")
    output.table(header, [_row(arm) for arm in found.arms])
    if one.kind == "paired":
        output.line(f"blind pairs: {found.pairs.wins} won, {found.pairs.losses} lost, {found.pairs.ties} ties")
    for e_value, words in ((found.slower, "time"), (found.longer, "length")):
        if e_value >= one.threshold:
            output.line(f"their answers differ in {words}: e-value {e_value:.3g}")
    second = one.arms[1][0]
    output.line(f"{second} is better: e-value {found.better:.3g} of {one.threshold:g}; is worse: {found.worse:.3g}")
    if found.verdict == "nothing is proven yet" and one.state == "running":
        more = "no end is in sight" if found.more is None else f"about {found.more} more answers needed, if it goes on so"
        output.line(f"{found.verdict}; {more}")
    else:
        output.line(found.verdict)


def _row(arm: "ArmFigures") -> tuple[str, ...]:
    bad = f"{arm.bad / arm.answers:.0%}" if arm.answers else ""
    return (
        arm.model,
        f"{arm.share:.0%}" if arm.share else "",
        str(arm.conversations),
        str(arm.answers),
        bad,
        f"{arm.liked} of {arm.rated}",
        f"{arm.seconds:.1f}",
        f"{arm.ttft_s:.2f}",
        f"{arm.tokens:.0f}",
    )
