"""Only what passed its gates becomes champion, in one step that a crash cannot split, and the way back stays open."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from registry_support import BASE, GOOD, champion, damage, export, version
from sqlalchemy import delete, insert, select, update

from data import exports
from data.errors import InputError, ModelInvalid, ModelMissing, NotFound, StoreError
from data.store import artefacts, open_store, stages
from data.store import registry_tables as r
from data.store.versions import Evidence, Gate, Lineage


def test_a_version_becomes_champion_and_everything_is_noted(store):
    one = version(store, "first")
    assert (one.stage, one.model, one.base, one.lineage.corrections) == ("candidate", "llamacpp/first", BASE, 12)
    done = store.registry.promote("first", who="anna", why="48 rows say so")
    assert done.moved and done.passed and done.replaced is None
    assert store.registry.champion("triage").id == one.id
    events = store.registry.history("triage")
    assert [(e.action, e.from_stage, e.to_stage, e.who, e.why) for e in events] == [
        ("register", "candidate", "candidate", "tester", "a test"),
        ("promote", "candidate", "champion", "anna", "48 rows say so"),
    ]
    (decision,) = store.registry.decisions(one.id)
    assert events[-1].decision == decision.id and decision.passed
    assert {gate.name for gate in decision.gates} >= {"run", "run: accuracy", "better than the base", "files"}
    assert any(gate.name == "export: divergence of model-Q4_0.gguf" and gate.reached == 0.01 for gate in decision.gates)


def test_the_router_is_told_how_a_version_did_against_its_base(store):
    version(store, "first")
    (known,) = store.routing.evaluations()
    assert (known.model, known.base, known.domain, known.pairs, known.lower) == ("llamacpp/first", BASE, "triage", 48, 0.11)


def test_registering_the_same_files_again_changes_nothing(store):
    one = champion(store, "first")
    again = version(store, "first")
    assert (again.id, again.stage) == (one.id, "champion")
    assert len(store.registry.history()) == 2 and len(store.routing.evaluations()) == 1


def test_a_second_champion_takes_the_place_of_the_first_within_a_second(store):
    first = champion(store, "first")
    second = version(store, "second")
    began = time.perf_counter()
    done = store.registry.promote(second.id, who="anna", why="better")
    assert time.perf_counter() - began < 1
    assert (done.replaced.id, done.damaged) == (first.id, "")
    named = store.registry.aliases("triage")
    assert (named["champion"].id, named["previous"].id) == (second.id, first.id)
    assert store.registry.get("first").stage == "retired" and store.registry.verify("first").id == first.id


def test_promoting_the_champion_again_is_harmless(store):
    champion(store, "first")
    done = store.registry.promote("first", who="anna", why="again")
    assert (done.moved, done.passed, len(store.registry.history())) == (False, True, 2)


def test_each_domain_has_a_champion_of_its_own(store):
    champion(store, "first"), champion(store, "other", "fraud")
    assert {(one.domain, one.name) for one in store.registry.champions()} == {("triage", "first"), ("fraud", "other")}


@pytest.mark.parametrize(
    ("evidence", "checks", "gate"),
    [
        (Evidence(False, GOOD.gates, 48, 0.29, 0.11), None, "run"),
        (Evidence(None, GOOD.gates, 48, 0.29, 0.11), None, "run"),
        (Evidence(True, (Gate("run: ece", False, 0.2, 0.08),), 48, 0.29, 0.11), None, "run: ece"),
        (Evidence(True, GOOD.gates, 48, 0.1, -0.01), None, "better than the base"),
        (Evidence(True, GOOD.gates), None, "better than the base"),
        (GOOD, [{"name": "template", "passed": False}], "export: template"),
        (GOOD, [{"name": "template", "passed": None, "note": "no server"}], "export: verified"),
        (GOOD, [], "export: verified"),
    ],
)
def test_what_did_not_pass_its_gates_is_refused_and_the_refusal_kept(store, evidence, checks, gate):
    changes = {} if checks is None else {"checks": checks}
    version(store, "weak", evidence=evidence, **changes)
    done = store.registry.promote("weak", who="anna", why="hope")
    assert not done.moved and not done.passed
    assert gate in {one.name for one in done.decision.failed}
    assert store.registry.champions() == [] and store.registry.get("weak").stage == "candidate"
    (kept,) = store.registry.decisions("weak")
    assert not kept.passed and kept.failed == done.decision.failed


def test_failed_gates_are_passed_over_for_a_reason_that_is_kept(store):
    version(store, "weak", evidence=Evidence(False))
    assert not store.registry.promote("weak", who="anna", why="", override="  ").moved
    done = store.registry.promote("weak", who="anna", why="demo", override="for the demo on Friday")
    assert done.moved and not done.decision.passed and done.decision.override == "for the demo on Friday"
    assert "for the demo on Friday" in store.registry.explain("triage").event.why


@pytest.mark.parametrize("override", ["", "I know better"])
def test_damaged_files_are_refused_whatever_the_reason(store, override):
    champion(store, "first")
    version(store, "second")
    damage(exports.folder() / "second")
    with pytest.raises(ModelInvalid, match="was changed: sha256"):
        store.registry.promote("second", who="anna", why="", override=override)
    assert store.registry.champion("triage").name == "first"


def test_an_export_that_was_cut_removed_replaced_or_linked_is_refused(store, tmp_path):
    version(store, "second")
    place = exports.folder() / "second"
    file = place / "model-Q4_0.gguf"
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    with pytest.raises(ModelInvalid, match="bytes"):
        store.registry.promote("second", who="a", why="")
    file.unlink()
    with pytest.raises(ModelMissing, match="cannot read"):
        store.registry.promote("second", who="a", why="")
    (tmp_path / "elsewhere").write_bytes(whole)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelInvalid, match="link"):
        store.registry.promote("second", who="a", why="")
    file.unlink()
    export("second", content=b"other")
    with pytest.raises(ModelInvalid, match="replaced by another"):
        store.registry.promote(store.registry.get("second").id, who="a", why="")
    (place / exports.FILE).write_text("{")
    with pytest.raises(InputError, match=r"export\.json"):
        store.registry.promote("second", who="a", why="")
    shutil.rmtree(place)
    with pytest.raises(NotFound, match="are gone"):
        store.registry.promote("second", who="a", why="")


def test_what_is_no_sound_export_is_not_taken_in(store, tmp_path):
    with pytest.raises(NotFound):
        version_of(store, exports.folder() / "nothing")
    place = export("first")
    damage(place)
    with pytest.raises(ModelInvalid):
        version_of(store, place)
    elsewhere = shutil.copytree(export("second"), tmp_path / "second")
    with pytest.raises(InputError, match="does not lie in"):
        version_of(store, elsewhere)
    with pytest.raises(InputError, match="names no domain"):
        version_of(store, export("third", ""))
    with pytest.raises(ModelMissing, match="neither a model nor an adapter"):
        version_of(store, export("fourth", files=[], chosen=""))
    text = export("fifth")
    (text / "model-Q4_0.gguf").write_bytes(b"not a model")
    told = json.loads((text / exports.FILE).read_text())
    told["files"][0] |= {"bytes": 11, "sha256": "7d0a2cc8a1b58b1ef8b0fdcaf3d3b8b4a8b8f1e0f8a9b2f7b0c9f3c1b8f3f7d1"}
    (text / exports.FILE).write_text(json.dumps(told))
    with pytest.raises(ModelInvalid):
        version_of(store, text)
    assert store.registry.versions() == []


def version_of(store, place):
    return store.registry.register(place, lineage=Lineage(), evidence=GOOD, who="tester")


def test_an_adapter_alone_answers_attached_to_its_base(store):
    place = export("light", chosen="", checks=[{"name": "adapter", "passed": True}])
    told = json.loads((place / exports.FILE).read_text())
    told["files"][0] |= {"kind": "adapter", "form": ""}
    (place / exports.FILE).write_text(json.dumps(told))
    assert version_of(store, place).model == f"{BASE}+light"


def test_an_unknown_version_and_a_domain_without_champion_are_said_plainly(store):
    for ask in (lambda: store.registry.get("nobody"), lambda: store.registry.promote("nobody", who="a", why="")):
        with pytest.raises(NotFound, match="no version 'nobody'"):
            ask()
    with pytest.raises(NotFound, match="has no champion"):
        store.registry.champion("triage")
    with pytest.raises(NotFound, match="has no champion"):
        store.registry.rollback("triage", who="a", why="")
    with pytest.raises(NotFound, match="no version"):
        store.registry.explain("triage")


def test_rolling_back_restores_the_one_before(store):
    first, second = champion(store, "first"), champion(store, "second")
    done = store.registry.rollback("triage", who="anna", why="refuses too much")
    assert (done.champion.id, done.retired.id) == (first.id, second.id)
    assert store.registry.champion("triage").id == first.id
    last = store.registry.history("triage")[-2:]
    assert [(e.name, e.action, e.to_stage) for e in last] == [("second", "rollback", "retired"), ("first", "return", "champion")]
    explained = store.registry.explain("triage")
    assert explained.version.id == first.id and explained.decision.version == first.id


def test_rolling_back_twice_goes_two_back_and_then_says_that_there_is_no_more(store):
    for name in ("one", "two", "three"):
        champion(store, name)
    assert store.registry.rollback("triage", who="a", why="").champion.name == "two"
    assert store.registry.rollback("triage", who="a", why="").champion.name == "one"
    with pytest.raises(NotFound, match="stood before one"):
        store.registry.rollback("triage", who="a", why="")
    done = store.registry.rollback("triage", who="a", why="", to_base=True)
    assert done.champion is None and store.registry.champions() == [] and store.registry.aliases("triage") == {}


def test_what_was_taken_back_needs_a_reason_to_come_again(store):
    champion(store, "first"), champion(store, "second")
    store.registry.rollback("triage", who="anna", why="too slow")
    refused = store.registry.promote("second", who="anna", why="")
    assert [(g.name, g.note) for g in refused.decision.failed] == [("not taken back before", "taken back: too slow")]
    assert store.registry.promote("second", who="anna", why="", override="faster machine").moved


def test_a_damaged_previous_champion_is_told_and_never_restored(store):
    champion(store, "first")
    damage(exports.folder() / "first")
    version(store, "second")
    done = store.registry.promote("second", who="a", why="")
    assert done.moved and "was changed" in done.damaged
    with pytest.raises(ModelInvalid, match="was changed"):
        store.registry.rollback("triage", who="a", why="")
    assert store.registry.champion("triage").name == "second"


def test_staging_names_a_challenger_and_leaves_the_champion_alone(store):
    champion(store, "first")
    version(store, "second")
    store.registry.promote("second", who="a", why="", to="staging")
    named = store.registry.aliases("triage")
    assert (named["challenger"].name, named["champion"].name) == ("second", "first")
    with pytest.raises(InputError, match="is the champion"):
        store.registry.promote("first", who="a", why="", to="staging")
    store.registry.promote("second", who="a", why="")
    assert set(store.registry.aliases("triage")) == {"champion", "previous"}


def test_retiring_takes_nobody_out_who_answers(store):
    champion(store, "first")
    version(store, "second")
    store.registry.promote("second", who="a", why="", to="staging")
    assert store.registry.retire("second", who="a", why="old").stage == "retired"
    assert "challenger" not in store.registry.aliases("triage")
    with pytest.raises(InputError, match="is the champion"):
        store.registry.retire("first", who="a", why="")


def test_the_database_itself_allows_one_champion_and_one_canary(store):
    champion(store, "first")
    other = version(store, "second")
    with pytest.raises(StoreError), store.database.write() as connection:
        connection.execute(update(r.model_version).where(r.model_version.c.id == other.id).values(stage="champion"))
    assert [one.name for one in store.registry.champions()] == ["first"]


@pytest.mark.parametrize("table", [r.stage_event, r.gate_decision])
def test_history_and_decisions_are_only_ever_added_to(store, table):
    champion(store, "first")
    for change in (update(table).values(who="somebody else"), delete(table)):
        with pytest.raises(StoreError, match="only ever added"), store.database.write() as connection:
            connection.execute(change)
    assert {one.who for one in store.registry.history()} == {"tester"}


def test_a_champion_that_changed_while_files_were_read_is_not_overrun(store, monkeypatch):
    first, second, third = champion(store, "first"), version(store, "second"), version(store, "third")
    real, seen = artefacts.verify, []

    def slow(one):
        if one.name == "second" and not seen:
            seen.append(one)
            store.registry.promote(third.id, who="other", why="quicker")
        return real(one)

    monkeypatch.setattr(artefacts, "verify", slow)
    with pytest.raises(InputError, match="third is the champion now"):
        store.registry.promote(second.id, who="a", why="")
    assert store.registry.champion("triage").id == third.id and store.registry.get(first.id).stage == "retired"


def test_files_touched_while_they_are_read_are_refused(store, monkeypatch):
    version(store, "first")
    real = artefacts.verify

    def touched(one):
        state = real(one)
        damage(exports.folder() / "first")
        return state

    monkeypatch.setattr(artefacts, "verify", touched)
    with pytest.raises(ModelInvalid, match="touched"):
        store.registry.promote("first", who="a", why="")


def test_threads_that_promote_at_once_leave_one_champion(store):
    names = [f"v{n}" for n in range(6)]
    for name in names:
        version(store, name)
    done, faults = [], []

    def one(name):
        try:
            done.append(store.registry.promote(name, who=name, why="").version.name)
        except InputError as fault:
            faults.append(fault)

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) + len(faults) == 6 and done
    (winner,) = store.registry.champions()
    assert winner.name in done and store.registry.aliases("triage")["champion"].id == winner.id
    promoted = [one for one in store.registry.history("triage") if one.to_stage == "champion"]
    assert len(promoted) == len(done)


PROMOTER = """
import sys
from data.errors import InputError
from data.store import open_store
with open_store(sys.argv[1]) as store:
    sys.stdin.readline()
    try:
        print(store.registry.promote(sys.argv[2], who=sys.argv[2], why="race").version.name)
    except InputError as fault:
        print("refused:", fault)
"""


def test_two_processes_that_promote_at_once_leave_one_champion(url, opened):
    store = opened(url)
    champion(store, "old")
    version(store, "left"), version(store, "right")
    children = [
        subprocess.Popen([sys.executable, "-c", PROMOTER, url, name], stdin=-1, stdout=-1, stderr=-1, text=True)
        for name in ("left", "right")
    ]
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    said = [child.communicate()[0].strip() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    winners = [words for words in said if not words.startswith("refused")]
    (one,) = store.registry.champions()
    assert one.name in winners and all("was changed meanwhile" in words for words in said if words not in winners)


KENNEL = """
import os, signal, sys
from data.store import open_store

signal.signal(signal.SIGCHLD, signal.SIG_IGN)

def work():
    store = open_store(sys.argv[1])
    turn = 0
    while True:
        turn += 1
        os.write(1, b"go\\n")
        if os.getpid() % 2 and "previous" in store.registry.aliases("triage"):
            store.registry.rollback("triage", who="kennel", why=f"turn {turn}")
        names = {one.name for one in store.registry.champions()}
        other = "second" if "first" in names else "first"
        store.registry.promote(other, who="kennel", why=f"turn {turn}", override="again and again")
        os.write(1, b"promoted\\n")
        if "previous" in store.registry.aliases("triage"):
            store.registry.rollback("triage", who="kennel", why=f"turn {turn}")
            os.write(1, b"back\\n")

for line in sys.stdin:
    child = os.fork()
    if not child:
        work()
    os.write(1, f"pid {child}\\n".encode())
"""


def test_kill_9_sixty_times_leaves_exactly_one_verified_champion(url, opened):
    with open_store(url) as store:
        champion(store, "first"), champion(store, "second")
    with subprocess.Popen([sys.executable, "-c", KENNEL, url], stdin=-1, stdout=-1, text=True) as kennel:
        for run in range(60):
            _kill_one(kennel, pause_s=0.0007 * (run % 20))
            _one_champion(url)
        kennel.stdin.close()
    with open_store(url) as store:
        store.check()
        events = store.registry.history("triage")
        assert sum(one.action == "promote" for one in events) > 10
        assert sum(one.action == "rollback" for one in events) > 5


def _kill_one(kennel, pause_s):
    kennel.stdin.write("\n")
    kennel.stdin.flush()
    pid, lines = 0, 0
    while not pid or lines < 2:
        words = kennel.stdout.readline().split()
        pid, lines = (int(words[1]), lines) if words[0] == "pid" else (pid, lines + 1)
    time.sleep(pause_s)
    os.kill(pid, signal.SIGKILL)
    while _runs(pid):
        time.sleep(0.001)


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _one_champion(url):
    with open_store(url) as store, store.database.read() as connection:
        found = list(connection.execute(select(r.model_version.c.id).where(r.model_version.c.stage == "champion")).scalars())
        named = connection.execute(select(r.alias.c.version_id).where(r.alias.c.name == "champion")).scalars().all()
        last = [one for one in store.registry.history("triage") if one.to_stage == "champion"][-1]
        assert found == list(named) == [last.version]
        store.registry.verify(found[0])


def test_explaining_a_champion_goes_down_to_the_corrections(store):
    champion(store, "first"), champion(store, "second")
    found = store.registry.explain("triage")
    assert (found.version.name, found.previous.name, found.event.why) == ("second", "first", "better")
    assert (found.version.lineage.rows, found.version.lineage.corrections) == (150, 12)
    assert found.decision.passed and found.decision.champion == store.registry.get("first").id
    assert store.registry.explain("first").event.action == "replace"


def test_notices_are_shown_once(store):
    with store.database.write() as connection:
        stages.tell(connection, "triage", "something happened")
    assert [one.text for one in store.registry.notices(seen=False)] == ["something happened"]
    assert [one.text for one in store.registry.notices()] == ["something happened"]
    assert store.registry.notices() == []


def test_a_damaged_row_of_the_registry_is_named(store):
    one = version(store, "first")
    with store.database.write() as connection:
        connection.execute(update(r.model_version).values(lineage={"nonsense": 1}))
    with pytest.raises(StoreError, match="lineage in the registry is damaged"):
        store.registry.get(one.id)
    with pytest.raises(StoreError), store.database.write() as connection:
        connection.execute(insert(r.alias).values(domain="x", name="champion", version_id="f" * 32, updated_at=one.at))
