"""A structure unfolded part by part: the text that is fixed up to the next decision, the decision, and what comes after it.

What is left of an answer is a chain of parts, (first, the chain after it) or None, shared by all answers that are at the same
place. Not covered: how decisions are taken (`choosing`, `writing`, `counting`).
"""

from dataclasses import dataclass

from router.engines.structure import Literal, Node, Number, Repeat, Select, Series, Text


@dataclass(frozen=True, slots=True)
class Turn:
    """Within an array, after `count` items: another one, or the end."""

    repeat: Repeat
    count: int


Decided = Select | Text | Number | Turn
Chain = tuple[Node | Turn, "Chain"] | None


@dataclass(frozen=True, slots=True)
class Step:
    """`literal`, then the decision `node` (None: the answer is complete), then `rest`."""

    literal: str
    node: Decided | None
    rest: Chain


def unfold(chain: Chain) -> Step:
    """The fixed text and the next decision of a chain."""
    literal = ""
    while chain is not None:
        part, rest = chain
        if isinstance(part, Literal):
            literal, chain = literal + part.text, rest
        elif isinstance(part, Series):
            chain = _before(part, rest)
        elif isinstance(part, Repeat):
            literal, chain = literal + "[", (Turn(part, 0), rest)
        elif isinstance(part, Turn) and part.count >= part.repeat.most:
            literal, chain = literal + "]", rest
        elif isinstance(part, Turn) and part.count < part.repeat.least:
            opening, chain = another(part, rest)
            literal += opening
        else:
            return Step(literal, part, rest)
    return Step(literal, None, None)


def another(turn: Turn, rest: Chain) -> tuple[str, Chain]:
    """One more item: what stands before it, and the chain from it on."""
    return (", " if turn.count else ""), (turn.repeat.item, (Turn(turn.repeat, turn.count + 1), rest))


def afters(chain: Chain) -> tuple[str, ...]:
    """The fixed texts that can come next: one, or two where an array ends or goes on."""
    step = unfold(chain)
    if step.literal or not isinstance(step.node, Turn):
        return (step.literal,)
    opening, goes_on = another(step.node, step.rest)
    return "]" + unfold(step.rest).literal, opening + unfold(goes_on).literal


def openings(node: Node) -> tuple[str, ...]:
    """The texts with which a part can begin; none for a part that may begin with anything."""
    if isinstance(node, Literal):
        return (node.text,) if node.text else ()
    if isinstance(node, Select):
        return node.options
    if isinstance(node, Number):
        return tuple("-0123456789"[0 if node.minimum < 0 else 1 :])
    if isinstance(node, Repeat):
        return ("[",)
    if isinstance(node, Series):
        return next((found for part in node.parts if (found := openings(part))), ())
    return ()


def _before(series: Series, rest: Chain) -> Chain:
    for part in reversed(series.parts):
        rest = (part, rest)
    return rest
