"""What makes the chat comfortable: commands, chips, files found anywhere, cited lines, copying, going on after a crash."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chatting import Chat, chat, scenario
from scripted_mode import unlearned
from textual.color import Color
from textual.widgets import Static

from data import config
from data.chat import Message
from data.errors import EngineInterrupted
from data.store import open_store
from data.store.recovery import LEFT
from router.engines import Engines
from router.engines.echo import Echo
from router.session import Session
from tui import history, keys, mentions, slash, sources, terminal_input, themes
from tui.app import PointsmanApp
from tui.chips import Chips
from tui.screens import SCREENS
from tui.screens.help import HelpScreen
from tui.screens.modes import ModesScreen
from tui.screens.sources import SourcesScreen
from tui.screens.tour import PAGES, TourScreen
from tui.text_chat import TextChat
from tui.trace import Citation
from tui.widgets.typeset import code_blocks


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    unlearned(monkeypatch)


def told(driven: Chat, words: str) -> bool:
    return any(words in notice for notice in driven.notices)


# Commands


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/new", ("new", "")),
        ("/model  echo/echo ", ("model", "echo/echo")),
        ("/compare why\nand how", ("compare", "why\nand how")),
        ("/nothing", ("nothing", "")),
        ("/etc/hosts what is this", None),
        (" /new", None),
        ("/ new", None),
        ("/usr\nis a folder", None),
        ("what is /new", None),
    ],
)
def test_a_command_is_told_from_a_question(text: str, expected: tuple[str, str] | None) -> None:
    assert slash.written(text) == expected


def test_every_command_has_its_action() -> None:
    app = PointsmanApp(config.load({"model": "echo/echo"}), lambda: pytest.fail("nothing is opened"))  # type: ignore[arg-type, return-value]
    targets = {"app": app, "chat": app.chat, "conversation": app.chat.conversation}
    for command in slash.COMMANDS:
        assert callable(getattr(targets[command.target], f"action_{command.action}")), command.name
    assert len(slash.BY_NAME) == len(slash.COMMANDS) and set(SCREENS) <= set(slash.BY_NAME)


@scenario
async def test_typed_commands_act_and_are_not_asked() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        for line, done in (
            ("/good", lambda: "rated good" in driven.screen),
            ("/mode multi", lambda: driven.app.chat.conversation.pins.mode == "multi_step"),
            ("/model echo/other", lambda: driven.app.chat.conversation.pins.model == "echo/other"),
            ("/title Greetings #work", lambda: "Greetings #work" in driven.screen),
            ("/theme textual-light", lambda: driven.app.theme == "textual-light"),
            ("/theme nothing", lambda: told(driven, "there is no theme")),
            ("/mode nothing", lambda: told(driven, "there is no mode")),
            ("/new", lambda: not driven.answers),
        ):
            await driven.type(line)
            driven.app.chat.prompt.action_leave_files()
            await driven.press("enter")
            await driven.until(done)
        assert len(driven.echo.requests) == 1


@scenario
async def test_an_unknown_command_is_told_and_handed_back() -> None:
    async with chat() as driven:
        await driven.type("/incognit now")
        await driven.press("enter")
        await driven.until(lambda: told(driven, "did you mean /incognito?"))
        assert driven.app.chat.prompt.text == "/incognit now" and driven.echo.requests == []


@scenario
async def test_commands_are_offered_while_they_are_typed() -> None:
    async with chat() as driven:
        await driven.press("slash", "m", "o", "d")
        await driven.until(lambda: "/model" in driven.screen and "/mode" in driven.screen)
        await driven.press("down", "tab")
        await driven.until(lambda: driven.app.chat.prompt.text in ("/mode ", "/model "))
        assert not driven.app.chat.query_one("#files").display


@scenario
async def test_the_palette_has_every_command() -> None:
    async with chat() as driven:
        titles = {command.title for command in driven.app.get_system_commands(driven.app.screen)}
        assert titles == {command.title for command in slash.COMMANDS}
        await driven.app.push_screen(HelpScreen((), {}))
        assert {command.title for command in driven.app.get_system_commands(driven.app.screen)} == {"Theme", "Help", "Quit"}


def test_no_two_keys_that_work_together_are_the_same() -> None:
    for contexts in keys.TOGETHER:
        owners: dict[str, str] = {}
        for binding in (binding for context in contexts for binding in keys.CONTEXTS[context]):
            for key in binding.key.split(","):
                assert owners.setdefault(key, binding.id or "") == binding.id or key in ("escape", "f5", "f2"), (contexts, key)


# Chips


def test_a_long_paste_becomes_a_chip_and_is_whole_when_sent() -> None:
    chips = Chips()
    assert chips.take("short") == "short"
    text = "line `````\n" * 30
    chip = chips.take(text)
    assert chip == "[pasted 1: 31 lines] "
    assert chips.take("x" * 3_000) == "[pasted 2: 3,000 characters] "
    whole = chips.expanded(f"Sum up {chip}please")
    assert whole == f"Sum up {chip}please\n\n[pasted 1]:\n``````\n{text.rstrip()}\n``````"
    assert chips.expanded("[pasted 7: 31 lines] and [pasted 1: 31 line]") == "[pasted 7: 31 lines] and [pasted 1: 31 line]"


@scenario
async def test_a_chip_stands_in_the_prompt_and_the_model_sees_the_text() -> None:
    async with chat("fine") as driven:
        driven.app.chat.prompt.take("a line\r\n" * 40)
        assert driven.app.chat.prompt.text == "[pasted 1: 41 lines] "
        await driven.ask("what is it?")
        [request] = driven.echo.requests
        assert request.messages[-1].content.count("a line") == 40
        await driven.press("up")
        assert driven.app.chat.prompt.text == "[pasted 1: 41 lines] what is it?"


# Files


def test_files_of_other_folders_are_found_by_their_letters(tmp_path: Path) -> None:
    for name in ("src/app/main_screen.py", "src/mod.py", "docs/manual.md", ".git/main", "node_modules/main.js", "main.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    below = mentions.below(tmp_path)
    assert below == ["docs/manual.md", "src/mod.py", "src/app/main_screen.py"]
    assert mentions.candidates("main", tmp_path, below) == ["main.txt", "src/app/main_screen.py"]
    assert mentions.candidates("mscr", tmp_path, below) == ["src/app/main_screen.py"]
    assert mentions.candidates("MAN", tmp_path, below) == ["docs/manual.md", "src/app/main_screen.py"]
    assert mentions.candidates("", tmp_path, below) == ["docs/", "main.txt", "node_modules/", "src/"]
    assert mentions.below(tmp_path / "nowhere") == []


@scenario
async def test_the_picker_offers_files_of_folders_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "w" / "deep" / "er" / "notes.md").write_text("x")
    monkeypatch.chdir(tmp_path / "w")
    async with chat() as driven:
        await driven.press(*"see @nts")
        await driven.until(lambda: "deep/er/notes.md" in driven.screen)
        await driven.press("tab")
        assert driven.app.chat.prompt.text == "see @deep/er/notes.md "


# Cited lines


@scenario
async def test_the_cited_lines_are_opened_among_those_around_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "".join(f"Line {number} about the moon \x1b[31m.\n\n" for number in range(1, 40))
    (tmp_path / "moon.md").write_text(text)
    async with chat("It is far [1].") as driven:
        await driven.ask("What about the moon? @moon.md")
        await driven.until(lambda: "[1] moon.md:" in driven.screen)
        await driven.press("alt+up", "o")
        await driven.until(lambda: isinstance(driven.app.screen, SourcesScreen) and "▌" in driven.screen)
        assert "about the moon ␛[31m." in driven.screen and "(1 of " in driven.screen
        (tmp_path / "moon.md").write_text("changed\n" + text)
        await driven.press("right")
        await driven.until(lambda: "has changed since it was read" in driven.screen)
        (tmp_path / "moon.md").unlink()
        await driven.press("left")
        await driven.until(lambda: "as it was read" in driven.screen and "about the moon" in driven.screen)
        await driven.press("escape")
        await driven.until(lambda: driven.app.screen is driven.app.chat)


@scenario
async def test_an_answer_that_cites_nothing_says_so_and_a_lost_document_too() -> None:
    async with chat("Hello") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "o")
        await driven.until(lambda: told(driven, "cites nothing"))
        place = driven.app.chat.conversation.conversation
        await driven.app.push_screen(SourcesScreen(driven.store, place, [Citation(1, "gone.md", 1, 2)]))
        await driven.until(lambda: "is no document of this chat" in driven.screen)


def test_a_citation_of_a_document_that_is_gone_is_not_found() -> None:
    with open_store() as store, pytest.raises(Exception, match="no document"):
        sources.passage(store, "", Citation(1, "x", 1, 1))


# Copying, the mouse, themes


def test_blocks_of_code_are_found_without_their_fences() -> None:
    assert code_blocks("a\n```python\nx = 1\n```\n\n    indented\n\n```\n```\n`no`") == ["x = 1", "indented"]
    assert code_blocks("nothing") == []


@scenario
async def test_blocks_of_code_are_copied_from_the_last_on() -> None:
    async with chat("```\none\n```\n\n```sh\ntwo \x1b[0m\n```") as driven:
        await driven.ask("Hi")
        await driven.press("alt+up", "y")
        await driven.until(lambda: driven.app.clipboard == "two ␛[0m")
        await driven.press("y")
        await driven.until(lambda: driven.app.clipboard == "one")
        await driven.press("y")
        await driven.until(lambda: driven.app.clipboard == "two ␛[0m")
        await driven.press("up", "y")
        await driven.until(lambda: told(driven, "no block of code"))


@scenario
async def test_the_mouse_is_left_to_the_terminal_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with chat() as driven:
        await driven.press("alt+m")
        await driven.until(lambda: told(driven, "cannot be handed over"))
        calls: list[str] = []
        driver = type(driven.app._driver)
        monkeypatch.setattr(driver, "_enable_mouse_support", lambda self: calls.append("on"), raising=False)
        monkeypatch.setattr(driver, "_disable_mouse_support", lambda self: calls.append("off"), raising=False)
        assert terminal_input.set_mouse(driven.app, False) and terminal_input.set_mouse(driven.app, True)
        assert calls == ["off", "on"]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [part / 255 for part in Color.parse(colour).rgb]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", themes.OWN, ids=lambda theme: theme.name)
def test_high_contrast_is_seven_to_one_for_every_text(theme: object) -> None:
    colours = [theme.foreground, *(v for k, v in theme.variables.items() if k.startswith(("text-", "foreground")))]  # type: ignore[attr-defined]
    assert min(contrast(colour, theme.background) for colour in colours) >= 7  # type: ignore[attr-defined]


@scenario
async def test_a_theme_of_our_own_is_taken_from_the_settings() -> None:
    async with chat(**{"tui.theme": "high-contrast-dark"}) as driven:
        assert driven.app.theme == "high-contrast-dark" and not driven.notices


# After a crash


@scenario
async def test_an_answer_that_broke_off_is_gone_on_with() -> None:
    async with chat(["One two", EngineInterrupted("the server went away")], " three") as driven:
        await driven.type("Count")
        await driven.press("enter")
        await driven.until(lambda: "interrupted" in driven.screen)
        await driven.press("alt+up", "g")
        await driven.until(lambda: [view.text for view in driven.answers] == ["One two three"])
        await driven.until(lambda: not driven.app.chat.conversation.busy)
        assert driven.store.log.turn(driven.answers[0].turn_id).message.content == "One two three"
        await driven.press("alt+up", "g")
        await driven.until(lambda: told(driven, "came to its end by itself"))


@scenario
async def test_what_a_crash_cut_off_is_one_key_away_at_the_next_start() -> None:
    with open_store() as store:
        begun = store.log.begin(Message("user", "Count to ten"), model="echo/echo", mode="standard", config={})
        store.log.finish(begun.inference, status="interrupted", text="One two", error=LEFT)
    async with chat(" three") as driven:
        await driven.until(lambda: "goes back to the answer that was cut off in: Count to ten" in driven.screen)
        await driven.press("alt+r")
        await driven.until(lambda: [view.text for view in driven.answers] == ["One two"])
        await driven.press("alt+up", "g")
        await driven.until(lambda: [view.text for view in driven.answers] == ["One two three"])


@scenario
async def test_nothing_is_offered_where_nothing_was_cut_off() -> None:
    async with chat("Hello") as driven:
        await driven.press("alt+r")
        await driven.until(lambda: told(driven, "no answer was cut off"))


def test_questions_of_earlier_chats_are_remembered_once_each_newest_last() -> None:
    with open_store() as store:
        for text in ("one", "two", "one", "x" * 6_000):
            begun = store.log.begin(Message("user", text), model="echo/echo", mode="standard", config={})
            store.log.finish(begun.inference, status="complete", text="a")
        store.log.begin(Message("user", "hidden"), incognito=True, model="echo/echo", mode="standard", config={})
        assert history.questions(store) == ("two", "one")
        assert history.cut_off(store) is None


@scenario
async def test_the_arrow_leads_to_questions_of_earlier_chats() -> None:
    with open_store() as store:
        begun = store.log.begin(Message("user", "asked yesterday"), model="echo/echo", mode="standard", config={})
        store.log.finish(begun.inference, status="complete", text="a")
    async with chat() as driven:
        await driven.until(lambda: driven.app.chat.prompt._past)
        await driven.press("up")
        assert driven.app.chat.prompt.text == "asked yesterday"


# The beginning


@scenario
async def test_a_suggestion_goes_into_the_prompt_and_overwrites_nothing() -> None:
    async with chat() as driven:
        await driven.press("alt+2")
        assert driven.app.chat.prompt.text.startswith("Plan a weekend")
        await driven.press("alt+1")
        assert driven.app.chat.prompt.text.startswith("Plan a weekend")


@scenario
async def test_the_tour_goes_through_its_pages_and_ends() -> None:
    async with chat() as driven:
        driven.app.chat.action_tour()
        await driven.until(lambda: isinstance(driven.app.screen, TourScreen) and PAGES[0][0] in driven.screen)
        for title, _ in PAGES[1:]:
            await driven.press("right")
            await driven.until(lambda title=title: title in driven.screen)
        await driven.press("left", "right", "right")
        await driven.until(lambda: driven.app.screen is driven.app.chat)


@scenario
async def test_the_mode_is_chosen_by_command_in_a_narrow_terminal() -> None:
    async with chat(size=(40, 16)) as driven:
        await driven.type("/mode")
        driven.app.chat.prompt.action_leave_files()
        await driven.press("enter")
        await driven.until(lambda: isinstance(driven.app.screen, ModesScreen))


@scenario
async def test_the_empty_screen_needs_no_findings() -> None:
    async with chat(wait=False) as driven:
        assert "What would you like to know?" in str(driven.app.chat.query_one("#empty", Static).content)


# Line by line


def lines(*typed: str) -> Iterator[str]:
    return iter([f"{line}\n" for line in typed])


def spoken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *typed: str, replies: tuple[object, ...] = ()
) -> str:
    """What a chat line by line prints for what is typed."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(lines(*typed))))
    settings = config.load({"model": "echo/echo"})
    with open_store() as store:
        echo = Echo(list(replies))  # type: ignore[arg-type]
        TextChat(Session(settings, store, Engines(settings, {"echo": echo})), None).run()
    return capsys.readouterr().out


def test_the_chat_line_by_line_says_who_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = spoken(
        monkeypatch, capsys, "Hi", "/good", "/why", "/again", "/nothing", "", "/quit", "never", replies=("Hello \x1b[2J", "Again")
    )
    assert "Answer:\nHello ␛[2J\n" in said and "Answer:\nAgain\n" in said and "End of the answer. echo/echo" in said
    assert "Kept." in said and "no command /nothing" in said and "never" not in said and "\x1b" not in said
    with open_store() as store:
        assert len(store.log.conversations()) == 1 and store.feedback.tally().answers == 1


def test_faults_line_by_line_are_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fault = EngineInterrupted("the server went away")
    said = spoken(
        monkeypatch, capsys, "/good", "/again", "/model nowhere/x", "Hi", "/model", "Hi", "/new", replies=(["par", fault],)
    )
    assert said.count("There is no answer yet.") == 1 and "There is no question yet." in said and "A new chat." in said
    assert said.count("Error: ") == 2 and "the server went away" in said
