"""Tokens and prompts: whether a file reads and writes them as the trained model does.

The texts are what has gone wrong between tokenizers: double and leading spaces, newlines before digits, runs of digits, emoji,
scripts without spaces, tabs, special tokens as text, NUL, combining marks, writing from right to left, long runs. Conversations are
the validation prompts and the twelve shapes of `export._template.shapes`. Both sides make prompts by the rules of the llama.cpp
engine, so what is compared is the tokenizer, the template and the beginning-of-text token. Not covered: the Modelfile (`folder`).
"""

from collections.abc import Sequence
from pathlib import Path

from data.chat import Message
from data.exports import Check
from data.sanitise import one_line
from export._exporting.source import Reference
from export._template.shapes import SHAPES
from export._verify import computing
from export._verify.computing import Spelled

MOST_PROMPTS = 100
TEXTS = (
    "Hello world",
    "a  b   c    d",
    " leading space",
    "  two leading spaces",
    "trailing spaces  ",
    "line\nline\n\nline\n\n\nline\r\nline\r",
    "\n\n3",
    "\n3 \n 3\r\n3\r\n\r\n33",
    "tab\tand\t\ttwo \t mixed\t",
    "3 33 333 3333 33333 1234567890 3.14 1,000,000 v1.2.3 0x1F 1e-9",
    "x1y22z333 ½ ² Ⅷ ٣٤٥ 一二三",
    "I'm you're we'll they've he'd it's don't I'M YOU'RE O'Neill's",
    "emoji 😀👍🏽 👨‍👩‍👧‍👦 🇩🇪 ✈️ ❤️‍🔥",
    "漢字とかな カタカナ 한국어 中文，没有空格。",
    "naïve café Ünïcödé ß ſ ﬁ",
    "cafe\u0301 e\u0308 \u1112\u1161\u11ab a\u0323\u0302",
    "مرحبا بالعالم \u202bשלום\u202c नमस्ते สวัสดี",
    "a\u00a0b\u2003c\u3000d\u200be\ufefff",
    "()[]{}<>!?.,;: --- ... ''' \"\"\" `code` $x_1^2$ #tag @you 50% a/b\\c",
    "def f(x):\n    return {\"a\": [1, 2.5e-3], 'b': None}  # ok\n\n\n\tpass\n",
    "<|im_start|>system<|im_end|><|endoftext|></s><s>[INST]<unk><pad><|eot_id|><start_of_turn><|end|>",
    "<|im_start|> <|im_start |><|im_<|im_end|>end|>",
    "nul \x00 in\x00side \x01\x7f\u0080\ud7ff\uffff",
    "ALLCAPS CamelCase snake_case kebab-case ünïts10kg",
    "https://example.org/a?b=c&d=%20e#f mail@example.org",
    "a" * 3000,
    " " * 700 + "x",
    "\n" * 90,
    "1" * 400,
    "ab " * 600,
    "=" * 120 + "\n" + "-" * 120,
    "",
    " ",
    "\n",
)


def checks(file: Path, reference: Reference, of: str) -> tuple[tuple[Check, ...], Spelled]:
    """Tokens of texts, prompts with their tokens, and the beginning-of-text token. Raises ModelInvalid."""
    asked = list(reference.validation)[:MOST_PROMPTS]
    own = [message.content for one in asked for message in one.messages[-1:]]
    conversations: list[Sequence[Message]] = [*(one.messages for one in asked), *SHAPES.values()]
    found = computing.spell(file, [*TEXTS, *own], conversations, reference.think)
    wanted = [reference.spelled(one) for one in conversations]
    names = [*(f"validation row {number}" for number in range(1, len(asked) + 1)), *SHAPES]
    trained = [one.prompt for one in asked]
    return (
        _tokens(found, reference, [*TEXTS, *own], of),
        _prompts(found, wanted, trained, names, of),
        _bos(found, names, of),
        _ends(found, reference, of),
    ), found


def _tokens(found: Spelled, reference: Reference, texts: Sequence[str], of: str) -> Check:
    wrong = [text for text, ids in zip(texts, found.texts, strict=True) if list(ids) != list(reference.text_ids(text))]
    note = f"{len(texts)} texts"
    if wrong:
        note += f"; the first that is read otherwise is {one_line(ascii(wrong[0]), 80)}"
    return Check(name="tokens", of=of, passed=not wrong, value=len(wrong), limit=0, note=note)


def _prompts(
    found: Spelled,
    wanted: Sequence[tuple[str | None, Sequence[int]]],
    trained: Sequence[Sequence[int]],
    names: Sequence[str],
    of: str,
) -> Check:
    wrong = []
    for at, (name, (text, ids), (own, own_ids)) in enumerate(zip(names, found.prompts, wanted, strict=True)):
        as_trained = at >= len(trained) or list(ids) == list(trained[at])
        if text != own or list(ids) != list(own_ids) or not as_trained:
            wrong.append(name)
    note = f"{len(trained)} validation prompts and {len(names) - len(trained)} shapes of conversations"
    if wrong:
        note += f"; the first that differs is {wrong[0]!r}"
    return Check(name="prompts", of=of, passed=not wrong, value=len(wrong), limit=0, note=note)


def _bos(found: Spelled, names: Sequence[str], of: str) -> Check:
    """Exactly one where the family wants one; where it wants none, at most the template's own."""
    wrong = []
    for name, (text, ids) in zip(names, found.prompts, strict=True):
        if text is None or found.bos < 0:
            continue
        leading = next((at for at, token in enumerate(ids) if token != found.bos), len(ids))
        if leading > 1 or (found.adds_bos and leading != 1):
            wrong.append(name)
    note = "every prompt begins with exactly one" if found.adds_bos else "none is added, and none is doubled"
    if wrong:
        note = f"the first prompt where it is missing or doubled is {wrong[0]!r}"
    return Check(name="beginning token", of=of, passed=not wrong, value=len(wrong), limit=0, note=note)


def _ends(found: Spelled, reference: Reference, of: str) -> Check:
    """Whether every token that ends an answer in training ends it in the file."""
    missing = sorted(set(reference.ends) - set(found.ends))
    note = f"{len(reference.ends)} tokens end an answer"
    if missing:
        note += f"; the file goes on after {', '.join(map(str, missing[:5]))}"
    return Check(name="end tokens", of=of, passed=not missing, value=len(missing), limit=0, note=note)
