"""How a measurement of bias is written: lines for the terminal, a section of a page, and read back from a run's metrics.json.

Texts and values may come from elsewhere: sanitised, escaped and cut. Not covered: what was measured (`bias`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data.sanitise import one_line
from trainer import page
from trainer.bias import Bias
from trainer.page import SHOWN_ROWS
from trainer.run_folder import RunFolder

SHOWN_CHANGES = 5
"""Pairs that the terminal shows."""
BASE = "base"


def of_run(run: RunFolder) -> tuple[Bias, ...]:
    """What a run has measured of its adapter and its base; () for nothing. Raises InputError where it is something else."""
    found = run.metrics.get("bias")
    if not isinstance(found, Mapping):
        return ()
    own = {key: one for key, one in found.items() if key != BASE}
    given = [own, found[BASE]] if isinstance(found.get(BASE), Mapping) else [own]
    return tuple(run.part(Bias, one) for one in given)


def as_dict(mine: Bias, base: Bias | None = None) -> dict[str, Any]:
    """Both as plain JSON, as `of_run` reads it."""
    return mine.to_dict() | {BASE: base.to_dict() if base else None}


def lines(found: Bias) -> Iterator[str]:
    """One measurement for the terminal."""
    name = one_line(found.model, 60) or "this"
    if not found.pairs:
        yield f"paired prompts: nothing was measured of {name}: {one_line(found.note, 200)}"
        return
    by_kind = ", ".join(f"{one_line(one.kind, 20)} {one.changed} of {one.pairs}" for one in found.kinds)
    counts = f"{found.changed} of {found.pairs} change ({by_kind}), upper 95% bound {page.share(found.upper)}"
    yield f"paired prompts, {name}: {counts}"
    if found.right_one is not None or found.right_other is not None:
        yield f"  right about either side: {page.share(found.right_one)} and {page.share(found.right_other)}"
    for one in found.changes[:SHOWN_CHANGES]:
        said = f"{one_line(one.said_one, 40) or 'no answer'} / {one_line(one.said_other, 40) or 'no answer'}"
        yield f"  {one_line(one.kind, 20)}: {said}: {one_line(one.other, 100)}"
    orders = found.injections
    if orders is not None:
        kept = f"{orders.kept} of {orders.of} answers keep the contract"
        yield f"injected orders, {name}: {kept}, {orders.obeyed} of {orders.named} that name a label are obeyed"
        for fault in orders.broken[:SHOWN_CHANGES]:
            yield f"  {one_line(fault.id, 40)}: {one_line(fault.why, 160)}"


def section(found: Sequence[Bias]) -> str:
    """The tables of a page; "" where nothing was measured."""
    if not found:
        return ""
    rows = [
        (one.model or "this", kind.kind, f"{kind.pairs:,}", f"{kind.changed:,}", page.share(kind.upper))
        for one in found
        for kind in one.kinds[:SHOWN_ROWS]
    ]
    rows += [(one.model or "this", "all", f"{one.pairs:,}", f"{one.changed:,}", page.share(one.upper)) for one in found]
    under = "; ".join(_under(one) for one in found)
    header = ("", "differs in", "#pairs", "#changed", "#upper 95% bound")
    return "".join((page.table("Paired prompts", header, rows, under), _changes(found[0]), _broken(found[0])))


def _under(one: Bias) -> str:
    said = f"{one.model or 'this'}: {one.domain}"
    if one.note:
        said += f", {one.note}"
    if one.shift is not None:
        said += f", mean distance between both answers {one.shift:.3f}"
    if one.right_one is not None:
        said += f", right {page.share(one.right_one)} and {page.share(one.right_other)}"
    if one.injections is not None:
        said += f", {one.injections.kept} of {one.injections.of} injected orders keep the contract, {one.injections.obeyed} obeyed"
    return said


def _changes(one: Bias) -> str:
    rows = [
        (found.kind, found.one, found.said_one or "no answer", found.other, found.said_other or "no answer", found.right or "-")
        for found in one.changes[:SHOWN_ROWS]
    ]
    header = ("differs in", "one", "said", "other", "said", "right")
    return page.table("Pairs that change", header, rows, page.counted(len(one.changes), "")) if rows else ""


def _broken(one: Bias) -> str:
    rows = [(fault.id, fault.text, fault.why) for fault in (one.injections.broken if one.injections else ())[:SHOWN_ROWS]]
    return page.table("Injected orders that change the layout", ("order", "text", "why"), rows) if rows else ""
