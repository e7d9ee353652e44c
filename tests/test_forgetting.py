"""Forgetting everywhere: no byte of it is left below the home folder, whoever was trained on it is told, a crash is finished."""

import gzip
import json
import shutil
import sqlite3
import struct
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from forgettable import dataset, digest, exported, holding, others, run, said
from registry_support import GOOD, export
from store_support import ask

from data import exports, paths
from data.chat import Message
from data.datasets import manifest as datasets
from data.errors import InputError, NotFound
from data.forgetting import course, done, forget, journal, pending
from data.forgetting.wanted import Wanted, folded
from data.store import open_store
from data.store.chunks import Piece
from data.store.documents import Source
from data.store.versions import Lineage
from trainer import manifest as runs

MARK = "Quetzalcoatlus Northropi"


def register(store, folder: Path, of: Path):
    return store.registry.register(folder, lineage=Lineage(of.name, "1a2b3c4d"), evidence=GOOD, who="tester", why="a test")


# What counts as holding it


@pytest.mark.parametrize(
    "text",
    [
        "of Quetzalcoatlus Northropi we know",
        "QUETZALCOATLUS   NORTHROPI",
        "quetzalcoatlus\n northropi",
        "Quetzalcoatlus\u00a0Northropi",
        "Quetzal\u00adcoatlus North\u200bropi",
        "\uff31uetzalcoatlus northropi",
        "https://example.org/?q=quetzalcoatlus+northropi",
        "https://example.org/quetzalcoatlus%20northropi",
    ],
)
def test_a_text_is_found_however_it_is_written(text):
    assert Wanted(MARK).found(text)
    assert not Wanted(MARK).found(Wanted(MARK).cleared(text))


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("Größe", json.dumps("die GRÖSSE")),
        ("Größe", json.dumps(json.dumps("eine größe"))),
        ("a < b & c", "<td>a &lt; b &amp; c</td>"),
        ("Ünal's", "&#220;nal's"),
        ('say "hi"', json.dumps({"text": 'I say "hi" to you'})),
        ("王芳", "我叫王芳。"),
    ],
)
def test_a_text_is_found_through_escapes(term, text):
    assert Wanted(term).maybe(text)


def test_other_words_and_short_terms_are_no_find():
    assert not Wanted(MARK).found("Quetzalcoatlus, said Northropi")
    assert folded("A\u00a0 b") == "a b"
    for term in ("a", "of"):
        with pytest.raises(InputError, match="too short"):
            Wanted(term)


def test_what_stands_in_its_place_never_holds_it():
    for term in ("forgotten", "[...]", "[forgotten]"):
        wanted = Wanted(term)
        assert not wanted.found(wanted.cleared(f"was {term} long ago"))


def test_what_was_said_is_found_cut_off_and_changed_but_not_by_what_everybody_says():
    text = "My neighbour at number seven keeps eleven parrots in his garage, and they sing all night long."
    polite = "I am sorry, but as a small model I cannot help you with that question today."
    wanted = Wanted("", said=[text, polite], others=lambda: [f"{polite} Ask again!"])
    assert wanted.found(text.upper())
    assert wanted.found("number seven keeps eleven parrots in his garage, and <PERSON> sings")
    assert wanted.found("My neighbour at number seven kee…")
    assert not wanted.found("My neighbour at number nine keeps a dog")
    assert not wanted.found(polite)


def test_a_conversation_of_short_answers_takes_nothing_else_with_it(home, file_store):
    begun = ask(file_store, "Who is Antidisestablishmentarian?", "Antidisestablishmentarian")
    kept = {
        write(home / "data" / "d" / name, content)
        for name, content in {
            "t.csv": "text,label\nfine,a\nalso fine,b\n",
            "t.jsonl": '{"text": "fine"}\n',
            "t.md": "# Fine\n",
            "t.html": "<p>fine</p>",
            "t.toml": 'a = "fine"\n',
            "t.json": '["fine", "b"]',
            "t.csv.gz": gzip.compress(b"fine"),
        }.items()
    }
    exact = write(home / "data" / "e" / "t.csv", "text,label\nAntidisestablishmentarian,a\nfine,b\n")
    before = {file: digest(file) for file in kept}
    report = forget(file_store, conversations=[begun.conversation])
    assert {file: digest(file) for file in kept} == before
    assert [one.path for one in report.files] == [exact] and exact.read_text() == "text,label\nfine,b\n"


# Files


def write(path: Path, content: str | bytes) -> Path:
    paths.ensure(path.parent)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_go_as_a_whole_and_everything_else_stays_to_the_letter(home, file_store):
    table = write(home / "data" / "d" / "t.csv", f'text,label\r\n"one, ""{MARK}""\nand more",a\r\n"two, 2",b\r\n')
    lines = write(home / "data" / "d" / "t.jsonl", json.dumps({"text": MARK}) + "\n" + '{"b":1,  "a":"x"}\n')
    tabs = write(home / "data" / "d" / "t.tsv", f"text\tlabel\n{MARK}\ta\nfine\tb\n")
    report = forget(file_store, term=MARK)
    assert table.read_bytes() == b'text,label\r\n"two, 2",b\r\n'
    assert lines.read_text() == '{"b":1,  "a":"x"}\n'
    assert tabs.read_text() == "text\tlabel\nfine\tb\n"
    assert {one.how for one in report.files} == {"rows"} and report.left == ()


def test_texts_are_cleared_where_rows_must_stay(home, file_store):
    settings = write(home / "config" / "settings.toml", f"# for {MARK}\nsystem = '''You serve\n{MARK}'''\nmodel = \"auto\"\n")
    notes = write(home / "data" / "notes.md", f"before\n{MARK} here\nQuetzalcoatlus\nNorthropi\nafter\n")
    value = write(home / "data" / "v.json", json.dumps({"n": [1, 2.5], MARK: {"t": f"the {MARK}", "k": None}}, indent=2))
    page = write(home / "data" / "p.html", f'<p title="{MARK}">x &amp; {MARK}</p><b>fine</b>')
    assert forget(file_store, term=MARK).left == ()
    assert 'model = "auto"' in settings.read_text() and "You serve [forgotten]" in settings.read_text()
    assert notes.read_text() == "before\n[forgotten] here\n[forgotten]\n[forgotten]\nafter\n"
    assert json.loads(value.read_text()) == {"n": [1, 2.5], "[forgotten]": {"t": "the [forgotten]", "k": None}}
    assert page.read_text() == '<p title="[forgotten]">x &amp; [forgotten]</p><b>fine</b>'
    assert holding(home, "northropi") == []


def test_a_number_that_is_the_term_goes_and_one_that_merely_has_it_stays(home, file_store):
    value = write(home / "data" / "v.json", '{"phone": 4917612345, "n": 0.4917612345, "t": "call 4917612345"}')
    torn = write(home / "data" / "runs" / "r" / "state.json", '{"text": "4917612345", "and\n')
    settings = write(home / "config" / "x.toml", "a = 4917612345\n4917612345 = 'x'\nb = 1\n")
    assert forget(file_store, term="4917612345").left == ()
    assert json.loads(value.read_text()) == {"phone": "[forgotten]", "n": 0.4917612345, "t": "call [forgotten]"}
    assert torn.read_text() == '{"text": "[forgotten]", "and\n'
    assert tomllib.loads(settings.read_text()) == {"a": "[forgotten]", "[forgotten]": "x", "b": 1}


def test_what_is_inside_archives_caches_and_leftovers_goes(home, file_store):
    archive = home / "data" / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("deep/inner.txt.gz", gzip.compress(f"the {MARK}".encode()))
    cached = write(home / "cache" / "domains" / "x" / "calibration-1.json", json.dumps({"labels": [MARK]}))
    labels = home / "cache" / "domains" / "x" / "encoder-1.npz"
    np.savez(labels, classes=np.array([MARK, "other"]), weights=np.zeros(3))
    torn = write(home / "data" / "learn" / ".state.json.abcd1234", f'{{"text": "{MARK}')
    kept = home / "cache" / "domains" / "y" / "encoder-2.npz"
    paths.ensure(kept.parent)
    np.savez(kept, classes=np.array(["a"]))
    assert forget(file_store, term=MARK).left == ()
    assert [one.exists() for one in (archive, cached, labels, torn, kept)] == [False, False, False, False, True]


def test_parquet_loses_its_rows(home, file_store):
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    file = home / "data" / "d" / "t.parquet"
    paths.ensure(file.parent)
    pq.write_table(pa.table({"text": [f"the {MARK}", "fine"], "n": [1, 2]}), file)
    assert forget(file_store, term=MARK).left == ()
    assert pq.read_table(file).to_pylist() == [{"text": "fine", "n": 2}]


def test_numbers_are_not_mistaken_for_text(home, file_store):
    weights = np.frombuffer(b"Bob!" * 64, np.float32)
    file = home / "data" / "router" / "v0001" / "head.npz"
    paths.ensure(file.parent)
    np.savez(file, weights=weights)
    head = json.dumps({"w": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
    tensors = write(home / "data" / "x.safetensors", struct.pack("<Q", len(head)) + head + weights.tobytes())
    report = forget(file_store, term="Bob!")
    assert report.nothing and file.exists() and tensors.exists()


def test_what_only_the_user_can_remove_is_told(home, file_store):
    head = json.dumps({"__metadata__": {"about": MARK}}).encode()
    tensors = write(home / "data" / "x.safetensors", struct.pack("<Q", len(head)) + head)
    other = home / "data" / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (?)", (MARK,))
    database.close()
    named = write(home / "data" / f"{MARK}.csv", "text\nfine\n")
    left = {Path(one.path): one.why for one in forget(file_store, term=MARK).left}
    assert left.keys() == {tensors, other, named}
    assert "--models" in left[tensors] and "rename" in left[named]


@pytest.mark.parametrize(
    "bad", [b"GGUF" + b"\xff" * 60, b"\xff" * 40, b"", b"GGUF\x03\0\0\0"], ids=["gguf", "noise", "empty", "cut"]
)
def test_damaged_weights_stop_nothing(home, file_store, bad):
    for name in ("m.gguf", "m.safetensors", "m.zip", "m.npz", "m.parquet", "m.json", "m.toml", "m.csv", "m.pt"):
        write(home / "data" / "bad" / name, bad)
    ask(file_store, MARK)
    report = forget(file_store, term=MARK)
    assert report.conversations == 1 and holding(home, "northropi") == []


def test_links_lead_nowhere(home, file_store, tmp_path):
    outside = write(tmp_path / "outside" / "x.csv", f"text\n{MARK}\n")
    paths.ensure(home / "data")
    (home / "data" / "link.csv").symlink_to(outside)
    (home / "data" / "folder").symlink_to(outside.parent)
    forget(file_store, term=MARK)
    assert MARK in outside.read_text()


# The store


def test_library_documents_routes_and_notes_of_the_registry_lose_it(store):
    place = Source("/docs/a.md", "a.md", "0" * 64, "markdown", 10, 2)
    store.documents.put(place, [Piece(1, 1, "first words of Quetzalcoatlus"), Piece(2, 2, "northropi and the rest")])
    store.documents.put(Source("/docs/b.md", "b.md", "1" * 64, "markdown", 10, 2), [Piece(1, 1, "something else")])
    store.routing.teach(f"where is {MARK}", domain="zoo")
    store.routing.teach("where is the station", domain="travel")
    version = store.registry.register(export("one"), lineage=Lineage("r"), evidence=GOOD, who="me", why=f"for {MARK}")
    store.registry.promote(version.id, who="me", why=f"likes {MARK}")
    report = forget(store, term=MARK)
    assert (report.documents, report.exemplars, report.notes) == (1, 1, 2)
    assert [one.source.name for one in store.documents.all()] == ["b.md"]
    assert [one.text for one in store.routing.exemplars()] == ["where is the station"]
    events = store.registry.history()
    assert [(one.action, one.why) for one in events] == [("register", "for [forgotten]"), ("promote", "likes [forgotten]")]
    with pytest.raises(Exception, match="only ever added"), store.database.write() as connection:
        connection.exec_driver_sql("UPDATE stage_event SET why = 'x'")


def test_a_conversation_goes_with_its_rows_in_datasets_by_id_and_by_words(home, store):
    others(store)
    begun = said(store, MARK)
    rows = dataset(store, home / "data" / "datasets" / "rows")
    chat = dataset(store, home / "data" / "datasets" / "chat", format="chat")
    assert holding(rows, MARK) and holding(chat, MARK)
    report = forget(store, conversations=[begun.conversation])
    assert report.conversations == 1 and report.left == ()
    for folder in (rows, chat):
        assert datasets.check(folder) == []
        assert holding(folder, MARK) == []
        assert datasets.read(folder).counts.kept == 30
    assert len(store.log.conversations()) == 30


def test_the_dataset_of_a_redacting_build_is_found_too(home, store):
    others(store)
    mail = "quetzal.northropi@example.org"
    begun = ask(store, f"Write to {mail} please", f"I wrote to {mail} and said hello.")
    store.feedback.rate(begun.inference, 1)
    rows = dataset(store, home / "data" / "datasets" / "chat", format="chat", redact=True)
    assert holding(rows, "<EMAIL_ADDRESS>")
    forget(store, conversations=[begun.conversation])
    assert holding(rows, "<EMAIL_ADDRESS>") == [] and datasets.check(rows) == []


# Models


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A dataset with the mark in it, built once."""
    with open_store("sqlite://") as store:
        others(store)
        for _ in range(3):
            said(store, MARK)
        return dataset(store, tmp_path_factory.mktemp("built") / "log")


def full(home: Path, store, built: Path, mark: str = MARK) -> dict[str, Path]:
    """One of everything that holds the mark."""
    others(store, 3)
    said(store, mark)
    ask(store, f"incognito {mark}", incognito=True)
    made = {"dataset": Path(shutil.copytree(built, home / "data" / "datasets" / "log"))}
    made["file"] = write(home / "data" / "datasets" / "own.csv", f"text,label\nthe {mark},a\nfine,b\n")
    made["log run"] = run("fromlog", "log", texts=f"see {mark}")
    made["run"] = run("own", str(made["dataset"]), str(made["file"]), texts=mark)
    made["clean"] = run("clean", str(write(home / "data" / "datasets" / "clean.csv", "text,label\nfine,b\n")))
    made["child"] = run("child", str(home / "data" / "datasets" / "clean.csv"), parent=made["run"].name[-8:])
    made["gone"] = run("gone", str(home / "data" / "datasets" / "not-there.csv"))
    made["export"] = exported("own-export", made["run"], f"who is {mark}?")
    made["crash"] = write(home / "log" / "crash-20260101-000000-1.txt", f"Traceback: {mark}\nValueError: x\n")
    made["rules"] = write(home / "config" / "rules.toml", f'[[rule]]\nname = "r"\nwhen = \'keyword("{mark}")\'\n')
    made["router"] = write(
        home / "data" / "router" / "v0001" / "rows.json", json.dumps({"name": "x", "train": [[mark, "a"], ["fine", "b"]]})
    )
    write(home / "data" / "router" / "current.json", json.dumps({"current": "v0001", "before": [""]}))
    write(home / "data" / "learn" / "d-1" / "state.json", json.dumps({"steps": [{"facts": {"first": mark}}]}))
    write(home / "data" / "domains" / "zoo" / "domain.toml", f'name = "zoo"\n[router]\nexamples = ["a {mark}", "b"]\n')
    write(home / "data" / "domains" / "zoo" / "examples.jsonl", json.dumps({"text": mark, "label": "a"}) + "\n")
    np.savez(paths.ensure(home / "cache" / "vectors") / "e.npz", hashes=np.zeros(2))
    return made


def test_no_byte_is_left_anywhere_and_every_model_trained_on_it_is_told(home, file_store, built):
    made = full(home, file_store, built)
    register(file_store, made["export"], made["run"])
    planned = forget(file_store, term=MARK, dry_run=True)
    before = {file: digest(file) for file in home.rglob("*") if file.is_file() and not file.name.startswith("pointsman.db")}
    assert all(digest(file) == was for file, was in before.items())
    report = forget(file_store, term=MARK)
    assert report.left == () and holding(home, "northropi") == []
    assert planned.files == report.files and planned.conversations == report.conversations == 2
    told = {(one.kind, one.name): one for one in report.models}
    assert told.keys() == {
        ("run", made["run"].name),
        ("run", made["log run"].name),
        ("run", made["child"].name),
        ("export", "own-export"),
        ("version", "own-export"),
        ("router", "v0001"),
    }
    assert told["run", made["run"].name].rows >= 1
    assert "went on from" in told["run", made["child"].name].why
    assert told["run", made["run"].name].command == f"pointsman train {made['run'] / 'recipe.toml'}"
    assert report.untold == (made["gone"].name,)
    assert not list((home / "cache" / "vectors").iterdir())


def test_manifests_hold_afterwards_and_the_registered_version_is_still_itself(home, file_store, built):
    made = full(home, file_store, built)
    version = register(file_store, made["export"], made["run"])
    file_store.registry.promote(version.id, who="me", why="good")
    forget(file_store, term=MARK)
    assert datasets.check(made["dataset"]) == []
    assert runs.check(made["run"]) == [] and runs.check(made["log run"]) == []
    assert len((made["run"] / "predictions.jsonl").read_text().splitlines()) == 2  # figures keep their rows
    assert exports.read(made["export"]).files[1].sha256 == digest(made["export"] / "Modelfile")
    assert file_store.registry.verify("own-export").stage == "champion"
    assert json.loads(made["router"].read_text())["train"] == [["fine", "b"]]


def test_models_go_when_asked_but_a_champion_only_by_force(home, file_store, built):
    made = full(home, file_store, built)
    version = register(file_store, made["export"], made["run"])
    file_store.registry.promote(version.id, who="me", why="good")
    report = forget(file_store, term=MARK, models=True)
    kept = {one.name for one in report.models if not one.removed}
    assert kept == {"own-export", made["run"].name}
    assert all("--force" in one.kept for one in report.models if not one.removed)
    assert made["run"].exists() and not made["log run"].exists() and not made["child"].exists()
    assert file_store.registry.champion("triage").name == "own-export"
    assert json.loads((home / "data" / "router" / "current.json").read_text()) == {"current": "", "before": []}
    (again,) = [one.command for one in report.models if one.name == made["log run"].name]
    assert Path(again.split()[-1]).is_file()


def test_by_force_the_champion_goes_and_the_one_before_answers(home, file_store, built):
    made = full(home, file_store, built)
    first = register(file_store, export("first"), made["clean"])
    second = register(file_store, made["export"], made["run"])
    for one in (first, second):
        file_store.registry.promote(one.id, who="me", why="good")
    report = forget(file_store, term=MARK, models=True, force=True, who="me")
    assert all(one.removed for one in report.models)
    assert file_store.registry.champion("triage").name == "first"
    assert not made["export"].exists() and not made["run"].exists() and made["clean"].exists()
    assert file_store.registry.get("own-export").stage == "retired"
    assert holding(home, "northropi") == []


def test_a_row_that_was_held_out_did_not_train(home, file_store):
    rows = [{"text": MARK, "label": "a", "split": "validation"}, {"text": "fine", "label": "a", "split": "train"}]
    examples = write(home / "data" / "domains" / "zoo" / "examples.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    run("zoo", domain="zoo")
    assert forget(file_store, term=MARK, dry_run=True).models == ()
    examples.write_text(examples.read_text().replace("validation", "train"))
    assert [one.rows for one in forget(file_store, term=MARK).models] == [1]


def test_an_unfinished_run_goes_and_one_under_way_is_not_pulled_away(home, file_store):
    import fcntl

    made = run("own", str(write(home / "data" / "d" / "own.csv", f"text\n{MARK}\n")))
    part = made.rename(made.with_name(f".{made.name}.part"))
    with write(part / ".lock", "").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="being trained"):
            forget(file_store, term=MARK)
        assert holding(home, MARK)
    (one,) = forget(file_store, term=MARK).models
    assert (one.kind, one.removed, part.exists()) == ("unfinished run", True, False)


def test_a_run_from_before_the_conversation_did_not_learn_it(home, file_store):
    begun = said(file_store, MARK)
    old = run("old", "log")
    old.rename(old.with_name("old-20200101-000000-01234567"))
    new = run("new", "log")
    report = forget(file_store, conversations=[begun.conversation])
    assert [one.name for one in report.models] == [new.name]


def test_the_users_own_files_are_told_and_cleared_only_when_named(home, file_store, tmp_path):
    own = write(tmp_path / "mine" / "train.csv", f"text,label\n{MARK},a\nfine,b\n")
    run("own", str(own))
    report = forget(file_store, term=MARK)
    assert [one.path for one in report.outside] == [str(own)] and MARK in own.read_text()
    assert [one.kind for one in report.models] == ["run"]
    report = forget(file_store, term=MARK, beside=[own])
    assert own.read_text() == "text,label\nfine,b\n" and report.outside == ()


def test_a_dataset_elsewhere_that_a_run_names_is_cleared(home, file_store, built, tmp_path):
    elsewhere = Path(shutil.copytree(built, tmp_path / "elsewhere" / "set"))
    run("own", str(elsewhere))
    forget(file_store, term=MARK)
    assert holding(tmp_path / "elsewhere", MARK) == [] and datasets.check(elsewhere) == []


# Crashes


class Killed(BaseException):
    """As a kill: nothing catches it."""


def dying(after: int):
    """Steps of the journal of which all but the first few never happen."""
    real, left = journal._do, [after]

    def do(step):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return real(step)

    return do


@pytest.mark.parametrize("after", [0, 1, 5, 11, 1000])
def test_a_crash_in_the_middle_is_finished_by_the_next_start(home, monkeypatch, built, after):
    store = open_store()
    made = full(home, store, built)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(journal, "_do", dying(after))
        patched.setattr("data.store.doomed.carry_out", lambda *_: (_ for _ in ()).throw(Killed))
        forget(store, term=MARK)
    store.close()
    (waiting,) = pending()
    assert MARK.lower() not in waiting.read_text().lower()
    with open_store() as again:
        assert pending() == []
        assert len(again.log.conversations()) == 3
    assert holding(home, "northropi") == []
    assert datasets.check(made["dataset"]) == [] and runs.check(made["run"]) == []
    (record,) = done()
    assert record["conversations"] == 2 and "northropi" not in json.dumps(record).lower()


def test_a_crash_before_the_journal_changes_nothing_and_leaves_no_litter(home, monkeypatch, built):
    with open_store() as store:
        full(home, store, built)
        before = {file for file in home.rglob("*") if file.is_file()}
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(journal, "commit", lambda _: (_ for _ in ()).throw(Killed))
            forget(store, term=MARK)
        assert len(store.log.conversations()) == 5 and holding(home, MARK)
        forget(store, term=MARK)
        left = {file for file in home.rglob("*") if file.is_file()} - before
        assert {file.name for file in left} == {"lock", "done.jsonl"}
    assert holding(home, "northropi") == []


def test_a_file_that_somebody_changes_meanwhile_is_cleared_in_the_next_round(home, file_store, monkeypatch):
    log = write(home / "log" / "tui.log", f"one {MARK}\n")
    real = journal.commit

    def commit(made):
        real(made)
        if made.note:
            log.write_text(f"one {MARK}\ntwo {MARK}\n")

    monkeypatch.setattr(journal, "commit", commit)
    assert forget(file_store, term=MARK).left == ()
    assert log.read_text() == "one [forgotten]\ntwo [forgotten]\n"


def test_two_forgettings_do_not_run_at_once_and_nothing_asked_for_is_refused(home, file_store):
    with journal.alone() as free, pytest.raises(InputError, match="another forgetting"):
        assert free
        forget(file_store, term=MARK)
    with pytest.raises(InputError):
        forget(file_store, term="  ")
    with pytest.raises(NotFound):
        forget(file_store, conversations=["f" * 32])
    assert done() == [] and forget(file_store, term=MARK).nothing and done() == []


def test_a_journal_of_another_store_waits_for_that(home, file_store, tmp_path, monkeypatch):
    ask(file_store, MARK)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(journal, "carry_out", lambda *_: (_ for _ in ()).throw(Killed))
        forget(file_store, term=MARK)
    open_store(f"sqlite:///{tmp_path / 'other.db'}").close()
    open_store("sqlite://").close()
    assert len(pending()) == 1
    open_store().close()
    assert pending() == [] and holding(home, "northropi") == []


def test_a_damaged_journal_keeps_nobody_out(home):
    write(home / "data" / "forgetting" / "0123.json", "{}")
    open_store().close()
    assert course.ROUNDS


def test_a_message_with_what_was_said_keeps_its_question(home, file_store):
    begun = file_store.log.begin(Message("user", "hello"), model="echo/echo", mode="standard", config={})
    file_store.log.finish(begun.inference, status="complete", text="hi")
    forget(file_store, term=MARK)
    assert [turn.message.content for turn in file_store.log.turns(begun.conversation)] == ["hello", "hi"]
