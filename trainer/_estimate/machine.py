"""What a machine has and how fast it is: this one's memory and disk as they are, and the usual ones that recipes are written for.

Not covered: the number format (`device`), the exact hardware for the manifest (`machine`).
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from trainer._estimate.memory import Device
from trainer._estimate.shapes import Shape

CORE_FLOPS = 60e9
"""Operations a second of a core while training in float32: 62e9 measured on one core with AVX512 (SmolLM2's widths)."""
CGROUP = Path("/sys/fs/cgroup")
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Machine:
    """flops: operations a second while training, what is reached and not what is advertised."""

    name: str
    device: Device
    memory_bytes: int
    flops: float


LAPTOP = Machine("a laptop, 4 cores, 16 GB", "cpu", 16_000_000_000, 4 * CORE_FLOPS)
SMALL_GPU = Machine("a GPU with 12 GB (RTX 3060)", "cuda", 12_000_000_000, 0.35 * 25e12)
LARGE_GPU = Machine("a GPU with 24 GB (RTX 3090)", "cuda", 24_000_000_000, 0.35 * 71e12)
"""Vendor's dense bfloat16 rates with float32 sums, 25 and 71 TFLOP/s (NVIDIA GA10x whitepaper), times 0.35: LoRA on an A100 was
measured by others at 0.3 to 0.4 of its rate. Not measured here."""


def usual(shape: Shape) -> Machine:
    """The machine that a model of this size is usually tuned on."""
    if shape.parameters < 500_000_000:
        return LAPTOP
    return SMALL_GPU if shape.parameters < 2_000_000_000 else LARGE_GPU


def available_bytes(device: Device) -> int:
    """Memory that this process may have, with what it has already: of the GPU, or its share of the machine's, within its control
    group, where a launcher started several."""
    if device == "cuda":
        from trainer.device import torch

        found = torch()
        return int(found.cuda.mem_get_info()[0] + found.cuda.memory_reserved())
    import psutil

    own = int(psutil.Process().memory_info().rss)
    together = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return min(int(psutil.virtual_memory().available), _group_free()) // together + own


def free_disk_bytes(folder: Path) -> int:
    """Free on the disk of a folder, which need not be there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def flops(device: Device) -> float:
    """Operations a second to expect of this machine before anything is measured."""
    if device == "cuda":
        return LARGE_GPU.flops
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores * CORE_FLOPS


def forget_peak(device: Device) -> None:
    """Measure the peak of memory from now on; where the system cannot, it stays the highest since the process began."""
    if device == "cuda":
        from trainer.device import torch

        torch().cuda.reset_peak_memory_stats()
        return
    try:
        CLEAR.write_text("5")
    except OSError:  # no Linux, or a container that forbids it
        return


def peak_bytes(device: Device) -> int:
    """The peak of this process's memory, on the GPU where it trains there."""
    if device == "cuda":
        from trainer.device import torch

        return int(torch().cuda.max_memory_allocated())
    try:
        lines = STATUS.read_text("ascii", "replace").splitlines()
    except OSError:
        lines = []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return found[0] if found else _resource_peak()


def _resource_peak() -> int:
    import resource
    import sys

    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def _group_free() -> int:
    """What the control group leaves (version 2); more than any machine has where there is no limit."""
    try:
        limit, used = (CGROUP / "memory.max").read_text("ascii").strip(), (CGROUP / "memory.current").read_text("ascii").strip()
    except OSError:
        return 1 << 62
    return max(0, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else 1 << 62
