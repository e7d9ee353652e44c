"""Isolation for every test: a home of its own, no network beyond loopback, no settings from the machine's environment."""

import os
import socket
from pathlib import Path

import pytest

from data import catalog

pytest_plugins = ["store_support"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Move every Pointsman folder below tmp and forbid the network."""
    for name in list(os.environ):
        if name.startswith(("POINTSMAN_", "OLLAMA_")) and name != "POINTSMAN_DATASETS":
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("POINTSMAN_HOME", str(folder))
    monkeypatch.setenv("POINTSMAN_OFFLINE", "1")
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")  # the discard port: nothing answers there
    monkeypatch.setattr(socket.socket, "connect", _guarded(socket.socket.connect))
    return folder


@pytest.fixture(scope="session")
def embedded_gguf() -> Path:
    """The real embedded chat model's file, as packaged."""
    return catalog.source_file(catalog.specs()["smollm2-135m"])


def _guarded(connect):
    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(("127.", "::1", "localhost")):
            raise AssertionError(f"a test tried to reach {address!r}")
        return connect(self, address)

    return guarded
