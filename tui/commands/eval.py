"""`pointsman eval`: what a model is worth on a domain, beside its baselines, with the gates of the pack."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from data.domains import Domain, Example
    from router.engines import Engines
    from trainer.bias import Bias
    from trainer.comparison import Comparison
    from trainer.figures import Figures
    from trainer.scores import Scores

HELP = """Measure a model on a domain: accuracy, macro-F1, recall by class, JSON validity, calibration, adversarial cases, speed.

Without --data the validation examples of the pack are the test; its train examples fit the baselines. With --data all its rows
are the test. A domain that answers in free text is measured by the checks of its examples, code run in the sandbox. The exit code
is 3 where a gate of the pack is not passed.

\b
  pointsman eval triage
  pointsman eval fraud --model ollama/llama3.2:1b --hybrid --report fraud.html
  pointsman eval triage --data messages.csv --label-column queue --limit 500 --json
  pointsman eval fraud --bias
"""
WRONG = 5
"""Failed adversarial cases that are shown."""

Show = Callable[[str, int, int], None]


@click.command(help=HELP)
@click.argument("domain")
@click.option("--model", default="", metavar="MODEL", help="The model; else the domain's own.")
@click.option("--data", "data_file", default="", metavar="FILE", help="Test rows: CSV, TSV, JSONL or Parquet.")
@click.option("--train", "train_file", default="", metavar="FILE", help="Rows for the baselines; else the pack's train examples.")
@click.option("--text-column", default="", metavar="COLUMN", help="The column of texts.")
@click.option("--label-column", default="", metavar="COLUMN", help="The column of labels.")
@click.option("--hybrid", is_flag=True, help="Weigh the sentence encoder's classifier too.")
@click.option("--contract", default="", metavar="NAME", help="The layout of the answer, where the domain has several.")
@click.option("--limit", type=click.IntRange(0), default=0, metavar="N", help="So many rows at most, the same ones every time.")
@click.option("--out", "folder", default="", metavar="DIR", help="Write predictions.jsonl, metrics.json and report.html there.")
@click.option("--report", "page", default="", metavar="FILE", help="Write the report, one HTML file.")
@click.option("--bias", is_flag=True, help="Paired prompts too: do a name, a gender, a place or an order in a message change it?")
@click.option("--no-baselines", is_flag=True, help="Fit no baselines.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(domain: str, model: str, folder: str, page: str, as_json: bool, **flags: Any) -> None:
    """Measure a model on a domain."""
    from data import domains
    from trainer import report, scores
    from trainer.comparison import trainable
    from trainer.evaluate import require_rows, sampled
    from tui import opening

    pack = domains.load(domain)
    for one in (page, folder):
        _require_writable(one)
    rows, notes = _test_rows(pack, flags)
    rows = sampled(rows, flags["limit"])
    require_rows(pack, rows)
    baselines = bool(pack.labels) and not flags["no_baselines"]
    train = _train_rows(pack, flags) if baselines else []
    if baselines:
        trainable(pack, train, rows)  # said now, not after hours of measuring
    with opening.engines(opening.settings()) as engines, _progress() as show:
        found = _scores(pack, engines, model, rows, notes, flags, show)
        if folder:
            scores.write(found, Path(folder))  # what took long is kept, whatever becomes of the rest
        fair = _bias(pack, engines, model, flags, show) if flags["bias"] else None
        compared = _compared(pack, engines, train, rows, show) if baselines else None
        more = {"bias": fair.to_dict()} if fair else {}
        if folder:
            scores.write(found, Path(folder), {"baselines": _baselines(compared), **more})
            report.write(Path(folder) / "report.html", found, compared, fair)
        if page:
            report.write(Path(page), found, compared, fair)
    if as_json:
        output.as_json(_as_json(found, compared) | more)
    else:
        _show(found, compared)
        _show_bias(fair)
    if not found.passed:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


def read_rows(file: str, text_column: str = "", label_column: str = "") -> "tuple[list[Example], dict[str, int]]":
    """The labelled rows of a file, and why others were refused with how many. Raises InputError as sources do."""
    from collections import Counter

    from data.datasets.rows import Row
    from data.datasets.sources import open_source
    from data.domains import Example

    rows: list[Example] = []
    refused: Counter[str] = Counter()
    for one in open_source(file, text_column=text_column, label_column=label_column, labelled=True).rows():
        if not isinstance(one, Row):
            refused[one.reason] += 1
        elif not one.label or not one.text.strip():
            refused["the row has no text" if one.label else "the row has no label"] += 1
        else:
            rows.append(Example(text=one.text, label=one.label, output=dict(one.output), source=str(one.origin)[:200]))
    return rows, dict(refused)


def _test_rows(pack: "Domain", flags: dict[str, Any]) -> "tuple[list[Example], list[str]]":
    if not flags["data_file"]:
        rows = [one for one in pack.examples if one.split == "validation"]
        calibrated = (
            "the probabilities are calibrated on validation rows of the pack: with --data of rows of its own the ECE is stricter"
        )
        return rows, [calibrated] if pack.labels else []
    rows, refused = read_rows(flags["data_file"], flags["text_column"], flags["label_column"])
    return rows, [f"{count:,} rows of {flags['data_file']} are left out: {reason}" for reason, count in refused.items()]


def _scores(
    pack: "Domain", engines: "Engines", model: str, rows: "list[Example]", notes: list[str], flags: dict[str, Any], show: Show
) -> "Scores":
    from router.classification import Classifier
    from trainer.answers import evaluate_answers
    from trainer.evaluate import evaluate
    from tui import opening

    opening.prepare_named(engines, [model] if model else pack.described.base_models, flags["hybrid"])
    if not pack.schema:
        reference, answer = _answering(pack, engines, model)
        return evaluate_answers(pack, answer, rows, show, reference)
    classifier = Classifier(pack, engines, model, hybrid=flags["hybrid"], contract=flags["contract"], progress=show)
    return evaluate(pack, classifier.classify, rows, show, notes)


def _bias(pack: "Domain", engines: "Engines", model: str, flags: dict[str, Any], show: Show) -> "Bias":
    from router.classification import Classifier
    from trainer import bias

    if pack.schema:
        speaker = Classifier(pack, engines, model, hybrid=flags["hybrid"], contract=flags["contract"], progress=show)
        return bias.by_contract(pack, speaker, show, speaker.model)
    reference, _ = _answering(pack, engines, model)
    found = engines.resolve(reference)
    return bias.by_likelihood(pack, found.engine, found.model, show, reference)


def _answering(pack: "Domain", engines: "Engines", model: str) -> tuple[str, Callable[[str], str]]:
    """The model of a domain in free text, and what asks it: the pack's prompt, the likeliest answer."""
    from data.config import Sampling
    from data.errors import EngineError, ModelError
    from router.engines.base import Request

    fault: EngineError | ModelError | None = None
    for reference in [model] if model else pack.described.base_models:
        try:
            found = engines.resolve(reference)
        except (EngineError, ModelError) as missing:
            fault = fault or missing
            continue

        def answer(text: str, engine: Any = found.engine, name: str = found.model) -> str:
            request = Request(name, pack.prompt(text), Sampling(temperature=0.0), max_tokens=1_024)
            return "".join(chunk.text for chunk in engine.stream(request))

        return found.reference, answer
    raise fault or EngineError(f"{pack.name} names no base model", "name one with --model")


def _train_rows(pack: "Domain", flags: dict[str, Any]) -> "list[Example]":
    if not flags["train_file"]:
        return [one for one in pack.examples if one.split == "train"]
    return read_rows(flags["train_file"], flags["text_column"], flags["label_column"])[0]


def _compared(pack: "Domain", engines: "Engines", train: "list[Example]", rows: "list[Example]", show: Show) -> "Comparison":
    from data.errors import EngineError, ModelError
    from router.encoder import ENCODER
    from trainer.comparison import compare
    from tui import opening

    opening.prepare(ENCODER)
    try:
        embed = engines.get("llamacpp").embed
    except (EngineError, ModelError) as fault:
        output.note(f"the MiniLM baseline is left out: {fault}")
        embed = None
    return compare(pack, train, rows, embed, lambda doing, done, of: show(f"baselines: {doing}", done, of))


def _baselines(compared: "Comparison | None") -> dict[str, Any]:
    return {} if compared is None else {one.name: one.to_dict() for one in compared.baselines}


def _as_json(found: "Scores", compared: "Comparison | None") -> dict[str, Any]:
    notes = [*found.notes, *(compared.notes if compared else ())]
    return found.to_dict() | {"baselines": _baselines(compared), "notes": notes}


def _show(found: "Scores", compared: "Comparison | None") -> None:
    from trainer.report import NAMES

    for note in (*found.notes, *(compared.notes if compared else ())):
        output.note(note)
    hard = found.adversarial
    head = ("", "accuracy", "95% interval", "macro-F1", "ECE", "rows/s")
    if found.figures is None:
        output.line(f"{found.model}: {_share(found.checks)} of {found.n} answers pass their checks, {found.rows_per_s:.2f} rows/s")
    else:
        rows = [_row(found.model or "this", found.figures, found.rows_per_s)]
        rows += [_row(NAMES.get(one.name, one.name), one.figures, one.rows_per_s) for one in compared.baselines] if compared else []
        output.table(head, rows)
        output.line()
        classes = [one for one in found.figures.classes if one.support]
        cells = [(one.label, str(one.support), _share(one.precision), _share(one.recall), _share(one.f1)) for one in classes]
        output.table(("label", "rows", "precision", "recall", "F1"), cells)
    for name, one in found.voices.items():
        output.line(f"voice {name}: accuracy {_share(one.accuracy)}, macro-F1 {_share(one.macro_f1)}, {one.n} rows")
    for name, share in found.fields.items():
        output.line(f"{name}: {_share(share)} right")
    output.line(f"{found.n} rows, {found.errors} with a fault; JSON valid: {_share(found.json_valid)}")
    output.line(f"adversarial cases: {hard.passed} of {hard.of} passed")
    for case in hard.failed[:WRONG]:
        output.line(f"  {case.id}: {'; '.join(case.faults)}")
    for gate in found.gates:
        said = "passed" if gate.passed else "NOT passed"
        limit = f"{'at most' if gate.at_most else 'at least'} {_share(gate.limit)}"
        output.line(f"gate {gate.name}: {said}, {_share(gate.reached)} of {limit}{f' ({gate.note})' if gate.note else ''}")


def _show_bias(fair: "Bias | None") -> None:
    if fair is not None:
        from trainer import bias_report

        for line in bias_report.lines(fair):
            output.line(line)


def _row(name: str, one: "Figures", rows_per_s: float) -> tuple[str, ...]:
    interval = f"{_share(one.accuracy_ci.low)} to {_share(one.accuracy_ci.high)}"
    return (name, _share(one.accuracy), interval, _share(one.macro_f1), _share(one.ece), f"{rows_per_s:,.1f}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _require_writable(target: str) -> None:
    """Raise InputError now where a report could not be written later."""
    from data.errors import InputError

    folder = Path(target).expanduser().absolute().parent
    if target and not folder.is_dir():
        raise InputError(f"there is no folder {folder} for {Path(target).name}", "make it, or name another place")


@contextmanager
def _progress() -> Iterator[Show]:
    """A line a step, each with a time left of its own."""
    shown, told = _step(), ""

    def show(doing: str, done: int, of: int) -> None:
        nonlocal shown, told
        if doing != told:
            shown.__exit__()
            shown, told = _step(), doing
        shown.show(doing, done, of)

    try:
        yield show
    finally:
        shown.__exit__()


def _step() -> output.Progress:
    return output.Progress("eval", lambda count: f"{count:,.0f}")
