"""The monitor: how each model did in each domain over the last days, beside its own 30 days before, and what is worth an alarm.

    found = monitor.look(database, days=7)
    for alarm in found.alarms: print(alarm.line)
Alarms are e-values against the model's own baseline, whose rates are taken as unknown too, and all of one look are judged
together (`statistics.discoveries`): where nothing has changed, one look in twenty raises any at most, however often one looks
at the same days. Answers count as independent, which those of one conversation are not quite. Not covered: reading the log
(data/store/measures.py), showing the report (tui/commands/monitor.py).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from data import statistics
from data.sanitise import one_line
from data.store import measures
from data.store.database import Database
from data.store.measures import Figures, Known, Measured

DAYS = 7
BASELINE_DAYS = 30
"""Days before those that are looked at, against which they are held."""
CANNOT_KNOW = (
    "refusals are guessed from the first words of answers in English; other languages and later refusals are not seen",
    "thumbs and stars come from those who cared to give them: read them beside the share of rated answers",
    "a conversation that was given up leaves no trace, so it is not counted",
    "memory, the version of a server such as Ollama, and whether a tool's call was sensible are not in the log",
)
"""What the log does not tell, said in every report."""


@dataclass(frozen=True, slots=True)
class Row:
    """A model in a domain: its figures now and in the baseline. version: what the registry knows of it; None: nothing."""

    model: str
    domain: str
    version: Known | None
    now: Figures
    before: Figures


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that got worse: shares or geometric means before and now, over how many answers each.

    limit: the e-value that had to be reached in this look. line: the alarm in one line, safe to show.
    """

    model: str
    domain: str
    what: str
    before: float
    now: float
    answers_before: int
    answers: int
    e_value: float
    limit: float
    line: str


@dataclass(frozen=True, slots=True)
class Drift:
    """The mix of domains of the questions, now and before. index: their population stability index; by_chance: what it stays
    below with 95 % probability where nothing has changed, with as few questions."""

    now: Mapping[str, int]
    before: Mapping[str, int]
    index: float
    by_chance: float

    @property
    def warns(self) -> bool:
        """Whether it is another mix, and not by chance."""
        return self.index > max(statistics.DRIFTED, self.by_chance)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the log. days: the figures of each day (`Measured.day`) of the whole span, by model and domain, empty unless
    asked for; drift is None where there were no questions now or before."""

    since: datetime
    until: datetime
    baseline: datetime
    rows: tuple[Row, ...]
    days: Mapping[tuple[str, str], Mapping[int, Figures]]
    alarms: tuple[Alarm, ...]
    looked_at: int
    drift: Drift | None
    unknown: tuple[str, ...]


def look(database: Database, *, days: int = DAYS, domain: str = "", now: datetime | None = None, by_day: bool = False) -> Look:
    """How things stand in the last `days`, in one domain or in all; the drift of the mix is always that of all.

    Raises StoreError and its children.
    """
    until = now or datetime.now(UTC) + timedelta(milliseconds=1)  # so that what was asked just now is inside
    since = until - timedelta(days=days)
    baseline = since - timedelta(days=BASELINE_DAYS)
    read = measures.answers(database, baseline, until)
    known = measures.versions(database)
    border = f"{int(since.timestamp() * 1000):012x}"
    groups: dict[tuple[str, str], tuple[list[Measured], list[Measured]]] = defaultdict(lambda: ([], []))
    for one in read:
        if not domain or one.domain == domain:
            groups[one.model, one.domain][one.id >= border].append(one)
    order = sorted((key for key in groups if groups[key][1]), key=lambda key: (-len(groups[key][1]), key))
    rows = [Row(*key, known.get(key[0]), measures.figures(groups[key][1]), measures.figures(groups[key][0])) for key in order]
    asked = [one for key in order for one in _compared(*key, *groups[key])]
    return Look(
        since,
        until,
        baseline,
        tuple(rows),
        {key: _by_day([*groups[key][0], *groups[key][1]]) for key in order} if by_day else {},
        tuple(_raised(asked)),
        len(asked),
        _drift([one for one in read if one.id < border], [one for one in read if one.id >= border]),
        (*CANNOT_KNOW, *_gaps(rows)),
    )


_Share = tuple[str, str, Callable[[Measured], bool], Callable[[Measured], bool]]
_SHARES: tuple[_Share, ...] = (
    ("thumbs_down", "thumbs down", lambda one: one.thumb < 0, lambda one: bool(one.thumb)),
    ("regenerated", "answers asked again", lambda one: one.regenerated, lambda one: not one.stopped),
    ("failed", "errors and interruptions", lambda one: one.failed, lambda one: not one.stopped),
    ("truncated", "truncated answers", lambda one: one.truncated, lambda one: not one.stopped),
    ("empty", "empty answers", lambda one: one.empty, lambda one: one.whole),
    ("refused", "refusals (guessed)", lambda one: one.refused, lambda one: one.whole),
    ("json_invalid", "invalid JSON", lambda one: not one.valid_json, lambda one: one.valid_json is not None),
)
"""Name, words, whether an answer is a case of it, and whether it could have been."""


def _compared(model: str, domain: str, before: Sequence[Measured], now: Sequence[Measured]) -> list[Alarm]:
    """Every question that both spans have answers to, as the alarm that it may become."""
    found = []
    for what, words, case, could in _SHARES:
        old, new = ([case(one) for one in rows if could(one)] for rows in (before, now))
        if old and new:
            e_value = statistics.two_arms(sum(old), len(old), sum(new), len(new))
            shares = sum(old) / len(old), sum(new) / len(new)
            said = f"{words} rose from {shares[0]:.1%} to {shares[1]:.1%}"
            found.append(_alarm(model, domain, what, shares, (len(old), len(new)), e_value, said))
    found += _means(model, domain, "ttft_s", [one.ttft_s for one in _whole(before)], [one.ttft_s for one in _whole(now)])
    return found + _means(model, domain, "tokens", [one.tokens for one in _whole(before)], [one.tokens for one in _whole(now)])


def _means(model: str, domain: str, what: str, before: Sequence[float], now: Sequence[float]) -> list[Alarm]:
    """Whether the time to the first token rose, or the length changed; both by their logarithms, without what is not positive."""
    old, new = ([math.log(value) for value in values if value > 0] for values in (before, now))
    if not old or not new:
        return []
    means = math.exp(math.fsum(old) / len(old)), math.exp(math.fsum(new) / len(new))
    e_value = statistics.normal_mixture(new, old)
    if what == "ttft_s":
        e_value = e_value if means[1] > means[0] else 0.0  # a faster model is no alarm
        said = f"time to first token rose from {means[0]:.2f} s to {means[1]:.2f} s"
    else:
        said = f"answers {'rose' if means[1] > means[0] else 'fell'} from {means[0]:.0f} to {means[1]:.0f} tokens"
    return [_alarm(model, domain, what, means, (len(old), len(new)), e_value, said)]


def _alarm(
    model: str, domain: str, what: str, values: tuple[float, float], answers: tuple[int, int], e_value: float, said: str
) -> Alarm:
    """Values and numbers of answers before and now, as an alarm whose limit is not known yet."""
    where = f"{one_line(model, 60)} in {one_line(domain, 40) or 'no domain'}"
    over = f"over {answers[1]:,} answers ({answers[0]:,} before)"
    return Alarm(model, domain, what, *values, *answers, e_value, math.inf, f"{where}: {said} {over}, e-value {_shown(e_value)}")


def _raised(asked: Sequence[Alarm]) -> Iterable[Alarm]:
    chosen = statistics.discoveries([one.e_value for one in asked])
    limit = statistics.SIGNIFICANT * len(asked) / max(len(chosen), 1)
    return (replace(asked[place], limit=limit) for place in chosen)


def _shown(e_value: float) -> str:
    return f"{e_value:,.0f}" if e_value < 1e6 else f"{e_value:.0e}"


def _drift(before: Iterable[Measured], now: Iterable[Measured]) -> Drift | None:
    """Each question counts once, as its last answer was routed."""
    old, new = (Counter({one.question: one.domain for one in rows}.values()) for rows in (before, now))
    if not old or not new:
        return None
    return Drift(dict(new), dict(old), statistics.psi(new, old), statistics.psi_by_chance(new, old))


def _by_day(rows: Iterable[Measured]) -> dict[int, Figures]:
    days: dict[int, list[Measured]] = defaultdict(list)
    for one in rows:
        days[one.day].append(one)
    return {day: measures.figures(days[day]) for day in sorted(days)}


def _gaps(rows: Sequence[Row]) -> list[str]:
    """What these days do not tell."""
    total = sum(row.now.answers for row in rows)
    if not total:
        return []
    said = []
    if not any(row.now.rated for row in rows):
        said.append("no answer of these days was rated, so whether people liked them is not known")
    if not any(row.now.json_asked for row in rows):
        said.append("no answer of these days was held to a schema, so invalid JSON is not known")
    fresh = [row for row in rows if not row.before.answers]
    if fresh:
        said.append(f"{len(fresh)} of {len(rows)} models have no answers in the baseline, so no alarm can be raised for them")
    return said


def _whole(rows: Iterable[Measured]) -> list[Measured]:
    return [one for one in rows if one.whole]
