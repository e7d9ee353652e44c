"""Settings: order of sources, typos, wrong types, damaged files, and changing one key without losing a comment."""

from pathlib import Path

import pytest

from data import config, paths
from data.errors import Offline, SettingsError


def write(text: str) -> Path:
    path = paths.settings_file()
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_later_sources_win_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    write('model = "from-file"\n[sampling]\ntemperature = 0.1\ntop_k = 5\n')
    monkeypatch.setenv("POINTSMAN_SAMPLING__TEMPERATURE", "0.2")
    settings = config.load({"sampling.temperature": 0.3, "system": None})
    assert (settings.model, settings.sampling.temperature, settings.sampling.top_k) == ("from-file", 0.3, 5)
    assert config.load().sampling.temperature == 0.2
    assert settings.max_tokens == config.Settings().max_tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sampling]\ntemprature = 1", ["sampling.temprature", "sampling.temperature", "settings.toml"]),
        ("[sampling]\ntemperature = 'hot'", ["sampling.temperature", "'hot'"]),
        ("[sampling]\ntop_p = 7", ["sampling.top_p", "7"]),
        ("model = ", ["not valid TOML"]),
        ("sampling = 3", ["sampling"]),
        ("[llamacpp.context]\nx = 1", ["llamacpp.context.x"]),
    ],
)
def test_a_wrong_file_is_named_with_the_key_and_the_nearest_known_one(text: str, words: list[str]) -> None:
    write(text)
    with pytest.raises(SettingsError) as caught:
        config.load()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_invalid_utf8_in_the_file_is_an_error_and_not_a_traceback() -> None:
    write("")
    paths.settings_file().write_bytes(b"model = '\xff'")
    with pytest.raises(SettingsError, match="not valid TOML"):
        config.load()


def test_an_unknown_environment_variable_of_ours_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_SAMPLING__TEMPRATURE", "1")
    with pytest.raises(SettingsError, match="did you mean 'sampling.temperature'"):
        config.load()


def test_change_keeps_comments_and_checks_the_value() -> None:
    path = write('# mine\nmodel = "a"  # the small one\n')
    assert config.change("sampling.temperature", "0.25") == 0.25
    assert config.change("model", "ollama/llama3.2:1b") == "ollama/llama3.2:1b"
    assert config.change("tui.keymap.send", "ctrl+enter") == "ctrl+enter"
    assert config.change("llamacpp.folders", '["/models"]') == ("/models",)
    text = path.read_text()
    assert "# mine" in text and "# the small one" in text
    settings = config.load()
    assert settings.sampling.temperature == 0.25
    assert settings.tui.keymap == {"send": "ctrl+enter"}
    assert settings.llamacpp.folders == ("/models",)
    with pytest.raises(SettingsError, match=r"sampling\.top_k"):
        config.change("sampling.top_k", "many")
    assert path.read_text() == text


def test_a_text_key_takes_words_that_look_like_toml() -> None:
    assert config.change("system", "42") == "42"
    assert config.load().system == "42"


def test_every_key_has_a_value_and_secrets_are_masked() -> None:
    settings = config.load({"openai_compatible.api_key": "sk-secret"})
    flat = config.flatten(settings)
    assert set(flat) == set(config.known_keys())
    assert "sk-secret" not in str(flat)
    assert "sk-secret" not in repr(settings)


def test_offline_forbids_other_machines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    config.require_network("127.0.0.1", "Ollama")
    config.require_network("[::1]", "Ollama")
    for host in ("example.org", "127.example.org", "10.0.0.1"):
        with pytest.raises(Offline, match=host):
            config.require_network(host, "pulling")
    monkeypatch.setenv("POINTSMAN_OFFLINE", "0")
    config.require_network("example.org", "pulling")


def test_the_page_of_settings_names_every_key_with_its_default() -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text(encoding="utf-8")
    for key, value in config.flatten(config.Settings()).items():
        assert f"| `{key}` | `{value!r}` |" in page, f"docs/settings.md lacks {key} = {value!r}"
