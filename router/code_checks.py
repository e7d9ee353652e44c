"""Whether an answer in free text is as its check demands (data/checks.py): what the text says, and what its Python code does.

The code of an answer is run by bubblewrap (router/tools/_sandbox.py) together with the statements of the check, and never without:
where there is no sandbox, a check with `python` raises ToolError. One sandbox start serves many answers; each runs in a namespace
of its own, and one that ends the program is run again alone. Not covered: an answer that goes out of its way to read the check
from within (the marks of success are random, but they are in the same process), and languages other than Python: the statements
of a check can look at those as text (`BLOCKS`), run SQL with sqlite3, or try a regular expression.
"""

import json
import secrets
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data.checks import Check
from data.sanitise import one_line
from router.tools import _sandbox

SECONDS = 10.0
"""For one answer; many together get at most `LONGEST_S`."""
LONGEST_S = 120.0
MEMORY_MB = 512
PYTHON = frozenset({"python", "py", "python3", "pycon", ""})
"""Languages of the code blocks that count as the answer's Python code."""

_WHY_CHARS = 400
# Runs in the sandbox. Each task: the answer, its blocks, its Python code, and the statements that must hold after it. An exit of
# the answer's is its own fault, so BaseException is caught. What the answer prints is thrown away.
_PROGRAM = """
import json, os, sys
tasks, mark = json.loads({tasks!r}), {mark!r}
said, nowhere = sys.stdout, open(os.devnull, "w")
def told(number, why):
    said.write(mark + json.dumps([number, why]) + "\\n"); said.flush()
def fault(error):
    return (type(error).__name__ + ": " + str(error)).strip(": ")
for number, task in enumerate(tasks):
    names = {{"__name__": "answer", "ANSWER": task["answer"], "BLOCKS": [tuple(block) for block in task["blocks"]]}}
    sys.stdout = sys.stderr = nowhere
    stage = "its code does not run"
    try:
        exec(compile(task["code"], "answer.py", "exec"), names)
        stage = "the check fails"
        names.update(ANSWER=task["answer"], BLOCKS=[tuple(block) for block in task["blocks"]])
        exec(compile(task["check"], "check.py", "exec"), names)
        why = ""
    except BaseException as error:
        line, step = 0, error.__traceback__
        while step is not None:
            if step.tb_frame.f_code.co_filename in ("answer.py", "check.py"):
                line = step.tb_lineno
            step = step.tb_next
        source = task["check" if stage == "the check fails" else "code"].splitlines()
        shown = source[line - 1].strip() if stage == "the check fails" and 0 < line <= len(source) else ""
        why = stage + ": " + fault(error) + (" at " + shown if shown else "")
    finally:
        sys.stdout, sys.stderr = said, sys.__stderr__
    told(number, why)
"""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block: the first word after the fence, in lower case, and what stands within."""

    language: str
    code: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check: whether all of it held, why not, and whether code was run for it."""

    passed: bool
    why: str = ""
    ran: bool = False


def code_blocks(markdown: str) -> tuple[Block, ...]:
    """The fenced code blocks of a Markdown text, in order, those in lists and quotations included."""
    from markdown_it import MarkdownIt

    fences = (token for token in MarkdownIt("commonmark").parse(markdown) if token.type == "fence")
    return tuple(Block(next(iter(token.info.split()), "").casefold(), token.content) for token in fences)


def checked(answer: str, check: Check, seconds: float = SECONDS, memory_mb: int = MEMORY_MB) -> Checked:
    """One answer held against its check. Raises ToolError where code must be run and there is no working sandbox."""
    return checked_all([(answer, check)], seconds, memory_mb)[0]


def checked_all(pairs: Sequence[tuple[str, Check]], seconds: float = SECONDS, memory_mb: int = MEMORY_MB) -> list[Checked]:
    """Each answer held against its check, in order; seconds: for each. Code runs only where the text itself is as demanded.

    Raises ToolError where code must be run and there is no working sandbox.
    """
    found = [Checked(not faults, "; ".join(faults)) for faults in (check.faults(answer) for answer, check in pairs)]
    waiting = [number for number, (_, check) in enumerate(pairs) if check.python and found[number].passed]
    if waiting:
        _sandbox.require()
    results = _together([pairs[number] for number in waiting], min(seconds * len(waiting), LONGEST_S), memory_mb)
    for at, number in enumerate(waiting):
        why = results.get(at)
        if why is None:
            why = _alone(pairs[number], seconds, memory_mb)
        found[number] = Checked(not why, one_line(why, _WHY_CHARS), True)
    return found


def _together(pairs: Sequence[tuple[str, Check]], seconds: float, memory_mb: int) -> dict[int, str]:
    """Why each failed ("" where it passed), by its place; those that came after one that ended the program are not there."""
    if len(pairs) < 2:
        return {}
    mark = secrets.token_hex(16)
    ran = _sandbox.run(_program(pairs, mark), seconds, memory_mb)
    return dict(_told(ran.output, mark))


def _alone(pair: tuple[str, Check], seconds: float, memory_mb: int) -> str:
    mark = secrets.token_hex(16)
    ran = _sandbox.run(_program([pair], mark), seconds, memory_mb)
    if (why := dict(_told(ran.output, mark)).get(0)) is not None:
        return why
    if ran.timed_out:
        return f"it did not end within {seconds:g} s"
    if ran.cut:
        return f"it printed more than {_sandbox.OUTPUT_BYTES:,} bytes"
    return f"the program ended early with exit code {ran.exit_code}: {one_line(ran.output[-200:], 200)}"


def _program(pairs: Sequence[tuple[str, Check]], mark: str) -> str:
    return _PROGRAM.format(tasks=json.dumps([_task(answer, check) for answer, check in pairs]), mark=mark)


def _task(answer: str, check: Check) -> dict[str, object]:
    blocks = code_blocks(answer)
    python = [block.code for block in blocks if block.language in PYTHON]
    code = "\n".join(python if blocks else [_bare(answer)])
    return {"answer": answer, "blocks": [(block.language, block.code) for block in blocks], "code": code, "check": check.python}


def _bare(answer: str) -> str:
    """An answer without fences that is nothing but Python counts as code; prose does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes and comparisons, which are no syntax errors
            compile(answer, "answer.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return answer


def _told(output: str, mark: str) -> Iterator[tuple[int, str]]:
    for line in output.splitlines():
        if line.startswith(mark):
            try:
                number, why = json.loads(line.removeprefix(mark))
            except (ValueError, RecursionError):
                continue
            if isinstance(number, int) and isinstance(why, str):
                yield number, why
