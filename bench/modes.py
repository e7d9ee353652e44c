"""How well Auto chooses the way of reasoning and sees that a tool is needed.

    python bench/modes.py [--datasets DIR] [--no-write] [--errors]

Queries with a mode, the tools on offer and whether one is needed are built from the shared data (--datasets or
POINTSMAN_DATASETS) and from mode_cases.jsonl. The labels come from the data sets' own structure or from the rules in this file:

    gsm8k            chain_of_thought; our tools on offer (a word problem is reasoned out, the calculator is for bare sums)
    bfcl simple      agent, its function on offer
    bfcl irrelevance no tool, its function on offer; chain_of_thought where the request has a figure that is no year, or
                     asks to prove or derive, else standard
    vicuna           by category: math and fermi chain_of_thought, all others standard
    arena_hard       `_arena_mode`: a task of code that asks for no proof is standard; a cluster of mathematics with a figure
                     in the text is chain_of_thought, as is a question with three figures; plans,
                     strategies, proposals and four or more listed parts are multi_step; else standard
    clinc150         time, date, calculator, measurement_conversion and timezone agent with our tools on offer (calculator
                     only with a figure to calculate), every other intent and the out-of-scope queries standard
    mbpp             standard (short tasks of code)

Equal halves by the sha256 of the text: the head is fitted on one half (bench/train_mode_head.py), the figures are of the
other. "left out" fits without a source and is scored on all of it. Typos: a slip in 30% of the words.
"""

import argparse
import hashlib
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from router._modes.cues import BUILT_IN
from router.mode_head import MODES, ModeEvidence, ModeHead

CASES = Path(__file__).parent / "mode_cases.jsonl"
OURS: Mapping[str, str] = dict.fromkeys(sorted(BUILT_IN - {"date_difference"}), "")
NEEDING = {
    "time": "now", "date": "now", "timezone": "now", "calculator": "calculator", "measurement_conversion": "convert_units"
}  # fmt: skip
MATHS = re.compile(
    r"math|probab|puzzle|calculations|number theory|theorem|proving|real analysis|speed problems|step count|investment", re.I
)
CODE = re.compile(
    r"```|\b(?:code|function|program|script|regex|class|sql|api|python|java|javascript|typescript|c\+\+|c#|rust|html|css|php|bash|"
    r"docker\w*|kubernetes|linux|git|react|django|compile|plugin|library|algorithm|haskell|excel|shader|config\w*|implement\w*)\b",
    re.I,
)  # fmt: skip
PLANS = re.compile(
    r"\b(?:plan|strategy|strategies|roadmap|proposal|curriculum|course|workshops|scope of work|outline|position paper|guide|"
    r"catalogue|debate|architecture|specification)\b", re.I
)  # fmt: skip
PROVE = re.compile(r"\b(?:prove|proof|derive|derivation)\b", re.I)
ASKED = re.compile(r"\b(?:how (?:many|much|long|far)|calculate|compute|find the|what (?:is|are|was) the)\b", re.I)
LISTED = re.compile(r"^\s{0,8}(?:\d{1,2}[.)]|[-*•])\s+\S", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Query:
    """A labelled query: its mode, the tools on offer with descriptions, and those of them that are needed ("?": any)."""

    source: str
    text: str
    mode: str
    offered: Mapping[str, str]
    tools: tuple[str, ...] = ()

    @property
    def held_out(self) -> bool:
        """Whether the head is not fitted on it."""
        return int(hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()[:8], 16) % 2 == 1


def queries(folder: Path) -> list[Query]:
    """All labelled queries, equal texts with equal offers once."""
    made = [
        *_gsm8k(folder), *_bfcl(folder), *_vicuna(folder), *_arena(folder), *_clinc(folder), *_mbpp(folder), *cases()
    ]  # fmt: skip
    return list({(query.text, tuple(query.offered)): query for query in made}.values())


def cases() -> Iterator[Query]:
    """The hand-written cases."""
    for line in CASES.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield Query(
            "by hand", row["text"], row["mode"], OURS if row["offered"] == "builtin" else row["offered"], tuple(row["tools"])
        )


def _gsm8k(folder: Path) -> Iterator[Query]:
    rows = _lines(folder / "gsm8k" / "train.jsonl")
    return (Query("gsm8k", row["question"], "chain_of_thought", OURS) for row in rows[::20])


def _bfcl(folder: Path) -> Iterator[Query]:
    for part, source in (("simple_python", "bfcl simple"), ("irrelevance", "bfcl irrelevance")):
        for row in _lines(folder / "bfcl" / f"BFCL_v4_{part}.json"):
            text = row["question"][0][0]["content"]
            offered = {tool["name"]: tool["description"] for tool in row["function"]}
            if part == "simple_python":
                yield Query(source, text, "agent", offered, tuple(offered))
            else:
                yield Query(source, text, "chain_of_thought" if _figures(text) or PROVE.search(text) else "standard", offered)


def _figures(text: str) -> int:
    """How many figures other than years a text has."""
    return sum(not re.fullmatch(r"(?:1[5-9]|20)\d\d", figure) for figure in re.findall(r"\d+(?:[.,]\d+)*", text))


def _vicuna(folder: Path) -> Iterator[Query]:
    for row in _lines(folder / "vicuna_bench" / "question.jsonl"):
        mode = "chain_of_thought" if row["category"] in ("math", "fermi") else "standard"
        yield Query("vicuna", row["turns"][0], mode, OURS)


def _arena(folder: Path) -> Iterator[Query]:
    for row in _lines(folder / "arena_hard" / "question.jsonl"):
        text = row["turns"][0]["content"]
        yield Query("arena_hard", text, _arena_mode(text, row["cluster"]), OURS)


def _arena_mode(text: str, cluster: str) -> str:
    if CODE.search(text) and not PROVE.search(text):
        return "standard"
    if (MATHS.search(cluster) and _figures(text)) or PROVE.search(text) or (_figures(text) >= 3 and ASKED.search(text)):
        return "chain_of_thought"
    return "multi_step" if PLANS.search(text[:400]) or len(LISTED.findall(text)) >= 4 else "standard"


def _clinc(folder: Path) -> Iterator[Query]:
    parts = json.loads((folder / "clinc150" / "data_full_train_val.json").read_text(encoding="utf-8"))
    for text, intent in [*parts["val"], *parts["train"]]:
        if intent in NEEDING and (intent != "calculator" or re.search(r"\d", text)):
            yield Query("clinc150 tools", text, "agent", OURS, (NEEDING[intent],))
    others = [text for text, intent in parts["val"] if intent not in NEEDING]
    for text in [*others[::4], *(text for text, _ in parts["oos_val"])]:
        yield Query("clinc150 others", text, "standard", OURS)


def _mbpp(folder: Path) -> Iterator[Query]:
    for row in _lines(folder / "mbpp" / "train.jsonl")[::2]:
        yield Query("mbpp", row["text"], "standard", OURS)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


Answer = Callable[[Query], tuple[str, bool]]
"""The mode of a query and whether a tool is needed."""


def by_head(head: ModeHead) -> Answer:
    """What the head says."""

    def answer(query: Query) -> tuple[str, bool]:
        found = head.read(query.text, tools=query.offered)
        return found.mode, found.mode == "agent"

    return answer


KEYWORDS: Mapping[str, re.Pattern[str]] = {
    "agent": re.compile(
        r"\b(?:calculate|compute|convert|what time|what date|today|current|time ?zone|how many (?:days|weeks)|"
        r"\d+ ?[-+*/x] ?\d+|square root|"
        r"percent of|times|divided by|multiply|add|subtract|read the file|open|list the files|search|find|run|"
        r"execute|get|retrieve|fetch|"
        r"book|create|play|send)\b", re.I
    ),
    "chain_of_thought": re.compile(
        r"=|\b(?:how many|how much|prove|derive|solve|step by step|probability|equation|if .* then|reasoning|total|"
        r"each|left|integral)\b", re.I
    ),
    "multi_step": re.compile(
        r"\b(?:plan|strategy|roadmap|compare .* and|and then|first .* then|proposal|outline|step-by-step guide)\b", re.I),
}  # fmt: skip
"""The baseline: what a good engineer would list in an hour."""


def by_keywords(query: Query) -> tuple[str, bool]:
    """The keyword baseline: agent where a tool is on offer that shares a word with the text, or ours and a keyword of tools."""
    text = query.text.lower()
    own = any(name in BUILT_IN for name in query.offered) and bool(KEYWORDS["agent"].search(text))
    words = set(re.findall(r"[a-z]{4,}", text))
    named = [set(re.findall(r"[a-z]{4,}", name.lower())) for name in query.offered if name not in BUILT_IN]
    if own or any(words & name for name in named):
        return "agent", True
    return next((mode for mode in ("multi_step", "chain_of_thought") if KEYWORDS[mode].search(text)), "standard"), False


@dataclass(frozen=True, slots=True)
class Score:
    """Figures of answers to queries; f1 is that of "a tool is needed"."""

    n: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    confusion: Mapping[str, Mapping[str, int]]


def score(asked: Sequence[Query], answer: Answer) -> Score:
    """Mode accuracy and tool need of an answerer."""
    found = [(query.mode, *answer(query)) for query in asked]
    wanted = [mode == "agent" for mode, _, _ in found]
    hits = sum(need and want for (_, _, need), want in zip(found, wanted, strict=True))
    precision = hits / max(1, sum(need for _, _, need in found))
    recall = hits / max(1, sum(wanted))
    confusion = {mode: Counter(guess for truth, guess, _ in found if truth == mode) for mode in MODES}
    right = sum(truth == guess for truth, guess, _ in found)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return Score(len(found), right / max(1, len(found)), precision, recall, f1, confusion)


def with_typos(text: str, share: float = 0.3) -> str:
    """The text with one slip in a share of its words: a letter swapped, dropped, doubled or replaced. Seeded by the text."""
    dice = random.Random(text)
    return re.sub(r"[A-Za-z]{3,}", lambda match: _slip(match.group(), dice) if dice.random() < share else match.group(), text)


def _slip(word: str, dice: random.Random) -> str:
    at = dice.randrange(len(word) - 1)
    kind = dice.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    letter = word[at] if kind == 2 else dice.choice("abcdefghijklmnopqrstuvwxyz")
    return word[: at + (kind == 2)] + letter + word[at + 1 :]


def calibration(asked: Sequence[Query], head: ModeHead) -> float:
    """Expected calibration error of the chosen mode's probability, ten bins of equal width."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for query in asked:
        found = head.read(query.text, tools=query.offered)
        bins.setdefault(min(9, int(found.confidence * 10)), []).append((found.confidence, found.mode == query.mode))
    gaps = (abs(sum(sure for sure, _ in rows) - sum(right for _, right in rows)) for rows in bins.values())
    return sum(gaps) / max(1, len(asked))


def latency_ms(asked: Sequence[Query], head: ModeHead) -> dict[str, float]:
    """Milliseconds of processor time of one reading, the best of three of each query: median and the 99th hundredth."""
    ordered = sorted(min(_reading_ms(query, head) for _ in range(3)) for query in asked)
    return {"p50": round(ordered[len(ordered) // 2], 3), "p99": round(ordered[int(len(ordered) * 0.99)], 3)}


def _reading_ms(query: Query, head: ModeHead) -> float:
    begin = time.thread_time()
    head.read(query.text, tools=query.offered)
    return (time.thread_time() - begin) * 1e3


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--datasets", type=Path, default=os.environ.get("POINTSMAN_DATASETS"))
    arguments.add_argument("--no-write", action="store_true", help="print only")
    arguments.add_argument("--errors", action="store_true", help="print the wrong answers on the fitted half")
    options = arguments.parse_args()
    if options.datasets is None:
        arguments.error("say where the shared data is: --datasets DIR or POINTSMAN_DATASETS")
    head, everything = ModeHead.load(), queries(Path(options.datasets))
    asked = [query for query in everything if query.held_out]
    if options.errors:
        _print_errors([query for query in everything if not query.held_out], head)
        return
    scores = _scores(everything, asked, head)
    print(harness.table(scores, ["who", "n", "mode accuracy", "tool precision", "tool recall", "tool F1"]))
    confusion = score(asked, by_head(head)).confusion
    print(f"\nheld out, rows are the truth:\n{harness.table([{'': mode, **confusion[mode]} for mode in MODES], ['', *MODES])}")
    sources = _by_source(everything, asked, head)
    print(f"\n{harness.table(sources, ['source', 'n', 'mode accuracy', 'keywords', 'tool F1', 'left out'])}")
    answer = by_head(head)
    flips = sum(answer(query)[0] != head.read(with_typos(query.text), tools=query.offered).mode for query in asked) / len(asked)
    figures = {"flip_rate": flips, "ece": calibration(asked, head), "latency_ms": latency_ms(asked, head)}
    print(f"\ntypos in 30% of the words change {flips:.1%} of the modes; ECE {figures['ece']:.1%}; ms {figures['latency_ms']}")
    if not options.no_write:
        harness.write("modes", {"scores": scores, "confusion": confusion, "sources": sources, **figures})


def _scores(everything: Sequence[Query], asked: Sequence[Query], head: ModeHead) -> list[dict[str, Any]]:
    common = Counter(query.mode for query in everything if not query.held_out).most_common(1)[0][0]
    seen = [query for query in everything if not query.held_out]
    by_hand = [query for query in asked if query.source == "by hand"]
    rows = [
        ("held out", score(asked, by_head(head))),
        ("held out: keywords", score(asked, by_keywords)),
        (f"held out: always {common}", score(asked, lambda query: (common, common == "agent"))),
        ("fitted half", score(seen, by_head(head))),
        ("by hand: fitted half", score([query for query in seen if query.source == "by hand"], by_head(head))),
        ("by hand, held out", score(by_hand, by_head(head))),
        ("by hand, held out: keywords", score(by_hand, by_keywords)),
    ]
    return [
        {"who": who, "n": found.n, "mode accuracy": found.accuracy,
         "tool precision": found.precision, "tool recall": found.recall, "tool F1": found.f1}
        for who, found in rows
    ]  # fmt: skip


def _by_source(everything: Sequence[Query], asked: Sequence[Query], head: ModeHead) -> list[dict[str, Any]]:
    from bench.train_mode_head import train

    kept = (head.temperature, head.threshold)

    rows = []
    for source in dict.fromkeys(query.source for query in everything):
        part = [query for query in asked if query.source == source]
        found = score(part, by_head(head))
        without = train([query for query in everything if query.source != source and not query.held_out], kept)
        left = score([query for query in everything if query.source == source], by_head(ModeHead.from_json(without)))
        needs = any(query.mode == "agent" for query in part)
        rows.append(
            {"source": source, "n": len(part), "mode accuracy": found.accuracy, "keywords": score(part, by_keywords).accuracy,
             "tool F1": found.f1 if needs else "-", "left out": left.accuracy}
        )  # fmt: skip
    return rows


def _print_errors(asked: Sequence[Query], head: ModeHead) -> None:
    for query in asked:
        found: ModeEvidence = head.read(query.text, tools=query.offered)
        if found.mode != query.mode:
            print(
                f"{query.source}: {query.mode} read as {found.mode} ({found.confidence:.2f}): {query.text[:140]!r} {found.features}"
            )


if __name__ == "__main__":
    main()
