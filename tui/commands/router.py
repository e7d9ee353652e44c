"""`pointsman router`: the learned router trained, measured, tested and undone."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from data.sanitise import one_line
from tui import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.encoder import Encoder

HELP = """Train, measure, test or undo what the router has learned.

\b
  pointsman router train                             from the domain packs' own examples
  pointsman router train --data questions.csv        columns text and label; --packs adds the packs
  pointsman router eval --data FOLDER --test FILE    beside three baselines
  pointsman router test                              your rules, and slips of the finger
  pointsman router undo                              takes the newest correction or version back
"""
FLIPS = 200
"""Golden rows on which slips are tried."""
FLIP_LIMIT = 0.04
"""Share of decisions that slips may flip before `test` does not pass."""

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
_no_encoder = click.option("--no-encoder", is_flag=True, help="Without the sentence encoder: words and letters alone.")


@click.group(help=HELP)
def command() -> None:
    """Train, measure, test or undo what the router has learned."""


@command.command()
@click.option("--data", metavar="PATH", help="A folder like CLINC150's or BANKING77's, or a CSV or JSONL file; else the packs.")
@click.option("--packs", is_flag=True, help="Learn the domain packs beside the data.")
@click.option("--risk", type=click.FloatRange(0, 0.5, min_open=True), help="Share of wrong domains to accept at most.")
@_no_encoder
@_json
def train(data: str | None, packs: bool, risk: float | None, no_encoder: bool, as_json: bool) -> None:
    """Make a new version from labelled questions and put it into force."""
    from dataclasses import asdict

    from router import labelled
    from router.learning import Versions

    rows = labelled.load(Path(data)).split() if data else labelled.packs()
    if data and packs:
        rows = labelled.joined(rows, labelled.packs().split())

    with _encoder(no_encoder) as (encoder, words, note), _progress("train") as progress:
        risk = risk if risk is not None else _settings().router.risk
        made = Versions().train(rows, encoder, words=words, risk=risk, progress=progress)
    if note:
        output.note(note)
    if as_json:
        output.as_json({**asdict(made), "note": made.note, "encoder": not note})
        return
    output.line(f"version {made.name} is in force: {made.note}, {made.rows} rows, {len(made.domains)} domains")
    output.line(f"of the golden set {made.golden:.1%} is answered rightly; go back with: pointsman router undo")


@command.command("eval")
@click.option("--data", required=True, metavar="PATH", help="A folder like CLINC150's or BANKING77's, or a CSV or JSONL file.")
@click.option("--test", "test_file", metavar="FILE", help="Rows to test on, in the same format; else a held-out part.")
@click.option("--shots", is_flag=True, help="Also measure heads of 5 and of 20 examples a domain.")
@_no_encoder
@_json
def evaluate(data: str, test_file: str | None, shots: bool, no_encoder: bool, as_json: bool) -> None:
    """Train on a data set and measure the router on what was held out, beside three baselines."""
    from router import evaluation, labelled

    found = labelled.load(Path(data))
    tested = labelled.load(Path(data), Path(test_file)) if test_file else None
    given = evaluation.parts(found, tested)
    with _encoder(no_encoder) as (encoder, words, note), _progress("eval") as progress:
        figures = evaluation.evaluate(given, encoder, words=words, progress=progress)
        if shots and encoder is not None:
            figures["few_shots"] = evaluation.few_shots(given, encoder, words=words)
    figures["note"] = note
    if note:
        output.note(note)
    if as_json:
        output.as_json(figures)
    else:
        _show(figures)


@command.command()
@_no_encoder
@_json
def test(no_encoder: bool, as_json: bool) -> None:
    """Run the tests in your rules, and count the decisions of the golden set that slips of the finger flip."""
    from router.learning import Versions

    rules = _rules()
    versions = Versions()
    flips: dict[str, Any] = {"flip_rate": None, "golden": None, "rows": 0}
    if versions.name():
        with _encoder(no_encoder) as (encoder, _, _note):
            flips = _flips(versions, encoder)
    passed = rules["passed"] and (flips["flip_rate"] is None or flips["flip_rate"] <= FLIP_LIMIT)
    if as_json:
        output.as_json({"passed": passed, "rules": rules, **flips})
    else:
        output.line(f"rules: {rules['said']}")
        if flips["flip_rate"] is None:
            output.line("no version was trained, so there is no golden set: pointsman router train --data FOLDER")
        else:
            output.line(f"golden set: {flips['golden']:.1%} of {flips['rows']} rows are answered rightly")
            output.line(f"slips in 30% of the words flip {flips['flip_rate']:.1%} of the decisions (at most {FLIP_LIMIT:.0%})")
    if not passed:
        from tui.cli import EXIT_GATE

        click.get_current_context().exit(EXIT_GATE)


@command.command()
@_json
def undo(as_json: bool) -> None:
    """Take back the newest thing learned: a corrected route, or a version."""
    from router.learning import Versions
    from tui import opening

    versions = Versions()
    made = next((one.made for one in versions.history() if one.current), 0.0)
    with opening.store(_settings().store.url) as store:
        newest = next(iter(reversed(store.routing.exemplars())), None)
        if newest and newest.at.timestamp() > made:
            store.routing.withdraw(newest.id)
            right = " and ".join(filter(None, (newest.domain, newest.mode.replace("_", " "))))
            before, said = f"correction {newest.id}", f"no longer: {one_line(newest.text, 60)!r} goes to {right}"
        else:
            before = versions.name()
            now = versions.undo()
            said = f"version {before} is undone; {f'{now} is in force' if now else 'nothing learned is in force'}"
    if as_json:
        output.as_json({"undone": before, "version": versions.name()})
    else:
        output.line(said)


@command.command()
@_json
def history(as_json: bool) -> None:
    """List the versions, the newest first."""
    from dataclasses import asdict

    from router.learning import Versions

    found = Versions().history()
    if as_json:
        output.as_json([asdict(one) for one in found])
    elif not found:
        output.note("nothing was trained yet: pointsman router train --data FOLDER")
    else:
        rows = [(f"{'*' if one.current else ' '} {one.name}", str(one.rows), f"{one.golden:.1%}", one.note) for one in found]
        output.table(("version", "rows", "golden", "how"), rows)


def _settings() -> Any:
    from tui import opening

    return opening.settings()


@contextmanager
def _encoder(off: bool) -> "Iterator[tuple[Encoder | None, Sequence[str], str]]":
    """The encoder, the words that it knows, and "" or why it is not there."""
    from data.errors import EngineError, ModelError
    from router.encoder import encoder
    from tui import opening

    if off:
        yield None, (), "the sentence encoder was left out: words and letters decide alone"
        return
    with opening.engines(_settings()) as engines:
        try:
            from router.engines.llamacpp import LlamaCpp

            engine = engines.get("llamacpp")
            words = engine.words() if isinstance(engine, LlamaCpp) else ()
            found, note = encoder(engines), ""
            found("ready")
        except (EngineError, ModelError) as fault:
            yield None, (), f"the sentence encoder is missing ({fault}): words and letters decide alone"
            return
        yield found, words, note


@contextmanager
def _progress(title: str) -> Iterator[Callable[[str, int, int], object]]:
    with output.Progress(title) as shown:

        def show(doing: str, done: int, of: int) -> None:
            share = f" {done / of:.0%}" if of and output.is_terminal(sys.stderr) else ""
            shown.show(f"{doing}{share}")

        yield show


def _rules() -> dict[str, Any]:
    """The rules' own tests; a rule file with a fault does not pass, and its lines are said."""
    from data.errors import RulesError
    from router.rules import RulesFile

    file = RulesFile()
    if not file.path.exists():
        return {"passed": True, "said": f"there are none ({file.path})", "faults": []}
    try:
        rules = file.load()
    except RulesError as fault:
        return {"passed": False, "said": str(fault), "faults": list(fault.problems)}
    return {"passed": True, "said": f"{len(rules)} rules, all their tests pass", "faults": []}


def _flips(versions: Any, encoder: "Encoder | None") -> dict[str, Any]:
    import random

    from router.typos import slipped

    head = versions.current()
    golden = versions.golden()[:FLIPS]
    source = random.Random(0)  # noqa: S311  the same slips every time
    right = flipped = 0
    for text, domain in golden:
        clean, noisy = head.read(text, encoder), head.read(slipped(text, source), encoder)
        right += clean.probabilities[0][0] == domain
        flipped += clean.domain != noisy.domain
    count = max(len(golden), 1)
    return {"flip_rate": flipped / count, "golden": right / count, "rows": len(golden)}


def _show(figures: dict[str, Any]) -> None:
    """The figures beside the baselines', then what there is of ours alone."""

    def row(name: str, one: dict[str, Any]) -> tuple[str, ...]:
        accuracy, outside = one["accuracy"], one.get("oos") or {}
        shares = (
            accuracy["domain"],
            accuracy["intent"],
            outside.get("auroc"),
            outside.get("f1"),
            one.get("ece"),
            one.get("flip_rate"),
        )
        scales = (100, 100, 1, 1, 100, 100)
        cells = [
            "-" if share is None else f"{share * scale:.1f}%" if scale == 100 else f"{share:.3f}"
            for share, scale in zip(shares, scales, strict=True)
        ]
        return (name, *cells)

    named = {"tfidf": "TF-IDF + logistic", "minilm": "MiniLM + logistic", "majority": "majority"}
    rows = [row("pointsman", figures), *(row(named[name], one) for name, one in figures["baselines"].items())]
    output.table(("", "domain", "intent", "OOS AUROC", "OOS F1", "ECE", "flipped"), rows)
    counts, latency = figures["n"], figures["latency_ms"]
    output.line(f"{counts['train']} rows trained, {counts['test']} tested, {counts['outside']} out of scope")
    output.line(f"coverage {figures['coverage']:.1%} at a risk of {figures['risk']:.1%}")
    output.line(f"the sentence encoder was asked for {figures['encoder_asked']:.0%} of the questions in scope")
    output.line(f"a reading takes {latency['p50']:.2f} ms (p50), {latency['p99']:.1f} ms (p99)")
    for shots, share in figures.get("few_shots", {}).items():
        output.line(f"with {shots} examples a domain: {share:.1%}")
