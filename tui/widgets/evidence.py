"""Why an answer took its route, set as lines: what was chosen, how sure the router was, what each stage said on what evidence.

Drawn from a logged decision, of which older rows have fewer fields: what is missing is left out. Everything in it is
untrusted text. Not covered: the one line that every answer shows (outcome.py), and the screen around it (screens/why.py).
"""

from collections.abc import Mapping
from typing import Any, Final

from textual.content import Content

from data.sanitise import one_line
from tui import modes
from tui.widgets.inline import MUTED

LABEL: Final = 13
"""Columns of the names on the left."""
BAR: Final = 20
"""Cells of a bar that stands for 100%."""
SHOWN: Final = 5
"""Probabilities shown at most, the greatest first."""


def evidence(decision: Mapping[str, Any], model: str, mode: str, domain: str) -> list[Content]:
    """The parts, one below the other: the choice, the stages, the probabilities, the small print."""
    parts = [_choice(decision, model, mode, domain), _stages(decision)]
    for title, name, marked in (("domains", "domain_probabilities", domain), ("modes", "mode_probabilities", mode)):
        parts.append(_probabilities(title, _mapping(decision.get(name)), marked))
    parts.append(_small_print(decision))
    return [part for part in parts if part.plain]


def took_ms(decision: Mapping[str, Any]) -> float:
    """Milliseconds that the stages took together; 0.0 where the decision does not say."""
    return sum(float(stage["ms"]) for stage in modes.stages_of(decision) if _is_number(stage.get("ms")))


def _choice(decision: Mapping[str, Any], model: str, mode: str, domain: str) -> Content:
    lines = [
        _named("model", one_line(model, 80)),
        _named("mode", modes.title(mode)),
        _named("domain", one_line(domain, 60) or "none"),
        _named("chosen by", one_line(str(decision.get("source", "")), 40)),
        _named("confidence", _bar(decision.get("confidence"))),
        _named("runner-up", _runner_up(_mapping(decision.get("runner_up")))),
    ]
    return Content("\n").join(line for line in lines if line.plain)


def _stages(decision: Mapping[str, Any]) -> Content:
    stages = modes.stages_of(decision)
    if not stages:
        return Content()
    rows = [(one_line(str(stage.get("name", "")), LABEL - 1), one_line(str(stage.get("outcome", "")), 60)) for stage in stages]
    lines = [Content.styled("stages, in their order", "bold")]
    for stage, (name, outcome) in zip(stages, rows, strict=True):
        took = stage.get("ms")
        ms = f"{took:.1f} ms" if _is_number(took) else ""
        lines.append(_named(name, Content.assemble(outcome or Content.styled("nothing", MUTED), Content.styled(f"  {ms}", MUTED))))
        if evidence := one_line(str(stage.get("evidence", "")), 400):
            lines.append(_named("", Content.styled(evidence, MUTED)))
    return Content("\n").join(lines)


def _probabilities(title: str, found: Mapping[str, Any], marked: str) -> Content:
    known = sorted(((str(name), value) for name, value in found.items() if _is_number(value)), key=lambda one: -one[1])
    if not known:
        return Content()
    lines = [Content.styled(title, "bold")]
    for name, value in known[:SHOWN]:
        shown = modes.word(name) if title == "modes" else one_line(name, 24)
        lines.append(Content.assemble("  ", f"{shown:<24} ", _bar(value, "$text-accent" if name == marked else MUTED)))
    if len(known) > SHOWN:
        lines.append(Content.styled(f"  and {len(known) - SHOWN} more", MUTED))
    return Content("\n").join(lines)


def _small_print(decision: Mapping[str, Any]) -> Content:
    thresholds = _mapping(decision.get("thresholds"))
    tools = decision.get("tools")
    lines = [
        _named("thresholds", " · ".join(f"{one_line(str(name), 30)} {_figure(value)}" for name, value in thresholds.items())),
        _named("out of scope", _figure(decision.get("out_of_scope"))),
        _named("tool need", _figure(decision.get("tool_need"))),
        _named("tools", ", ".join(one_line(str(tool), 40) for tool in tools) if isinstance(tools, list | tuple) else ""),
        _named("experiment", one_line(str(decision.get("arm") or ""), 60)),
        _named("propensity", _figure(decision.get("propensity"))),
        _named("version", one_line(str(decision.get("version") or ""), 60)),
    ]
    return Content("\n").join(line for line in lines if line.plain)


def _named(name: str, value: str | Content) -> Content:
    """A line with its name to the left; nothing where there is no value."""
    shown = value if isinstance(value, Content) else Content(value)
    return Content.assemble(Content.styled(f"{name:<{LABEL}}", MUTED), shown) if shown.plain else Content()


def _bar(value: object, style: str = "$text-accent") -> Content:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        return Content()
    filled = round(value * BAR)
    rest = Content.styled("─" * (BAR - filled), MUTED)
    return Content.assemble(Content.styled("━" * filled, style), rest, f" {value:.0%}")


def _runner_up(second: Mapping[str, Any]) -> str:
    name = one_line(str(second.get("name") or second.get("model") or ""), 60)
    figures = [
        f"{word} {_figure(second[key])}"
        for word, key in (("", "probability"), ("behind by", "margin"))
        if _is_number(second.get(key))
    ]
    return " · ".join(part.strip() for part in (name, *figures) if part) if name else ""


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
