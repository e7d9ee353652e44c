"""Several processes by --launch: what is started and with what, how its end is told, and that it trains as one process does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import run
from tiny_checkpoints import checkpoint

from data.errors import InputError, ModelMissing, PointsmanError
from trainer import launch, recipe
from trainer.recipe import DistributedTable, Recipe

ROOT = Path(__file__).parent.parent

RECIPE = Recipe(name="r", domain="triage")
PROGRAM = "launched_program"
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")


@pytest.fixture
def program(monkeypatch):
    """The processes find launched_program.py, and have one thread each."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), str(ROOT)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def _gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def _written(tmp_path, table, processes=2):
    """accelerate's own reading of the configuration that the command names, and the command."""
    from accelerate.commands.config.config_args import load_config_from_file

    command = launch.launcher(processes, RECIPE.model_copy(update={"distributed": table}), tmp_path)
    return load_config_from_file(command[command.index("--config_file") + 1]), command


@pytest.mark.parametrize("given", [["train", "r", "--launch", "2", "--seed", "1"], ["train", "--launch=2", "r", "--seed", "1"]])
def test_processes_get_the_same_command_without_launch(given):
    assert launch.without_launch(given) == ["train", "r", "--seed", "1"]


@pytest.mark.parametrize("processes", [-1, 0, 1, 5000])
def test_wrong_number_of_processes_is_refused(processes):
    with pytest.raises(InputError, match="no number of processes"):
        launch.check(processes, DistributedTable())


def test_missing_deepspeed_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    with pytest.raises(ModelMissing, match="pip install deepspeed"):
        launch.check(2, DistributedTable(strategy="deepspeed"))


def test_sharding_without_a_gpu_is_refused(monkeypatch):
    _gpus(monkeypatch, 0)
    with pytest.raises(InputError, match='strategy = "ddp"'):
        launch.check(2, DistributedTable(strategy="fsdp"))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    _gpus(monkeypatch, 2)
    launch.check(2, DistributedTable())
    with pytest.raises(InputError, match="--launch 2 at most"):
        launch.check(3, DistributedTable())


def test_threads_are_shared_out_and_never_more_than_asked_for(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [launch.threads(processes) for processes in (2, 3, 16)] == [4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launch.threads(2) == 3


def test_processes_meet_on_loopback_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert launch.environment(2)["GLOO_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    assert launch.environment(2)["GLOO_SOCKET_IFNAME"] == "eth7"


@pytest.mark.parametrize(("strategy", "kind"), [("ddp", "MULTI_GPU"), ("fsdp", "FSDP"), ("deepspeed", "DEEPSPEED")])
def test_accelerate_reads_the_configuration_of_every_strategy(tmp_path, strategy, kind):
    found, command = _written(tmp_path, DistributedTable(strategy=strategy, zero=3), 4)
    assert (found.distributed_type, found.num_processes, found.num_machines) == (kind, 4, 1)
    assert command[command.index("--num_processes") + 1] == "4"
    if strategy == "deepspeed":
        assert found.deepspeed_config["zero_stage"] == 3
    if strategy == "fsdp":
        assert found.fsdp_config["fsdp_version"] == 2


def test_own_deepspeed_file_is_named_in_ours(tmp_path):
    own = tmp_path / "zero.json"
    own.write_text("{}")
    found, _ = _written(tmp_path, DistributedTable(strategy="deepspeed", config=str(own)))
    assert found.deepspeed_config == {"deepspeed_config_file": str(own)}


def test_own_accelerate_file_is_used_as_it_is(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_processes: 2\nmixed_precision: 'no'\n")
    _, command = _written(tmp_path, DistributedTable(config=str(own)))
    assert command[command.index("--config_file") + 1] == str(own)


def test_own_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*nowhere\.yaml"):
        launch.launcher(
            2, RECIPE.model_copy(update={"distributed": DistributedTable(config=str(tmp_path / "nowhere.yaml"))}), tmp_path
        )


@without_gpu
def test_every_process_runs_the_command_and_the_first_one_is_heard(program, capfd):
    shown = []
    assert launch.run(["tell", "--launch", "2", "a b"], 2, RECIPE, show=shown.append, module=PROGRAM) == 0
    assert capfd.readouterr().out == "0 2 1 127.0.0.1 a b\n"
    assert shown == ["progress of 0"]


@without_gpu
def test_exit_code_of_the_first_process_is_passed_on(program):
    assert launch.run(["gate"], 2, RECIPE, show=lambda line: None, module=PROGRAM) == 3


@without_gpu
def test_process_that_breaks_down_is_named_with_its_last_words_and_none_is_left(program):
    with pytest.raises(PointsmanError, match=r"process 1 of 2 ended by signal 9 \(SIGKILL\).*about to be .*killed") as raised:
        launch.run(["killed"], 2, RECIPE, show=lambda line: None, module=PROGRAM)
    assert "\x1b" not in str(raised.value)


def test_being_ended_from_outside_is_taken_like_an_interruption():
    with pytest.raises(KeyboardInterrupt), launch._terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@without_gpu
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interruption_reaches_every_process_once(program, tmp_path):
    script = f"""
import sys
from trainer import launch, recipe
from trainer.recipe import Recipe
sys.exit(launch.run(["wait", {str(tmp_path)!r}], 2, Recipe(name="r", domain="triage"), module={PROGRAM!r}))
"""
    running = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        _until(lambda: all((tmp_path / f"ready-{rank}").exists() for rank in (0, 1)), running)
        running.send_signal(signal.SIGINT)
        assert running.wait(120) == 130
    finally:
        if running.poll() is None:
            running.terminate()
    assert all((tmp_path / f"saved-{rank}").exists() for rank in (0, 1))


def _until(true, running, limit_s=120):
    end = time.monotonic() + limit_s
    while not true():
        assert running.poll() is None and time.monotonic() < end
        time.sleep(0.1)


@without_gpu
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it
def test_two_processes_have_the_losses_of_one_at_the_same_global_batch(program, tmp_path):
    file = _recipe_file(tmp_path)
    assert run("train", file, "--out", str(tmp_path / "one")).code in (0, 3)
    told = []
    code = launch.run(["train", file, "--out", str(tmp_path / "two")], 2, recipe.load(file), show=told.append)
    assert code in (0, 3), told
    [one], [two] = ((tmp_path / name).iterdir() for name in ("one", "two"))
    assert (two / "adapter").is_dir()
    losses, evaluations = _measured(one, "loss"), _measured(one, "eval_loss")
    assert len(losses) == 12 and losses[-1] < losses[0] and evaluations
    assert _measured(two, "loss") == pytest.approx(losses, abs=1e-4)
    assert _measured(two, "eval_loss") == pytest.approx(evaluations, abs=1e-4)


def _recipe_file(folder):
    """A recipe for a tiny random base; rows of different lengths, and a last batch that is not full."""
    base = checkpoint(folder / "base", max_position_embeddings=1024)
    rows = [{"instruction": f"count {'on ' * (at % 5)}from {at}", "output": f"{at + 1} " * (1 + at % 3)} for at in range(22)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "held.jsonl").write_text(json.dumps({"instruction": "count from 40", "output": "41 42"}) + "\n")
    text = f"""
name = "counting"
base = {{ model = "{base}" }}
lora = {{ rank = 4, alpha = 8 }}
data = {{ train = ["{folder}/rows.jsonl"], validation = ["{folder}/held.jsonl"] }}
stages = [{{ kind = "sft", epochs = 2, batch = 4, micro_batch = 1, learning_rate = 1e-2 }}]
"""
    file = folder / "counting.toml"
    file.write_text(text)
    return str(file)


def _measured(folder, name):
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [event["values"][name] for event in events if name in event["values"]]
