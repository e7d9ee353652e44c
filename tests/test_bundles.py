"""Bundles as archives: written the same way each time, and read as if an enemy had made them."""

import hashlib
import io
import json
import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import bundles
from data.errors import InputError, PointsmanError

WEIGHTS = "run/adapter/adapter_model.safetensors"
CONTENT: dict[str, bytes] = {name: f"{name}\n".encode() * 40 for name in (*bundles.NEEDED, bundles.REPORT)}
Entries = list[tuple[Any, bytes]]


def made(folder: Path, content: dict[str, bytes] = CONTENT, **said: str) -> Path:
    """A sound bundle."""
    target = folder / "one.bundle"
    bundles.write(target, content, **({"name": "desk-1"} | said))
    return target


def head(content: dict[str, bytes], **changes: Any) -> bytes:
    """bundle.json of that content."""
    files = [{"name": name, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} for name, raw in content.items()]
    return json.dumps({"version": 1, "name": "desk-1", "files": files} | changes).encode()


def forged(folder: Path, entries: Entries, wrap: Callable[[bytes], bytes] = lambda raw: raw) -> Path:
    """An archive with these entries, by name or by ZipInfo, in this order; nothing is checked."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in entries:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            archive.writestr(info, content)
    target = folder / "forged.bundle"
    target.write_bytes(wrap(raw.getvalue()))
    return target


def sound(content: dict[str, bytes] = CONTENT, **changes: Any) -> Entries:
    """The entries of a sound bundle, not compressed."""
    return [(bundles.FILE, head(content, **changes)), *content.items()]


def unpacked(file: Path, folder: Path) -> dict[str, bytes]:
    """What a bundle holds, by way of the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    with bundles.opened(file) as archive:
        archive.unpack(bundles.RUN, folder)
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def refused(file: Path, folder: Path, *words: str) -> None:
    """Assert that nothing of it gets to the disk under a name that counts, and that the reason is said in one line."""
    with pytest.raises(InputError) as caught:
        unpacked(file, folder / "out")
    said = str(caught.value)
    assert "\n" not in said
    for word in words:
        assert word in said, said


def test_what_goes_in_comes_out_and_says_who_made_it(tmp_path: Path) -> None:
    file = made(tmp_path, by="Ann", note="for Ben")
    with bundles.opened(file) as archive:
        assert (archive.bundle.name, archive.bundle.by, archive.bundle.note) == ("desk-1", "Ann", "for Ben")
        assert {one.name for one in archive.bundle.files} == set(CONTENT)
    found = unpacked(file, tmp_path / "out")
    assert found == {name.removeprefix("run/"): raw for name, raw in CONTENT.items()}
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 for one in (tmp_path / "out").rglob("*") if one.is_file())


def test_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = made(tmp_path).read_bytes()
    assert made(tmp_path, dict(reversed(CONTENT.items()))).read_bytes() == first


def test_weights_are_stored_and_texts_are_compressed(tmp_path: Path) -> None:
    with zipfile.ZipFile(made(tmp_path)) as archive:
        kinds = {info.filename: info.compress_type for info in archive.infolist()}
    assert kinds[WEIGHTS] == zipfile.ZIP_STORED
    assert kinds["run/metrics.json"] == zipfile.ZIP_DEFLATED


def test_an_archive_of_gigabytes_is_read_by_its_large_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(zipfile, "ZIP64_LIMIT", 100)  # so that zipfile writes as beyond 2 GB
        file = made(tmp_path)
    raw = file.read_bytes()
    assert raw.count(b"PK\x06\x06") == 1
    assert unpacked(file, tmp_path / "out")["metrics.json"] == CONTENT["run/metrics.json"]
    file.write_bytes(raw.replace(b"PK\x06\x07", b"PK\x06\x08"))
    refused(file, tmp_path / "again", "directory")


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "run/../../evil.json",
        "/etc/cron.d/evil",
        "run/adapter/../../evil",
        "run\\..\\evil.json",
        "C:/evil.json",
        "run/",
        "run/adapter/adapter_model.bin",
        "run/adapter/model.pkl",
        "run/state.json",
        "run/imported.json",
        "run/proven/metrics.json",
        "export/Modelfile",
        "export/../x.gguf",
        "export/.hidden.gguf",
        "run/manıfest.json",
        "bundle.json/x",
    ],
)
def test_no_name_but_those_of_a_bundle_is_read(name: str, tmp_path: Path) -> None:
    outside = {file for file in tmp_path.rglob("*")}
    refused(forged(tmp_path, [*sound(), (name, b"evil")]), tmp_path, "no file")
    assert {file for file in tmp_path.rglob("*")} - outside <= {tmp_path / "forged.bundle", tmp_path / "out"}
    listed = {**CONTENT, name: b"evil"}
    refused(forged(tmp_path, [(bundles.FILE, head(listed)), *CONTENT.items()]), tmp_path / "out", "no file")


def test_a_name_with_an_end_inside_is_refused(tmp_path: Path) -> None:
    entries = [("run/metrics.json#x" if name == "run/metrics.json" else name, raw) for name, raw in sound()]
    refused(forged(tmp_path, entries, lambda raw: raw.replace(b"run/metrics.json#x", b"run/metrics.json\0x")), tmp_path, "no file")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_devices_and_folders_are_refused(mode: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("run/metrics.json")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    entries = [(info if name == "run/metrics.json" else name, raw) for name, raw in sound()]
    refused(forged(tmp_path, entries), tmp_path, "run/metrics.json is no regular file")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("twin", ["run/metrics.json", bundles.FILE])
def test_a_name_that_stands_twice_is_refused(twin: str, tmp_path: Path) -> None:
    refused(forged(tmp_path, [*sound(), (twin, b"{}")]), tmp_path, "twice")


def test_a_listed_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    twice = json.loads(head(CONTENT))
    twice["files"].append(twice["files"][0])
    refused(forged(tmp_path, [(bundles.FILE, json.dumps(twice).encode()), *CONTENT.items()]), tmp_path, "twice")
    raw = head(CONTENT).replace(b'{"version"', b'{"name": "other", "version"', 1)
    refused(forged(tmp_path, [(bundles.FILE, raw), *CONTENT.items()]), tmp_path / "out", "JSON")


def test_changed_content_is_refused_and_leaves_no_whole_file_behind(tmp_path: Path) -> None:
    other = {**CONTENT, WEIGHTS: CONTENT[WEIGHTS][:-1] + b"!"}
    refused(forged(tmp_path, [(bundles.FILE, head(CONTENT)), *other.items()]), tmp_path, WEIGHTS, "SHA-256")


def test_every_flipped_byte_is_noticed_or_without_effect(tmp_path: Path) -> None:
    raw = made(tmp_path).read_bytes()
    wanted = {name.removeprefix("run/"): one for name, one in CONTENT.items()}

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(at=st.integers(0, len(raw) - 1), to=st.integers(1, 255), cut=st.booleans())
    def one(at: int, to: int, cut: bool) -> None:
        file, out = tmp_path / "changed.bundle", tmp_path / f"out-{os.urandom(8).hex()}"
        file.write_bytes(raw[:at] if cut else raw[:at] + bytes([raw[at] ^ to]) + raw[at + 1 :])
        try:
            found = unpacked(file, out)
        except InputError:
            return
        assert found == wanted  # a byte that says nothing, such as a date

    one()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"name": "../x"}, "name"),
        ({"name": "Desk One"}, "name"),
        ({"files": []}, "files"),
        ({"by": "x" * 501}, "by"),
        ({"extra": 1}, "extra"),
        ({"made_with": {"a": 1}}, "made_with"),
    ],
)
def test_a_head_that_is_none_is_refused_by_its_key(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    refused(forged(tmp_path, sound(**changes)), tmp_path, words)


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b'{"version": 1e999}', b"{" * 5000, b"\xff\xfe", b'"' + b"a" * 100])
def test_a_head_that_is_no_json_object_is_refused(raw: bytes, tmp_path: Path) -> None:
    refused(forged(tmp_path, [(bundles.FILE, raw), *CONTENT.items()]), tmp_path, "bundle")


def test_missing_and_unlisted_files_are_refused(tmp_path: Path) -> None:
    short = {name: raw for name, raw in CONTENT.items() if name != WEIGHTS}
    refused(forged(tmp_path, sound(short)), tmp_path, f"{WEIGHTS} is missing")
    refused(forged(tmp_path, [(bundles.FILE, head(CONTENT)), *short.items()]), tmp_path / "out", f"{WEIGHTS} is missing")
    more = [*sound(), ("run/lost.jsonl", b"")]
    refused(forged(tmp_path, more), tmp_path / "third", "run/lost.jsonl is not in bundle.json")
    refused(forged(tmp_path, list(CONTENT.items())), tmp_path / "fourth", "no bundle.json")


def test_a_small_archive_that_swells_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    zeros = bytes(bundles.LARGEST["run/metrics.json"] + 1)
    info = zipfile.ZipInfo("run/metrics.json")
    info.compress_type = zipfile.ZIP_DEFLATED
    content = {**CONTENT, "run/metrics.json": zeros}
    bomb = forged(tmp_path, [(info if name == "run/metrics.json" else name, raw) for name, raw in sound(content)])
    assert bomb.stat().st_size < 1 << 20
    refused(bomb, tmp_path, "run/metrics.json is larger")
    weights = zipfile.ZipInfo(WEIGHTS)
    weights.compress_type = zipfile.ZIP_DEFLATED
    content = {**CONTENT, WEIGHTS: bytes(1 << 20)}
    bomb = forged(tmp_path, [(weights if name == WEIGHTS else name, raw) for name, raw in sound(content)])
    refused(bomb, tmp_path / "out", f"{WEIGHTS} is compressed")


def test_a_size_that_is_not_the_real_one_is_refused(tmp_path: Path) -> None:
    raw = bytearray(made(tmp_path).read_bytes())
    name = b"run/metrics.json"
    at = raw.rindex(name) - 46  # the entry in the directory: its size stands at 24
    raw[at + 24 : at + 28] = struct.pack("<L", len(CONTENT["run/metrics.json"]) + 1)
    file = tmp_path / "lying.bundle"
    file.write_bytes(bytes(raw))
    refused(file, tmp_path, "run/metrics.json")


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    raw = bytearray(forged(tmp_path, sound()).read_bytes())
    first, second = raw.rindex(b"run/metrics.json") - 46, raw.rindex(b"run/recipe.toml") - 46
    raw[first + 42 : first + 46] = raw[second + 42 : second + 46]
    file = tmp_path / "overlapping.bundle"
    file.write_bytes(bytes(raw))
    refused(file, tmp_path, "in the place of another")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda raw: b"#!/bin/sh\n" + raw,
        lambda raw: raw + b"more",
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-1],
        lambda raw: b"",
        lambda raw: b"PK\x05\x06" + bytes(18),
        lambda raw: raw[:-22] + b"x" * 9 + raw[-22:],
    ],
    ids=["before", "behind", "half", "cut", "empty", "no entry", "between"],
)
def test_what_is_no_plain_archive_is_refused(wrap: Callable[[bytes], bytes], tmp_path: Path) -> None:
    refused(forged(tmp_path, sound(), wrap), tmp_path, "no sound bundle")


def test_an_archive_of_thousands_of_files_is_refused_by_its_count(tmp_path: Path) -> None:
    entries = [*sound(), *((f"export/m{number}.gguf", b"") for number in range(70))]
    refused(forged(tmp_path, entries), tmp_path, "files")


def test_encrypted_and_oddly_compressed_entries_are_refused(tmp_path: Path) -> None:
    raw = bytearray(forged(tmp_path, sound()).read_bytes())
    at = raw.rindex(b"run/recipe.toml") - 46
    for offset, value, words in ((8, 1, "encrypted"), (10, 12, "compressed in a way")):
        changed = bytearray(raw)
        changed[at + offset : at + offset + 2] = struct.pack("<H", value)
        file = tmp_path / f"odd-{offset}.bundle"
        file.write_bytes(bytes(changed))
        with pytest.raises(InputError, match=words), bundles.opened(file):
            pass


def test_a_pickle_is_no_bundle(tmp_path: Path) -> None:
    file = tmp_path / "evil.bundle"
    file.write_bytes(pickle.dumps({"a": 1}))
    refused(file, tmp_path, "no zip archive")


def test_pipes_devices_folders_and_absent_files_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for odd in (pipe, Path("/dev/zero"), tmp_path, tmp_path / "absent", Path("a\0b")):
        with pytest.raises(InputError), bundles.opened(odd):
            pass


def test_unpacking_follows_no_link_and_overwrites_nothing(tmp_path: Path) -> None:
    file, out, kept = made(tmp_path), tmp_path / "out", tmp_path / "kept"
    out.mkdir()
    kept.write_text("mine")
    (out / "metrics.json").symlink_to(kept)
    with bundles.opened(file) as archive, pytest.raises(InputError, match=r"metrics\.json"):
        archive.unpack(bundles.RUN, out)
    assert kept.read_text() == "mine"


def test_a_source_that_is_absent_or_too_large_makes_no_bundle(tmp_path: Path) -> None:
    target = tmp_path / "none.bundle"
    with pytest.raises(InputError, match="cannot read"):
        bundles.write(target, {**CONTENT, "run/metrics.jsonl": tmp_path / "absent"}, name="desk-1")
    with pytest.raises(InputError, match=r"recipe\.toml is larger"):
        bundles.write(target, {**CONTENT, "run/recipe.toml": bytes((1 << 20) + 1)}, name="desk-1")
    with pytest.raises(InputError, match="no file"):
        bundles.write(target, {**CONTENT, "run/state.json": b"{}"}, name="desk-1")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_note_of_an_import_is_told(tmp_path: Path) -> None:
    assert bundles.imported(tmp_path) is None
    note = bundles.Imported(bundle="0" * 64, file="x\x1b[2J.bundle", at="2026-11-20", by="Ann\nBen")
    bundles.mark(tmp_path, note)
    assert bundles.imported(tmp_path) == note
    assert "\n" not in note.words
    assert "\x1b" not in note.words
    (tmp_path / bundles.IMPORTED).write_text("{}")
    with pytest.raises(PointsmanError, match="damaged"):
        bundles.imported(tmp_path)
