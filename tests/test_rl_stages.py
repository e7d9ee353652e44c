"""GRPO and RLOO stages: rewards of valid, invalid and wrong answers, serving's prompts, the reference, batches that do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)

from tiny_preferences import labelled, prompt_ids, thumb, weights, work  # noqa: E402

from data import domains  # noqa: E402
from data.errors import InputError  # noqa: E402
from trainer import stages  # noqa: E402
from trainer.stages import Work, _rl, grpo  # noqa: E402
from trainer.stages._rewards import HALF, rewards  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it

SMALL = {"batch": 4, "generations": 4, "max_new_tokens": 2, "epochs": 1, "rewards": ("brief",)}


@pytest.fixture(scope="module")
def triage() -> domains.Domain:
    """A pack with labels and an output contract."""
    return domains.load("triage")


def answer(domain: domains.Domain, label: str) -> str:
    """A right answer of that label."""
    return domain.wanted(next(one for one in domain.examples if one.label == label))


def test_json_valid_pays_answers_that_keep_the_contract(triage: domains.Domain) -> None:
    (valid,) = rewards(["json_valid"], triage, "", 50)
    right = answer(triage, triage.labels[0])
    broken = json.dumps({triage.described.label_field: "no such label"})
    told = valid(completions=[right, broken, right[:-1], "", "[1]", "NaN", "{" * 5000, f"Sure! {right}"])
    assert told == [1.0, HALF, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_label_right_pays_the_rows_own_label_alone(triage: domains.Domain) -> None:
    (right,) = rewards(["label_right"], triage, "", 50)
    first, second = triage.labels[:2]
    texts = [answer(triage, first), answer(triage, second), "nonsense", json.dumps({triage.described.label_field: [first]})]
    assert right(completions=texts, label=[first] * 4) == [1.0, 0.0, 0.0, 0.0]


def test_brief_falls_with_the_length_and_pays_nothing_for_silence() -> None:
    (brief,) = rewards(["brief"], None, "", 20)
    ids = [[1] * 5, [1] * 10, [1] * 15, [1] * 20, [2]]
    assert brief(completions=["a"] * 4 + [" "], completion_ids=ids, wanted_tokens=[10] * 5) == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert brief(completions=["a"], completion_ids=[[1] * 30], wanted_tokens=[25]) == [0.0]


@pytest.mark.parametrize("name", ["json_valid", "label_right"])
def test_rewards_that_the_domain_cannot_give_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"the reward {name} needs a domain"):
        rewards([name], None, "", 20)


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_rewards_rise_and_the_adapter_alone_is_trained_on_the_prompts_of_serving(tmp_path: Path, kind: str) -> None:
    row = thumb(1, True)
    table = {**SMALL, "batch": 8, "generations": 8, "epochs": 10, "max_new_tokens": 2, "beta": 1e-3, "min_rows": 1}
    found = work(tmp_path, kind, [row], learning_rate=3e-2, **table)
    silent_at_first(found, row.text)
    before = {part: weights(found.model, part) for part in ("lora_A", "lora_B", "base")}
    prompts = prompts_seen(found)
    done = stages.run(found)
    assert done.steps == 10
    assert prompts == {prompt_ids(found.base, row.text)}
    for part in ("lora_A", "lora_B"):
        assert all(not torch.equal(weights(found.model, part)[name], value) for name, value in before[part].items())
    assert all(torch.equal(weights(found.model, "base")[name], value) for name, value in before["base"].items())
    assert list(found.model.peft_config) == ["default"] and "forward" not in vars(found.model.get_base_model())
    lines = [json.loads(line)["values"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    paid = [line["reward"] for line in lines if "reward" in line]
    assert sum(paid[-3:]) > sum(paid[:3]) + 0.5


def silent_at_first(found: Work, text: str) -> None:
    """Make the end token about as likely as everything else together where the answer begins: silence is paid nothing."""
    inner = found.model.get_base_model()
    with torch.no_grad():
        last = inner.get_decoder()(input_ids=torch.tensor([prompt_ids(found.base, text)])).last_hidden_state[0, -1]
    head = inner.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)  # no longer tied to the embeddings
    head.weight.data[2] = last / last.dot(last) * 10.8  # e^10.8: the size of the vocabulary


def prompts_seen(found: Work) -> set[tuple[int, ...]]:
    """Fills up with the prompts for which the model draws answers."""
    seen: set[tuple[int, ...]] = set()
    inner = found.model.get_base_model()
    original = inner.generate

    def generate(*args: Any, **named: Any) -> Any:
        for ids, mask in zip(named["input_ids"], named["attention_mask"], strict=True):
            seen.add(tuple(ids[mask.bool()].tolist()))
        return original(*args, **named)

    inner.generate = generate
    return seen


def test_a_step_that_is_not_full_is_filled_up_from_the_front(tmp_path: Path) -> None:
    found = work(tmp_path, "grpo", [thumb(number, True) for number in range(3)], **{**SMALL, "batch": 8})
    prompts = prompts_seen(found)
    assert stages.run(found).steps == 2  # 3 prompts, two a step
    assert len(prompts) == 3


def test_the_reference_is_the_base_under_a_fresh_adapter_and_a_copy_of_a_trained_one(tmp_path: Path) -> None:
    kept = []

    def watching(trainer: Any, work: Work) -> stages.Done:
        kept.append(sorted(work.model.peft_config))
        assert trainer.eos_token_ids == [0, 2]
        return stages.Done(0, 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rl.loop, "fit", watching)
        fresh = work(tmp_path / "1", "grpo", [thumb(1, True), thumb(2, True)], **SMALL)
        stages.run(fresh)
        trained = work(tmp_path / "2", "grpo", [thumb(1, True), thumb(2, True)], **SMALL)
        for name in weights(trained.model, "lora_B"):
            trained.model.get_parameter(name).data.normal_(0, 0.1)
        assert _rl.is_fresh(fresh.model) and not _rl.is_fresh(trained.model)
        stages.run(trained)
    assert kept == [["default"], ["default", "ref"]]
    assert list(trained.model.peft_config) == ["default"] and grpo.BETA > 0


def test_too_few_labelled_rows_are_refused_where_the_label_is_paid(tmp_path: Path, triage: domains.Domain) -> None:
    found = work(tmp_path, "grpo", [labelled(0, triage)], domain=triage, min_rows=2, **{**SMALL, "rewards": ("label_right",)})
    with pytest.raises(InputError, match="1 rows to draw answers for"):
        stages.run(found)
    (found_one,) = _rl.prompts(found)
    assert found_one.label == triage.labels[0]
    assert found_one.tokens == tuple(found.base.prompt_ids(triage.prompt(labelled(0, triage).text)))
