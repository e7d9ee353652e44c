"""Trainings beside the chat: each a process of its own that is begun, watched, paused and ended early, and outlives the chat.

    <data>/training/<id>/   job.json (the command)   events.jsonl (what it tells)   out (its result)   err (its last words)
The process holds the lock of events.jsonl, so that any chat can tell whether it runs; the folder of one that has ended goes when
the next one begins. Files are read as untrusted. Not covered: training (`trainer.train`), the screen (`tui.screens.training`).
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from data import paths
from data.errors import InputError, PointsmanError
from data.sanitise import one_line
from tui.training_events import Progress

JOB, EVENTS, OUT, ERR = "job.json", "events.jsonl", "out", "err"
POLITE = 10
"""Nice value of a training beside the chat: the chat's answers come first."""
READ_BYTES = 4 << 20
"""Bytes of new events taken at once."""
REFUSED = ("--launch", "--json", "--schema", "--resume", "--dry-run", "--events")
"""Options of `pointsman train` that have a key of their own, or make no sense beside the chat."""

Outcome = Literal["running", "passed", "not passed", "estimated", "paused", "failed"]


class Job:
    """A training that was begun. folder: its own; arguments: as after `pointsman train`."""

    def __init__(self, folder: Path, arguments: Sequence[str], pid: int, at: datetime) -> None:
        self.folder, self.arguments, self.pid, self.at = folder, tuple(arguments), pid, at
        self.progress = Progress()
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0

    @property
    def name(self) -> str:
        """What is trained, in a word: the recipe, or the run that goes on."""
        return Path(next((one for one in self.arguments if not one.startswith("-")), "training")).name

    @property
    def dry(self) -> bool:
        """Whether it only estimates."""
        return "--dry-run" in self.arguments

    @property
    def running(self) -> bool:
        """Whether the process is still there: ours by its handle, another chat's by the lock."""
        if self._process is not None:
            return self._process.poll() is None
        try:
            descriptor = os.open(self.folder / EVENTS, os.O_RDWR)
        except OSError:
            return False
        try:
            return not paths.try_lock(descriptor)
        finally:
            os.close(descriptor)

    def follow(self) -> Progress:
        """The progress, with what was told since. Raises InputError where the events cannot be read."""
        try:
            with (self.folder / EVENTS).open("rb") as file:
                file.seek(self._read)
                new = file.read(READ_BYTES)
        except FileNotFoundError:
            return self.progress
        except OSError as error:
            raise InputError(f"cannot read {self.folder / EVENTS}: {error.strerror}", "make it readable") from error
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                self.progress.add(event)
        return self.progress

    def outcome(self) -> Outcome:
        """How it stands."""
        if self.running:
            return "running"
        if self.dry:
            return "estimated" if self._text(OUT).strip() else "failed"
        result = self.result()
        if result:
            return "passed" if result.get("passed") is True else "not passed"
        from trainer import underway

        run = self.follow().run
        left = bool(run) and (underway.place(run) / underway.STATE).is_file()
        return "paused" if left else "failed"

    def result(self) -> Mapping[str, Any]:
        """The JSON value that it ended with; {} where it has not, or was stopped."""
        try:
            found = json.loads(self._text(OUT))
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def said(self) -> tuple[str, ...]:
        """The lines of its result that are for people: of an estimate all."""
        return tuple(self._text(OUT).splitlines())

    def last_words(self) -> str:
        """The last line of its stderr: why it ended."""
        return next((line.strip() for line in reversed(self._text(ERR).splitlines()) if line.strip()), "")

    def memory_bytes(self) -> int:
        """Memory of the process now; 0 where it has ended or the system does not tell."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace") if self.running else ""
        except OSError:
            return 0
        line = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "")
        return int(line.split()[1]) * 1024 if len(line.split()) > 1 else 0

    def pause(self) -> None:
        """Ask it to stop after the step in hand, with a checkpoint. Raises InputError where it does not run."""
        if not self.running:
            raise InputError(f"{self.name} does not run", "go on with it, or begin another")
        os.kill(self.pid, signal.SIGINT)

    def keep(self) -> None:
        """Ask it to end its training now and keep the best so far. Raises InputError where it does not train yet."""
        from trainer import underway

        if not self.running or not self.progress.run:
            raise InputError(f"{self.name} does not train yet", "pause it, or wait until the first step is done")
        underway.enough(underway.place(self.progress.run))

    def _text(self, name: str) -> str:
        try:
            with (self.folder / name).open("rb") as file:
                return file.read(READ_BYTES).decode("utf-8", "replace")
        except OSError:
            return ""

    def started_by(self, process: "subprocess.Popen[bytes]") -> "Job":
        """The same, held by its handle."""
        self._process = process
        return self


def home() -> Path:
    """Where the trainings' folders lie."""
    return paths.data_dir() / "training"


def jobs() -> list[Job]:
    """The trainings that were begun and are still told of, oldest first. A folder of another shape is left out."""
    found = []
    for file in sorted(home().glob(f"*/{JOB}")):
        try:
            told = json.loads(paths.read_text(file, 1 << 20, "remove it"))
            job = Job(file.parent, [str(one) for one in told["arguments"]], int(told["pid"]), datetime.fromisoformat(told["at"]))
        except (InputError, ValueError, KeyError, TypeError, RecursionError):
            continue
        found.append(job)
    return found


def wrong(line: str) -> str:
    """What is wrong with a recipe and options as they are typed; "" for nothing. Files are not looked at."""
    import click

    from tui.commands.train import command

    try:
        words = shlex.split(line)
    except ValueError as error:
        return f"{error}".lower()
    if not words or words[0].startswith("-"):
        return "name a recipe first"
    if refused := next((word for word in words if word.split("=")[0] in REFUSED), ""):
        return f"{refused} is not for here"
    try:
        command.make_context("train", list(words), resilient_parsing=False)
    except click.ClickException as fault:
        return fault.format_message()
    except click.exceptions.Exit:
        return "name a recipe and its options"
    return ""


def begin(arguments: Sequence[str]) -> Job:
    """Start `pointsman train` with these arguments in a process of its own.

    Raises InputError where one trains already, or no process can be started.
    """
    past = jobs()
    if busy := next((one for one in past if one.running), None):
        raise InputError(f"{one_line(busy.name, 60)} is being trained", "pause it first, or wait for its end")
    for one in past:
        shutil.rmtree(one.folder, ignore_errors=True)
    at = datetime.now(UTC)
    folder = paths.ensure(home() / at.strftime("%Y%m%d-%H%M%S-%f"))
    as_json = [] if "--dry-run" in arguments else ["--json"]
    command = [sys.executable, "-P", "-m", "tui", "train", *arguments, *as_json, "--events", str(folder / EVENTS)]
    with paths.replacing(folder / EVENTS):
        pass
    try:
        with (folder / OUT).open("wb") as out, (folder / ERR).open("wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)  # noqa: S603
    except OSError as error:
        raise InputError(f"no process can be started: {error.strerror}", "free memory or space, then try again") from error
    _be_polite(process.pid)
    told = {"arguments": list(arguments), "pid": process.pid, "at": at.isoformat()}
    with paths.replacing(folder / JOB) as file:
        file.write(json.dumps(told, indent=1).encode())
    return Job(folder, arguments, process.pid, at).started_by(process)


def resume(name: str) -> Job:
    """Go on with a run that was paused or broke off. Raises as `begin`."""
    return begin(["--resume", name])


def unfinished() -> list[str]:
    """The names of runs that can go on, the newest last; those under way are among them."""
    from trainer import underway

    return [underway.name_of(folder) for folder in underway.unfinished()]


def finished(most: int = 30) -> list[tuple[str, bool | None]]:
    """The newest runs and whether they passed; None where their manifest does not tell or cannot be read."""
    from trainer import manifest, run_folder

    folders = sorted((one for one in run_folder.runs_dir().glob("[!.]*") if one.is_dir()), key=_changed, reverse=True)
    found: list[tuple[str, bool | None]] = []
    for folder in folders[:most]:
        try:
            passed = manifest.read(folder).results.get("passed")
        except PointsmanError:
            passed = None
        found.append((folder.name, passed if isinstance(passed, bool) else None))
    return found


def _be_polite(pid: int) -> None:
    if hasattr(os, "setpriority"):
        try:
            os.setpriority(os.PRIO_PROCESS, pid, POLITE)
        except OSError:  # it has ended already
            return


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0
