"""Waiting for an app under test: what happens in threads is waited for, never slept for."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot


async def wait_until(pilot: Pilot[Any], predicate: Callable[[], object], timeout: float = 60.0) -> None:
    """Let the app run until `predicate` is true; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        assert time.monotonic() < deadline, f"nothing became true within {timeout} s"
        await pilot.pause()
        await asyncio.sleep(0.01)
    await pilot.pause()
