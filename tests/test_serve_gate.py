"""Who may ask: hosts, origins, tokens, and where a server listens."""

import re
from pathlib import Path

import pytest
from command_line import ROOT, run
from serving import serving, until_closed

from data import config
from data.errors import InputError, SettingsError
from router.engines.echo import Echo
from tui.server import running

TOKEN = "correct-horse-battery-staple"
BODY = {"model": "echo/echo", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    import os
    from unittest.mock import patch

    home = {"POINTSMAN_HOME": str(tmp_path_factory.mktemp("home")), "POINTSMAN_OFFLINE": "1"}
    origins = ("https://chat.example.org",)
    with (
        patch.dict(os.environ, home),
        serving({"echo": Echo()}, token=TOKEN, server__hosts=("pointsman",), server__origins=origins) as one,
    ):
        yield one


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:11535", 200),
        ("localhost:1", 200),
        ("LOCALHOST.", 200),
        ("[::1]:80", 200),
        ("192.168.1.5", 200),
        ("pointsman:11535", 200),
        ("evil.example.org", 403),
        ("localhost.evil.example.org", 403),
        ("127.0.0.1.evil.example.org", 403),
        ("pointsman.evil.example.org", 403),
        ("[::1", 200),
        ("[evil]:80", 403),
        ("", 403),
    ],
)
def test_only_names_of_this_machine_are_served(served, host: str, status: int) -> None:
    assert served.client.get("/healthz", headers={"Host": host}).status_code == status


def test_two_hosts_or_none_are_refused(served) -> None:
    with served.raw(b"GET /healthz HTTP/1.0\r\n\r\n") as connection:
        assert b" 403 " in until_closed(connection)
    with served.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.org\r\n\r\n") as connection:
        assert b" 400 " in until_closed(connection)


@pytest.mark.parametrize(
    "origin", ["https://evil.example.org", "null", "http://localhost:3000", "https://chat.example.org.evil.org"]
)
def test_web_pages_that_are_not_named_may_not_ask_even_with_the_token(served, origin: str) -> None:
    for path in ("/v1/models", "/healthz"):
        assert served.client.get(path, headers={"Origin": origin}).status_code == 403
    asked = served.client.post("/v1/chat/completions", json=BODY, headers={"Origin": origin, "Content-Type": "text/plain"})
    assert asked.status_code == 403
    assert "access-control-allow-origin" not in asked.headers


def test_a_named_web_page_may_ask(served) -> None:
    origin = {"Origin": "https://chat.example.org"}
    wish = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = served.client.options("/v1/chat/completions", headers=origin | wish | {"Authorization": ""})
    assert preflight.status_code == 200
    answer = served.client.post("/v1/chat/completions", json=BODY, headers=origin)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin["Origin"]
    assert "x-pointsman-decision" in answer.headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \u00e9".encode("latin-1"),
    ],
)
def test_without_the_token_nothing_is_told(served, given) -> None:
    for path in ("/v1/models", "/metrics", "/api/tags", "/", "/nope"):
        answer = served.client.get(path, headers={"Authorization": given})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    assert served.client.get("/healthz", headers={"Authorization": given}).json() == {"status": "ok"}


def test_the_error_for_a_missing_token_is_one_that_clients_know(served) -> None:
    import openai

    with (
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as client:
        assert client.models.list().data


def test_other_addresses_than_this_machines_need_a_long_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def token(host: str, file: Path | None = None, **flags: str) -> str:
        return running.token_of(config.load({"server.host": host, **flags}).server, file)

    assert token("127.0.0.1") == token("::1") == token("localhost") == ""
    for host in ("0.0.0.0", "::", "192.168.1.5", "127.example.org", ""):
        with pytest.raises(SettingsError, match="16 characters"):
            token(host)
        with pytest.raises(SettingsError, match="16 characters"):
            token(host, **{"server.token": "short"})
        assert token(host, **{"server.token": TOKEN}) == TOKEN
    monkeypatch.setenv("POINTSMAN_SERVER_TOKEN", "from-the-environment")
    assert token("0.0.0.0") == "from-the-environment"
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert token("0.0.0.0", file) == TOKEN
    file.write_text(" \n")
    with pytest.raises(InputError, match="empty"):
        token("0.0.0.0", file)
    with pytest.raises(InputError, match="cannot read"):
        token("0.0.0.0", tmp_path / "none")


def test_the_command_refuses_an_open_door_and_shows_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    run("serve", "--host", "0.0.0.0", "--port", "0").refused("0.0.0.0", "--token-file")
    assert "--token " not in run("serve", "--help").out
    assert run("config", "set", "server.token", TOKEN).code == 0
    shown = run("config", "show")
    assert TOKEN not in shown.out
    assert TOKEN not in repr(config.load())
    assert TOKEN not in run("config", "show", "server.token").out


def test_an_address_that_cannot_be_had_is_said_plainly() -> None:
    taken = running.listen(config.load({"server.port": 0}).server)
    with taken:
        taken.listen()
        run("serve", "--port", str(taken.getsockname()[1])).refused("cannot listen", "--port 0")
    run("serve", "--host", "256.1.1.1", "--token-file", str(ROOT / "LICENSE")).refused("cannot listen", "server.host")


def test_the_token_is_compared_in_constant_time() -> None:
    source = (ROOT / "tui" / "server" / "gate.py").read_text(encoding="utf-8")
    assert "hmac.compare_digest(" in source
    assert not re.search(r"[!=]= self\._token|self\._token [!=]=", source)
