"""Where data sets come from: files, the hub, folders of code and documentation, and the interaction log. The door is here.

    open_source("train.csv")                       CSV, TSV, JSONL, JSON, Parquet
    open_source("hf:owner/name@revision#config/split")
    open_source("path/to/project")                 functions, explanations and sections with their licences
    from_log(store, "triage")                      what was said about answers
    approved(store)                                the answers that the user approved, one row each

A source streams: `rows` gives every record as a Row, or as Refused with the reason, in the same order each time and in the memory
of one record. Nothing is executed, unpickled or followed out of a folder. Not covered: judging texts (`clean`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data.datasets._sources.base import Progress, Source, Turns, silent
from data.datasets._sources.files import FORMATS, open_file
from data.datasets._sources.licences import permissive
from data.datasets._sources.shapes import Shaper
from data.errors import InputError
from data.sanitise import one_line

if TYPE_CHECKING:  # the database's libraries load when a store is opened, not before
    from data.store import Store

__all__ = ["HUB", "KINDS", "Licences", "Progress", "Source", "Turns", "approved", "from_log", "open_source", "silent"]

HUB = "hf:"
KINDS = (*dict.fromkeys(FORMATS.values()), "folder", "hub")
Licences = Literal["", "permissive"]
"""Which licences a source may have; "" is any, and rows say theirs in their origin."""


def open_source(
    given: str,
    *,
    text_column: str = "",
    label_column: str = "",
    licence: str = "",
    kind: str = "",
    licences: Licences = "",
    turns: Turns = "last",
    labelled: bool = False,
) -> Source:
    """The source that a user names by a path or hub id.

    text_column and label_column name columns or keys (numbers from 1 in a table without a header) and make every record a
    labelled text; licence: the SPDX name of what has none of its own; kind: one of KINDS where the name does not tell; licences:
    "permissive" keeps out what has another licence or none; labelled: a table without a label column is an error.
    Raises InputError where it cannot be read or is of no known kind, Offline for a hub id where the network is forbidden.
    """
    if kind not in ("", *KINDS):
        raise InputError(f"{one_line(kind, 40)!r} is no kind of source", f"use one of {', '.join(KINDS)}")
    shaper = Shaper(text_column, label_column, licence, turns)
    if kind == "hub" or given.startswith(HUB):
        from data.datasets._sources.hub import open_hub

        return open_hub(given.removeprefix(HUB), shaper, licences, labelled)
    path = _existing(given)
    if kind == "folder" or path.is_dir():
        if kind not in ("", "folder") or not path.is_dir():
            raise InputError(
                f"{one_line(given, 200)} is {'a' if path.is_dir() else 'no'} folder", "name a file, or leave out the kind"
            )
        from data.datasets._sources.folder import FolderSource

        return FolderSource(path.resolve(), path.resolve().name, licence, licences)
    source = open_file(path, shaper, kind, labelled=labelled)
    if licences == "permissive" and not permissive(licence):
        said = f"the licence of {one_line(given, 200)} is {one_line(licence, 60) or 'not known'}"
        raise InputError(f"{said}, and only permissive ones are allowed", "say its licence, or allow any")
    return source


def from_log(store: "Store", domain: str = "", *, chats: bool = False, whole: bool = False) -> Source:
    """What was said about answers in the log, in one domain or ("") in all; chats: a liked answer is a chat row as well.

    whole: with the answers that the user keeps out of training, which are refused otherwise.
    """
    from data.datasets._sources.log import LogSource

    return LogSource(store, domain, chats, whole=whole)


def approved(store: "Store", domain: str = "") -> Source:
    """The user's own approved answers in the log, redacted: those of a domain, or ("") those of all but under output contracts."""
    from data.datasets._sources.approved import ApprovedSource

    return ApprovedSource(store, domain)


def _existing(given: str) -> Path:
    try:
        path = Path(given).expanduser()
        there = path.exists()
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{one_line(given, 200)!r} is no path: {one_line(str(error), 100)}", "check the name") from error
    if not there:
        raise InputError(
            f"there is no file or folder {one_line(given, 200)}", "check the path; a data set of the hub is hf:owner/name"
        )
    return path
