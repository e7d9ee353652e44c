"""`pointsman data`: datasets from the command line, as a user sees it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ROOT, Ran, in_terminal, run, spawn
from dataset_packs import read_rows, scam_pack, write_rows

from data import paths
from data.datasets import manifest

LINES = [
    f"{index} {'buy a gift card' if index % 2 else 'see you'} {chr(97 + index % 26) * 8} {index * 7919}" for index in range(40)
]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    file = tmp_path / "mails.csv"
    file.write_text("text,label\n" + "".join(f"{line},{'scam' if n % 2 else 'legitimate'}\n" for n, line in enumerate(LINES)))
    return file


@pytest.fixture
def pack(home: Path) -> str:
    return scam_pack(paths.data_dir() / "domains").name


def build(*arguments: str, out: Path) -> Ran:
    return run("data", "build", *arguments, "--out", str(out), "--no-redact")


def test_a_dataset_is_built_checked_and_described(tmp_path: Path, csv: Path, pack: str) -> None:
    out = tmp_path / "set"
    ran = run("data", "build", pack, "--source", str(csv), "--out", str(out), "--chains", "knowledge-base", "--licence", "CC0-1.0")
    assert ran.code == 0, ran.err
    assert f"{out} is ready" in ran.out
    assert "data build: reading mails.csv" in ran.err
    rows = read_rows(out / "train.jsonl")
    assert all(row["reasoning_source"] == "knowledge base" for row in rows)
    assert rows[0]["origin"]["licence"] == "CC0-1.0"
    checked = run("data", "check", str(out))
    assert (checked.code, checked.out) == (0, "everything is as it should be\n")
    assert "kept" in run("data", "stats", str(out)).out


def test_json_is_one_value_the_manifest(tmp_path: Path, csv: Path) -> None:
    ran = build("-", "--source", str(csv), "--json", out=tmp_path / "set")
    told = json.loads(ran.out)
    assert ran.out.count("\n") == 1
    assert told["counts"]["read"] == 40
    assert told["sha256"] == manifest.digest(tmp_path / "set")
    assert told["domain"] == ""
    assert "note: personal data and secrets were not redacted" in ran.err
    stats = json.loads(run("data", "stats", str(tmp_path / "set"), "--json").out)
    assert stats["counts"] == told["counts"]


def test_what_was_changed_afterwards_fails_the_check(tmp_path: Path, csv: Path) -> None:
    build("none", "--source", str(csv), out=tmp_path / "set")
    (tmp_path / "set" / "train.jsonl").write_text("")
    ran = run("data", "check", str(tmp_path / "set"), "--json")
    assert ran.code == 3
    told = json.loads(ran.out)
    assert told["passed"] is False
    assert any(fault.startswith("train.jsonl: 0 bytes") for fault in told["faults"])
    assert run("data", "check", str(tmp_path / "set")).code == 3


def test_a_bare_file_is_judged_row_by_row(tmp_path: Path, pack: str) -> None:
    file = write_rows(
        tmp_path / "rows.jsonl",
        [{"text": "one", "label": "scam"}, {"text": "two", "label": "lottery"}, {"text": "  ", "label": "scam"}],
    )
    with file.open("a") as opened:
        opened.write("{broken\n")
    ran = run("data", "check", str(file), "--domain", pack)
    assert ran.code == 3
    assert "rows.jsonl:2: unknown label 'lottery'" in ran.err
    assert "rows.jsonl:4: " in ran.err
    assert ran.out == "3 faults\n"
    told = json.loads(run("data", "check", str(file), "--json").out)
    assert told["rows"] == 2
    assert sum(told["refused"].values()) == 2
    fine = write_rows(tmp_path / "fine.jsonl", [{"text": "one", "label": "scam"}])
    assert run("data", "check", str(fine)).code == 0


def test_stats_of_a_file(csv: Path) -> None:
    ran = run("data", "stats", str(csv))
    assert ran.code == 0
    assert "labels: scam: 20" in ran.out
    told = json.loads(run("data", "stats", str(csv), "--json").out)
    assert told["labels"] == {"legitimate": 20, "scam": 20}
    assert told["characters"]["1"] >= told["characters"]["0"] > 0


def test_an_import_is_read_back_as_the_same_rows(tmp_path: Path, csv: Path) -> None:
    out = tmp_path / "rows.jsonl"
    told = json.loads(run("data", "import", str(csv), "--out", str(out), "--json").out)
    assert told["rows"] == 40
    rows = read_rows(out)
    assert [row["text"] for row in rows] == LINES
    run("data", "import", str(csv), "--out", str(out)).refused("there already", "--force")
    again = tmp_path / "again.jsonl"
    assert run("data", "import", str(out), "--out", str(again)).code == 0
    assert read_rows(again) == rows
    assert run("data", "import", str(csv), "--out", str(out), "--force").code == 0


def test_an_import_without_rows_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("{broken\n")
    ran = run("data", "import", str(tmp_path / "empty.jsonl"), "--out", str(tmp_path / "out.jsonl"))
    assert ran.code == 1
    assert "empty.jsonl holds no row" in ran.err
    assert not (tmp_path / "out.jsonl").exists()


def test_columns_of_other_names(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a,b\n" + "".join(f"{line},yes\n" for line in LINES))
    ran = build("-", "--source", str(file), "--text-column", "a", "--label-column", "b", "--json", out=tmp_path / "set")
    assert json.loads(ran.out)["counts"]["by_label"]["yes"]


def test_formats_are_listed() -> None:
    assert "chain_of_thought" in run("data", "formats").out
    assert json.loads(run("data", "formats", "--json").out)["preference"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("build", "-"), 2, "--out"),
        (("build", "-", "--out", "X"), 2, "--source or --log"),
        (("build", "-", "--out", "X", "--source", "CSV", "--split", "a,b"), 2, "--split"),
        (("build", "-", "--out", "X", "--source", "CSV", "--chains", "magic"), 2, "--chains"),
        (("build", "-", "--out", "X", "--source", "CSV", "--rename", "a="), 2, "--rename"),
        (("build", "-", "--out", "X", "--source", "CSV", "--chains", "teacher"), 2, "--chains"),
        (("build", "-", "--out", "X", "--source", "CSV", "--chains", "knowledge-base"), 1, "need a domain"),
        (("build", "-", "--out", "X", "--source", "CSV", "--format", "alpaca"), 1, "chain_of_thought"),
        (("build", "nowhere", "--out", "X", "--source", "CSV"), 1, "no domain pack"),
        (("build", "-", "--out", "X", "--source", "missing.csv"), 1, "missing.csv"),
        (("build", "-", "--out", "X", "--source", "CSV", "--tokenizer", "echo"), 1, "counts no tokens"),
        (("check", "missing"), 2, "missing"),
    ],
)
def test_wrong_words_are_one_line_and_leave_nothing(
    tmp_path: Path, csv: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    given = [str(tmp_path / "set") if one == "X" else str(csv) if one == "CSV" else one for one in arguments]
    ran = run("data", *given)
    assert ran.code == code, ran
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "set").exists()


def test_a_deny_list_keeps_names_out(tmp_path: Path, csv: Path) -> None:
    deny = tmp_path / "deny.txt"
    deny.write_text("# names\naaaaaaaa\n\n")
    ran = run("data", "build", "-", "--source", str(csv), "--deny", str(deny), "--out", str(tmp_path / "set"), "--json")
    assert json.loads(ran.out)["options"]["deny"]["words"] == 1
    assert "aaaaaaaa" not in "".join(file.read_text() for file in (tmp_path / "set").iterdir())


def test_a_teacher_of_an_engine_is_asked_and_named(tmp_path: Path, csv: Path, pack: str) -> None:
    ran = build(pack, "--source", str(csv), "--chains", "teacher:echo/echo", "--json", out=tmp_path / "set")
    told = json.loads(ran.out)
    assert told["options"]["teacher"] == "echo/echo"
    assert sum(told["chains"]["by_source"].values()) == told["counts"]["kept"]


def test_tokens_are_counted_by_the_embedded_model(tmp_path: Path, csv: Path, embedded_gguf: Path) -> None:
    arguments = ("-", "--source", str(csv), "--tokenizer", str(embedded_gguf), "--max-tokens", "30", "--json")
    told = json.loads(build(*arguments, out=tmp_path / "set").out)
    lengths = {one["unit"]: one["quantiles"] for one in told["lengths"]}
    assert 5 < lengths["tokens"]["0.5"] < lengths["characters"]["0.5"]
    assert told["options"]["tokenizer"] == f"llamacpp/{embedded_gguf.name}"
    assert str(embedded_gguf.parent) not in (tmp_path / "set" / "manifest.json").read_text()


def test_a_missing_library_says_what_to_install(tmp_path: Path, csv: Path) -> None:
    script = "import sys; sys.modules['datasketch'] = None; from tui.cli import main; sys.exit(main())"
    ran = spawn("data", "build", "-", "--source", str(csv), "--out", str(tmp_path / "set"), "--no-redact", script=script)
    assert ran.code == 1
    assert "pip install 'pointsman[data]'" in ran.err
    assert not (tmp_path / "set").exists()


def test_the_log_is_a_source(tmp_path: Path) -> None:
    assert run("ask", "-m", "echo", "what is a monad, please?").code == 0
    assert run("log", "correct", "last", "A monoid in the category of endofunctors.").code == 0
    ran = build("-", "--log", "--format", "preference", "--json", out=tmp_path / "set")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["counts"]["by_shape"] == {"correction": 1}


def test_ctrl_c_leaves_nothing_half_made(tmp_path: Path) -> None:
    big = tmp_path / "big.jsonl"
    with big.open("w") as file:
        file.writelines(
            json.dumps({"text": f"{number} " + "word " * 120 + str(number * 7919), "label": "x"}) + "\n" for number in range(60_000)
        )
    arguments = ["data", "build", "-", "--source", str(big), "--out", str(tmp_path / "set"), "--no-redact"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tui.cli", *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stderr is not None
    assert "reading" in process.stderr.readline()
    while not (tmp_path / ".set.building" / "rows.jsonl").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert sorted(file.name for file in tmp_path.iterdir()) == ["big.jsonl"]


def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    file = write_rows(
        tmp_path / "rows.jsonl", [{"text": f"{number} " + f"w{number} " * 100, "label": "x"} for number in range(3000)]
    )
    code, sent = in_terminal("data", "build", "-", "--source", str(file), "--out", str(tmp_path / "set"), "--no-redact")
    assert code == 0
    assert "data build  █" in sent or "░" in sent
    assert "is ready" in sent
