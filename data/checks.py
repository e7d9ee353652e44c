"""What an answer in free text must be like, as data: the `check` of an example or case in a pack without an output contract.

    {"headings": ["Installation"], "contains": ["pip install"], "most_words": 150, "plain": true}
    {"python": "assert add(2, 3) == 5"}

All parts that are given must hold. What can be read off the text is decided here; the statements of `python` need the sandbox
(router/code_checks.py). Not covered: whether a text is true, or well written.
"""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MARKETING = (
    "amazing", "awesome", "incredible",
    "best-in-class", "blazing fast", "blazingly fast", "cutting-edge", "delightful", "effortless", "effortlessly", "game-changer",
    "game-changing", "industry-leading", "leverage", "next-generation", "powerful", "revolutionary", "robust", "seamless",
    "seamlessly", "simply", "state-of-the-art", "supercharge", "unleash", "unlock the power", "world-class",
)  # fmt: skip
"""What `plain` forbids: words that praise instead of telling."""

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n]*\n.*?(?:^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_LANGUAGE = re.compile(r"^ {0,3}(?:`{3,}|~{3,})[ \t]*([\w+#.-]+)", re.MULTILINE)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_STEP = re.compile(r"^ {0,3}\d{1,3}[.)][ \t]+\S", re.MULTILINE)
_WORD = re.compile(r"\w+(?:['’.-]\w+)*")


class Check(BaseModel):
    """Demands on an answer in Markdown; an empty one demands nothing. Comparisons of text ignore case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    python: str = ""
    """Statements, as a rule asserts, run in the sandbox after the answer's own Python code; they see `ANSWER`, the whole text, and
    `BLOCKS`, its code blocks as (language, code)."""
    language: str = ""
    """A fenced block of this language must be there."""
    headings: tuple[str, ...] = ()
    """Each must be a heading of any level."""
    contains: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    """At least one must be there."""
    absent: tuple[str, ...] = ()
    """Words or phrases none of which may be there."""
    steps: Annotated[int, Field(ge=0)] = 0
    """Numbered items at least."""
    least_words: Annotated[int, Field(ge=0)] = 0
    most_words: Annotated[int, Field(ge=0)] = 0
    """0: no limit. Code blocks are not counted."""
    plain: bool = False
    """No word of `MARKETING`, no exclamation mark; code blocks are not looked at."""

    def __bool__(self) -> bool:
        return self != Check()

    def faults(self, answer: str) -> list[str]:
        """What the text itself lacks or must not have, in words; `python` is not run here."""
        return [*self._missing(answer), *self._too_much(answer)]

    def _missing(self, answer: str) -> list[str]:
        folded = answer.casefold()
        prose = _FENCE.sub("", answer)
        headings = {found.strip().strip("*`").casefold() for found in _HEADING.findall(prose)}
        faults = [f"there is no heading {wanted!r}" for wanted in self.headings if wanted.casefold() not in headings]
        faults += [f"it does not say {wanted!r}" for wanted in self.contains if wanted.casefold() not in folded]
        if self.any_of and not any(wanted.casefold() in folded for wanted in self.any_of):
            faults.append(f"it says none of {', '.join(map(repr, self.any_of))}")
        if self.language and self.language.casefold() not in map(str.casefold, _LANGUAGE.findall(answer)):
            faults.append(f"there is no code block of {self.language}")
        if (steps := len(_STEP.findall(prose))) < self.steps:
            faults.append(f"it has {steps} numbered steps, {self.steps} at least")
        if (words := len(_WORD.findall(prose))) < self.least_words:
            faults.append(f"it has {words} words, {self.least_words} at least")
        return faults

    def _too_much(self, answer: str) -> list[str]:
        prose = _FENCE.sub("", answer)
        faults = [f"it says {wanted!r}" for wanted in self.absent if _says(answer, wanted)]
        if self.most_words and (words := len(_WORD.findall(prose))) > self.most_words:
            faults.append(f"it has {words} words, {self.most_words} at most")
        if self.plain:
            faults += [f"it praises: {word!r}" for word in MARKETING if _says(prose, word)]
            if re.search(r"\w!(?:\s|$)", prose):
                faults.append("it has an exclamation mark")
        return faults


def _says(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a text as whole words."""
    begin = r"(?<!\w)" if phrase[:1].isalnum() else ""
    end = r"(?!\w)" if phrase[-1:].isalnum() else ""
    return re.search(begin + re.escape(phrase) + end, text, re.IGNORECASE) is not None
