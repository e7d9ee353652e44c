"""report.html of a run, made from its folder alone: verdict, gates, beside base and baselines, curves, what changed, what was lost.

Texts of rows, models and files are untrusted: sanitised, escaped and cut; tables and curves are bounded, so the page is. Not
covered: what was measured (`proof`, `scores`), the frame (`page`), the page of one evaluation (`report`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data import bundles, paths, plots
from trainer import bias_report, page, report, run_folder
from trainer.page import SHOWN_ROWS
from trainer.proof import Change, changes
from trainer.run_folder import RunFolder, number

SHOWN_POINTS = 300
"""Points of a curve at most; of more, every so-manieth and the last."""
SHOWN_LENGTHS = 20_000
"""Rows that the histogram of lengths is drawn from at most."""
MOST_STAGES = 20
FIGURES = ("accuracy", "macro_f1", "json_valid", "ece", "adversarial")


def write(folder: Path, file: Path | None = None) -> Path:
    """Write the page of the run in that folder, to report.html within it unless told otherwise, and return its path.

    Raises NotFound and InputError as `run_folder.read` does, InputError where it cannot be written or matplotlib is absent.
    """
    target = file or folder / run_folder.REPORT
    whole = html(run_folder.read(folder)).encode("utf-8", "replace")
    with paths.replacing(target) as out:
        out.write(whole)
    return target


def html(run: RunFolder) -> str:
    """The page."""
    made = run.manifest
    domain = str(made.recipe.get("domain") or "chat")
    title = f"{made.name} · {domain} · {made.base.source}"
    ok, routable = bool(run.proof.get("passed")), bool(run.proof.get("routable"))
    verdict = f"{'every gate is passed' if ok else 'not every gate is passed'}; "
    verdict += "better than the base beyond chance" if routable else "not proven better than the base, so it gets no route"
    better, worse = changes(run.predictions, run.base_predictions) if _same_rows(run) else ((), ())
    return page.document(
        title,
        [
            f"<h1>{page.text(title)}</h1>",
            f"<p class='sub'><b class='{'good' if ok else 'bad'}'>{page.text(verdict, 200)}</b></p>",
            *(f"<p class='soft'>{page.text(note, 400)}</p>" for note in _notes(run)),
            page.gates("Gates", run.gates),
            _figures(run),
            _pairs(run),
            _plots(run),
            report.classes_table(run.classes[:SHOWN_ROWS]) if run.classes else "",
            _changed("What got better", better),
            _changed("What got worse", worse),
            _adversarial(run),
            bias_report.section(bias_report.of_run(run)),
            _general(run),
            _lost(run),
            page.block("Recipe", run.recipe),
            _manifest(run),
        ],
    )


def figures_beside(run: RunFolder) -> list[tuple[str, Mapping[str, Any]]]:
    """The figures of the adapter, its base and the baselines by name, in this order."""
    base, baselines = run.metrics.get("base"), run.metrics.get("baselines")
    found: list[tuple[str, Mapping[str, Any]]] = [("adapter", run.metrics)]
    if isinstance(base, Mapping):
        found.append(("base", base))
    for name, one in (baselines if isinstance(baselines, Mapping) else {}).items():
        if isinstance(one, Mapping):
            found.append((report.NAMES.get(name, str(name)), one))
    return [(name, one) for name, one in found if number(one.get("accuracy")) is not None]


def curves(run: RunFolder) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Series by plot: of every stage the training and validation loss, and the validation figures, over optimiser steps."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for event in run.curve:
        values, stage = event.get("values"), str(event.get("stage") or "training")
        step = number(event.get("done"))
        if not isinstance(values, Mapping) or step is None or event.get("doing") == "judging":
            continue
        for key, plot, series in (
            ("loss", f"Loss of {stage}", "training"),
            ("eval_loss", f"Loss of {stage}", "validation"),
            ("macro_f1", f"Validation answers of {stage}", "macro-F1"),
            ("accuracy", f"Validation answers of {stage}", "accuracy"),
        ):
            if (value := number(values.get(key))) is not None:
                found.setdefault(plot, {}).setdefault(series, []).append((step, value))
    return {plot: {name: _thinned(points) for name, points in series.items()} for plot, series in found.items()}


def _notes(run: RunFolder) -> Iterator[str]:
    if came := bundles.imported(run.folder):
        yield came.words
    for given in (run.proof.get("notes"), run.metrics.get("notes")):
        if isinstance(given, Sequence) and not isinstance(given, str):
            yield from (str(note) for note in given[:SHOWN_ROWS])


def _figures(run: RunFolder) -> str:
    rows = [(name, *(page.share(number(one.get(key))) for key in FIGURES)) for name, one in figures_beside(run)]
    header = ("", "#accuracy", "#macro-F1", "#JSON valid", "#ECE", "#adversarial")
    under = f"{run.manifest.data.validation:,} validation rows, {run.manifest.data.train:,} training rows"
    return page.table("Beside the base and the baselines", header, rows[:SHOWN_ROWS], under) if rows else ""


def _pairs(run: RunFolder) -> str:
    rows = []
    for name in ("base", "parent"):
        found = run.proof.get(name)
        if isinstance(found, Mapping):
            bounds = found.get("ci")
            ends = [number(bounds.get(end)) for end in ("low", "high")] if isinstance(bounds, Mapping) else [None, None]
            p = number(found.get("p"))
            rows.append(
                (
                    f"against the {name}",
                    *(str(found.get(key, "-")) for key in ("n", "both", "gained", "lost", "neither")),
                    page.share(number(found.get("difference"))),
                    " to ".join(page.share(end) for end in ends),
                    "-" if p is None else f"{p:.2g}",
                )
            )
    header = ("", "#rows", "#both right", "#gained", "#lost", "#both wrong", "#difference", "#95% interval", "#McNemar p")
    return page.table("Row by row", header, rows, "interval after Tango (1998), exact McNemar test") if rows else ""


def _plots(run: RunFolder) -> str:
    drawn = [plots.lines(name, series, x="step") for name, series in list(curves(run).items())[: 2 * MOST_STAGES]]
    matrix = run.metrics.get("confusion")
    if isinstance(matrix, Mapping) and matrix.get("labels"):
        labels = run.part(tuple[str, ...], matrix["labels"])
        counts = run.part(tuple[tuple[int, ...], ...], matrix.get("matrix", ()))
        if len(counts) == len(labels) and all(len(row) >= len(labels) for row in counts):
            drawn.append(report.confusion_plot(labels, counts))
    drawn.append(report.reliability_plot(run.predictions, "Reliability of the adapter"))
    drawn.append(report.reliability_plot(run.base_predictions, "Reliability of the base"))
    if run.manifest.data.lengths:
        drawn.append(plots.histogram("Training rows by length", _lengths(run), unit="tokens of prompt and answer"))
    return f"<h2>Plots</h2><div class='plots'>{''.join(drawn)}</div>" if any(drawn) else ""


def _lengths(run: RunFolder) -> list[float]:
    """Every row's length, of very many rows a share of each length."""
    counts = run.manifest.data.lengths
    share = max(sum(counts.values()) / SHOWN_LENGTHS, 1.0)
    return [float(length) for length, rows in counts.items() for _ in range(max(1, round(rows / share)) if rows > 0 else 0)]


def _changed(title: str, found: Sequence[Change]) -> str:
    rows = [
        (
            one.text,
            one.right or "-",
            one.was or "no answer",
            page.share(one.was_confidence),
            one.now or "no answer",
            page.share(one.now_confidence),
            one.why,
        )
        for one in found[:SHOWN_ROWS]
    ]
    header = ("text", "right", "base said", "#confidence", "now says", "#confidence", "fault")
    return page.table(title, header, rows, page.counted(len(found), "surest first")) if rows else ""


def _adversarial(run: RunFolder) -> str:
    found = run.metrics.get("adversarial_cases")
    counts = found if isinstance(found, Mapping) else {}
    return report.failed_table(run.failed, int(number(counts.get("passed")) or 0), int(number(counts.get("of")) or 0))


def _general(run: RunFolder) -> str:
    found = run.proof.get("general")
    if not isinstance(found, Mapping):
        return ""
    texts = run.part(tuple[str, ...], found.get("prompts", ()))
    base, mine = (side if isinstance(side := found.get(name), Mapping) else {} for name in ("base", "mine"))
    answers = [run.part(tuple[str, ...], side.get("answers", ())) for side in (base, mine)]
    right = [run.part(tuple[bool, ...], side.get("right", ())) for side in (base, mine)]
    every = zip(texts, *answers, *right, strict=False)
    rows = [(prompt, was, now) for prompt, was, now, knew, knows in every if knew and not knows]
    under = f"{sum(right[0])} of {len(right[0])} right before, {sum(right[1])} now"
    return (
        page.table("General questions that are lost", ("question", "base said", "now says"), rows[:SHOWN_ROWS], under)
        if rows
        else ""
    )


def _lost(run: RunFolder) -> str:
    rows = [(one.origin, one.reason, one.text) for one in run.lost[:SHOWN_ROWS]]
    header = ("row", "why", "text")
    return page.table("Rows that were lost", header, rows, page.counted(len(run.lost), "")) if rows else ""


def _manifest(run: RunFolder) -> str:
    made = run.manifest
    rows = [
        ("run", made.hash8),
        ("recipe", made.recipe_sha256),
        ("training rows", made.data.sha256),
        ("validation rows", made.data.validation_sha256),
        ("base", f"{made.base.source} {made.base.revision}".strip()),
        ("weights of the base", made.base.sha256),
        ("tokenizer", made.base.tokenizer_sha256),
        ("chat template", made.base.template_sha256),
        ("licence of the base", made.base.licence or "not stated"),
        ("parent", made.parent or "none"),
        ("seed", str(made.seed)),
        ("hardware", f"{made.hardware.processor}, {made.hardware.cores} cores, {made.hardware.memory_bytes / 1e9:.0f} GB"),
        ("GPUs", ", ".join(made.hardware.gpus) or "none"),
        ("versions", ", ".join(f"{name} {one}" for name, one in made.versions.items())),
        ("source", made.commit or "unknown"),
        *((f"seconds, {name}", f"{one:,.1f}") for name, one in list(made.timings.items())[:SHOWN_ROWS]),
        *((one.name, one.sha256) for one in made.artefacts[:SHOWN_ROWS]),
    ]
    return page.table("Manifest", ("", ""), rows)


def _same_rows(run: RunFolder) -> bool:
    mine, base = ([(one.text, one.right) for one in side] for side in (run.predictions, run.base_predictions))
    return bool(mine) and mine == base


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = -(-len(points) // SHOWN_POINTS)
    return [*points[:: max(stride, 1)][:-1], points[-1]] if len(points) > SHOWN_POINTS else points
