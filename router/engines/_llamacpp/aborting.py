"""Ending llama.cpp's computations from outside: after every node of a graph it asks whether to go on.

The answer comes from C. `strlen` of a cancellation's flag is 0 while the answer is wanted and 1 from then on; a function of
Python's would wait for the interpreter's lock some thousand times a token, and five milliseconds each time where other threads
are busy. A node takes milliseconds: it is one product of matrices (`model` bounds it by the batch). Only computations on a
processor ask (llama.h, llama_set_abort_callback). Not covered: what is left of a cache (`context`).
"""

import ctypes
import os
from functools import cache
from typing import Any

from router.cancelling import Cancellation

_ABORTED = 2  # what llama_decode and llama_encode return then (llama.h)


def heed(api: Any, pointer: Any, cancellation: Cancellation | None) -> None:
    """Let a context end its computations once an answer is cancelled; None: let them run to their end again.

    The context looks at the cancellation's memory until told otherwise: keep it as long.
    """
    if cancellation is None:
        api.llama_set_abort_callback(pointer, api.ggml_abort_callback(), None)
        return
    flag = (ctypes.c_char * len(cancellation.flag)).from_buffer(cancellation.flag)
    api.llama_set_abort_callback(pointer, _asks(api), ctypes.addressof(flag))


def was_aborted(code: int, cancellation: Cancellation | None) -> bool:
    """Whether the code of a computation says that it ended because the answer was cancelled."""
    return code == _ABORTED and cancellation is not None and cancellation.cancelled


@cache
def _asks(api: Any) -> Any:
    """`strlen` as a callback. It returns 0 or 1 in the register whose lowest byte C reads as a bool."""
    library = ctypes.CDLL(None) if os.name == "posix" else ctypes.CDLL("msvcrt")
    return ctypes.cast(library.strlen, api.ggml_abort_callback)
