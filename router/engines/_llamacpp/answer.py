"""One structured answer in the making: what is fixed is written here, what is not is asked of the model, decision by decision.

An answer says which tokens it wants computed (`tokens`, then each of `branches` behind them), hears the logits, and goes on. It
knows nothing of contexts and sequences (`batching`). Its text is right by construction: every part of it is fixed text, one of the
given options, or written under a mask; at its limits it closes what is open.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.config import Sampling
from router.engines._llamacpp.choosing import Choosing, Opening, Outcome, Path
from router.engines._llamacpp.counting import Counting
from router.engines._llamacpp.drawing import Draw
from router.engines._llamacpp.plan import Plan
from router.engines._llamacpp.unfolding import Chain, Step, Turn, afters, another, openings, unfold
from router.engines._llamacpp.writing import Writing
from router.engines.structure import Choice, Literal, Number, Select, Text


class Answer:
    """tokens: of the prompt and the answer so far, of which the last is not yet computed when a decision is asked for.

    limit: tokens of the answer at most, overrun only by what must be written to close it. cut: whether a limit was reached.
    """

    def __init__(self, plan: Plan, prompt: Sequence[int], limit: int, sampling: Sampling) -> None:
        self.tokens = list(prompt)
        self.prompt_tokens = len(prompt)
        self.choices: list[Choice] = []
        self.done = False
        self.cut = False
        self._plan, self._limit = plan, limit
        self._draw = Draw(sampling)
        self._raw = bytearray()
        self._chain: Chain = (plan.root, None)
        self._step = Step("", None, None)
        self._covered = 0  # bytes of the fixed text to come that tokens hold already
        self._open = ""  # the end of the text that no token holds yet
        self._deciding: Choosing | Writing | Counting
        self._go_on()

    @property
    def branches(self) -> tuple[Path, ...]:
        """What to compute behind `tokens`, each path to its end; () is the last of `tokens` itself."""
        return () if self.done else self._deciding.branches

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._raw.decode("utf-8", "ignore")

    def hear(self, node: Path, logits: NDArray[np.float32]) -> None:
        """The model's logits after `tokens` and `node`. Raises ModelInvalid where they are no numbers."""
        self._deciding.hear(node, logits)

    def settle(self) -> None:
        """Go on to the next decision, after all of `branches` and every place on the way to their ends was heard."""
        deciding = self._deciding
        outcome = deciding.settle()
        self._write(outcome)
        if not outcome.over:
            return
        chain = self._step.rest
        if isinstance(deciding, Choosing):
            chain = self._chosen(deciding)
        elif isinstance(deciding, Writing):
            self.cut = self.cut or deciding.full
        self._chain = (Literal(outcome.forced), chain) if outcome.forced else chain
        self._go_on()

    def _write(self, outcome: Outcome) -> None:
        if outcome.drop:
            del self.tokens[-outcome.drop :]
        if outcome.drop_bytes:
            del self._raw[-outcome.drop_bytes :]
        self.tokens += outcome.tokens
        self._raw += outcome.text
        self._covered, self._open = outcome.covered, outcome.open

    def _chosen(self, choosing: Choosing) -> Chain:
        """Note a choice; what comes after it."""
        node, rest = self._step.node, self._step.rest
        if isinstance(node, Select) and node.path:
            self.choices.append(Choice(node.path, node.values, choosing.log_probabilities, choosing.chosen))
        if isinstance(node, Turn):
            ends = choosing.empty if isinstance(choosing, Opening) else choosing.chosen == 0
            return rest if ends else another(node, rest)[1]
        return rest

    def _go_on(self) -> None:
        """Write fixed text up to the next decision that needs the model."""
        asks = False
        while not asks and not self.done:
            self._step = step = unfold(self._chain)
            raw = step.literal.encode()
            self._raw += raw
            before = self._open + raw[self._covered :].decode()
            self._covered, self._open = 0, ""
            node = step.node
            if node is None:
                self.tokens += self._plan.vocab.tokenise_within(before)
                self.done = True
            elif isinstance(node, Select):
                asks = self._ask(node, before)
            elif isinstance(node, Text):
                asks = self._begin_text(node, before)
            elif isinstance(node, Number):
                asks = self._begin_number(node, before)
            else:
                asks = self._turn(node, before)

    def _ask(self, select: Select, before: str) -> bool:
        if len(select.options) == 1:
            if select.path:
                self.choices.append(Choice(select.path, select.values, (0.0,), 0))
            return self._force(select.options[0], before)
        after = afters(self._step.rest)
        return self._branch(before, select.options, (after[0] if len(after) == 1 else "",) * len(select.options))

    def _begin_text(self, text: Text, before: str) -> bool:
        plan, rest = self._plan, self._step.rest
        begin = plan.vocab.tokenise_within(before)
        left = self._limit - (len(self.tokens) - self.prompt_tokens + len(begin)) - plan.tokens((text, rest))
        writing = Writing(text, plan.text(text.stop, afters(rest)), plan.alphabet, self._draw, left)
        if writing.full:
            self.cut = self.cut or left <= 0
            return self._force(text.stop, before)
        self.tokens += begin
        self._deciding = writing
        return True

    def _begin_number(self, number: Number, before: str) -> bool:
        bounds, mask = self._plan.number(number, afters(self._step.rest))
        if bounds.only:
            return self._force(bounds.only, before)
        spaced = before.endswith(" ")
        self.tokens += self._plan.vocab.tokenise_within(before.removesuffix(" "))
        self._deciding = Counting(mask, bounds, self._draw, spaced, self._hurried_by(self._step.rest))
        return True

    def _turn(self, turn: Turn, before: str) -> bool:
        rest = self._step.rest
        opening, goes_on = another(turn, rest)
        if self._hurried_by(goes_on):
            self.cut = True
            return self._force("]", before)
        ends, begins = "]" + unfold(rest).literal, unfold(goes_on).literal
        if turn.count:
            return self._branch(before, ("]", opening), (ends[1:], begins))
        starts = openings(turn.repeat.item)
        if not starts:
            self._chain, self._open = goes_on, before
            return False
        options = ("]", *starts)
        found = self._plan.tree(before, options, (ends[1:], *("",) * len(starts)))
        self.tokens += found.stem
        held = sum(len(self._plan.vocab.piece(token)) for token in found.stem)
        self._deciding = Opening(found, options, before.encode()[held:].decode("utf-8", "ignore"))
        return True

    def _branch(self, before: str, options: tuple[str, ...], after: tuple[str, ...]) -> bool:
        found = self._plan.tree(before, options, after)
        self.tokens += found.stem
        self._deciding = Choosing(found, options)
        return True

    def _force(self, text: str, before: str) -> bool:
        """Go on with a text in the place of a decision."""
        self._chain, self._open = (Literal(text), self._step.rest), before
        return False

    def _hurried_by(self, chain: Chain) -> bool:
        """Whether what must be written of this chain takes all tokens that are left."""
        return len(self.tokens) - self.prompt_tokens + self._plan.tokens(chain) >= self._limit
