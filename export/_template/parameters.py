"""The PARAMETERs of a Modelfile: their names and types, those that a model needs, and how they are written and read.

Names and types: api.Options of Ollama 0.32 and 0.33; what is deprecated there, or refused in a model since 0.34, is refused.
Not covered: what a server's own settings make of them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from data.errors import InputError
from data.sanitise import one_line

Parameter: TypeAlias = int | float | bool | tuple[str, ...]
CONTEXT_TOKENS = 4096  # what Ollama takes on a machine without a GPU where nothing is said
TYPES: Mapping[str, type] = {
    **dict.fromkeys(
        "num_ctx num_batch num_gpu main_gpu num_thread draft_num_predict num_keep seed num_predict top_k repeat_last_n".split(), int
    ),
    **dict.fromkeys("temperature top_p min_p repeat_penalty presence_penalty frequency_penalty".split(), float),
    "use_mmap": bool,
    "stop": tuple,
}
GONE = frozenset(
    "typical_p penalize_newline low_vram f16_kv logits_all vocab_only use_mlock mirostat mirostat_tau mirostat_eta tfs_z numa "
    "embedding_only".split()
)
_LARGEST = 1 << 31
_BOOLS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)


def parameters_for(
    *,
    stops: Sequence[str],
    context_tokens: int,
    rope_tokens: int = 0,
    classifier: bool = False,
    wanted_tokens: int = CONTEXT_TOKENS,
) -> dict[str, Parameter]:
    """The parameters that an exported model needs.

    stops: the texts of its end tokens, and others; context_tokens: the model's own; rope_tokens: where llama.cpp would take other
    rope factors than the model was trained with (`rope_limit`), 0 for nowhere; classifier: temperature 0; wanted_tokens: of the
    context, if the model allows it. Raises InputError for a context without tokens.
    """
    if min(context_tokens, wanted_tokens) < 1:
        raise InputError(f"a context of {min(context_tokens, wanted_tokens)} tokens is too small", "give its size in tokens")
    found: dict[str, Parameter] = {"num_ctx": min(context_tokens, wanted_tokens, rope_tokens or context_tokens)}
    if classifier:
        found["temperature"] = 0.0
    kept = tuple(dict.fromkeys(stop for stop in stops if stop))
    return found | ({"stop": kept} if kept else {})


def rope_limit(metadata: Mapping[str, object]) -> int:
    """The context above which llama.cpp takes the long rope factors of a Phi-3 model whatever the prompt, in tokens; 0: none."""
    if metadata.get("general.architecture") != "phi3":
        return 0
    original = metadata.get("phi3.rope.scaling.original_context_length", 0)
    return original if isinstance(original, int) and not isinstance(original, bool) and original > 0 else 0


def checked(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters with the types that Ollama wants; raises InputError naming what is unknown or of another type."""
    return {name: _checked(name, value) for name, value in parameters.items()}


def written(value: Parameter) -> str:
    """A number or a switch as a Modelfile has it."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def read(name: str, texts: Sequence[str]) -> Parameter:
    """The value of a parameter from its lines, of which the last counts, except for `stop`. Raises InputError.

    Go would also take hexadecimal and infinite numbers; they are refused.
    """
    kind, text = _kind(name), texts[-1]
    if kind is tuple:
        return tuple(texts)
    if kind is bool and text in _BOOLS:
        return _BOOLS[text]
    if kind is int and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return _checked(name, int(text))
    if kind is float and re.fullmatch(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?", text):
        return _checked(name, float(text))
    raise InputError(f"the parameter {name} cannot be {one_line(text, 40)!r}", f"give {_NAMES[kind]}")


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", tuple: "texts"}


def _kind(name: str) -> type:
    if name in GONE:
        raise InputError(f"Ollama does not take the parameter {name} any more", "leave it out")
    if name not in TYPES:
        raise InputError(f"Ollama knows no parameter {one_line(name, 40)!r}", f"choose one of {', '.join(TYPES)}")
    return TYPES[name]


def _checked(name: str, value: Parameter) -> Parameter:
    kind = _kind(name)
    if kind is float and type(value) in (int, float) and math.isfinite(float(value)):  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    if kind is tuple and isinstance(value, list | tuple) and all(isinstance(stop, str) and stop for stop in value):
        return tuple(value)
    if type(value) is kind and (kind is bool or (isinstance(value, int) and abs(value) < _LARGEST)):
        return value
    raise InputError(f"the parameter {name} cannot be {one_line(repr(value), 40)}", f"give {_NAMES[kind]}")
