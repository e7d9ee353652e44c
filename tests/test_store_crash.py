"""A process that dies loses nothing it was told is safe, and the next one marks what was left; many may write at once."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from store_support import ask

from data import paths
from data.errors import StoreDamaged
from data.store import open_store, recovery, tables
from data.store.writer import Writer, life, this_process

HERE = this_process()

KENNEL = """
import os, signal, sys
from data.chat import Message
from data.store import open_store

signal.signal(signal.SIGCHLD, signal.SIG_IGN)

def work():
    store = open_store()
    n = 0
    while True:
        n += 1
        begun = store.log.begin(Message("user", f"question {n}"), model="echo/echo", mode="standard", config={})
        os.write(1, f"begun {begun.inference}\\n".encode())
        for part in range(3):
            store.log.save_partial(begun.inference, "word " * (part + 1))
            os.write(1, f"partial {begun.inference} {part + 1}\\n".encode())
        store.log.finish(begun.inference, status="complete", text="word " * 4)
        os.write(1, f"complete {begun.inference}\\n".encode())
        store.feedback.rate(begun.inference, 1)
        os.write(1, f"rated {begun.inference}\\n".encode())

for line in sys.stdin:
    child = os.fork()
    if not child:
        work()
    os.write(1, f"pid {child}\\n".encode())
"""


def test_kill_9_twenty_times_loses_nothing_that_was_acknowledged(home):
    open_store().close()
    promised: dict[str, list[str]] = {}
    with subprocess.Popen([sys.executable, "-c", KENNEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as kennel:
        for run in range(20):
            kennel.stdin.write("\n")
            kennel.stdin.flush()
            pid, lines = 0, 0
            while not pid or lines < 3 + run:
                what, *rest = kennel.stdout.readline().split()
                if what == "pid":
                    pid = int(rest[0])
                else:
                    promised.setdefault(rest[0], []).append(" ".join([what, *rest[1:]]))
                    lines += 1
            os.kill(pid, signal.SIGKILL)
            while _runs(pid):
                time.sleep(0.001)
            _after_a_kill(promised)
        kennel.stdin.close()
    with open_store() as store:
        store.check()
        assert {store.log.inference(key).status for key in promised} <= {"complete", "interrupted"}


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _after_a_kill(promised):
    with open_store() as store:
        for key, promises in promised.items():
            answer = store.log.inference(key)
            text = store.log.turn(answer.turn).message.content
            assert store.log.turns(answer.conversation)[0].message.content.startswith("question")
            if "complete" in promises:
                assert (answer.status, text) == ("complete", "word " * 4)
            else:
                assert answer.status in ("complete", "interrupted")
                assert text.count("word ") >= sum(promise.startswith("partial") for promise in promises)
            if "rated" in promises:
                assert len(store.feedback.of(key)) == 1


def test_what_a_crash_left_is_interrupted_searchable_and_never_trained_on(url, opened):
    store = opened(url)
    begun = ask(store, reply=None)
    store.log.save_partial(begun.inference, "partial symphony", "half a thought")
    pending = ask(store, reply=None)
    _written_by(store, replace(HERE, pid=2**22 + 5))
    after = opened(url)
    turn = after.log.turn(begun.answer)
    assert (turn.inference.status, turn.inference.usage.finish, turn.message.content) == (
        "interrupted",
        "interrupted",
        "partial symphony",
    )
    assert turn.inference.error == recovery.LEFT and turn.inference.finished is not None
    assert after.log.inference(pending.inference).status == "interrupted"
    assert [hit.turn for hit in after.search("symphony")] == [begun.answer]
    assert list(after.log.export(only_trainable=True)) == []


def test_an_answer_that_another_window_is_writing_is_left_alone(url, opened):
    store = opened(url)
    begun = ask(store, reply=None)
    store.log.save_partial(begun.inference, "so far")
    assert opened(url).log.inference(begun.inference).status == "streaming"
    store.log.finish(begun.inference, status="complete", text="so far so good")
    assert store.log.inference(begun.inference).status == "complete"


def test_an_answer_taken_for_dead_can_still_end(store):
    begun = ask(store, reply=None)
    store.log.save_partial(begun.inference, "so far")
    assert recovery.recover(store.database, replace(HERE, boot="later")) == 1
    store.log.save_partial(begun.inference, "so far so")
    store.log.finish(begun.inference, status="complete", text="so far so good")
    turn = store.log.turn(begun.answer)
    assert (turn.inference.status, turn.message.content) == ("complete", "so far so good")
    assert [hit.snippet for hit in store.search("far")] == ["so «far» so good"]


def test_a_writer_elsewhere_is_given_an_hour(store):
    begun = ask(store, reply=None)
    _written_by(store, replace(HERE, host="another machine"))
    now = datetime.now(UTC)
    assert recovery.recover(store.database, HERE, now + timedelta(minutes=50)) == 0
    assert recovery.recover(store.database, HERE, now + timedelta(minutes=70)) == 1
    assert recovery.recover(store.database, HERE, now + timedelta(minutes=90)) == 0
    assert store.log.inference(begun.inference).status == "interrupted"


def test_after_the_machine_went_down_the_pages_are_checked_first(file_store, monkeypatch):
    begun = ask(file_store, reply=None)
    checked = []
    monkeypatch.setattr(file_store.database, "check", lambda: checked.append(file_store.log.inference(begun.inference).status))
    assert recovery.recover(file_store.database, replace(HERE, boot="later")) == 1
    assert recovery.recover(file_store.database, replace(HERE, boot="later")) == 0
    assert checked == ["pending"]


def test_a_log_whose_disk_is_full_opens_and_is_tidied_up_later(home, opened):
    store = opened("")
    begun = ask(store, reply=None)
    _written_by(store, replace(HERE, pid=2**22 + 5))
    paths.data_dir().joinpath("pointsman.db").chmod(0o600)
    with store.database.outside() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
        raw = connection.connection.driver_connection
    assert recovery.recover(store.database) == 0
    assert store.log.inference(begun.inference).status == "pending"
    raw.execute("PRAGMA query_only=OFF")
    assert recovery.recover(store.database) == 1


@pytest.mark.parametrize("writer", ["nobody", "", "a\tb\tc\td\te", "\t\t\t-1\t"])
def test_a_row_that_names_no_writer_is_given_an_hour_too(store, writer):
    ask(store, reply=None)
    _written_by(store, writer)
    assert recovery.recover(store.database) == 0
    assert recovery.recover(store.database, HERE, datetime.now(UTC) + timedelta(hours=2)) == 1


def test_a_process_is_known_by_its_start_and_not_by_its_number_alone():
    with pytest.raises(StoreDamaged, match="names no process"):
        Writer.parse("nobody")
    assert Writer.parse(str(HERE)) == HERE and life(HERE, HERE) == "alive"
    assert life(replace(HERE, started="1"), HERE) == "dead"
    assert life(replace(HERE, pid=2**22 + 5), HERE) == "dead"
    assert life(replace(HERE, pid=2**63), HERE) == "dead"
    assert life(replace(HERE, boot="earlier"), HERE) == "rebooted"
    assert life(replace(HERE, host="elsewhere"), HERE) == "unknown"
    assert life(replace(HERE, space="pid:[1]"), HERE) == "unknown"


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="this system has no /proc, which tells a zombie from a process")
def test_a_killed_process_is_dead_before_its_parent_has_noticed():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        stat = f"/proc/{child.pid}/stat"
        with open(stat) as file:
            started = file.read().rpartition(")")[2].split()[19]
        writer = replace(HERE, pid=child.pid, started=started)
        assert life(writer, HERE) == "alive"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert life(writer, HERE) == "dead"


WRITER = """
import sys
from data.chat import Message
from data.store import open_store
sys.stdin.readline()
with open_store() as store:
    for n in range(25):
        begun = store.log.begin(Message("user", f"{sys.argv[1]} {n}"), model="echo/echo", mode="standard", config={})
        store.log.save_partial(begun.inference, "part")
        store.log.finish(begun.inference, status="complete", text="whole")
        store.feedback.rate(begun.inference, 1, key=f"shared {n}")
        store.log.turns(begun.conversation)
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_four_processes_that_start_at_once_all_write_everything(home, mode):
    script = WRITER if mode == "delete" else f"import data.store.sqlite_file as f; f.journal_mode = lambda: 'wal'\n{WRITER}"
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(n)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate()[1] for child in children] == [""] * 4
    assert [child.returncode for child in children] == [0] * 4
    with open_store() as store:
        assert len(store.log.conversations(limit=1000)) == 100
        assert {store.log.inference(row["messages"][1]["inference"]).status for row in store.log.export()} == {"complete"}
        store.check()
    connection = sqlite3.connect(paths.data_dir() / "pointsman.db")
    assert connection.execute("SELECT count(*), count(DISTINCT dedupe_key) FROM feedback").fetchone() == (25, 25)
    connection.close()


def _written_by(store, writer):
    with store.database.write() as connection:
        connection.execute(update(tables.inference).values(writer=str(writer)))
