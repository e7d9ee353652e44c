"""What every benchmark shares: which machine it ran on, a plain table, and the JSON file of its results."""

import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("pointsman", "llama-cpp-python", "numpy", "textual", "sqlalchemy", "httpx")


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory, system, Python and package versions, and the load at this moment."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1) if hasattr(os, "sysconf") else 0,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The rows' values under those columns as aligned text: numbers to the right, what is missing as "-"."""
    cells = [[_cell(row.get(column, "-")) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in [list(columns), *cells]) for index in range(len(columns))]
    right = [all(_is_number(row.get(column, 0)) for row in rows) for column in columns]
    lines = [list(columns), ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at_right else cell.ljust(width) for cell, width, at_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def write(name: str, payload: Mapping[str, Any]) -> Path:
    """Write bench/results/<name>.json: the payload with the command, the time (UTC) and the machine; returns its path.

    Files that the command names are kept by their names alone.
    """
    given = [Path(one).name if os.path.isabs(one) else one for one in sys.argv[1:]]
    command = " ".join(["python", os.path.relpath(sys.argv[0], ROOT), *given])
    head = {"benchmark": name, "command": command, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**head, **payload}, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    return path


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
