"""Checkpoints that survive a kill at any moment: written beside, sealed with sizes and sums, renamed when complete.

A folder `checkpoint-N` is whole or it is not there; what a power cut or a bad disk spoils all the same is found by its seal.
Its weights are safetensors, its figures JSON; optimizer.pt, scheduler.pt, scaler.pt and rng_state.pth are torch's own files,
which transformers 5.23 reads back with torch.load(weights_only=True) alone (trainer.py, _load_optimizer_and_scheduler,
_load_scaler and _load_rng_state), so nothing in them is ever executed. Not covered: when one is written (`loop`).
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data import paths
from data.errors import InputError

SEAL = "complete.json"
"""Written last: {"files": {name: [bytes, sha256 or ""]}}."""
SUMMED_BYTES = 256 << 20
"""Files up to this size have their sha256 in the seal, larger ones their size alone: reading them back would take seconds."""
PART = ".part"
NAMES = re.compile(r"^checkpoint-([0-9]+)$")


def last_sound(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, None without one. Incomplete and spoilt ones are removed."""
    if not folder.is_dir():
        return None
    for leftover in folder.glob(f"*{PART}"):
        shutil.rmtree(leftover, ignore_errors=True)
    found = None
    for one in all_of(folder):
        if sound(one):
            found = one
        else:
            _discard(one)
    return found


def all_of(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, sound or not, oldest first."""
    return sorted((one for one in folder.glob("checkpoint-*") if NAMES.match(one.name)), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The optimiser steps after which it was written."""
    found = NAMES.match(checkpoint.name)
    if not found:
        raise InputError(f"{checkpoint} is not the folder of a checkpoint", "name a folder called checkpoint-N")
    return int(found.group(1))


def sound(checkpoint: Path) -> bool:
    """Whether every file that the seal names is there, in its size and with its sum."""
    try:
        sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["files"]
        return bool(sealed) and all(
            (checkpoint / name).stat().st_size == size and (not digest or _sha256(checkpoint / name) == digest)
            for name, (size, digest) in sealed.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def seal(part: Path, final: Path) -> None:
    """Make a written folder durable and give it its final name; its seal is the last file of it."""
    files = sorted(one for one in part.rglob("*") if one.is_file() and one != part / SEAL)
    sums = {str(one.relative_to(part)): _sealed(one) for one in files}
    for one in files:
        _sync(one)
    (part / SEAL).write_text(json.dumps({"files": sums}, indent=1), encoding="utf-8")
    _sync(part / SEAL)
    for inner in [*(one for one in part.rglob("*") if one.is_dir()), part]:
        paths.sync_folder(inner)
    if final.exists():
        _discard(final)
    os.replace(part, final)
    paths.sync_folder(final.parent)


def rotate(folder: Path, keep: int) -> list[Path]:
    """Remove all but the `keep` newest; call it when the newest is sealed. Returns those that are left, oldest first."""
    found = all_of(folder)
    for one in found[:-keep]:
        _discard(one)
    return found[-keep:]


def save(trainer: Any, model: Any, extra: Callable[[Path], None]) -> Path:
    """Write the trainer's state after its current step as a sealed checkpoint; every process of the run calls this.

    extra: writes further files into the folder, in the first process. Raises InputError where the disk does not take it.
    """
    from transformers import Trainer

    folder = Path(trainer.args.output_dir)
    part, name = folder / f".checkpoints{PART}", f"checkpoint-{trainer.state.global_step}"
    first = trainer.is_world_process_zero()
    if first:
        shutil.rmtree(part, ignore_errors=True)
        paths.ensure(part)
    trainer.accelerator.wait_for_everyone()
    with _disk(folder), _written_to(trainer, part):
        Trainer._save_checkpoint(trainer, model, None)  # not TRL's, which only adds a model card beside the checkpoints
    trainer.accelerator.wait_for_everyone()
    if first:
        with _disk(folder):
            (part / name / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
            extra(part / name)
            seal(part / name, folder / name)
            shutil.rmtree(part, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return folder / name


@contextmanager
def _written_to(trainer: Any, part: Path) -> Iterator[None]:
    """Let transformers write, and rotate, where nothing else stands."""
    trainer._get_output_dir = lambda trial=None: str(part)
    try:
        yield
    finally:
        del trainer._get_output_dir


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write a checkpoint to {folder}: {reason}", "free space, then go on with --resume") from error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error):
            raise
        raise InputError(f"cannot write a checkpoint to {folder}", "free space, then go on with --resume") from error


def _discard(checkpoint: Path) -> None:
    """Take the name away first: no half-removed folder is ever called a checkpoint."""
    gone = checkpoint.with_name(f".{checkpoint.name}{PART}")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(checkpoint, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _sealed(file: Path) -> tuple[int, str]:
    size = file.stat().st_size
    return size, _sha256(file) if size <= SUMMED_BYTES else ""


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
