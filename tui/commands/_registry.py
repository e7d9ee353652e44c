"""The verbs of the registry, part of `pointsman models`: promote, rollback, history and explain."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import click

from tui import output

if TYPE_CHECKING:
    from data.store.versions import Explanation, Gate, Promotion

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
_why = click.option("--why", default="", metavar="TEXT", help="Why, for the history.")


@click.command()
@click.argument("name")
@click.option(
    "--to",
    "target",
    type=click.Choice(("champion", "canary", "staging")),
    default="champion",
    show_default=True,
    help="canary: a tenth of the conversations, then half, guarded.",
)
@click.option("--domain", default="", metavar="NAME", help="Where the export names none.")
@click.option("--override", default="", metavar="REASON", help="Pass over failed gates; the reason is kept.")
@_why
@_json
def promote(name: str, target: str, domain: str, override: str, why: str, as_json: bool) -> None:
    """Let the export NAME answer its domain, where its gates let it (exit code 3 where they do not).

    Its files are compared with what was exported first. The champion before it stays, for `rollback`.
    """
    from tui import opening, standing

    settings, to = opening.settings(), cast("standing.Target", target)
    with opening.store(settings.store.url) as store:
        found = standing.promote(store, settings, name, to, domain=domain, override=override, why=why)
    if as_json:
        output.as_json(_promotion(found, target))
    else:
        _say(found, target)
    if not found.passed:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


@click.command()
@click.argument("domain")
@click.option("--to-base", is_flag=True, help="Restore no earlier champion: the base model answers again.")
@_why
@_json
def rollback(domain: str, to_base: bool, why: str, as_json: bool) -> None:
    """Take the champion of DOMAIN back and let the one before it answer again."""
    from tui import lineage, opening

    with opening.store(opening.settings().store.url) as store:
        found = store.registry.rollback(domain, who=lineage.user(), why=why, to_base=to_base)
    if as_json:
        output.as_json(
            {
                "domain": domain,
                "champion": found.champion.name if found.champion else None,
                "model": found.champion.model if found.champion else None,
                "retired": found.retired.name,
            }
        )
        return
    now = f"{found.champion.name} answers again" if found.champion else "the base model answers again"
    output.line(f"{domain}: {found.retired.name} was taken back, {now}")


@click.command()
@click.argument("name", default="")
@_json
def history(name: str, as_json: bool) -> None:
    """List the transitions of all versions, of a domain, or of the version NAME: who, why, and the decision behind each."""
    from tui import lookup, opening

    with opening.store(opening.settings().store.url) as store:
        domains = {one.domain for one in store.registry.versions()}
        whole = store.registry.history(domain=name if name in domains else "", key="" if name in domains else name)
    if as_json:
        output.as_json([asdict(one) for one in whole])
        return
    if not whole:
        output.note("the registry is empty; take an export in: pointsman models promote NAME")
        return
    rows = [
        (lookup.when(one.at), one.domain, one.name, one.action, f"{one.from_stage} -> {one.to_stage}", one.who, one.why)
        for one in whole
    ]
    output.table(("when", "domain", "version", "", "stage", "who", "why"), rows)


@click.command()
@click.argument("name")
@_json
def explain(name: str, as_json: bool) -> None:
    """Say why the version NAME, or the champion of the domain NAME, stands where it stands, and what it was made of."""
    from tui import opening

    with opening.store(opening.settings().store.url) as store:
        found = store.registry.explain(name)
    if as_json:
        output.as_json(_explanation(found))
    else:
        _tell(found)


COMMANDS = (promote, rollback, history, explain)
"""To be added to the group `models`."""


def _promotion(found: "Promotion", target: str) -> dict[str, Any]:
    from tui import lineage

    decision = found.decision
    return {
        "name": found.version.name,
        "version": found.version.id,
        "domain": found.version.domain,
        "model": found.version.model,
        "stage": found.version.stage,
        "target": target,
        "passed": found.passed,
        "moved": found.moved,
        "override": decision.override if decision else "",
        "gates": [lineage.plain(gate) for gate in decision.gates] if decision else [],
        "replaced": found.replaced.name if found.replaced else None,
        "damaged": found.damaged,
    }


def _say(found: "Promotion", target: str) -> None:
    version = found.version
    if not found.passed and found.decision:
        output.line(f"{version.name} stays a {version.stage} of {version.domain}; these gates failed:")
        _gates(found.decision.failed)
        output.note("--override REASON passes over them, and keeps the reason")
        return
    if not found.moved:
        output.line(f"{version.name} is the {version.stage} of {version.domain} already")
        return
    role = {"champion": "the champion", "canary": "the canary", "staging": "in staging as challenger"}[target]
    output.line(f"{version.name} is {role} of {version.domain}; questions of that domain ask for {version.model}")
    if found.replaced:
        output.line(f"before it: {found.replaced.name}; back with: pointsman models rollback {version.domain}")
    if found.damaged:
        output.note(f"there is no way back to {found.replaced.name if found.replaced else 'it'}: {found.damaged}")
    if target == "champion" and version.evidence.lower <= 0:
        output.note(f"{version.name} is not proven better than its base, so the router does not ask it by itself")


def _gates(gates: "Iterable[Gate]") -> None:
    said = {True: "passed", False: "FAILED", None: "not checked"}
    rows = [(gate.name, said[gate.passed], _number(gate.reached), _number(gate.limit), gate.note) for gate in gates]
    output.table(("gate", "", "reached", "limit", ""), rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _explanation(found: "Explanation") -> dict[str, Any]:
    from tui import lineage

    version, decision = found.version, found.decision
    return {
        "name": version.name,
        "version": version.id,
        "domain": version.domain,
        "model": version.model,
        "stage": version.stage,
        "since": found.event.at,
        "who": found.event.who,
        "why": found.event.why,
        "passed": decision.passed if decision else None,
        "override": decision.override if decision else "",
        "gates": [lineage.plain(gate) for gate in decision.gates] if decision else [],
        "evidence": {"pairs": version.evidence.pairs, "gain": version.evidence.gain, "lower": version.evidence.lower},
        "lineage": asdict(version.lineage),
        "files": [asdict(file) for file in version.files],
        "previous": found.previous.name if found.previous else None,
    }


def _tell(found: "Explanation") -> None:
    from tui import lookup

    version, event, decision, made = found.version, found.event, found.decision, found.version.lineage
    output.line(f"{version.name} is {version.stage} of {version.domain} since {lookup.when(event.at)}")
    output.line(f"by {event.who}: {event.why or 'no reason given'}")
    proof = version.evidence
    if proof.pairs:
        output.line(f"against its base: {proof.gain:+.1%} on {proof.pairs} held-out rows, at least {proof.lower:+.1%}")
    if decision:
        passed = "all gates passed" if decision.passed else f"{len(decision.failed)} gates failed"
        over = f", passed over: {decision.override}" if decision.override else ""
        output.line(f"the decision of {lookup.when(decision.at)}: {passed}{over}")
        _gates(decision.gates)
    corrections = "how many are corrections is not known" if made.corrections is None else f"{made.corrections} of them corrections"
    for name, told in (
        ("model", version.model),
        ("files", ", ".join(f"{file.name} {file.sha256[:12]}" for file in version.files)),
        ("exported", made.exported),
        ("run", f"{made.run} {made.run_hash}"),
        ("dataset", f"{made.dataset_sha256[:12]}, {made.rows} rows, {corrections}" if made.dataset_sha256 else "not known"),
        ("base", f"{made.base} {made.base_sha256[:12]}"),
        ("before it", found.previous.name if found.previous else "nothing: rolling back needs --to-base"),
    ):
        output.line(f"{name}: {told.strip()}")
