"""`pointsman learn`: one command from the log to a promoted model. The steps are in `tui.learn`."""

from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from data.store import Store
    from tui.learn.course import Watch
    from tui.learn.state import Held, State
    from tui.learn.surveying import Survey

HELP = """Learn DOMAIN from what you said about its answers, and let the result serve where it has proven better.

Your thumbs and corrections become a dataset (only whole, untainted answers; redacted), a run and an export; gates, a replay of your
own past prompts and the registry decide. What broke off goes on where it was when the same command runs again. The exit code is 3
where a gate is not passed; nothing is promoted then.

\b
  pointsman learn triage --dry-run           what would be learnt, and what is missing
  pointsman learn triage                     learn; a tenth of the conversations gets the result (canary)
  pointsman learn triage --to champion       learn and promote in one command
  pointsman learn triage --when-idle         for a timer: only where there is something new and nobody is here
"""
TARGETS = ("canary", "champion", "staging")


@click.command(help=HELP)
@click.argument("domain")
@click.option("--dry-run", is_flag=True, help="Show what would be learnt and from which rows; learn nothing.")
@click.option("--resume", is_flag=True, help="Only go on with a learn that broke off.")
@click.option("--anew", is_flag=True, help="Give up one that broke off; learn even where nothing was said since.")
@click.option("--when-idle", is_flag=True, help="Do nothing unless there is enough new and the machine is idle.")
@click.option("--recipe", default="", metavar="RECIPE", help="A recipe's name or file; else the domain's own.")
@click.option("--style", is_flag=True, help="Your way of answering, on top of the champion: the recipe `style`.")
@click.option("--to", type=click.Choice(TARGETS), default=None, help="What becomes of it (canary unless told).")
@click.option("--least", type=click.IntRange(1, 1_000_000), default=None, metavar="N", help="So many rows of yours are enough.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(domain: str, as_json: bool, **flags: Any) -> None:
    """Learn a domain."""
    from data import domains
    from tui import opening

    if flags["dry_run"] and (flags["resume"] or flags["anew"] or flags["when_idle"] or flags["to"]):
        raise click.UsageError("--dry-run learns nothing: leave --resume, --anew, --when-idle and --to out")
    if flags["resume"] and flags["anew"]:
        raise click.UsageError("--resume goes on with a learn, --anew gives it up: choose one")
    domains.load(domain)  # before anything gets its name
    if flags["style"]:
        if flags["recipe"]:
            raise click.UsageError("--style is a recipe by itself: leave --recipe out")
        flags["recipe"] = "style"
    settings = opening.settings()
    with opening.store(settings.store.url) as store:
        if flags["dry_run"]:
            _survey(domain, store, as_json, flags)
            return
        if flags["when_idle"] and (reason := _not_now(domain, store, flags["least"] or 0)):
            if as_json:
                output.as_json({"domain": domain, "learnt": False, "reason": reason})
            output.note(f"not now: {reason}")
            return
        state = _learn(domain, store, settings, flags)
    _told(state, as_json)
    if state.outcome == "failed":
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


def _learn(domain: str, store: "Store", settings: Any, flags: dict[str, Any]) -> "State":
    from tui.learn import course, idle
    from tui.learn import state as states
    from tui.learning import Learning

    if flags["when_idle"]:
        idle.politely()
    asked = {name: flags[name] for name in ("recipe", "to", "anew", "resume")}
    with states.locked(domain), Learning() as learning, output.Progress("learn", lambda count: f"{count:,.0f}") as progress:
        state, needed = course.begun(domain, store, least=flags["least"] or 0, **asked)
        if not needed:
            output.note(f"nothing was said about {domain} since {state.id}; --anew learns it again")
            return state
        if state.steps:
            output.note(f"going on with {state.id}, after: {state.steps[-1].step}")
        try:
            return course.run(state, store, settings, _watch(learning, progress))
        except KeyboardInterrupt:
            learning.clear()
            output.note(f"stopped; to go on: pointsman learn {domain}")
            raise


def _watch(learning: Any, progress: output.Progress) -> "Watch":
    from tui.commands import export as exporting
    from tui.learn.course import Watch

    def step(name: str, about: str) -> None:
        learning.clear()
        output.note(f"{name}: {about}" if about else name)

    return Watch(
        step=step,
        event=learning.tell,
        export=lambda one: exporting.told(progress, one),
        progress=lambda doing, done, of: progress.show(doing, done, of),
        note=output.note,
    )


def _not_now(domain: str, store: "Store", least: int) -> str:
    from tui.learn import idle

    return idle.reason(store) or idle.nothing_new(domain, store, least)


def _survey(domain: str, store: "Store", as_json: bool, flags: dict[str, Any]) -> None:
    from tui.learn import state as states
    from tui.learn import surveying
    from tui.learning import Learning

    with states.locked(domain), Learning() as learning:
        found = surveying.survey(domain, store, learning.tell, recipe=flags["recipe"], least=flags["least"] or 0)
    if as_json:
        output.as_json(found.to_dict())
    else:
        _show_survey(found)


def _show_survey(found: "Survey") -> None:
    gathered = found.gathered
    if found.under_way:
        output.note(f"{found.under_way} broke off; pointsman learn {found.domain} goes on with it")
    output.line(f"{found.domain}: {gathered.volume.rows} rows of yours, {found.fresh} new, {gathered.volume.pack} of the pack")
    if gathered.manifest is not None:
        splits = gathered.manifest.counts.by_split
        redacted = ", ".join(f"{count} {kind}" for kind, count in gathered.manifest.redactions.items())
        output.line(f"split by conversation and time: {', '.join(f'{count} {name}' for name, count in splits.items())}")
        output.line(f"redacted: {redacted or 'nothing'}")
    output.table(("said", "rows"), [(kind, str(count)) for kind, count in gathered.kinds.items()])
    if gathered.left_out:
        output.table(("left out", "rows"), [(reason, str(count)) for reason, count in gathered.left_out.items()])
    if gathered.first:
        rows = [(row.text[:60], (row.label or row.completion)[:40], row.shape) for row in gathered.first]
        output.table(("the first rows", "answer", ""), rows)
    _show_plan(found)


def _show_plan(found: "Survey") -> None:
    for note in found.notes:
        output.line(note)
    if found.recipe is not None:
        output.line(f"stages: {', '.join(_stage(one) for one in found.recipe.stages)}")
    for line in found.estimate.lines() if found.estimate else ():
        output.line(line)
    if found.estimate:
        output.line("judging, the export and the replay come on top of the training")
    for one in found.missing:
        output.line(f"missing: {one}")
    if not found.missing:
        output.line(f"enough to learn: pointsman learn {found.domain}")


def _stage(stage: Any) -> str:
    own = f", your rows count {stage.loss.own:g} times" if stage.loss.own != 1 else ""
    return f"{stage.kind} ({stage.epochs:g} epochs{own})"


def _told(state: "State", as_json: bool) -> None:
    if as_json:
        output.as_json(plain(state))
        return
    dataset, replay, made = (dict(state.facts(name) or {}) for name in ("dataset", "replay", "promotion"))
    if dataset:
        output.line(
            f"learnt from {dataset['volume']['rows']} rows: {', '.join(f'{n} {kind}' for kind, n in dataset['kinds'].items())}"
        )
    failed = [one for one in state.gates if one.passed is False]
    unchecked = sum(one.passed is None for one in state.gates)
    output.line(f"gates: {len(state.gates) - len(failed) - unchecked} passed, {len(failed)} failed, {unchecked} not checked")
    if replay.get("cases"):
        counts = ", ".join(f"{replay[name]} {name}" for name in ("fixed", "broken", "same", "unjudged"))
        output.line(f"{replay['cases']} of your own past prompts, against {replay['champion']}: {counts}")
    if failed:
        output.table(("failed gate", "reached", "limit", ""), [_row(one) for one in failed])
        output.line(f"nothing was promoted; the evidence: {state.folder}")
        if run := (state.facts("training") or {}).get("run"):
            output.line(f"what the run got wrong: pointsman report {run}")
        return
    role = {"champion": "is the champion", "canary": "is the canary", "staging": "waits in staging"}.get(
        str(made.get("stage")), "is"
    )
    output.line(f"{made.get('name')} {role} of {state.domain}; why: pointsman models explain {made.get('name')}")


def plain(state: "State") -> dict[str, Any]:
    """A learn as JSON."""
    return {
        "id": state.id,
        "domain": state.domain,
        "learnt": bool(state.outcome),
        "outcome": state.outcome,
        "passed": state.outcome == "promoted",
        "reason": state.reason,
        "folder": str(state.folder),
        "steps": {one.step: one.facts for one in state.steps},
        "gates": [one.model_dump() for one in state.gates],
        "run": (state.facts("training") or {}).get("run"),
        "export": (state.facts("export") or {}).get("export"),
        "version": (state.facts("promotion") or {}).get("version"),
        "stage": (state.facts("promotion") or {}).get("stage"),
    }


def _row(one: "Held") -> tuple[str, str, str, str]:
    return one.name, *("" if value is None else f"{value:.4g}" for value in (one.reached, one.limit)), one.note  # type: ignore[return-value]
