"""Python code run by bubblewrap, shut off from this machine: no network, no files but Python's own, bounded in every resource.

The root holds Python and the system's libraries, read-only; the home is a small memory disk that ends with the run; /proc, the
user's home, his environment and other processes do not exist there. Limits: wall and processor time, address space, file sizes,
open files, processes (see `_seccomp`) and output. The code travels by a file descriptor. Without bubblewrap, or where the system
forbids user namespaces, nothing runs. Needs bubblewrap 0.8 on Linux. Not covered: packages beyond the standard library.
"""

import contextlib
import functools
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import ToolError
from data.sanitise import one_line
from router.tools import _seccomp

OUTPUT_BYTES = 64_000
"""Output at which a program is ended."""
HOME_BYTES = 64 * 1024 * 1024
FILE_BYTES = 32 * 1024 * 1024
OPEN_FILES = 64
THREADS = 2_048
LEAST_MB = 64
"""Address space without which Python does not start."""

_HOME = "/home"
_PROGRAM = "/code/program.py"
_ELSEWHERE = "/python"  # where a Python from the user's home is put, so that no path of his shows
# Sets the limits for itself, then becomes the Python that runs the program. Arguments: limit name and value pairs, "--", command.
_LAUNCHER = """
import os, resource, sys
limits, command = sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]
for name, value in zip(limits[::2], limits[1::2]):
    kind = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(kind)[1]
    value = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
    resource.setrlimit(kind, (value, value))
os.execv(command[0], command)
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a program: its output (standard output and errors, in order), and how it ended."""

    output: str
    exit_code: int
    timed_out: bool = False
    cut: bool = False


def require() -> str:
    """The path of a bubblewrap that works here, tried once. Raises ToolError that says what to install or to allow."""
    found = shutil.which("bwrap")
    if found is None or not sys.platform.startswith("linux"):
        raise ToolError(
            "Python code runs only in a sandbox, and bubblewrap is not installed",
            "the user may install it (Debian, Ubuntu, Fedora: the package bubblewrap; Linux only)",
        )
    _tried(found)
    return found


def run(code: str, seconds: float, memory_mb: int) -> Ran:
    """Run the code. Raises ToolError where there is no working sandbox."""
    return _run(require(), code, seconds, memory_mb)


@functools.cache
def _tried(bwrap: str) -> None:
    ran = _run(bwrap, "print('ready')", 20.0, 512)
    if ran.output != "ready\n":
        raise ToolError(
            f"the sandbox does not start here: {one_line(ran.output, 200) or f'exit code {ran.exit_code}'}",
            "the user may need bubblewrap 0.8 or newer and unprivileged user namespaces "
            "(kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)",
        )


def _run(bwrap: str, code: str, seconds: float, memory_mb: int) -> Ran:
    limits = {
        "AS": max(memory_mb, LEAST_MB) * 1024 * 1024,
        "CPU": int(seconds) + 1,
        "FSIZE": FILE_BYTES,
        "NOFILE": OPEN_FILES,
        "NPROC": THREADS,
        "CORE": 0,
    }
    try:
        text = code.encode()
    except UnicodeEncodeError as error:
        raise ToolError("the code holds half a character (a lone surrogate)") from error
    with _descriptor(text) as program, _descriptor(_seccomp.program()) as seccomp:
        command = [*_command(bwrap, program, seccomp), *_inside(limits)]
        try:
            process = subprocess.Popen(  # noqa: S603 an argument list; the code is read from a descriptor, inside
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(program, seccomp),
                env={},
            )
        except OSError as error:
            raise ToolError(f"the sandbox cannot be started: {error.strerror}") from error
    with process:
        try:
            return _watched(process, time.monotonic() + seconds)
        finally:
            process.kill()  # the rest of the sandbox ends with it (--die-with-parent)


def _watched(process: "subprocess.Popen[bytes]", deadline: float) -> Ran:
    data = bytearray()
    timed_out = cut = False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout or -1, selectors.EVENT_READ)
        while not (timed_out or cut):
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            timed_out = not ready
            chunk = os.read(ready[0][0].fd, 65536) if ready else b""
            if ready and not chunk:
                break
            data += chunk
            cut = len(data) > OUTPUT_BYTES
    if timed_out or cut:
        process.kill()
    code = process.wait()
    return Ran(bytes(data[:OUTPUT_BYTES]).decode(errors="replace"), code, timed_out, cut)


def _command(bwrap: str, program: int, seccomp: int) -> list[str]:
    """Bubblewrap and its options. The root itself is made read-only last."""
    return [
        bwrap,
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
        *_system(),
        *(part for device in ("null", "zero", "urandom") for part in ("--dev-bind-try", f"/dev/{device}", f"/dev/{device}")),
        *("--size", str(HOME_BYTES), "--tmpfs", _HOME, "--symlink", "home", "/tmp"),  # noqa: S108 inside the sandbox
        *("--ro-bind-data", str(program), _PROGRAM, "--remount-ro", "/", "--chdir", _HOME),
        *("--setenv", "HOME", _HOME, "--setenv", "TMPDIR", _HOME, "--setenv", "LANG", "C.UTF-8"),
        *("--setenv", "LD_LIBRARY_PATH", f"{_ELSEWHERE}/lib", "--seccomp", str(seccomp)),
    ]


def _inside(limits: dict[str, int]) -> list[str]:
    """What runs within: Python that limits itself, then becomes the program's Python."""
    python = _places()[0]
    pairs = [part for name, value in limits.items() for part in (name, str(value))]
    wanted = [python, "-I", "-B", "-u", "-X", "utf8", _PROGRAM]
    return ["--", python, "-I", "-S", "-B", "-c", _LAUNCHER, *pairs, "--", *wanted]


@functools.cache
def _system() -> tuple[str, ...]:
    """Options that put the libraries, Python and the time zones into the root."""
    options: list[str] = []
    for place in ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64", "/nix/store"):
        if os.path.islink(place):
            options += ["--symlink", os.readlink(place), place]
        elif os.path.isdir(place):
            options += ["--ro-bind", place, place]
    for place in ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"):
        options += ["--ro-bind-try", place, place]
    bound = _places()[1]
    for source, target in bound:
        options += ["--ro-bind", source, target]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for source, target in (*bound, ("/usr/lib", "/usr/lib"), ("/usr/lib64", "/usr/lib64")):
        for packages in (
            f"{version}/site-packages",
            "python3/dist-packages",
        ):  # what is installed beside is no business of the code
            if os.path.isdir(f"{source}/{packages}"):
                options += ["--tmpfs", f"{target}/{packages}", "--remount-ro", f"{target}/{packages}"]
    return tuple(options)


def _places() -> tuple[str, Sequence[tuple[str, str]]]:
    """Python's path within the sandbox, and what must be bound for it: source and target."""
    executable = Path(os.path.realpath(sys.executable))
    base = Path(os.path.realpath(sys.base_prefix))
    moved = Path(_ELSEWHERE) if not base.is_relative_to("/usr") else base
    python = str(moved / "bin" / executable.name)
    folders = [(str(base / name), str(moved / name)) for name in ("lib", "lib64") if (base / name).is_dir()]
    return python, [(str(executable), python), *(pair for pair in folders if pair[1] not in ("/usr/lib", "/usr/lib64"))]


@contextlib.contextmanager
def _descriptor(data: bytes) -> Iterator[int]:
    """A descriptor that the data can be read from, without a name in any file system."""
    handle = os.memfd_create("sandbox")
    try:
        with open(handle, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(handle, 0, os.SEEK_SET)
        yield handle
    finally:
        os.close(handle)
