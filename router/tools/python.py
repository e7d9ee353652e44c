"""Python code of the model, run in the sandbox of `_sandbox` and nowhere else; the user is asked first.

The result is what the program printed, errors included. Not covered: packages beyond the standard library, files of the user.
"""

from collections.abc import Sequence

from data.errors import ToolError
from router.tools import _sandbox
from router.tools._sandbox import Ran
from router.tools.base import Surroundings, Tool, tool

SHOWN_CHARS = 6_000
"""Of a longer output the middle is left out: errors stand at the end."""


def build(surroundings: Surroundings) -> Sequence[Tool]:
    """run_python, which is refused with a reason where there is no sandbox."""
    settings = surroundings.settings

    @tool("run", ready=_ready, target="Python in a sandbox: no network, none of your files")
    def run_python(code: str) -> str:
        """Run a Python program (standard library only, no files, no network) and return what it prints. code: the whole program."""
        if not code.strip():
            raise ToolError("there is no code to run")
        return _told(_sandbox.run(code, settings.python_s, settings.python_mb), settings.python_s)

    return (run_python,)


def _ready() -> None:
    _sandbox.require()


def _told(ran: Ran, seconds: float) -> str:
    """The output, or a ToolError with the output and why the program did not end well."""
    output = ran.output.rstrip()
    if len(output) > SHOWN_CHARS:
        half = SHOWN_CHARS // 2
        output = f"{output[:half]}\n[{len(output) - 2 * half:,} characters left out]\n{output[-half:]}"
    if ran.timed_out:
        raise ToolError(f"the program was ended after {seconds:g} s; output until then:\n{output or 'none'}")
    if ran.cut:
        raise ToolError(f"the program was ended because it printed more than {_sandbox.OUTPUT_BYTES:,} bytes:\n{output}")
    if ran.exit_code:
        raise ToolError(f"{output}\n[the program ended with exit code {ran.exit_code}{_meaning(ran.exit_code)}]".lstrip())
    return output or "the program printed nothing; print what you want to know"


def _meaning(code: int) -> str:
    return {137: ": killed, out of processor time or memory", 139: ": crashed", 152: ": out of processor time"}.get(code, "")
