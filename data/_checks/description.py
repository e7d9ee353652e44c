"""domain.toml: keys, types, and that labels, gates, contracts and resources agree with each other."""

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from data._checks.pack import Pack, meant
from data.config import ModeName
from data.domains import ContractVersion, Description, Gates, Label, Resource, Router
from data.places import Lines
from data.sanitise import one_line

NAME = "domain.toml"
_TABLES: dict[str, type[BaseModel]] = {
    "labels": Label, "contracts": ContractVersion, "gates": Gates, "router": Router, "resources": Resource
}  # fmt: skip


def described(pack: Pack) -> tuple[Description, Lines] | None:
    """What domain.toml says, with its places; None where it cannot be read, which is noted."""
    found = pack.toml(NAME)
    if found is None:
        if pack.text(NAME) is None and not any(problem.file.endswith(NAME) for problem in pack.problems):
            pack.fault(NAME, 1, "is missing; a pack begins with it")
        return None
    tables, lines = found
    try:
        description = Description.model_validate(tables)
    except ValidationError as error:
        for fault in error.errors():
            pack.fault(NAME, lines.at(*fault["loc"]), _said(fault["loc"], fault["type"], fault["msg"]))
        return None
    _check(pack, description, lines)
    return description, lines


def _said(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    where = one_line(".".join(map(str, loc)), 80)
    if kind != "extra_forbidden":
        return f"{where}: {message}"
    model = _TABLES.get(str(loc[0]), Description) if len(loc) > 1 else Description
    return f"unknown key {where}{meant(str(loc[-1]), model.model_fields)}"


def _check(pack: Pack, description: Description, lines: Lines) -> None:
    if description.name != pack.folder.resolve().name:
        pack.fault(
            NAME, lines.at("name"), f"name = {description.name!r} in the folder {pack.folder.resolve().name!r}; name both alike"
        )
    labels = [label.name for label in description.labels]
    _twice(pack, lines, "labels", [label.casefold() for label in labels], "the label")
    _twice(pack, lines, "contracts", [one.name for one in description.contracts], "the contract")
    _twice(pack, lines, "router", [one.casefold() for one in description.router.examples], "the router example", "examples")
    if not description.contracts:
        pack.fault(NAME, lines.at("contracts"), "there is no contract; leave contracts out or give one")
    if labels and not description.label_field:
        pack.fault(
            NAME, lines.at("labels"), "there are labels but no label_field: say which property of schema.json holds the label"
        )
    if len(labels) == 1:
        pack.fault(NAME, lines.at("labels"), "there is one label; two are the least to choose from")
    for at, mode in enumerate(description.modes):
        if mode not in get_args(ModeName):
            modes = ", ".join(get_args(ModeName))
            pack.fault(
                NAME,
                lines.at("modes", at),
                f"{one_line(mode, 40)!r} is no mode; there are: {modes}{meant(mode, get_args(ModeName))}",
            )
    for at, model in enumerate(description.base_models):
        if not all(model.partition("/")):
            pack.fault(NAME, lines.at("base_models", at), f"{one_line(model, 60)!r} is not engine/name, as llamacpp/smollm2-135m")
    _gates(pack, description.gates, labels, lines)


def _twice(pack: Pack, lines: Lines, table: str, names: list[str], what: str, *inner: str) -> None:
    seen: dict[str, int] = {}
    for at, name in enumerate(names):
        if name in seen:
            line, first = lines.at(table, *inner, at), lines.at(table, *inner, seen[name])
            pack.fault(NAME, line, f"{what} {one_line(name, 60)!r} is there twice, first on line {first}")
        seen.setdefault(name, at)


def _gates(pack: Pack, gates: Gates, labels: list[str], lines: Lines) -> None:
    asked: list[tuple[tuple[str, ...], Any]] = [((key,), value) for key, value in gates.model_dump().items() if key != "recall"]
    asked += [(("recall", label), value) for label, value in gates.recall.items()]
    for path, value in asked:
        if value is not None and not 0 <= value <= 1:
            pack.fault(
                NAME, lines.at("gates", *path), f"the gate {one_line('.'.join(path))} is {value}, not a share between 0 and 1"
            )
    for label in gates.recall:
        if label not in labels:
            pack.fault(NAME, lines.at("gates", "recall", label), f"{one_line(label, 60)!r} is no label{meant(label, labels)}")
