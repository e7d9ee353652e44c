"""llama.cpp's own converter in a child process: where it is found, what it sees, and what becomes of its failures."""

import io
import os
import tarfile
from pathlib import Path

import oracle
import pytest

from data.errors import EngineUnavailable, InputError, ModelInvalid, ModelMissing, Offline
from export import converter
from router.engines._llamacpp import header

INSIDE = f"llama_cpp_python-{converter.version()}/vendor/llama.cpp"
FAITHFUL = """
import os, sys
from pathlib import Path
seen = Path(sys.argv[1])
Path(sys.argv[3]).write_text("\\n".join([
    *sorted(str(file.relative_to(seen)) for file in seen.rglob("*") if file.is_file()),
    " ".join(sys.argv[4:]), os.environ["HF_HUB_OFFLINE"], str("SECRET" in os.environ),
]))
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    place = tmp_path / "model {ftype}"
    place.mkdir()
    for name in ("config.json", "model.safetensors", "modeling.py", "pytorch_model.bin", "tokenizer.model"):
        (place / name).write_text("{}")
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text("{}")
    return place


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A converter of the test's own; LLAMA_CPP_DIR names its folder."""
    place = tmp_path / "llama.cpp"
    place.mkdir()
    monkeypatch.setenv("LLAMA_CPP_DIR", str(place))
    (place / converter.SCRIPT).write_text(FAITHFUL)
    return place / converter.SCRIPT


def archive(path: Path, members: dict[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as made:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                made.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return path


def test_the_converter_sees_data_and_no_code_and_no_environment(
    checkpoint: Path, script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "1")
    converter.convert(checkpoint, tmp_path / "out" / "model.gguf", "Q8_0", name="mine")
    assert (tmp_path / "out" / "model.gguf").read_text().splitlines() == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer.model",
        "--outtype q8_0 --model-name mine",
        "1",
        "False",
    ]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["model.gguf"]


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("raise ValueError('no such\\x1b[2J thing')", ModelInvalid, "ValueError: no such"),
        ("import nothing_of_that_name", EngineUnavailable, "No module named 'nothing_of_that_name'"),
        ("import os; os._exit(3)", ModelInvalid, "it says nothing"),
        ("import os; os.abort()", ModelInvalid, "converter says"),
        ("pass", ModelInvalid, "wrote nothing"),
        ("import time; time.sleep(60)", ModelInvalid, "did not end within 1 s"),
    ],
)
def test_a_failing_converter_is_an_error_and_leaves_nothing(
    checkpoint: Path, script: Path, tmp_path: Path, code: str, kind: type[Exception], words: str
) -> None:
    script.write_text(code)
    with pytest.raises(kind, match=words) as caught:
        converter.convert(checkpoint, tmp_path / "out" / "model.gguf", timeout_s=1 if "sleep" in code else 60)
    assert "\x1b" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_what_cannot_be_converted_is_told_before_the_child_starts(checkpoint: Path, script: Path, tmp_path: Path) -> None:
    script.write_text("raise SystemExit('never')")
    with pytest.raises(InputError, match="Q4_K_M"):
        converter.convert(checkpoint, tmp_path / "model.gguf", "Q4_K_M")
    (checkpoint / "config.json").unlink()
    with pytest.raises(ModelMissing, match=r"config\.json"):
        converter.convert(checkpoint, tmp_path / "model.gguf")


def test_the_converter_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    members = {"PKG-INFO": b"", "vendor/other.py": b""}
    files = {f"llama_cpp_python-{converter.version()}/{name}": content for name, content in members.items()}
    files |= {f"{INSIDE}/{name}": b"#" for name in (converter.SCRIPT, "conversion/base.py", "gguf-py/gguf/x.py", "src/llama.cpp")}
    sdist = archive(tmp_path / "sdist.tar.gz", dict(files))
    monkeypatch.setenv("LLAMA_CPP_DIR", str(sdist))
    place = converter.source()
    assert place == home / "cache" / "llama.cpp" / converter.version()
    assert sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()) == [
        "conversion/base.py",
        converter.SCRIPT,
        "gguf-py/gguf/x.py",
    ]
    sdist.unlink()
    monkeypatch.delenv("LLAMA_CPP_DIR")
    assert converter.source() == place


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({f"{INSIDE}/conversion/base.py": b""}, "holds no convert_hf_to_gguf.py"),
        ({"llama_cpp_python-0.0.1/vendor/llama.cpp/convert_hf_to_gguf.py": b""}, "no sdist of llama-cpp-python"),
        ({"/etc/passwd": b""}, "no sdist of llama-cpp-python"),
        ({f"{INSIDE}/conversion/../../../../../escaped.py": b"x", f"{INSIDE}/{converter.SCRIPT}": b""}, "outside"),
    ],
)
def test_an_archive_that_is_no_sdist_is_refused(tmp_path: Path, members: dict[str, bytes], words: str) -> None:
    sdist = archive(tmp_path / "sdist.tar.gz", dict(members))
    with pytest.raises(InputError, match=words):
        converter.unpack(sdist, tmp_path / "place" / "unpacked")
    assert not list((tmp_path / "place").iterdir())
    assert not list(tmp_path.rglob("escaped.py"))


def test_links_in_an_archive_are_left_out(tmp_path: Path) -> None:
    link = tarfile.TarInfo(f"{INSIDE}/conversion/link.py")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    sdist = archive(tmp_path / "sdist.tar.gz", {"": link, f"{INSIDE}/{converter.SCRIPT}": b""})
    place = converter.unpack(sdist, tmp_path / "unpacked")
    assert [file.name for file in place.rglob("*")] == [converter.SCRIPT]


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converter, "_MOST_BYTES", 10)
    sdist = archive(tmp_path / "sdist.tar.gz", {f"{INSIDE}/{converter.SCRIPT}": bytes(11)})
    with pytest.raises(InputError, match="more than"):
        converter.unpack(sdist, tmp_path / "unpacked")


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "missing"])
def test_a_damaged_archive_is_an_input_error(tmp_path: Path, damage: str) -> None:
    sdist = archive(tmp_path / "sdist.tar.gz", {f"{INSIDE}/{converter.SCRIPT}": os.urandom(20_000)})
    whole = bytearray(sdist.read_bytes())
    if damage == "cut":
        whole = whole[:9_000]
    elif damage == "flipped":
        whole[30] ^= 0xFF
    sdist.write_bytes(b"no archive" if damage == "text" else bytes(whole))
    if damage == "missing":
        sdist.unlink()
    with pytest.raises(InputError, match=r"sdist\.tar\.gz cannot be used"):
        converter.unpack(sdist, tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_an_absent_converter_says_how_to_get_it_and_nothing_is_downloaded_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMA_CPP_DIR", raising=False)
    monkeypatch.delenv("POINTSMAN_OFFLINE")
    with pytest.raises(EngineUnavailable, match="is not here") as caught:
        converter.source()
    assert "pip download --no-deps" in caught.value.fix
    monkeypatch.setenv("POINTSMAN_OFFLINE", "1")
    with pytest.raises(Offline, match="POINTSMAN_OFFLINE forbids it"):
        converter.source(fetch=True)


def test_a_wrong_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMA_CPP_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"holds no convert_hf_to_gguf\.py"):
        converter.source()


def test_an_architecture_that_is_not_ours_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real converter, out of the real sdist, on a model of a family that `export.families` does not know."""
    pytest.importorskip("torch")
    import tiny_checkpoints
    from transformers import GemmaConfig, GemmaForCausalLM

    from export import gguf

    oracle.needs_sentencepiece()
    monkeypatch.setenv("LLAMA_CPP_DIR", str(oracle.folder()))
    monkeypatch.setenv("PYTHONPATH", str(oracle.PACKAGES))
    place = tiny_checkpoints.checkpoint(tmp_path / "other", spm=True)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4}
    GemmaForCausalLM(GemmaConfig(**sizes, head_dim=8, vocab_size=400)).save_pretrained(place)
    written = gguf.write(place, tmp_path / "other.gguf", "F32", name="mine")
    assert (written.architecture, written.converted, written.tensors) == ("gemma", True, 11)
    assert header.check(tmp_path / "other.gguf").text("general.name") == "mine"
