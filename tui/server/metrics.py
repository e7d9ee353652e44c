"""Counters, gauges and histograms in Prometheus' text format (version 0.0.4).

Labels come from fixed sets and from the names of models that there are; a label's values are bounded, the rest counts as
"other". No text of a user is ever a label. Not covered: the store's figures (ratings, drift).
"""

import threading
from collections.abc import Callable, Sequence

from data.sanitise import one_line

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
VALUES = 64
"""Different values of one label at most."""
SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
STOP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
LABEL_CHARS = 100


class _Series:
    """One name with its labels; subclasses hold what it counts. `add` and `lines` may be called from any thread."""

    kind = ""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self.about = about
        self.labels = tuple(labels)
        self.lock = threading.Lock()
        self._seen: list[set[str]] = [set() for _ in labels]

    def lines(self) -> list[str]:
        """The series as text."""
        with self.lock:
            body = self._body()
        return [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} {self.kind}", *body]

    def _body(self) -> list[str]:
        return []

    def _key(self, values: Sequence[str]) -> tuple[str, ...]:
        """The labels' values, those beyond the bound as "other"; call it with the lock held."""
        key = []
        for seen, value in zip(self._seen, values, strict=True):
            short = one_line(value, LABEL_CHARS)
            if short not in seen and len(seen) >= VALUES:
                short = "other"
            seen.add(short)
            key.append(short)
        return tuple(key)

    def _shown(self, key: Sequence[str], **more: str) -> str:
        pairs = [*zip(self.labels, key, strict=True), *more.items()]
        inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
        return f"{{{inner}}}" if inner else ""


class Counter(_Series):
    """What only grows."""

    kind = "counter"

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, about, labels)
        self._counts: dict[tuple[str, ...], float] = {}

    def add(self, *values: str, by: float = 1) -> None:
        """Count `by` more under these labels."""
        with self.lock:
            key = self._key(values)
            self._counts[key] = self._counts.get(key, 0) + by

    def _body(self) -> list[str]:
        return [f"{self.name}{self._shown(key)} {count:g}" for key, count in sorted(self._counts.items())]


class Gauge(_Series):
    """What is read at the moment."""

    kind = "gauge"

    def __init__(self, name: str, about: str, read: Callable[[], float]) -> None:
        super().__init__(name, about)
        self._read = read

    def _body(self) -> list[str]:
        return [f"{self.name} {self._read():g}"]


class Histogram(_Series):
    """Seconds, counted in buckets."""

    kind = "histogram"

    def __init__(self, name: str, about: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS) -> None:
        super().__init__(name, about, labels)
        self._bounds = tuple(bounds)
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def add(self, seconds: float, *values: str) -> None:
        """Count one measurement under these labels."""
        with self.lock:
            key = self._key(values)
            buckets = self._buckets.setdefault(key, [0] * (len(self._bounds) + 1))
            buckets[next((at for at, bound in enumerate(self._bounds) if seconds <= bound), len(self._bounds))] += 1
            self._sums[key] = self._sums.get(key, 0.0) + seconds

    def _body(self) -> list[str]:
        lines = []
        for key, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip([*(f"{bound:g}" for bound in self._bounds), "+Inf"], buckets, strict=True):
                total += count
                lines.append(f"{self.name}_bucket{self._shown(key, le=bound)} {total}")
            lines.append(f"{self.name}_sum{self._shown(key)} {self._sums[key]:.6f}")
            lines.append(f"{self.name}_count{self._shown(key)} {total}")
        return lines


class Metrics:
    """All series of one server. waiting, running: read when the text is made."""

    def __init__(self, waiting: Callable[[], float], running: Callable[[], float]) -> None:
        self.requests = Counter("pointsman_http_requests_total", "Requests by route and status.", ("route", "status"))
        self.answers = Counter("pointsman_answers_total", "Answers by model, mode and how they ended.", ("model", "mode", "end"))
        self.tokens = Counter("pointsman_tokens_total", "Tokens read from the prompt, cache or written.", ("model", "kind"))
        self.errors = Counter("pointsman_errors_total", "Faults by kind.", ("kind",))
        self.first_token = Histogram(
            "pointsman_first_token_seconds", "From the request's arrival to the first piece of the answer.", ("model",)
        )
        self.total = Histogram("pointsman_answer_seconds", "From the request's arrival to the answer's end.", ("model",))
        self.stop = Histogram(
            "pointsman_stop_seconds", "From a client's leaving to the end of the work for it.", bounds=STOP_SECONDS
        )
        self.release = Histogram(
            "pointsman_release_seconds", "From a client's leaving to the engines' being free of its answer.", bounds=STOP_SECONDS
        )
        self._gauges = (
            Gauge("pointsman_answers_waiting", "Answers that wait for an engine.", waiting),
            Gauge("pointsman_answers_running", "Answers that an engine works on.", running),
        )

    def text(self) -> str:
        """All of it, as Prometheus reads it."""
        series = (
            self.requests,
            self.answers,
            self.tokens,
            self.errors,
            self.first_token,
            self.total,
            self.stop,
            self.release,
            *self._gauges,
        )
        return "\n".join(line for one in series for line in one.lines()) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
