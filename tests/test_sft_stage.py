"""Supervised fine-tuning: which weights move, how rows and tokens count, and that splitting a step up changes nothing."""

import json
from dataclasses import replace

import pytest
import torch
from packs import pack
from tiny_checkpoints import CPU, checkpoint, read

from trainer import adapter, encode, material, recipe, stages
from trainer.encode import Tokens
from trainer.recipe import LossTable
from trainer.stages import Work, sft

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it


def work(tmp_path, name="1", lora=None, data=None, **stage) -> Work:
    """A stage on the test pack's nine training rows, on a tiny random base."""
    folder = tmp_path / "base"
    base = read(folder if folder.is_dir() else checkpoint(folder))
    table = {"kind": "sft", "batch": 4, "learning_rate": 0.02, "warmup": 0.0, "patience": 0, "epochs": 2, **stage}
    found = {"name": "r", "domain": "desk", "stages": [table], "lora": {"rank": 4, **(lora or {})}, "data": data or {}}
    asked = recipe.validated(found, "test")
    domain = pack()
    model = adapter.attach(base, asked.lora, seed=1)
    return Work(asked, asked.stages[0], 1, domain, base, model, CPU, material.read(asked, domain), tmp_path / name)


def losses(one: Work) -> list[float]:
    """Of every step, as metrics.jsonl has them."""
    lines = [json.loads(line) for line in (one.folder / "metrics.jsonl").read_text().splitlines()]
    return [line["values"]["loss"] for line in lines if line["doing"] == "training"]


def weights(one: Work, trained: bool) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in one.model.named_parameters() if value.requires_grad is trained}


def test_the_loss_falls_every_adapter_weight_moves_and_no_base_weight_does(tmp_path):
    one = work(tmp_path, epochs=8)
    base, before = weights(one, False), weights(one, True)
    done = stages.run(one)
    found = losses(one)
    assert found[-1] < 0.5 * found[0]
    assert done.steps == len(found) == 24
    after = weights(one, True)
    assert all(not torch.equal(after[name], before[name]) for name in before)
    assert all(torch.equal(value, base[name]) for name, value in weights(one, False).items())


@pytest.mark.parametrize("other", [{"micro_batch": 1}, {"micro_batch": 2}])
def test_micro_batches_give_the_losses_of_whole_ones(tmp_path, other):
    whole, split = work(tmp_path, "whole", micro_batch=4), work(tmp_path, "split", **other)
    stages.run(whole)
    stages.run(split)
    assert losses(split) == pytest.approx(losses(whole), abs=2e-4)


def test_parts_of_long_rows_give_the_losses_of_whole_batches(tmp_path, monkeypatch):
    whole, parted = work(tmp_path, "whole"), work(tmp_path, "parted")
    stages.run(whole)
    usual = sft._parts
    monkeypatch.setattr(sft, "_parts", lambda inputs, most: usual(inputs, 1))
    stages.run(parted)
    assert losses(parted) == pytest.approx(losses(whole), abs=2e-4)


def test_kept_lower_layers_train_as_the_whole_model_does(tmp_path):
    top = work(tmp_path, "top", {"layers": "top:1"})
    kept = work(tmp_path, "kept", {"layers": "top:1", "cache_lower": True})
    stages.run(top)
    stages.run(kept)
    assert losses(kept) == pytest.approx(losses(top), abs=2e-4)
    assert not any(".0." in name for name, value in kept.model.named_parameters() if value.requires_grad)


def test_a_step_is_the_mean_over_its_answer_tokens(tmp_path):
    one = work(tmp_path, batch=9, epochs=1)
    rows = encode.sft(one.recipe, one.stage, one.domain, one.base, one.material.train).rows
    total = count = 0.0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([[*row.prompt, *row.completion]])
            logs = one.model(input_ids=ids).logits[0].log_softmax(-1)
            total -= sum(float(logs[len(row.prompt) - 1 + at, token]) for at, token in enumerate(row.completion))
            count += len(row.completion)
    stages.run(one)
    assert losses(one) == pytest.approx([total / count], abs=1e-4)


ROW = Tokens((1, 2), (3, 4, 5, 6, 7), "X", (1, 3), 2.0, "")


def test_a_label_decides_its_share_whether_it_has_one_token_or_two():
    plain = sft.Collator((), 0.0)([(0, ROW)])["weights"][0]
    two = sft.Collator((), 0.8)([(0, ROW)])["weights"][0]
    one = sft.Collator((), 0.8)([(0, replace(ROW, label_at=(1, 2)))])["weights"][0]
    assert plain.tolist() == [2.0] * 5
    assert two[1] == two[2] == one[1] == pytest.approx(0.8 * 5 * 2)
    assert two[[0, 3, 4]].sum() == one[[0, 2, 3, 4]].sum() == pytest.approx(0.2 * 5 * 2)


def test_rows_of_frequent_labels_take_turns_and_weigh_as_much_more():
    from trainer._loop.order import Order

    rows = sft.Rows([replace(ROW, label="rare" if at < 2 else "often", origin=str(at)) for at in range(12)], balance=2.0)
    order = Order(len(rows), None, 4, 7, rows.turns)
    seen = []
    for epoch in range(5):
        order.epoch = epoch
        now = list(order)
        assert len(now) == len(order) == 6
        assert set(now) >= {0, 1}
        seen += [at for at in now if at >= 2]
    assert sorted(seen) == sorted([*range(2, 12)] * 2)
    assert {row.label: row.weight for _, row in (rows[at] for at in range(12))} == {"rare": 2.0, "often": 2.0 * 10 / 4}


def test_even_labels_and_no_balance_leave_every_row_to_every_epoch():
    even = [replace(ROW, label=str(at % 2)) for at in range(6)]
    assert sft.Rows(even, balance=1.0).turns is None
    assert sft.Rows([*even, ROW], balance=0.0).turns is None


def test_focal_loss_counts_sure_labels_less_and_nothing_else():
    inputs = sft.Collator((), 0.0)([(0, ROW)])
    logs = torch.log(torch.tensor([0.5, 0.9, 0.2, 0.5, 0.5]))
    scored = type("Found", (), {"log_probs": logs, "row": torch.zeros(5, dtype=torch.long), "place": torch.arange(5)})
    found = sft._losses(scored, inputs, LossTable(focal=2.0))
    factors = torch.tensor([1.0, 0.1**2, 0.8**2, 1.0, 1.0])
    assert torch.allclose(found, -2.0 * logs * factors)


def test_labels_weigh_as_the_pack_says(tmp_path):
    even, by_pack = work(tmp_path), work(tmp_path, loss={"weights": "balanced"})
    first = encode.sft(even.recipe, even.stage, even.domain, even.base, even.material.train).rows
    other = encode.sft(by_pack.recipe, by_pack.stage, by_pack.domain, by_pack.base, by_pack.material.train).rows
    assert {row.weight for row in first} == {1.0}
    assert sum(row.weight for row in other) == pytest.approx(len(other))
