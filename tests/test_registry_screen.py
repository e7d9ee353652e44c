"""The registry's screen: what answers and why, promoting, refusing, rolling back, experiments; empty, damaged, narrow."""

from collections.abc import Iterator

import pytest
from chatting import scenario
from registry_support import GOOD, champion, damage, export, version
from screens import NARROW, WIDE, Opened, opened

from data import config, exports
from data.store import Store, open_store
from data.store.versions import Evidence
from router.engines import Engines
from router.session import Session
from tui.screens.registry import RegistryScreen, gain


@pytest.fixture
def session() -> Iterator[Session]:
    settings = config.load()
    with open_store() as store:
        yield Session(settings, store, Engines(settings))


async def twice(driven: Opened, key: str) -> None:
    """Press a key, and once more when it is asked back."""
    await driven.press(key)
    await driven.until(lambda: "the same key does it" in driven.note)
    await driven.press(key)


def stage(store: Store, name: str) -> str:
    return store.registry.get(name).stage


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@scenario
async def test_versions_are_shown_with_their_evidence_and_promoted_and_taken_back(session: Session, size: tuple[int, int]) -> None:
    champion(session.store, "first")
    second = version(session.store, "second")
    async with opened(lambda: RegistryScreen(session), size) as driven:
        assert "triage" in driven.text and "★ first" in driven.text
        await driven.go(f"version:{second.id}")
        await driven.until(lambda: "candidate of triage" in driven.about)
        for words in ("+29.0% on 48 held-out rows", "at least +11.0%", "●", "12 of them corrections"):
            assert words in driven.about, words
        await twice(driven, "p")
        await driven.until(lambda: "second is the champion of triage, before it was first" in driven.note)
        await driven.until(lambda: stage(session.store, "second") == "champion" and "✓ better than the base" in driven.about)
        await twice(driven, "b")
        await driven.until(lambda: "second was taken back, first answers triage" in driven.note)
        await driven.press("w")
        await driven.until(lambda: "champion → retired" in driven.about)


@scenario
async def test_what_fails_its_gates_is_refused_and_passed_over_for_a_reason(session: Session) -> None:
    weak = version(session.store, "weak", evidence=Evidence(True, GOOD.gates, 48, 0.1, -0.01))
    async with opened(lambda: RegistryScreen(session)) as driven:
        await driven.go(f"version:{weak.id}")
        await twice(driven, "p")
        await driven.until(lambda: "weak stays a candidate of triage; failed: better than the base" in driven.note)
        assert stage(session.store, "weak") == "candidate"
        await driven.press("o", "enter")
        assert "there has to be one" in driven.note
        await driven.enter("for the demo")
        await driven.until(lambda: stage(session.store, "weak") == "champion")
        await driven.until(lambda: "passed over" in driven.about and "for the demo" in driven.about)
        await twice(driven, "b")
        await driven.until(lambda: "the base answers triage" in driven.note)


@scenario
async def test_an_experiment_is_begun_watched_and_ended(session: Session) -> None:
    champion(session.store, "first")
    second = version(session.store, "second")
    async with opened(lambda: RegistryScreen(session)) as driven:
        await driven.go(f"version:{second.id}")
        await twice(driven, "e")
        await driven.until(lambda: any(row.startswith("running:") for row in driven.rows))
        await driven.go(next(row for row in driven.rows if row.startswith("running:")))
        for words in (
            "llamacpp/second",
            "llamacpp/first",
            "e-value",
            "nothing is proven yet; no end is in sight",
            "0 won, 0 lost, 0 ties",
        ):
            assert words in driven.about, words
        await twice(driven, "x")
        await driven.until(lambda: "has ended" in driven.note and any(row.startswith("ended:") for row in driven.rows))
        await driven.go(next(row for row in driven.rows if row.startswith("ended:")))
        assert "stopped" in driven.about


@scenario
async def test_a_canary_is_tried_and_what_was_never_taken_in_is_listed(session: Session) -> None:
    second = version(session.store, "second")
    export("third")
    async with opened(lambda: RegistryScreen(session)) as driven:
        await driven.go(f"version:{second.id}")
        await twice(driven, "c")
        await driven.until(lambda: stage(session.store, "second") == "canary")
        await driven.go("export:third")
        await twice(driven, "p")  # its run is gone: a gate that fails
        await driven.until(lambda: "third stays a candidate" in driven.note and "run folder" in driven.note)


@scenario
async def test_damaged_files_are_said_and_nothing_is_moved(session: Session) -> None:
    second = version(session.store, "second")
    damage(exports.folder() / "second")
    (exports.folder() / "broken").mkdir()
    (exports.folder() / "broken" / exports.FILE).write_text("{")
    async with opened(lambda: RegistryScreen(session)) as driven:
        await driven.go(f"version:{second.id}")
        await twice(driven, "p")
        await driven.until(lambda: "was changed: sha256" in driven.note)
        assert stage(session.store, "second") == "candidate"
        await driven.press("p")
        await driven.press("escape")  # gives the question up, and stays
        assert driven.note == "" and not driven.app.left


@scenario
async def test_an_empty_registry_says_how_to_fill_it(session: Session) -> None:
    async with opened(lambda: RegistryScreen(session), NARROW) as driven:
        assert "nothing was exported yet" in driven.text
        await driven.press("p", "b", "e", "x", "w", "escape")
        await driven.until(lambda: driven.app.left)


def test_a_gain_is_drawn_with_its_interval_beside_the_base() -> None:
    assert gain(0.25, 0.15).plain.index("●") - gain(0.25, 0.15).plain.index("┃") == 10
    assert gain(5.0, -9.0).plain.endswith("●") and len(gain(5.0, -9.0).plain) == 41
