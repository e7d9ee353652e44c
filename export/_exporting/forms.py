"""The forms of an export: which may be asked for, which are tried, and how much room they take while they are made."""

from collections.abc import Sequence

from data.errors import InputError
from export._exporting.source import Source
from export.quantise import FORMS
from router.engines._llamacpp import header

TRIED = ("Q8_0", "Q4_K_M")
"""The forms that are tried unless some are named."""
SHARES = {"F16": 1.0, "Q8_0": 0.54, "Q6_K": 0.45, "Q5_K_M": 0.4, "Q4_K_M": 0.4, "Q4_0": 0.32, "IQ4_NL": 0.32}
"""Of the size in F16, about; more than it is, because rows that do not suit a form take a larger one."""


def checked(forms: Sequence[str]) -> tuple[str, ...]:
    """The forms that were asked for, in their order, "auto" being (). Raises InputError for an unknown one."""
    wanted = tuple(dict.fromkeys(form.upper() for form in forms))
    if wanted in ((), ("AUTO",)):
        return ()
    for form in wanted:
        if form not in FORMS:
            raise InputError(f"there is no form {form!r}", f"choose auto, or one of {', '.join(FORMS)}")
    return wanted


def needed_bytes(source: Source, forms: Sequence[str]) -> int:
    """Bytes that an export takes on disk while it is made, twice over."""
    if source.base_gguf is not None:
        tensors = header.check(source.base_gguf).tensors.values()
        whole = 2 * sum(_product(shape) for shape in tensors)
        more = whole  # the base in F16
    else:
        assert source.checkpoint is not None  # noqa: S101  one of the two is there
        whole = sum(file.stat().st_size for file in source.checkpoint.glob("*.safetensors"))
        more = 3 * whole  # the merged checkpoint, in F32, and the base in F16
    return int(2 * (whole * (1 + sum(SHARES.get(form, 1.0) for form in forms if form != "F16")) + more))


def _product(shape: Sequence[int]) -> int:
    whole = 1
    for size in shape:
        whole *= size
    return whole
