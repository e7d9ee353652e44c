"""How much personal data and how many secrets the redactor finds, and how often it takes something else for them.

    python bench/pii.py [--rows 1000] [--seed 2026] [--speed 20000] [--show 0]

Rows are written by a seeded generator (`pii_corpus.py`): sentences that people write to a help desk, in a chat, in a log or in
code, with values of every structured kind in several formats, and at least as many values that only look like one (order numbers,
versions, ISBNs, hashes, prices, times, cards with a wrong check digit). Values are random and belong to nobody. A value counts as
found where all its letters and digits are gone, whatever the kind; a finding counts as right where it touches a value.

Peers in the same run: Presidio's AnalyzerEngine without a language model as it comes, and detect-secrets' own scan. Each knows a
part of the kinds, so that its recall here is not the measure of what it set out to do. The generator and the patterns have one
author: another seed changes the values and their mixture, not the sentences.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from bench.pii_corpus import Gold, corpus, prose
from data.datasets.redact import Redactor

RECALL, PRECISION = 0.99, 0.95


def main() -> None:
    """Print and write recall and precision by kind, beside the peers, and rows per second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--speed", type=int, default=20_000, help="plain rows of 1 KB to time")
    parser.add_argument("--show", type=int, default=0, help="print that many misses and false findings")
    given = parser.parse_args()
    rows, negatives = corpus(given.rows, given.seed)
    redactor = Redactor()
    started = time.perf_counter()
    ours = [[(found.kind, found.start, found.end) for found in redactor.text(text)[1]] for text, _ in rows]
    rich_s = time.perf_counter() - started
    table, totals = score(rows, ours, given.show)
    print(harness.table(table, ["kind", "values", "found", "recall", "right kind"]))
    print(f"\nfindings that touch no value: {totals['false']} of {totals['findings']}; look-alikes in the rows: {negatives}")
    peers = {
        "pointsman": totals,
        "presidio": score(rows, presidio(rows), 0)[1],
        "detect-secrets": score(rows, detect_secrets(rows), 0)[1],
    }
    print(
        "\n"
        + harness.table([{"": name, **values} for name, values in peers.items()], ["", "recall", "precision", "findings", "false"])
    )
    speed = speeds(redactor, rows, rich_s, given.speed, given.seed)
    print("\n" + harness.table(speed, ["text", "rows", "characters a row", "rows/s", "µs a row", "hours for 1,000,000"]))
    passed = totals["recall"] >= RECALL and totals["precision"] >= PRECISION
    limits = {"recall": RECALL, "precision": PRECISION}
    path = harness.write(
        "pii",
        {
            "seed": given.seed,
            "limits": limits,
            "passed": passed,
            "negatives": negatives,
            "kinds": table,
            "systems": peers,
            "speed": speed,
        },
    )
    print(f"\n{'passed' if passed else 'FAILED'}: recall {totals['recall']:.4f}, at least {RECALL}")
    print(f"precision {totals['precision']:.4f}, at least {PRECISION}")
    print(path.relative_to(harness.ROOT))


def score(
    rows: Sequence[tuple[str, list[Gold]]], found: Sequence[list[tuple[str, int, int]]], show: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """By kind: values, found, recall; and the totals with precision."""
    values: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    named: Counter[str] = Counter()
    findings = false = 0
    for (text, golds), spans in zip(rows, found, strict=True):
        gone = {place for _, start, end in spans for place in range(start, end)}
        for gold in golds:
            values[gold.kind] += 1
            whole = all(place in gone for place in range(gold.start, gold.end) if text[place].isalnum())
            hits[gold.kind] += whole
            named[gold.kind] += any(
                kind == gold.kind.split(",")[0] and start < gold.end and end > gold.start for kind, start, end in spans
            )
            if not whole and show > 0:
                show -= 1
                print(f"missed {gold.kind}: {_marked(text, gold.start, gold.end)}")
        for kind, start, end in spans:
            findings += 1
            if not any(start < gold.end and end > gold.start for gold in golds):
                false += 1
                if show > 0:
                    show -= 1
                    print(f"false {kind}: {_marked(text, start, end)}")
    table = [
        {
            "kind": kind,
            "values": values[kind],
            "found": hits[kind],
            "recall": hits[kind] / values[kind],
            "right kind": named[kind] / values[kind],
        }
        for kind in sorted(values)
    ]
    totals = {
        "recall": sum(hits.values()) / max(1, sum(values.values())),
        "precision": 1 - false / max(1, findings),
        "findings": findings,
        "false": false,
    }
    return table, totals


def _marked(text: str, start: int, end: int) -> str:
    return repr(f"{text[max(0, start - 40) : start]}[[{text[start:end]}]]{text[end : end + 20]}")


def presidio(rows: Sequence[tuple[str, list[Gold]]]) -> list[list[tuple[str, int, int]]]:
    """Presidio's engine with all its English pattern recognisers and its default threshold, kept from the network."""
    import tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NoOpNlpEngine

    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    tldextract.extract = tldextract.tldextract.TLD_EXTRACTOR
    engine = AnalyzerEngine(
        nlp_engine=NoOpNlpEngine(models=[{"lang_code": "en", "model_name": "none"}]), supported_languages=["en"]
    )
    return [[(r.entity_type, r.start, r.end) for r in engine.analyze(text, language="en")] for text, _ in rows]


def detect_secrets(rows: Sequence[tuple[str, list[Gold]]]) -> list[list[tuple[str, int, int]]]:
    """detect-secrets' scan of a file that holds the row, with all its plugins, without verification."""
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import transient_settings

    found: list[list[tuple[str, int, int]]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        transient_settings({"plugins_used": [{"name": name} for name in _default_plugins()]}),
    ):
        place = Path(folder) / "row.txt"
        for text, _ in rows:
            place.write_text(text, encoding="utf-8")
            lines = text.split("\n")
            starts = [sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines))]
            spans = []
            for secret in scan_file(str(place)):
                at = text.find(secret.secret_value or "\0", starts[secret.line_number - 1])
                if at >= 0:
                    spans.append((secret.type, at, at + len(secret.secret_value or "")))
            found.append(spans)
    return found


def _default_plugins() -> list[str]:
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    return sorted(found.__name__ for found in get_mapping_from_secret_type_to_class().values())


def speeds(
    redactor: Redactor, rows: Sequence[tuple[str, list[Gold]]], rich_s: float, count: int, seed: int
) -> list[dict[str, Any]]:
    """Rows per second: on plain prose of 1 KB, on prose with years and amounts, and on the rows of this benchmark."""
    rng = random.Random(seed)
    plain = [prose(rng, numbers=False) for _ in range(min(count, 2000))]
    some = [prose(rng, numbers=True) for _ in range(min(count, 2000))]
    found = []
    for name, texts in (("plain prose", plain), ("prose with years and prices", some)):
        started = time.perf_counter()
        for number in range(count):
            redactor.text(texts[number % len(texts)])
        found.append(_speed(name, count, sum(map(len, texts)) / len(texts), time.perf_counter() - started))
    found.append(_speed("the rows above", len(rows), sum(len(text) for text, _ in rows) / len(rows), rich_s))
    return found


def _speed(name: str, count: int, characters: float, seconds: float) -> dict[str, Any]:
    each = seconds / count
    return {
        "text": name,
        "rows": count,
        "characters a row": round(characters),
        "rows/s": round(1 / each),
        "µs a row": round(each * 1e6, 1),
        "hours for 1,000,000": round(each * 1e6 / 3600, 3),
    }


if __name__ == "__main__":
    main()
