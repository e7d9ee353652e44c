"""How the screens beside the chat look, wide and narrow. See the pictures in __snapshots__.

`pytest tests/test_screen_snapshots.py --snapshot-update` accepts what is drawn now.
"""

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from monitored import NOW, fill
from pilot import wait_until
from registry_support import GOOD, champion, version
from screens import Alone
from store_support import ask
from test_stock_screen import Shelf
from test_stock_screen import screen as stock_screen
from textual.pilot import Pilot
from textual.screen import Screen

from data import config, monitor
from data.store import Store, open_store
from data.store.versions import Evidence
from router.engines import Engines
from router.session import Session
from tui import checks, lookup, training
from tui.checks import Finding
from tui.screens.browse import Browse
from tui.screens.doctor import DoctorScreen
from tui.screens.domains import DomainsScreen
from tui.screens.inspector import InspectorScreen
from tui.screens.monitor import MonitorScreen
from tui.screens.registry import RegistryScreen
from tui.screens.settings import SettingsScreen
from tui.screens.training import TrainingScreen
from tui.training import Job
from tui.training_events import Progress

SIZES = {"wide": (110, 26), "narrow": (60, 22)}
Look = Callable[..., bool]


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr("textual.constants.TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr(lookup, "when", lambda moment: "2026-11-21 04:00")


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store() as found:
        yield found


@pytest.fixture(params=list(SIZES))
def look(request: pytest.FixtureRequest, snap_compare: Any) -> Look:
    """Open a screen, wait for words, compare the picture."""

    def compare(make: Callable[[], Screen[Any]], key: str, words: str) -> bool:
        async def before(pilot: Pilot[Any]) -> None:
            app = pilot.app
            await wait_until(pilot, lambda: isinstance(app.screen, Browse) and any(row.id == key for row in app.screen._shown))
            screen = app.screen
            assert isinstance(screen, Browse)
            screen.list.highlighted = [row.id for row in screen._shown].index(key)
            await wait_until(pilot, lambda: words in screen.query_one("#about").content.plain)  # type: ignore[attr-defined]

        return bool(snap_compare(Alone(make), terminal_size=SIZES[request.param], run_before=before))

    return compare


class Steady(Job):
    """A training that stands still."""

    running = True  # type: ignore[assignment]

    def follow(self) -> Progress:
        found = Progress("triage-20261121-040000-aaaaaaaa", "training", "1 sft", "", 34, 120, 200.0, 412.0)
        found.losses = [2.3 / (1 + step / 8) for step in range(34)]
        found.evaluations = [(30, {"eval_loss": 0.38, "macro_f1": 0.92, "json_valid": 1.0})]
        found.samples = (("someone took my card", "FRAUD", "FRAUD"), ("how do I reset it?", "PASSWORD_RESET", "INFO"))
        return found

    def memory_bytes(self) -> int:
        return 3_100_000_000


def test_training(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Steady(Path("/jobs/one"), ["triage", "--seed", "7"], 1, datetime(2026, 11, 21, tzinfo=UTC))
    monkeypatch.setattr(training, "jobs", lambda: [job])
    monkeypatch.setattr(training, "unfinished", lambda: ["fraud-20261120-120000-bbbbbbbb"])
    monkeypatch.setattr(training, "finished", lambda: [("triage-20261119-090000-cccccccc", True)])
    assert look(TrainingScreen, "job:one", "412 tokens/s")


def test_registry(look: Look, store: Store) -> None:
    champion(store, "triage-1")
    version(store, "triage-2", evidence=Evidence(True, GOOD.gates, 48, 0.1, -0.01))
    settings = config.load()
    session = Session(settings, store, Engines(settings))
    key = f"version:{store.registry.champion('triage').id}"
    assert look(lambda: RegistryScreen(session), key, "against its base")


def test_models(look: Look) -> None:
    assert look(lambda: stock_screen(Shelf()), "model:ollama/llama3.2:1b", "details.format")


def test_settings(look: Look) -> None:
    assert look(SettingsScreen, "key:sampling.temperature", "at most 5")


def test_training_data(look: Look, store: Store) -> None:
    first = ask(store, "Who can help?", "Nobody.")
    store.feedback.correct(first.inference, "Write to anna.k@example.org, she can.")
    store.feedback.rate(ask(store, "Is it late?", "Yes.").inference, -1)
    assert look(lambda: InspectorScreen(store), "row:1", "EMAIL_ADDRESS")


def test_monitor(look: Look, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "look", functools.partial(monitor.look, now=NOW))
    fill(store, 300, ago=(36, 8), model="llamacpp/small", bad={"failed": 0.03})
    fill(store, 120, ago=(6, 0.1), model="llamacpp/small", bad={"failed": 0.3})
    assert look(lambda: MonitorScreen(store), "row:0", "tokens/s")


def test_domains(look: Look) -> None:
    assert look(DomainsScreen, "pack:triage", "FRAUD")


def test_doctor(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Finding("python", "ok", "3.11.9"),
        Finding("ollama", "missing", "no ollama here", "https://ollama.com/download"),
        Finding("disk", "warning", "0.8 GB free", "free some space"),
        Finding("log", "broken", "the file is damaged", "pointsman log restore"),
    ]
    monkeypatch.setattr(checks, "run", lambda: iter(found))
    assert look(DoctorScreen, "check:3", "pointsman log restore")
