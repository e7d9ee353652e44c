"""Whether the file tools can be made to read outside of the folder that the user allowed.

    python bench/path_escapes.py [--attempts 500] [--race-ms 60]

Every attempt is a distinct call of list_files, read_file or search_files upon a real folder laid out for escaping: links of every
kind, devices, pipes, hard links, secrets, names of other systems, encodings, and folders that a thread swaps for links while they
are read. An attempt counts as an escape where the answer holds a word that stands only outside of the folder, or in a file of
secrets within it, and as stuck where it took more than 5 s. Beside it the two usual ways are measured on the same read attempts:
joining the path ("join"), and resolving it before the check ("resolve, then open"); both are spared what would hang them.
"""

import argparse
import contextlib
import itertools
import os
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import harness
from data.chat import ToolCall
from data.config import ToolsSettings
from router.tools import Toolbox
from router.tools.base import Surroundings
from router.tools.files import build

WORD = "leaked-7f3a"
"""Stands in every file that must not be read, and nowhere else."""
SYSTEM_WORDS = ("root:x:0:0", "Linux version", "MemTotal:", "PATH=")
STUCK_S = 5.0
SECRETS = (
    ".env", ".env.local", ".git/config", ".ssh/id_rsa", "id_rsa", "id_ed25519", "server.pem", "private.key", "secrets.yaml",
    "credentials.json", ".netrc", "passwords.txt", "vault.kdbx", "terraform.tfstate", ".aws/credentials", "client.p12", "prod.env",
)  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One call. `races` names the swap that runs meanwhile; `folder` is the allowed folder, relative to the arena."""

    kind: str
    tool: str
    arguments: tuple[tuple[str, Any], ...]
    folder: str = "allowed"
    races: str = ""


@dataclass
class Result:
    """What came of an attempt."""

    attempt: Attempt
    escaped: bool
    stuck: bool
    calls: int = 1


@dataclass
class Tally:
    """Of one kind of attempts."""

    attempts: int = 0
    calls: int = 0
    escapes: int = 0
    stuck: int = 0
    usual: dict[str, int] = field(default_factory=lambda: {"join": 0, "resolve, then open": 0})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--attempts", type=int, default=500)
    arguments.add_argument("--race-ms", type=int, default=60)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        arena = prepare(Path(folder).resolve())
        wanted = attempts(arena, options.attempts)
        tallies: dict[str, Tally] = {}
        for attempt in wanted:
            result = carry_out(arena, attempt, options.race_ms / 1000)
            tally = tallies.setdefault(attempt.kind, Tally())
            tally.attempts += 1
            tally.calls += result.calls
            tally.escapes += result.escaped
            tally.stuck += result.stuck
            for name, way in USUAL.items():
                tally.usual[name] += usually(arena, attempt, way, options.race_ms / 1000)
        rows = [
            {"kind": kind, "attempts": t.attempts, "calls": t.calls, "escapes": t.escapes, "stuck": t.stuck, **t.usual}
            for kind, t in tallies.items()
        ]
        keys = ("attempts", "calls", "escapes", "stuck", *USUAL)
        total = {"kind": "all", **{key: sum(row[key] for row in rows) for key in keys}}
        print(harness.table([*rows, total], ["kind", *keys]))
        print(f"\nreads outside of the folder: {total['escapes']} of {total['attempts']} attempts ({total['calls']:,} calls)")
        harness.write("path_escapes", {"total": total, "rows": rows, "distinct": len(set(wanted))})
        if total["escapes"] or total["stuck"] or len(wanted) < options.attempts:
            raise SystemExit(3)


def prepare(arena: Path) -> Path:
    """The allowed folder with everything that could lead out of it, and what lies outside."""
    allowed, outside = arena / "allowed", arena / "outside"
    for folder in (allowed / "sub" / "deep", outside / "sub", arena / "allowed-too", arena / "box" / "allowed"):
        folder.mkdir(parents=True)
    (allowed / "sub" / "note.txt").write_text("a harmless note\n")
    (allowed / "plain.txt").write_text("harmless\n")
    (arena / "box" / "allowed" / "plain.txt").write_text("harmless\n")
    for place in (
        outside / "secret.txt",
        outside / "sub" / "note.txt",
        outside / "plain.txt",
        arena / "allowed-too" / "secret.txt",
    ):
        place.write_text(f"{WORD}\n")
    for name in SECRETS:
        (allowed / name).parent.mkdir(exist_ok=True)
        (allowed / name).write_text(f"{WORD}\n")
    for name, target in links(arena).items():
        (allowed / name).symlink_to(target)
    for number in range(8):  # the same file, seen through a second name
        os.link(outside / "secret.txt", allowed / f"hard{number}.txt")
    os.mkfifo(allowed / "pipe")
    os.mkfifo(allowed / "sub" / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(allowed)  # the path of a socket is short
        server.bind("socket")
        os.chdir(here)
    with contextlib.suppress(PermissionError):
        os.mknod(allowed / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        os.mknod(allowed / "memory", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    (arena / "door").symlink_to("outside")
    (arena / "allowed-link").symlink_to("allowed")
    return arena


def links(arena: Path) -> dict[str, str]:
    """Links by name: out by relative and absolute paths, by chains, through folders, to devices and to /proc."""
    return {
        "link.txt": "../outside/secret.txt",
        "absolute.txt": str(arena / "outside" / "secret.txt"),
        "chain1.txt": "chain2.txt",
        "chain2.txt": "chain3.txt",
        "chain3.txt": "../outside/secret.txt",
        "out": "../outside",
        "out2": str(arena / "outside"),
        "up": "..",
        "here": ".",
        "root": "/",
        "etc": "/etc",
        "loop": "loop",
        "loop-a": "loop-b",
        "loop-b": "loop-a",
        "dangling": "nowhere",
        "passwd.txt": "/etc/passwd",
        "self": "/proc/self",
        "selfroot": "/proc/self/root",
        "cwd": "/proc/self/cwd",
        "fd": "/dev/fd",
        "stdin": "/dev/stdin",
        "zero-link": "/dev/zero",
        "environ": "/proc/self/environ",
        "sub/up": "../../outside",
        "sub/secret": "../../outside/secret.txt",
        "sub/deep/far": "../../../outside/sub",
        "door": "../door",
        "inside": "sub",
        "inside.txt": "sub/note.txt",
    }


def attempts(arena: Path, most: int) -> list[Attempt]:
    """Distinct attempts, the kinds taking turns, so that any number of them holds every kind."""
    makers = (
        *(dots, encodings, absolute, through_links, hard_links, special, secrets, windows, case_tricks, odd_text),
        *(searches, listings, races, folders),
    )
    turns = [make(arena) for make in makers]
    mixed = (attempt for row in itertools.zip_longest(*turns) for attempt in row if attempt is not None)
    return list(itertools.islice(dict.fromkeys(mixed), most))


def read(kind: str, path: str, **more: Any) -> Attempt:
    """An attempt to read a path."""
    return Attempt(kind, "read_file", (("path", path),), **more)


TARGETS = ("outside/secret.txt", "outside/plain.txt", "outside/sub/note.txt", "allowed-too/secret.txt", "door/secret.txt")


def dots(arena: Path) -> Iterator[Attempt]:
    """Up and out."""
    prefixes = (
        "..",
        "./..",
        "sub/../..",
        "sub/deep/../../..",
        "sub/./.././..",
        ".//..",
        "sub//..//..",
        "nowhere/../..",
        "plain.txt/../..",
    )
    for prefix, target in itertools.product(prefixes, TARGETS):
        yield read("..", f"{prefix}/{target}")
    for depth in (2, 5, 20, 60, 1000):
        yield read("..", "../" * depth + "etc/passwd")


def encodings(arena: Path) -> Iterator[Attempt]:
    """Dots and slashes written otherwise."""
    dotted = (
        *("%2e%2e/", "%2e%2e%2f", "..%2f", "%252e%252e/", "..%c0%af", "%c0%ae%c0%ae/", "..;/", "....//", "..../", ".../", "．．/"),
        *("‥/", "․․/", "..／", "..∕", "..⁄", "..\u200b/", ".\u200b./", "\u202e../", "..\t/", " ../", ".. /", "..\u00a0/"),
        *("&#46;&#46;/", "\\x2e\\x2e/", "\\u002e\\u002e/", "0x2e0x2e/", "..\x00/", "\ufeff../", "..%00/", "'..'/", '"../"'),
        *("`pwd`/../", "$PWD/../", "${PWD}/../", "$(pwd)/../"),
    )
    for target, up in itertools.product(TARGETS[:2], dotted):
        yield read("encoded ..", up + target)
        yield read("encoded ..", f"sub/{up}{up}{target}")


def absolute(arena: Path) -> Iterator[Attempt]:
    """Whole paths, and what begins like the allowed one."""
    system = (
        "/etc/passwd",
        "/etc/shadow",
        "/proc/version",
        "/proc/meminfo",
        "/proc/self/environ",
        "/dev/zero",
        "/dev/stdin",
        "/dev/fd/0",
    )
    for path in system:
        for form in (path, f"/{path}", f"/.{path}", f"/..{path}", f"file://{path}", f"file:{path}", f"~{path}", f"~root{path}"):
            yield read("absolute", form)
    yield from (read("absolute", str(arena / target)) for target in TARGETS)
    for form in (
        "{}/../outside/secret.txt",
        "{}-too/secret.txt",
        "{}/../allowed-too/secret.txt",
        "{}/./../outside/plain.txt",
        "/{}/out/secret.txt",
    ):
        yield read("absolute", form.format(arena / "allowed"))
    magic = (
        "root/etc/passwd",
        "cwd/../outside/secret.txt",
        "task/self/root/etc/passwd",
        "environ",
        "fd/0",
        "map_files",
        "mem",
        "maps",
    )
    yield from (read("absolute", f"/proc/{who}/{what}") for who, what in itertools.product(("self", "thread-self", "1"), magic))


def through_links(arena: Path) -> Iterator[Attempt]:
    """Links as the file, in the middle, behind each other."""
    tails = ("", "/secret.txt", "/outside/secret.txt", "/passwd", "/etc/passwd", "/root/etc/passwd", "/0", "/environ", "/note.txt")
    for tail, name in itertools.product(tails, links(arena)):
        yield read("link", name + tail)


def hard_links(arena: Path) -> Iterator[Attempt]:
    """A second name within for a file outside."""
    for number in range(8):
        yield read("hard link", f"hard{number}.txt")


def special(arena: Path) -> Iterator[Attempt]:
    """Devices, pipes and sockets, which must neither be read nor make it wait."""
    for name in ("pipe", "sub/pipe.txt", "socket", "zero", "memory"):
        yield read("device", name)
        yield read("device", f"./{name}")
        yield Attempt("device", "search_files", (("text", WORD), ("path", name)))


def secrets(arena: Path) -> Iterator[Attempt]:
    """Files within that hold secrets."""
    for name in SECRETS:
        yield read("secret", name)
        yield read("secret", f"sub/../{name}")
        yield Attempt("secret", "search_files", (("text", WORD), ("path", name)))


def windows(arena: Path) -> Iterator[Attempt]:
    """Paths of another system."""
    forms = (
        *(
            "..\\outside\\secret.txt",
            "..\\..\\etc\\passwd",
            "C:\\Windows\\win.ini",
            "C:/etc/passwd",
            "\\\\server\\share\\secret.txt",
        ),
        *(
            "//server/share/x",
            "\\\\?\\C:\\x",
            "\\\\.\\pipe\\x",
            "secret.txt::$DATA",
            "link.txt::$DATA",
            "CON",
            "nul.txt",
            "COM1",
            "AUX",
        ),
        *("lpt1.txt", "ENV~1", "GIT~1/config", "SECRET~1.YAM", ".env.", ".env ", "id_rsa. .", "c:secret.txt", "/mnt/c/x"),
        *("sub\\..\\..\\outside\\secret.txt", "/cygdrive/c/etc/passwd"),
    )
    yield from (read("other system", form) for form in forms)


def case_tricks(arena: Path) -> Iterator[Attempt]:
    """Secrets and links in another case or in letters that look the same."""
    for name in (*SECRETS, "link.txt", "out/secret.txt"):
        for form in (
            name.upper(),
            name.title(),
            name.replace("e", "\u212f"),
            name.replace(".", "\uff0e"),
            f"{name}\u200d",
            f"\u2060{name}",
        ):
            yield read("case and look", form)


def odd_text(arena: Path) -> Iterator[Attempt]:
    """Control characters, lengths, nothing at all."""
    for code in (*range(0x20), 0x7F, 0x85, 0x2028):
        yield read("odd text", f"link.txt{chr(code)}")
        yield read("odd text", f"plain.txt{chr(code)}/../../outside/secret.txt")
    for path in (
        "",
        " ",
        "/",
        "//",
        ".",
        "a" * 300,
        "a/" * 3000,
        "a" * 100_000,
        "\ud800",
        "🙈" * 100,
        "-",
        "--help",
        "|cat /etc/passwd",
        "*",
        "?",
    ):
        yield read("odd text", path)


def searches(arena: Path) -> Iterator[Attempt]:
    """Searching everywhere and through links, by text and by pattern."""
    patterns = (WORD, "leaked", "root:x", ".*", "(leaked|root).*", "^.{1,40}$", "7f3a$")
    for text, path, regex in itertools.product(patterns, ("", "sub", "out", "up", "etc", "self", "..", "sub/up"), (False, True)):
        if regex or "*" not in text:
            yield Attempt("search", "search_files", (("text", text), ("path", path), ("regex", regex)))


def listings(arena: Path) -> Iterator[Attempt]:
    """Listing other folders; what is outside is known by a name that only lies there."""
    for path in (
        "..",
        "../outside",
        "out",
        "out2",
        "up",
        "root",
        "etc",
        "self/fd",
        "sub/up",
        "/",
        "/etc",
        "/proc",
        str(arena),
        "sub/../..",
    ):
        yield Attempt("list", "list_files", (("path", path),))


def races(arena: Path) -> Iterator[Attempt]:
    """A thread swaps a folder, a file, the allowed folder or one above it for a link, again and again, while it is read."""
    for number in range(8):
        yield read("race", "swap/note.txt", races=f"folder {number}")
        yield read("race", "swap.txt", races=f"file {number}")
        yield Attempt("race", "search_files", (("text", WORD), ("path", "")), races=f"folder {number}")
        yield read("race", "plain.txt", folder="swapped", races=f"allowed {number}")
        yield read("race", "plain.txt", folder="above/allowed", races=f"above {number}")


def folders(arena: Path) -> Iterator[Attempt]:
    """The allowed folder is itself a link, a file, missing, or no folder of documents."""
    for folder in ("allowed-link", "door", "outside/secret.txt", "missing", "/proc/self", "/dev", "/proc/self/root/etc", "/sys"):
        for path in ("secret.txt", "passwd", "plain.txt", "environ", "null"):
            yield read("allowed folder", path, folder=folder)


def carry_out(arena: Path, attempt: Attempt, race_s: float) -> Result:
    """Make the call, in a race as often as fits.

    The tools are made before the race begins: which folder is allowed, a link above it included, is settled then, and nothing
    that happens later may lead out of it.
    """
    call = ToolCall(attempt.tool, dict(attempt.arguments))
    started = time.monotonic()
    calls, escaped = 0, False
    _settle(arena, attempt.races)
    box = Toolbox(build(Surroundings(ToolsSettings(folders=(str(arena / attempt.folder),)))))
    with swapping(arena, attempt.races):
        while calls == 0 or (attempt.races and time.monotonic() - started < race_s):
            text = box.call(call).text
            calls += 1
            escaped = escaped or is_leak(text, attempt)
    took = (time.monotonic() - started) / calls
    return Result(attempt, escaped, took > STUCK_S, calls)


def is_leak(text: str, attempt: Attempt) -> bool:
    """Whether the answer holds what stands outside only. An error may repeat the words of the call itself."""
    asked = " ".join(str(value) for _, value in attempt.arguments)
    if attempt.tool == "list_files":
        return any(word in text for word in ("secret.txt (", "passwd (", "allowed-too/", "bin/"))
    return any(word in text and word not in asked for word in SYSTEM_WORDS) or f"{WORD}\n" in f"{text}\n".replace(asked, "")


@contextlib.contextmanager
def swapping(arena: Path, what: str) -> Iterator[None]:
    """While within, a thread puts a link in the place of what is read and takes it away again."""
    if not what:
        yield
        return
    place, target = _settle(arena, what)
    harmless, link = arena / "swap-harmless", arena / "swap-link"
    link.symlink_to(target)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            os.rename(place, harmless)
            os.rename(link, place)
            os.rename(place, link)
            os.rename(harmless, place)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        link.unlink()


def _settle(arena: Path, what: str) -> tuple[Path, Path]:
    """What is read, harmless and in its place, and what the link that will take its place points at."""
    if not what:
        return arena, arena
    swaps: dict[str, tuple[Path, Callable[[Path], None], Path]] = {
        "folder": (arena / "allowed" / "swap", lambda place: _make_folder(place, "note.txt"), arena / "outside" / "sub"),
        "file": (arena / "allowed" / "swap.txt", lambda place: _write(place), arena / "outside" / "secret.txt"),
        "allowed": (arena / "swapped", lambda place: _make_folder(place, "plain.txt"), arena / "outside"),
        "above": (arena / "above", lambda place: _make_folder(place / "allowed", "plain.txt"), arena / "elsewhere"),
    }
    place, make, target = swaps[what.split()[0]]
    if what.startswith("above") and not target.exists():
        (target / "allowed").mkdir(parents=True)
        (target / "allowed" / "plain.txt").write_text(f"{WORD}\n")
    make(place)
    return place, target


def _make_folder(place: Path, name: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    _write(place / name)


def _write(place: Path) -> None:
    place.write_text("harmless\n")


def usually(arena: Path, attempt: Attempt, way: Callable[[Path, str], Path | None], race_s: float) -> bool:
    """Whether the usual way gives the same attempt a leak; only reads are tried, and never what would hang or is endless."""
    if attempt.tool != "read_file":
        return False
    started = time.monotonic()
    path = str(dict(attempt.arguments)["path"])
    with swapping(arena, attempt.races):
        first = True
        while first or (attempt.races and time.monotonic() - started < race_s):
            first = False
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                if (place := way(arena / attempt.folder, path)) is not None and is_leak(_read(place), attempt):
                    return True
    return False


def _joined(folder: Path, path: str) -> Path | None:
    return Path(os.path.join(folder, path))


def _resolved(folder: Path, path: str) -> Path | None:
    place = (folder / path).resolve()
    return place if place.is_relative_to(folder.resolve()) else None


def _read(place: Path) -> str:
    if not stat.S_ISREG(place.stat().st_mode):
        return ""
    with open(os.open(place, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        return file.read(65536).decode(errors="replace")


USUAL: dict[str, Callable[[Path, str], Path | None]] = {"join": _joined, "resolve, then open": _resolved}


if __name__ == "__main__":
    main()
