"""LoRA layers whose low-rank part is added in place: the same sums as PEFT's, without its passes over whole activations.

PEFT computes base(x) + B(A(x)) * scale with a product, a scaling and an addition of full size, forward and backward; on a processor
those passes over memory cost about a quarter of a step. Here the low-rank product is accumulated into the base layer's output, and
in the backward pass into the input's gradient (BLAS's own `C += alpha A B`). Only plain LoRA without dropout on plain linear layers
in one number format takes this way; every other layer is left to PEFT. Not covered: GPUs, whose time goes elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import MethodType
from typing import Any

from trainer.device import torch

ADAPTER = "default"


@contextmanager
def fused(model: Any) -> Iterator[int]:
    """While open, the eligible layers of a PEFT model add in place; gives how many there are."""
    layers = [layer for layer in model.modules() if _eligible(layer)]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            del layer.forward


def _eligible(layer: Any) -> bool:
    from peft.tuners.lora import Linear

    found = torch()
    if type(layer) is not Linear or type(layer.base_layer) is not found.nn.Linear or list(layer.lora_A) != [ADAPTER]:
        return False
    plain = isinstance(layer.lora_dropout[ADAPTER], found.nn.Identity) and not layer.lora_variant
    formats = {layer.base_layer.weight.dtype, layer.lora_A[ADAPTER].weight.dtype, layer.lora_B[ADAPTER].weight.dtype}
    return plain and len(formats) == 1 and not layer.lora_bias.get(ADAPTER, False)


def _forward(layer: Any, x: Any, *args: Any, **more: Any) -> Any:
    if layer.disable_adapters or layer.merged or layer.active_adapters != [ADAPTER] or more.get("adapter_names") is not None:
        return type(layer).forward(layer, x, *args, **more)
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    base = layer.base_layer
    return _product().apply(x, base.weight, base.bias, a, b, layer.scaling[ADAPTER])


@cache
def _product() -> Any:
    """The autograd function x W' + scale (x A') B', W and its bias constant. Shapes: x (..., in), W (out, in), A (rank, in)."""
    found = torch()

    class Product(found.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(context: Any, x: Any, weight: Any, bias: Any, a: Any, b: Any, scale: float) -> Any:
            flat = x.reshape(-1, x.shape[-1])
            low = flat @ a.t()
            out = flat @ weight.t() if bias is None else found.addmm(bias, flat, weight.t())
            out.addmm_(low, b.t(), alpha=scale)
            context.save_for_backward(flat, low, weight, a, b)
            context.scale, context.shape = scale, x.shape
            return out.view(*x.shape[:-1], weight.shape[0])

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            flat, low, weight, a, b = context.saved_tensors
            given = gradient.reshape(-1, gradient.shape[-1])
            low_gradient = given @ b
            low_gradient.mul_(context.scale)
            of_x = None
            if context.needs_input_grad[0]:
                of_x = given @ weight
                of_x.addmm_(low_gradient, a)
                of_x = of_x.view(context.shape)
            of_b = given.t() @ low
            return of_x, None, None, low_gradient.t() @ flat, of_b.mul_(context.scale), None

    return Product
