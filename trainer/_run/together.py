"""Several training processes that act as one: the first one decides, and all of them know what it decided.

Their number and places come from the launcher's environment (accelerate, torchrun). Not covered: starting them (`launch`).
"""

import os
from typing import TypeVar

from trainer import arguments

T = TypeVar("T")


class Together:
    """The processes of one run. With one process nothing here costs anything."""

    def __init__(self) -> None:
        self.count = arguments.processes()
        self.first = int(os.environ.get("RANK", "0")) == 0
        if self.count > 1:
            from accelerate import PartialState

            from trainer.device import torch

            self._state = PartialState(cpu=not torch().cuda.is_available())

    def agreed(self, value: T) -> T:
        """The first process's value, in all of them."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        held = [value]
        broadcast_object_list(held, from_process=0)
        return held[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            self._state.wait_for_everyone()
