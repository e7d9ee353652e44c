"""Every key of the chat in one place: id, default key, action and words, by the context in which the key works.

The ids are what `[tui.keymap]` in settings.toml names; help and footer are made from the same tables. Keys that Textual's
own widgets bring (cursor keys, ctrl+a, ctrl+z in the prompt) have no ids and are not listed.

Keys that act on typed text have no priority: Textual runs a priority binding at once, ahead of letters that were typed
before it and still wait for their widget.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from textual.binding import Binding

from tui import screen_keys
from tui.screens import SCREENS

ANYWHERE = (
    Binding("f1", "help", "Help", id="help", tooltip="What can be done here, with its keys"),
    Binding("ctrl+p", "command_palette", "Palette", id="palette", show=False, priority=True, tooltip="Every command by name"),
    Binding("ctrl+c", "interrupt", "Copy or interrupt", id="interrupt", show=False, tooltip="Copy, else interrupt; twice quits"),
    Binding("ctrl+q", "quit", "Quit", id="quit", show=False, priority=True, tooltip="Leave; what has arrived is kept"),
)

PROMPT = (
    Binding("enter", "send", "Send", id="send", tooltip="Ask; while an answer comes the question waits in line"),
    Binding("ctrl+j,alt+enter,shift+enter", "newline", "New line", id="newline", key_display="^j"),
)

FILES = (
    Binding("tab", "complete", "Take", id="complete_file", show=False, tooltip="Take the marked file after @"),
    Binding("escape", "leave_files", "Close", id="leave_files", show=False, tooltip="Put the list of files away"),
)

CHAT = (
    Binding("escape", "cancel", "Cancel", id="cancel", tooltip="Stop the answer (its text is kept), else deselect"),
    Binding("ctrl+n", "new_chat", "New", id="new_chat", tooltip="Begin a new chat"),
    Binding("ctrl+l", "models", "Model", id="models", tooltip="Choose the model of this chat"),
    Binding("f2", "mode", "Mode", id="mode", tooltip="Choose the way of reasoning, or the domain, for this chat"),
    Binding("shift+tab", "next_mode", "Next mode", id="next_mode", show=False, tooltip="Take the next way of reasoning"),
    Binding("ctrl+s,ctrl+r", "sessions", "Sessions", id="sessions", tooltip="Earlier chats, and search in all of them"),
    Binding("alt+up", "walk(-1)", "Answers", id="previous_block", tooltip="Select the message above, to rate, copy or edit it"),
    Binding("alt+down", "walk(1)", "Message below", id="next_block", show=False),
    Binding("ctrl+t", "thinking", "Thinking", id="thinking", show=False, tooltip="Show or hide the model's thinking"),
    Binding("ctrl+o", "details", "Details", id="details", show=False, tooltip="Open or fold thinking, steps, tools"),
    Binding("ctrl+b", "compare", "Compare", id="compare", show=False, tooltip="Two answers to what is typed, side by side, blind"),
    Binding(
        "alt+m",
        "mouse",
        "Mouse",
        id="mouse",
        show=False,
        tooltip="Leave the mouse to the terminal; again takes it back",
    ),
    Binding("alt+r", "resume", "Cut-off answer", id="resume", show=False, tooltip="Go back to the answer that a crash cut off"),
    *(
        Binding(f"alt+{number}", f"suggestion({number})", f"Suggestion {number}", id=f"suggestion_{number}", show=False)
        for number in range(1, 4)
    ),
    *(
        Binding(place.key, f"open('{name}')", place.title, id=f"open_{name}", show=False, tooltip=place.line)
        for name, place in SCREENS.items()
        if place.key
    ),
    Binding("alt+n", "incognito", "Incognito", id="incognito", show=False, tooltip="A chat that leaves no trace; again ends it"),
    Binding("ctrl+g", "editor", "Editor", id="editor", show=False, tooltip="Write the question in $EDITOR"),
    Binding("pageup", "page(-1)", "Page up", id="page_up", show=False, priority=True, tooltip="Scroll the chat up"),
    Binding("pagedown", "page(1)", "Page down", id="page_down", show=False, priority=True, tooltip="Scroll the chat down"),
    Binding("ctrl+end", "to_end", "To the end", id="to_end", show=False, priority=True, tooltip="Follow the newest text"),
    Binding("f5", "retry", "Retry", id="retry", tooltip="Open the log again"),
)

BLOCK = (
    Binding("c", "copy", "Copy", id="copy_block", tooltip="Copy the message"),
    Binding("e", "edit", "Edit", id="edit_block", tooltip="Correct an answer; ask a question again in other words"),
    Binding("r", "regenerate", "Again", id="regenerate", tooltip="Answer the question once more"),
    Binding("w", "why", "Why", id="why", tooltip="Why this model, domain and way of reasoning; a wrong route is told there"),
    Binding("g", "go_on", "Go on", id="go_on", show=False, tooltip="Have the rest of an answer that was cut off"),
    Binding("y", "copy_code", "Copy code", id="copy_code", show=False, tooltip="Copy the last block of code; again the one before"),
    Binding("o", "sources", "Sources", id="sources", show=False, tooltip="Open the lines that the answer cites"),
    Binding("s", "steps", "Steps", id="steps", show=False, tooltip="The steps of the answer: do one again, or change it and go on"),
    Binding("+", "rate(1)", "Good", id="rate_up", tooltip="A good answer"),
    Binding("-", "rate(-1)", "Bad", id="rate_down", tooltip="A bad answer"),
    *(Binding(str(stars), f"stars({stars})", f"{stars} of 5 stars", id=f"stars_{stars}", show=False) for stars in range(1, 6)),
    Binding("m", "comment", "Remark", id="comment", show=False, tooltip="Say something about the answer in words"),
    Binding("u", "undo", "Undo", id="undo_feedback", tooltip="Take back the last rating or correction of this answer"),
    Binding("f", "fork", "Fork", id="fork", show=False, tooltip="The next question follows this answer, beside what came after it"),
    Binding("t", "screen.tree", "Tree", id="tree", show=False, tooltip="Every version of every question and answer of this chat"),
    Binding("up", "screen.walk(-1)", "Message above", id="block_up", show=False),
    Binding("down", "screen.walk(1)", "Message below", id="block_down", show=False),
    Binding("<", "sibling(-1)", "Earlier version", id="previous_version", show=False),
    Binding(">", "sibling(1)", "Later version", id="next_version", show=False),
)

LIST = (
    Binding("up", "cursor(-1)", "Up", id="list_up", show=False),
    Binding("down", "cursor(1)", "Down", id="list_down", show=False),
    Binding("pageup", "page(-1)", "Page up", id="list_page_up", show=False),
    Binding("pagedown", "page(1)", "Page down", id="list_page_down", show=False),
    Binding("enter", "choose", "Choose", id="choose"),
    Binding("escape", "leave", "Back", id="leave"),
)

SESSIONS = (
    Binding("f2", "rename", "Rename", id="rename_session"),
    Binding("f3", "tag", "Tags", id="tag_session", tooltip="Words to find the chat by: tag:word"),
    Binding("ctrl+e", "save", "Export", id="save_session", tooltip="Write the chat to a file, as Markdown or JSON"),
    Binding("ctrl+d", "delete", "Delete", id="delete_session", tooltip="Asks once more before it deletes"),
)

CORRECTION = (
    Binding("ctrl+s", "save", "Save", id="save_correction", tooltip="Keep this as what the answer should have been"),
    Binding("escape", "leave", "Leave", id="leave_correction"),
)

APPROVAL = (
    Binding("escape", "refuse", "No", id="refuse", tooltip="The tool is not called, and the answer goes on"),
    Binding("left,up", "app.focus_previous", "Before", id="approval_previous", show=False),
    Binding("right,down", "app.focus_next", "Next", id="approval_next", show=False),
    Binding("pageup", "page(-1)", "Page up", id="approval_page_up", show=False),
    Binding("pagedown", "page(1)", "Page down", id="approval_page_down", show=False),
    Binding("ctrl+c", "app.interrupt", "Stop the answer", id="approval_interrupt", show=False),
    Binding("ctrl+q", "app.quit", "Quit", id="approval_quit", show=False),
)

WHY = (
    Binding("w", "wrong", "Wrong route", id="wrong_route", tooltip="Say which domain or way of reasoning was the right one"),
    Binding("escape,q", "leave", "Back", id="leave_why"),
)

STEPS = (
    Binding("r", "retry", "Do again", id="retry_step", tooltip="Do this step once more, then put the answer together anew"),
    Binding("e", "edit", "Change", id="edit_step", tooltip="Write this step in other words, and go on from it"),
    Binding("enter", "keep", "Go on", id="keep_step", show=False, tooltip="Go on with the step as it is written now"),
    Binding("escape", "leave", "Back", id="leave_steps"),
)

SOURCES = (
    Binding("left,up,p", "turn(-1)", "Before", id="source_before"),
    Binding("right,down,n", "turn(1)", "Next", id="source_next"),
    Binding("escape,q", "leave", "Back", id="leave_sources"),
)

TOUR = (
    Binding("enter,right,space", "turn(1)", "Next", id="tour_next", key_display="⏎"),
    Binding("left,backspace", "turn(-1)", "Before", id="tour_before"),
    Binding("escape,q", "leave", "Leave", id="leave_tour"),
)

ROUTE = (Binding("ctrl+s", "save", "Save", id="save_route", tooltip="Keep what is marked as the right route"),)

LINE = (
    Binding("enter", "keep", "Keep", id="keep_line"),
    Binding("escape", "leave", "Leave", id="leave_line"),
)

PAIR = (
    Binding("left,1", "pick('left')", "Left is better", id="pick_left"),
    Binding("right,2", "pick('right')", "Right is better", id="pick_right"),
    Binding("t,equals_sign", "pick('tie')", "As good", id="pick_tie", key_display="t"),
    Binding("up", "scroll(-1)", "Scroll up", id="pair_up", show=False),
    Binding("down", "scroll(1)", "Scroll down", id="pair_down", show=False),
    Binding("pageup", "page(-1)", "Page up", id="pair_page_up", show=False),
    Binding("pagedown", "page(1)", "Page down", id="pair_page_down", show=False),
    Binding("enter", "done", "Go on", id="pair_done", tooltip="Go on with the better answer"),
    Binding("escape", "leave", "Leave", id="leave_pair", tooltip="Stop both answers; nothing is said about them"),
)

HELP = (Binding("escape,f1,q", "app.pop_screen", "Back", id="leave_help"),)

CONTEXTS: dict[str, Sequence[Binding]] = {
    "Prompt": PROMPT,
    "A file after @": FILES,
    "Chat": CHAT,
    "A selected message": BLOCK,
    "Lists": LIST,
    "Sessions": SESSIONS,
    "Correcting an answer": CORRECTION,
    "A tool that asks": APPROVAL,
    "Why this route": WHY,
    "A wrong route": ROUTE,
    "Steps of an answer": STEPS,
    "Cited lines": SOURCES,
    "Tour": TOUR,
    "One line": LINE,
    "Two answers": PAIR,
    "Help": HELP,
    **screen_keys.CONTEXTS,
    "Anywhere": ANYWHERE,
}


TOGETHER = (
    ("Prompt", "A file after @"),
    ("Prompt", "Chat", "A selected message", "Anywhere"),
    ("Lists", "Sessions", "Anywhere"),
    ("Lists", "A wrong route", "Anywhere"),
    ("Correcting an answer", "Anywhere"),
    ("A tool that asks",),
    ("Why this route", "Anywhere"),
    ("Steps of an answer", "Anywhere"),
    ("Cited lines", "Anywhere"),
    ("Tour", "Anywhere"),
    ("Two answers", "Anywhere"),
    ("One line", "Anywhere"),
    *screen_keys.TOGETHER,
)
"""Contexts whose keys work at the same time."""


def ids() -> list[str]:
    """Every binding id, for `[tui.keymap]`."""
    return [binding.id for bindings in CONTEXTS.values() for binding in bindings if binding.id]


def complaints(keymap: Mapping[str, str]) -> list[str]:
    """One line about each id of `keymap` that no binding has, and about each key that it gives to a second binding."""
    lines = []
    known = ids()
    for name in keymap:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)
            lines.append(f"tui.keymap: there is no key named {name!r}; did you mean {near[0]!r}?")
    for contexts in TOGETHER:
        owners: dict[str, str] = {}
        for binding in (binding for context in contexts for binding in CONTEXTS[context]):
            name = binding.id or ""
            for key in keymap.get(name, binding.key).split(","):
                other = owners.setdefault(key.strip(), name)
                if other != name and {other, name} & set(keymap):
                    lines.append(f"tui.keymap: {key.strip()!r} is the key of {other} and of {name}; one of them will not work")
    return list(dict.fromkeys(lines))
