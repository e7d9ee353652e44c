"""Text that wants to act: nothing a model or a user writes reaches the terminal as a command, and no action runs.

The payloads follow garak's ansiescape probes, terminal manuals (ECMA-48, xterm's ctlseqs) and the markup of Rich and Textual.
The real program runs in a pseudo-terminal, whose every byte is read.
"""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest

from data.sanitise import sanitise

ROWS, COLUMNS = 60, 120
SEQUENCES = [
    "\x1b[31mred",
    "\x1b[38;5;201mpink",
    "\x1b[2J\x1b[77;177H",
    "\x1b[?1049l\x1b[?25h",
    "\x1b[6n\x1b[c\x1b[5i",
    "\x1b]0;PWNED\x07",
    "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]52;c;UFdORUQ=\x07",
    "\x1b]1337;File=inline=1:AAAA\x07",
    '\x1bP$q"p\x1b\\',
    "\x1b_Gi=1;AAAA\x1b\\",
    "\x1b^private\x1b\\",
    "\x1bXstring\x1b\\",
    "\x1bc\x1b#8\x1b(0",
    "\x9b31m\x9b77;177H",
    "\x9d0;PWNED\x9c",
    "\x90$q\x9c\x84\x85\x8d",
    "bell\x07 back\x08\x08 shift\x0e\x0f vertical\x0b form\x0c",
    "visible\rhidden",
    "nul\x00 del\x7f sub\x1a",
    "abc\u202edcba\u2066x\u2069\u200f\u2028y",
    "cut\udc9b31m\ud83d\udcff",
]
MARKUP = [
    "[@click=app.act]act[/]",
    "[@click=app.act('x')]act[/@click]",
    "[link=http://evil.example]x[/link] [link='app.act']y[/link]",
    "[bold red on white]x[/] [/oops] [",
    "[x](javascript:alert(1)) <javascript:alert(1)>",
    "[x](action:app.act) [y](app.act) [z](http://evil.example/\x1b[31m)",
    "![x](file:///etc/passwd) ![x](http://evil.example/p.png)",
    "<a href='http://evil.example'>x</a><img src=x onerror=alert(1)>",
    "&#x1b;]0;PWNED&#7; &#27;[31m &#x9b;31m &#x202e;abc &#13;hidden",
    "`\x1b[31m` **\x1b]0;PWNED\x07** | \x1b[2J |\n|---|\n| \x9b2J |",
]
OSC = re.compile(rb"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
OSC_22 = re.compile("\x1b\\]22;[a-z]*\x07")  # the shape of the mouse pointer, by Textual
ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|.)", re.DOTALL)
MADE_BY_CONTENT = [
    b"[38;5;201m",
    b"[77;177H",
    b"[31mred",
    b"[20h",
    b"[5i",
    b"]0;",
    b"]8;",
    b"]52;",
    b"]1337",
    b"P",
    b"_",
    b"^",
    b"X",
    b"c",
    b"#8",
    b"(0",
]


@dataclass(frozen=True)
class Seen:
    """What came out of the terminal's other side, and what the program says happened."""

    raw: bytes
    acted: int
    opened: list[str]
    real: int

    @property
    def text(self) -> str:
        return self.raw.decode("utf-8")

    @property
    def escapes(self) -> set[bytes]:
        """Operating system commands as they are; every kind of other sequence: introducer, marks and final byte, no numbers."""
        rest = OSC.sub(b"", self.raw)
        return set(OSC.findall(self.raw)) | {re.sub(rb"[0-9;:]+", b"", found) for found in ESCAPE.findall(rest)}

    @property
    def controls(self) -> set[str]:
        """Every control character but ESC."""
        return set(re.findall(r"[\x00-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", OSC_22.sub("", self.text)))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return _run([*SEQUENCES, *MARKUP], tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return _run(["some *words*", "[a title](http://a.example)", "```python\nx = 1\n```"], tmp_path_factory.mktemp("harmless"))


def test_no_escape_sequence_comes_that_harmless_text_does_not_cause(hostile: Seen, harmless: Seen) -> None:
    assert harmless.escapes
    assert hostile.escapes <= harmless.escapes


def test_no_control_character_comes_that_harmless_text_does_not_cause(hostile: Seen, harmless: Seen) -> None:
    assert hostile.controls <= harmless.controls <= {"\r", "\n"}


@pytest.mark.parametrize("mark", MADE_BY_CONTENT, ids=repr)
def test_no_sequence_of_the_content_comes_through(mark: bytes, hostile: Seen) -> None:
    assert b"\x1b" + mark not in hostile.raw


def test_a_terminal_that_reads_it_keeps_its_title(hostile: Seen) -> None:
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.Stream(screen).feed(OSC_22.sub("", hostile.text))
    assert (screen.title, screen.icon_name) == ("", "")


def test_what_was_written_is_there_to_be_read(hostile: Seen) -> None:
    for text in ("␛[31mred", "␛]0;PWNED␇", "[@click=app.act]act[/]", "![x](file:///etc/passwd)", "visible␍hidden"):
        assert text in hostile.text
    assert sanitise("cut\udc9b31m") in hostile.text


def test_no_action_ran_and_no_address_was_opened(hostile: Seen) -> None:
    assert hostile.real > 0, "no click arrived, so this test would show nothing"
    assert hostile.acted == 0
    assert hostile.opened == []


def _run(texts: list[str], folder: Path) -> Seen:
    """Run the program, click on every row once it is ready, and quit it."""
    given, report = folder / "texts.json", folder / "report.json"
    given.write_text(json.dumps(texts), encoding="ascii")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "TEXTUAL_ANIMATIONS": "none"}
    environment.pop("NO_COLOR", None)
    program = Path(__file__).with_name("hostile_app.py")
    process = subprocess.Popen(
        [sys.executable, str(program), str(given), str(report)],
        stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    raw = bytearray()
    reader = threading.Thread(target=_read, args=(master, raw))
    reader.start()
    try:
        _wait(process, lambda: _reported(report, done=True), raw)
        for row in range(1, ROWS + 1):
            for column in (4, 9, 15, 30):
                os.write(master, f"\x1b[<0;{column};{row}M\x1b[<0;{column};{row}m".encode())
        os.write(master, b"\x11")
        _wait(process, lambda: process.poll() is not None, raw)
    finally:
        process.kill()
        process.wait()
        reader.join(timeout=10)
        os.close(master)
    said = json.loads(report.read_text())
    assert process.returncode == 0 and said["done"] is False, raw[-2000:].decode(errors="replace")
    return Seen(bytes(raw), said["acted"], said["opened"], said["real"])


def _read(master: int, raw: bytearray) -> None:
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # the other side is closed
            return
        if not piece:
            return
        raw += piece


def _reported(report: Path, done: bool) -> bool:
    return report.exists() and json.loads(report.read_text())["done"] is done


def _wait(process: subprocess.Popen[bytes], ready: object, raw: bytearray) -> None:
    deadline = time.monotonic() + 120
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < deadline and process.poll() is None, bytes(raw[-3000:]).decode(errors="replace")
        time.sleep(0.02)
