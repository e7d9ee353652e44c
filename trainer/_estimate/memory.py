"""The memory that training takes, part by part, from a model's shape and the rows' sizes.

What autograd keeps of a block was counted with `torch.autograd.graph.saved_tensors_hooks` for the supported families (torch 2.13,
transformers 5.23, PEFT 0.21); a test counts it again. Not covered: the peak of a step as it really is (`estimate.probe`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trainer._estimate.shapes import Shape, adapter_parameters, targets, trained_layers
from trainer._estimate.sizes import Sizes
from trainer.recipe import LoraTable, StageTable

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight: 4 bits, and with double quantisation a byte a block of 64 and a float32 for 256 of those (Dettmers et al. 2023)."""
INT8_BYTES = 1.01
"""Of a weight, with its row's scale (Dettmers et al. 2022)."""
PROGRAM_BYTES = {"cpu": 750_000_000, "cuda": 700_000_000, "mps": 750_000_000}
"""Python with torch, transformers and PEFT loaded; on a GPU the CUDA context with its kernels."""
LOGIT_COPIES = 4
"""Logits of the answer tokens in float32, their gradient, and what softmax keeps between."""
SLACK = {"cpu": 1.95, "cuda": 1.1, "mps": 1.2}
"""Peak by what autograd keeps. On a processor the heap keeps holes between tensors: 1.8 to 1.95 measured with glibc and SmolLM2,
1.0 with MALLOC_MMAP_THRESHOLD_=65536, which costs time. On GPUs assumed: gradients of the layer at work and cut-off blocks."""
SEQUENCES = {"sft": 1, "kto": 2, "dpo": 2, "grpo": 1, "rloo": 1}
"""Sequences that one row of a stage puts through the model at once."""

Device = Literal["cpu", "cuda", "mps"]


@dataclass(frozen=True, slots=True)
class Setup:
    """How the weights lie in memory. optimizer: transformers' name. No gradient checkpointing (`arguments`)."""

    device: Device = "cpu"
    dtype: str = "float32"
    quantisation: str = "none"
    optimizer: str = "adamw_torch_fused"

    @property
    def width(self) -> int:
        """Bytes of a number in the weights that are not quantised."""
        return WIDTHS[self.dtype]


def weights(shape: Shape, setup: Setup) -> int:
    """Bytes of the frozen weights."""
    each = {"nf4": NF4_BYTES, "int8": INT8_BYTES}.get(setup.quantisation, float(setup.width))
    return round(shape.linear_parameters * each + shape.other_parameters * setup.width)


def parts(stage: StageTable, shape: Shape, lora: LoraTable, sizes: Sizes, setup: Setup, micro: int) -> Mapping[str, int]:
    """Bytes by part at the peak of a step, micro being the rows computed at once, all as long as the 95th percentile."""
    trained = adapter_parameters(shape, lora)
    return {
        "program": PROGRAM_BYTES[setup.device],
        "weights": weights(shape, setup),
        "adapter": 4 * trained,
        "gradients": 4 * trained,
        "optimiser": (2 if "8bit" in setup.optimizer else 8) * trained,
        "activations": round(SLACK[setup.device] * activations(stage, shape, lora, sizes, setup, micro)),
        "logits": logits(stage, shape, sizes, micro),
    }


def logits(stage: StageTable, shape: Shape, sizes: Sizes, micro: int) -> int:
    """Bytes at the head: of answer tokens alone in sft, of whole sequences in TRL's trainers."""
    if stage.kind == "sft":
        tokens = sizes.answer_p95
    elif stage.kind in ("grpo", "rloo"):
        tokens = stage.max_new_tokens
    else:
        tokens = sizes.prefix + sizes.p95
    return LOGIT_COPIES * 4 * micro * SEQUENCES[stage.kind] * tokens * shape.vocab


def activations(stage: StageTable, shape: Shape, lora: LoraTable, sizes: Sizes, setup: Setup, micro: int) -> int:
    """Bytes that autograd keeps of the blocks between the forward and the backward pass."""
    sequences = micro * SEQUENCES[stage.kind]
    own = sizes.p95 if stage.kind not in ("grpo", "rloo") else max(1, sizes.p95 - sizes.answer_p95) + stage.max_new_tokens
    shared = sizes.prefix if stage.kind == "sft" else 0
    if not shared:
        own += sizes.prefix
    tokens = shared + sequences * own
    layers = trained_layers(shape, lora)
    attention = sequences * _attended(shape, own, shared, setup) + (_scores(shape) * shared**2)
    return layers * (tokens * _token(shape, lora, setup) + attention)


def _token(shape: Shape, lora: LoraTable, setup: Setup) -> int:
    """Bytes a block keeps of a token: norms, queries to attention's output, the MLP, and what the adapter reads and makes of it."""
    chosen = targets(shape, lora)
    norms = 4 if shape.family == "gemma2" else 2
    plain = 2 * shape.queries + 2 * shape.keys + (4 if shape.family == "phi" else 3) * shape.ff
    if shape.family == "phi3":  # queries, keys and values are one tensor, kept whole for the values' sake
        plain += shape.queries + shape.keys
    plain += shape.queries  # attention sorts its result back into the order of the rows
    read = sum(inputs for inputs, _ in chosen.values())  # in float32: each layer makes a copy of its own
    if setup.width == 4:  # nothing is converted, so layers that read the same share it, and attention's output is counted above
        read = 2 * shape.hidden + shape.ff
    return 4 * norms * shape.hidden + setup.width * plain + 4 * read + 4 * lora.rank * len(chosen)


def _attended(shape: Shape, own: int, shared: int, setup: Setup) -> int:
    """Bytes a block keeps of a sequence beside: keys and values of the shared prefix, repeated for every head, and the mask."""
    keys = own + shared
    return _scores(shape) * own * keys + (setup.width * (2 * shape.queries * keys + own * keys) if shared else 0)


def _scores(shape: Shape) -> int:
    """Bytes a block keeps of a pair of tokens: none with the fused kernels, which Gemma 2's soft cap rules out."""
    return 8 * shape.heads if shape.family == "gemma2" else 0


def fits_in(total: int, available: int) -> bool:
    """Whether a peak fits. A tenth is left free: for other programs, and because a formula is one."""
    return total <= 0.9 * available
