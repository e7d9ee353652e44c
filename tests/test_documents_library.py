"""The user's documents as one: added, completed with vectors, found by words and meaning together, removed."""

import re
from pathlib import Path

import numpy as np
import pytest
from store_support import ask

from data.config import DocumentsSettings
from data.errors import InputError, ModelMissing, NotFound
from router.documents import retrieval
from router.documents.library import Documents
from router.tools.base import Passage, Surroundings

TOPICS = ("train", "rail", "locomotive"), ("bread", "loaf", "bakery"), ("star", "galaxy", "sun")
SETTINGS = DocumentsSettings(chunk_chars=200, chunks=3)


def embed(texts):
    """A stand-in encoder: each topic is a direction, so that words of one topic are near each other."""
    found = np.zeros((len(texts), 384), dtype=np.float32)
    for row, text in enumerate(texts):
        for place, words in enumerate(TOPICS):
            found[row, place] = sum(text.lower().count(word) for word in words)
        found[row, 3 + len(text) % 300] += 0.1
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rail.md").write_text("# Rail\n\nThe locomotive waits.\n\n# Else\n\nNothing of it.\n")
    (tmp_path / "food.txt").write_text("Fresh bread.\n" + "filler words\n" * 40 + "The bakery shuts at noon.\n")
    return tmp_path


@pytest.fixture
def documents(store, folder):
    found = Documents(store, embed, SETTINGS)
    for name in ("rail.md", "food.txt"):
        found.add(folder / name)
    return found


def test_words_and_meaning_are_searched_together(documents):
    (first, *_) = documents.search("when is the bakery open", 1)
    assert (first.source, first.last_line) == ("food.txt", 42) and "noon" in first.text
    (first, *_) = documents.search("trains", 1)  # in no document: the meaning alone finds it
    assert first.place == "rail.md:1-7" and first.similarity > 0.9 and first.heading == "Rail"
    assert documents.search("bakery", 2) == documents.search("bakery", 2)
    assert documents.problem == ""


def test_adding_says_what_it_did(documents, folder):
    path = folder / "rail.md"
    again = documents.add(path)
    assert again.unchanged and (again.chunks, again.document.vectors, again.problem) == (1, 1, "")
    path.write_text("The star.\n")
    changed = documents.add(path)
    assert not changed.unchanged and changed.document.id == again.document.id
    assert [one.source for one in documents.search("galaxy", 1)] == ["rail.md"]
    assert all("locomotive" not in one.text for one in documents.search("locomotive", 9))
    assert [one.source.name for one in documents.list()] == ["food.txt", "rail.md"]


def test_another_size_of_chunks_cuts_an_unchanged_file_anew(documents, folder, store):
    before = documents.list()[0].chunks
    added = Documents(store, embed, DocumentsSettings(chunk_chars=8000)).add(folder / "food.txt")
    assert not added.unchanged and (added.chunks, before > 1) == (1, True)


def test_neighbours_become_one_passage_with_every_line_once(documents, folder):
    lines = [f"line {n} about the sun and {n * n}" for n in range(1, 60)]
    (folder / "sun.txt").write_text("\n".join(lines))
    documents.add(folder / "sun.txt")
    for passage in documents.search("sun", 4):
        assert passage.text.split("\n") == lines[passage.first_line - 1 : passage.last_line]
    (whole,) = documents.search("sun", 99)[:1]
    assert (whole.first_line, whole.last_line) == (1, 59)


def test_the_same_text_in_two_files_is_found_once(documents, folder):
    for name in ("one.txt", "two.txt"):
        (folder / name).write_text("The galaxy is large.")
        documents.add(folder / name)
    assert [one.source for one in documents.search("galaxy", 2)].count("one.txt") == 1
    assert "two.txt" not in [one.source for one in documents.search("galaxy", 5)]


def test_an_attached_document_is_found_in_its_conversation_only(documents, folder, store):
    begun = ask(store)
    (folder / "mine.md").write_text("My star is private.")
    documents.add(folder / "mine.md", begun.conversation)
    assert documents.search("star", 1, begun.conversation)[0].source == "mine.md"
    assert "mine.md" not in [one.source for one in documents.search("star", 9)]
    assert documents.search("star", 1, begun.conversation)[0].source == "mine.md"
    assert [len(documents.list()), len(documents.list(begun.conversation))] == [2, 3]


def test_without_an_encoder_words_alone_are_searched_and_it_is_said(store, folder):
    def missing(texts):
        raise ModelMissing("the encoder minilm-l6 is not there", "pointsman models prepare")

    documents = Documents(store, missing, SETTINGS)
    added = documents.add(folder / "rail.md")
    assert added.document.vectors == 0 and "words alone" in added.problem and "minilm-l6 is not there" in added.problem
    assert [one.source for one in documents.search("locomotives", 1)] == ["rail.md"] and documents.search("trains", 1) == []
    later = Documents(store, embed, SETTINGS)
    completed = later.add(folder / "rail.md")
    assert completed.unchanged and (completed.document.vectors, completed.problem) == (completed.chunks, "")
    assert later.search("trains", 1)[0].similarity > 0.5
    broken = Documents(store, missing, SETTINGS)
    assert broken.search("locomotive", 1)[0].similarity == 0.0 and "words alone" in broken.problem


def test_interrupted_vectors_are_kept_and_gone_on_with(store, folder):
    calls = []

    def interrupted(texts):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(texts)

    with pytest.raises(KeyboardInterrupt):
        Documents(store, interrupted, SETTINGS).add(folder / "food.txt")
    (half,) = store.documents.all()
    assert half.vectors == 2 < half.chunks
    seen = []
    Documents(store, embed, SETTINGS).add(folder / "food.txt", progress=lambda done, whole: seen.append((done, whole)))
    assert seen[0] == (3, half.chunks) and seen[-1] == (half.chunks, half.chunks)


def test_vectors_can_wait(store, folder):
    documents = Documents(store, embed, SETTINGS)
    assert documents.add(folder / "rail.md", vectors=False).document.vectors == 0
    assert documents.search("trains", 1) == []
    documents.complete()
    assert documents.search("trains", 1) != []


def test_removing_takes_it_out_of_the_search(documents):
    assert documents.remove("rail.md").source.name == "rail.md"
    assert "rail.md" not in [one.source for one in documents.search("locomotive train", 9)]
    with pytest.raises(NotFound):
        documents.remove("rail.md")


def test_pages_are_cited_as_pages():
    assert Passage("a.pdf", 10, 12, "x", page=3).place == "a.pdf p.3"
    assert (Passage("a.md", 10, 12, "x").place, Passage("a.md", 7, 7, "x").place) == ("a.md:10-12", "a.md:7")


def test_the_bound_search_is_what_tools_take(documents):
    search = Surroundings(search=documents.search).search
    assert search is not None and search("bakery", 1)[0].source == "food.txt"


@pytest.mark.parametrize("query", ["", " ", "?", "\0", "\ud800", "x" * 1_000_000, "\x1b[31m"])
def test_an_odd_query_finds_something_or_nothing(documents, query):
    assert all(isinstance(one, Passage) for one in documents.search(query, 2))


def test_a_name_is_kept_on_one_line_without_control_characters(store, folder):
    path = folder / "evil\n[1] \x1b[31mname.txt"
    path.write_text("The loaf.")
    documents = Documents(store, embed, SETTINGS)
    added = documents.add(path)
    assert added.document.source.name == "evil [1] ␛[31mname.txt"
    assert documents.search("loaf", 1)[0].place == "evil [1] ␛[31mname.txt:1"
    assert documents.add(path).unchanged
    with pytest.raises(InputError):
        documents.add(Path("no such"))


def test_a_name_that_is_no_utf_8_can_be_added(store, folder):
    path = Path(f"{folder}/caf\udce9.txt")
    path.write_text("The loaf.")
    documents = Documents(store, embed, SETTINGS)
    assert documents.add(path).document.id == documents.add(path).document.id
    assert re.fullmatch(r"caf.\.txt", documents.list()[0].source.name)


def test_fusion_prefers_what_both_rankings_name_and_is_deterministic():
    assert list(retrieval.fused([[1, 2, 3], [3, 4]])) == [3, 1, 2, 4]
    assert list(retrieval.fused([[7], [5]])) == [5, 7]


def test_five_thousand_chunks_are_searched_without_reading_their_vectors_again(store, folder, monkeypatch):
    documents = Documents(store, embed, SETTINGS)
    (folder / "big.txt").write_text(
        "\n\n".join(f"paragraph {n} about bread number {n}: " + "some words " * 14 for n in range(5000))
    )
    assert documents.add(folder / "big.txt").chunks >= 5000
    documents.search("bread 4711", 4)
    reads = []
    monkeypatch.setattr(store.documents, "vectors", lambda *_: reads.append(1))
    found = documents.search("which paragraph has the number 4711?", 4)
    assert any("number 4711" in one.text for one in found) and reads == []
