"""POST /feedback: what a client's user says about an answer, into the log.

    {"inference": "…", "thumb": 1}      also "rating": 1 to 5, "comment": "…", "correction": "…"; several at once
    {"inference": "…", "thumb": 0}      takes the thumb back

Not covered: preferences between two answers, which need both shown.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from data.store import Feedback, Store
from tui.server.faults import Refused

Text = Annotated[str, Field(min_length=1, max_length=100_000)]


class FeedbackBody(BaseModel):
    """The request. key: makes a repeated call harmless."""

    inference: Annotated[str, Field(min_length=1, max_length=40)]
    thumb: Literal[-1, 0, 1, "up", "down"] | None = None
    rating: Annotated[int | None, Field(ge=1, le=5)] = None
    comment: Text | None = None
    correction: Text | None = None
    key: Annotated[str | None, Field(max_length=200)] = None


def keep(store: Store, body: FeedbackBody) -> dict[str, Any]:
    """Write it; raises NotFound, Refused where nothing is said. Blocks."""
    whole = store.log.inference(body.inference).id
    thumb = {"up": 1, "down": -1}.get(str(body.thumb), body.thumb)
    said: list[tuple[Any, Callable[..., Feedback], str]] = [
        (thumb, store.feedback.rate, "thumb"),
        (body.rating, store.feedback.stars, "rating"),
        (body.comment, store.feedback.comment, "comment"),
        (body.correction, store.feedback.correct, "correction"),
    ]
    if all(value is None for value, _, _ in said):
        raise Refused("nothing is said about the answer", "give thumb, rating, comment or correction")
    kept = [write(whole, value, key=f"{body.key}/{kind}" if body.key else None) for value, write, kind in said if value is not None]
    return {"inference": whole, "feedback": [{"id": one.id, "kind": one.kind, "value": one.value} for one in kept]}
