"""What an answer is once it has ended, and the lines under it: what it cites, how it went, and why it took that route.

Not covered: drawing it (answer.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from textual.content import Content

from data.chat import Usage
from data.sanitise import one_line
from tui import modes
from tui.trace import Trace
from tui.widgets.evidence import took_ms
from tui.widgets.inline import MUTED

if TYPE_CHECKING:
    from data.store.rows import Turn

ENDINGS: Final = {
    "pending": "unfinished",
    "streaming": "unfinished",
    "interrupted": "interrupted",
    "cancelled": "cancelled",
    "error": "failed",
}
"""How a status is told; "complete" needs no words."""
UNSAID: Final = ("you chose ", "the default ")
"""How reasons begin that tell nothing new."""


@dataclass(slots=True)
class Answer:
    """What a view of an answer shows.

    thought_s: seconds of thinking, 0.0 where unknown; tokens, tokens_per_s: as they were counted here, for answers without
    usage; sibling counts from 0; reasons: those of the route; decision: the logged one, {} until it was read.
    """

    model: str
    turn_id: str = ""
    inference: str = ""
    text: str = ""
    thinking: str = ""
    thought_s: float = 0.0
    status: str = "complete"
    usage: Usage | None = None
    error: str = ""
    tokens: int = 0
    tokens_per_s: float = 0.0
    thumb: float = 0
    stars: float = 0
    corrected: bool = False
    comment: bool = False
    sibling: int = 0
    siblings: int = 1
    mode: str = ""
    domain: str = ""
    reasons: tuple[str, ...] = ()
    decision: Mapping[str, Any] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)

    @classmethod
    def of(cls, turn: "Turn") -> "Answer":
        """The answer as logged."""
        inference = turn.inference
        answer = cls(
            model=inference.model if inference else "",
            turn_id=turn.id,
            inference=inference.id if inference else "",
            text=turn.message.content,
            thinking=turn.message.thinking,
            status=inference.status if inference else "complete",
            usage=inference.usage if inference else None,
            error=inference.error if inference else "",
            sibling=turn.sibling_index,
            siblings=turn.siblings,
            mode=inference.mode if inference else "",
            domain=inference.domain if inference else "",
            reasons=reasons_of(inference.decision) if inference else (),
            decision=inference.decision if inference else {},
            trace=Trace.of(inference.trace) if inference else Trace(),
        )
        for said in turn.feedback:
            answer.thumb = said.value or 0 if said.kind == "thumb" else answer.thumb
            answer.stars = said.value or 0 if said.kind == "rating" else answer.stars
            answer.corrected |= said.kind == "correction"
            answer.comment |= said.kind == "comment"
        return answer


def reasons_of(decision: Mapping[str, Any]) -> tuple[str, ...]:
    """The evidence of the stages that wrote something, from a logged decision of any age."""
    return tuple(str(stage.get("evidence", "")) for stage in modes.stages_of(decision) if stage.get("outcome"))


def footer(answer: Answer) -> Content:
    """The lines under an answer: what it cites, how it ended if not by itself, how it went (the engine's own measures come
    before the others), and why it took its route."""
    lines = [Content.styled(str(citation), MUTED) for citation in answer.trace.cited]
    ending = ENDINGS.get(answer.status, "")
    if ending or answer.error:
        said = ": ".join(part for part in (ending, one_line(answer.error, 300)) if part)
        lines.append(Content.styled(said, "$text-error"))
    parts = [one_line(answer.model, 60), *_way(answer), *_measures(answer), *_remarks(answer)]
    if line := " · ".join(part for part in parts if part):
        lines.append(Content.styled(line, MUTED))
    if why := route(answer.reasons, took_ms(answer.decision)):
        lines.append(Content.styled(why, MUTED))
    return Content("\n").join(lines)


def route(reasons: Iterable[str], ms: float = 0.0) -> str:
    """Why the router took its route, on one line, and the milliseconds that took; "" where nothing was to be decided."""
    told = [one_line(reason, 160) for reason in reasons if not reason.startswith(UNSAID)]
    took = f" · {ms:.1f} ms" if ms else ""
    return f"route: {'; '.join(told)}{took}" if told else ""


def _way(answer: Answer) -> list[str]:
    """The way of reasoning, where it is not the direct one, and the domain."""
    return ["" if answer.mode == "standard" else modes.word(answer.mode), one_line(answer.domain, 40)]


def _measures(answer: Answer) -> list[str]:
    """How much, how fast, how soon; the engine's own measures where it gave them."""
    usage = answer.usage
    ttft_s = usage.ttft_s if usage else 0.0
    tokens = usage.completion_tokens if usage and usage.completion_tokens else answer.tokens
    tokens_per_s = usage.tokens_per_s if usage and usage.tokens_per_s else answer.tokens_per_s
    return [
        f"{tokens:,} tokens" if tokens else "",
        f"{tokens_per_s:.1f} tokens/s" if tokens_per_s else "",
        f"first token {ttft_s:.2f} s" if ttft_s else "",
    ]


def _remarks(answer: Answer) -> list[str]:
    """What else is worth knowing: limits that were met, versions, and what the user said."""
    usage = answer.usage
    remarks = []
    if usage and usage.finish == "length":
        remarks.append("cut at the token limit")
    if usage and usage.dropped_turns:
        turns = "1 oldest turn" if usage.dropped_turns == 1 else f"{usage.dropped_turns} oldest turns"
        remarks.append(f"context full: {turns} left out")
    if answer.siblings > 1:
        remarks.append(f"{answer.sibling + 1}/{answer.siblings}")
    remarks.append({1: "rated good", -1: "rated bad"}.get(int(answer.thumb), ""))
    remarks.append("★" * int(answer.stars) + "☆" * (5 - int(answer.stars)) if answer.stars else "")
    remarks.append("corrected" if answer.corrected else "")
    remarks.append("commented" if answer.comment else "")
    return remarks
