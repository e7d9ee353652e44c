"""The safetensors files of a checkpoint: which there are, whether they are whole, and what they hold. Pickles are refused.

Not covered: loading them, which is transformers' work.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

from data import paths
from data.errors import ModelInvalid
from data.sanitise import one_line
from trainer.device import torch

CONFIG = "config.json"
ONE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
FIX = "download it again"


def files(folder: Path) -> list[Path]:
    """The weight files, in order. Raises ModelInvalid where there are only pickles, none, or not all that the index names."""
    if (folder / INDEX).is_file():
        names = index(paths.read_text(folder / INDEX, 64 << 20, "it is no usual index"), str(folder))
    elif (folder / ONE).is_file():
        names = (ONE,)
    elif pickled(folder):
        raise pickle_refused(str(folder))
    else:
        raise ModelInvalid(f"{folder} has no {ONE}", "name a folder with a checkpoint: config.json, *.safetensors")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelInvalid(f"{folder} lacks {len(missing)} of {len(names)} weight files, the first {missing[0]}", FIX)
    return [folder / name for name in names]


def index(text: str, where: str) -> tuple[str, ...]:
    """The names of the files that an index names, sorted. Raises ModelInvalid where it is broken or leads out of its folder."""
    try:
        found = json.loads(text)["weight_map"].values()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelInvalid(f"{where} has a broken {INDEX}", FIX) from error
    names = sorted({str(name) for name in found})
    outside = [name for name in names if Path(name).name != name or "\\" in name or not name.endswith(".safetensors")]
    if outside or not names:
        said = f"names {one_line(outside[0], 80)!r}" if outside else "names no file"
        raise ModelInvalid(f"{where}: {INDEX} {said}", FIX)
    return tuple(names)


def parameters(found: Sequence[Path]) -> int:
    """How many numbers the files hold, by their heads, which must fit the files' sizes. Raises ModelInvalid."""
    from safetensors import SafetensorError, safe_open

    count = 0
    for file in found:
        try:
            with safe_open(file, framework="numpy") as opened:
                count += sum(prod(opened.get_slice(name).get_shape()) for name in opened.keys())
        except (SafetensorError, OSError) as error:
            raise ModelInvalid(f"{file} is damaged or cut off: {one_line(str(error), 120)}", FIX) from error
    return count


def combined(digests: Mapping[str, str]) -> str:
    """One digest for files by name: that of a single file itself, of several that of their sorted lines `digest  name`."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    return sha256("".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())).encode()).hexdigest()


def require_finite(model: Any, where: str) -> None:
    """Raises ModelInvalid naming the first tensor with a value that is no number."""
    for name, values in model.named_parameters():
        if values.is_floating_point() and not bool(torch().isfinite(values).all()):
            raise ModelInvalid(f"{where}: {name} holds values that are not finite numbers", FIX)


def pickled(folder: Path) -> bool:
    """Whether the folder holds pickles."""
    return any_pickle(file.name for file in folder.iterdir())


def any_pickle(names: Iterable[str]) -> bool:
    """Whether one of the names is that of a pickle."""
    return any(name.lower().endswith(PICKLES) and name != "training_args.bin" for name in names)


def pickle_refused(where: str) -> ModelInvalid:
    """Why a checkpoint of pickles is not loaded, and what to do."""
    return ModelInvalid(
        f"{where} holds its weights as pickles, which can run code when they are loaded",
        "choose a revision with safetensors, or convert it: huggingface.co/docs/safetensors/convert-weights",
    )
