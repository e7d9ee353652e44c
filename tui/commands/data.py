"""`pointsman data`: datasets built from sources, imported, checked and described."""

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tui import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from data.chat import Message
    from data.datasets.build import BuildOptions
    from data.datasets.manifest import Manifest
    from data.domains import Domain
    from router.engines import Engines

HELP = """Make datasets for training and evaluation from files, folders, the hub and the log.

\b
  pointsman data build fraud --source sms.csv --source mails.jsonl --out sets/fraud
  pointsman data build - --source chats.jsonl --format chat --out sets/chat
  pointsman data import banking77/train.csv --out rows.jsonl
  pointsman data check sets/fraud              verifies every SHA-256 and count

A SOURCE is a CSV, TSV, JSONL, JSON or Parquet file, hf:OWNER/NAME, or a folder of code or documentation. The DOMAIN - is none.
"""

NONE = "-"

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
_text_column = click.option("--text-column", default="", metavar="C", help="The column or key that holds the text.")
_label_column = click.option("--label-column", default="", metavar="C", help="The column or key that holds the label.")
_licence = click.option("--licence", default="", metavar="L", help="SPDX name of sources that state none.")


@click.group(help=HELP)
def command() -> None:
    """Build, import, check and describe datasets."""


@command.command()
@click.argument("domain")
@click.option("--source", "given", multiple=True, metavar="S", help="A file, folder or hf:OWNER/NAME; may be given several times.")
@click.option("--log", "from_log", is_flag=True, help="Also take what was said about answers in the log.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder to make.")
@click.option("--format", "fmt", default="rows", metavar="F", help="A training format; see: pointsman data formats.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the splits and of the search for duplicates.")
@click.option("--split", default="0.8,0.1,0.1", metavar="T,V,T", help="Shares of training, validation and test.")
@_text_column
@_label_column
@click.option("--rename", multiple=True, metavar="FROM=TO", help="A label of the sources, and the domain's name of it.")
@_licence
@click.option("--chains", default="none", metavar="HOW", help="Reasoning: knowledge-base, teacher:ENGINE/MODEL, or none.")
@click.option("--redact/--no-redact", default=True, help="Replace personal data and secrets by placeholders (default).")
@click.option("--deny", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Words to redact, one a line.")
@click.option("--region", default="", metavar="CC", help="Country whose national telephone numbers are meant first, as GB.")
@click.option("--max-tokens", type=click.IntRange(1), help="Of one row, by --tokenizer.")
@click.option(
    "--tokenizer", metavar="MODEL", help="Count tokens as this local model does; with --max-tokens by default the embedded one."
)
@click.option("--overlong", type=click.Choice(["refuse", "truncate-prompt"]), default="refuse", help="What to do with longer rows.")
@click.option("--force", is_flag=True, help="Replace a dataset that is there.")
@_json
def build(domain: str, given: tuple[str, ...], from_log: bool, out: Path, as_json: bool, **flags: Any) -> None:
    """Build a dataset for DOMAIN (- for none): splits, manifest, quarantine and a data card."""
    from data.datasets import build as building

    pack = _domain(domain)
    if not given and not from_log:
        raise click.UsageError("there is nothing to build from; give --source or --log")
    with ExitStack() as stack:
        sources = [_source(one, flags["text_column"], flags["label_column"], flags["licence"]) for one in given]
        if from_log:
            sources.append(_log(stack, domain if pack else ""))
        options = _options(stack, flags)
        progress = stack.enter_context(_progress("data build"))
        made = building.build(sources, pack, out, options, progress)
    for warning in made.warnings:
        output.note(f"note: {warning}")
    if as_json:
        output.as_json(made.model_dump(mode="json") | {"out": str(out), "sha256": _digest(out)})
    else:
        _show(made)
        output.line(f"{out} is ready; its card: {out / 'card.html'}")


@command.command("import")
@click.argument("source")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The JSONL file to write.")
@_text_column
@_label_column
@_licence
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@_json
def import_(source: str, out: Path, text_column: str, label_column: str, licence: str, force: bool, as_json: bool) -> None:
    """Read SOURCE and write its rows as JSONL, neither cleaned nor redacted."""
    from data.datasets import survey

    opened = _source(source, text_column, label_column, licence)
    with _progress("data import") as progress:
        found = survey.save(opened, out, force, lambda done, of: progress(f"reading {opened.name}", done, of))
    _tell(found.faults, found.refused.total())
    if as_json:
        output.as_json({"out": str(out), "sha256": opened.digest(), **found.to_dict()})
    else:
        output.line(f"{found.rows} rows are in {out}" + (f", {found.refused.total()} were refused" if found.refused else ""))


@command.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--domain", "pack", metavar="D", help="Judge the rows of a file by this domain.")
@_text_column
@_label_column
@_json
def check(path: Path, pack: str | None, text_column: str, label_column: str, as_json: bool) -> None:
    """Verify the dataset at PATH by its manifest, or judge every row of the file PATH. Exit code 3 where something is wrong."""
    from data.datasets import manifest

    with _progress("data check") as progress:
        if path.is_dir() and (path / manifest.FILE).is_file():
            faults = manifest.check(path, lambda done, of: progress("verifying", done, of))
            told = {"sha256": manifest.digest(path), "manifest": manifest.read(path).model_dump(mode="json")}
            wrong = len(faults)
        else:
            found = _survey(path, pack, text_column, label_column, progress)
            faults, told, wrong = found.faults, found.to_dict(), found.refused.total()
    if as_json:
        output.as_json({"passed": not wrong, **told, "faults": faults})
    else:
        _tell(faults, wrong)
        output.line(f"{wrong} faults" if wrong else "everything is as it should be")
    if wrong:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


@command.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--domain", "pack", metavar="D", help="Judge the rows of a file by this domain.")
@_text_column
@_label_column
@_json
def stats(path: Path, pack: str | None, text_column: str, label_column: str, as_json: bool) -> None:
    """Say what the dataset or file PATH holds: rows, labels, lengths, licences."""
    from data.datasets import manifest

    if path.is_dir() and (path / manifest.FILE).is_file():
        made = manifest.read(path)
        if as_json:
            output.as_json(made.model_dump(mode="json") | {"sha256": manifest.digest(path)})
        else:
            _show(made)
        return
    with _progress("data stats") as progress:
        found = _survey(path, pack, text_column, label_column, progress)
    if as_json:
        output.as_json(found.to_dict())
        return
    told = found.to_dict()
    for name in ("shapes", "labels", "licences", "refused", "cleaned"):
        for key, count in told[name].items():
            output.line(f"{name}: {key}: {count}")
    output.line(f"rows: {found.rows}")
    output.line("characters: " + ", ".join(f"{float(share):.0%} {length}" for share, length in told["characters"].items()))
    _tell(found.faults, found.refused.total())


@command.command()
@_json
def formats(as_json: bool) -> None:
    """List the training formats."""
    from data.datasets.formats import FORMATS

    if as_json:
        output.as_json(dict(FORMATS))
    else:
        output.table(("format", "what a row becomes"), list(FORMATS.items()))


def _domain(name: str) -> "Domain | None":
    from data import domains

    return None if name in (NONE, "none") else domains.load(name)


def _source(given: str, text_column: str, label_column: str, licence: str) -> Any:
    from data.datasets.sources import open_source

    return open_source(given, text_column=text_column, label_column=label_column, licence=licence)


def _log(stack: ExitStack, domain: str) -> Any:
    from data.datasets.sources import from_log
    from tui import opening

    return from_log(stack.enter_context(opening.store(opening.settings().store.url)), domain)


def _options(stack: ExitStack, flags: dict[str, Any]) -> "BuildOptions":
    from data.datasets.build import BuildOptions

    how, _, teacher = flags["chains"].partition(":")
    if how not in ("none", "knowledge-base", "teacher") or (how == "teacher") != bool(teacher):
        raise click.UsageError(f"--chains is knowledge-base, teacher:ENGINE/MODEL or none, not {flags['chains']!r}")
    engines = None
    if teacher or flags["max_tokens"] or flags["tokenizer"]:
        from tui import opening

        engines = stack.enter_context(opening.engines(opening.settings()))
    counted = flags["tokenizer"] or ("llamacpp/smollm2-135m" if flags["max_tokens"] else "")
    return BuildOptions(
        format=flags["fmt"],
        seed=flags["seed"],
        shares=_shares(flags["split"]),
        redact=flags["redact"],
        deny=_words(flags["deny"]),
        region=flags["region"],
        rename=_renamed(flags["rename"]),
        max_tokens=flags["max_tokens"] or 0,
        overlong="refuse" if flags["overlong"] == "refuse" else "truncate_prompt",
        count_tokens=_counting(engines, counted) if engines and counted else None,
        tokenizer=_named(engines, counted) if engines and counted else "",
        chains="knowledge base" if how == "knowledge-base" else "teacher" if teacher else "none",
        teacher=_teaching(engines, teacher, flags["seed"]) if engines and teacher else None,
        teacher_name=_named(engines, teacher) if engines and teacher else "",
        force=flags["force"],
    )


def _shares(given: str) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(part) for part in given.split(","))
    except ValueError as error:
        raise click.UsageError(f"--split is three shares such as 0.8,0.1,0.1, not {given!r}") from error
    return train, validation, test


def _renamed(given: "Sequence[str]") -> tuple[tuple[str, str], ...]:
    found = []
    for one in given:
        name, equals, other = one.partition("=")
        if not (name and equals and other):
            raise click.UsageError(f"--rename is FROM=TO, not {one!r}")
        found.append((name.strip(), other.strip()))
    return tuple(found)


def _words(file: Path | None) -> tuple[str, ...]:
    """The words of a deny list, one a line; empty lines and those that begin with # are none."""
    from data.errors import InputError

    if file is None:
        return ()
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}", "make it a UTF-8 text file") from error
    return tuple(dict.fromkeys(word for line in lines if (word := line.strip()) and not word.startswith("#")))


def _named(engines: "Engines", reference: str) -> str:
    """The model's name as a manifest has it: of a file its name alone."""
    found = engines.resolve(reference)
    return f"{found.engine.name}/{Path(found.model).name}"


def _counting(engines: "Engines", reference: str) -> "Callable[[str], int]":
    """The tokens of a text by a local model, which is loaded now. Raises EngineRejected where its engine cannot count."""
    from data.chat import Message
    from data.errors import EngineRejected
    from tui import opening

    model = opening.local_model(engines, reference)
    engine: Any = engines.resolve(reference).engine
    if model:
        opening.prepare(model)
        engine.preload(model)
    if not model or not engine.count(model, (Message("user", "word"),)):
        raise EngineRejected(f"{reference} counts no tokens", "name a local model, such as llamacpp/smollm2-135m or a GGUF file")
    return lambda text: engine.count(model, (Message("user", text),))


def _teaching(engines: "Engines", reference: str, seed: int) -> "Callable[[Sequence[Message]], str]":
    """A model that answers messages, without chance as far as its engine allows."""
    from data.config import Sampling
    from router.engines.base import Request

    found = engines.resolve(reference)
    if found.engine.name == "llamacpp":
        from tui import opening

        opening.prepare(found.model)
    sampling = Sampling(temperature=0.0, seed=seed % 2**32)

    def teach(messages: "Sequence[Message]") -> str:
        request = Request(model=found.model, messages=tuple(messages), sampling=sampling, max_tokens=300)
        return "".join(chunk.text for chunk in found.engine.stream(request))

    return teach


def _survey(
    path: Path, pack: str | None, text_column: str, label_column: str, progress: "Callable[[str, float, float], None]"
) -> Any:
    from data.datasets import survey

    source = _source(str(path), text_column, label_column, "")
    return survey.survey(source, _domain(pack) if pack else None, lambda done, of: progress(f"reading {source.name}", done, of))


@contextmanager
def _progress(title: str) -> "Iterator[Callable[[str, float, float], None]]":
    """A bar a step, each with its own time left."""
    with ExitStack() as stack:
        shown: dict[str, output.Progress] = {}

        def show(step: str, done: float, of: float) -> None:
            if step not in shown:
                stack.close()
                shown.clear()
                shown[step] = stack.enter_context(output.Progress(title))
            shown[step].show(step, done, of)

        yield show


def _tell(faults: "Sequence[str]", whole: int) -> None:
    for fault in faults:
        output.note(fault)
    if whole > len(faults):
        output.note(f"and {whole - len(faults)} more")


def _digest(out: Path) -> str:
    from data.datasets import manifest

    return manifest.digest(out)


def _show(made: "Manifest") -> None:
    counts = made.counts
    kept_out = [("duplicates, exact", counts.exact_duplicates), ("duplicates, near", counts.near_duplicates)]
    rows = [("read", counts.read), ("kept", counts.kept), *sorted(counts.by_filter.items()), *kept_out]
    rows += [(f"in {name}", counts.by_split.get(name, 0)) for name in counts.lines]
    rows += [(f"redacted {kind}", count) for kind, count in sorted(made.redactions.items())]
    output.table(("rows", "count"), [(name, str(count)) for name, count in rows])
    if counts.by_label:
        names = list(counts.lines)
        output.line()
        table = [(label, *(str(splits.get(name, 0)) for name in names)) for label, splits in sorted(counts.by_label.items())]
        output.table(("label", *names), table)
