"""llama.cpp's own converter, for architectures that `export.families` does not know: convert_hf_to_gguf.py in a child process.

No wheel holds it; it comes, with the gguf-py of its version, in the sdist of llama-cpp-python, of which only the converter is
unpacked, once, into the cache. LLAMA_CPP_DIR names a llama.cpp folder or an sdist instead. The child sees the checkpoint's data
files only, no code and no pickles, has no network and an environment of its own. It needs torch, transformers and, for
SentencePiece, sentencepiece. Not covered: image and audio parts, adapters.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from data import paths
from data.errors import EngineUnavailable, InputError, ModelInvalid, ModelMissing, Offline
from data.sanitise import one_line
from export import files

SCRIPT = "convert_hf_to_gguf.py"
TYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "Q8_0": "q8_0"}
TIMEOUT_S = 4 * 3600
PACKAGE = "llama-cpp-python"
_NEEDED = (SCRIPT, "LICENSE", "conversion", "gguf-py")  # of llama.cpp's files
_INSIDE = ("vendor", "llama.cpp")  # of the sdist
_MOST_MEMBERS, _MOST_BYTES = 50_000, 256 << 20  # of the archive, of what is unpacked
_DATA = (".json", ".safetensors", ".model", ".jinja", ".txt", ".md")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUTF8": "1"}

Tell = Callable[[str], object]


def convert(
    checkpoint: Path,
    target: Path,
    form: str = "F16",
    *,
    name: str = "",
    tell: Tell = lambda line: None,
    fetch: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Write the checkpoint to `target` as llama.cpp's converter does.

    Raises ModelInvalid with the converter's last words, EngineUnavailable where it or a package that it needs is missing,
    InputError for an unknown form and for a lack of space; `target` is then as it was before.
    """
    if form not in TYPES:
        raise InputError(f"llama.cpp's converter writes no {one_line(form, 20)}", f"choose one of {', '.join(TYPES)}")
    if not (checkpoint / "config.json").is_file():
        raise ModelMissing(
            f"there is no config.json in {checkpoint}", "name a folder with a checkpoint: config.json, *.safetensors"
        )
    script = source(tell=tell, fetch=fetch) / SCRIPT
    size = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    files.need_space(target.parent, size * (2 if form == "F32" else 1))
    tell(f"converting {checkpoint.name} with llama.cpp's own converter")
    with files.whole_file(target) as temporary, tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting.") as place:
        made = Path(place) / "model.gguf"  # a name without the braces that the converter would fill in
        seen = _data_files(checkpoint, Path(place) / "checkpoint")
        arguments = [str(seen), "--outfile", str(made), "--outtype", TYPES[form], "--model-name", name or checkpoint.resolve().name]
        _run([sys.executable, str(script), *arguments], Path(place), f"{checkpoint} cannot be converted to GGUF", timeout_s)
        if not made.is_file():
            raise ModelInvalid(f"{checkpoint} cannot be converted to GGUF: the converter wrote nothing")
        os.replace(made, temporary)


def source(*, tell: Tell = lambda line: None, fetch: bool = False) -> Path:
    """The folder with the converter: LLAMA_CPP_DIR, else the cache; fetch: else downloaded with pip, some 80 MB.

    Raises EngineUnavailable saying how to get it, Offline where the network is forbidden, InputError where LLAMA_CPP_DIR is wrong.
    """
    named = os.environ.get("LLAMA_CPP_DIR", "")
    if named:
        place = Path(named).expanduser()
        if (place / SCRIPT).is_file():
            return place
        if not place.is_file():
            raise InputError(
                f"LLAMA_CPP_DIR is {one_line(named, 200)}, which holds no {SCRIPT}", "name llama.cpp's folder or an sdist"
            )
        return _cached(lambda: place, tell)
    return _cached(lambda: _downloaded(fetch, tell), tell)


def unpack(sdist: Path, target: Path) -> Path:
    """Take the converter out of an sdist of llama-cpp-python into the folder `target`, which it returns.

    Raises InputError where the archive is damaged, of another package or version, or has no converter.
    """
    with files.whole_folder(target) as place:
        try:
            with tarfile.open(sdist, "r:*") as archive:
                for member in _members(archive, sdist):
                    archive.extract(member, place, filter="data")
        except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
            raise _unusable(sdist, one_line(str(error), 160)) from error
        if not (place / SCRIPT).is_file():
            raise _unusable(sdist, f"it holds no {SCRIPT}")
        for file in place.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    os.fsync(written.fileno())
    return target


def version() -> str:
    """The version of the installed llama-cpp-python. Raises EngineUnavailable where there is none."""
    from importlib import metadata

    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise EngineUnavailable("llama.cpp is not installed", f"pip install {PACKAGE}") from error


def _cached(sdist: Callable[[], Path], tell: Tell) -> Path:
    """The unpacked converter of the installed version; one process at a time unpacks it."""
    target = paths.cache_dir() / "llama.cpp" / version()
    with files.lock(
        target.with_name(f".{target.name}.lock"), lambda: tell("waiting for another process that unpacks the converter")
    ):
        return target if (target / SCRIPT).is_file() else unpack(sdist(), target)


def _downloaded(fetch: bool, tell: Tell) -> Path:
    """The sdist of the installed version, from the package index that pip is set up for."""
    from data import config

    wanted = f"{PACKAGE}=={version()}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
    if not fetch:
        by_hand = f"pip download --no-deps --no-binary {PACKAGE} {wanted}"
        raise EngineUnavailable(
            "this architecture needs llama.cpp's converter, which is not here", f"{by_hand}, and set LLAMA_CPP_DIR to the file"
        )
    if config.offline():
        raise Offline(
            "the converter of llama.cpp would be downloaded, and POINTSMAN_OFFLINE forbids it", "set LLAMA_CPP_DIR instead"
        )
    tell(f"downloading the source of {wanted} for llama.cpp's converter (some 80 MB, once)")
    place = paths.ensure(paths.cache_dir() / "llama.cpp" / "sdist")
    done = subprocess.run([*command, "--dest", str(place), wanted], capture_output=True, text=True, check=False)  # noqa: S603 our own
    found = sorted(place.glob(f"llama_cpp_python-{version()}.tar.gz"))
    if done.returncode or not found:
        said = one_line((done.stderr.strip().splitlines() or ["pip says nothing"])[-1], 200)
        raise EngineUnavailable(f"the source of {wanted} cannot be downloaded: {said}", "set LLAMA_CPP_DIR to a llama.cpp folder")
    return found[0]


def _members(archive: tarfile.TarFile, sdist: Path) -> Iterator[tarfile.TarInfo]:
    """The converter's files, named as in llama.cpp's folder."""
    unpacked = 0
    for count, member in enumerate(archive):
        parts = PurePosixPath(member.name).parts
        if count > _MOST_MEMBERS or not parts or parts[0] != f"llama_cpp_python-{version()}":
            raise _unusable(sdist, f"it is no sdist of {PACKAGE} {version()}")
        if not member.isreg() or parts[1:3] != _INSIDE or parts[3:4] == () or parts[3] not in _NEEDED:
            continue
        unpacked += member.size
        if unpacked > _MOST_BYTES:
            raise _unusable(sdist, f"its converter takes more than {_MOST_BYTES >> 20} MB")
        yield member.replace(name="/".join(parts[3:]), deep=False)


def _data_files(checkpoint: Path, place: Path) -> Path:
    """A folder that shows the checkpoint's data and nothing that could be run."""
    for file in (*checkpoint.glob("*"), *checkpoint.glob("1_Pooling/*")):
        if file.is_file() and file.suffix in _DATA:
            shown = place / file.relative_to(checkpoint)
            shown.parent.mkdir(parents=True, exist_ok=True)
            try:
                shown.symlink_to(file.resolve())
            except OSError:  # Windows without the right to make links
                shutil.copyfile(file, shown)
    return place


def _run(command: list[str], place: Path, what: str, timeout_s: float) -> None:
    home = {name: str(place) for name in ("HOME", "HF_HOME", "XDG_CACHE_HOME")}
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | home | _OFFLINE
    try:
        done = subprocess.run(  # noqa: S603 a script of llama.cpp's, its arguments ours
            command, cwd=place, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelInvalid(f"{what}: llama.cpp's converter did not end within {timeout_s:.0f} s") from error
    if not done.returncode:
        return
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    said = one_line(lines[-1] if lines else "it says nothing", 300)
    if "No module named" in said:
        raise EngineUnavailable(f"{what}: llama.cpp's converter needs a package: {said}", "pip install it beside pointsman")
    raise ModelInvalid(f"{what}: llama.cpp's converter says: {said}", "check that its architecture is one of llama.cpp's")


def _unusable(sdist: Path, reason: str) -> InputError:
    return InputError(f"{sdist} cannot be used for llama.cpp's converter: {reason}", f"give the sdist of {PACKAGE} {version()}")
