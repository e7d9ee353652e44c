"""compose.yaml says what this server can do, and each part that is here runs as a plain process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from command_line import ROOT, prepared_as_packaged

from data import config
from data.store import open_store
from tui.server import running

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_every_name_that_is_used_is_declared() -> None:
    assert set(SERVICES) == {"pointsman", "ollama", "database", "prometheus"}
    for service in SERVICES.values():
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= set(COMPOSE["volumes"])
        assert {one["source"] for one in service.get("configs", [])} <= set(COMPOSE["configs"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        assert ("build" in service) != ("image" in service)
        assert not str(service.get("image", "x:1")).endswith(":latest")
        assert ":" in service.get("image", "x:1")
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_secret_stands_in_the_file_or_on_a_command_line() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert name.endswith("_FILE") or not re.search("TOKEN|PASSWORD|SECRET|API_KEY", name), (name, value)
    words = " ".join(SERVICES["pointsman"]["command"])
    assert "--token-file /run/secrets/token" in words
    assert "$$(cat /run/secrets/database)" in words  # read by the container's shell, not by compose
    assert {one["file"] for one in COMPOSE["secrets"].values()} == {"./secrets/token", "./secrets/database"}


def test_the_servers_environment_is_settings_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["pointsman"]["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POINTSMAN_HOME", str(tmp_path))
    settings = config.load({"server.host": "0.0.0.0"})
    assert settings.server.hosts == ("pointsman",)
    assert settings.ollama.host == "http://ollama:11434"
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    assert running.token_of(settings.server, token)


def test_prometheus_asks_where_the_server_listens_with_its_token() -> None:
    scraped = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])["scrape_configs"][0]
    port = re.search(r"--port (\d+)", " ".join(SERVICES["pointsman"]["command"]))
    assert port
    assert scraped["static_configs"][0]["targets"] == [f"pointsman:{port[1]}"]
    assert int(port[1]) == config.Settings().server.port
    assert scraped["metrics_path"] == "/metrics"
    assert scraped["authorization"] == {"type": "Bearer", "credentials_file": "/run/secrets/token"}
    assert "token" in SERVICES["prometheus"]["secrets"]
    assert "/healthz" in " ".join(SERVICES["pointsman"]["healthcheck"]["test"])


def test_the_image_installs_what_the_project_declares() -> None:
    recipe = SERVICES["pointsman"]["build"]["dockerfile_inline"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = re.search(r"'\.\[([\w,]+)\]'", recipe)
    assert extras
    assert all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in extras[1].split(","))
    assert {"serve", "postgres", "starter"} <= set(extras[1].split(","))
    assert "USER pointsman" in recipe
    for ignored in (".dockerignore", ".gitignore"):
        assert "secrets" in (ROOT / ignored).read_text(encoding="utf-8").replace("/", "").splitlines()
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for package in ("starlette", "uvicorn", "openai"):
        assert re.search(rf"^{package}==", pinned, re.MULTILINE)


def test_the_server_runs_as_a_process_on_the_database_of_a_team(url: str, home: Path, tmp_path: Path) -> None:
    """As in compose.yaml: a store by URL, an address for all, the token in a file; on SQLite and on PostgreSQL."""
    prepared_as_packaged()
    token = "0123456789abcdef-test-token"
    file = tmp_path / "token"
    file.write_text(token)
    environment = os.environ | {
        "POINTSMAN_STORE__URL": url,
        "POINTSMAN_LLAMACPP__THREADS": "1",
        "POINTSMAN_ROUTER__ENCODER": "false",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tui", "serve", "--host", "0.0.0.0", "--port", "0", "--token-file", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    try:
        assert process.stderr
        told = process.stderr.readline()
        found = re.search(r"serving on http://0\.0\.0\.0:(\d+) \(with a token\)", told)
        assert found, told
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert token.encode() not in shown
        with httpx.Client(base_url=f"http://127.0.0.1:{found[1]}", timeout=120) as client:
            assert client.get("/healthz").status_code == 200
            assert client.get("/v1/models").status_code == 401
            client.headers["Authorization"] = f"Bearer {token}"
            body = {"model": "auto", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            assert 'model="llamacpp/smollm2-135m"' in client.get("/metrics").text
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=60)
    assert "Traceback" not in rest
    assert token not in told + rest
    with open_store(url) as store:
        assert store.log.inference(answer.json()["pointsman"]["inference"]).status == "complete"
