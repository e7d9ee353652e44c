"""`pointsman train RECIPE --launch N`: the same command in N processes of this machine, started by `accelerate launch`.

    ddp         every process holds the whole model and takes its share of each batch; gloo on processors, nccl on GPUs
    fsdp        the weights are shared out over the GPUs (PyTorch FSDP, version 2)
    deepspeed   ZeRO, by the recipe's stage or configuration file; needs the package deepspeed

The processes find each other on the loopback interface at a free port. The first one's output is shown as it comes; the others'
goes to files that are read when one of them fails. Not covered: several machines (torchrun or Ray start the same command there, see
docs/distributed.md) and the training itself.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data.errors import InputError, ModelMissing, PointsmanError
from data.sanitise import one_line, sanitise
from trainer.device import torch
from trainer.recipe import DistributedTable, Recipe

PROGRAM = "tui"
"""The module that each process runs: `python -m tui` is the command `pointsman`."""
LOOPBACK = {"linux": "lo", "darwin": "lo0"}
POLL_S = 0.1
LAST_LINES = 6
INTERRUPTED = 130
TOLD = (1, 2, 3, INTERRUPTED)
"""Exit codes with which the first process has said itself what is the matter."""
LARGEST_PROCESSES = 1024

Show = Callable[[str], object]


def run(argv: Sequence[str], processes: int, recipe: Recipe, *, show: Show | None = None, module: str = PROGRAM) -> int:
    """Run the command with those arguments in so many processes and return its exit code; 130 where it was interrupted.

    argv: as after `pointsman`; --launch is taken out. show: gets the first process's lines of stderr (default: this one's stderr).
    Raises InputError for what this machine cannot do, ModelMissing without DeepSpeed, PointsmanError where a process broke down.
    """
    check(processes, recipe.distributed)
    with tempfile.TemporaryDirectory(prefix="pointsman-launch-") as name:
        folder = Path(name)
        command = [*launcher(processes, recipe, folder), "-m", module, *without_launch(argv)]
        return _Launched(command, environment(processes), folder, processes, show or _to_stderr).wait()


def check(processes: int, table: DistributedTable) -> None:
    """Raises InputError or ModelMissing for what cannot be started here."""
    if not 2 <= processes <= LARGEST_PROCESSES:
        raise InputError(f"--launch {processes} is no number of processes", "give 2 or more, or leave --launch out")
    if table.strategy == "deepspeed" and find_spec("deepspeed") is None:
        raise ModelMissing('distributed.strategy = "deepspeed" needs DeepSpeed, which is not installed', "pip install deepspeed")
    found = torch()
    if not found.cuda.is_available():
        if table.strategy != "ddp":
            raise InputError(
                f"{table.strategy} shares a model out over GPUs, and there is none",
                'set distributed.strategy = "ddp", or use a GPU',
            )
        return
    if processes > found.cuda.device_count():
        raise InputError(
            f"--launch {processes}, and this machine has {found.cuda.device_count()} GPUs",
            f"give --launch {found.cuda.device_count()} at most: one process a GPU",
        )


def launcher(processes: int, recipe: Recipe, folder: Path) -> list[str]:
    """The beginning of the command: accelerate with its configuration, written into the folder."""
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(_configuration(processes, recipe.distributed, folder))),
        *("--num_processes", str(processes)),
        *("--num_cpu_threads_per_process", str(threads(processes))),
        *("--main_process_port", "0"),
        *("--log_dir", str(folder / "logs")),
    ]


def threads(processes: int) -> int:
    """CPU threads of each process: an even share of what this one may use, and not more than OMP_NUM_THREADS where that is set."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores // processes)
    return min(share, int(asked)) if asked.isdigit() and int(asked) else share


def environment(processes: int) -> dict[str, str]:
    """This process's, with rendezvous on the loopback interface, and all output but the first process's stdout sent to files."""
    redirects = ",".join(f"{rank}:{3 if rank else 2}" for rank in range(processes))  # torchrun's: 2 stderr, 3 both
    found = {**os.environ, "PET_REDIRECTS": redirects, "TOKENIZERS_PARALLELISM": "false"}
    if sys.platform in LOOPBACK:
        found.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[sys.platform])
    return found


def configuration(processes: int, table: DistributedTable) -> dict[str, Any]:
    """accelerate's configuration for a strategy. The number format is left to the training arguments.

    accelerate starts several processes on processors only under MPI, so ddp is always said to be of GPUs: then it starts them by
    torchrun, and the training arguments choose gloo where there is no GPU.
    """
    found: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": {"ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED"}[table.strategy],
        "mixed_precision": "no",
        "num_machines": 1,
        "num_processes": processes,
        "machine_rank": 0,
        "use_cpu": False,
    }
    if table.strategy == "fsdp":
        found["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_reshard_after_forward": True,
            "fsdp_state_dict_type": "FULL_STATE_DICT",
            "fsdp_cpu_ram_efficient_loading": False,  # every process has read the base already
            "fsdp_offload_params": False,
        }
    if table.strategy == "deepspeed":
        own = {"deepspeed_config_file": str(_own(table))} if table.config else {"zero_stage": table.zero, "zero3_init_flag": False}
        found["deepspeed_config"] = own
    return found


def without_launch(argv: Sequence[str]) -> list[str]:
    """The arguments without `--launch N` and `--launch=N`: each process trains, none starts others."""
    found: list[str] = []
    rest = iter(argv)
    for one in rest:
        if one == "--launch":
            next(rest, None)
        elif not one.startswith("--launch="):
            found.append(one)
    return found


def _configuration(processes: int, table: DistributedTable, folder: Path) -> Path:
    """The configuration file: the recipe's own where it is one of accelerate's, else ours."""
    if table.config:
        own = _own(table)
        if not (table.strategy == "deepspeed" and own.suffix == ".json"):
            return own
    file = folder / "accelerate.json"
    file.write_text(json.dumps(configuration(processes, table), indent=1), encoding="utf-8")
    return file


def _own(table: DistributedTable) -> Path:
    file = Path(table.config).expanduser().absolute()
    if not file.is_file():
        raise InputError(f"distributed.config: there is no file {one_line(str(file), 200)}", "correct the path, or leave it out")
    return file


class _Launched:
    """The running launcher: its first process's stderr is shown while it grows, signals are passed on, its end is explained."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path, processes: int, show: Show) -> None:
        self._folder, self._processes, self._show = folder, processes, show
        self._shown = 0
        with (folder / "launcher.log").open("wb") as log:
            # a session of its own: a Ctrl-C reaches it once, from here
            self._process = subprocess.Popen(command, env=env, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603

    def wait(self) -> int:
        """Its exit code. Raises PointsmanError where a process broke down."""
        with _terminable():
            try:
                self._follow()
            except KeyboardInterrupt:
                return self._interrupted()
            finally:
                self._stop()
        self._drain(whole=True)
        code = self._process.returncode
        return 0 if code == 0 else self._failed(code)

    def _follow(self) -> None:
        while self._process.poll() is None:
            self._drain()
            time.sleep(POLL_S)

    def _interrupted(self) -> int:
        """Let the processes save what they have; a second Ctrl-C does not wait."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._follow()
        except KeyboardInterrupt:
            self._stop()
        self._drain(whole=True)
        return INTERRUPTED

    def _stop(self) -> None:
        """End what still runs; torchrun ends its processes before itself."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _drain(self, whole: bool = False) -> None:
        """Show the lines that have come since; whole: an unfinished last one too."""
        file = self._log(0)
        if file is None:
            return
        with file.open("rb") as source:
            source.seek(self._shown)
            new = source.read()
        if not whole:
            new = new[: new.rfind(b"\n") + 1]
        self._shown += len(new)
        for line in new.decode("utf-8", "replace").splitlines():
            self._show(line)

    def _failed(self, code: int) -> int:
        """The first process's exit code where it has said why, else PointsmanError with the last words of the one that failed."""
        text = _read(self._folder / "launcher.log")
        ends = {int(rank): int(end) for rank, end in re.findall(r"rank\s*: (\d+) \(local_rank.*\n\s*exitcode\s*: (-?\d+)", text)}
        if ends.get(0) in TOLD:
            return ends[0]
        broken = [rank for rank, end in ends.items() if end != -signal.SIGTERM] or [0]  # the others were ended because of it
        rank = broken[0]
        words = self._last(rank) or self._last(0) or _tail(text)
        end = ends.get(rank, code)
        how = f"by signal {-end} ({signal.Signals(-end).name})" if -end in set(signal.Signals) else f"with exit code {end}"
        raise PointsmanError(
            f"process {rank} of {self._processes} ended {how}; its last words: {words or 'none'}",
            "where it was killed, memory may have run out: fewer processes, or a smaller micro_batch; --resume goes on",
        )

    def _last(self, rank: int) -> str:
        file = self._log(rank)
        return _tail(_read(file)) if file else ""

    def _log(self, rank: int) -> Path | None:
        """A process's stderr: torchrun writes it to logs/<run>/attempt_0/<rank>/stderr.log."""
        return next(iter((self._folder / "logs").glob(f"*/attempt_*/{rank}/stderr.log")), None)


@contextmanager
def _terminable() -> Iterator[None]:
    """While open, SIGTERM is taken like Ctrl-C, so that no process is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _read(file: Path) -> str:
    return file.read_bytes().decode("utf-8", "replace") if file.is_file() else ""


def _tail(text: str) -> str:
    lines = [one_line(line, 300) for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-LAST_LINES:])


def _to_stderr(line: str) -> None:
    sys.stderr.write(sanitise(line) + "\n")
    sys.stderr.flush()
