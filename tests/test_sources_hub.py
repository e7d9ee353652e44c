"""Data sets of the hub, from a server of the test's own on this machine: the real client, real files, no network."""

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.datasets._sources import hub
from data.datasets.rows import Row
from data.datasets.sources import open_source
from data.errors import InputError, Offline

pytest.importorskip("huggingface_hub")
COMMIT = "a" * 40
CSV = b"text,label\nhello,a\nbye,b\n"
LINES = b'{"text": "hello", "label": "a"}\n{broken\n'


class Hub(http.server.ThreadingHTTPServer):
    """The two addresses that loading needs: what a data set holds, and a file of a commit."""

    files: dict[str, bytes]
    card: dict
    sha = COMMIT
    asked: list[str]


class Answers(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if path.startswith("/api/datasets/owner/name/revision/"):
            known = path.rsplit("/", 1)[1] in ("main", "v1", COMMIT)
            found = {
                "id": "owner/name",
                "sha": self.server.sha,
                "siblings": [{"rfilename": name} for name in self.server.files],
                "cardData": self.server.card,
            }
            return (
                self._say(200, json.dumps(found).encode()) if known else self._say(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            )
        name = path.removeprefix(f"/datasets/owner/name/resolve/{COMMIT}/")
        if name in self.server.files:
            content = self.server.files[name]
            return self._say(200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        return self._say(404, b"{}", {"X-Error-Code": "RepoNotFound"})

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
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub(("127.0.0.1", 0), Answers)
    found.files, found.card, found.asked = {"README.md": b"", "train.csv": CSV}, {"license": "mit"}, []
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{found.server_port}")
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def test_a_data_set_is_loaded_with_its_licence_commit_and_split(server: Hub, home: Path) -> None:
    source = open_source("hf:owner/name")
    rows = list(source.rows())
    assert [(one.text, one.label, one.split) for one in rows] == [("hello", "a", "train"), ("bye", "b", "train")]
    assert str(rows[0].origin) == f"hf:owner/name@{COMMIT[:12]}/train.csv:1"
    assert (rows[0].origin.licence, source.licence, source.name) == ("mit", "mit", f"hf:owner/name@{COMMIT[:12]}")
    assert list(source.rows()) == rows
    assert len(source.digest()) == 64
    assert any((home / "cache" / "hub").rglob("train.csv"))


def test_files_are_fetched_from_the_commit_that_the_revision_means(server: Hub) -> None:
    list(open_source("hf:owner/name@v1").rows())
    assert "GET /api/datasets/owner/name/revision/v1" in server.asked
    assert f"GET /datasets/owner/name/resolve/{COMMIT}/train.csv" in server.asked


def test_only_data_files_are_fetched_and_never_a_script_or_pickle(server: Hub) -> None:
    server.files = {
        "name.py": b"raise SystemExit",
        "data.pkl": b"\x80\x04",
        "model.bin": b"",
        "dataset_infos.json": b"{}",
        "../../evil.csv": CSV,
        "/etc/evil.csv": CSV,
        "a\\..\\evil.csv": CSV,
        ".hidden.csv": CSV,
        "packed.csv.gz": b"",
        "train.jsonl": LINES,
        "train.csv": CSV,
    }
    found = list(open_source("hf:owner/name").rows())
    assert [isinstance(one, Row) for one in found] == [True, False]
    fetched = {line.rsplit("/", 1)[1] for line in server.asked if "/resolve/" in line}
    assert fetched == {"train.jsonl"}


def test_a_data_set_without_data_files_is_refused(server: Hub) -> None:
    server.files = {"name.py": b"raise SystemExit", "data.pkl": b""}
    with pytest.raises(InputError, match="no Parquet, JSON, CSV or TSV file"):
        open_source("hf:owner/name")


def test_progress_is_told_while_a_file_comes_and_while_it_is_read(server: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    list(open_source("hf:owner/name").rows(lambda done, of: seen.append((done, of))))
    assert seen.count((len(CSV), len(CSV))) == 2
    assert capfd.readouterr().err == ""


def test_parquet_from_the_hub(server: Hub, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": ["x", "y"], "label": ["a", "b"]}), tmp_path / "x.parquet")
    server.files = {"data/test-00000-of-00001.parquet": (tmp_path / "x.parquet").read_bytes()}
    assert [(one.text, one.split) for one in open_source("hf:owner/name").rows()] == [("x", "test"), ("y", "test")]


def test_the_network_forbidden_is_said_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_OFFLINE", "1")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    with pytest.raises(Offline, match=r"hf:owner/name needs the network \(huggingface.co\)"):
        open_source("hf:owner/name")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1.evil.example/")
    with pytest.raises(Offline):
        open_source("hf:owner/name")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hf:owner/other", "no data set owner/other"),
        ("hf:owner/name@v9", "no such revision"),
        ("hf:owner/name/more", "is no data set of the hub"),
        ("hf:", "is no data set of the hub"),
        ("hf:../..", "hub"),
        ("hf:owner/name#french", "no configuration 'french'"),
        ("hf:owner/name#/test", "no split 'test'; it has: train"),
    ],
)
def test_what_is_not_there_is_named(server: Hub, given: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_source(given)


def test_a_server_that_is_gone_or_lies_is_an_input_error(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.sha = "../../evil"
    with pytest.raises(InputError, match="names no commit"):
        open_source("hf:owner/name")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="cannot load hf:owner/name"):
        open_source("hf:owner/name")


def test_a_licence_that_is_not_permissive_is_refused_where_only_those_are_wanted(server: Hub) -> None:
    assert open_source("hf:owner/name", licences="permissive").licence == "mit"
    server.card = {"license": "cc-by-nc-4.0"}
    with pytest.raises(InputError, match="cc-by-nc-4.0"):
        open_source("hf:owner/name", licences="permissive")


FILES = ["de/train.csv", "de/test.csv", "en/train.csv", "en/validation-00000-of-00002.csv", "en/validation-00001-of-00002.csv"]
CARD = [
    {"config_name": "german", "data_files": [{"split": "train", "path": "de/train*"}, {"split": "test", "path": ["de/test.csv"]}]},
    {"config_name": "english", "default": True, "data_files": "en/*.csv"},
]


@pytest.mark.parametrize(
    ("configs", "config", "split", "wanted"),
    [
        ([], "", "", FILES),
        ([], "en", "", FILES[2:]),
        ([], "en", "dev", FILES[3:]),
        ([], "test", "", FILES[1:2]),
        (CARD, "german", "", FILES[:2]),
        (CARD, "german", "test", FILES[1:2]),
        (CARD, "", "", FILES[2:]),
        (CARD, "", "validation", FILES[3:]),
    ],
)
def test_configuration_and_split_choose_the_files(configs: list, config: str, split: str, wanted: list[str]) -> None:
    found = hub.choose("owner/name", FILES, configs, config, split)
    assert [one.path for one in found] == wanted
    for one in found:
        assert one.split == {"train": "train", "test": "test"}.get(one.path.split("/")[1].split(".")[0], "validation")


def test_several_configurations_without_a_default_must_be_named() -> None:
    with pytest.raises(InputError, match="several configurations: a, b"):
        hub.choose("owner/name", FILES, [{"config_name": "a", "data_files": "*"}, {"config_name": "b"}], "", "")
