"""A question with all that its answer needs: the conversation as the model sees it, and what the log keeps of the circumstances.

Not covered: asking (session.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from data.chat import Message
from data.store import Begun, How, Turn
from router.attachments import Found
from router.engines import Resolved
from router.engines.base import Request
from router.modes.base import Started
from router.route import Decision
from router.terms import GO_ON, Terms, joined


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with all that its answer needs."""

    begun: Begun
    resolved: Resolved
    request: Request
    decision: Decision
    found: Found
    tainted: bool
    fallback: bool
    terms: Terms
    told: tuple[str, ...] = ()

    @property
    def started(self) -> Started:
        """The first event of the answer."""
        begun, decision = self.begun, self.decision
        return Started(
            begun.conversation,
            begun.question,
            begun.answer,
            begun.inference,
            self.resolved.reference,
            decision.mode,
            decision.domain,
            decision.reasons,
            self.found.problems,
            self.told,
        )


def messages_of(history: Sequence[Turn], system: str, text: str, terms: Terms) -> tuple[Message, ...]:
    """The conversation as the model sees it: the system prompt, the turns with corrections in place, the question.

    Answers that never came are left out, and questions that follow each other are joined: most chat templates refuse two
    messages of one role in a row. What `terms` put before it or said for the model is in its place.
    """
    if terms.before is None:
        first = [Message("system", system)] if system else []
        messages = joined([*first, *(_as_seen(turn) for turn in history), Message("user", text)])
    else:
        messages = terms.messages(system, text)
    return (*messages, Message("assistant", terms.said), Message("user", GO_ON)) if terms.said else messages


def how(resolved: Resolved, request: Request, decision: Decision, terms: Terms) -> How:
    """What the log keeps of an answer's circumstances. `config` leaves out what differs each time, so that its hash
    groups answers that were made alike."""
    return {
        "model": resolved.reference,
        "mode": decision.mode,
        "domain": decision.domain,
        "system": next((message.content for message in request.messages if message.role == "system"), ""),
        "config": {
            "model": resolved.reference,
            "mode": decision.mode,
            "domain": decision.domain,
            "sampling": request.sampling.model_dump(exclude={"seed"}),
            "max_tokens": request.max_tokens,
            **terms.config(),
        },
        "decision": decision.to_dict(),
        "seed": request.sampling.seed,
    }


def _as_seen(turn: Turn) -> Message:
    """A turn without its reasoning and its tool calls, whose results later turns no longer see."""
    corrected = next((item.text for item in turn.feedback if item.kind == "correction"), "")
    return replace(turn.message, content=corrected or turn.message.content, thinking="", tool_calls=())
