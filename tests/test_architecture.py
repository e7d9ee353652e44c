"""The import rule of the design: tui may import trainer and export, those the router, the router data; nothing else.

Heavy libraries stay where the design puts them, and no import of pointsman's own is made upward or sideways.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "data": {"data"},
    "router": {"router", "data"},
    "trainer": {"trainer", "router", "data"},
    "export": {"export", "router", "data"},
    "tui": {"tui", "trainer", "export", "router", "data"},
    "modelfiles": set(),
}
HOMES = {
    "torch": ("trainer/", "export/merge.py", "export/imatrix.py"),
    "transformers": ("trainer/", "export/merge.py", "export/imatrix.py"),
    "peft": ("trainer/", "export/merge.py", "export/imatrix.py"),
    "trl": ("trainer/", "export/merge.py", "export/imatrix.py"),
    "llama_cpp": ("router/engines/llamacpp.py", "router/engines/_llamacpp/", "export/quantise.py"),
    "textual": ("tui/",),
    "pickle": (),
    "pandas": (),
}
FILES = [file for package in MAY_IMPORT for file in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_downward_and_heavy_libraries_stay_home(file: Path) -> None:
    place = str(file.relative_to(ROOT))
    package = place.split("/")[0]
    for imported in set(_imports(file)):
        if imported in MAY_IMPORT:
            assert imported in MAY_IMPORT[package], f"{place} imports {imported}: {package} may not"
        if imported in HOMES:
            assert place.startswith(HOMES[imported]), f"{place} imports {imported}: it belongs into {HOMES[imported]}"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_every_package_of_the_house_can_be_imported_by_its_name(package: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"import {package}; print({package}.__file__)"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert Path(found.stdout.strip()) == ROOT / package / "__init__.py"


def test_no_foreign_code_is_trusted_anywhere() -> None:
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        for forbidden in ("trust_remote_code=True", "shell=True", "os.system(", "eval(", "weights_only=False"):
            assert forbidden not in text.replace("literal_eval(", ""), f"{file.relative_to(ROOT)} contains {forbidden}"


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]
