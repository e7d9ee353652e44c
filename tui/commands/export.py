"""`pointsman export`: a run becomes GGUF files, a Modelfile and, where asked for, a model of an Ollama server."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from data.exports import Check, Export
    from export.exporting import Exported, Source, Step

HELP = """Make a run into files that llama.cpp and Ollama load, and prove that they say what the trained model says.

RUN is the folder of a run, its name among your runs, or how that name begins. Without --quant two forms are made, measured on this
processor, and the fastest that is as good is chosen. The exit code is 3 where a check failed; then nothing is exported.

\b
  pointsman export triage
  pointsman export triage --quant Q8_0 --quant F16 --out ./models
  pointsman export triage --ollama my-triage
"""


@click.command(help=HELP)
@click.argument("run")
@click.option(
    "--quant", "forms", multiple=True, metavar="FORM", help="auto, F16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0, IQ4_NL; several."
)
@click.option("--ollama", default="", metavar="NAME", help="Publish it to Ollama under this name, and compare its answers.")
@click.option("--replace", is_flag=True, help="With --ollama: take the place of a model of that name.")
@click.option("--out", default="", metavar="DIR", help="The folder that gets the export's folder; else where exports are kept.")
@click.option("--adapter-only", is_flag=True, help="The adapter alone, for its base; no merged model.")
@click.option("--adapter-modelfile", is_flag=True, help="A Modelfile with ADAPTER too, for Ollama before 0.34.1.")
@click.option("--failed-gates", is_flag=True, help="Export a run that did not pass its gates, marked as such.")
@click.option("--keep-failed", is_flag=True, help="Where a check fails, leave what was made under a hidden name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(run: str, forms: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Export a run."""
    from data import bundles
    from export import exporting
    from trainer import run_folder

    wanted = exporting.checked(forms)
    if flags["adapter_only"] and (forms or flags["ollama"] or flags["adapter_modelfile"]):
        raise click.UsageError("--adapter-only makes no merged model: leave out --quant, --ollama and --adapter-modelfile")
    if flags["ollama"]:
        from export._ollama import names

        names.checked(flags["ollama"])
    folder = run_folder.find(run)
    if came := bundles.imported(folder):
        output.note(came.words)
    source = source_of(folder, failed_gates=flags["failed_gates"])
    with output.Progress("export", lambda count: f"{count:,.0f}") as progress:
        found = exporting.export(
            source,
            wanted,
            Path(flags["out"]) if flags["out"] else None,
            lambda step: told(progress, step),
            adapter_only=flags["adapter_only"],
            adapter_modelfile=flags["adapter_modelfile"],
            keep_failed=flags["keep_failed"],
        )
        made = _published(source, found, flags, progress) if flags["ollama"] and found.folder else found.export
    if as_json:
        output.as_json(_as_json(found, made))
    else:
        _show(found, made)
    if not made.passed:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


def source_of(folder: Path, *, failed_gates: bool = False) -> "Source":
    """The run in a folder as export takes it. Raises InputError for one that did not pass its gates, unless that is asked for,
    ModelMissing where its base is not there, and as reading a run does."""
    from data import domains
    from data.errors import InputError
    from export.exporting import Source
    from trainer import base, reference, run_folder, train

    found, recipe = run_folder.read(folder), train.recipe_of(folder)
    failed = "" if found.proof.get("passed") else _failed(found)
    if failed and not failed_gates:
        raise InputError(f"{folder.name} did not pass its gates: {failed}", "train it better; --failed-gates exports it, marked")
    place = base.place(recipe.base)
    domain = domains.load(recipe.domain) if recipe.domain else None
    rows = reference.rows_of(folder)
    task = reference.task(recipe, rows[0])
    return Source(
        name=folder.name,
        run=folder,
        domain=recipe.domain,
        adapter=folder / reference.ADAPTER,
        checkpoint=place if place.is_dir() else None,
        base_gguf=None if place.is_dir() else place,
        base=_base(found.manifest.base, recipe.base.model, place),
        licence=found.manifest.base.licence,
        quantised=recipe.base.quantisation,
        trained_in=str(found.manifest.policy.get("dtype", "float32")),
        opened=lambda merged: reference.opened(folder, merged, rows),
        judge=task.judged if task else None,
        trained=reference.trained(folder, task) if task else (),
        system=domain.instruction(recipe.data.contract) if domain else "",
        classifier=bool(domain and domain.labels),
        failed_gates=failed,
    )


def table(checks: "tuple[Check, ...]") -> None:
    """Print checks in columns: what of which file, whether it passed, value and limit."""
    said = {True: "passed", False: "FAILED", None: "not checked"}
    rows = [(one.name, one.of, said[one.passed], _number(one.value), _number(one.limit), one.note) for one in checks]
    output.table(("check", "of", "", "value", "limit", ""), rows)


def plain(checks: "tuple[Check, ...]") -> dict[str, Any]:
    """Checks as JSON by name, and by file where they are of one."""
    return {
        f"{one.name} of {one.of}" if one.of else one.name: {
            "passed": one.passed,
            "value": one.value,
            "limit": one.limit,
            "note": one.note,
        }
        for one in checks
    }


def _failed(found: Any) -> str:
    """Why a run did not pass, in words."""
    failed = [f"{gate.name} {_number(gate.reached)} of {gate.limit:g}" for gate in found.gates if not gate.passed]
    return "; ".join(failed) or "nothing was proven"


def _base(noted: Any, model: str, place: Path) -> Any:
    """The base as export.json has it. reference: by which the llama.cpp engine knows it, where it is a GGUF file."""
    from data import catalog
    from data.exports import BaseNote

    reference = f"llamacpp/{model}" if model in catalog.specs() else f"llamacpp/{place}" if place.is_file() else ""
    return BaseNote(reference=reference, source=noted.source, sha256=noted.sha256, family=noted.family)


def _published(source: "Source", found: "Exported", flags: dict[str, Any], progress: output.Progress) -> "Export":
    """Send the export to Ollama. What stands, stands: a fault here is told, and the export is whole without it."""
    from data import config
    from export import exporting, ollama

    assert found.folder is not None  # noqa: S101  the caller looked
    assert found.parts is not None  # noqa: S101  an adapter alone is not published
    file = found.export.model()
    assert file is not None  # noqa: S101  one is chosen
    output.note(f"exported to {found.folder}")
    published = ollama.publish(
        found.folder / file.name,
        found.parts,
        flags["ollama"],
        lambda step: told(progress, step),
        host=config.load().ollama.host,
        replaced=flags["replace"],
        prompts=found.prompts,
    )
    return exporting.finished(found.folder, found.export, published.name, published.checks, published.kept)


def told(progress: output.Progress, step: "Step") -> None:
    """Show a step of an export."""
    left = f"  {output.duration(step.eta_s)} left" if step.eta_s is not None else ""
    progress.show(step.doing, step.done, step.of, left.strip())


def _as_json(found: "Exported", made: "Export") -> dict[str, Any]:
    return {
        "name": made.name,
        "folder": str(found.folder) if found.folder else None,
        "chosen": made.chosen,
        "why": found.why,
        "passed": made.passed,
        "files": [one.model_dump(mode="json") for one in made.files] if found.folder else [],
        "verify": plain(made.checks),
        "figures": made.figures,
        "ollama": made.ollama,
        "notes": list(found.notes),
        "kept": str(found.kept) if found.kept else None,
    }


def _show(found: "Exported", made: "Export") -> None:
    for note in found.notes:
        output.note(note)
    forms = [(form, one) for form, one in made.figures.items()]
    if forms:
        rows = [
            (form, *(_cell(one, key) for key in ("bytes", "kl_mean", "top1", "prefill", "decode", "task"))) for form, one in forms
        ]
        output.table(("form", "size", "KL", "first choices", "reads, tokens/s", "writes, tokens/s", "task"), rows)
        output.line()
    table(made.checks)
    output.line()
    if found.folder is None:
        failed = [one.name for one in made.checks if one.passed is False]
        output.line(f"NOT exported: {len(failed)} checks failed ({', '.join(dict.fromkeys(failed))})")
        if found.kept:
            output.line(f"what was made is left in {found.kept}")
        return
    if found.why:
        output.line(found.why)
    for fallen in (file for file in made.files if file.fallbacks):
        output.line(f"{fallen.name}: {len(fallen.fallbacks)} tensors have another number format, for example {fallen.fallbacks[0]}")
    output.line(f"exported: {found.folder}")
    if made.ollama:
        output.line(f"in Ollama: {made.ollama}")


def _cell(figures: Any, key: str) -> str:
    value = figures.get(key)
    if value is None:
        return "-"
    return output.size(value) if key == "bytes" else _number(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
