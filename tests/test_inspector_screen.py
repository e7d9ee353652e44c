"""The data inspector: what trains and why, what is left out, redactions set off, and one key that keeps an answer out for good."""

from collections.abc import Iterator

import pytest
from chatting import scenario
from screens import NARROW, WIDE, opened
from store_support import ask

from data import paths
from data.datasets import excluded
from data.datasets.rows import Refused, Row
from data.datasets.sources import from_log
from data.errors import InputError
from data.store import Store, open_store
from tui.screens.inspector import InspectorScreen


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store() as opened_store:
        yield opened_store


def said(store: Store) -> None:
    """A correction with a telephone number and hostile text in it, a thumb, an answer that broke off."""
    first = ask(store, "Who is it? \x1b[31m[bold]", "Nobody.")
    store.feedback.correct(first.inference, "It is Anna, write to anna.k@example.org please.")
    second = ask(store, "Is it late?", "Yes.")
    store.feedback.rate(second.inference, -1)
    third = ask(store, "And now?", None)
    store.log.finish(third.inference, status="interrupted", text="It")
    store.feedback.rate(third.inference, 1)


def trained(store: Store) -> list[str]:
    return [row.shape for row in from_log(store).rows() if isinstance(row, Row)]


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@scenario
async def test_rows_are_shown_as_training_sees_them_and_kept_out_with_one_key(store: Store, size: tuple[int, int]) -> None:
    said(store)
    assert trained(store) == ["correction", "thumb"]
    async with opened(lambda: InspectorScreen(store), size) as driven:
        await driven.until(lambda: len(driven.rows) == 3)
        assert "2 rows of 3" in str(driven.screen.query_one("#heading").content)  # type: ignore[attr-defined]
        await driven.go("row:1")
        for words in ("your correction of an answer", "sft, kto, dpo", "EMAIL_ADDRESS × 1", "<EMAIL_ADDRESS>", "Nobody."):
            assert words in driven.about, words
        assert "anna.k@example.org" not in driven.text and "\x1b" not in driven.about and "[bold]" in driven.about
        await driven.press("x")
        await driven.until(lambda: "you keep this answer out" in driven.about)
        assert trained(store) == ["thumb"]
        refused = [row for row in from_log(store).rows() if isinstance(row, Refused)]
        assert "you keep it out of training" in {one.reason for one in refused}
        await driven.press("v")
        await driven.until(lambda: driven.rows == ["row:2"])
        assert "answer judged bad" in driven.about
        await driven.press("v")
        await driven.until(lambda: driven.rows == ["row:1", "row:3"])
        await driven.go("row:3")
        assert "not complete (interrupted)" in driven.about
        await driven.press("x")  # it is left out already: nothing to keep out
        await driven.go("row:1")
        await driven.press("x")
        await driven.until(lambda: trained(store) == ["correction", "thumb"])
        assert not excluded.keys()


@scenario
async def test_rows_are_judged_by_the_domain_that_is_shown(store: Store) -> None:
    begun = ask(store, "someone took my card", "INFO", domain="triage")
    store.feedback.correct(begun.inference, "FRAUD")
    ask(store, "elsewhere", "x")
    async with opened(lambda: InspectorScreen(store)) as driven:
        await driven.go("row:1")
        assert "label " not in driven.about
        await driven.press("d")
        await driven.until(lambda: "triage" in str(driven.screen.query_one("#heading").content))  # type: ignore[attr-defined]
        await driven.until(lambda: "FRAUD" in driven.about and "label" in driven.about)


@scenario
async def test_an_empty_log_says_how_rows_come(store: Store) -> None:
    async with opened(lambda: InspectorScreen(store), NARROW) as driven:
        assert "rate or correct an answer" in driven.text
        await driven.press("x", "v", "d", "escape")
        await driven.until(lambda: driven.app.left)


@scenario
async def test_a_damaged_list_stops_reading_instead_of_training_on_what_was_kept_out(store: Store) -> None:
    said(store)
    paths.ensure(paths.data_dir())
    excluded.file().write_text('{"answers": 3}')
    with pytest.raises(InputError, match="is damaged"):
        list(from_log(store).rows())
    async with opened(lambda: InspectorScreen(store)) as driven:
        assert "is damaged" in driven.note
