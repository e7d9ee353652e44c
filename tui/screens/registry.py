"""The registry and the experiments: which version answers which domain, on what evidence, what is on trial, and what may follow.

Rows are versions and experiments by domain, and exports that were never taken in. Not covered: the gates (data/store/registry.py).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.content import Content

from data.sanitise import one_line
from tui import lineage, lookup, screen_keys, standing
from tui.screens.browse import Browse
from tui.screens.picker import Row
from tui.screens.words import bar, blocks, lines, muted, named, title
from tui.standing import Target

if TYPE_CHECKING:
    from data.config import Settings
    from data.store import Store
    from data.store.versions import ArmFigures, Experiment, Explanation, Gate, Status, Version
    from router.session import Session

ORDER = {"champion": 0, "canary": 1, "staging": 2, "candidate": 3, "retired": 4}
MARKS = {"champion": "★", "canary": "◐", "staging": "○", "candidate": "·", "retired": " "}
AXIS = 41
"""Cells of the axis of a gain, from -50 % to +50 %."""


@dataclass(frozen=True, slots=True)
class Everything:
    """What the screen lists. statuses: of the experiments that run; ended: the newest others; free: exports never taken in."""

    versions: "tuple[Version, ...]" = ()
    aliases: "tuple[tuple[str, dict[str, Version]], ...]" = ()
    statuses: "tuple[Status, ...]" = ()
    ended: "tuple[Experiment, ...]" = ()
    free: tuple[tuple[str, str], ...] = ()


class RegistryScreen(Browse):
    """Versions, experiments and exports."""

    BINDINGS: ClassVar[list[BindingType]] = [*screen_keys.REGISTRY]
    CONTEXTS = ("Rows and details", "Registry")
    HEADING = "Registry and experiments"
    NOTHING = "nothing was exported yet: train a recipe, then pointsman export RUN"

    def __init__(self, session: "Session") -> None:
        super().__init__()
        self._session = session
        self._found = Everything()

    @property
    def _store(self) -> "Store":
        return self._session.store

    @property
    def _settings(self) -> "Settings":
        return self._session.settings

    def read(self) -> Everything:
        """See `Browse.read`. The guards are held against what runs, as `experiment status` does."""
        from data import exports

        store = self._store
        store.experiments.watch()
        versions = store.registry.versions()
        names = {one.name for one in versions}
        domains = sorted({one.domain for one in versions})
        return Everything(
            tuple(sorted(versions, key=lambda one: (one.domain, ORDER[one.stage], one.id[::-1]))),
            tuple((domain, store.registry.aliases(domain)) for domain in domains),
            tuple(store.experiments.status(one.id) for one in store.experiments.running()),
            tuple(one for one in store.experiments.all() if one.state != "running")[-5:],
            tuple((folder.name, export.domain) for folder, export in exports.found() if folder.name not in names),
        )

    def draw(self, found: Everything) -> None:
        """See `Browse.draw`."""
        self._found = found
        self.show(list(self._listed()))

    def about(self, key: str) -> Content | None:
        """See `Browse.about`."""
        kind, _, name = key.partition(":")
        status = self._status(key)
        if status:
            return told(status)
        if kind == "ended":
            one = next(one for one in self._found.ended if one.id == name)
            return lines(title(f"{one.kind} {one.id[-8:]} in {one.domain}"), muted(f"{one.state}: {one.outcome}"))
        if kind == "export":
            return lines(title(name), Content("p takes it in and lets it answer, if its gates let it"))
        return None

    def look(self, key: str) -> Content:
        """See `Browse.look`: why a version stands where it stands."""
        return explained(self._store.registry.explain(key.partition(":")[2]))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are for what the highlighted row is."""
        key = self.highlighted if self.is_mounted and self._rows else ""
        version = self._version(key)
        if action in ("promote", "override"):
            return bool(version and version.stage != "champion") or key.startswith("export:")
        if action == "rollback":
            return bool(version and self._champion(version.domain))
        if action == "compare":
            return bool(version and version.stage not in ("champion", "canary"))
        if action == "end":
            return self._status(key) is not None
        return bool(version) if action == "why" else True

    def action_promote(self, to: Target) -> None:
        """Bring the highlighted version to a stage, once asked back."""
        name, words = (
            self._named(),
            {"champion": "let it answer its domain?", "canary": "try it on a tenth?", "staging": "take it in?"},
        )
        if name and self.sure(f"{to} {self.highlighted}", f"{one_line(name[1], 60)}: {words[to]}"):
            self.do("holding the gates against it …", lambda: self._promoted(name[0], to, ""))

    def action_override(self) -> None:
        """Promote past failed gates, for a reason."""
        if name := self._named():
            self.ask(
                f"why {one_line(name[1], 40)} may answer although gates failed",
                lambda reason: self.do("…", lambda: self._promoted(name[0], "champion", reason)),
                check=lambda reason: "" if reason.strip() else "the reason is kept, so there has to be one",
            )

    def action_rollback(self) -> None:
        """Take the champion of the domain back."""
        version = self._version(self.highlighted)
        if not version:
            return
        named = dict(self._found.aliases).get(version.domain, {})
        champion, previous = named.get("champion"), named.get("previous")
        after = f"{previous.name} answers again" if previous else "the base answers again"
        if champion and self.sure(
            f"back {champion.id}", f"take {one_line(champion.name, 40)} back, so that {one_line(after, 60)}?"
        ):
            self.do("rolling back …", lambda: self._back(version.domain, previous is None))

    def action_compare(self) -> None:
        """Compare the version with what answers now, blindly and side by side."""
        version = self._version(self.highlighted)
        if version and self.sure(f"compare {version.id}", f"compare {one_line(version.name, 40)} with what answers now, blindly?"):
            first = "champion" if self._champion(version.domain) else version.base or standing.base(self._settings)
            self.do("starting …", lambda: self._compared(version, first))

    def action_end(self) -> None:
        """End the experiment."""
        status = self._status(self.highlighted)
        if status and self.sure(f"end {status.experiment.id}", f"end the experiment in {status.experiment.domain}?"):
            self.do("ending it …", lambda: self._ended(status.experiment.id))

    def action_why(self) -> None:
        """Show every transition of the version."""
        key = self.highlighted
        self.later(key, lambda: self._history(key.partition(":")[2]))

    # In threads

    def _promoted(self, name: str, to: Target, override: str) -> str:
        return standing.said(standing.promote(self._store, self._settings, name, to, override=override), to)

    def _back(self, domain: str, to_base: bool) -> str:
        found = self._store.registry.rollback(domain, who=lineage.user(), why="from the registry's screen", to_base=to_base)
        return f"{found.retired.name} was taken back, {found.champion.name if found.champion else 'the base'} answers {domain}"

    def _compared(self, version: "Version", first: str) -> str:
        found = standing.compare(self._store, self._session.engines, version.domain, first, version.id, paired=True)
        return f"experiment {found.id[-8:]} in {found.domain}: {found.arms[1][0]} against {found.arms[0][0]}"

    def _ended(self, key: str) -> str:
        found = self._store.experiments.stop(key, who=lineage.user())
        return f"the experiment in {found.domain} has ended: {self._store.experiments.status(found.id).verdict}"

    def _history(self, key: str) -> Content:
        whole = self._store.registry.history(key=key)
        rows = [f"{lookup.when(one.at)}  {one.action}: {one.from_stage} → {one.to_stage}, {one.who}" for one in whole]
        return lines(
            title("every transition"),
            *(
                part
                for one, row in zip(whole, rows, strict=True)
                for part in (Content(one_line(row, 200)), muted(f"    {one.why}" if one.why else ""))
            ),
        )

    # What is highlighted

    def _version(self, key: str) -> "Version | None":
        return next((one for one in self._found.versions if key == f"version:{one.id}"), None)

    def _status(self, key: str) -> "Status | None":
        return next((one for one in self._found.statuses if key == f"running:{one.experiment.id}"), None)

    def _champion(self, domain: str) -> "Version | None":
        return dict(self._found.aliases).get(domain, {}).get("champion")

    def _named(self) -> tuple[str, str] | None:
        """What the registry calls the highlighted version or export, and its name."""
        version = self._version(self.highlighted)
        if version:
            return version.id, version.name
        kind, _, name = self.highlighted.partition(":")
        return (name, name) if kind == "export" else None

    def _listed(self) -> Iterator[Row]:
        found = self._found
        for status in found.statuses:
            one = status.experiment
            more = f", about {status.more} more" if status.more else ""
            words = f"{one.kind} in {one_line(one.domain, 30)}: e-value {status.better:.3g} of {one.threshold:g}{more}"
            yield Row(f"running:{one.id}", Content.assemble("⚖ ", words))
        domain = ""
        for version in found.versions:
            if version.domain != domain:
                domain = version.domain
                yield Row("", title(domain))
            yield Row(f"version:{version.id}", _row(version))
        for name, of in found.free:
            yield Row(
                f"export:{name}",
                Content.assemble("  ", one_line(name, 40), muted(f"  export{f' for {of}' if of else ''}, not taken in", 80)),
            )
        for one in reversed(found.ended):
            yield Row(
                f"ended:{one.id}", Content.assemble("  ", muted(f"{one.kind} in {one.domain}: {one.state}, {one.outcome}", 100))
            )


def told(status: "Status") -> Content:
    """An experiment's evidence so far, as `pointsman experiment status` tells it."""
    one = status.experiment
    proven = math.log(max(status.better, 1.0)) / math.log(one.threshold) if one.threshold > 1 else 0.0
    against = math.log(max(status.worse, 1.0)) / math.log(one.threshold) if one.threshold > 1 else 0.0
    second = one.arms[1][0]
    undecided = status.verdict == "nothing is proven yet"
    more = "no end is in sight" if status.more is None else f"about {status.more} more answers, if it goes on so"
    return blocks(
        lines(
            title(f"{one.kind} {one.id[-8:]} in {one.domain}"),
            named("on trial", second),
            named("against", one.arms[0][0]),
            named("better", Content.assemble(bar(proven), f"  e-value {status.better:.3g} of {one.threshold:g}")),
            named("worse", Content.assemble(bar(against, style="$text-error"), f"  e-value {status.worse:.3g}")),
            named("verdict", f"{status.verdict}; {more}" if undecided else status.verdict),
            named("pairs", _pairs(status) if one.kind == "paired" else ""),
        ),
        *(_arm(arm) for arm in status.arms),
    )


def explained(found: "Explanation") -> Content:
    """Why a version stands where it stands, as `pointsman models explain` tells it."""
    version, event, decision, made = found.version, found.event, found.decision, found.version.lineage
    proof = version.evidence
    words = f"{proof.gain:+.1%} on {proof.pairs} held-out rows, at least {proof.lower:+.1%}" if proof.pairs else "never compared"
    corrections = "" if made.corrections is None else f", {made.corrections} of them corrections"
    return blocks(
        lines(
            title(f"{version.name}: {version.stage} of {version.domain}"),
            named("since", f"{lookup.when(event.at)}, by {event.who}"),
            named("why", event.why or "no reason given"),
            named("model", version.model),
            named("before it", found.previous.name if found.previous else ""),
        ),
        lines(title("against its base"), Content(words), gain(proof.gain, proof.lower) if proof.pairs else Content()),
        lines(
            title("gates") if decision else Content(),
            *(_gate(gate) for gate in (decision.gates if decision else ())),
            named("passed over", decision.override if decision else ""),
        ),
        lines(
            title("made of"),
            named("run", f"{made.run} {made.run_hash}".strip()),
            named("rows", f"{made.rows:,}{corrections}" if made.rows else ""),
            named("base", made.base),
            named("files", ", ".join(f"{file.name} {file.sha256[:12]}" for file in version.files)),
        ),
    )


def gain(value: float, lower: float) -> Content:
    """A gain over the base with its interval, on an axis that also reads without colours: ┃ is the base, ● the gain."""

    def cell(share: float) -> int:
        return round((min(max(share, -0.5), 0.5) + 0.5) * (AXIS - 1))

    low, high = cell(lower), cell(2 * value - lower)
    cells = ["━" if low <= index <= high else "─" for index in range(AXIS)]
    cells[cell(0.0)] = "┃"
    cells[cell(value)] = "●"
    return Content.styled("".join(cells), "$text-success" if lower > 0 else "$text-warning")


def _row(version: "Version") -> Content:
    proof = version.evidence
    words = f"{proof.gain:+.1%}, at least {proof.lower:+.1%}" if proof.pairs else ""
    style = "bold" if version.stage == "champion" else ""
    name = Content.styled(f"{MARKS[version.stage]} {one_line(version.name, 40)}", style)
    return Content.assemble(name, muted(f"  {version.stage}  {words}", 80))


def _pairs(status: "Status") -> str:
    return f"{status.pairs.wins} won, {status.pairs.losses} lost, {status.pairs.ties} ties"


def _arm(arm: "ArmFigures") -> Content:
    bad = f", {arm.bad} bad" if arm.answers else ""
    return lines(
        title(arm.model),
        named("share", f"{arm.share:.0%}" if arm.share else ""),
        named("answers", f"{arm.answers} in {arm.conversations} conversations{bad}"),
        named("liked", f"{arm.liked} of {arm.rated}" if arm.rated else ""),
        named("seconds", f"{arm.seconds:.1f}, first token after {arm.ttft_s:.2f}" if arm.answers else ""),
    )


def _gate(gate: "Gate") -> Content:
    mark = {True: "✓", False: "✗", None: "–"}[gate.passed]
    reached = f": {gate.reached:.4g}" if gate.reached is not None else ""
    limit = f", limit {gate.limit:.4g}" if gate.limit is not None else ""
    words = Content.styled(f"{mark} {one_line(gate.name, 60)}{reached}{limit}", "$text-error" if gate.passed is False else "")
    return Content.assemble(words, muted(f"  {gate.note}" if gate.note else "", 200))
