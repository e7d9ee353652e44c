"""From sources to a dataset folder: train.jsonl, validation.jsonl, test.jsonl, quarantine.jsonl, manifest.json and card.html.

Three passes with flat memory: rows are read, cleaned, redacted, given reasoning and judged, one at a time; then duplicates,
contradictions and splits are decided from about 80 bytes a row; then the files are written beside `out` and get their name at once.
Nothing is dropped silently: read = kept + quarantined + duplicates. The same inputs give the same bytes, in any folder. A build
that is killed leaves nothing under the final name. Not covered: reading sources (`sources`), the command line (`tui`).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from data.datasets import card, manifest
from data.datasets._building.folder import building
from data.datasets._building.reading import QUARANTINE, Progress, Quarantine, Reading
from data.datasets.chains import Teacher
from data.datasets.formats import ROWS, Formatter
from data.datasets.manifest import ChainCounts, Counts, Lengths, Manifest
from data.domains import Domain
from data.errors import InputError, PointsmanError

if TYPE_CHECKING:
    from data.datasets._building.deciding import Fate
    from data.datasets._building.writing import Written

CHAT = "chat"
"""The name of a dataset without a domain."""
SMALL_CLASS = 20
"""Training rows of a label below which the card warns."""
MOST_LABELS = 1_000
"""That a manifest counts one by one."""
MOST_WARNINGS = 10
"""Of one kind."""
UNEVEN = 10.0
"""Times the largest class may be the smallest before the card warns."""
_MADE_WITH = ("pointsman", "datasketch", "presidio-analyzer", "detect-secrets", "pyarrow", "matplotlib")


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a dataset is built. shares: of training, validation and test; deny: words to redact wherever they stand; rename: labels
    of the sources and what the domain calls them.

    max_tokens: rows with more are refused, or their text is cut (overlong), 0 for no limit; it needs count_tokens, the tokens of a
    text by `tokenizer`. chains: reasoning for labelled rows without it, from the knowledge base or from `teacher`, a model by the
    name of teacher_name. force: replace a dataset that is there.
    """

    format: str = ROWS
    seed: int = 0
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1)
    redact: bool = True
    deny: tuple[str, ...] = ()
    region: str = ""
    rename: tuple[tuple[str, str], ...] = ()
    max_tokens: int = 0
    overlong: Literal["refuse", "truncate_prompt"] = "refuse"
    count_tokens: Callable[[str], int] | None = None
    tokenizer: str = ""
    chains: Literal["none", "knowledge base", "teacher"] = "none"
    teacher: Teacher | None = None
    teacher_name: str = ""
    force: bool = False

    def described(self) -> dict[str, Any]:
        """What can change the bytes of the dataset, as plain JSON; denied words by their number and a digest."""
        denied = hashlib.sha256("\n".join(self.deny).encode("utf-8", "surrogatepass")).hexdigest() if self.deny else ""
        return {
            "shares": list(self.shares),
            "redact": self.redact,
            "deny": {"words": len(self.deny), "sha256": denied},
            "region": self.region,
            "rename": dict(self.rename),
            "max_tokens": self.max_tokens,
            "overlong": self.overlong,
            "tokenizer": self.tokenizer,
            "chains": self.chains,
            "teacher": self.teacher_name,
        }


def build(
    sources: Iterable[Any],
    domain: Domain | None,
    out: Path,
    options: BuildOptions = BuildOptions(),
    progress: Progress = lambda step, done, of: None,
) -> Manifest:
    """Build the dataset `out` and return its manifest.

    Raises InputError where `out` is there already, the options contradict each other, a source or a library is missing, or no row
    is left; NotFound for an unknown format. A fault or an interrupt leaves nothing behind.
    """
    _check(options, domain)
    formatter = Formatter(domain, options.format)
    with building(out, options.force) as place:
        try:
            reading, fate, written, quarantine = _passes(sources, domain, options, formatter, place.work, place.made, progress)
        except ImportError as error:
            raise InputError(f"preparing data needs {error.name or 'more packages'}", "pip install 'pointsman[data]'") from error
        progress("writing the card", 0, 0)
        made = _manifest(domain, options, formatter, reading, fate, written, quarantine)
        page = card.card(made, written.examples, _measures(options, written))
        (place.made / card.FILE).write_bytes(page.encode("utf-8", "xmlcharrefreplace"))
        notes = tuple(manifest.note_of(file) for file in sorted(place.made.iterdir()))
        made = made.model_copy(update={"files": notes})
        _assert_sums(made)
        (place.made / manifest.FILE).write_bytes(made.to_bytes())
        place.publish()
    return made


def _passes(
    sources: Iterable[Any],
    domain: Domain | None,
    options: BuildOptions,
    formatter: Formatter,
    work: Path,
    made: Path,
    progress: Progress,
) -> "tuple[Reading, Fate, Written, Quarantine]":
    from data.datasets._building import deciding, writing
    from data.datasets.duplicates import Signatures

    reading = Reading(domain, options)
    with closing(Signatures(work / "signatures", options.seed)) as signatures, Quarantine(made / QUARANTINE) as quarantine:
        reading.read(sources, work, signatures, quarantine, progress)
        if not reading.sources:
            raise InputError("there is no source to build from", "--source FILE, or --log")
        size = (work / "rows.jsonl").stat().st_size
        groups = signatures.finish(lambda done, of: progress("finding duplicates", size * done / max(of, 1), size))
        progress("deciding the splits", 0, 0)
        fate = deciding.decide(reading.facts, groups, options.shares, options.seed)
        written = writing.write(reading.facts, fate, formatter, work, made, quarantine, progress)
        if not written.by_split:
            raise InputError(
                f"none of the {sum(one.rows for one in reading.sources)} rows is left: {quarantine.summary()}",
                "the first reason says what is missing; another --format or --chains may do",
            )
    return reading, fate, written, quarantine


def _check(options: BuildOptions, domain: Domain | None) -> None:
    if options.max_tokens and options.count_tokens is None:
        raise InputError("a limit in tokens needs a tokenizer", "give a model whose tokens are counted")
    if options.chains != "none" and domain is None:
        raise InputError("reasoning chains need a domain with labels", "name a domain, or leave --chains out")
    if options.chains == "teacher" and options.teacher is None:
        raise InputError("no teacher model was given", "--chains teacher:ENGINE/MODEL")
    if options.chains == "knowledge base" and domain is not None and not (domain.folder / "indicators.toml").is_file():
        raise InputError(f"the domain {domain.name} has no knowledge base (indicators.toml)", "use --chains teacher:ENGINE/MODEL")


def _manifest(
    domain: Domain | None,
    options: BuildOptions,
    formatter: Formatter,
    reading: Reading,
    fate: "Fate",
    written: "Written",
    quarantine: Quarantine,
) -> Manifest:
    counts = Counts(
        read=sum(source.rows for source in reading.sources),
        kept=written.by_split.total(),
        quarantined=quarantine.by_filter.total(),
        exact_duplicates=quarantine.duplicates["exact duplicate"],
        near_duplicates=quarantine.duplicates["near duplicate"],
        truncated=reading.truncated,
        by_filter=dict(quarantine.by_filter),
        by_split=dict(written.by_split),
        by_label=_by_label(written),
        by_shape=dict(written.by_shape),
        lines={name: written.lines[name] for name in ("train", "validation", "test")},
        cleaned=dict(reading.cleaner.counts),
    )
    chains = reading.chains.counts if reading.chains else {}
    return Manifest(
        name=domain.name if domain else CHAT,
        domain=domain.name if domain else "",
        domain_sha256=_pack_digest(domain) if domain else "",
        format=formatter.fmt,
        seed=options.seed,
        options=options.described(),
        made_with=_versions(),
        sources=tuple(reading.sources),
        counts=counts,
        redactions=dict(reading.redactions),
        lengths=tuple(_lengths(unit, values) for unit, values in _measures(options, written).items()),
        chains=ChainCounts(
            by_source=dict(written.chains),
            by_model=dict(written.models),
            refused=sum(count for name, count in chains.items() if name.endswith("refused")),
        ),
        licences=dict(written.licences),
        warnings=tuple(_warnings(domain, options, counts, fate, formatter, reading)),
    )


def _warnings(
    domain: Domain | None, options: BuildOptions, counts: Counts, fate: "Fate", formatter: Formatter, reading: Reading
) -> list[str]:
    found = [] if options.redact else ["personal data and secrets were not redacted"]
    found += [f"the {name} split is empty" for name in ("train", "validation", "test") if not counts.by_split.get(name)]
    train = {label: splits.get("train", 0) for label, splits in counts.by_label.items()}
    if domain and counts.by_label:
        found += _listed([f"no row has the label {label}" for label in domain.labels if label not in train])
    found += _listed(
        [f"the label {label} has {count} training rows" for label, count in sorted(train.items()) if count < SMALL_CLASS]
    )
    if train and max(train.values()) > UNEVEN * max(min(train.values()), 1):
        found.append(
            f"the largest class has {max(train.values())} training rows, the smallest {min(train.values())}: weigh the classes"
        )
    if fate.moved:
        found.append(f"{fate.moved} rows stand in another split than their source says: they are too close to rows there")
    if fate.completed:
        found.append(f"{fate.completed} training rows of the source were taken for a split that it left empty")
    found += [f"{source.name} states no licence" for source in reading.sources if not source.licence]
    if reading.chains and (failed := reading.chains.counts["teacher failed"]):
        found.append(f"the teacher failed to answer {failed} times")
    found += [
        f"{count} rows with a label alone got their {name} from the pack's examples of that label"
        for name, count in sorted(formatter.completed.items())
    ]
    return found


def _listed(warnings: list[str]) -> list[str]:
    """The first of many warnings of one kind, and how many more there are."""
    more = len(warnings) - MOST_WARNINGS
    return warnings if more <= 0 else [*warnings[:MOST_WARNINGS], f"{warnings[MOST_WARNINGS]}, and so on: {more} labels in all"]


def _by_label(written: "Written") -> dict[str, dict[str, int]]:
    """Rows by label and split; beyond MOST_LABELS the rarest are one."""
    ranked = sorted(written.by_label.items(), key=lambda item: (-item[1].total(), item[0]))
    found = {label: dict(splits) for label, splits in ranked[:MOST_LABELS]}
    if rest := ranked[MOST_LABELS:]:
        found[f"({len(rest)} other labels)"] = dict(sum((splits for _, splits in rest), Counter[str]()))
    return found


def _measures(options: BuildOptions, written: "Written") -> dict[str, Sequence[int]]:
    found: dict[str, Sequence[int]] = {"characters": written.characters}
    return found | ({"tokens": written.tokens} if options.count_tokens else {})


def _lengths(unit: str, values: Sequence[int]) -> Lengths:
    import numpy as np

    quantiles = np.quantile(np.asarray(values), manifest.QUANTILES, method="nearest")
    found = {f"{share:g}": float(value) for share, value in zip(manifest.QUANTILES, quantiles, strict=True)}
    return Lengths(unit=unit, mean=round(float(np.mean(np.asarray(values))), 3), quantiles=found)


def _assert_sums(made: Manifest) -> None:
    """Nothing was dropped silently; a build whose counts do not add up is never published."""
    faults = made.counts.faults()
    lines = {note.name: note.rows for note in made.files}
    faults += [
        f"{split}.jsonl has {lines[f'{split}.jsonl']} lines, not {count}"
        for split, count in made.counts.lines.items()
        if lines[f"{split}.jsonl"] != count
    ]
    refused = made.counts.read - made.counts.kept
    if lines[QUARANTINE] != refused:
        faults.append(f"{QUARANTINE} has {lines[QUARANTINE]} lines, not {refused}")
    if faults:
        raise PointsmanError(f"the counts of this build do not add up: {'; '.join(faults)}", "please report it")


def _pack_digest(domain: Domain) -> str:
    """SHA-256 over the names and contents of the files that decide what a row must be and how it is asked."""
    sha = hashlib.sha256()
    for name in ("domain.toml", "examples.jsonl", "indicators.toml", "schema.json"):
        file = domain.folder / name
        content = file.read_bytes() if file.is_file() else b""
        sha.update(f"{name} {len(content)}\n".encode() + content)
    return sha.hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in _MADE_WITH:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
