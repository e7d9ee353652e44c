"""Bases of the hub, from a server of the test's own on this machine: the real client, real files, no network."""

import hashlib
import http.server
import json
import shutil
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("huggingface_hub")

import tiny_checkpoints as tiny  # noqa: E402
from tiny_checkpoints import CPU, read, refused  # noqa: E402

from data.errors import InputError, ModelInvalid, ModelMissing, Offline  # noqa: E402
from trainer.base import load, look  # noqa: E402
from trainer.recipe import BaseTable  # noqa: E402

COMMIT = "c" * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.checkpoint(tmp_path / "model")


class Hub(http.server.ThreadingHTTPServer):
    """What loading asks of the hub: what a model's revision holds, and files of its commit. gated: no one is let in."""

    files: dict[str, bytes]
    asked: list[str]
    gated = False


class Answers(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path.rsplit('/', 1)[1]}")
        if path.startswith("/api/models/owner/name/revision/"):
            if self.server.gated:
                return self._say(403, b"{}", {"X-Error-Code": "GatedRepo"})
            if path.rsplit("/", 1)[1] not in ("main", COMMIT):
                return self._say(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return self._say(200, json.dumps(self._said()).encode())
        name = path.removeprefix(f"/owner/name/resolve/{COMMIT}/")
        if name in self.server.files:
            content = self.server.files[name]
            return self._say(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})
        return self._say(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _said(self) -> dict:
        siblings = []
        for name, content in self.server.files.items():
            large = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
            lfs = {"lfs": large} if name.endswith(".safetensors") else {}
            siblings.append({"rfilename": name, "size": len(content), **lfs})
        weights = {"parameters": {"F32": 12_345}, "total": 12_345}
        return {"id": "owner/name", "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}, "safetensors": weights}

    def _say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub(("127.0.0.1", 0), Answers)
    found.files = {file.name: file.read_bytes() for file in folder.iterdir()}
    found.files |= {
        "pytorch_model.bin": b"\x80\x04.",
        "modeling.py": b"raise SystemExit",
        "README.md": b"",
        "onnx/a.safetensors": b"",
    }
    found.asked = []
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{found.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def test_a_look_at_the_hub_fetches_no_weights(server: Hub) -> None:
    identity = look(BaseTable(model="owner/name"))
    assert (identity.source, identity.revision, identity.licence) == ("owner/name", COMMIT, "mit")
    assert (identity.parameters, identity.size_bytes) == (12_345, len(server.files["model.safetensors"]))
    assert identity.sha256 == hashlib.sha256(server.files["model.safetensors"]).hexdigest()
    assert not any("safetensors" in one for one in server.asked)


def test_a_base_of_the_hub_is_fetched_at_its_commit_without_pickles_or_code(
    server: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    base = load(BaseTable(model="owner/name", revision=COMMIT), CPU, lambda done, total: told.append((done, total)))
    plain = read(folder)
    assert all(torch.equal(plain.model.state_dict()[name], values) for name, values in base.model.state_dict().items())
    size = len(server.files["model.safetensors"])
    assert (size, size) in told
    fetched = {file.name for file in (tmp_path / "hub").rglob("*") if file.is_file()}
    assert "model.safetensors" in fetched
    assert not {"pytorch_model.bin", "modeling.py", "a.safetensors"} & fetched
    assert base.identity == look(BaseTable(model="owner/name"))
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co")  # and the network is forbidden: what is there is used
    again = read("owner/name", revision=COMMIT)
    assert again.identity.revision == COMMIT and again.identity.sha256 == base.identity.sha256


def test_the_hub_is_not_asked_where_the_network_is_forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "https://huggingface.co")
    refused(Offline, "owner/name needs the network", "owner/name")


def test_a_gated_base_says_how_to_get_access(server: Hub) -> None:
    server.gated = True
    said = refused(InputError, "owner/name is gated", "owner/name")
    assert "https://huggingface.co/owner/name" in said and "HF_TOKEN" in said


def test_what_the_hub_does_not_have_is_missing(server: Hub) -> None:
    refused(ModelMissing, "no revision 'v9'", "owner/name", revision="v9")
    refused(ModelMissing, "no model owner/other", "owner/other")
    kept = dict(server.files)
    server.files.pop("model.safetensors")
    refused(ModelInvalid, "pickles", "owner/name")
    server.files.pop("pytorch_model.bin")
    refused(ModelInvalid, "no safetensors", "owner/name")
    server.files = {name: content for name, content in kept.items() if name != "config.json"}
    refused(ModelInvalid, "no config.json", "owner/name")
    index = {"weight_map": {"a": "../../evil.safetensors"}}
    server.files = kept | {"model.safetensors.index.json": json.dumps(index).encode()}
    refused(ModelInvalid, "evil", "owner/name")


def test_a_disk_that_is_too_small_is_told_before_weights_are_fetched(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1 << 20))
    refused(InputError, "GB are free", "owner/name")
    assert "GET model.safetensors" not in server.asked


def test_an_unsupported_family_is_told_before_weights_are_fetched(server: Hub) -> None:
    config = json.loads(server.files["config.json"]) | {"model_type": "mamba"}
    server.files["config.json"] = json.dumps(config).encode()
    refused(ModelInvalid, "not supported", "owner/name")
    assert "GET model.safetensors" not in server.asked
