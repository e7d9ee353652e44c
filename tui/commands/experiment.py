"""`pointsman experiment`: two models compared in a domain, on conversations by lot or side by side."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tui import output
from tui.commands import _compare

if TYPE_CHECKING:
    from data.store.versions import ArmFigures, Status

HELP = """Compare two models in a domain, and see what is proven so far.

A conversation gets its model by lot once and keeps it; what you pin does not count. --paired draws nothing: both answer the same
question and you say blindly which answer is better, which takes far fewer answers. It may be looked at as often as you like.

\b
  pointsman experiment start smollm2-135m smollm2-135m+triage --domain triage --paired
  pointsman experiment compare triage "the printer on floor 3 is on fire"
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
    from tui import opening, standing

    settings = opening.settings()
    with opening.engines(settings) as engines, opening.store(settings.store.url) as store:
        found = standing.compare(store, engines, domain, first, second, paired=paired, why=why)
    if as_json:
        output.as_json(asdict(found))
        return
    how = "side by side, on demand" if paired else "on a half of the conversations each"
    output.line(f"experiment {found.id[-8:]} in {domain}: {found.arms[1][0]} against {found.arms[0][0]}, {how}")
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


command.add_command(_compare.compare)


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
    for e_value, words in ((found.slower, "time"), (found.longer, "length")):
        if e_value >= one.threshold:
            output.line(f"their answers differ in {words}: e-value {e_value:.3g}")
    for line in _compare.evidence(found):
        output.line(line)


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
