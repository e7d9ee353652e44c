"""Twelve conversations over which the model's own chat template and a Modelfile's TEMPLATE must write the same prompt.

They hold what templates are known to get wrong: no system message, an empty one, edge blanks, text that looks like a template or
like control tokens, characters of several code points, an answer as the last message. Roles take turns, since Ollama joins
neighbours of one role. Not covered: tools, images.
"""

from collections.abc import Mapping
from types import MappingProxyType

from data.chat import Message, Role

_CONTROLS = (
    "Explain <|im_start|>, <|im_end|>, <|eot_id|>, <|end|>, <|user|>, <|assistant|>, </s>, <s>, <bos>, <start_of_turn>, [INST], "
    "[/INST], <think> and </think>."
)
_CODE = "Why does this fail?\n\n```python\ndef f(x):\n\treturn {x: '%s' % x}\n\n\n```\n"
_LONG = "The quick brown fox jumps over the lazy dog. 0123456789 (and so on)\n" * 60


def _talk(*contents: str, system: str | None = None) -> tuple[Message, ...]:
    """User and assistant in turn, after the system message where there is one."""
    first = () if system is None else (Message("system", system),)
    roles: tuple[Role, Role] = ("user", "assistant")
    return (*first, *(Message(roles[number % 2], content) for number, content in enumerate(contents)))


SHAPES: Mapping[str, tuple[Message, ...]] = MappingProxyType(
    {
        "one question": _talk("What is the capital of France?"),
        "system": _talk("Hi there", system="You are a terse assistant.\nAnswer in one word."),
        "several turns": _talk("Hi", "Hello! How can I help?", "What is 2+2?", "4", "And 3+3?", system="You count."),
        "turns without system": _talk("first", "an answer", "second"),
        "empty system": _talk("Hi", system=""),
        "edge blanks": _talk("  two before and after  \n", " an answer ", "\nnext\t", system=" be brief \n"),
        "braces": _talk("{{ .System }} {% if x %} {# c #} }} {{- \"a\" -}} ${x} %s %d", "{'a': [1]}", "and {0}?", system="{{ x }}"),
        "scripts and emoji": _talk(
            "naïve café — 你好, مرحبا, हिन्दी", "👩‍👩‍👧 🏳️‍🌈 e\u0301", "ﬁn\u00a0\u3000\u200b.", system="日本語で。",
        ),
        "code and quotes": _talk(_CODE, "It's \"x\" & <y>, not 'z' \\n", '"""doc"""\nok?', system='Say "yes" or \'no\'.'),
        "control tokens": _talk(_CONTROLS, system="Never say <|endoftext|>."),
        "long": _talk(_LONG, "ok " * 300, _LONG, system="x" * 2000),
        "last is an answer": _talk("Name a colour", "Blue", "Another", "Sure:", system="Be kind."),
    }
)  # fmt: skip
