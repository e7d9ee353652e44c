"""A decision as a person reads it: what was chosen, every stage's word, what came second, what would change it.

It takes the plain JSON of a stored decision, so that older ones with fewer fields are shown as well.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data.sanitise import one_line
from tui import output

if TYPE_CHECKING:
    from router.why import Why


def show(decision: Mapping[str, Any]) -> None:
    """Print a decision."""
    chosen = [f"model   {decision.get('model') or '?'}", f"mode    {str(decision.get('mode') or '?').replace('_', ' ')}"]
    domain = decision.get("domain")
    confidence = decision.get("confidence")
    if domain:
        chosen.append(f"domain  {domain}" + (f" ({confidence:.0%})" if isinstance(confidence, float) else ""))
    if decision.get("tools"):
        chosen.append(f"tools   {', '.join(map(str, decision['tools']))}")
    for line in chosen:
        output.line(line)
    output.line()
    stages = [stage for stage in decision.get("stages", ()) if isinstance(stage, Mapping)]
    output.table(
        ("stage", "wrote", "ms", "because"),
        [
            (
                str(stage.get("name", "")),
                str(stage.get("outcome") or "-"),
                f"{stage.get('ms', 0.0):.2f}",
                str(stage.get("evidence", "")),
            )
            for stage in stages
        ],
    )
    second = decision.get("runner_up")
    if isinstance(second, Mapping):
        output.line()
        output.line(
            f"second {second.get('field')}: {str(second.get('name')).replace('_', ' ')} with {second.get('probability', 0.0):.0%}, "
            f"{second.get('margin', 0.0):.0%} behind"
        )


def explain(why: "Why") -> None:
    """Print an explanation: the decision, the words that weighed most, the nearest examples, what would change it."""
    output.line(f"question  {one_line(why.question, 200)}")
    show(why.decision)
    if why.ngrams:
        output.line()
        output.table(("words", "weight"), [(text, f"{weight:+.2f}") for text, weight in why.ngrams])
    if why.nearest:
        output.line()
        output.table(
            ("nearest example", "domain", "cosine"),
            [(one_line(one.text, 60), one.domain, f"{one.similarity:.2f}") for one in why.nearest],
        )
    if why.changes:
        output.line()
        output.line("it would have gone otherwise:")
        for sentence in why.changes:
            output.line(f"  - {sentence}")
    for remark in why.notes:
        output.note(remark)
