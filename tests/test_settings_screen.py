"""The settings' screen: every key of the schema, where it comes from, changing it with what is wrong said at once, secrets."""

import pytest
from chatting import scenario
from screens import NARROW, WIDE, opened

from data import config, paths
from tui import setting
from tui.screens.settings import SettingsScreen


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@scenario
async def test_a_value_is_checked_while_one_types_and_kept_with_the_file_s_comments(size: tuple[int, int]) -> None:
    paths.ensure(paths.config_dir())
    paths.settings_file().write_text("# mine\nmax_tokens = 99  # for now\n")
    async with opened(SettingsScreen, size) as driven:
        await driven.go("key:sampling.temperature")
        for words in ("0 is greedy", "0.7", "the default", "a number, at least 0, at most 5"):
            assert words in driven.about, words
        await driven.press("enter")
        assert driven.screen.line.value == "0.7"
        driven.screen.line.value = "9"
        await driven.until(lambda: "less than or equal to 5" in driven.note)
        await driven.press("enter")
        assert driven.screen.line.display and config.load().sampling.temperature == 0.7
        await driven.enter("0.2")
        await driven.until(lambda: config.load().sampling.temperature == 0.2 and "settings.toml" in driven.about.replace("\n", ""))
        assert "from the next start on" in driven.note and "# for now" in paths.settings_file().read_text()
        await driven.press("u")
        await driven.until(lambda: "the default" in driven.about and "is unset" in driven.note)
        assert "temperature" not in paths.settings_file().read_text()
        await driven.press("escape")
        await driven.until(lambda: driven.app.left)


@scenario
async def test_every_key_of_the_schema_has_a_row_and_says_what_it_may_be() -> None:
    async with opened(SettingsScreen) as driven:
        assert driven.rows == [f"key:{key}" for key in config.known_keys()]
        assert all(setting.limits(key) for key in config.known_keys())
        await driven.go("key:mode")
        assert "one of auto, standard, chain_of_thought" in driven.about


@scenario
async def test_the_environment_overrules_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_MAX_TOKENS", "7")
    async with opened(SettingsScreen) as driven:
        await driven.go("key:max_tokens")
        assert "POINTSMAN_MAX_TOKENS" in driven.about and "overrules" in driven.about
        await driven.press("u")  # nothing in the file to take out
        await driven.press("e")
        await driven.enter("9")
        await driven.until(lambda: "in the environment overrides it" in driven.note)


@scenario
async def test_a_secret_is_never_on_the_screen() -> None:
    config.change("server.token", "hunter2hunter2")
    async with opened(SettingsScreen) as driven:
        await driven.go("key:server.token")
        assert "hunter2" not in driven.text and "********" in driven.about
        await driven.press("e")
        assert driven.screen.line.password and driven.screen.line.value == ""
        await driven.press(*"swordfish")
        await driven.pilot.pause()
        assert "swordfish" not in driven.text
        await driven.press("enter")
        await driven.until(lambda: config.load().server.token == "swordfish" and "server.token" in driven.note)
        assert "swordfish" not in driven.text


@scenario
async def test_a_theme_is_worn_at_once_and_tables_are_typed_as_toml() -> None:
    async with opened(SettingsScreen) as driven:
        await driven.go("key:tui.theme")
        await driven.press("e")
        await driven.enter("nord")
        await driven.until(lambda: driven.app.theme == "nord")
        await driven.go("key:tools.mcp")
        await driven.press("e")
        await driven.enter('{ clock = "clock --utc" }')
        await driven.until(lambda: dict(config.load().tools.mcp) == {"clock": "clock --utc"})
        await driven.until(lambda: "clock" in driven.about)
        await driven.press("e")
        assert driven.screen.line.value == '{ "clock" = "clock --utc" }'
        await driven.enter('{ a = "b" }')
        await driven.until(lambda: dict(config.load().tools.mcp) == {"a": "b"})


@scenario
async def test_a_damaged_file_is_said_with_its_line_and_nothing_breaks() -> None:
    paths.ensure(paths.config_dir())
    paths.settings_file().write_text("model = \x1b")
    async with opened(SettingsScreen, NARROW) as driven:
        assert "is not valid TOML" in driven.note and "\x1b" not in driven.note
        await driven.press("e", "u", "enter", "f5", "escape")
        await driven.until(lambda: driven.app.left)
