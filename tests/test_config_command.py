"""`pointsman config`: where settings come from, changing them, and mending a file that is wrong."""

import json
from pathlib import Path

import pytest
from command_line import run

from data import paths


def test_path_works_also_with_a_damaged_file(home: Path) -> None:
    paths.ensure(home / "config")
    paths.settings_file().write_text("model = ")
    ran = run("config", "path")
    assert (ran.code, ran.out) == (0, f"{home}/config/settings.toml\n")
    assert json.loads(run("config", "path", "--json").out) == {"path": f"{home}/config/settings.toml", "exists": True}


def test_show_tells_where_each_value_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("config", "set", "sampling.top_k", "7").code == 0
    monkeypatch.setenv("POINTSMAN_MAX_TOKENS", "9")
    shown = json.loads(run("config", "show", "--json").out)
    assert shown["sampling.top_k"]["value"] == 7
    assert {key: shown[key]["from"] for key in ("sampling.top_k", "max_tokens", "model")} == {
        "sampling.top_k": "file",
        "max_tokens": "environment",
        "model": "default",
    }
    assert "sampling.top_k" in run("config", "show").out


def test_show_one_key_explains_it() -> None:
    ran = run("config", "show", "sampling.temperature")
    assert ran.out == "sampling.temperature = 0.7\nfrom: default\nabout: 0 is greedy\n"
    assert json.loads(run("config", "show", "sampling.temperature", "--json").out)["value"] == 0.7


def test_set_keeps_comments_and_unset_brings_the_default_back() -> None:
    paths.ensure(paths.config_dir())
    paths.settings_file().write_text("# mine\nmodel = 'echo'  # for now\n")
    assert run("config", "set", "sampling.temperature", "0.1").out == "sampling.temperature = 0.1\n"
    assert "# mine\nmodel = 'echo'  # for now" in paths.settings_file().read_text()
    assert run("config", "unset", "sampling.temperature").out == "sampling.temperature is unset; its default is 0.7\n"
    assert "temperature" not in paths.settings_file().read_text()
    assert "was not set" in run("config", "unset", "sampling.temperature").err


def test_set_says_when_the_environment_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_MODEL", "echo")
    assert "POINTSMAN_MODEL in the environment overrides it" in run("config", "set", "model", "auto").err


def test_secrets_are_not_shown() -> None:
    ran = run("config", "set", "openai_compatible.api_key", "s3cret")
    assert "s3cret" not in ran.out
    assert "s3cret" not in run("config", "show").out + run("config", "show", "--json").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "modl"), "did you mean 'model'?"),
        (("set", "sampling.temprature", "1"), "did you mean 'sampling.temperature'?"),
        (("set", "sampling.temperature", "hot"), "sampling.temperature = 'hot'"),
        (("set", "max_tokens", "0"), "max_tokens = '0'"),
        (("unset", "modl"), "did you mean 'model'?"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_the_nearest(arguments: tuple[str, ...], words: str) -> None:
    run("config", *arguments).refused(words)


def test_an_unknown_key_in_the_file_is_named_and_can_be_unset() -> None:
    paths.ensure(paths.config_dir())
    paths.settings_file().write_text("[sampling]\ntemprature = 1\n")
    run("ask", "-m", "echo", "hello").refused("unknown setting 'sampling.temprature'", "did you mean 'sampling.temperature'?")
    assert run("config", "unset", "sampling.temprature").code == 0
    assert run("ask", "-m", "echo", "hello").out == "hello\n"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("POINTSMAN_MAX_TOKENS", "many", "max_tokens = 'many' (from the environment)"),
        ("POINTSMAN_MODLE", "echo", "unknown setting 'modle' in the environment"),
    ],
)
def test_a_wrong_environment_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)
    run("ask", "-m", "echo", "hello").refused(words)


def test_a_file_that_is_no_toml_is_named_with_line_and_column() -> None:
    paths.ensure(paths.config_dir())
    paths.settings_file().write_text("model = 'a'\nmode = = 1\n")
    run("config", "show").refused(str(paths.settings_file()), "line 2")
    before = paths.settings_file().read_text()
    run("config", "set", "model", "echo").refused("line 2")
    assert paths.settings_file().read_text() == before
