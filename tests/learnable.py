"""A small domain, what a user said about its answers, and everything that a learn needs beside it: a tiny model and its recipe, or
finished runs and exports that were never computed.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from packs import pack
from registry_support import export as exported

from data import exports, paths
from data.chat import Message
from data.domains import Domain
from data.store import Store

DOMAIN = "desk"
WORDS = {"FRAUD": "zzz", "RESET": "qqq", "INFO": "xxx"}
"""What stands at the end of every message of a label: a rule that two layers can learn."""
_SYLLABLES = "ba be bi bo bu da de di do du fa fe fi fo fu ka ke ki ko ku la le li lo lu ma me mi mo mu".split()
RECIPE = """
name = "tiny"
domain = "desk"
[base]
model = "{base}"
[lora]
rank = 8
alpha = 16
[data]
lost = 0.5
[[stages]]
kind = "sft"
epochs = {epochs}
batch = 16
learning_rate = 0.02
patience = 0
evaluate_every = 1000
[gates]
worse_by = 1.0
general_loss = 10.0
general_answers = 1.0
json_valid = 0.0
"""


def text(label: str, chance: random.Random) -> str:
    """A message of that label that nobody wrote before."""
    return f"{' '.join(chance.choice(_SYLLABLES) + chance.choice(_SYLLABLES) for _ in range(5))} {WORDS[label]}"


def domain(seed: int = 1, train: int = 4, held: int = 4) -> Domain:
    """The pack, in the home that is set now."""
    chance = random.Random(seed)
    rows = [
        {"text": text(label, chance), "label": label, "output": {"label": label}, "split": "train" if at < train else "validation"}
        for label in WORDS
        for at in range(train + held)
    ]
    return pack(DOMAIN, examples=rows)


def recipe(folder: Path, base: Path, epochs: int = 30) -> Path:
    """A recipe file for it."""
    file = paths.ensure(folder) / "tiny.toml"
    file.write_text(RECIPE.format(base=base, epochs=epochs), encoding="utf-8")
    return file


def base(folder: Path) -> Path:
    """The tiny random model as a GGUF file."""
    import tiny_checkpoints as tiny

    place = tiny.checkpoint(paths.ensure(folder) / "base", max_position_embeddings=2048, initializer_range=0.1)
    return tiny.as_gguf(place, folder / "base.gguf")


def ask(store: Store, question: str, answer: str, domain: str = DOMAIN, conversation: str | None = None) -> str:
    """A question of that domain with its answer in the log; its inference."""
    how = {"model": "echo/echo", "mode": "standard", "config": {"temperature": 0.7}, "domain": domain}
    begun = store.log.begin(Message("user", question), conversation=conversation, **how)
    store.log.finish(begun.inference, status="complete", text=answer)
    return begun.inference


def said(store: Store, count: int, seed: int = 2, wrong: float = 0.7, flipped: bool = False) -> None:
    """So many conversations: right answers are liked, wrong ones corrected; flipped: the other way round."""
    chance = random.Random(seed)
    for _ in range(count):
        label = chance.choice(list(WORDS))
        other = chance.choice([one for one in WORDS if one != label])
        given = other if chance.random() < wrong else label
        inference = ask(store, text(label, chance), f'{{"label": "{given}"}}')
        if (given == label) != flipped:
            store.feedback.rate(inference, 1)
        else:
            store.feedback.rate(inference, -1)
            store.feedback.correct(inference, other if flipped else label)


@contextmanager
def short_general(count: int = 1) -> Iterator[None]:
    """The general set cut short: it is measured elsewhere."""
    from trainer import general

    some: Sequence = tuple(row for row in general.rows() if row.ask)[:count]
    with patch.object(general, "rows", lambda: some):
        yield


@dataclass
class Stubs:
    """In place of training, export, verification and replay: quick, and counting how often each was asked for.

    right: share of the validation rows that the trained model has right; wrong_in: texts that it has wrong whatever that share;
    checked: what the export's checks say; broken: corrections that the replay finds broken; fault: raised by a step, once.
    """

    right: float = 1.0
    base: float = 0.3
    wrong_in: frozenset[str] = frozenset()
    passed: bool = True
    checked: bool = True
    verified: bool = True
    broken: int = 0
    fault: Mapping[str, BaseException] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    recipes: list[Any] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "Stubs":
        """Put them in their places."""
        from export import verify
        from trainer import train
        from tui.learn import serving

        monkeypatch.setattr(train, "run", self.train)
        monkeypatch.setattr("export.exporting.export", self.export)
        monkeypatch.setattr("tui.commands.export.source_of", lambda run: run)
        monkeypatch.setattr(verify, "verify", self.verify)
        monkeypatch.setattr(serving, "replayed", self.replay)
        monkeypatch.setattr("tui.opening.prepare", lambda _: None)
        monkeypatch.setattr("tui.opening.prepare_named", lambda *_: None)
        return self

    def train(self, recipe: Any, *, tell: Any = None, resume: Path | None = None, dry: bool = False, **_: Any) -> Any:
        """A finished run of that recipe."""
        from trainer.train import Run

        self.recipes.append(recipe)
        if dry:
            return Run(None)
        self._asked("training")
        return Run(finished_run(recipe, self), self.passed)

    def export(self, run: Path, *_: Any, **__: Any) -> Any:
        """Its export."""
        from export.exporting import Exported

        self._asked("export")
        check = {"name": "divergence", "of": "model-Q4_0.gguf", "passed": self.checked, "value": 0.01, "limit": 0.05}
        place = exported(run.name, DOMAIN, run=run.name, checks=[check])
        found = exports.read(place)
        if not self.checked:
            import shutil

            shutil.rmtree(place)
        return Exported(place if self.checked else None, found)

    def verify(self, place: Path, *_: Any, **__: Any) -> Any:
        """Its check."""
        from data.exports import Check

        self._asked("verify")
        return exports.read(place), (Check(name="loads", of="model-Q4_0.gguf", passed=self.verified),)

    def replay(self, *_: Any) -> Any:
        """Its replay, with no case but a gate."""
        from data.store.versions import Gate

        self._asked("replay")
        broken = self.broken

        class Told:
            def gates(self) -> tuple[Gate, ...]:
                return (Gate("replay: corrections kept", not broken, float(broken), 0.0),)

            def to_dict(self) -> dict[str, Any]:
                return {"broken": broken}

        return Told()

    def _asked(self, step: str) -> None:
        self.count[step] = self.count.get(step, 0) + 1
        fault = self.fault.get(step)
        if fault is not None and self.count[step] == 1:
            raise fault


def finished_run(recipe: Any, stubs: Stubs) -> Path:
    """The folder of a run of that recipe whose predictions are as the stubs say."""
    from data import domains
    from trainer import manifest, run_folder
    from trainer._run.folder import as_toml

    place = paths.ensure(run_folder.runs_dir() / f"{recipe.name}-20261121-000000-0badc0de")
    held = [json.loads(line) for one in recipe.data.train for line in _lines(Path(one) / "validation.jsonl")]
    rows = [(one["text"], one.get("label", "")) for one in held]
    rows += [(one.text, one.label) for one in domains.load(recipe.domain).examples if one.split == "validation"]
    for name, share in ((run_folder.PREDICTIONS, stubs.right), (run_folder.BASE_PREDICTIONS, stubs.base)):
        mine = name == run_folder.PREDICTIONS
        told = [
            {"text": text, "right": label, "said": label if _right(at, len(rows), share, mine and text in stubs.wrong_in) else "no"}
            for at, (text, label) in enumerate(rows)
        ]
        (place / name).write_text("".join(json.dumps(one) + "\n" for one in told))
    gain = stubs.right - stubs.base
    gates = [{"name": "accuracy", "limit": 0.5, "reached": stubs.right, "passed": stubs.passed}]
    pairs = {"n": len(rows), "difference": gain, "ci": {"low": gain - 0.1, "high": min(1.0, gain + 0.1)}}
    (place / run_folder.METRICS).write_text(json.dumps({"proof": {"passed": stubs.passed, "gates": gates, "base": pairs}}))
    (place / run_folder.RECIPE).write_text(as_toml(recipe), encoding="utf-8")
    note = manifest.Manifest(
        name=recipe.name,
        recipe_sha256="a" * 64,
        recipe={},
        seed=0,
        data=manifest.DataNote(sha256="d" * 64, validation_sha256="e" * 64, train=len(rows)),
        base=manifest.BaseNote(source="smollm2-135m", sha256="b" * 64),
    )
    manifest.write(place, manifest.finished(note, place, {}, {"passed": stubs.passed}))
    return place


def _right(at: int, of: int, share: float, wrong: bool) -> bool:
    return not wrong and at < round(share * of)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
