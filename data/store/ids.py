"""Ids of rows: version 7 UUIDs (RFC 9562, section 5.7) as 32 hex digits, so that ids sort by the time they were made.

Within one process every id is greater than the one before, also inside a millisecond and when the clock steps back.
"""

import secrets
import threading
import time

_RANDOM_BITS = 74  # what version 7 leaves beside the 48-bit time in ms, the version and the variant
_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """A new id: 12 hex digits of Unix time in ms, then randomness. Safe to call from several threads."""
    global _last
    fresh = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    with _lock:
        if fresh >> _RANDOM_BITS <= _last >> _RANDOM_BITS:
            fresh = _last + 1 + secrets.randbits(32)
        _last = fresh
    time_ms, high, low = fresh >> _RANDOM_BITS, fresh >> 62 & 0xFFF, fresh & (1 << 62) - 1
    return f"{time_ms << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low:032x}"
