"""A training in words: how it stands, what was measured, what the model answered, what came of it.

Not covered: the rows and keys (`tui.screens.training`), the process (`tui.training`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textual.content import Content

from data.sanitise import one_line
from tui import learning, output
from tui.screens.words import bar, blocks, lines, muted, named, title
from tui.training import Job, Outcome
from tui.training_events import Progress

MARKS: dict[Outcome, str] = {
    "running": "▶",
    "passed": "✓",
    "not passed": "✗",
    "estimated": "≈",
    "paused": "‖",
    "failed": "!",
}
WORDS: dict[Outcome, str] = {
    "running": "under way",
    "passed": "finished, all gates passed",
    "not passed": "finished, a gate is not passed",
    "estimated": "estimated, nothing was trained",
    "paused": "paused",
    "failed": "broke off",
}


@dataclass(frozen=True, slots=True)
class Live:
    """A training as it stood at one moment."""

    job: Job
    progress: Progress
    outcome: Outcome
    memory_bytes: int
    result: Mapping[str, Any]
    said: tuple[str, ...]
    last: str


def told(live: Live) -> Content:
    """A training in words."""
    found = live.progress
    return blocks(
        lines(
            title(called(live)), named("state", _state(live)), named("command", f"pointsman train {' '.join(live.job.arguments)}")
        ),
        _measures(live) if live.outcome == "running" else Content(),
        _evaluated(found),
        _samples(found),
        _end(live),
    )


def seen(job: Job) -> Live:
    """A training as it stands; call it in a thread."""
    found = job.follow()
    copied = replace(found, losses=list(found.losses), evaluations=list(found.evaluations))
    outcome = job.outcome()
    over = outcome != "running"
    return Live(
        job, copied, outcome, job.memory_bytes(), job.result() if over else {}, job.said() if over else (), job.last_words()
    )


def called(live: Live) -> str:
    """The run's name, else what is trained."""
    return live.progress.run or live.job.name


def _state(live: Live) -> str:
    if live.outcome != "running":
        return WORDS[live.outcome]
    found = live.progress
    doing = " ".join(part for part in (found.doing, found.stage) if part) or "starting"
    return f"{doing}: {found.note}" if found.note else doing


def short(live: Live) -> Content:
    """How it stands, beside its name."""
    found = live.progress
    parts = [_state(live) if live.outcome != "running" or not found.of else f"{found.doing} {found.done:,} of {found.of:,}"]
    if live.outcome == "running" and found.losses:
        parts.append(f"loss {found.losses[-1]:.3f}")
    return muted(", ".join(parts), 80)


def _measures(live: Live) -> Content:
    found = live.progress
    share = found.done / found.of if found.of else 0.0
    counted = Content.assemble(bar(share), f" {share:.0%}  {found.done:,} of {found.of:,}") if found.of else Content()
    loss = f"{found.losses[-1]:.4f}, from {found.losses[0]:.4f}" if found.losses else ""
    return lines(
        named("done", counted),
        named("time left", output.duration(found.eta_s) if found.eta_s is not None else ""),
        named("speed", f"{found.tokens_per_s:,.0f} tokens/s" if found.tokens_per_s else ""),
        named("memory", output.size(live.memory_bytes) if live.memory_bytes else ""),
        named("loss", loss),
    )


def _evaluated(found: Progress) -> Content:
    if not found.evaluations:
        return Content()
    step, values = found.evaluations[-1]
    names = [*(name for name in learning.SHOWN if name in values), *(name for name in values if name not in learning.SHOWN)]
    shown = [named(learning.SHOWN.get(name, name)[:15], _figure(name, values[name])) for name in names[: learning.MOST]]
    return lines(title(f"after step {step:,}"), *shown)


def _figure(name: str, value: float) -> str:
    return learning.share(value) if name in learning.SHARES else f"{value:.4f}"


def _samples(found: Progress) -> Content:
    if not found.samples:
        return Content()
    parts = [title("answers of the model as it stood then")]
    for text, wanted, said in found.samples:
        mark = "✓" if said == wanted else "✗"
        parts += [muted(text, 200), Content(f"  {mark} {one_line(said, 200) or 'nothing'}")]
        parts += [Content()] if said == wanted else [muted(f"    wanted: {wanted}", 200)]
    return lines(*parts)


def _end(live: Live) -> Content:
    """What came of it."""
    if live.outcome == "running":
        return Content()
    if live.outcome == "estimated":
        return Content("\n").join(Content(one_line(line, 200)) for line in live.said)
    if live.outcome in ("paused", "failed"):
        return lines(muted(live.last, 600), Content("r goes on where it stopped") if live.outcome == "paused" else Content())
    gates = live.result.get("gates")
    return (
        lines(*(_gate(gate) for gate in gates if isinstance(gate, Mapping)), _next(live))
        if isinstance(gates, list)
        else _next(live)
    )


def _gate(gate: Mapping[str, Any]) -> Content:
    passed, note = gate.get("passed") is True, str(gate.get("note") or "")
    reached, limit = (f"{one:.3f}" if isinstance(one, int | float) else "-" for one in (gate.get("reached"), gate.get("limit")))
    words = f"{'✓' if passed else '✗'} {one_line(str(gate.get('name', '')), 60)}: {reached} of {limit}"
    return Content.assemble(words, muted(f"  {note}" if note else "", 200))


def _next(live: Live) -> Content:
    return (
        muted(f"next: pointsman export {live.progress.run}; then the registry lets it answer") if live.progress.run else Content()
    )


def run(folder: Path) -> Content:
    """A finished run, as `pointsman report` tells it; call it in a thread. Raises as `run_folder.read`."""
    from trainer import run_folder

    found = run_folder.read(folder)
    made = found.manifest
    figures = [
        (name, number)
        for name in ("accuracy", "macro_f1", "json_valid", "ece")
        if (number := run_folder.number(found.metrics.get(name))) is not None
    ]
    gates = [
        {"name": one.name, "passed": one.passed, "reached": one.reached, "limit": one.limit, "note": one.note}
        for one in found.gates
    ]
    return blocks(
        lines(
            title(folder.name),
            named("domain", str(made.recipe.get("domain") or "chat")),
            named("base", made.base.source),
            named("rows", f"{made.data.train:,}"),
            *(named(learning.SHOWN.get(name, name)[:15], _figure(name, value)) for name, value in figures),
        ),
        lines(*(_gate(gate) for gate in gates)),
        muted(f"more: pointsman report {folder.name}"),
    )
