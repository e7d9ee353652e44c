"""Every action of the chat by name: what the palette lists, and what a line that begins with a slash runs.

A command acts on the selected answer, or on the last one. Not covered: what the actions do (`tui.screens`, `tui.widgets`).
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from tui.screens import SCREENS

Target = Literal["app", "chat", "conversation"]


@dataclass(frozen=True, slots=True)
class Command:
    """title and line: for the palette; action: a method of the target is `action_` and this, with what parameters; takes: what
    may be typed behind the name, as a method `typed_` and the command's name of the chat takes it."""

    name: str
    title: str
    line: str
    target: Target
    action: str
    parameters: tuple[object, ...] = ()
    takes: str = ""


COMMANDS: Final = (
    Command("new", "New chat", "Begin a new chat", "chat", "new_chat"),
    Command("chats", "Sessions", "Earlier chats, and search in all of them", "chat", "sessions"),
    Command("model", "Model", "Choose the model of this chat", "chat", "models", takes="MODEL"),
    Command("mode", "Mode", "Choose the way of reasoning of this chat, or its domain", "chat", "mode", takes="MODE"),
    Command("compare", "Compare", "Two answers to what is typed, side by side, blind", "chat", "compare", takes="QUESTION"),
    Command("tree", "Tree", "Every version of every question and answer of this chat", "chat", "tree"),
    Command("title", "Rename chat", "Give this chat another title, or tags", "chat", "rename_chat", takes="TITLE"),
    Command("export", "Export chat", "Write this chat to a file, as Markdown or JSON", "chat", "save_chat", takes="FILE"),
    Command("incognito", "Incognito", "A chat that leaves no trace; again ends it", "chat", "incognito"),
    Command("resume", "Cut-off answer", "Go back to the answer that a crash cut off", "chat", "resume"),
    Command("why", "Why", "Why the last answer took its route; a wrong route is told there", "conversation", "why"),
    Command("good", "Rate good", "The last answer is good", "conversation", "rate", (1,)),
    Command("bad", "Rate bad", "The last answer is bad", "conversation", "rate", (-1,)),
    Command("remark", "Remark", "Say something about the last answer in words", "conversation", "comment"),
    Command("correct", "Correct", "Write what the last answer should have been", "conversation", "edit"),
    Command("undo", "Undo feedback", "Take back the last rating or correction", "conversation", "undo"),
    Command("again", "Answer again", "Give the last answer once more", "conversation", "regenerate"),
    Command("continue", "Go on", "Have the rest of an answer that was cut off", "conversation", "go_on"),
    Command("steps", "Steps", "Do a step of a multi-step answer again, or change it", "conversation", "steps"),
    Command("fork", "Fork", "The next question follows the selected answer", "conversation", "fork"),
    Command("sources", "Sources", "Open the lines that the last answer cites", "conversation", "sources"),
    Command("copy", "Copy answer", "Copy the last answer", "conversation", "copy"),
    Command("code", "Copy code", "Copy the last block of code of the last answer", "conversation", "copy_code"),
    Command("details", "Details", "Open or fold thinking, steps, tools and the route", "chat", "details"),
    Command("thinking", "Thinking", "Show or hide the model's thinking", "chat", "thinking"),
    Command("editor", "Editor", "Write the question in $EDITOR", "chat", "editor"),
    Command("mouse", "Mouse", "Leave the mouse to the terminal, to select and copy; again takes it", "chat", "mouse"),
    Command("tour", "Tour", "What this can do, in a minute", "chat", "tour"),
    *(Command(name, place.title, place.line, "chat", "open", (name,)) for name, place in SCREENS.items()),
    Command("theme", "Theme", "Change the colours, and keep the choice", "app", "change_theme", takes="THEME"),
    Command("help", "Help", "Show the keys that work here", "app", "help"),
    Command("quit", "Quit", "Leave; what has arrived is kept", "app", "quit"),
)
"""In the order of the palette."""
BY_NAME: Final = {command.name: command for command in COMMANDS}
_WRITTEN: Final = re.compile(r"/([a-z][a-z-]*)(?:\s+(.*))?", re.DOTALL)
_TYPED: Final = re.compile(r"/([a-z-]*)")


def typed(text: str) -> str | None:
    """The beginning of a command that is being typed, "" for a slash alone; None for anything else."""
    found = _TYPED.fullmatch(text)
    return found[1] if found else None


def matching(beginning: str) -> list[str]:
    """The commands that it may become: those that begin so before those that contain it."""
    names = [name for name in BY_NAME if beginning in name]
    return sorted(names, key=lambda name: not name.startswith(beginning))[:8]


def written(text: str) -> tuple[str, str] | None:
    """The name and what is typed behind it, where a text is a command, known or not; None where it is a question.

    `/etc/hosts` is a question, and so is a command behind a space.
    """
    found = _WRITTEN.fullmatch(text.rstrip())
    if found is None or ("\n" in text.strip() and found[1] not in BY_NAME):
        return None
    return found[1], (found[2] or "").strip()
