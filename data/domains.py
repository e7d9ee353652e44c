"""Domain packs: folders that say what a job is, what its answers look like, and how they are judged. A pack has no code.

    domain.toml         labels with descriptions, system prompt, modes, base models, contracts, gates, router examples
    schema.json         the output contract (JSON schema); `x-from` marks what Pointsman fills in itself, not the model
    rules.toml          what has the last word over a model's output (read by router/domain_rules.py)
    examples.jsonl      {"text", "label"?, "output"?, "reasoning"?, "split": "train" | "validation", "source"?} a line;
                        where answers are free text {"text", "completion", "check"?, ...}, see data/checks.py
    adversarial.jsonl   {"id", "text", "expect": {path: wanted}, "check"?, "why"} a line, see `Case`
    indicators.toml     optional: the indicator knowledge base (data/indicators.py)
    glossary.txt        optional: words of the trade, one a line, that are no invented jargon
    bias.jsonl          optional: paired prompts of its own (data/bias.py)
    README.md           counts and sources

The packs that come with Pointsman lie in data/domains/, the user's own in the data folder, and those win. Not covered: rules,
grammars and probabilities (router), and checking a pack with line numbers (data/domain_check.py).
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data import paths
from data.cases import Case
from data.chat import Message
from data.checks import Check
from data.errors import InputError, NotFound
from data.sanitise import one_line

FOLDER = Path(__file__).parent / "domains"
FILL_KEY = "x-from"
"""The schema keyword of a property that Pointsman fills in; one of FILLS."""
FIELD_KEY = "x-field"
"""Beside `x-from: probability`: the path of the property whose probability it is."""
FILLS = ("probability", "indicators", "unfamiliar_terms", "resources", "candidates")
"""probability: of what was chosen for x-field; indicators: those of the knowledge base with their quotes; unfamiliar_terms: words
that neither the glossary nor the encoder's vocabulary has; resources: the pack's `resources` where a rule or value calls for them;
candidates: the labels in question where the label is unsure."""
LARGEST_BYTES = 64 << 20
LARGE = "a pack holds examples, not a data set"
NAME = r"^[a-z][a-z0-9_]{0,39}$"

Split = Literal["train", "validation"]
T = TypeVar("T", bound=BaseModel)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Label(_Table):
    """One class. weight: how much a missed row of it counts in training, beside others."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    description: str = ""
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0


class ContractVersion(_Table):
    """How an answer is laid out: reasoning first in `<reasoning_tag>`, the JSON in `<answer_tag>`; without tags JSON alone."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,20}$")]
    reasoning_tag: Annotated[str, Field(pattern=r"^[a-z_]{0,30}$")] = ""
    answer_tag: Annotated[str, Field(pattern=r"^[a-z_]{0,30}$")] = ""


class Gates(_Table):
    """What a model must reach on held-out rows before it serves this domain; shares between 0 and 1, None is not asked."""

    accuracy: float | None = None
    macro_f1: float | None = None
    json_valid: float | None = 1.0
    ece: float | None = None
    adversarial: float | None = None
    recall: dict[str, float] = {}


class Router(_Table):
    """What the router learns the domain from."""

    examples: tuple[str, ...] = ()


class Resource(_Table):
    """A help resource: who, how to reach them, for whom."""

    name: str
    contact: str
    where: str = ""


class Description(_Table):
    """domain.toml."""

    name: Annotated[str, Field(pattern=NAME)]
    title: str
    description: str
    system: str = ""
    modes: tuple[str, ...] = ("standard",)
    base_models: tuple[str, ...] = ("llamacpp/smollm2-135m",)
    label_field: str = ""
    """The property of schema.json that holds the label; empty for a domain that does not classify."""
    labels: tuple[Label, ...] = ()
    contracts: tuple[ContractVersion, ...] = (ContractVersion(name="json"),)
    """The first is the one used unless another is asked for."""
    resources_when: dict[str, tuple[str, ...]] = {}
    """Property -> values that call for the resources."""
    resources: tuple[Resource, ...] = ()
    gates: Gates = Gates()
    router: Router = Router()


class Example(_Table):
    """One line of examples.jsonl. output: the properties that the model writes (none that Pointsman fills in).

    completion: the wanted answer of a domain whose answers are free text, and `check`: what any answer to this must be like.
    """

    text: str
    label: str = ""
    output: dict[str, Any] = {}
    reasoning: str = ""
    completion: str = ""
    check: Check = Check()
    split: Split = "train"
    source: str = "written for this pack"


@dataclass(frozen=True)
class Domain:
    """A pack, read. `described` is domain.toml; the rest is read when it is first asked for."""

    folder: Path
    described: Description

    @property
    def name(self) -> str:
        """The name by which the domain is chosen."""
        return self.described.name

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels' names in the pack's order; none where the domain does not classify."""
        return tuple(label.name for label in self.described.labels)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """The whole output contract; {} where the domain has none (its answers are free text). Raises InputError."""
        file = self.folder / "schema.json"
        if not file.is_file():
            return {}
        try:
            found = json.loads(paths.read_text(file, LARGEST_BYTES, LARGE))
        except (json.JSONDecodeError, RecursionError) as error:
            raise InputError(f"{file} is not valid JSON: {error}", f"pointsman domains check {self.name}") from error
        if not isinstance(found, dict) or found.get("type") != "object":
            raise InputError(f"{file} is no JSON schema of an object", f"pointsman domains check {self.name}")
        return found

    @cached_property
    def asked(self) -> dict[str, Any]:
        """The schema of what the model writes: without the properties that Pointsman fills in."""
        found = _without_fills(self.schema)
        return found if isinstance(found, dict) else {}

    def contract(self, name: str = "") -> ContractVersion:
        """The layout of that name, the first one for "". Raises NotFound."""
        for found in self.described.contracts:
            if name in ("", found.name):
                return found
        raise NotFound(
            f"{self.name} has no contract {name!r}", f"it has: {', '.join(one.name for one in self.described.contracts)}"
        )

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """All of examples.jsonl. Raises InputError with the line."""
        return tuple(_rows(self.folder / "examples.jsonl", Example))

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """All of adversarial.jsonl. Raises InputError with the line."""
        return tuple(_rows(self.folder / "adversarial.jsonl", Case))

    @cached_property
    def glossary(self) -> frozenset[str]:
        """The words of the trade, case-folded."""
        file = self.folder / "glossary.txt"
        return (
            frozenset(word.strip().casefold() for word in paths.read_text(file, LARGEST_BYTES, LARGE).splitlines() if word.strip())
            if file.is_file()
            else frozenset()
        )

    def prompt(self, text: str, contract: str = "") -> tuple[Message, ...]:
        """The messages that ask a model for this domain's answer about `text`: all that rows share comes first, the text last.

        Training rows and classification use the same prompt, to the letter.
        """
        return (Message("system", self.instruction(contract)), Message("user", text))

    def instruction(self, contract: str = "") -> str:
        """The system message: the pack's own, its labels with their descriptions, and the layout of the answer."""
        parts = [self.described.system.strip()]
        if self.labels:
            parts.append("Labels:\n" + "\n".join(f"- {one.name}: {one.description}" for one in self.described.labels))
        if self.schema:
            parts.append(self._layout(self.contract(contract)))
        return "\n\n".join(part for part in parts if part)

    def _layout(self, version: ContractVersion) -> str:
        keys = ", ".join(f'"{key}"' for key in self.asked.get("properties", {}))
        said = f"Answer with one JSON object with the keys {keys}."
        if version.reasoning_tag:
            said = f"First reason in <{version.reasoning_tag}></{version.reasoning_tag}>. Then answer"
            said += f" in <{version.answer_tag}></{version.answer_tag}>" if version.answer_tag else ""
            said += f" with one JSON object with the keys {keys}."
        return said

    def wanted(self, example: Example, contract: str = "") -> str:
        """The answer of an example, as a model is trained to write it: its free text, else `completion` of its output."""
        return example.completion if not self.schema else self.completion(example.output, example.reasoning, contract)

    def completion(self, output: Mapping[str, Any], reasoning: str = "", contract: str = "") -> str:
        """The answer wanted, as a model is trained to write it: keys in the schema's order, as json.dumps writes them."""
        order = list(self.asked.get("properties", {}))
        kept = {key: output[key] for key in order if key in output}
        text = json.dumps(kept, ensure_ascii=False)
        version = self.contract(contract)
        if version.answer_tag:
            text = f"<{version.answer_tag}>{text}</{version.answer_tag}>"
        if version.reasoning_tag:
            text = f"<{version.reasoning_tag}>{reasoning.strip()}</{version.reasoning_tag}>\n{text}"
        return text


def folders() -> tuple[Path, ...]:
    """Where packs are looked for; the user's own first."""
    return (paths.data_dir() / "domains", FOLDER)


def names() -> list[str]:
    """The names of all packs, sorted; a folder counts where it has a domain.toml."""
    return sorted({file.parent.name for folder in folders() if folder.is_dir() for file in folder.glob("*/domain.toml")})


def outside() -> tuple[str, ...]:
    """General questions that belong to no domain, for telling what is out of scope."""
    return tuple(line for line in paths.read_text(FOLDER / "outside.txt", LARGEST_BYTES, LARGE).split("\n") if line.strip())


def load(name: str) -> Domain:
    """The pack of that name. Raises NotFound with the names there are, InputError where its domain.toml is wrong."""
    for folder in folders():
        if (folder / name / "domain.toml").is_file() and Path(name).name == name:
            return read(folder / name)
    raise NotFound(f"there is no domain pack {one_line(name, 60)!r}", f"there are: {', '.join(names())}; or: pointsman domains new")


def read(folder: Path) -> Domain:
    """The pack in a folder. Raises InputError where its domain.toml is missing or wrong."""
    file = folder / "domain.toml"
    try:
        described = Description.model_validate(tomllib.loads(paths.read_text(file, LARGEST_BYTES, LARGE)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{file}: {where}: {first['msg']}", f"pointsman domains check {folder}") from error
    except (ValueError, RecursionError) as error:  # TOML that is none, numbers too long, nested too deeply
        raise InputError(f"{file} is not TOML: {one_line(str(error), 200)}", "correct it") from error
    if described.name != folder.name:
        raise InputError(f"{file} says name = {described.name!r} in the folder {folder.name!r}", "name both alike")
    return Domain(folder, described)


def _without_fills(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_fills(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _without_fills(value) for key, value in schema.items() if not key.startswith("x-")}
    if isinstance(properties := schema.get("properties"), dict):
        kept = {name: part for name, part in properties.items() if not (isinstance(part, dict) and _filled(part))}
        found["properties"] = {name: _without_fills(part) for name, part in kept.items()}
        found["required"] = [name for name in schema.get("required", ()) if name in kept]
    return found


def _filled(part: Mapping[str, Any]) -> bool:
    """Whether Pointsman fills in a property: itself, or every part of an object."""
    if FILL_KEY in part:
        return True
    properties = part.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return False
    return all(isinstance(one, Mapping) and _filled(one) for one in properties.values())


def _rows(file: Path, kind: type[T]) -> Iterator[T]:
    if not file.is_file():
        return
    for number, line in enumerate(paths.read_text(file, LARGEST_BYTES, LARGE).split("\n"), start=1):
        if line.strip():
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise InputError(f"{file}:{number}: {where}: {first['msg']}", "correct the line") from error
