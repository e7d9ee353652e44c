"""Which model answers, once domain and mode are known: adapter gate, experiment, stability guard, default and fallback.

A tuned model gets a route only with a stored evaluation against the base in use whose lower 90% bound is above zero, and a
switch within a conversation only where it gains more than reading everything anew costs. Each stage takes the draft of
route.py and returns its name, what it wrote and why, or None. Not covered: running experiments and evaluations.
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from router.route import Candidate, Context, Experiment, Tuned

if TYPE_CHECKING:
    from router.route import _Draft

Said = tuple[str, str, str] | None


def gate(tuned: Tuned, base: str) -> str:
    """Why a tuned model gets no route, "" where it gets one."""
    if not tuned.pairs:
        return f"{tuned.model} was never evaluated for {tuned.domain}"
    if tuned.base and base and tuned.base != base:
        return f"{tuned.model} was evaluated against {tuned.base}, and the base is {base}"
    if tuned.lower <= 0:
        return f"{tuned.model} is not proven better: gain {tuned.gain:+.1%}, lower bound {tuned.lower:+.1%}, {tuned.pairs} pairs"
    return ""


def switch_cost_s(context: Context, model: str) -> float:
    """Seconds until `model` has read the conversation so far: loading, and reading at the measured speed."""
    found = _candidate(context, model)
    loading = found.load_s if found and not found.loaded else 0.0
    reading = context.history_tokens / context.prefill_per_s if context.prefill_per_s > 0 else 0.0
    return loading + reading


def assigned(experiment_id: str, arms: tuple[tuple[str, float], ...], unit: str) -> tuple[str, float]:
    """The arm of a unit (a conversation) and its share: always the same for the same unit, uniform over units."""
    digest = hashlib.sha256(f"{experiment_id}\0{unit}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    reached = 0.0
    for model, share in arms:
        reached += share
        if point < reached:
            return model, share
    return arms[-1]


def _adapter(draft: "_Draft") -> Said:
    domain = draft.fields.get("domain", "")
    offered = [tuned for tuned in draft.context.tuned if tuned.domain == domain] if domain else []
    if "model" in draft.fields or not offered:
        return None
    against = []
    for tuned in sorted(offered, key=lambda one: (one.champion, one.lower), reverse=True):
        reason = gate(tuned, draft.context.default_model) or _obstacle(draft.context, tuned.model)
        if reason:
            against.append(reason)
            continue
        evidence = f"better than the base in {domain} by {tuned.gain:+.1%}, at least {tuned.lower:+.1%} ({tuned.pairs} pairs)"
        return ("adapter", draft.write("adapter", model=tuned.model), evidence)
    return ("adapter", "", "; ".join(against))


def _experiment(draft: "_Draft") -> Said:
    domain = draft.fields.get("domain", "")
    trial = next((one for one in draft.context.experiments if one.domain == domain and one.arms), None)
    source = draft.sources.get("model", "adapter")
    if trial is None or source not in ("adapter", "continuation"):
        return None
    drawn = _drawn(draft, trial)
    if drawn is None:
        return ("experiment", "", f"{trial.id}: the conversation began before it")
    model, share = drawn
    if source == "continuation" and draft.fields["model"] != model:
        return None
    if obstacle := _obstacle(draft.context, model):
        return ("experiment", "", f"{trial.id}: {obstacle}")
    draft.fields.pop("model", None)
    draft.arm, draft.propensity = f"{trial.id}:{model}", share
    return ("experiment", draft.write("experiment", model=model), f"{trial.id} draws {model} with {share:.0%}")


def _drawn(draft: "_Draft", trial: Experiment) -> tuple[str, float] | None:
    """The arm of this conversation, None for one that began before the experiment: what was drawn once stays."""
    if trial.kept and any(arm == trial.kept[0] for arm, _ in trial.arms):
        return trial.kept
    last = draft.context.last_arm
    mine = last.startswith(f"{trial.id}:")
    if draft.context.last_model and not mine:
        return None
    fresh = assigned(trial.salt or trial.id, trial.arms, draft.context.conversation or draft.query)
    kept = last.removeprefix(f"{trial.id}:") if mine else ""
    return next(((arm, part) for arm, part in trial.arms if arm == kept), fresh)


def _stability(draft: "_Draft") -> Said:
    context, model = draft.context, draft.fields.get("model", "")
    if not context.last_model or context.last_model == model:
        return None
    if draft.sources.get("model") == "adapter":
        gain = next((one.gain for one in context.tuned if one.model == model and one.domain == draft.fields.get("domain")), 0.0)
        cost_s = switch_cost_s(context, model)
        wanted = context.margin + context.switch_weight * cost_s
        if gain >= wanted:
            return ("stability", "", f"the switch gains {gain:+.1%} and costs {cost_s:.1f} s: worth it (from {wanted:.1%})")
        draft.fields.pop("model")
        evidence = (
            f"stays with {context.last_model}: a switch gains {gain:+.1%} and costs {cost_s:.1f} s (worth it from {wanted:.1%})"
        )
        return ("stability", draft.write("stability", model=context.last_model), evidence)
    if model or _tuned_elsewhere(draft):
        return None
    return ("stability", draft.write("stability", model=context.last_model), "the conversation goes on with the model it had")


def _default(draft: "_Draft") -> Said:
    context = draft.context
    mode = context.default_mode if context.default_mode != "auto" else "standard"
    written = draft.write("default", model=context.default_model, mode=mode)
    return ("default", written, f"the default is {written}") if written else None


def _fallback(draft: "_Draft") -> Said:
    """Another model where the chosen one cannot answer; one that the user pinned is not replaced."""
    context, model = draft.context, draft.fields["model"]
    obstacle = _obstacle(context, model)
    if not obstacle or draft.sources["model"] == "pin":
        return None
    engine = model.partition("/")[0]
    others = sorted(
        (one for one in context.candidates if one.model != model and not one.obstacle),
        key=lambda one: (one.model != context.default_model, one.model.partition("/")[0] != engine),
    )
    if not others:
        return ("fallback", "", f"{model}: {obstacle}, and there is no other model")
    draft.fields.pop("model")
    return ("fallback", draft.write("fallback", model=others[0].model), f"{model}: {obstacle}")


def _tuned_elsewhere(draft: "_Draft") -> bool:
    """Whether the conversation's model was tuned for another domain than the question's: then the base answers."""
    domain = draft.fields.get("domain", "")
    homes = {one.domain for one in draft.context.tuned if one.model == draft.context.last_model}
    return bool(homes) and domain not in homes and draft.evidence is not None


def _obstacle(context: Context, model: str) -> str:
    found = _candidate(context, model)
    return found.obstacle if found else ""


def _candidate(context: Context, model: str) -> Candidate | None:
    return next((one for one in context.candidates if one.model == model), None)


STAGES: "tuple[Callable[[_Draft], Said], ...]" = (_adapter, _experiment, _stability, _default, _fallback)
