"""The forward pass of training: what is computed once for all rows gives the losses and gradients of whole prompts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_checkpoints import checkpoint, read
from torch.nn.functional import cross_entropy

from data.errors import InputError
from trainer import forward, trunk
from trainer.encode import Encoded, Tokens
from trainer.fused import fused

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it

PREFIX = (5, 9, 2, 7, 11)
PROMPTS = [(*PREFIX, 4, 8), (*PREFIX, 3), (*PREFIX, 6, 6, 10, 12)]
ANSWERS = [(13, 14, 2), (15, 2), (16, 17, 18, 2)]


def model(folder: Path, family: str = "llama", **lora):
    """A tiny base of a family with an adapter whose both halves say something."""
    base = read(checkpoint(folder, family))
    torch.manual_seed(3)
    tuned = get_peft_model(base.model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **lora))
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return tuned


def loss_and_gradient(tuned, prefix):
    tuned.zero_grad()
    found = forward.scored(tuned, forward.batched(prefix, PROMPTS, ANSWERS))
    loss = -found.log_probs.mean()
    loss.backward()
    return loss.item(), gradient(tuned)


def gradient(tuned):
    return torch.cat([parameter.grad.flatten().clone() for parameter in tuned.parameters() if parameter.requires_grad])


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "phi3", "phi", "gemma2"])
def test_computing_the_common_beginning_once_changes_neither_loss_nor_gradient(tmp_path, family):
    tuned = model(tmp_path / "m", family)
    whole, by_whole = loss_and_gradient(tuned, ())
    shared, by_shared = loss_and_gradient(tuned, PREFIX)
    assert shared == pytest.approx(whole, abs=1e-5)
    assert (by_shared - by_whole).norm() < 1e-4 * by_whole.norm()


def test_the_loss_is_that_of_transformers_own_forward_pass(tmp_path):
    tuned = model(tmp_path / "m")
    found = forward.scored(tuned, forward.batched(PREFIX, PROMPTS, ANSWERS))
    at = 0
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        ids = torch.tensor([[*prompt, *answer]])
        logits = tuned(input_ids=ids).logits[0, len(prompt) - 1 : -1]
        wanted = -cross_entropy(logits, ids[0, len(prompt) :], reduction="none")
        assert torch.allclose(found.log_probs[at : at + len(answer)], wanted, atol=1e-5)
        at += len(answer)
    assert found.row.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert found.place.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]


def test_a_row_scores_the_same_alone_as_beside_longer_ones(tmp_path):
    tuned = model(tmp_path / "m")
    together = forward.scored(tuned, forward.batched(PREFIX, PROMPTS, ANSWERS)).log_probs
    alone = forward.scored(tuned, forward.batched(PREFIX, PROMPTS[1:2], ANSWERS[1:2])).log_probs
    assert torch.allclose(together[3:5], alone, atol=1e-5)


def test_a_model_takes_batches_only_while_scoring_is_open(tmp_path):
    tuned = model(tmp_path / "m")
    batch = forward.batched(PREFIX, PROMPTS, ANSWERS)
    with forward.scoring(tuned):
        assert torch.equal(tuned(batch=batch).log_probs, forward.scored(tuned, batch).log_probs)
        assert tuned(input_ids=batch.ids[None]).logits.shape[0] == 1
    assert "forward" not in vars(tuned)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_layers_give_peft_s_own_outputs_and_gradients(tmp_path, dtype):
    tuned = model(tmp_path / "m", "qwen2").to(dtype)
    plain, by_plain = loss_and_gradient(tuned, PREFIX)
    with fused(tuned) as layers:
        quick, by_quick = loss_and_gradient(tuned, PREFIX)
    close = 1e-5 if dtype == torch.float32 else 3e-2
    assert layers == 14
    assert quick == pytest.approx(plain, abs=close)
    assert (by_quick - by_plain).norm() <= close * 3 * by_plain.norm()
    assert not any("forward" in vars(layer) for layer in tuned.modules())


@pytest.mark.parametrize("lora", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_layers_that_are_not_plain_lora_are_left_to_peft(tmp_path, lora):
    with fused(model(tmp_path / "m", **lora)) as layers:
        assert layers == 0


def test_with_the_adapter_off_fused_layers_are_the_base(tmp_path):
    tuned = model(tmp_path / "m")
    ids = torch.tensor([PROMPTS[0]])
    with tuned.disable_adapter():
        wanted = tuned(input_ids=ids).logits
        with fused(tuned):
            assert torch.allclose(tuned(input_ids=ids).logits, wanted, atol=1e-6)


@pytest.mark.parametrize("prefix", [PREFIX, ()])
def test_kept_lower_layers_change_neither_loss_nor_gradient(tmp_path, prefix):
    tuned = _top(tmp_path)
    whole, by_whole = loss_and_gradient(tuned, prefix)
    rows = tuple(Tokens(prompt, answer, "", (0, 0), 1.0, "") for prompt, answer in zip(PROMPTS, ANSWERS, strict=True))
    kept = trunk.Trunk(tuned, Encoded(rows, prefix, ()), 1, tmp_path / "kept.npy")
    batch = forward.batched(prefix, PROMPTS, ANSWERS)
    tuned.zero_grad()
    lower = replace(batch, first=kept.first, lower_prefix=kept.prefix, lower=kept.hidden([0, 1, 2]))
    loss = -forward.scored(tuned, lower).log_probs.mean()
    loss.backward()
    assert loss.item() == pytest.approx(whole, abs=1e-5)
    assert (gradient(tuned) - by_whole).norm() < 1e-4 * by_whole.norm()
    decoder = tuned.get_base_model().get_decoder()
    assert [layer.self_attn.layer_idx for layer in decoder.layers] == [0, 1]


def _top(folder: Path):
    base = read(checkpoint(folder / "m"))
    torch.manual_seed(3)
    tuned = get_peft_model(
        base.model, LoraConfig(r=4, target_modules=["q_proj", "up_proj"], layers_to_transform=[1], task_type="CAUSAL_LM")
    )
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return tuned


def test_a_family_whose_decoder_changes_its_input_cannot_be_cut(tmp_path):
    with pytest.raises(InputError, match="gemma2"):
        trunk.Trunk(model(tmp_path / "m", "gemma2"), Encoded((), (), ()), 1, tmp_path / "kept.npy")
