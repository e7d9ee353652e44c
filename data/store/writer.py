"""Which process writes an answer, and whether it still lives: so that an answer left open by a crash can be told from one
that another window is writing right now.

A process is known by its host, the boot of that host, its pid namespace, its pid and its start time, because pids are used
again and containers count them separately. Not covered: processes on another machine or in another container, of which
nothing can be known; recovery.py gives those an hour without a sign of life.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from data.errors import StoreDamaged

Life = Literal["alive", "dead", "rebooted", "unknown"]
"""Runs; ended; ended with its machine; cannot be known from here."""


@dataclass(frozen=True, slots=True)
class Writer:
    """A process. boot, space (pid namespace) and started (clock ticks since boot) are "" where the system does not tell."""

    host: str
    boot: str
    space: str
    pid: int
    started: str

    def __str__(self) -> str:
        return "\t".join((self.host, self.boot, self.space, str(self.pid), self.started))

    @classmethod
    def parse(cls, stored: str) -> "Writer":
        """The inverse of `str`; raises StoreDamaged."""
        parts = stored.split("\t")
        if len(parts) != 5 or not parts[3].isdecimal():
            raise StoreDamaged(f"the log names no process as the writer of an answer: {stored[:80]!r}", "run pointsman doctor")
        return cls(parts[0], parts[1], parts[2], int(parts[3]), parts[4])


def this_process() -> Writer:
    """The process that asks."""
    pid = os.getpid()
    return Writer(*_this_machine(), pid, _start_time(pid) or "")


def life(writer: Writer, here: Writer) -> Life:
    """Whether `writer` still runs, as far as the process `here` can know."""
    if writer.host != here.host:
        return "unknown"
    if writer.boot != here.boot:
        return "rebooted"
    if writer.space != here.space:
        return "unknown"
    started = _start_time(writer.pid)
    if started is None:
        return "dead"
    if not started or not writer.started:
        return "alive" if writer.pid == here.pid else "unknown"
    return "alive" if started == writer.started else "dead"


@cache
def _this_machine() -> tuple[str, str, str]:
    machine = _read("/etc/machine-id")
    host = f"{platform.node()}/{machine}".replace("\t", " ")
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return host, _read("/proc/sys/kernel/random/boot_id"), space


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the start of `pid` (proc(5), field 22); "" where unknown, None where no such process runs."""
    if os.name == "nt":
        return ""  # there os.kill(pid, 0) would end the process instead of asking for it
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass  # it runs, under another user
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return "" if not Path("/proc/self/stat").exists() else None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
