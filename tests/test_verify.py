"""`verify`: an export checked again, with its run and without, and folders that mean harm."""

import json
import os
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("llama_cpp")

import numpy as np  # noqa: E402
from command_line import run as pointsman  # noqa: E402
from exportable import DOMAIN, once, source  # noqa: E402
from packs import pack  # noqa: E402

from data import exports  # noqa: E402
from data.chat import Message  # noqa: E402
from data.errors import InputError, ModelInvalid, NotFound  # noqa: E402
from data.exports import Check  # noqa: E402
from export import choose, exporting, fidelity, files  # noqa: E402
from export._verify import computing, numerics, spelling, tasks  # noqa: E402
from export._verify.numerics import Rows  # noqa: E402
from export.choose import Limits  # noqa: E402
from export.verify import verify  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
GENEROUS = Limits(kl=dict.fromkeys(choose.KL_LIMITS, 1.0), top1=1.0, task=1.0)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that passes, made once."""
    place = tmp_path_factory.mktemp("verified")
    trained = once(tmp_path_factory.getbasetemp())
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("POINTSMAN_HOME", str(place / "home"))
        patched.setenv("POINTSMAN_OFFLINE", "1")
        pack(DOMAIN)
        alone = source(trained, limits=GENEROUS, opened=None, judge=None)
        found = exporting.export(alone, ("F16", "Q8_0"), place)
    assert found.folder is not None
    return found.folder


@pytest.fixture
def folder(export: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(export, tmp_path / export.name))


def failed(checks: tuple[Check, ...]) -> set[tuple[str, str]]:
    """What did not pass, and of which file."""
    return {(one.name, one.of) for one in checks if one.passed is False}


def said(folder: Path, **changes: object) -> None:
    """Change export.json."""
    found = json.loads((folder / "export.json").read_text()) | changes
    (folder / "export.json").write_text(json.dumps(found))


def test_an_export_with_its_run_is_checked_in_full(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pack(DOMAIN)
    told: list[str] = []
    own = source(once(tmp_path_factory.getbasetemp()), limits=GENEROUS)
    _, checks = verify(folder, own, lambda step: told.append(step.doing))
    assert failed(checks) == set()
    names = {one.name for one in checks if one.passed}
    assert names >= {
        "as made", "file", "header", "loads", "Modelfile", "tokens", "prompts", "beginning token", "end tokens", "logits",
        "first choices", "task",
    }  # fmt: skip
    assert "loading the trained model" in told


def test_without_its_run_the_rest_says_not_checked(folder: Path) -> None:
    _, checks = verify(folder, why="the run is gone")
    assert failed(checks) == set()
    unknown = {one.name: one.note for one in checks if one.passed is None}
    assert unknown["logits"] == unknown["task"] == unknown["tokens"] == "not checked: the run is gone"
    assert {one.of for one in checks if one.name == "loads" and one.passed} == {"model-F16.gguf", "model-Q8_0.gguf"}


def test_a_changed_byte_is_found(folder: Path) -> None:
    file = folder / "model-Q8_0.gguf"
    raw = bytearray(file.read_bytes())
    raw[-100] ^= 1
    file.write_bytes(raw)
    assert failed(verify(folder)[1]) == {("file", file.name)}


def test_a_truncated_gguf_whose_digest_was_made_to_fit_is_found(folder: Path) -> None:
    file = folder / "model-F16.gguf"
    file.write_bytes(file.read_bytes()[:-4096])
    found = json.loads((folder / "export.json").read_text())
    for one in found["files"]:
        if one["name"] == file.name:
            one |= {"bytes": file.stat().st_size, "sha256": files.sha256(file)}
    said(folder, files=found["files"])
    checks = verify(folder)[1]
    assert failed(checks) == {("header", file.name)}
    assert "truncated" in next(one.note for one in checks if one.passed is False)


def test_another_model_in_its_place_is_found_by_what_it_says(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sound, of the right size, with a digest that fits: but not what was trained."""
    pack(DOMAIN)
    file = folder / "model-F16.gguf"
    raw = bytearray(file.read_bytes())
    values = np.frombuffer(raw, np.float16, 4000, len(raw) - 8000 - 64).copy()
    raw[len(raw) - 8000 - 64 : len(raw) - 64] = (-values).tobytes()
    file.write_bytes(raw)
    found = json.loads((folder / "export.json").read_text())
    for one in found["files"]:
        if one["name"] == file.name:
            one["sha256"] = files.sha256(file)
    said(folder, files=found["files"])
    own = source(once(tmp_path_factory.getbasetemp()), limits=GENEROUS, judge=None)
    assert ("logits", file.name) in failed(verify(folder, own)[1])


def test_missing_links_and_strangers_are_told(folder: Path, tmp_path: Path) -> None:
    (folder / "model-F16.gguf").rename(tmp_path / "outside.gguf")
    (folder / "model-F16.gguf").symlink_to(tmp_path / "outside.gguf")
    (folder / "adapter.gguf").unlink()
    (folder / "stranger\x1b[31m.txt").write_text("?")
    checks = verify(folder)[1]
    notes = {one.of: one.note for one in checks if one.name == "file" and not one.passed}
    assert notes == {"model-F16.gguf": "it is no regular file", "adapter.gguf": "it is missing"}
    assert "\x1b" not in next(one.note for one in checks if one.name == "other files")


def test_a_pipe_in_a_file_s_place_is_not_waited_for(folder: Path) -> None:
    (folder / "adapter.gguf").unlink()
    os.mkfifo(folder / "adapter.gguf")
    assert ("file", "adapter.gguf") in failed(verify(folder)[1])


def test_a_modelfile_that_names_another_file_is_found(folder: Path) -> None:
    file = folder / "Modelfile"
    file.write_text(file.read_text().replace("FROM ./model-", "FROM ./other-"))
    found = json.loads((folder / "export.json").read_text())
    for one in found["files"]:
        if one["name"] == file.name:
            one |= {"bytes": file.stat().st_size, "sha256": files.sha256(file)}
    said(folder, files=found["files"])
    assert failed(verify(folder)[1]) == {("Modelfile", "Modelfile")}


def test_a_template_that_writes_other_prompts_is_found(folder: Path) -> None:
    file = folder / "Modelfile"
    assert "<|im_start|>" in file.read_text()
    file.write_text(file.read_text().replace("<|im_start|>assistant", "<|im_start|>robot"))
    found = json.loads((folder / "export.json").read_text())
    for one in found["files"]:
        if one["name"] == file.name:
            one |= {"bytes": file.stat().st_size, "sha256": files.sha256(file)}
    said(folder, files=found["files"])
    assert failed(verify(folder)[1]) == {("template", "Modelfile")}


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b.gguf", "..", ".hidden", "", "a\\b:c", "x\ny", "x" * 300])
def test_a_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    found = json.loads((folder / "export.json").read_text())
    found["files"][0]["name"] = name
    said(folder, files=found["files"])
    with pytest.raises(InputError, match=r"files\.0\.name"):
        verify(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", "{}", '{"version": 2}', "[" * 100_000, '{"version": 1, "name": 3}', "\x00", '{"files": "x"}']
)
def test_an_export_json_that_is_none_is_one_clear_error(folder: Path, text: str) -> None:
    (folder / "export.json").write_text(text)
    with pytest.raises(InputError, match=r"export\.json"):
        verify(folder)


def test_a_huge_export_json_is_not_read(folder: Path) -> None:
    with (folder / "export.json").open("ab") as file:
        file.truncate(exports.LARGEST_BYTES + 1)
    with pytest.raises(InputError, match="larger than 16 MB"):
        verify(folder)


def test_a_folder_that_is_no_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is no export"):
        verify(tmp_path)


def test_what_failed_when_it_was_made_stays_failed(folder: Path) -> None:
    found = json.loads((folder / "export.json").read_text())
    said(folder, checks=[*found["checks"], {"name": "logits", "passed": False, "value": 3.0, "limit": 1e-4}])
    assert ("as made", "") in failed(verify(folder)[1])


def test_an_export_json_without_files_does_not_pass(folder: Path) -> None:
    said(folder, files=[])
    assert ("file", "") in failed(verify(folder)[1])


def test_the_verb_prints_a_table_and_ends_with_3_where_a_check_failed(folder: Path) -> None:
    fine = pointsman("verify", str(folder), "--files-only")
    assert fine.code == 0, fine.err
    assert "all that could be checked passed" in fine.out
    assert "not checked: --files-only was given" in fine.out
    (folder / "adapter.gguf").write_bytes(b"GGUF")
    broken = pointsman("verify", str(folder), "--files-only", "--json")
    assert broken.code == 3
    value = json.loads(broken.out)
    assert value["passed"] is False
    assert value["verify"]["file of adapter.gguf"]["passed"] is False


@pytest.mark.parametrize("given", ["nowhere", "", "a\x00b", "../..", "x" * 5000])
def test_the_verb_refuses_what_is_no_export_in_one_line(given: str) -> None:
    pointsman("verify", given).refused("no export")


def test_texts_hold_what_goes_wrong_between_tokenizers() -> None:
    together = "\n".join(spelling.TEXTS)
    for part in ("  ", "\n\n3", "\t", "😀", "漢字", "<|im_start|>", "\x00", "\u0301", "مرحبا", "1" * 100, "a" * 1000, " leading"):
        assert part in together


def test_a_file_that_reads_texts_otherwise_is_named(export: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    class Other:
        """A trained model whose digits stand together and whose prompts begin with something else."""

        think, validation, ends = False, (), (2, 77)

        def text_ids(self, text: str) -> list[int]:
            return [1] if "33" in text else list(known.texts[spelling.TEXTS.index(text)])

        def spelled(self, messages: tuple[Message, ...]) -> tuple[str, list[int]]:
            return "x", [1]

    known = computing.spell(export / "model-F16.gguf", spelling.TEXTS, [], False)
    checks, found = spelling.checks(export / "model-F16.gguf", Other(), "model-F16.gguf")
    by_name = {one.name: one for one in checks}
    assert by_name["tokens"].passed is False
    assert by_name["tokens"].value == sum("33" in text for text in spelling.TEXTS)
    assert by_name["prompts"].value == len(spelling.SHAPES)
    assert "one question" in by_name["prompts"].note
    assert by_name["end tokens"].value == 1
    assert "77" in by_name["end tokens"].note
    assert by_name["beginning token"].passed
    assert found.template.strip()


def test_rows_that_begin_alike_are_compared_once_where_they_differ(export: Path, tmp_path: Path) -> None:
    rows = Rows(((5, 6, 7), (5, 6, 7, 8, 9), (5, 6, 7, 10)), 3)
    assert rows.positions == 3 + 2 + 1
    assert rows.some(5) == Rows(rows.ids[:2], 3)
    (same,) = computing.compare([(export / "model-F16.gguf", None)], rows.ids, rows.shared)
    assert same.positions == 6
    assert same.figures.kl_mean == 0.0
    given = tmp_path / "given"
    given.mkdir()
    for number, count in enumerate((3, 2, 1)):
        np.save(given / f"{number}.npy", np.zeros((count, 7), np.float32))
    with pytest.raises(ModelInvalid, match="vocabulary has"):
        computing.compare([(export / "model-F16.gguf", None)], rows.ids, rows.shared, given)


def test_first_choices_count_where_an_answer_is_written() -> None:
    """An answer of two tokens at a row's end is predicted at the two positions before the last."""

    def row(*leads: float) -> fidelity.Positions:
        rest = np.zeros(len(leads) - 1)
        return fidelity.Positions(np.zeros(len(leads)), rest, rest, np.array(leads), rest)

    told = tasks._told([row(9.0, 0.0, 7.0), row(3.0, 5.0, 0.0, 1.0)], [0, 2])
    assert (told["positions"], told["differ"], told["leads"]) == (7, 5, [1.0, 3.0, 5.0, 7.0, 9.0])
    assert (told["spoken"], told["spoken_differ"]) == (2, 1)
    assert tasks._told([row(9.0, 0.0)], [0])["spoken"] == 0


def test_logits_given_as_pickles_are_never_loaded(export: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ModelInvalid, match="cannot be computed"):
        computing.compare([(export / "model-F16.gguf", None)], [(5, 6)], 0, tmp_path)


def test_a_token_that_the_file_has_not_is_an_error_and_no_crash(export: Path) -> None:
    with pytest.raises(ModelInvalid, match="not among the"):
        computing.compare([(export / "model-F16.gguf", None)], [(5, 1 << 20)], 0)


def test_an_answer_is_cut_where_it_does_not_end(export: Path) -> None:
    (one,) = computing.answer(export / "model-F16.gguf", None, [[5, 6, 7]], 1)
    assert len(one.ids) <= 1
    assert one.ended or len(one.ids) == 1


def test_the_adapter_of_another_base_crashes_nothing(export: Path, tmp_path: Path) -> None:
    from tiny_gguf import adapter, bpe_model

    base = bpe_model(tmp_path / "base.gguf")
    with pytest.raises(ModelInvalid):
        computing.answer(base, export / "adapter.gguf", [[5, 6, 7]], 2)
    assert computing.answer(base, adapter(tmp_path / "own.gguf", base, strength=0.1), [[5, 6, 7]], 2)


def test_rows_are_spread_and_bounded(export: Path) -> None:
    class One:
        def __init__(self, number: int) -> None:
            self.messages, self.prompt, self.answer = (), (1, 2, 3, number), (number, 9)

    asked = [One(number) for number in range(10, 110)]
    rows = numerics.chosen(asked, 100, 60)
    assert rows.shared == 3
    assert rows.ids[0] == (1, 2, 3)
    assert rows.positions <= 60
    assert len({row[3] // 10 for row in rows.ids[1:]}) > 5, "from all parts of the rows"
    assert numerics.chosen([], 100).ids == ()
    assert numerics.chosen(asked[:1], 100).shared == 0
