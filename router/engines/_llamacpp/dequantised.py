"""The same weights without quantisation, in memory, for reading many tokens at once on a processor.

llama.cpp multiplies most quantised weights token by token, by kernels made for writing; for F32 weights it has kernels that work on
blocks of tokens. SmolLM2-135M (Q4_1, flash attention on, AVX-512, milliseconds of one core a prompt token): 7.4 as it comes, 3.7
in F16, 3.1 in F32. The weights are the same numbers; what differs is that activations are no longer rounded to 8 bits, so results
depend less on what else is in a batch. It takes about 2 s once and 4 bytes a weight. Not covered: models too large for that.
"""

import ctypes
import math
import os
from pathlib import Path

from data.errors import ModelInvalid
from router.engines._llamacpp.model import LoadedModel

MOST_BYTES = 1 << 30  # of the weights in F32
_F32 = 0  # LLAMA_FTYPE_ALL_F32, llama.h


def dequantised(model: LoadedModel, free_bytes: int | None) -> LoadedModel:
    """The model with F32 weights, made at the first call and closed with `model`; `model` itself where that does not pay.

    free_bytes: memory that can be had, None where unknown. Call it with the model's lock held.
    """
    if model.dequantised is None:
        size = 4 * sum(math.prod(shape) for shape in model.header.tensors.values())
        on_gpu = model.settings.gpu_layers != 0 and model.api.llama_supports_gpu_offload()
        if on_gpu or size > min(MOST_BYTES, (free_bytes or 0) // 3) or not hasattr(os, "memfd_create"):
            return model
        model.dequantised = _made(model)
    return model.dequantised


def _made(model: LoadedModel) -> LoadedModel:
    params = model.api.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = _F32, True, model.threads
    file = os.memfd_create("weights")
    try:
        path = Path(f"/proc/self/fd/{file}")
        code = model.api.llama_model_quantize(os.fsencode(model.path), os.fsencode(path), ctypes.byref(params))
        if code:
            raise ModelInvalid(f"{model.path} cannot be dequantised (code {code})", "download or convert it again")
        return LoadedModel(path, model.settings)
    finally:
        os.close(file)
