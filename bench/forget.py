"""50 texts planted through every way in: is a byte of them left below the home folder after forgetting?

    python bench/forget.py [--kills 10]

Each text is a name of its own, some of them hard to find (umlauts, markup, quotes, Chinese). They come in as a user's words do: by
asking, rating, correcting, attaching, building datasets, training and exporting a tiny model, settings, crashes. Then each is
forgotten by itself with `pointsman forget`, four of them as a conversation, and every byte below home is searched, compressed files
and escapes looked through, by a search that shares no code with the product's. `--kills` times the forgetting of a home is killed
at a random moment and the next start looked at. Demanded: nothing left, and every run trained on a text told.
"""

import argparse
import gzip
import html
import importlib
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness

ROOT = Path(__file__).parent.parent
HARD = ["Zoë Größenwahn", "<b>Tag & Söhne</b>", 'Kim "the Cat" Ray', "王小芳在成都", "Naïve\u00a0Émile Ørsted", "O'Brien\\Path"]
BY_ID = "by its id"
Plant = Callable[[str], object]


def main() -> None:
    """Plant, forget, search, print, write."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=10)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        home = Path(folder) / "home"
        os.environ |= {"POINTSMAN_HOME": str(home), "POINTSMAN_OFFLINE": "1"}
        planted = plant(home, Path(folder))
        spare = Path(folder) / "spare"
        shutil.copytree(home, spare, symlinks=True)
        rows = [forgotten(home, *one) for one in planted]
        left = {row["text"]: where for row, (_, mark, _) in zip(rows, planted, strict=True) if (where := holding(home, mark))}
        print(harness.table(rows, ["way", "before", "left", "models told", "s"]), flush=True)
        held = [row["text"] for row in rows if row["before"]]
        killed = [kill(spare, home, random.Random(seed), held) for seed in range(options.kills)]
    whole = {
        "texts": len(rows),
        "files that held one": sum(row["before"] for row in rows),
        "texts with a byte left": len(left) + sum(row["left"] > 0 for row in rows),
        "kills": len(killed),
        "kills after which something was left": sum(killed),
    }
    print(harness.table([whole], list(whole)))
    harness.write("forget", {"rows": [whole], "texts": rows})
    if whole["texts with a byte left"] or any(killed):
        raise SystemExit(f"something was left: {left}")


def plant(home: Path, beside: Path) -> list[tuple[str, str, str]]:
    """(way, text, conversation to forget instead of the text, or "") of each, all planted."""
    ways = [*asked(beside), *said(), *written(home, beside), *trained(home, beside), *kept(home)]
    # any forgetting removes backups; a document is quoted in conversations after it, and a system prompt stands in all of them
    last = ("document of the library", "setting")
    ways.sort(key=lambda one: (one[0] != "backup of a migration", last.index(one[0]) if one[0] in last else -1))
    names = marks(len(ways))
    found = []
    for (way, put), mark in zip(ways, names, strict=True):
        told = put(mark)
        found.append((way, mark, str(told) if way.endswith(BY_ID) else ""))
    return found


def marks(count: int) -> list[str]:
    """So many names that stand nowhere else."""
    chance = random.Random(7)
    syllables = ["quin", "zor", "blat", "wex", "jyn", "kro", "vub", "nax", "pym", "gwe"]
    made = [" ".join("".join(chance.choices(syllables, k=3)).capitalize() for _ in range(2)) for _ in range(count)]
    return [*HARD, *made][:count]


def asked(beside: Path) -> list[tuple[str, Plant]]:
    """Through `ask`."""

    def file(mark: str) -> None:
        name = beside / "attached.txt"
        name.write_text(f"A letter to {mark}.\n" * 30, encoding="utf-8")
        run("ask", "-m", "echo", "-f", str(name), "What is in it?")

    def conversation(mark: str) -> str:
        told = json.loads(run("ask", "-m", "echo", "--json", f"My landlord {mark} keeps eleven green parrots in the cellar."))
        run("log", "correct", "last", f"Your landlord {mark} must not keep eleven green parrots in the cellar.")
        run(
            "data",
            "build",
            "-",
            "--log",
            "--format",
            "chat",
            "--out",
            str(sets(f"talk-{len(mark)}-{told['conversation'][-4:]}")),
        )
        return str(told["conversation"])

    plain: list[tuple[str, Plant]] = [
        (f"ask, hard to find {number}", lambda mark: run("ask", "-m", "echo", f"Who is {mark}?")) for number in range(1, 7)
    ]
    return [
        *plain,
        ("ask, in capitals", lambda mark: run("ask", "-m", "echo", f"WHO IS {mark.upper()}?")),
        ("ask, over two lines", lambda mark: run("ask", "-m", "echo", "Who is\n" + mark.replace(" ", "\n") + "?")),
        ("ask, system prompt", lambda mark: run("ask", "-m", "echo", "--system", f"You serve {mark}.", "Hello there")),
        ("ask, attached file", file),
        ("ask, going on", lambda mark: fresh("ask", "-m", "echo", "-c", f"And {mark}?")),
        ("ask, incognito", lambda mark: run("ask", "-m", "echo", "--incognito", f"Secretly, who is {mark}?")),
        ("ask, chain of thought", lambda mark: run("ask", "-m", "echo", "--mode", "chain_of_thought", f"Think of {mark}.")),
        ("a conversation by its id", conversation),
        ("another by its id", conversation),
        ("a third by its id", conversation),
        ("a fourth by its id", conversation),
    ]


def said() -> list[tuple[str, Plant]]:
    """Through feedback, and what the log keeps of answers."""
    from data.chat import Message, ToolCall
    from data.store import open_store

    def answer(mark: str, **how: Any) -> None:
        with open_store() as store:
            begun = store.log.begin(Message("user", "look it up"), model="echo/echo", mode="agent", config={})
            store.log.finish(begun.inference, **({"status": "complete", "text": "done"} | how))

    def partial(mark: str) -> None:
        with open_store() as store:
            begun = store.log.begin(Message("user", "go on"), model="echo/echo", mode="standard", config={})
            store.log.save_partial(begun.inference, f"I begin with {mark}")

    def branches(mark: str) -> None:
        with open_store() as store:
            begun = store.log.begin(Message("user", f"of {mark}"), model="echo/echo", mode="standard", config={})
            store.log.finish(begun.inference, status="complete", text="x")
            store.log.edit(begun.question, Message("user", "of nobody"), model="echo/echo", mode="standard", config={})
            store.log.rename(begun.conversation, f"About {mark}")

    def taught(mark: str) -> None:
        with open_store() as store:
            store.routing.teach(f"what does {mark} cost", domain="triage")

    return [
        ("rating with a comment", lambda mark: fresh("log", "rate", "last", "down", "--comment", f"ask {mark} instead")),
        ("correction", lambda mark: fresh("log", "correct", "last", f"It was {mark} all along.")),
        ("correction, superseded", lambda mark: (fresh("log", "correct", "last", mark), run("log", "correct", "last", "Nobody."))),
        ("reasoning", lambda mark: answer(mark, thinking=f"hm, {mark}")),
        ("tool call", lambda mark: answer(mark, tool_calls=(ToolCall("look", {"up": mark}),))),
        ("steps within an answer", lambda mark: answer(mark, trace=[{"kind": "step", "text": mark}])),
        ("failed answer", lambda mark: answer(mark, status="error", error=f"no such person: {mark}")),
        ("answer broken off", partial),
        ("other branch, and a title", branches),
        ("corrected route", taught),
    ]


def written(home: Path, beside: Path) -> list[tuple[str, Plant]]:
    """Through files: documents, datasets, packs, settings."""

    def document(mark: str) -> None:
        file = beside / "manual.md"
        file.write_text(f"# Manual\n\nIt begins.\n\n## By {mark}\n\n" + f"Ask {mark} for help.\n\n" * 40, encoding="utf-8")
        run("docs", "add", str(file))

    def table(mark: str, rows: int = 12) -> Path:
        file = beside / f"{abs(hash(mark))}.csv"
        lines = []
        for number in range(rows):
            who, label = mark if number % 4 == 0 else f"reader {number * 37}", "urgent" if number % 2 else "later"
            lines.append(f"the letter number {number} to {who} is about {number * 101} things of {label} kind,{label}")
        text = "".join(f"{line}\n" for line in lines)
        file.write_text(f"text,label\n{text}", encoding="utf-8")
        return file

    def copy(mark: str) -> None:
        shutil.copyfile(table(mark), sets("own.csv"))

    return [
        ("document of the library", document),
        (
            "dataset",
            lambda mark: run("data", "build", "-", "--source", str(table(mark)), "--no-redact", "--out", str(sets("rows"))),
        ),
        ("dataset, a file of the user's in the data folder", copy),
        ("domain made from a file", lambda mark: run("domains", "new", "letters", "--from", str(table(mark, 80)))),
        ("learned router", lambda mark: run("router", "train", "--data", str(table(mark, 80)))),
        ("setting", lambda mark: run("config", "set", "system", f"You help {mark}.")),
        ("routing rules", lambda mark: put(home / "config" / "rules.toml", f"# for {mark}\n")),
    ]


def trained(home: Path, beside: Path) -> list[tuple[str, Plant]]:
    """Through one training of a tiny model and its export; what each part is called is told by its way."""
    planted: dict[str, str] = {}
    ways = ["training row", "validation row", "adversarial case", "prompt of the domain"]

    def later(way: str) -> Plant:
        def put_in(mark: str) -> None:
            planted[way] = mark
            if len(planted) == len(ways):
                train(planted, beside)

        return put_in

    def why(mark: str) -> None:
        from data import exports
        from tui import lineage

        from data.store import open_store  # isort: skip

        folder, _ = next(exports.found())
        with open_store() as store:
            lineage.registered(store, folder.name, who="bench", why=f"asked for by {mark}")

    return [*((way, later(way)) for way in ways), ("why a model was registered", why)]


def train(planted: dict[str, str], beside: Path) -> None:
    """A tiny run on rows with the texts, exported."""
    exportable, packs = importlib.import_module("exportable"), importlib.import_module("packs")
    from export import exporting
    from trainer import general

    rows = [
        {"text": text, "label": label, "output": {"label": label}, "split": "validation" if at == 3 else "train"}
        for label, texts in packs.LABELS.items()
        for at, text in enumerate(texts)
    ]
    rows[0]["text"] = f"I did not pay {planted['training row']}"
    rows[3]["text"] = f"a charge by {planted['validation row']}"
    case = {"id": "c1", "text": f"{planted['adversarial case']} took it", "expect": {"label": "RESET"}, "why": "plain"}
    real = packs.pack

    def pack(name: str) -> Any:
        real(name, examples=rows, cases=[case])
        file = Path(os.environ["POINTSMAN_HOME"]) / "data" / "domains" / name / "domain.toml"
        prompt = f"You sort messages for {planted['prompt of the domain']}."
        file.write_text(file.read_text(encoding="utf-8").replace("You sort messages.", prompt), encoding="utf-8")

    some = tuple(row for row in general.rows() if row.ask)[:1]
    with patch.object(exportable, "pack", pack), patch.object(general, "rows", lambda: some):
        run_folder = exportable.trained(beside / "trained", as_gguf=True)
    target = Path(os.environ["POINTSMAN_HOME"]) / "data" / "runs" / run_folder.name
    shutil.copytree(run_folder, target)
    exportable.gates(target, passed=True)
    exporting.export(exportable.source(target), ("F16",))


def kept(home: Path) -> list[tuple[str, Plant]]:
    """Through what is left behind: crashes, killed writers, backups, exports of the log."""
    from data import paths
    from data.store import open_store, sqlite_file
    from tui import cli

    def logged(mark: str) -> None:
        from tui import app

        with app._logging_to_file():
            logging.getLogger("pointsman").warning("odd answer about %s", mark)

    def killed(mark: str) -> None:
        script = "import os, sys; from data import paths\nwith paths.replacing(paths.data_dir() / 'learn' / 'state.json') as out:\n"
        script += "    out.write(sys.argv[1].encode()); out.flush(); os._exit(9)"
        subprocess.run([sys.executable, "-c", script, mark], cwd=ROOT, check=False)

    def backup(mark: str) -> None:
        run("ask", "-m", "echo", f"{mark}?")
        with open_store() as store, store.database.outside() as connection:
            assert store.database.path is not None
            sqlite_file.back_up(connection, store.database.path, "0000")

    def crash(mark: str) -> None:
        with patch.object(paths, "log_dir", lambda: home / "log"):
            cli._crash(ValueError(f"cannot parse {mark}"))

    def parquet(mark: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": [mark, "fine"], "label": ["a", "b"]}), sets("own.parquet"))

    def exported(mark: str, *more: str) -> None:
        run("ask", "-m", "echo", f"Keep {mark} well")
        run("log", "export", *more)

    return [
        ("diagnostic log", logged),
        ("crash file", crash),
        ("temporary file of a killed writer", killed),
        ("backup of a migration", backup),
        ("Parquet file", parquet),
        ("export of the log", lambda mark: exported(mark, "-o", str(sets("log.jsonl")))),
        ("export of everything", lambda mark: exported(mark, "--everything", str(sets("mine.zip")))),
        ("compressed file", lambda mark: sets("old.csv.gz").write_bytes(gzip.compress(f"text\n{mark}\n".encode()))),
        ("cached labels", lambda mark: put(home / "cache" / "domains" / "letters" / "calibration-0.json", json.dumps([mark]))),
        ("notes beside", lambda mark: put(home / "data" / "notes.md", f"# Notes\n\n- call {mark}\n")),
        ("state of a learn", lambda mark: put(home / "data" / "learn" / "x-1" / "state.json", json.dumps({"first": mark}))),
    ]


def forgotten(home: Path, way: str, mark: str, conversation: str) -> dict[str, Any]:
    """Forget one, by its conversation where that is given; how it went."""
    before = holding(home, mark)
    began = time.monotonic()
    told = json.loads(run("forget", *([conversation] if conversation else ["--text", mark]), "--yes", "--json", codes=(0, 3)))
    seconds = round(time.monotonic() - began, 2)
    left = holding(home, mark)
    models = len(told["models"])
    return {"text": mark, "way": way, "before": len(before), "left": len(left), "models told": models, "s": seconds, "where": left}


def kill(spare: Path, home: Path, chance: random.Random, held: list[str]) -> bool:
    """Kill the forgetting of one of these texts just after its journal was written, start again; whether anything is left."""
    shutil.rmtree(home)
    shutil.copytree(spare, home, symlinks=True)
    mark = chance.choice(held)
    child = subprocess.Popen(
        [sys.executable, "-m", "tui.cli", "forget", "--text", mark, "--yes"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    journals = home / "data" / "forgetting"
    wait = chance.random() * 0.3
    while child.poll() is None and not any(journals.glob("0*.json")):
        time.sleep(0.005)
    time.sleep(wait)  # it is written down: a moment later it is killed
    child.send_signal(signal.SIGKILL)
    child.wait()
    run("log", "list")
    return bool(holding(home, mark))


def holding(home: Path, mark: str) -> list[str]:
    """The files below home that hold the text, in any of its spellings and in any archive."""
    from data.store.words import seams

    spellings = {mark, mark.upper(), mark.lower(), " ".join(mark.split()), mark.replace(" ", "\n"), seams(mark)}
    needles = set()
    for one in spellings:
        for written in (one, html.escape(one), json.dumps(one)[1:-1], json.dumps(one, ensure_ascii=False)[1:-1]):
            needles |= {written.lower().encode(code, "replace") for code in ("utf-8", "utf-16-le", "utf-32-le")}
    found = []
    for file in sorted(home.rglob("*")):
        if file.is_symlink() or not file.is_file():
            continue
        sought = {mark.lower().encode()} if file.is_relative_to(home / "cache" / "models") else needles  # a base, of 46 MB
        if any(needle in low for low in map(bytes.lower, contents(file.read_bytes())) for needle in sought):
            found.append(str(file.relative_to(home)))
    return found


def contents(raw: bytes, depth: int = 0) -> Iterator[bytes]:
    """The bytes, and those of what is packed in them."""
    yield raw
    if raw[:4] == b"PK\x03\x04" and depth < 3:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            for name in archive.namelist():
                yield from contents(archive.read(name), depth + 1)
    elif raw[:2] == b"\x1f\x8b":
        yield from contents(gzip.decompress(raw), depth + 1)
    elif raw[:4] == b"PAR1":
        import pyarrow.parquet as pq

        yield str(pq.read_table(io.BytesIO(raw)).to_pylist()).encode()


def run(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
    """What a command prints to stdout. Raises AssertionError with what it said where it failed."""
    from tui.cli import main as command

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = command(arguments)
    assert code in codes, f"{arguments}: {code}: {err.getvalue()[-600:]}"
    return out.getvalue()


def fresh(*arguments: str) -> str:
    """`run`, after another question."""
    run("ask", "-m", "echo", "Something else?")
    return run(*arguments)


def sets(name: str) -> Path:
    """A place in the folder of datasets."""
    from data import paths

    return paths.ensure(paths.data_dir() / "datasets") / name


def put(file: Path, text: str) -> None:
    """Write a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
