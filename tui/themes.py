"""Themes beside Textual's own: high contrast, dark and light. `ansi-dark` and `ansi-light` take the terminal's own colours.

Every colour of text has a contrast of 7:1 or more to its background, which is what WCAG 2.2 calls AAA. Not covered: which
theme is used (`tui.theme` in the settings).
"""

from typing import Final

from textual.theme import Theme

OWN: Final = (
    Theme(
        name="high-contrast-dark",
        primary="#ffd700",
        secondary="#00ffff",
        accent="#66ff66",
        warning="#ffb000",
        error="#ff9090",
        success="#66ff66",
        foreground="#ffffff",
        background="#000000",
        surface="#000000",
        panel="#1a1a1a",
        dark=True,
        variables={
            "foreground-muted": "#d0d0d0",
            "text-muted": "#d0d0d0",
            "text-primary": "#ffd700",
            "text-secondary": "#00ffff",
            "text-accent": "#66ff66",
            "text-warning": "#ffb000",
            "text-error": "#ff9090",
            "text-success": "#66ff66",
        },
    ),
    Theme(
        name="high-contrast-light",
        primary="#00007a",
        secondary="#004d4d",
        accent="#5c005c",
        warning="#5a3a00",
        error="#8a0000",
        success="#004d00",
        foreground="#000000",
        background="#ffffff",
        surface="#ffffff",
        panel="#eeeeee",
        dark=False,
        variables={
            "foreground-muted": "#303030",
            "text-muted": "#303030",
            "text-primary": "#00007a",
            "text-secondary": "#004d4d",
            "text-accent": "#5c005c",
            "text-warning": "#5a3a00",
            "text-error": "#8a0000",
            "text-success": "#004d00",
        },
    ),
)
