"""Functions of a Python file with their docstrings, through `ast`: parsed, never run or compiled.

A method counts like a function; a function within a function belongs to the outer one. Stubs (nothing but a docstring, `pass`, an
ellipsis or a raise) teach nothing and are no records. Not covered: classes and modules as a whole.
"""

import ast
import textwrap
import warnings
from collections.abc import Iterator

from data.datasets._sources.base import Broken
from data.datasets._sources.lessons import MOST_LINES, SHORTEST_EXPLANATION, Lesson, explain_function, write_function
from data.sanitise import one_line

Function = ast.FunctionDef | ast.AsyncFunctionDef
LANGUAGE = "Python"


def lessons(text: str) -> Iterator[Lesson | Broken]:
    """Two lessons for every documented function, in the file's order; one refusal where the file is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in strings of a file that is not ours
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        yield Broken(1, f"is no Python that can be parsed: {one_line(str(said), 100)}")
        return
    lines = text.split("\n")
    for function in _functions(tree):
        explanation = ast.get_docstring(function) or ""
        if len(explanation) < SHORTEST_EXPLANATION or _is_stub(function):
            continue
        if (function.end_lineno or 0) - function.lineno >= MOST_LINES:
            yield Broken(function.lineno, f"the function {function.name} has more than {MOST_LINES} lines")
            continue
        code = _code(function, lines)
        yield write_function(LANGUAGE, _signature(function, lines), explanation, code)
        if bare := _without_docstring(function, lines):
            yield explain_function(LANGUAGE, bare, explanation)


def _functions(tree: ast.Module) -> Iterator[Function]:
    """Functions of the module and of its classes, classes within classes included."""
    pending: list[ast.stmt] = list(reversed(tree.body))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef):
            pending += reversed(node.body)


def _is_stub(function: Function) -> bool:
    return all(
        isinstance(node, ast.Pass | ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in function.body
    )


def _code(function: Function, lines: list[str]) -> str:
    """The function's own lines, decorators included, moved to the left edge."""
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return textwrap.dedent("\n".join(lines[first - 1 : function.end_lineno])).strip()


def _signature(function: Function, lines: list[str]) -> str:
    """From `def` to the line before the docstring."""
    last = max(function.body[0].lineno - 1, function.lineno)
    return textwrap.dedent("\n".join(lines[function.lineno - 1 : last])).strip()


def _without_docstring(function: Function, lines: list[str]) -> str:
    """The code without its docstring; "" where the docstring shares a line with other code."""
    said = function.body[0]
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    end = said.end_lineno or said.lineno
    if (
        said.lineno <= function.lineno
        or function.body[1].lineno <= end
        or lines[said.lineno - 1].lstrip()[:1] not in tuple("\"'rRuU")
    ):
        return ""
    kept = lines[first - 1 : said.lineno - 1] + lines[end : function.end_lineno]
    return textwrap.dedent("\n".join(kept)).strip()
