"""Slow work beside the interface, in threads that nobody waits for.

They are no executor's threads: those are joined at exit, and leaving the chat must not wait for a server that has stopped
answering. A thread tells its result by `post_message`, which is safe from any thread and does nothing once the receiver is
gone. What it does not foresee ends in `threading.excepthook`.
"""

import threading
from collections.abc import Callable
from typing import ParamSpec

Given = ParamSpec("Given")


def in_background(name: str, work: Callable[Given, object], *args: Given.args, **kwargs: Given.kwargs) -> None:
    """Run `work` in a daemon thread of that name."""
    threading.Thread(target=work, name=name, args=args, kwargs=kwargs, daemon=True).start()
