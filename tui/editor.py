"""Writing a text in the editor of the user's choice. The terminal must be free meanwhile; whoever calls sees to that."""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from data.errors import InputError

FALLBACKS = ("nano", "vi")


def edit(text: str) -> str:
    """`text` as the user leaves it in $VISUAL, $EDITOR, nano or vi; one line end at the very end is the editor's, and dropped.

    Raises InputError where there is no editor, it fails, or what it leaves is not UTF-8.
    """
    command = _command()
    with tempfile.TemporaryDirectory(prefix="pointsman-") as folder:
        file = Path(folder) / "question.md"
        file.write_text(text, encoding="utf-8")
        try:
            finished = subprocess.run([*command, str(file)], check=False)  # noqa: S603
        except OSError as error:
            raise InputError(
                f"the editor {command[0]!r} does not start: {error.strerror}", "set EDITOR to one that does"
            ) from error
        if finished.returncode != 0:
            raise InputError(f"the editor {command[0]!r} failed with exit code {finished.returncode}", "the text is as it was")
        try:
            return file.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"what the editor left cannot be read: {error}", "save it as UTF-8 text") from error


def _command() -> list[str]:
    for name in ("VISUAL", "EDITOR"):
        command = shlex.split(os.environ.get(name, ""))
        if command:
            return command
    found = next((path for path in map(shutil.which, FALLBACKS) if path), None)
    if found is None:
        raise InputError("there is no editor", "set EDITOR, for example: export EDITOR=nano")
    return [found]
