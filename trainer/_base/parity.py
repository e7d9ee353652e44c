"""Whether a tokenizer says what llama.cpp says, on texts that differ where two tokenizers differ.

A base from a GGUF file is served by llama.cpp; trained on other tokens it would be worse there, and nobody would know why.
The texts: what has gone wrong between tokenizers (double and leading spaces, newlines before digits, runs of digits, emoji,
scripts without spaces, tabs, contractions, special tokens as text, combining marks).
"""

from typing import Any

from data.chat import Message
from data.config import LlamaCppSettings
from data.errors import EngineError, EngineRejected, ModelInvalid
from data.sanitise import one_line
from router.engines._llamacpp.prompt import spelled
from trainer._base import turns
from trainer._base.vocabulary import TokenizerVocab

TEXTS = (
    "Hello world",
    "a  b   c    d",
    " leading space",
    "  two leading spaces",
    "trailing spaces  ",
    "line\nline\n\nline\n\n\nline",
    "\n\n3",
    "\n3 \n 3\r\n3\r\n\r\n33",
    "tab\tand\t\ttwo \t mixed",
    "3 33 333 3333 33333 1234567890 3.14 1,000,000 v1.2.3",
    "x1y22z333 ½ ² Ⅷ ٣٤٥ 一二三",
    "I'm you're we'll they've he'd it's don't I'M YOU'RE",
    "emoji 😀👍🏽 👨‍👩‍👧‍👦 🇩🇪 ✈️",
    "漢字とかな カタカナ 한국어 中文，没有空格。",
    "naïve café Ünïcödé ß ſ",
    "cafe\u0301 e\u0308 \u1112\u1161\u11ab",
    "مرحبا بالعالم שלום नमस्ते สวัสดี",
    "a\u00a0b\u2003c\u3000d\u200be\ufefff",
    "()[]{}<>!?.,;: --- ... ''' \"\"\" `code` $x_1^2$ #tag @you 50% a/b\\c",
    "def f(x):\n    return {\"a\": [1, 2.5e-3], 'b': None}  # ok\n\n\n\tpass\n",
    "<|im_start|>system<|im_end|><|endoftext|></s><s>[INST]<unk><pad><|eot_id|><start_of_turn>",
    "\x00\x01\x7f\u0080\ud7ff\uffff",
    "ALLCAPS CamelCase snake_case kebab-case ünïts10kg",
    "https://example.org/a?b=c&d=%20e#f mail@example.org",
    "",
    " ",
    "\n",
)
"""What is compared when a base is loaded."""


def require(tokenizer: Any, where: str, name: str) -> None:
    """Raises ModelInvalid naming the first text that the tokenizer and llama.cpp read differently, EngineUnavailable without it.

    where: how messages call the base; name: how the engine does, a catalog name or a path.
    """
    from router.engines.llamacpp import LlamaCpp

    vocab = TokenizerVocab(tokenizer, (tokenizer.eos_token_id,), len(tokenizer))
    engine = LlamaCpp(LlamaCppSettings(context=512))
    try:
        for text in TEXTS:
            if vocab.tokenise_text(text) != engine.tokens(name, text):
                raise _differs(where, text)
        for text, messages, found in _prompts(tokenizer, vocab, where):
            if found != engine.prompt_tokens(name, messages):
                raise _differs(where, text)
    except EngineError as error:
        raise ModelInvalid(f"llama.cpp cannot read {where} to compare its tokenizer: {one_line(str(error), 200)}") from error
    finally:
        engine.close()


def _prompts(tokenizer: Any, vocab: TokenizerVocab, where: str) -> list[tuple[str, list[Message], list[int]]]:
    """Each text in a conversation with its tokens; none where the template refuses, which is told elsewhere."""
    template = turns.template(tokenizer, vocab, where)
    found = []
    for text in TEXTS:
        messages = [Message("user", text), Message("assistant", "yes"), Message("user", f"{text}\n{text}")]
        try:
            found.append((text, messages, spelled(messages, vocab, template)[1]))
        except EngineRejected:
            return []
    return found


def _differs(where: str, text: str) -> ModelInvalid:
    return ModelInvalid(
        f"the tokenizer that {where} describes and llama.cpp's read {one_line(ascii(text), 80)} differently",
        "give the checkpoint (hub id or folder) instead of the GGUF file",
    )
