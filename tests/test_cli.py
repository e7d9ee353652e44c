"""The command line as a whole: verbs, exit codes, one line for every fault, and what it does not import."""

import json
import os
import subprocess
import sys
import threading
import types
from importlib import import_module
from pathlib import Path

import click
import pytest
from command_line import ROOT, in_terminal, prepared_as_packaged, run, spawn

from data.errors import InputError
from tui import cli

HEAVY = ("pydantic", "sqlalchemy", "alembic", "textual", "numpy", "rich", "httpx", "llama_cpp", "torch", "jinja2", "tomlkit")


def imported_by(*arguments: str, env: dict[str, str] | None = None) -> set[str]:
    """The top-level modules that a run of the command line leaves imported."""
    script = "import sys; from tui.cli import main; main(sys.argv[1:]); sys.stderr.write('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        check=True,
        timeout=60,
    )
    return {name.split(".")[0] for name in done.stderr.split("\n")}


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """Adds a verb `trial` that does what the function it is given does."""

    def add(action) -> None:
        module = types.SimpleNamespace(command=click.command("trial")(action))
        monkeypatch.setitem(sys.modules, "trial_verb", module)
        monkeypatch.setitem(cli.VERBS, "trial", cli.Verb("trial_verb", "Try."))

    return add


def test_help_lists_every_verb_and_the_exit_codes() -> None:
    ran = run("--help")
    assert ran.code == 0
    for verb in cli.VERBS:
        assert f"  {verb} " in ran.out
    assert "Exit codes: 0 done, 1 a fault" in ran.out


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("ask", "--help"), ("log", "--help"), ("completion", "zsh")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert imported_by(*arguments) & set(HEAVY) == set()


def test_an_answer_imports_neither_the_chat_nor_the_training_stack() -> None:
    found = imported_by("ask", "-m", "echo", "hello")
    assert "sqlalchemy" in found
    assert found & {"textual", "torch", "transformers", "pandas", "rich", "httpx", "ollama", "tomlkit", "trl", "peft"} == set()


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_of_the_table_is_there_with_help_of_its_own(verb: str) -> None:
    assert isinstance(import_module(cli.VERBS[verb].module).command, click.Command)
    ran = run(verb, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: pointsman {verb}")


def test_version() -> None:
    ran = run("--version")
    assert ran.code == 0
    assert ran.out.startswith("pointsman ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("modles",), "did you mean 'models'?"),
        (("what", "is", "a", "monad"), 'to ask: pointsman ask "what is a monad"'),
        (("ask", "--temprature", "1", "x"), "--temperature"),
        (("ask", "--seed", "-1", "x"), "--seed"),
        (("log", "rate", "last", "sideways"), "sideways"),
        (("config", "set", "model"), "VALUE"),
        (("ask", "x", "--json", "--json-stream"), "exclude each other"),
        (("ask", "-c", "x", "--no-log"), "--no-log"),
        (("log", "forget"), "--matching"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: tuple[str, ...], words: str) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert ran.err.count("\n") == 1
    assert "--help" in ran.err


def test_a_verb_without_its_own_verb_shows_its_help() -> None:
    ran = run("log")
    assert ran.code == 2
    assert "forget" in ran.err


def test_what_was_typed_cannot_act_on_the_terminal() -> None:
    for arguments in (("\x1b]0;owned\x07",), ("ask", "--\x1b[31m"), ("config", "show", "\x1b[31m")):
        ran = run(*arguments)
        assert ran.code in (1, 2)
        assert "\x1b" not in ran.err


def test_a_fault_is_one_line_with_its_fix(verb) -> None:
    def action() -> None:
        raise InputError("the\x1b[31m file\nis wrong", "mend it")

    verb(action)
    run("trial").refused("the␛[31m file is wrong; mend it")


def test_an_unforeseen_fault_points_to_a_file_with_the_traceback(verb, home: Path) -> None:
    def action() -> None:
        raise ZeroDivisionError("by zero")

    verb(action)
    ran = run("trial")
    ran.refused("ZeroDivisionError: by zero", str(home / "log"))
    (crash,) = (home / "log").glob("crash-*.txt")
    assert "Traceback" in crash.read_text()
    assert crash.stat().st_mode & 0o777 == 0o600


def test_an_unforeseen_fault_without_a_log_folder_is_still_one_line(verb, home: Path) -> None:
    def action() -> None:
        raise ZeroDivisionError("by zero")

    home.write_text("a file where the folder belongs")
    verb(action)
    run("trial").refused("ZeroDivisionError", "no crash file")


def test_an_unforeseen_fault_in_a_thread_is_one_line_too(verb, home: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by zero")

    def action() -> None:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    verb(action)
    ran = run("trial")
    assert (ran.code, ran.err.count("\n")) == (0, 1)
    assert "ZeroDivisionError" in ran.err
    assert len(list((home / "log").glob("crash-*.txt"))) == 1


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, click.Abort])
def test_an_interrupt_is_exit_code_130(verb, interrupt: type[BaseException]) -> None:
    def action() -> None:
        raise interrupt

    verb(action)
    ran = run("trial")
    assert ran.code == 130
    assert "Traceback" not in ran.err


def test_a_verb_can_end_with_a_code_of_its_own(verb) -> None:
    def action() -> None:
        click.get_current_context().exit(3)

    verb(action)
    assert run("trial").code == 3


def test_a_reader_that_goes_away_is_no_fault() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tui.cli", "ask", "-m", "echo", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    process.stdout.close()
    _, err = process.communicate(b"many words " * 20_000, timeout=60)
    assert process.returncode == 0
    assert err == b""


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        ran = spawn("ask", "-m", "echo", "hello", stdout=full.fileno())
    ran.refused("cannot write the output: No space left on device")


def test_without_a_terminal_the_chat_says_how_to_ask() -> None:
    ran = run()
    assert ran.code == 2
    assert "pointsman ask" in ran.err


def test_in_a_terminal_the_chat_opens_and_ctrl_q_leaves_it() -> None:
    prepared_as_packaged()
    code, sent = in_terminal(typed=b"\x11", after=b"f1")
    assert code == 0
    assert "\x1b[?1049l" in sent
    assert "Traceback" not in sent


def test_a_terminal_without_utf8_gets_question_marks() -> None:
    ran = spawn("ask", "-m", "echo", "naïve 日本", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert ran.code == 0
    assert ran.out == "na?ve ??\n"


@pytest.mark.parametrize(("shell", "words"), [("bash", "complete -o"), ("zsh", "#compdef pointsman"), ("fish", "complete ")])
def test_completion_scripts(shell: str, words: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert words in ran.out
    assert "_POINTSMAN_COMPLETE" in ran.out


def test_completion_without_a_shell_says_how_to_install_it() -> None:
    assert "bash-completion/completions/pointsman" in run("completion").out


def test_completing_a_verb_imports_none() -> None:
    env = {"_POINTSMAN_COMPLETE": "bash_complete", "COMP_WORDS": "pointsman lo", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tui.cli"], env={**os.environ, **env}, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.split() == ["plain,log"]
    assert "tui.commands" not in done.stderr


def test_colours_never_reach_a_pipe() -> None:
    for arguments in (("--help",), ("doctor",), ("config", "show"), ("log", "list")):
        ran = spawn(*arguments, env={"FORCE_COLOR": "1"})
        assert "\x1b" not in ran.out + ran.err


def test_json_is_one_ascii_value() -> None:
    hostile = "\x1b[31mred\x9b日\u202e"
    ran = run("ask", "-m", "echo", "--json", hostile)
    assert ran.out.isascii()
    assert ran.out.rstrip("\n").isprintable()
    assert json.loads(ran.out)["text"] == hostile


def test_a_terminal_shows_rendered_markdown_and_the_measures() -> None:
    code, sent = in_terminal("ask", "-m", "echo", "# Head\n\nsome **bold** text")
    assert code == 0
    assert "\x1b[1mbold\x1b[0m" in sent
    assert "echo/echo · " in sent


def test_a_dumb_terminal_gets_plain_text() -> None:
    code, sent = in_terminal("ask", "-m", "echo", "some **bold** text", env={"TERM": "dumb"})
    assert code == 0
    assert sent == "some **bold** text\r\n"
