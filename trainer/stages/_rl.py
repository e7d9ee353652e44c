"""What the reinforcement stages share: prompts of labelled rows with serving's tokens, and the frozen reference.

TRL has no PPO any more; GRPO and RLOO draw several answers to each prompt and compare their rewards with one another, so no value
model is trained. The answers are drawn freely, not under the contract's grammar: what the grammar would force needs no reward.
Not covered: the rewards (`_rewards`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from data.errors import InputError
from trainer import arguments, encode, loop
from trainer.stages import Done, Work, _preference
from trainer.stages._answers_only import quick
from trainer.stages._rewards import rewards


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as tokens, the label that is right, and how many tokens the wanted answer has."""

    tokens: tuple[int, ...]
    label: str
    wanted_tokens: int


def run(work: Work, kind: type, trainer: type, beta: float) -> Done:
    """Run a stage with a config and trainer class of TRL, the latter with `OurPrompts` before it; beta: where the recipe has none.

    Raises InputError for too few rows, a reward that the domain cannot give, and where the loss is no number.
    """
    found = prompts(work)
    _preference.enough(work, found, "rows to draw answers for")
    functions = rewards(work.stage.rewards, work.domain, work.recipe.data.contract, work.stage.max_new_tokens)
    fresh = is_fresh(work.model)
    with _preference.lent(work.model):
        made = trainer(
            model=work.model,
            reward_funcs=list(functions),
            args=_settings(work, kind, beta),
            train_dataset=_preference.dataset(list(_rows(found, work.stage.batch // work.stage.generations))),
            processing_class=work.base.tokenizer,
        )
        made.row_tokens = [list(one.tokens) for one in found]
        _ends(made, work.base.stop_ids)
        if fresh or not made.beta:  # switched off, the adapter is the reference
            _preference.without_reference(work.model)
        _preference.in_float32(work.model)
        with quick(work):
            return loop.fit(made, work)


class OurPrompts:
    """For TRL's reinforcement trainers: a prompt is the number of a row, whose tokens are known; no model card."""

    row_tokens: Sequence[list[int]]

    def _tokenize_prompts(self, prompts: Sequence[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [list(self.row_tokens[int(prompt)]) for prompt in prompts], None, {}

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A run has its own report."""


def prompts(work: Work) -> list[Prompt]:
    """The prompts of the training rows, with a label where it is rewarded. Raises InputError where no row has one."""
    rows = [row for row in work.material.train if row.label or row.output or row.completion]
    encoded = encode.sft(work.recipe, work.stage, work.domain, work.base, rows)
    found = [Prompt(one.prompt, one.label, len(one.completion)) for one in encoded.rows]
    if "label_right" not in work.stage.rewards:
        return found
    labelled = [one for one in found if one.label]
    if not labelled:
        raise InputError(f"stage {work.name}: label_right needs rows with a label, and none has one", "leave the reward out")
    return labelled


def is_fresh(model: Any) -> bool:
    """Whether the adapter changes nothing yet: its second factors are all zero, as PEFT begins."""
    return not any(bool(weight.any()) for name, weight in model.named_parameters() if "lora_B" in name and ".default." in name)


def _settings(work: Work, kind: type, beta: float) -> Any:
    return arguments.of(
        work,
        kind,
        beta=work.stage.beta or beta,
        num_generations=work.stage.generations,
        max_completion_length=work.stage.max_new_tokens,
    )


def _ends(trainer: Any, stop_ids: Sequence[int]) -> None:
    """An answer ends where it ends in serving."""
    trainer.eos_token_ids = list(stop_ids)
    trainer.generation_config.eos_token_id = list(stop_ids)
    trainer.generation_kwargs["eos_token_id"] = list(stop_ids)


def _rows(found: Sequence[Prompt], together: int) -> Iterator[dict[str, Any]]:
    """A row a prompt, filled up from the front to a multiple of the prompts of a step: TRL leaves out what is no whole step."""
    missing = -len(found) % together
    for at in [*range(len(found)), *(at % len(found) for at in range(missing))]:
        yield {"prompt": str(at), "label": found[at].label, "wanted_tokens": found[at].wanted_tokens}
