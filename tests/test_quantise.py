"""Quantising and measuring in a child process, on a small made-up model and on the real embedded one."""

import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import gguf
import numpy as np
import pytest

from data.errors import EngineUnavailable, InputError, ModelInvalid
from export import child, fidelity, files, imatrix, quantise
from export.quantise import FORMS, Fallback, measure


def make_llama(path: Path, width: int = 256, blocks: int = 1) -> Path:
    """A llama of one block with random weights in F32 and a vocabulary of bytes; it aborts llama.cpp if it says 5,000 blocks."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(blocks)
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(256)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 4)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    draw = np.random.default_rng(7)
    shapes = {
        "token_embd": (len(tokens), width),
        "output_norm": (width,),
        "output": (len(tokens), width),
        "blk.0.attn_norm": (width,),
        "blk.0.attn_q": (width, width),
        "blk.0.attn_k": (width, width),
        "blk.0.attn_v": (width, width),
        "blk.0.attn_output": (width, width),
        "blk.0.ffn_norm": (width,),
        "blk.0.ffn_gate": (256, width),
        "blk.0.ffn_up": (256, width),
        "blk.0.ffn_down": (width, 256),
    }
    for name, shape in shapes.items():
        values = np.ones(shape) if len(shape) == 1 else draw.standard_normal(shape) / width**0.5
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("llama") / "F32.gguf")


KINDS = {"Q4_K_M": "Q4_K", "Q5_K_M": "Q5_K"}  # of most tensors; others are named as the form


@pytest.mark.parametrize(("form", "kind"), [(form, KINDS.get(form, form)) for form in FORMS])
def test_every_form_is_written_and_says_which_it_is(llama: Path, tmp_path: Path, form: str, kind: str) -> None:
    target = tmp_path / "new folder" / f"{form}.gguf"
    made = quantise.quantise(llama, target, form)
    reader = gguf.GGUFReader(target)
    assert reader.fields["general.file_type"].contents() == FORMS[form]
    assert {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}["blk.0.ffn_up.weight"] == kind
    assert (made.form, made.size_bytes, made.fallbacks) == (form, target.stat().st_size, ())
    assert (made.size_bytes < llama.stat().st_size) is (form != "F32")
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_same_input_gives_the_same_bytes_on_any_number_of_threads(llama: Path, tmp_path: Path) -> None:
    for threads in (0, 1, 2):
        quantise.quantise(llama, tmp_path / f"{threads}.gguf", "Q4_K_M", threads)
    assert len({(tmp_path / f"{threads}.gguf").read_bytes() for threads in (0, 1, 2)}) == 1


def test_a_quantised_source_is_quantised_again(llama: Path, tmp_path: Path) -> None:
    quantise.quantise(llama, tmp_path / "a.gguf", "Q4_0")
    made = quantise.quantise(tmp_path / "a.gguf", tmp_path / "b.gguf", "Q8_0")
    assert made.size_bytes > (tmp_path / "a.gguf").stat().st_size


def test_the_target_may_be_the_source(llama: Path, tmp_path: Path) -> None:
    both = tmp_path / "model.gguf"
    both.write_bytes(llama.read_bytes())
    quantise.quantise(both, both, "Q8_0")
    assert gguf.GGUFReader(both).fields["general.file_type"].contents() == FORMS["Q8_0"]


def matrix_of(llama: Path, path: Path, edit=lambda name, values: values) -> Path:
    """An importance matrix for every tensor of a block, some columns weighing a thousand times as much."""
    draw = np.random.default_rng(3)
    found = {}
    for tensor in gguf.GGUFReader(llama).tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) == 2:
            values = np.where(draw.random(int(tensor.shape[0])) < 0.1, 1000.0, 1.0).astype(np.float32)
            found[tensor.name] = edit(tensor.name, values)
    return imatrix.save(found, path)


@pytest.mark.parametrize("form", ["Q4_K_M", "Q4_0", "IQ4_NL", "Q5_K_M", "Q6_K"])
def test_columns_that_an_importance_matrix_names_are_rounded_more_exactly(llama: Path, tmp_path: Path, form: str) -> None:
    matrix = matrix_of(llama, tmp_path / "imatrix.npz")
    plain, weighted = (tmp_path / f"{name}.gguf" for name in ("plain", "weighted"))
    quantise.quantise(llama, plain, form)
    made = quantise.quantise(llama, weighted, form, imatrix=matrix)
    assert made.size_bytes == plain.stat().st_size
    name = "blk.0.ffn_up.weight"
    heavy = imatrix.read(matrix)[name] > 1
    errors = [np.square(tensor_of(path, name) - tensor_of(llama, name)) for path in (plain, weighted)]
    assert errors[1][:, heavy].mean() < 0.8 * errors[0][:, heavy].mean()


@pytest.mark.parametrize("form", ["F16", "BF16", "Q8_0"])
def test_forms_that_round_each_number_alone_are_the_same_with_an_importance_matrix(llama: Path, tmp_path: Path, form: str) -> None:
    quantise.quantise(llama, tmp_path / "a.gguf", form)
    quantise.quantise(llama, tmp_path / "b.gguf", form, imatrix=matrix_of(llama, tmp_path / "imatrix.npz"))
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_same_importance_matrix_gives_the_same_bytes_on_any_number_of_threads(llama: Path, tmp_path: Path) -> None:
    matrix = matrix_of(llama, tmp_path / "imatrix.npz")
    for threads in (0, 1, 2):
        quantise.quantise(llama, tmp_path / f"{threads}.gguf", "IQ4_NL", threads, imatrix=matrix)
    assert len({(tmp_path / f"{threads}.gguf").read_bytes() for threads in (0, 1, 2)}) == 1


@pytest.mark.parametrize("form", ["Q4_K_M", "Q4_0", "IQ4_NL", "Q5_K_M", "Q6_K"])
def test_columns_that_were_never_used_leave_finite_numbers(llama: Path, tmp_path: Path, form: str) -> None:
    matrix = matrix_of(
        llama, tmp_path / "imatrix.npz", lambda name, values: np.where(values > 1, 0, 0 if "ffn" in name else values)
    )
    quantise.quantise(llama, tmp_path / "x.gguf", form, imatrix=matrix)
    for name in ("blk.0.attn_q.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"):
        assert np.isfinite(tensor_of(tmp_path / "x.gguf", name)).all()
    [_, (figures, _)] = measure([llama, tmp_path / "x.gguf"], ["Some text."], rounds=0)
    assert np.isfinite(figures.kl_mean)


def tensor_of(path: Path, name: str) -> np.ndarray:
    tensor = next(one for one in gguf.GGUFReader(path).tensors if one.name == name)
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


@pytest.mark.parametrize(
    ("name", "size", "complaint"),
    [
        ("blk.0.attn_q.weight", 255, "255 numbers for blk.0.attn_q.weight, which has rows of 256"),
        ("blk.7.attn_q.weight", 256, "blk.7.attn_q.weight, which is not in there"),
    ],
)
def test_an_importance_matrix_of_another_model_is_refused(
    llama: Path, tmp_path: Path, name: str, size: int, complaint: str
) -> None:
    matrix = imatrix.save({name: np.ones(size, np.float32)}, tmp_path / "other.npz")
    with pytest.raises(ModelInvalid, match=complaint):
        quantise.quantise(llama, tmp_path / "x.gguf", "Q4_0", imatrix=matrix)
    assert not (tmp_path / "x.gguf").exists()
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(ModelInvalid, match="no importance matrix"):
        quantise.quantise(llama, tmp_path / "x.gguf", "Q4_0", imatrix=tmp_path / "broken.npz")


def test_texts_may_be_measured_as_tokens(llama: Path, tmp_path: Path) -> None:
    quantise.quantise(llama, tmp_path / "q.gguf", "Q4_0")
    tokens = [3 + byte for byte in b"Some text to read."]
    [_, (by_tokens, _)] = measure([llama, tmp_path / "q.gguf"], [tokens], rounds=0)
    assert by_tokens.kl_mean > 0
    assert by_tokens.kl_mean <= by_tokens.kl_p99 <= by_tokens.kl_max
    assert abs(by_tokens.fall) <= 1
    with pytest.raises(ModelInvalid, match="cannot be measured"):
        measure([llama], [[1, 999_999]], rounds=0)


def test_tensors_whose_rows_do_not_suit_the_form_are_named(tmp_path: Path) -> None:
    made = quantise.quantise(make_llama(tmp_path / "odd.gguf", width=192), tmp_path / "out.gguf", "Q4_K_M")
    assert Fallback("blk.0.attn_q.weight", "q4_K", "q5_0") in made.fallbacks
    assert "blk.0.ffn_down.weight" not in [fallback.tensor for fallback in made.fallbacks]


def damaged(tmp_path: Path, llama: Path, kind: str) -> Path:
    path = tmp_path / "source.gguf"
    raw = llama.read_bytes()
    match kind:
        case "folder":
            path.mkdir()
        case "empty" | "text" | "cut":
            path.write_bytes({"empty": b"", "text": b"hello, I am a model", "cut": raw[: len(raw) // 2]}[kind])
        case "aborts":
            make_llama(path, blocks=5000)
        case "header":
            path.write_bytes(raw[:40] + b"\xff" * 400 + raw[440:])
    return path


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("missing", "No such file"),
        ("folder", "Is a directory"),
        ("empty", "not a GGUF file"),
        ("text", "not a GGUF file"),
        ("cut", "corrupted or incomplete"),
        ("aborts", r"llama\.cpp crashed \(signal 6\).*GGML_ASSERT"),
        ("header", "quantised to Q8_0"),
    ],
)
def test_an_unreadable_source_is_invalid_and_the_target_stays_as_it_was(
    tmp_path: Path, llama: Path, kind: str, complaint: str
) -> None:
    source, target = damaged(tmp_path, llama, kind), tmp_path / "out" / "target.gguf"
    target.parent.mkdir()
    target.write_bytes(b"as it was")
    with pytest.raises(ModelInvalid, match=complaint) as caught:
        quantise.quantise(source, target, "Q8_0")
    assert str(source) in caught.value.what
    assert "\n" not in caught.value.what
    assert target.read_bytes() == b"as it was"
    assert [path.name for path in target.parent.iterdir()] == ["target.gguf"]


def test_an_unknown_form_is_an_input_error_that_lists_the_known_ones(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'Q3_X'.*Q4_K_M"):
        quantise.quantise(llama, tmp_path / "x.gguf", "Q3_X")


def test_too_little_space_is_found_out_before_anything_is_written(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    size = llama.stat().st_size
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage(10 * size, 0, 2 * size - 1))
    with pytest.raises(InputError, match="MB are needed"):
        quantise.quantise(llama, tmp_path / "x.gguf", "Q8_0")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage(10 * size, 0, 2 * size))
    assert quantise.quantise(llama, tmp_path / "x.gguf", "Q8_0").form == "Q8_0"


def test_nothing_is_printed(llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quantise.quantise(llama, tmp_path / "x.gguf", "Q4_K_M")
    with pytest.raises(ModelInvalid):
        quantise.quantise(damaged(tmp_path, llama, "aborts"), tmp_path / "y.gguf", "Q8_0")
    assert capfd.readouterr() == ("", "")


def test_files_in_the_working_folder_are_not_imported(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json.py", "numpy.py", "ctypes.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    assert quantise.quantise(llama, tmp_path / "x.gguf", "Q8_0").form == "Q8_0"


def test_a_missing_llama_cpp_is_said(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['llama_cpp'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EngineUnavailable) as caught:
        quantise.quantise(llama, tmp_path / "x.gguf", "Q8_0")
    assert caught.value.fix == "pip install llama-cpp-python"


def test_an_interrupt_ends_the_child_and_leaves_no_file(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Interrupted(subprocess.Popen):
        def wait(self, timeout: float | None = None) -> int:
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(quantise.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantise.quantise(llama, tmp_path / "x.gguf", "IQ4_NL")
    assert started[0].poll() == -signal.SIGKILL
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for the child in /proc")
def test_the_child_does_not_outlive_its_killed_parent(embedded_gguf: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from export.quantise import quantise; quantise(*map(Path, sys.argv[1:3]), 'IQ4_NL')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(embedded_gguf), str(tmp_path / "x.gguf")])
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    found = until(lambda: children.read_text().split())
    until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))  # it writes
    parent.kill()
    parent.wait()
    until(lambda: not Path(f"/proc/{found[0]}/cmdline").exists() or not Path(f"/proc/{found[0]}/cmdline").read_bytes())
    assert not (tmp_path / "x.gguf").exists()


def until(condition):
    """Wait for a condition and return its value; it becomes true sooner or later, or the test runs into its timeout."""
    while True:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        time.sleep(0.02)


def test_measuring_finds_what_a_form_changes(llama: Path, tmp_path: Path) -> None:
    made = [llama]
    for form in ("F16", "Q8_0", "Q4_0"):
        made.append(tmp_path / f"{form}.gguf")
        quantise.quantise(llama, made[-1], form)
    rows = measure(made, ["Some text to read.", "And another, a little longer one."], rounds=1, seconds=60)
    (same, _), (f16, _), (q8, _), (q4, _) = rows
    assert (same.kl_mean, same.kl_max, same.rise, same.agreement, same.clear_changes) == (0, 0, 0, 1, 0)
    assert 0 < f16.kl_mean < q8.kl_mean < q4.kl_mean
    assert f16.kl_mean < 1e-5
    assert same.perplexity == pytest.approx(f16.perplexity, rel=1e-3)
    for _, speed in rows:
        assert speed is not None
        assert speed.prefill > 0 < speed.decode
        assert (speed.clock, speed.threads) in {("wall", len(os.sched_getaffinity(0))), ("CPU", 1)}


def test_without_rounds_no_speed_is_measured(llama: Path) -> None:
    [(figures, speed)] = measure([llama], ["Some text."], rounds=0)
    assert speed is None
    assert figures.perplexity > 1


def test_a_file_that_cannot_be_run_is_invalid(llama: Path, tmp_path: Path) -> None:
    for kind in ("missing", "text", "aborts"):
        source = damaged(tmp_path, llama, kind)
        with pytest.raises(ModelInvalid, match=r"source\.gguf"):
            measure([llama, source], ["x y"], rounds=0)


def test_a_chat_model_gives_no_pooled_vectors(llama: Path) -> None:
    with pytest.raises(ModelInvalid, match="no pooled vectors"):
        quantise.embed([llama], ["x"])


def test_q8_0_of_the_embedded_model_is_admissible_and_q4_0_is_not(embedded_gguf: Path, tmp_path: Path) -> None:
    made = [embedded_gguf]
    for form in ("Q8_0", "Q4_0"):
        made.append(tmp_path / f"{form}.gguf")
        quantise.quantise(embedded_gguf, made[-1], form)
    (_, q8_0, q4_0) = (figures for figures, _ in measure(made, fidelity.TEXTS, rounds=0))
    assert fidelity.refusals(q8_0) == []
    assert q8_0.agreement > 0.93
    assert q4_0.kl_mean > 10 * fidelity.KL_LIMIT
    assert len(fidelity.refusals(q4_0)) == 3


def test_a_disturbed_run_is_not_kept_and_too_many_end_the_timing() -> None:
    kept: list[float] = []
    timed = child._wall(needed=0.9, deadline=time.perf_counter() + 600)
    went_on = [timed(lambda: time.sleep(0.05), kept) for _ in range(5)]  # 50 ms without a core of its own
    assert went_on == [True, True, True, False, False]
    assert kept == []


def test_timing_ends_at_its_deadline() -> None:
    kept: list[float] = []
    assert child._wall(needed=0.0, deadline=time.perf_counter() + 600)(lambda: None, kept)
    assert not child._wall(needed=0.0, deadline=0.0)(lambda: None, kept)
    assert len(kept) == 1
