"""Whether the passage that answers a question is found: by words alone, by meaning alone, and by both together.

    python bench/retrieval.py [--limit 4]

The corpus is this repository's own text (README, docs, and the packages data and export with bench and tui's top), cut as
documents are cut. The questions below were written by hand, partly in other words than the text's; an answer counts as found
where one of the first `limit` chunks is of the right file and holds the words beside it. Questions that the corpus cannot
answer show how far the similarity of the best passage tells the two apart. The last table is the time of a search in 5,000
synthetic chunks. Known limits: the authors of text and questions are the same, and the corpus is one project's, in English.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np

from bench import harness
from data.config import DocumentsSettings, Settings
from data.store import Store, open_store
from export import embedded
from router.documents import retrieval
from router.documents.library import ENCODER, Documents
from router.engines import Engines

ROOT = Path(__file__).parent.parent
CORPUS = ("*.md", "docs/*.md", "bench/*.md", "bench/*.py", "data/*.py", "data/store/*.py", "export/*.py", "tui/*.py")
LEFT_OUT = ("bench/retrieval.py",)  # it holds the questions


class Asked(NamedTuple):
    """A question, the file that answers it, and words of the passage that does."""

    question: str
    file: str
    holds: str


ASKED = (
    Asked("What do I need on my machine before I can build it?", "README.md", "C/C++ compiler"),
    Asked("How do I continue my last chat from the shell?", "README.md", "goes on where the last conversation stopped"),
    Asked("Which key makes the model stop talking?", "README.md", "stops the answer and keeps what came"),
    Asked("Can I rate a message without the mouse?", "README.md", "`+` `-` rate"),
    Asked("How do I rebind the shortcut for sending?", "README.md", "tui.keymap.send"),
    Asked("Does it ever phone home?", "README.md", "Nothing leaves."),
    Asked("What happens to my words if the power goes out while it is answering?", "README.md", "Nothing is lost."),
    Asked("How quickly does the help text show up?", "README.md", "0.06 s"),
    Asked("Is it faster than the Python binding's streaming?", "README.md", "create_chat_completion"),
    Asked("Under which licence may I use this?", "README.md", "Apache-2.0"),
    Asked("Why is flash attention disabled on CPUs?", "docs/experiments.md", "Flash attention off on a processor"),
    Asked("Why is the last prompt token evaluated by itself?", "docs/experiments.md", "its last token is always computed alone"),
    Asked("What is GOMP_SPINCOUNT set to and why?", "docs/experiments.md", "GOMP_SPINCOUNT=1000"),
    Asked("Which smaller quantisations were rejected because they distort answers?", "docs/experiments.md", "IQ4_NL"),
    Asked("How much does the encoder lose with eight bits?", "docs/experiments.md", "0.9986"),
    Asked("Why was Rich's Markdown renderer dropped?", "docs/experiments.md", "Rich's Markdown renderer"),
    Asked("Where is the database file stored?", "data/store/database.py", 'FILE = "pointsman.db"'),
    Asked("How long does a writer wait for a lock before giving up?", "data/store/sqlite_file.py", "BUSY_S = 10.0"),
    Asked("Which SQLite versions have the WAL bug?", "data/store/sqlite_file.py", "WAL-reset race"),
    Asked("Is a copy made before the schema is upgraded?", "data/store/sqlite_file.py", "def back_up"),
    Asked("How do I erase a conversation so that nothing remains on disk?", "data/store/forget.py", "until no byte"),
    Asked("What does the server keep after forgetting on Postgres?", "data/store/forget.py", "administrator's"),
    Asked("How are Chinese and Japanese texts tokenised for search?", "data/store/words.py", "written without spaces"),
    Asked("How many characters does a search snippet have?", "data/store/words.py", "SNIPPET, BEFORE = 200, 60"),
    Asked("Are primary keys sortable by creation time?", "data/store/ids.py", "version 7 UUIDs"),
    Asked("How is NaN written to JSON columns?", "data/store/tables.py", "NaN and infinities become null"),
    Asked("May a row be used for training after it was cut off?", "data/store/rows.py", "Whether it may become training data"),
    Asked("What happens when somebody votes twice on the same reply?", "data/store/feedback.py", "supersedes the one before it"),
    Asked("Which exception is thrown for a prompt longer than the window?", "data/errors.py", "ContextOverflow"),
    Asked("How are escape sequences in model output defused?", "data/sanitise.py", "become visible symbols"),
    Asked("Are bidirectional override characters dangerous here?", "data/sanitise.py", "UAX #9"),
    Asked("What is the default sampling temperature?", "data/settings.py", "0 is greedy"),
    Asked("What does the environment variable for a nested option look like?", "data/config.py", "POINTSMAN_<TABLE>__<KEY>"),
    Asked("How is a file written so that a crash leaves no half of it?", "data/paths.py", "renamed over it"),
    Asked("Which directory holds settings.toml?", "data/paths.py", "def config_dir"),
    Asked("What exit code do I get after pressing Ctrl-C?", "tui/cli.py", "EXIT_INTERRUPTED = 130"),
    Asked("How big may a file be that I pipe into a question?", "tui/reading.py", "MAX_BYTES"),
    Asked("How is the remaining time of a download estimated?", "tui/output.py", "def _left"),
    Asked("How are safetensors files turned into GGUF for the sentence encoder?", "export/encoder.py", "GGUF"),
    Asked("What decides between the eight-bit and the packaged form of the small model?", "export/embedded.py", "Q8_0"),
)
ELSEWHERE = (
    "What is the capital of Australia?",
    "Write a haiku about autumn leaves",
    "How do I bake sourdough bread?",
    "Who won the football world cup in 1998?",
    "Translate good morning into Italian",
    "What are the side effects of ibuprofen?",
    "Plan a weekend in Lisbon for two",
    "Solve x squared minus 5x plus 6 equals 0",
    "What should I wear to a job interview?",
    "Tell me a joke about cats",
    "How far is the moon from the earth?",
    "Summarise the plot of Hamlet",
    "Why is the sky blue?",
    "Give me a recipe for lentil soup",
    "How do I change a bicycle tyre?",
    "What is the tax rate in Denmark?",
    "Write a birthday message for my aunt",
    "Which planets have rings?",
    "How do vaccines work?",
    "Recommend three novels by Japanese authors",
)
WAYS = ("words", "meaning", "together")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--limit", type=int, default=4, help="chunks that may be given to the model")
    limit = arguments.parse_args().limit
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as home:
        os.environ |= {"POINTSMAN_HOME": home, "POINTSMAN_OFFLINE": "1"}
        embedded.prepare(ENCODER, lambda line: print(line, file=sys.stderr))
        engines = Engines(Settings())
        embed = engines.get("llamacpp").embed
        with open_store() as store:
            documents = Documents(store, embed, DocumentsSettings())
            chunks, seconds = add_corpus(documents)
            ranks = {asked: ranked(store, embed, asked) for asked in ASKED}
            similar = [top_similarity(documents, asked.question) for asked in ASKED]
            foreign = [top_similarity(documents, question) for question in ELSEWHERE]
        with open_store("sqlite://") as store:
            speed = latency(store, embed)
        engines.close()
    rows = [
        {
            "way": way,
            f"recall@{limit}": share(ranks, way, limit),
            "recall@1": share(ranks, way, 1),
            "recall@10": share(ranks, way, 10),
        }
        for way in WAYS
    ]
    missed = [asked.question for asked in ASKED if not found(ranks[asked]["together"], limit)]
    gate = {
        "auroc": float(np.mean([[(a > b) + (a == b) / 2 for b in foreign] for a in similar])),
        "answerable": quantiles(similar),
        "elsewhere": quantiles(foreign),
    }
    print(f"{chunks} chunks, {len(ASKED)} questions, embedded in {seconds:.0f} s\n")
    print(harness.table(rows, ["way", "recall@1", f"recall@{limit}", "recall@10"]))
    print("\nnot found together:", *missed, sep="\n  ")
    print("\nsimilarity of the best passage (10 %, median, 90 %):")
    print(f"  answerable {gate['answerable']}, elsewhere {gate['elsewhere']}, AUROC {gate['auroc']:.3f}\n")
    print(harness.table([speed], list(speed)))
    payload: dict[str, Any] = {"chunks": chunks, "questions": len(ASKED), "embedding_s": seconds, "rows": rows, "missed": missed}
    print(f"\nwritten: {harness.write('retrieval', {**payload, 'similarity': gate, 'latency': speed})}")


def add_corpus(documents: Documents) -> tuple[int, float]:
    """Add this repository's text; the chunks, and the seconds it took."""
    started, chunks = time.perf_counter(), 0
    names = sorted({str(path.relative_to(ROOT)) for pattern in CORPUS for path in ROOT.glob(pattern)} - set(LEFT_OUT))
    for asked in ASKED:
        assert asked.holds in (ROOT / asked.file).read_text(encoding="utf-8"), f"{asked.file} no longer holds {asked.holds!r}"
    for name in names:
        if (ROOT / name).read_text(encoding="utf-8").strip():
            chunks += documents.add(ROOT / name, name=name).chunks
            print(f"\r{name:<50}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return chunks, time.perf_counter() - started


def ranked(store: Store, embed: Callable[..., Any], asked: Asked) -> dict[str, int | None]:
    """For each way the place (from 1) of the first chunk that answers, None where none of the candidates does."""
    vectors = retrieval.Vectors(store.documents, ENCODER)
    vectors.load()
    words = store.documents.ranked(asked.question, most=retrieval.CANDIDATES)
    meaning, _ = vectors.nearest(embed([asked.question])[0], retrieval.CANDIDATES)
    orders = {"words": words, "meaning": meaning, "together": list(retrieval.fused([words, meaning]))}
    return {way: place(store, order, asked) for way, order in orders.items()}


def place(store: Store, order: Sequence[int], asked: Asked) -> int | None:
    """The place of the first chunk that answers."""
    for number, chunk in enumerate(store.documents.chunks(order), 1):
        if chunk.name == asked.file and asked.holds in chunk.piece.text:
            return number
    return None


def found(places: dict[str, int | None] | int | None, limit: int) -> bool:
    """Whether a place is within the limit."""
    return isinstance(places, int) and places <= limit


def share(ranks: dict[Asked, dict[str, int | None]], way: str, limit: int) -> float:
    """The share of questions answered within the limit."""
    return statistics.mean(found(places[way], limit) for places in ranks.values())


def top_similarity(documents: Documents, question: str) -> float:
    """The similarity of the nearest passage."""
    return max((one.similarity for one in documents.search(question)), default=0.0)


def quantiles(values: Sequence[float]) -> list[float]:
    """The 10 % quantile, the median and the 90 % quantile."""
    return [round(float(one), 3) for one in np.quantile(values, [0.1, 0.5, 0.9])]


def latency(store: Store, embed: Callable[..., Any]) -> dict[str, Any]:
    """Milliseconds of a search in 5,000 chunks once their vectors are read, without and with embedding the question."""
    draws = np.random.default_rng(0)
    words = [
        f"{start}{end}" for start in ("ba", "ko", "ri", "tu", "me", "sol", "gra", "pin") for end in ("lo", "nter", "sk", "vy", "dd")
    ]
    text = "\n\n".join(" ".join(draws.choice(words, 60)) + f" item{n}" for n in range(5000))
    vector = draws.standard_normal(384).astype(np.float32)
    documents = Documents(
        store, lambda texts: np.repeat((vector / np.linalg.norm(vector))[None], len(texts), 0), DocumentsSettings(chunk_chars=400)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "synthetic.txt")
        path.write_text(text, encoding="utf-8")
        chunks = documents.add(path).chunks
    documents.search("warm", 4)
    alone, whole = [], []
    for n in range(100):
        question = f"what do {words[n % 40]} and {words[(n * 7 + 3) % 40]} say about item{n * 50}?"
        started = time.perf_counter()
        documents.search(question, 4)
        alone.append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
        embed([question])
        whole.append(alone[-1] + (time.perf_counter() - started) * 1000)
    p99 = {
        "p99 ms": float(np.quantile(alone, 0.99)),
        "with question p50": statistics.median(whole),
        "with question p99": float(np.quantile(whole, 0.99)),
    }
    return {"chunks": chunks, "p50 ms": statistics.median(alone), **p99}


if __name__ == "__main__":
    main()
