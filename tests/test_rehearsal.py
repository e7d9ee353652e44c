"""Rehearsal: general questions in training keep what the base predicts, and nothing else of a step changes."""

import json

import pytest
import torch
from packs import pack
from tiny_checkpoints import CPU, checkpoint, read

from data.chat import Message
from data.errors import InputError
from trainer import adapter, general, material, recipe, rehearsal, stages
from trainer.rehearsal import Rehearsal
from trainer.stages import Work

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it


def work(tmp_path, name="1", **stage) -> Work:
    """A stage on the test pack's nine training rows, on a tiny random base."""
    folder = tmp_path / "base"
    base = read(folder if folder.is_dir() else checkpoint(folder))
    table = {"kind": "sft", "batch": 8, "learning_rate": 0.02, "warmup": 0.0, "patience": 0, "epochs": 4, **stage}
    asked = recipe.validated({"name": "r", "domain": "desk", "stages": [table], "lora": {"rank": 4}}, "test")
    domain = pack()
    model = adapter.attach(base, asked.lora, seed=1)
    return Work(asked, asked.stages[0], 1, domain, base, model, CPU, material.read(asked, domain), tmp_path / name)


def losses(one: Work) -> list[float]:
    """Of every step, as metrics.jsonl has them."""
    lines = [json.loads(line) for line in (one.folder / "metrics.jsonl").read_text().splitlines()]
    return [line["values"]["loss"] for line in lines if line["doing"] == "training"]


def divergence(one: Work) -> float:
    """From the base, over all rehearsed rows."""
    count = len(rehearsal.rows())
    with torch.no_grad():
        return float(Rehearsal(one.model, one.base, count, 0).loss(one.model, 0))


def test_no_question_is_one_of_those_by_which_forgetting_is_measured():
    asked = {prompt.casefold() for prompt, _ in rehearsal.rows()}
    assert len(asked) == len(rehearsal.rows()) > 100
    assert not asked & {row.prompt.casefold() for row in general.rows()}


def test_an_adapter_that_changes_nothing_diverges_in_nothing(tmp_path):
    assert divergence(work(tmp_path)) == pytest.approx(0.0, abs=1e-6)


def test_a_rehearsing_stage_learns_its_rows_and_stays_nearer_the_base(tmp_path):
    free, held = work(tmp_path, "free", epochs=10), work(tmp_path, "held", epochs=10, rehearse=3.0)
    stages.run(free)
    stages.run(held)
    assert divergence(held) < 0.5 * divergence(free)
    assert losses(held)[-1] < 0.7 * losses(held)[0]


def test_the_divergence_is_that_of_the_whole_models_on_padded_rows(tmp_path):
    one = work(tmp_path)
    for parameter in one.model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter))) * 0.1
    count = len(rehearsal.rows())
    found = float(Rehearsal(one.model, one.base, count, 0).loss(one.model, 0).detach())
    end, total, tokens = one.base.ids(one.base.end), 0.0, 0
    for prompt, answer in rehearsal.rows():
        ids = one.base.prompt_ids([Message("user", prompt)])
        begin, whole = len(ids), [*ids, *one.base.ids(answer), *end]
        with torch.no_grad():
            mine = one.model(torch.tensor([whole])).logits[0, begin - 1 : -1].log_softmax(-1)
            with one.model.disable_adapter():
                wanted = one.model(torch.tensor([whole])).logits[0, begin - 1 : -1].log_softmax(-1)
        total += float((wanted.exp() * (wanted - mine)).sum())
        tokens += len(whole) - begin
    assert found == pytest.approx(total / tokens, rel=1e-4)


def test_a_step_rehearses_the_same_rows_each_time_and_all_come_in_turn(tmp_path):
    one = work(tmp_path)
    made = Rehearsal(one.model, one.base, 10, 3)
    assert list(made._drawn(2)) == list(made._drawn(2)) != list(made._drawn(3))
    count = len(rehearsal.rows())
    seen = [at for step in range(-(-count // 10)) for at in made._drawn(step)]
    assert set(seen[:count]) == set(range(count))


def test_the_rows_are_rehearsed_once_a_step_however_it_is_split(tmp_path):
    whole, split = work(tmp_path, "whole", micro_batch=8, rehearse=2.0), work(tmp_path, "split", micro_batch=2, rehearse=2.0)
    stages.run(whole)
    stages.run(split)
    assert losses(split) == pytest.approx(losses(whole), abs=5e-4)


def test_rehearsing_with_a_model_in_pieces_is_refused():
    table = {"kind": "sft", "rehearse": 1.0}
    with pytest.raises(InputError, match="whole model in every process"):
        recipe.validated({"name": "r", "domain": "triage", "stages": [table], "distributed": {"strategy": "fsdp"}}, "test")
