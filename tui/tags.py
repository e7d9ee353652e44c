"""Tags of a chat: words that begin with # at the end of its title, so that they are kept, searched and exported with it.

Not covered: keeping the title (`Log.rename`).
"""

import re
from collections.abc import Iterable
from typing import Final

_TAG: Final = re.compile(r"#[^\s#]{1,40}")


def split(title: str) -> tuple[str, tuple[str, ...]]:
    """The title without its tags, and the tags without their #, in their order."""
    words = title.split()
    end = len(words)
    while end > 0 and _TAG.fullmatch(words[end - 1]):
        end -= 1
    return " ".join(words[:end]), tuple(dict.fromkeys(word[1:] for word in words[end:]))


def joined(title: str, tags: Iterable[str]) -> str:
    """The title with these tags and no others."""
    plain = split(title)[0]
    return " ".join([plain, *(f"#{tag}" for tag in dict.fromkeys(tags))]).strip()


def typed(text: str) -> tuple[str, ...]:
    """The tags in what was typed: words with or without #, between spaces or commas; what cannot be one is left out."""
    words = (word.strip("#").replace("#", "") for word in re.split(r"[\s,]+", text))
    return tuple(dict.fromkeys(word for word in words if word and _TAG.fullmatch(f"#{word}")))
