"""Small domain packs for tests, written into the home of the test, and an engine that knows what it will say."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from data import domains, paths
from data.chat import Usage
from data.domains import Domain
from data.errors import PointsmanError
from router.engines.base import Request
from router.engines.echo import Echo
from router.engines.structure import Choice, Completion, Literal, Number, Repeat, Select, Series, Structure, Text

LABELS = {
    "FRAUD": ["I did not make this payment", "someone stole my card", "a stranger withdrew money", "unknown charge from abroad"],
    "RESET": ["I forgot my password", "cannot log in to the app", "please reset my PIN", "my account is locked"],
    "INFO": ["when do you open", "what does a transfer cost", "how high is the rate", "where is the nearest branch"],
}
LABEL_SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": list(LABELS)}},
    "required": ["label"],
    "additionalProperties": False,
}


def pack(
    name: str = "desk",
    *,
    schema: Mapping | None = None,
    rules: str = "",
    toml: str = "",
    examples: Sequence[Mapping] | None = None,
    cases: Sequence[Mapping] = (),
) -> Domain:
    """A pack of bank messages with three labels in the user's data folder."""
    folder = paths.ensure(paths.data_dir() / "domains" / name)
    labels = ", ".join(f'{{name = "{label}", description = "{label.lower()}"}}' for label in LABELS)
    head = f'name = "{name}"\ntitle = "Desk"\ndescription = "bank messages"\nsystem = "You sort messages."\n'
    (folder / "domain.toml").write_text(f'{head}label_field = "label"\nlabels = [{labels}]\n{toml}')
    (folder / "schema.json").write_text(json.dumps(LABEL_SCHEMA if schema is None else schema))
    if rules:
        (folder / "rules.toml").write_text(rules)
    rows = (
        [
            {"text": text, "label": label, "output": {"label": label}, "split": "validation" if at == 3 else "train"}
            for label, texts in LABELS.items()
            for at, text in enumerate(texts)
        ]
        if examples is None
        else examples
    )
    lines(folder / "examples.jsonl", rows)
    lines(folder / "adversarial.jsonl", cases)
    return domains.load(name)


def lines(file: Path, rows: Iterable[Mapping]) -> None:
    """Write JSON lines."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Oracle(Echo):
    """Fills every structure in: a Select by the probabilities of `shares` (word in the text -> value -> probability), the rest
    with the least that fits. `faults`: word in the text -> the fault of that row; `absent`: raised at once."""

    def __init__(
        self,
        shares: Mapping[str, Mapping[object, float]],
        *,
        faults: Mapping[str, PointsmanError] | None = None,
        absent: PointsmanError | None = None,
        silent: bool = False,
    ) -> None:
        super().__init__()
        self.shares, self.faults, self.absent, self.silent = shares, faults or {}, absent, silent
        self.completed: list[tuple[str, Structure]] = []

    def complete(self, requests: Iterable[Request], structure: Structure) -> Iterator[Completion]:
        if self.absent is not None:
            raise self.absent
        for request in requests:
            text = request.messages[-1].content
            self.completed.append((text, structure))
            fault = next((one for word, one in self.faults.items() if word in text), None)
            if fault is not None:
                yield Completion(fault=fault)
                continue
            choices: list[Choice] = []
            said = self._said(structure.root, text, choices)
            yield Completion(said, () if self.silent else tuple(choices), Usage(10, 0, 5, 0.1, 0.2, "stop"))

    def _said(self, node, text: str, choices: list[Choice]) -> str:
        if isinstance(node, Series):
            return "".join(self._said(part, text, choices) for part in node.parts)
        if isinstance(node, Literal):
            return node.text
        if isinstance(node, Text):
            return f"so{node.stop}"
        if isinstance(node, Number):
            return str(int(node.minimum)) if node.integer else f"{node.minimum:.1f}"
        if isinstance(node, Repeat):
            return "[" + ", ".join(self._said(node.item, text, choices) for _ in range(node.least)) + "]"
        return self._chosen(node, text, choices)

    def _chosen(self, node: Select, text: str, choices: list[Choice]) -> str:
        wanted = next((shares for word, shares in self.shares.items() if word in text), {})
        weights = [float(wanted.get(value, 1e-4)) for value in node.values]
        total = sum(weights)
        at = max(range(len(weights)), key=weights.__getitem__)
        choices.append(Choice(node.path, node.values, tuple(math.log(weight / total) for weight in weights), at))
        return node.options[at]
