"""Versions of the domain head: trained, refitted behind the golden set, undone, and damaged."""

import json
import threading

import pytest
import routing_data

from data.errors import InputError, ModelInvalid, NotFound
from router import labelled
from router.exemplars import Exemplar
from router.learning import Accepted, Refused, Versions


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with one version, to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POINTSMAN_HOME", str(tmp_path_factory.mktemp("home")))
        folder = tmp_path_factory.mktemp("versions") / "router"
        made = Versions(folder).train(routing_data.labelled(), routing_data.encoder())
    return folder, made


@pytest.fixture
def versions(trained, tmp_path) -> Versions:
    import shutil

    shutil.copytree(trained[0], tmp_path / "router")
    return Versions(tmp_path / "router")


def corrections(count: int = 24) -> list[Exemplar]:
    return [
        Exemplar(f"show me the way to {town} {at}", "travel") for at, town in enumerate(["rome", "oslo", "paris"] * (count // 3))
    ]


def test_nothing_is_learned_in_an_empty_folder(tmp_path) -> None:
    versions = Versions(tmp_path / "none")
    assert versions.name() == ""
    assert versions.current() is None
    assert versions.history() == []
    assert versions.with_exemplars(None, []) is None
    with pytest.raises(NotFound, match="undo"):
        versions.undo()
    with pytest.raises(NotFound, match="trained"):
        versions.refit(corrections())
    assert not (tmp_path / "none").exists()


def test_training_makes_a_version_with_a_golden_set_and_thresholds(trained, versions: Versions) -> None:
    made = trained[1]
    assert versions.name() == made.name == "v0001"
    assert made.domains == ("cooking", "music", "travel")
    assert made.golden > 0.9
    assert {"accept", "temperature", "risk"} <= made.thresholds.keys()
    assert len(versions.golden()) > 20
    head = versions.current()
    assert head is not None
    assert head.read("book a flight to paris", routing_data.encoder()).domain == "travel"
    assert versions.current() is head
    assert [one.name for one in versions.history() if one.current] == ["v0001"]


def test_golden_rows_were_not_fitted(versions: Versions) -> None:
    kept = json.loads((versions.folder / "v0001" / "rows.json").read_text())
    assert not {text for text, _ in versions.golden()} & {text for text, _ in kept["train"]}


def test_a_refit_is_a_new_version_and_can_be_undone(versions: Versions) -> None:
    found = versions.refit(corrections(), routing_data.encoder())
    assert isinstance(found, Accepted)
    assert found.version == versions.name() == "v0002"
    assert found.after >= found.before - 0.01
    head = versions.current()
    assert head is not None
    assert head.read("show me the way to vienna", routing_data.encoder()).probabilities[0][0] == "travel"
    assert versions.undo() == "v0001"
    assert versions.current().version == "v0001"
    assert versions.undo() == ""
    assert versions.current() is None
    with pytest.raises(NotFound):
        versions.undo()


def test_a_version_does_not_keep_the_words_of_corrections(versions: Versions) -> None:
    said = [*corrections(), Exemplar("zanzibar quokka itinerary please", "travel")]
    versions.refit(said, routing_data.encoder())
    written = b"".join(path.read_bytes() for path in (versions.folder / "v0002").iterdir())
    assert b"quokka" not in written
    again = versions.refit(said, routing_data.encoder())
    assert isinstance(again, Accepted) and versions.name() == "v0003"


def test_the_golden_set_is_handed_on_unchanged(versions: Versions) -> None:
    before = versions.golden()
    versions.refit(corrections(), routing_data.encoder())
    assert versions.golden() == before


def test_a_refit_that_answers_the_golden_set_worse_is_refused_with_its_numbers(versions: Versions) -> None:
    rows = json.loads((versions.folder / "v0001" / "rows.json").read_text())
    poison = [Exemplar(text, "music") for text, intent in rows["train"] if intent in ("flight", "recipe")]
    found = versions.refit(poison, routing_data.encoder())
    assert isinstance(found, Refused)
    assert found.after < found.before
    assert "golden set fell" in found.why
    assert versions.name() == found.version == "v0001"
    assert [one.name for one in versions.history()] == ["v0001"]


def test_a_refit_teaches_a_new_domain(versions: Versions) -> None:
    plants = ["tomatoes", "roses", "basil", "carrots", "tulips", "beans", "mint", "ferns"]
    rows = [
        Exemplar(f"{ask} {plant}", "garden")
        for plant in plants
        for ask in ("how do i water", "when should i plant", "how do i prune my")
    ]
    found = versions.refit(rows, routing_data.encoder())
    assert isinstance(found, Accepted)
    head = versions.current()
    assert head.domains == ("cooking", "garden", "music", "travel")
    assert head.read("how do i water the orchids", routing_data.encoder()).probabilities[0][0] == "garden"


def test_a_refit_in_the_background_tells_what_came_of_it(versions: Versions) -> None:
    told, done = [], threading.Event()
    thread = versions.refit_later(corrections(), routing_data.encoder(), lambda found: (told.append(found), done.set()))
    thread.join(120)
    assert done.is_set()
    assert isinstance(told[0], Accepted)


def test_a_fault_in_the_background_is_told_too(tmp_path) -> None:
    told = []
    Versions(tmp_path / "none").refit_later(corrections(), None, told.append).join(30)
    assert isinstance(told[0], NotFound)


def test_a_refit_without_examples_is_refused(versions: Versions) -> None:
    with pytest.raises(InputError, match="no examples"):
        versions.refit([Exemplar("  ", "travel"), Exemplar("text", "")])


def test_examples_of_a_mode_alone_teach_no_domain(versions: Versions) -> None:
    head = versions.current()
    assert versions.with_exemplars(head, [Exemplar("what is 2+2", "", "agent")]) is head


def test_a_crash_while_writing_leaves_the_old_version(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(InputError, match="No space left"):
        versions.refit(corrections(), routing_data.encoder())
    monkeypatch.undo()
    assert versions.name() == "v0001"
    assert sorted(path.name for path in versions.folder.iterdir()) == ["current.json", "v0001"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("current.json", "{"),
        ("current.json", '{"current": "../../etc", "before": []}'),
        ("current.json", "[]"),
        ("v0001/head.json", "{}"),
        ("v0001/head.npz", "x"),
    ],
)
def test_damaged_versions_are_named(versions: Versions, file: str, content: str) -> None:
    (versions.folder / file).write_text(content)
    with pytest.raises(ModelInvalid, match="router"):
        versions.current()


def test_a_version_whose_folder_is_gone_is_named(versions: Versions) -> None:
    import shutil

    shutil.rmtree(versions.folder / "v0001")
    with pytest.raises(ModelInvalid, match="v0001"):
        versions.current()


def test_a_few_rows_a_label_make_a_head_of_examples(tmp_path) -> None:
    rows = tuple(
        (f"{ask} {what}", label)
        for label, what in (("garden", "roses"), ("banking", "money"))
        for ask in ("my", "the", "some", "about")
    )
    made = Versions(tmp_path / "router").train(labelled.Labelled("few", {"garden": "garden", "banking": "banking"}, rows))
    assert made.domains == ("banking", "garden")
    head = Versions(tmp_path / "router").current()
    assert head.read("my roses").domain == "garden"


def test_training_without_an_encoder_makes_a_head_of_ngrams(tmp_path) -> None:
    Versions(tmp_path / "router").train(routing_data.labelled())
    found = Versions(tmp_path / "router").current().read("book a flight to paris")
    assert (found.domain, found.heads) == ("travel", ("sparse",))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("rows.csv", "text,label\nonly one,a\nanother,a\n", "1 labels"),
        ("rows.csv", "a,b\n1,2\n", "no text and label"),
        ("rows.csv", "", "0 labels"),
        ("rows.jsonl", '{"text": "a", "label": "b"}\nnot json\n', "line 2"),
        ("rows.jsonl", "[1]\n", "no JSON object"),
        ("rows.xlsx", "x", "neither CSV"),
        ("rows.csv", b"text,label\n\xff\xfe,a\n", "UTF-8"),
    ],
)
def test_bad_data_files_are_named(tmp_path, name: str, content: str | bytes, complaint: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=complaint):
        labelled.load(path)


def test_missing_and_empty_folders_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        labelled.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"domains\.json"):
        labelled.load(tmp_path)
    (tmp_path / "domains.json").write_text('{"a": ["x"]}')
    with pytest.raises(InputError, match="split named train"):
        labelled.load(tmp_path)
    (tmp_path / "rows.json").write_text('{"train": [["text", "y"], ["text", "x"]]}')
    with pytest.raises(InputError, match="no domain for the intent 'y'"):
        labelled.load(tmp_path)


def test_rows_without_text_are_left_out_and_labels_of_one_example_are_kept_for_training(tmp_path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "text,label\n" + "".join(f"question {at},a\nother {at},b\n" for at in range(40)) + ",a\n  ,b\nlonely one,c\nfar,oos\n"
    )
    found = labelled.load(path)
    assert found.skipped == 2
    assert found.outside_train == ("far",)
    split = found.split()
    assert ("lonely one", "c") in split.train
    assert {text for text, _ in split.train} & {text for text, _ in split.held} == set()


def test_a_test_file_of_either_format_replaces_what_is_held_out(tmp_path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "".join(f"question {at},a\nother {at},b\n" for at in range(10)))
    csv, json_file = tmp_path / "test.csv", tmp_path / "test.json"
    csv.write_text("text,category\nnew,a\nfar away,oos\n")
    json_file.write_text('{"test": [["new", "a"]], "oos_test": [["far away", "oos"]]}')
    for test in (csv, json_file):
        found = labelled.load(path, test)
        assert (found.held, found.outside_held) == ((("new", "a"),), ("far away",))
    csv.write_text("text,category\nnew,unknown\n")
    with pytest.raises(InputError, match="'unknown', which training never saw"):
        labelled.load(path, csv)
