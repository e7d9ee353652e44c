"""Checks of answers in free text: what the text must say, and code that runs in the real sandbox and nowhere else."""

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from data.checks import Check
from data.errors import ToolError
from router import code_checks
from router.code_checks import Block, Checked, checked, checked_all, code_blocks
from router.tools import _sandbox

ADD = "Like this:\n\n```python\ndef add(a, b):\n    return a + b\n```\n"
SUM = Check(python="assert add(2, 3) == 5")


def _why_not() -> str:
    try:
        _sandbox.require()
    except ToolError as fault:
        return str(fault)
    return ""


needs_sandbox = pytest.mark.skipif(shutil.which("bwrap") is None or bool(_why_not()), reason=f"no sandbox here: {_why_not()}")


def test_code_blocks_are_found_with_their_languages() -> None:
    text = "```SQL title=x\nselect 1\n```\n\n- in a list:\n\n  ~~~\n  plain\n  ~~~\n\n"
    text += "````md\n```\ninner\n```\n````\n\n```js\nnever closed"
    assert code_blocks(text) == (
        Block("sql", "select 1\n"),
        Block("", "plain\n"),
        Block("md", "```\ninner\n```\n"),
        Block("js", "never closed"),
    )
    assert code_blocks("no code, `inline` only") == ()


@needs_sandbox
def test_right_code_passes_and_wrong_code_says_where() -> None:
    assert checked(ADD, SUM) == Checked(True, "", True)
    found = checked(ADD, Check(python="x = 1\nassert add(2, 3) == 6, 'five'"))
    assert not found.passed and found.why == "the check fails: AssertionError: five at assert add(2, 3) == 6, 'five'"
    assert "NameError" in checked("```python\nx = y\n```", SUM).why
    assert checked("```python\ndef add(:\n```", SUM).why.startswith("its code does not run: SyntaxError")
    assert "NameError" in checked("I cannot help with that.", SUM).why


@needs_sandbox
def test_several_blocks_are_one_program_and_other_languages_are_none() -> None:
    answer = "```python\ndef one():\n    return 1\n```\nthen\n"
    answer += "```py\ndef add(a, b):\n    return a + b + one() - 1\n```\n```bash\nrm x\n```"
    assert checked(answer, SUM).passed
    assert checked("def add(a, b): return a + b", SUM).passed  # Python without a fence
    assert not checked("```ruby\ndef add(a, b) a + b end\n```", SUM).passed


@needs_sandbox
def test_checks_see_the_answer_and_its_blocks() -> None:
    sql = "Sorted:\n```sql\nSELECT name FROM t ORDER BY name\n```"
    look = "import sqlite3\ndb = sqlite3.connect(':memory:')\ndb.execute('create table t(name)')\n"
    look += "db.executemany('insert into t values (?)', ['b', 'a'])\n"
    look += "assert BLOCKS[0][0] == 'sql' and db.execute(BLOCKS[0][1]).fetchall() == [('a',), ('b',)] and 'Sorted' in ANSWER"
    assert checked(sql, Check(python=look)).why == ""


@needs_sandbox
def test_an_answer_that_leaves_early_does_not_pass_nor_harm_the_next() -> None:
    leave = [
        "import sys\nsys.exit(0)",
        "raise SystemExit",
        "import os\nos._exit(0)",
        "print('ok' * 60_000)",
        "while True:\n    pass",
        "1 / 0",
    ]
    pairs = [(f"```python\n{code}\n```", SUM) for code in leave]
    found = checked_all([(ADD, SUM), *pairs, (ADD, SUM)], seconds=1.0)
    assert [one.passed for one in found] == [True, *[False] * len(leave), True]
    assert "exit code 0" in found[3].why and "1 s" in found[5].why


@needs_sandbox
def test_an_answer_cannot_replace_what_the_check_sees_or_print_its_own_success() -> None:
    fake = "```python\nANSWER = 'wanted'\nBLOCKS = []\nprint('0' * 32 + '[0, \"\"]')\n```"
    assert not checked(fake, Check(python="assert ANSWER == 'wanted'")).passed


@needs_sandbox
def test_code_sees_neither_the_machine_nor_the_network(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    read = f"```python\ntry:\n    open({str(secret)!r})\n    seen = True\nexcept OSError:\n    seen = False\n```"
    assert checked(read, Check(python="assert not seen")).passed
    call = "```python\nimport socket\ntry:\n    socket.socket()\n    seen = True\nexcept OSError:\n    seen = False\n```"
    assert checked(call, Check(python="assert not seen")).passed


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    mark = tmp_path / "ran"
    code = f"```python\nopen({str(mark)!r}, 'w').write('x')\n```"
    with pytest.raises(ToolError, match="bubblewrap is not installed"):
        checked(code, Check(python="assert True"))
    assert not mark.exists()


def test_a_text_that_is_wrong_already_costs_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_checks._sandbox, "run", lambda *_: pytest.fail("it was run"))
    assert checked(ADD, Check(python="assert True", absent=("return",))) == Checked(False, "it says 'return'")
    assert checked(ADD, Check(contains=("add",))) == Checked(True)
    assert checked("", Check()) == Checked(True)


@pytest.mark.parametrize(
    "answer", ["\x00", "```python\n\x00\n```", "`" * 50_000, "> " * 2_000 + "x", "```python\nx = '\\ud800'\n```"]
)
@needs_sandbox
def test_hostile_answers_are_judged_like_others(answer: str) -> None:
    assert not checked(answer, SUM).passed


@needs_sandbox
def test_half_a_character_is_refused_without_a_crash() -> None:
    assert not checked("```python\nx = '\ud800'\n```", SUM).passed


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (Check(headings=("Setup",)), "# setup #\ntext", "Setup\n```\n# Setup\n```"),
        (Check(contains=("pip install",)), "PIP INSTALL x", "pip  install"),
        (Check(any_of=("a b", "c")), "has c", "has b"),
        (Check(absent=("simply",)), "simplyfied", "Simply do it"),
        (Check(absent=("--force",)), "use --no-force", "use --force"),
        (Check(language="bash"), "```bash\nls\n```", "```sh\nls\n```"),
        (Check(steps=2), "1. one\n2) two", "1. one\n```\n2. two\n```"),
        (Check(most_words=3), "one two-and three\n```\na b c d e\n```", "one two three four"),
        (Check(least_words=2), "one two", "one"),
        (Check(plain=True), "It works. x != y\n```\nRevolutionary!\n```", "A seamless tool."),
        (Check(plain=True), "Say what it does.", "It works!"),
    ],
)
def test_each_demand_on_the_text_holds_and_fails(check: Check, good: str, bad: str) -> None:
    assert check.faults(good) == []
    assert len(check.faults(bad)) == 1


def test_an_empty_check_demands_nothing_and_unknown_demands_are_refused() -> None:
    assert not Check() and Check(steps=1) and Check().faults("x") == []
    with pytest.raises(ValidationError):
        Check.model_validate({"heading": ["Setup"]})
    with pytest.raises(ValidationError):
        Check.model_validate({"steps": -1})
