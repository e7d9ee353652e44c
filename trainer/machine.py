"""On what a run ran: processor, memory and GPU, the versions of what computes, the commit of the source.

No names of hosts or users. Not covered: what is chosen because of it (`device`).
"""

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from data.sanitise import one_line

PACKAGES = ("pointsman", "torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes", "safetensors", "tokenizers", "numpy")
ROOT = Path(__file__).parent.parent


class Hardware(BaseModel):
    """processor: its model; cores: those this process may use; gpus: by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = ""
    processor: str = ""
    cores: int = 0
    memory_bytes: int = 0
    gpus: tuple[str, ...] = ()


def hardware() -> Hardware:
    """This machine. GPUs are told where torch is loaded, as it is in a run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    system = f"{platform.system()} {platform.machine()}"
    return Hardware(system=system, processor=_processor(), cores=cores, memory_bytes=memory, gpus=_gpus())


def versions() -> dict[str, str]:
    """Python's and the packages' versions, those that are installed; nothing is imported."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit(root: Path = ROOT) -> str:
    """The commit that the source stands at, "" where it is no git checkout. Changes since are not seen."""
    try:
        git = root / ".git"
        if git.is_file():  # a linked work tree
            git = (root / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return _commit(head)
        name = head.removeprefix("ref:").strip()
        shared = git / "commondir"
        common = (git / shared.read_text(encoding="utf-8").strip()).resolve() if shared.is_file() else git
        if (common / name).is_file():
            return _commit((common / name).read_text(encoding="utf-8"))
        packed = (common / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next((_commit(line) for line in packed if line.endswith(f" {name}")), "")
    except (OSError, UnicodeDecodeError):  # no checkout, or none that may be read
        return ""


def _commit(line: str) -> str:
    found = re.match(r"[0-9a-f]{40,64}\b", line)
    return found.group() if found else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux: the platform module's word must do
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return one_line(next(names, platform.processor() or platform.machine()), 120)


def _gpus() -> tuple[str, ...]:
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return ()
    return tuple(one_line(torch.cuda.get_device_name(at), 120) for at in range(torch.cuda.device_count()))
