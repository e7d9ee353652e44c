"""What tests start in several processes: `python -m launched_program DEED`."""

import os
import signal
import sys
import time
from pathlib import Path


def main(deed: str, *more: str) -> int:
    rank = int(os.environ["RANK"])
    print(f"progress of {rank}", file=sys.stderr, flush=True)
    if deed == "tell":
        print(
            f"{rank} {os.environ['WORLD_SIZE']} {os.environ['OMP_NUM_THREADS']} {os.environ['MASTER_ADDR']} {' '.join(more)}",
            flush=True,
        )
    elif deed == "gate":
        return 3 if rank == 0 else 0
    elif deed == "killed" and rank == 1:
        print("about to be \x1b[2Jkilled", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if deed in ("killed", "wait"):
        return _wait(Path(more[0]) if more else None, rank)
    return 0


def _wait(folder: Path | None, rank: int) -> int:
    """Until somebody asks to stop; then leave a file that says so."""
    try:
        if folder:
            (folder / f"ready-{rank}").touch()
        time.sleep(120)
    except KeyboardInterrupt:
        if folder:
            (folder / f"saved-{rank}").touch()
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
