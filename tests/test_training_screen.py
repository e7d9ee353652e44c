"""Training beside the chat: begun, watched, paused, ended early, gone on with; what is damaged or hostile in it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import training_program
from chatting import scenario
from screens import NARROW, WIDE, opened
from textual.widgets import Sparkline

from data import paths
from data.errors import InputError
from tui import training
from tui.screens.training import TrainingScreen
from tui.training_events import LOSSES, Progress

PROGRAM = Path(training_program.__file__)
RUN = training_program.RUN


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The child is the program beside this test; whatever is left of it goes with the test."""
    popen = training.subprocess.Popen

    def start(command: list[str], **options: object) -> object:
        assert command[:5] == [sys.executable, "-P", "-m", "tui", "train"]
        found = popen([sys.executable, str(PROGRAM), *command[4:]], **options)
        started.append(found)
        return found

    started: list[object] = []
    monkeypatch.setattr(training.subprocess, "Popen", start)
    monkeypatch.setenv("PYTHONPATH", str(PROGRAM.parent.parent))
    yield
    for one in started:
        one.kill()  # type: ignore[attr-defined]
        one.wait()  # type: ignore[attr-defined]


def job_of(screen: TrainingScreen) -> str:
    return f"job:{screen._found.live[-1].job.folder.name}"


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@scenario
async def test_a_training_is_begun_watched_and_kept_early(size: tuple[int, int]) -> None:
    async with opened(TrainingScreen, size) as driven:
        await driven.go("recipe:triage")
        assert "Bank and card support" in driven.about
        await driven.press("t")
        await driven.enter("steady --seed 7")
        await driven.until(lambda: "loss 0.250" in driven.text)
        await driven.go(job_of(driven.screen))
        await driven.until(lambda: "400 tokens/s" in driven.about)
        for words in ("7 of 12", "58%", "3 min 0 s", "0.2500, from 2.0000", "macro-F1", "92.0%", "wanted: FRAUD", "--seed 7"):
            assert words in driven.about, words
        assert "␛[31mmy card [bold]" in driven.about and "\x1b" not in driven.about
        assert driven.screen.query_one(Sparkline).display and len(driven.screen.query_one(Sparkline).data or ()) == 7
        await driven.press("k")
        assert "judge the best so far?" in driven.note
        await driven.press("k")
        await driven.until(lambda: "all gates passed" in driven.about)
        assert "✓ accuracy: 0.970 of 0.900" in driven.about and f"pointsman export {RUN}" in driven.about
        await driven.press("escape")
        await driven.until(lambda: driven.app.left)


@scenario
async def test_a_training_is_paused_and_goes_on() -> None:
    async with opened(TrainingScreen) as driven:
        await driven.go("recipe:triage")
        await driven.press("t")
        await driven.enter("steady")
        await driven.until(lambda: driven.screen._found.live and driven.screen._found.live[-1].progress.losses)
        await driven.go(job_of(driven.screen))
        await driven.press("p")
        await driven.until(lambda: "paused" in driven.about)
        assert "to go on" in driven.about and f"left:{RUN}" in driven.rows
        await driven.press("r")
        await driven.until(lambda: "--resume" in " ".join(driven.screen._found.live[-1].job.arguments))
        await driven.until(lambda: driven.screen._found.live[-1].outcome == "running")


@scenario
async def test_it_goes_on_without_the_screen_and_a_second_one_is_refused() -> None:
    job = training.begin(["steady"])
    found = next(one for one in training.jobs() if one.folder == job.folder)  # as another chat finds it: by the lock
    async with opened(TrainingScreen) as driven:
        await driven.until(lambda: "loss 0.250" in driven.text)
        assert found.running and found.memory_bytes() > 0
        await driven.go("recipe:triage")
        await driven.press("d")
        await driven.until(lambda: "is being trained" in driven.note)
    assert job.running
    found.pause()
    job._process.wait(20)  # type: ignore[union-attr]
    assert not found.running and found.outcome() == "paused"
    with pytest.raises(InputError, match="does not run"):
        found.pause()


@scenario
async def test_an_estimate_is_shown_as_it_is_printed() -> None:
    async with opened(TrainingScreen) as driven:
        await driven.go("recipe:fraud")
        await driven.press("d")
        await driven.until(lambda: driven.screen._found.live and driven.screen._found.live[-1].outcome == "estimated")
        await driven.go(job_of(driven.screen))
        assert "memory 1.0 GB of 8.0 GB available, fits" in driven.about


@scenario
async def test_what_is_wrong_with_the_options_is_said_while_one_types() -> None:
    async with opened(TrainingScreen) as driven:
        await driven.go("recipe:triage")
        await driven.press("t")
        for line, words in (
            ("", "name a recipe"),
            ("triage --sed 7", "No such option"),
            ("triage --seed x", "is not a valid integer"),
            ("triage --launch 2", "--launch is not for here"),
            ("triage --data 'a", "no closing quotation"),
        ):
            driven.screen.line.value = line
            await driven.until(lambda: words in driven.note)  # noqa: B023
            await driven.press("enter")
            assert driven.screen.line.display and not training.jobs()
        await driven.press("escape")
        assert not driven.screen.line.display
        await driven.press("t")
        await driven.enter("bad")
        await driven.until(lambda: driven.screen._found.live and driven.screen._found.live[-1].outcome == "failed")
        await driven.go(job_of(driven.screen))
        assert "there is no recipe 'bad'" in driven.about


@scenario
async def test_damaged_folders_and_lines_are_left_out() -> None:
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"arguments": 3, "pid": "x", "at": ""}')):
        folder = paths.ensure(training.home() / name)
        (folder / training.JOB).write_text(text)
    sound = paths.ensure(training.home() / "d")
    (sound / training.JOB).write_text('{"arguments": ["triage"], "pid": 1, "at": "2026-11-21T00:00:00+00:00"}')
    odd = [
        '{"doing": 3, "values": [], "done": "x", "samples": [1, {"text": 2}]}',
        "[]",
        "{",
        '{"doing": "training", "values": {"loss": 1e999}}',
    ]
    (sound / training.EVENTS).write_bytes("\n".join(odd).encode() + b'\n\xff\n{"doing": "training", "stage": "cut')
    (paths.ensure(paths.data_dir() / "runs" / "odd-run") / "manifest.json").write_text("{")
    async with opened(TrainingScreen) as driven:
        await driven.go("job:d")
        assert [one.job.folder.name for one in driven.screen._found.live] == ["d"]
        assert "broke off" in driven.about
        await driven.go("run:odd-run")
        await driven.until(lambda: "manifest.json" in driven.about)


@scenario
async def test_rows_are_narrowed_by_words() -> None:
    async with opened(TrainingScreen, NARROW) as driven:
        await driven.press("slash")
        driven.screen.line.value = "card support"
        await driven.until(lambda: driven.rows == ["recipe:triage"])
        await driven.press("enter", "escape")
        await driven.until(lambda: len(driven.rows) > 5)


def test_many_losses_are_averaged_and_a_run_s_name_names_no_folder() -> None:
    found = Progress()
    for step in range(3 * LOSSES):
        found.add({"doing": "training", "done": step, "of": 9, "values": {"loss": 1.0 if step % 2 else 3.0}})
    assert len(found.losses) <= LOSSES and set(found.losses[:100]) == {2.0}
    found.add({"doing": "preparing", "run": "../../etc/x"})
    assert found.run == "x"


def test_a_lock_is_refused_twice(tmp_path: Path) -> None:
    from tui.training_events import written

    file = str(tmp_path / "events.jsonl")
    with written(file), pytest.raises(InputError, match="another training"), written(file):
        pass
    with pytest.raises(InputError, match="cannot write"), written(str(tmp_path / "no" / "file")):
        pass
