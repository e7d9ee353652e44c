"""A tool's wish on the screen: at most one, for as long as its answer is wanted. Not covered: the dialog's looks."""

from textual.app import App

from tui.turns import Asked


class Approvals:
    """Opens the dialog for a wish and closes it when the answer is not wanted any more."""

    def __init__(self) -> None:
        self._dialog: object | None = None

    def open(self, app: App[None], asked: Asked) -> None:
        """Ask the user; the answer's thread goes on with what was said."""
        from tui.screens.approval import ApprovalScreen

        self._dialog = dialog = ApprovalScreen(asked.wish)

        def answered(answer: "str | None") -> None:
            self._dialog = None
            asked.answer("always" if answer == "always" else "once" if answer == "once" else "no")

        app.push_screen(dialog, answered)

    def close(self, app: App[None]) -> None:
        """The answer was stopped: its thread has its "no" already."""
        if self._dialog is not None and app.screen is self._dialog:
            app.pop_screen()
        self._dialog = None
