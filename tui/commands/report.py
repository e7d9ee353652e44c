"""`pointsman report`: what a training run has proven, and where its page is."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from trainer.run_folder import RunFolder

HELP = """Show a training run: its gates, its figures beside base and baselines, and where its report.html is.

RUN is the folder of a run, its name among your runs, or how that name begins. A report that is missing is made again; the rest
of the run is only read.

\b
  pointsman report triage
  pointsman report triage-20261120-2104-1f2e3d4c --json
  pointsman report ./runs/fraud-20261120 --out fraud.html
"""
FIGURES = ("accuracy", "macro_f1", "json_valid", "ece", "adversarial")


@click.command(help=HELP)
@click.argument("run")
@click.option("--out", default="", metavar="FILE", help="Write the page there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(run: str, out: str, as_json: bool) -> None:
    """Show a training run."""
    from data import bundles
    from trainer import manifest, proven_here, run_folder, run_report

    folder = run_folder.find(run)
    found = run_folder.read(folder)
    faults = manifest.check(folder)
    page = Path(out).expanduser() if out else folder / run_folder.REPORT
    if out or not page.is_file():
        run_report.write(folder, page)
    for fault in faults:
        output.note(f"changed since the run: {fault}")
    came, proven = bundles.imported(folder), proven_here.read(found)
    if came:
        output.note(came.words if proven is None else f"{came.words}, but for: pointsman bundle prove {folder.name}")
    if as_json:
        told = {"imported": came.model_dump(mode="json") if came else None, "proven_here": proven.proof if proven else None}
        output.as_json(_as_json(found, page, faults) | told)
    else:
        _show(found, page)


def _as_json(found: "RunFolder", page: Path, faults: list[str]) -> dict[str, Any]:
    metrics = {key: one for key, one in found.metrics.items() if key not in ("proof", "baselines", "base", "failed_cases")}
    return {
        "run": str(found.folder),
        "report": str(page),
        "passed": bool(found.proof.get("passed")),
        "routable": bool(found.proof.get("routable")),
        "gates": found.proof.get("gates", []),
        "metrics": metrics,
        "base": found.metrics.get("base"),
        "baselines": found.metrics.get("baselines", {}),
        "proof": {key: one for key, one in found.proof.items() if key not in ("gates", "passed", "routable")},
        "manifest": found.manifest.model_dump(mode="json"),
        "changed": faults,
    }


def _show(found: "RunFolder", page: Path) -> None:
    from trainer import bias_report
    from trainer.page import amount, limit, share
    from trainer.run_folder import number
    from trainer.run_report import figures_beside

    made = found.manifest
    output.line(f"{made.name}: {made.recipe.get('domain') or 'chat'} on {made.base.source}, {made.data.train:,} training rows")
    if beside := figures_beside(found):
        rows = [(name, *(share(number(one.get(key))) for key in FIGURES)) for name, one in beside]
        output.table(("", "accuracy", "macro-F1", "JSON valid", "ECE", "adversarial"), rows)
        output.line()
    for gate in found.gates:
        said = "passed" if gate.passed else "NOT passed"
        note = f" ({gate.note})" if gate.note else ""
        output.line(f"gate {gate.name}: {said}, {amount(gate, gate.reached)} of {limit(gate)}{note}")
    for measured in bias_report.of_run(found):
        for line in bias_report.lines(measured):
            output.line(line)
    notes = found.proof.get("notes")
    for note in notes if isinstance(notes, list) else []:
        output.line(str(note))
    output.line(f"report: {page}")
