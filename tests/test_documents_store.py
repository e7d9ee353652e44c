"""The library of documents: kept, changed and removed in both databases, and found by words."""

import pytest
from store_support import ask

from data.errors import NotFound
from data.store import open_store, tables
from data.store.chunks import Piece, terms_of
from data.store.documents import Source


def source(name="notes.md", sha="a" * 64, cut="1"):
    return Source(f"/somewhere/{name}", name, sha, "markdown", 10, 3, cut)


def pieces(*texts):
    return [Piece(n, n, text, heading=f"Part {n}") for n, text in enumerate(texts, 1)]


def found(store, query, conversation=""):
    return [one.piece.text for one in store.documents.chunks(store.documents.ranked(query, conversation))]


def test_a_document_is_kept_with_its_chunks_and_found_by_any_of_its_words(store):
    kept, changed = store.documents.put(source(), pieces("the brakes of a train", "the signals", "Über die Weiche\u200b"))
    assert changed and (kept.source, kept.conversation, kept.chunks, kept.vectors) == (source(), "", 3, 0)
    assert store.documents.all() == [kept] == store.documents.all(None)
    assert store.documents.at("/somewhere/notes.md") == kept and store.documents.at("/else") is None
    assert found(store, "what are signals for?")[0] == "the signals"
    assert found(store, "braking trains") == ["the brakes of a train"]
    assert found(store, "uber") == ["Über die Weiche"]
    (chunk,) = store.documents.chunks(store.documents.ranked("weiche"))
    assert (chunk.document, chunk.name, chunk.number) == (kept.id, "notes.md", 2)
    assert (chunk.piece.first_line, chunk.piece.last_line, chunk.piece.heading) == (3, 3, "Part 3")


def test_rare_words_weigh_more_than_frequent_ones(store):
    store.documents.put(source(), pieces(*[f"the train number {n} is the train" for n in range(30)], "a pantograph"))
    assert found(store, "the train and the pantograph")[0] == "a pantograph"


@pytest.mark.parametrize(
    "query", ["", "?!", '"', "a OR", "NEAR(", "col:x", "'; DROP TABLE chunk; --", "\0", "\ud800", "*", "x" * 100_000]
)
def test_no_character_of_a_query_is_a_command(store, query):
    store.documents.put(source(), pieces("plain"))
    assert found(store, query) == []
    assert found(store, "plain " + query) == ["plain"] or len(query) > 1000


def test_scripts_without_spaces_are_found_by_pairs_of_characters(store):
    store.documents.put(source(), pieces("请问火车站怎么走", "火山在车库"))
    assert found(store, "火车站在哪里")[0] == "请问火车站怎么走"
    assert terms_of("火车站 abc-def") == ["火 车", "车 站", "abc", "def"]


def test_the_same_document_again_changes_nothing_and_a_changed_one_replaces_its_chunks(store):
    first, _ = store.documents.put(source(), pieces("old words", "kept words"))
    ids = [chunk.id for chunk in store.documents.chunks_of(first.id)]
    store.documents.set_vectors(first.id, [(ids[0], b"\1\2"), (ids[1], b"\3\4")], "enc")
    again, changed = store.documents.put(source(), pieces("other"))
    assert not changed and (again.id, again.chunks, again.vectors) == (first.id, 2, 2)
    later, changed = store.documents.put(
        source(sha="b" * 64), [Piece(9, 9, "new words"), Piece(7, 7, "kept words", heading="Part 2")]
    )
    assert changed and (later.id, later.chunks, later.vectors) == (first.id, 2, 1)
    assert found(store, "old") == [] and found(store, "new") == ["new words"]
    assert [chunk.piece.text for chunk in store.documents.without_vectors(first.id, "enc")] == ["new words"]
    assert [vector for _, vector in store.documents.vectors(first.id, "enc")] == [b"\3\4"]
    assert store.documents.put(source(sha="b" * 64, cut="2"), pieces("cut"))[1]
    store.check()


def test_versions_change_with_every_change_and_with_nothing_else(store):
    seen = [store.documents.versions()]
    one, _ = store.documents.put(source(), pieces("x"))
    seen.append(store.documents.versions())
    store.documents.put(source(), pieces("x"))
    assert store.documents.versions() == seen[-1]
    store.documents.set_vectors(one.id, [(store.documents.chunks_of(one.id)[0].id, b"\1")], "enc")
    seen.append(store.documents.versions())
    store.documents.put(source(sha="b" * 64), pieces("y"))
    seen.append(store.documents.versions())
    store.documents.remove(one.id)
    seen.append(store.documents.versions())
    assert len(set(seen)) == 4 and seen[0] == seen[-1] == ()


def test_an_attached_document_is_seen_in_its_conversation_only_and_goes_with_it(store):
    begun, other = ask(store, "q"), ask(store, "r")
    store.documents.put(source(), pieces("shared word"))
    mine, _ = store.documents.put(source(), pieces("private word"), begun.conversation)
    assert found(store, "word") == ["shared word"] == found(store, "word", other.conversation)
    assert sorted(found(store, "word", begun.conversation)) == ["private word", "shared word"]
    assert [one.conversation for one in store.documents.all(begun.conversation)] == ["", begun.conversation]
    assert len(store.documents.all()) == 1 and len(store.documents.all(None)) == 2
    with pytest.raises(NotFound, match="names 2 documents"):
        store.documents.find("notes.md")
    assert store.documents.find(mine.id) == mine == store.documents.find(mine.id[-8:])
    assert store.log.forget(text="PRIVATE WORD").conversations == 1
    assert found(store, "word", begun.conversation) == ["shared word"] and len(store.documents.all(None)) == 1
    store.log.delete(other.conversation)
    with pytest.raises(NotFound):
        store.documents.put(source(), pieces("x"), begun.conversation)


@pytest.mark.parametrize("key", ["", "nothing", "ffff", "%", "\0", "notes"])
def test_a_document_that_is_not_there_is_refused(store, key):
    store.documents.put(source(), pieces("x"))
    with pytest.raises(NotFound):
        store.documents.find(key)
    with pytest.raises(NotFound):
        store.documents.remove(key)
    assert len(store.documents.all()) == 1


def test_no_byte_of_a_removed_document_stays_in_the_files_of_the_log(home, file_store):
    mark = "Quetzalcoatlus"
    kept, _ = file_store.documents.put(source("kept.md"), pieces("plain words"))
    gone, _ = file_store.documents.put(source(mark), [Piece(1, 1, f"the {mark} flies " * 50, heading=mark)] * 40)
    ids = [(chunk.id, mark.encode() * 50) for chunk in file_store.documents.chunks_of(gone.id)]
    file_store.documents.set_vectors(gone.id, ids, "enc")
    marks = [mark[n : n + 6].lower().encode() for n in range(len(mark) - 5)]

    def files():
        return [path for path in home.rglob("*") if path.is_file() and any(one in path.read_bytes().lower() for one in marks)]

    assert files()
    file_store.documents.remove(gone.id)
    assert files() == []
    assert file_store.documents.all() == [kept] and found(file_store, "plain") == ["plain words"]
    file_store.check()


def test_documents_survive_closing(url):
    with open_store(url) as store:
        store.documents.put(source(), pieces("plain"))
    with open_store(url) as store:
        assert found(store, "plain") == ["plain"]
        assert store.documents.at("/somewhere/notes.md").added.tzinfo is not None
        with store.database.read() as connection:
            assert connection.execute(tables.chunk.select()).one().page == 0
