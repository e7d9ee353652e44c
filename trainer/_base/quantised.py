"""How weights are loaded: number format, place, attention, and bitsandbytes' quantisation of the frozen linear layers.

nf4 is QLoRA's (Dettmers et al. 2023, with double quantisation), int8 is LLM.int8() (Dettmers et al. 2022); head and embeddings stay
as they are. On processors with AVX512-BF16, bitsandbytes 0.50 repacks 4-bit weights in place at the first forward in eval mode;
from then on no gradient passes through them and what is merged from them is noise. `settle` turns that off. Not covered: which of
it suits this machine (`trainer.device`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from data.errors import InputError, ModelMissing

BLOCK = 64
"""4-bit weights that share a scale (bitsandbytes' default)."""


def settle(model: Any) -> None:
    """Keep 4-bit weights as they were made, so that evaluating between training steps does not break the training.

    Raises InputError for widths that bitsandbytes 0.50 computes wrongly on a processor: rows that end within a block.
    """
    for part in model.modules():
        if not hasattr(part, "support_avx512bf16_for_cpu"):
            continue
        part.support_avx512bf16_for_cpu = False
        if part.weight.device.type == "cpu" and part.in_features % BLOCK:
            said = f"bitsandbytes computes rows of {part.in_features} 4-bit weights wrongly on a processor"
            raise InputError(f"{said}: they are no multiple of {BLOCK}", 'set base.quantisation = "none", or use a GPU')


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own progress bar, which would write over ours."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def loading(quantisation: str, policy: Any) -> dict[str, Any]:
    """What from_pretrained takes beside the weights. Raises ModelMissing without bitsandbytes, InputError on MPS."""
    found: dict[str, Any] = {"dtype": policy.torch_dtype, "attn_implementation": policy.attention}
    if policy.device != "cpu":  # of several processes each has a GPU of its own
        found["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0")) if policy.device == "cuda" else "mps"}
    if quantisation == "none":
        return found
    if find_spec("bitsandbytes") is None:
        raise ModelMissing(
            f'base.quantisation = "{quantisation}" needs bitsandbytes, which is not installed', "pip install bitsandbytes"
        )
    if policy.device == "mps":
        raise InputError("bitsandbytes does not run on MPS", 'set base.quantisation = "none"')
    from transformers import BitsAndBytesConfig

    kind: Any = BitsAndBytesConfig

    if quantisation == "int8":
        return found | {"quantization_config": kind(load_in_8bit=True)}
    return found | {
        "quantization_config": kind(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=policy.torch_dtype,
        )
    }
