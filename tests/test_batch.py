"""The file of a long batch: whole at the end, gone on with after a kill, no row lost or twice."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.errors import InputError
from tui.batch import Batch

JOB = {"input": "x", "model": "m"}
ROOT = Path(__file__).parent.parent
WORK = """
import sys, time
from pathlib import Path
from tui.batch import Batch
with Batch(Path(sys.argv[1]), {"input": "x", "model": "m"}) as batch:
    print(batch.done, flush=True)
    for number in range(batch.done, 400):
        batch.add({"row": number, "text": "word " * (number % 50)})
        time.sleep(0.0005)
    batch.finish(lambda row: row)
"""


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_become_the_file_at_the_end(tmp_path):
    out = tmp_path / "out.jsonl"
    with Batch(out, JOB) as batch:
        for number in range(3):
            batch.add({"row": number, "text": "ünï\u2028code"})
        assert not out.exists()
        batch.finish(lambda row: row)
    assert [row["row"] for row in map(json.loads, out.read_text().strip().split("\n"))] == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_row_that_was_cut_off_is_made_again(tmp_path):
    out = tmp_path / "out.jsonl"
    with Batch(out, JOB) as batch:
        batch.add({"row": 0})
        batch.add({"row": 1})
    part = tmp_path / "out.jsonl.part"
    part.write_bytes(part.read_bytes()[:-4])
    with Batch(out, JOB) as batch:
        assert batch.done == 1
        batch.add({"row": 1})
        batch.finish(lambda row: row)
    assert read(out) == [{"row": 0}, {"row": 1}]


def test_killed_runs_lose_and_repeat_nothing(tmp_path):
    out = tmp_path / "out.jsonl"
    chance = random.Random(7)
    kills = 0
    for _ in range(60):
        child = subprocess.Popen([sys.executable, "-c", WORK, str(out)], cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(chance.uniform(0.005, 0.08))
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.wait()
        child.stdout.close()
        if out.exists():
            break
        time.sleep(0.001)
    assert [row["row"] for row in read(out)] == list(range(400)) and kills > 2


def test_another_job_is_not_gone_on_with(tmp_path):
    out = tmp_path / "out.jsonl"
    with Batch(out, JOB) as batch:
        batch.add({"row": 0})
    with pytest.raises(InputError, match="another job"):
        Batch(out, {"input": "y"})
    with Batch(out, {"input": "y"}, force=True) as batch:
        assert batch.done == 0


def test_a_second_run_at_once_is_refused(tmp_path):
    with Batch(tmp_path / "out.jsonl", JOB), pytest.raises(InputError, match="another run"):
        Batch(tmp_path / "out.jsonl", JOB)


@pytest.mark.parametrize(("name", "said"), [("out.txt", "neither"), ("there.csv", "exists")])
def test_bad_names_are_refused(tmp_path, name, said):
    (tmp_path / "there.csv").write_text("x")
    with pytest.raises(InputError, match=said):
        Batch(tmp_path / name, JOB)


def test_a_spreadsheet_runs_nothing_of_a_csv(tmp_path):
    out = tmp_path / "out.csv"
    with Batch(out, JOB) as batch:
        batch.add({"text": '=HYPERLINK("http://x.test")', "n": -1, "deep": {"a": [1]}, "none": None})
        batch.add({"text": "plain, with comma\nand line"})
        batch.finish(lambda row: row)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"text": '\'=HYPERLINK("http://x.test")', "n": "-1", "deep": '{"a": [1]}', "none": ""}
    assert rows[1]["text"] == "plain, with comma\nand line" and rows[1]["n"] == ""
