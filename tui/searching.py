"""What is typed to search in the log: words, and filters such as `model:echo/echo rating:good since:2026-01-31 tag:work`.

Not covered: the search itself (`data.store.search`).
"""

import shlex
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from data.errors import InputError
from data.store.search import RATINGS, Filters

NAMES: Final = ("model", "mode", "domain", "rating", "since", "before", "tag")
HINT: Final = "filters: model: mode: domain: rating:good|bad|1-5 since:7d before:2026-01-31 tag:"
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A search. words: as they were typed, quotes included; tag: the chat has it; the rest as in the store."""

    words: str = ""
    model: str = ""
    tag: str = ""
    filters: Filters = field(default_factory=Filters)

    @property
    def only_tag(self) -> bool:
        """Whether nothing but a tag is asked for."""
        return bool(self.tag) and not (self.words or self.model or self.filters != Filters())


def parse(text: str, now: datetime) -> Wanted:
    """The search that was typed. Raises InputError naming the filter that cannot be used, and how it is written."""
    words: list[str] = []
    given: dict[str, str] = {}
    for word in _split(text):
        name, colon, value = word.partition(":")
        if colon and name.casefold() in NAMES and '"' not in name:
            given[name.casefold()] = value.strip('"')
        else:
            words.append(word)
    mode = given.get("mode", "").casefold().replace("-", "_")
    rating = given.get("rating", "").casefold()
    if rating and rating not in RATINGS:
        raise InputError(f"there is no rating {rating!r}", "one of: " + ", ".join(RATINGS))
    filters = Filters(mode, given.get("domain", ""), rating, _time(given, "since", now), _time(given, "before", now))
    return Wanted(" ".join(words), given.get("model", ""), given.get("tag", "").strip("#").casefold(), filters)


def _split(text: str) -> list[str]:
    """The words; what stands in double quotes is one, with its quotes."""
    lexer = shlex.shlex(text, posix=False)
    lexer.whitespace_split, lexer.commenters, lexer.quotes = True, "", '"'
    try:
        return list(lexer)
    except ValueError:  # a quotation that is still open
        return text.split()


def _time(given: dict[str, str], name: str, now: datetime) -> datetime | None:
    """A day such as 2026-01-31 in the local time zone, or so many hours, days or weeks ago: 7d."""
    value = given.get(name, "")
    if not value:
        return None
    if value[:-1].isdecimal() and len(value) <= 6 and value[-1] in _UNITS:
        return now - int(value[:-1]) * _UNITS[value[-1]]
    try:
        return datetime.strptime(value, "%Y-%m-%d").astimezone().astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}:{value} is no day", f"write {name}:2026-01-31, or {name}:7d") from error
