"""The model families of modelfiles/: for each a Go template, its stops, limits, and what to know about it.

A file is a TOML table with name, title, models, template, stops, context (tokens, 0: no limit beside the model's own) and notes.
Not covered: whether a template fits a given model (`export.modelfile.template_for` proves that).
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.errors import InputError
from data.sanitise import one_line
from export._template.go import GoTemplate

FOLDER = Path(__file__).parent.parent.parent / "modelfiles"


class Family(BaseModel):
    """One file. tools: whether the published Jinja can call tools, which this template cannot; reference: a chat template in
    Jinja for models that come without one, else ""."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,39}$")]
    title: str
    models: tuple[str, ...]
    template: str
    stops: tuple[str, ...]
    context: Annotated[int, Field(ge=0)] = 0
    tools: bool = False
    reference: str = ""
    notes: str = ""


@cache
def families() -> tuple[Family, ...]:
    """All of them, in the order of their names. Raises InputError for a file that is wrong."""
    return tuple(read(file) for file in sorted(FOLDER.glob("*.toml")))


def read(file: Path) -> Family:
    """One file; raises InputError naming it where it cannot be read, is wrong, or its template is none of Go's."""
    try:
        family = Family.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(f"{file} is no template of a model family: {one_line(str(error), 200)}", "correct the file") from error
    GoTemplate(family.template)
    return family
