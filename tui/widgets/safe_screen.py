"""A screen on which a click never meets a widget that has just been removed.

Textual's compositor keeps removed widgets until the next layout; a mouse button pressed in between reads the region of
their missing parent and ends the app (Textual issue 6643, open in 8.2.8). Here such a hit is no hit.
"""

from typing import TypeVar

from textual.errors import NoWidget
from textual.geometry import Offset, Region
from textual.screen import Screen
from textual.widget import Widget

Result = TypeVar("Result")


class GuardedScreen(Screen[Result]):
    """Base of screens whose widgets come and go while the mouse is in use."""

    def get_widget_at(self, x: int, y: int) -> tuple[Widget, Region]:
        """The widget at a screen coordinate and its region; raises NoWidget where there is none or it was just removed."""
        widget, region = super().get_widget_at(x, y)
        if not self._is_here(widget):
            raise NoWidget(f"the widget at ({x}, {y}) was removed")
        return widget, region

    def get_widget_and_offset_at(self, x: int, y: int) -> tuple[Widget | None, Offset | None]:
        """The widget at a screen coordinate and the offset in its text; None where there is none or it was just removed."""
        try:
            self.get_widget_at(x, y)
        except NoWidget:
            return None, None
        return super().get_widget_and_offset_at(x, y)

    def _is_here(self, widget: Widget) -> bool:
        return widget is self or (widget.parent is not None and widget.is_attached)


class SafeScreen(GuardedScreen[None]):
    """The same for screens that end with nothing."""
