"""Whether this is a moment to learn by itself: enough is new, nobody chats, nothing else runs, and the machine is on mains power.

The load is the system's own average over one minute, per core. Power is told by /sys/class/power_supply (Linux, kernel document
sysfs-class-power); where nothing is told (a desktop, a container, another system) mains is taken for granted. Not covered: starting
it, which a timer does.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from data import domains
from data.errors import InputError
from tui.learn import dataset, enough, serving
from tui.learn import state as states

if TYPE_CHECKING:
    from data.store import Store


BUSY = 0.5
"""Load a core from which the machine is busy."""
QUIET = timedelta(minutes=10)
"""After the last turn of any conversation, for which a chat is taken to be open."""
SUPPLIES = Path("/sys/class/power_supply")
NICE = 10
"""Added to this process's niceness."""


def reason(store: "Store", supplies: Path = SUPPLIES) -> str:
    """Why this is no moment to learn, in words; "" where it is one."""
    return _answering(store) or _busy() or _battery(supplies)


def nothing_new(domain: str, store: "Store", least: int = 0) -> str:
    """Why a learn would have nothing to do, in words, as far as the log tells; "" where it has. One that broke off always has.

    Raises NotFound for an unknown domain.
    """
    pack = domains.load(domain)
    if states.unfinished(domain) is not None:
        return ""
    try:
        serving.require_free(store, domain, "canary")
    except InputError as fault:
        return fault.what
    source = dataset.said(store, pack)
    ended = [one for one in states.found(domain) if one.outcome in ("promoted", "failed")]
    if ended and (fresh := dataset.fresh(ended[-1].folder / states.SEEN, source)) < enough.FRESH:
        return f"{fresh} rows are new since {ended[-1].id}, and {enough.FRESH} are worth a learn"
    lessons = sum(row.thumb is not False for row in source.usable)
    asked = enough.wanted(enough.Volume(pack=sum(one.split == "train" for one in pack.examples)), least)
    thumbs = sum(row.thumb is not None for row in source.usable)
    return "" if lessons >= asked or thumbs >= enough.JUDGED else f"{lessons} of {asked} answers are liked or corrected"


def politely() -> None:
    """Let everything else go first from now on."""
    os.nice(NICE)


def _answering(store: "Store") -> str:
    now = datetime.now(UTC)
    newest = store.log.conversations(limit=1)
    if not newest:
        return ""
    since = now - newest[0].updated
    if since < QUIET:
        return f"a conversation went on {max(0, int(since.total_seconds() // 60))} minutes ago"
    return ""


def _busy() -> str:
    try:
        load = os.getloadavg()[0]
    except OSError:
        return ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"the machine is busy: load {load:.1f} on {cores} cores" if load / cores >= BUSY else ""


def _battery(supplies: Path) -> str:
    told = [(_read(one / "type"), _read(one / "online"), _read(one / "status")) for one in _listed(supplies)]
    mains = [online for kind, online, _ in told if kind in ("Mains", "USB", "Wireless") and online]
    if any(online == "1" for online in mains):
        return ""
    discharging = any(kind == "Battery" and status == "Discharging" for kind, _, status in told)
    off = any(kind == "Mains" and online == "0" for kind, online, _ in told)
    return "the machine runs on its battery" if discharging or off else ""


def _listed(supplies: Path) -> list[Path]:
    try:
        return sorted(supplies.iterdir())
    except OSError:
        return []


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
