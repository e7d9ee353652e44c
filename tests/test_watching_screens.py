"""The screens that look and change little: monitor, domains, doctor; and that every screen opens from the chat."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from chatting import chat, scenario
from monitored import NOW, fill
from screens import NARROW, WIDE, opened
from scripted_mode import unlearned

from data import monitor, paths
from data.store import Store, open_store
from tui import checks, slash
from tui.checks import Finding
from tui.screens import SCREENS
from tui.screens.browse import Browse
from tui.screens.doctor import DoctorScreen
from tui.screens.domains import DomainsScreen
from tui.screens.monitor import MonitorScreen


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(monitor, "look", functools.partial(monitor.look, now=NOW))
    with open_store() as found:
        yield found


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@scenario
async def test_what_got_worse_comes_first_and_figures_stand_beside_those_before(
    store: Store, size: tuple[int, int], tmp_path: Path
) -> None:
    fill(store, 300, ago=(36, 8), model="llamacpp/small", bad={"failed": 0.03})
    fill(store, 120, ago=(6, 0.1), model="llamacpp/small", bad={"failed": 0.3})
    async with opened(lambda: MonitorScreen(store), size) as driven:
        assert driven.rows[0] == "alarm:0" and "errors and interruptions" in driven.about and "e-value" in driven.about
        await driven.go("row:0")
        for words in ("llamacpp/small", "answers       120           300", "first token s", "in triage"):
            assert words in driven.about, words
        await driven.go("drift")
        assert "population stability index" in driven.about and "triage" in driven.about
        await driven.go("unknown")
        assert "guessed" in driven.about
        await driven.press("d")
        await driven.enter("0")
        assert "a whole number from 1 to 365" in driven.note
        await driven.enter("2")
        await driven.until(lambda: "the last 2 days" in driven.text)
        await driven.press("h")
        await driven.enter(str(tmp_path / "page.html"))
        await driven.until(lambda: (tmp_path / "page.html").is_file() and "the page is" in driven.note)


@scenario
async def test_a_log_without_answers_says_so(store: Store) -> None:
    async with opened(lambda: MonitorScreen(store), NARROW) as driven:
        assert "no answers of these days" in driven.text
        await driven.press("escape")
        await driven.until(lambda: driven.app.left)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@scenario
async def test_packs_are_shown_with_labels_and_rows_and_checked(size: tuple[int, int]) -> None:
    broken = paths.ensure(paths.data_dir() / "domains" / "broken")
    (broken / "domain.toml").write_text("name = 'broken'\ntitle = '\x1b[31m'\n")
    async with opened(DomainsScreen, size) as driven:
        await driven.go("pack:triage")
        await driven.until(lambda: "FRAUD" in driven.about)
        for words in ("to validate", "adversarial", "pointsman", "gates"):
            assert words in driven.about, words
        before = driven.about
        await driven.press("n")
        await driven.until(lambda: "FRAUD" in driven.about and driven.about != before)
        await driven.press("c")
        await driven.until(lambda: "checked: nothing is wrong" in driven.about)
        await driven.go("pack:broken")
        await driven.until(lambda: "broken" in driven.about and "domain.toml" in driven.about)
        await driven.press("c")
        await driven.until(lambda: "problems" in driven.about)
        assert "\x1b" not in driven.about and "\x1b" not in driven.text


@scenario
async def test_findings_come_with_their_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("python", "ok", "3.11"), Finding("log", "broken", "the file is \x1b[2Jdamaged", "pointsman log restore")]
    monkeypatch.setattr(checks, "run", lambda: iter(found))
    async with opened(DoctorScreen, NARROW) as driven:
        await driven.until(lambda: "something essential is broken (1 ok, 1 broken)" in driven.text.replace("\n", " "))
        await driven.go("check:1")
        assert "pointsman log restore" in driven.about and "␛[2Jdamaged" in driven.about
        await driven.press("f5")
        await driven.until(lambda: len(driven.rows) == 2)


@scenario
async def test_without_colours_marks_and_words_still_tell_the_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    found = [Finding("python", "ok", "3.11"), Finding("disk", "warning", "little"), Finding("log", "broken", "damaged")]
    monkeypatch.setattr(checks, "run", lambda: iter(found))
    async with opened(DoctorScreen, NARROW) as driven:
        await driven.until(lambda: len(driven.rows) == 3)
        assert driven.app.no_color
        for words in ("✓ python", "! disk", "✗ log"):
            assert words in driven.text


@scenario
async def test_every_screen_opens_from_the_chat_and_goes_back_to_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    unlearned(monkeypatch)
    monkeypatch.setattr(checks, "run", lambda: iter([Finding("python", "ok", "3.11")]))
    assert {name for name, place in SCREENS.items() if not place.key} == {"monitor", "domains", "doctor"}
    assert set(SCREENS) <= set(slash.BY_NAME)
    async with chat("Hello") as driven:
        await driven.type("half a question")
        for name, place in SCREENS.items():
            if place.key:
                await driven.press(place.key)
            else:
                driven.app.chat.action_open(name)
            await driven.until(lambda: isinstance(driven.app.screen, Browse) and driven.app.screen._shown)
            assert type(driven.app.screen).__name__ == place.screen
            await driven.press("f1")
            await driven.until(lambda: "Give up what was begun" in driven.screen)
            await driven.press("escape", "escape")
            await driven.until(lambda: driven.app.screen is driven.app.chat)
        assert driven.app.chat.prompt.text == "half a question"
