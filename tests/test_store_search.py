"""Search finds every kind of text, takes no character of a query for a command, and shows plain snippets."""

import pytest
from store_support import again, ask

from data.errors import InputError
from data.store import words


def kinds(store, query, **how):
    return sorted(hit.kind for hit in store.search(query, **how))


def test_every_kind_of_text_is_found(store):
    begun = ask(store, "title here\nquestion there", None)
    store.log.finish(begun.inference, status="complete", text="an answer", thinking="a thought")
    store.feedback.comment(begun.inference, "a remark")
    store.feedback.correct(begun.inference, "a better one")
    found = {query: kinds(store, query) for query in ("question", "answer", "thought", "remark", "better")}
    assert found == {
        "question": ["question"],
        "answer": ["answer"],
        "thought": ["thinking"],
        "remark": ["comment"],
        "better": ["correction"],
    }
    store.log.rename(begun.conversation, "Locomotives")
    (hit,) = store.search("locomotives")
    assert (hit.kind, hit.role, hit.turn, hit.conversation, hit.title) == ("title", "title", "", begun.conversation, "Locomotives")
    (hit,) = store.search("answer")
    assert (hit.role, hit.turn, hit.snippet, hit.title) == ("assistant", begun.answer, "an «answer»", "Locomotives")
    assert store.search("question")[0].turn == begun.question


def test_all_words_must_occur_and_the_last_may_be_a_beginning(store):
    ask(store, "The pointsman sets the points", "so that trains run")
    assert kinds(store, "points sets") == ["question"]
    assert kinds(store, "sets poi") == ["question"]
    assert kinds(store, "poi sets") == []
    assert kinds(store, "sets signals") == []
    assert kinds(store, '"sets the"') == ["question"] and kinds(store, '"the sets"') == []
    assert kinds(store, '"the poin"') == []


def test_one_hit_a_turn_and_the_title_only_where_nothing_else_matches(store):
    begun = ask(store, "switch", None)
    store.log.finish(begun.inference, status="complete", text="switch", thinking="switch")
    store.feedback.comment(begun.inference, "switch")
    assert [hit.turn for hit in store.search("switch")].count(begun.answer) == 1
    assert {hit.turn for hit in store.search("switch")} == {begun.question, begun.answer}


def test_among_equals_the_newest_comes_first_and_the_limit_holds(store):
    turns = [ask(store, f"number {n}", "same words").answer for n in range(6)]
    assert [hit.turn for hit in store.search("same", limit=4)] == turns[:1:-1]
    assert store.search("same", limit=0) == []


def test_search_can_be_narrowed_to_a_model_and_a_conversation(store):
    one = ask(store, "left", "right", model="ollama/a")
    two = ask(store, "left", "right", model="ollama/b")
    assert [hit.turn for hit in store.search("right", model="ollama/a")] == [one.answer]
    assert {hit.turn for hit in store.search("left right"[:4], conversation=two.conversation)} == {two.question}
    assert store.search("right", model="ollama/c") == store.search("right", conversation="0" * 32) == []


def test_partial_text_is_found_once_the_answer_has_ended(store):
    begun = ask(store, reply=None)
    store.log.save_partial(begun.inference, "unfinished symphony")
    assert store.search("symphony") == []
    store.log.finish(begun.inference, status="interrupted", text="unfinished symphony")
    assert kinds(store, "symphony") == ["answer"]


def test_what_was_replaced_or_withdrawn_is_not_found(store):
    begun = ask(store)
    store.feedback.correct(begun.inference, "halfhearted")
    store.feedback.correct(begun.inference, "wholehearted")
    comment = store.feedback.comment(begun.inference, "grumpy")
    store.feedback.withdraw(comment.id)
    store.log.rename(begun.conversation, "before")
    store.log.rename(begun.conversation, "after")
    assert [kinds(store, query) for query in ("halfhearted", "wholehearted", "grumpy", "before", "after")] == [
        [],
        ["correction"],
        [],
        [],
        ["title"],
    ]


def test_an_incognito_conversation_is_not_found(store):
    begun = ask(store, "secret garden", "secret answer", incognito=True)
    again(store, begun.question, "secret again")
    ask(store, "secret more", conversation=begun.conversation)
    store.feedback.comment(begun.inference, "secret remark")
    store.log.rename(begun.conversation, "secret title")
    assert store.search("secret") == []
    assert len(store.log.turns(begun.conversation)) == 4


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("src/data/store-log.py", "store"),
        ("src/data/store-log.py", "data/store-log.py"),
        ("mail@example.org", "example"),
        ("https://example.org/a?b=c", "example.org"),
        ("it's a dog's life", "dog's"),
        ("C++ and C#", "c++"),
        ("snake_case_name", "case"),
        ("GRÜSSE aus KÖLN", "grüsse köln"),
        ("今天天气很好", "天气"),
        ("あしたは雨です", "雨"),
        ("วันนี้อากาศดี", "อากาศ"),
        ("mixed今天text", "text"),
        ("서울의 날씨", "날"),
        ("naïve café", "café"),
        ("😀 smile", "smile"),
        ("x" * 60_000 + " needle " + "y" * 60_000, "needle"),
        ("天" * 9_000 + "气象台" + "天" * 9_000, "气象台"),
    ],
)
def test_parts_of_names_paths_and_unspaced_scripts_are_found(store, text, query):
    ask(store, "?", text)
    (hit,) = store.search(query)
    assert hit.kind == "answer" and "«" in hit.snippet and len(hit.snippet) < 300 and "\u200b" not in hit.snippet


@pytest.mark.parametrize("query", ["cafe", "CAFÉ", "cafe\u0301", "naive caf"])
def test_case_and_accents_do_not_matter(store, query):
    ask(store, "?", "Naïve café")
    assert "«café»" in store.search(query)[0].snippet


HOSTILE = [
    '"', '""', "'", "\\", "*", "AND", "OR NOT", "NEAR(a b)", "a:b", "col : a", "^a", "a AND (", "{a b}: c", "-a", "+", "(((", ")",
    "%", "_", "\0", "\udc80", "a\0b", "; DROP TABLE turn; --", ":*", "a & | !", "<->", "a <-> b", "'a':*B", "\\'", "$$", "!", "a*b",
    "[bold]x[/]", "\x1b[31m", "a" * 100_000, "a " * 5_000, '"' * 999, "(" * 5_000, "天" * 5_000, '"a b" c "d', "\u202eabc",
    "a\nb\tc", "NULL", "🙂", "\u200b",
]  # fmt: skip


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_no_query_raises_or_means_a_command(store, query):
    begun = ask(store, "plain words here", "an answer")
    for how in ({}, {"model": query}, {"conversation": query}):
        for hit in store.search(query, **how):
            assert hit.conversation == begun.conversation
    assert kinds(store, "plain") == ["question"]


@pytest.mark.parametrize("query", ["", " ", "\n\t "])
def test_nothing_to_search_for_is_refused(store, query):
    with pytest.raises(InputError, match="nothing to search for"):
        store.search(query)


def test_a_snippet_is_cut_around_the_first_match():
    text = "before " * 40 + "the needle in here and another needle " + "after " * 60
    cut = words.snippet(text, ["needle"])
    assert cut.startswith("…before") and cut.endswith("…") and cut.count("«needle»") == 2
    assert len(cut) <= words.SNIPPET + 6
    assert words.snippet("no match", ["x"]) == "no match"
    assert words.snippet("", []) == ""
    assert (
        words.snippet("catalogue of cats, concat, snake_cat 今cat天", ["cat"])
        == "«catalogue» of «cats», concat, snake_«cat» 今«cat»天"
    )


def test_parts_lose_nothing_and_cut_between_words():
    text = "word " * 30_000 + "\n" + "天" * 20_000
    assert words.without_seams("".join(words.parts(text))) == text
    assert all(part.strip() for part in words.parts(text))
    assert [len(part) for part in words.parts("x" * 120_000)] == [50_000, 50_000, 20_000]
