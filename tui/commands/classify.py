"""`pointsman classify`: a domain's answer about one text or a file of texts, with probabilities and every voice's say."""

import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from data.datasets.rows import Refused, Row
    from data.datasets.sources import Source
    from router.classification import Classified, Classifier

HELP = """Answer as a domain's contract says: TEXT, or every row of a file.

The label's probabilities are the model's own, calibrated on the domain's validation examples; --hybrid weighs the sentence
encoder's classifier too. Rules of the domain have the last word. A batch that was stopped goes on where it was when the same
command runs again.

\b
  pointsman classify --domain fraud "You won! Send your details to claim your prize"
  pointsman classify --domain triage -f messages.csv -o labels.csv --hybrid
  tail -1 message.txt | pointsman classify --domain fraud --json
"""


@click.command(help=HELP)
@click.argument("text", nargs=-1)
@click.option("--domain", required=True, metavar="DOMAIN", help="The domain pack: pointsman domains list.")
@click.option("-f", "--file", "file", default="", metavar="FILE", help="CSV, TSV, JSONL or Parquet with a column of texts.")
@click.option("-o", "--out", "out", default="", metavar="OUT", help="Where the rows go: .jsonl or .csv.")
@click.option("--model", default="", metavar="MODEL", help="The model; else the domain's own.")
@click.option("--hybrid", is_flag=True, help="Weigh the sentence encoder's classifier too.")
@click.option("--contract", default="", metavar="NAME", help="The layout of the answer, where the domain has several.")
@click.option("--text-column", default="text", metavar="COLUMN", show_default=True, help="The column of texts.")
@click.option("--force", is_flag=True, help="Replace OUT, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def command(
    text: tuple[str, ...],
    domain: str,
    file: str,
    out: str,
    model: str,
    hybrid: bool,
    contract: str,
    text_column: str,
    force: bool,
    as_json: bool,
) -> None:
    """Classify one text or a file."""
    from data import domains
    from router.classification import Classifier
    from tui import opening

    if file and (text or not out):
        raise click.UsageError("-f FILE needs -o OUT, and no TEXT beside it")
    said = " ".join(text)
    if not file and not said:
        said = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    pack = domains.load(domain)
    settings = opening.settings()
    with opening.engines(settings) as engines, output.Progress("classify", _rows) as progress:
        opening.prepare_named(engines, [model] if model else pack.described.base_models, hybrid)
        classifier = Classifier(pack, engines, model, hybrid=hybrid, contract=contract, progress=progress.show)
        if file:
            done = _batch(classifier, Path(file), Path(out), text_column, force, progress)
        else:
            done = _one(classifier, said)
    if as_json:
        output.as_json(done)
    elif file:
        output.line(f"{done['rows']} rows in {out}: {done['faulty']} with a fault, {done['gone_on_from']} were there already")
    else:
        _show(done)


def as_row(found: "Classified") -> dict[str, Any]:
    """An answer as the fields that scripts read."""
    return {
        "label": found.label,
        "probabilities": dict(found.probabilities),
        "confidence": found.confidence,
        "output": dict(found.output),
        "reasoning": found.reasoning,
        "model": found.model,
        "reason": found.reason,
        "voices": [{"name": one.name, "probabilities": dict(one.probabilities), "note": one.note} for one in found.voices],
        "json_valid": found.json_valid,
        "error": found.fault,
    }


def _one(classifier: "Classifier", text: str) -> dict[str, Any]:
    from data.errors import EngineError, InputError

    if not text.strip():
        raise InputError("the text is empty", "give one, pipe it in, or name a file with -f")
    found = next(classifier.classify([text]))
    if found.fault:
        raise EngineError(found.fault)
    return as_row(found)


def _batch(
    classifier: "Classifier", file: Path, out: Path, text_column: str, force: bool, progress: output.Progress
) -> dict[str, Any]:
    from data.datasets.sources import open_source
    from tui.batch import Batch

    source = open_source(str(file), text_column=text_column)
    job = {
        "input": source.digest(),
        "column": text_column,
        "domain": classifier.digest,
        "model": classifier.model,
        "hybrid": classifier.hybrid,
        "contract": classifier.contract.version.name,
    }
    faulty = 0
    with Batch(out, job, force=force) as batch:
        begun = batch.done
        counted = sum(1 for _ in source.rows())
        for row in _classified(classifier, source, begun):
            batch.add(row)
            progress.show(f"{counted:,} rows", batch.done, counted)
        faulty = sum(1 for row in batch.rows() if row["error"])
        batch.finish(_cells)
    return {"rows": batch.done, "faulty": faulty, "gone_on_from": begun, "out": str(out), "model": classifier.model}


def _classified(classifier: "Classifier", source: "Source", begun: int) -> Iterator[dict[str, Any]]:
    """The rows from number `begun` on; those that the source refuses keep their place, with the reason."""
    from data.datasets.rows import Row
    from router.classification import GROUP

    waiting = islice(source.rows(), begun, None)
    while group := list(islice(waiting, GROUP)):
        answers = classifier.classify([one.text for one in group if isinstance(one, Row)])
        for one in group:
            yield _placed(one, next(answers) if isinstance(one, Row) else None)


def _placed(one: "Row | Refused", found: "Classified | None") -> dict[str, Any]:
    from data.datasets.rows import Row

    head: dict[str, Any] = {"row": one.origin.number}
    if not isinstance(one, Row) or found is None:
        reason = "" if isinstance(one, Row) else f"{one.filter}: {one.reason}"
        return {**head, "text": "" if isinstance(one, Row) else one.excerpt, "label": "", "error": reason}
    return {**head, "text": one.text, **({"expected": one.label} if one.label else {}), **as_row(found)}


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the columns of a CSV."""
    names = ("row", "text", "expected", "label", "confidence", "output", "reasoning", "model", "reason", "error")
    return {name: row.get(name, "") for name in names}


def _show(row: Mapping[str, Any]) -> None:
    import json

    sure = "unavailable" if row["confidence"] is None else f"{row['confidence']:.1%}"
    if row["label"]:
        output.line(f"{row['label']}  ({sure})")
    for name, value in row["output"].items():
        output.line(f"  {name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    if row["reasoning"]:
        output.line(f"  reasoning: {row['reasoning']}")
    for voice in row["voices"]:
        first = ", ".join(f"{label} {share:.1%}" for label, share in list(voice["probabilities"].items())[:3])
        output.line(f"  {voice['name']}: {first}{'  ' if first and voice['note'] else ''}{voice['note']}")
    output.line(f"  decided by: {row['reason'] or 'the model'}; {row['model'] or 'no model'}")


def _rows(count: float) -> str:
    return f"{count:,.0f} rows"
