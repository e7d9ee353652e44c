"""The keys of the screens beside the chat, by the context in which they work; part of `tui.keys`, which lists every context.

A letter acts on the highlighted row; a row it cannot act on does not show it. Keys that Textual's lists bring (the cursor keys,
home, end, page up and down, enter) have no ids and are not listed.
"""

from collections.abc import Sequence

from textual.binding import Binding

BROWSE = (
    Binding("escape", "leave", "Back", id="browse_leave", tooltip="Give up what was begun, else go back"),
    Binding("slash", "narrow", "Narrow", id="browse_narrow", key_display="/", tooltip="Show only rows with the words typed"),
    Binding("f5", "reload", "Read anew", id="browse_reload", show=False, tooltip="Read everything anew"),
    Binding("left_square_bracket", "scroll(-1)", "Up", id="browse_up", show=False, key_display="[", tooltip="Scroll the text up"),
    Binding("right_square_bracket", "scroll(1)", "Down", id="browse_down", show=False, key_display="]", tooltip="Scroll it down"),
)

TRAINING = (
    Binding("t", "start", "Train", id="train_start", tooltip="Train by the highlighted recipe, with options that may be typed"),
    Binding("d", "dry", "Estimate", id="train_dry", tooltip="Check the data and estimate memory and time; nothing is trained"),
    Binding("p", "pause", "Pause", id="train_pause", tooltip="Stop after the step in hand with a checkpoint; memory is freed"),
    Binding("r", "resume", "Go on", id="train_resume", tooltip="Go on with a run that was paused or broke off"),
    Binding("k", "keep", "Stop and keep", id="train_keep", tooltip="End the training now; the best so far is judged and kept"),
)

REGISTRY = (
    Binding("p", "promote('champion')", "Promote", id="registry_promote", tooltip="Champion of its domain, if its gates let it"),
    Binding("c", "promote('canary')", "Canary", id="registry_canary", tooltip="A tenth of the conversations first, guarded"),
    Binding("s", "promote('staging')", "Staging", id="registry_staging", show=False, tooltip="Take it in as challenger"),
    Binding("b", "rollback", "Roll back", id="registry_rollback", tooltip="The champion before it answers again"),
    Binding(
        "o", "override", "Override", id="registry_override", show=False, tooltip="Promote past failed gates; the reason is kept"
    ),
    Binding(
        "e", "compare", "Compare", id="registry_compare", tooltip="Begin a blind side-by-side experiment with the champion or base"
    ),
    Binding("x", "end", "End it", id="registry_end", tooltip="End the highlighted experiment; what it has found stays"),
    Binding("w", "why", "History", id="registry_history", show=False, tooltip="Every transition of it: who, when and why"),
)

MODELS = (
    Binding("d", "default", "Set default", id="models_set_default", tooltip="Answer with it in new chats"),
    Binding("g", "pull", "Get", id="models_pull", tooltip="Download a model by its name, with progress"),
    Binding("p", "prepare", "Prepare", id="models_prepare", tooltip="Make the fastest form for this processor"),
    Binding("x", "remove", "Remove", id="models_remove", tooltip="Remove it from its engine's disk"),
    Binding("c", "stop", "Stop", id="models_stop", tooltip="Stop the download; getting it again goes on"),
)

SETTINGS = (
    Binding("e", "edit", "Change", id="settings_edit", tooltip="Change the value; what is wrong with it is said while one types"),
    Binding("u", "unset", "Default", id="settings_unset", tooltip="Take it out of settings.toml, so that its default holds"),
)

INSPECTOR = (
    Binding("x", "exclude", "Exclude", id="inspect_exclude", tooltip="Never train on this row; the same key takes that back"),
    Binding("d", "next_source", "Data", id="inspect_source", tooltip="The next domain or recipe whose rows are shown"),
    Binding("v", "view", "Kept/left out", id="inspect_view", tooltip="All rows, those that would train, those left out"),
)

MONITOR = (
    Binding("d", "days", "Days", id="monitor_days", tooltip="Look at another number of days"),
    Binding("h", "page", "Write page", id="monitor_page", tooltip="Write a page with plots"),
)

DOMAINS = (
    Binding("c", "check", "Check", id="domains_check", tooltip="Check the pack, file by file"),
    Binding("n", "example", "Next rows", id="domains_rows", tooltip="Show other rows of it"),
)

CONTEXTS: dict[str, Sequence[Binding]] = {
    "Rows and details": BROWSE,
    "Training": TRAINING,
    "Registry": REGISTRY,
    "Models": MODELS,
    "Settings": SETTINGS,
    "Training data": INSPECTOR,
    "Monitor": MONITOR,
    "Domains": DOMAINS,
}

TOGETHER = tuple(("Rows and details", name, "Anywhere") for name in CONTEXTS if name != "Rows and details")
"""Contexts whose keys work at the same time."""
