"""What a rule may ask of a text: each fact is computed when a condition first asks for it, and once.

Matching sees the text normalised: NFKC, control characters as spaces, invisible format characters gone, at most the first
16,000 characters (regexes: 4,000; `chars`, `lines` and `ends_with` see the whole). Keywords are whole words, case-folded;
those of scripts that write without spaces are looked for anywhere. Not covered: what a text means.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

SEEN_CHARS = 16_000
"""Characters of a text that keywords, flags and numbers see."""
REGEX_CHARS = 4_000
"""Characters of a text that regexes see: they may cost its square."""
_TAIL_CHARS = 1_000
_FUZZY_LETTERS = 5
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_URL = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}\.[\w.-]{2,63}")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_FENCE = re.compile(r"^[ \t]{0,3}(?:```|~~~)", re.MULTILINE)
_CODE = re.compile(
    r"`[^`\n]{1,200}`|^\s{0,200}(?:def|class|import|from|function|const|let|#include|public|SELECT)\s[^\n]{0,200}[({;:*]",
    re.MULTILINE,
)
_MATH = re.compile(
    r"\\(?:frac|sum|int|sqrt|alpha|beta|pi|le|ge|cdot)\b|\$[^$\n]{1,200}\$|[=√∑∫≤≥≠±]|\d\s{0,3}[+*×÷^]\s{0,3}\(?\s{0,3}\d|\d\s{1,3}[-/]\s{1,3}\(?\d"
)
_TABLE = re.compile(
    r"^[^\n|]{0,200}\|[^\n|]{0,200}\|[^\n]{0,400}\n[ \t|:]{0,9}-{2,}|^[^\t\n]{0,200}\t[^\t\n]{1,200}\t[^\n]{0,400}\n", re.MULTILINE
)
_FILE = re.compile(
    r"(?:^|[\s\"'(@])(?:[\w.~-]{0,64}[/\\])*[\w-]{1,64}\.(?:txt|md|pdf|csv|tsv|json|jsonl|toml|ya?ml|xml|html?|docx?|xlsx?|py|js|ts|c|h|cpp|rs|go|java|"
    r"sh|log|ini|cfg|sql|ipynb|png|jpe?g|parquet)\b",
    re.IGNORECASE,
)
_ASKING = frozenset(
    "what who whom whose which when where why how is are am was were do does did can could will would shall should may might has "
    "have qui que quoi quand où pourquoi comment quel quelle wer was wann wo warum wie welche qué quién cuándo dónde cómo".split()
)
_ORDERING = frozenset(
    "add build calculate change check classify compare compute convert correct count create define delete describe design draft "
    "draw edit estimate evaluate explain extract find fix format generate give help identify implement improve list make move open "
    "outline plan prove read refactor remove rename replace rewrite run schedule search send set show simplify solve sort "
    "summarise summarize tell translate turn update write".split()
)
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_QUESTION_MARKS = str.maketrans({"？": "?", "؟": "?", "፧": "?", "՞": "?"})


def clean(text: str) -> str:
    """NFKC, CR LF as LF, control characters but LF and TAB as spaces, format characters and lone surrogates gone."""
    text = text.replace("\r\n", "\n")
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if text.isprintable():
        return text
    return "".join(_plain(char) for char in text)


def folded_words(text: str) -> str:
    """The case-folded words of a text with one space between and at both ends."""
    return f" {' '.join(_WORD.findall(clean(text).casefold().replace('’', chr(39))))} "


def folded_tokens(text: str) -> str:
    """Words and single symbols with one space between and at both ends: "c++" is " c + + "."""
    return f" {' '.join(_TOKEN.findall(clean(text).casefold()))} "


@dataclass(frozen=True)
class Facts:
    """A text as conditions see it. `domain` is the one the user pinned, `attachments` the names of attached files."""

    text: str
    domain: str = ""
    attachments: tuple[str, ...] = ()
    chars: int = 0
    lines: int = 0
    tail: str = ""

    @classmethod
    def of(cls, text: str, *, domain: str = "", attachments: tuple[str, ...] = ()) -> "Facts":
        """The facts of a text as the user wrote it. O(1) characters are looked at but for the length and the line count."""
        seen = clean(text[:SEEN_CHARS]).strip()
        tail = clean(text[-_TAIL_CHARS:]).strip().casefold()
        return cls(seen, domain, tuple(attachments), len(text), text.count("\n") + 1 if text.strip() else 0, tail)

    @property
    def cut(self) -> bool:
        """Whether matching sees less than the whole text."""
        return self.chars > SEEN_CHARS

    @cached_property
    def folded(self) -> str:
        """The text case-folded."""
        return self.text.casefold()

    @cached_property
    def spaced(self) -> str:
        """Its words with one space between and at both ends."""
        return folded_words(self.text)

    @cached_property
    def symbols(self) -> str:
        """Its words and symbols with one space between and at both ends."""
        return folded_tokens(self.text)

    @cached_property
    def word_list(self) -> tuple[str, ...]:
        """Its words in order."""
        return tuple(self.spaced.split())

    @cached_property
    def by_length(self) -> Mapping[int, frozenset[str]]:
        """Its different words by their length in characters."""
        found: dict[int, set[str]] = {}
        for word in self.word_list:
            found.setdefault(len(word), set()).add(word)
        return {length: frozenset(words) for length, words in found.items()}

    @cached_property
    def start(self) -> str:
        """What regexes see."""
        return self.text[:REGEX_CHARS]

    @cached_property
    def _found(self) -> dict[str, int]:
        return {}

    def number(self, name: str) -> int:
        """A number of `NUMBERS`."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = NUMBERS[name](self)
        return found

    def flag(self, name: str) -> bool:
        """A flag of `FLAGS`."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = FLAGS[name](self)
        return bool(found)


def near(word: str, other: str) -> bool:
    """Whether two words are equal or, where the first has five letters or more, one edit apart.

    An edit is a letter more, less or other, or two neighbours swapped (optimal string alignment distance 1).
    """
    if word == other:
        return True
    if len(word) < _FUZZY_LETTERS or abs(len(word) - len(other)) > 1:
        return False
    same = 0
    for one, two in zip(word, other, strict=False):
        if one != two:
            break
        same += 1
    mine, theirs = word[same:], other[same:]
    if len(mine) == len(theirs):
        return mine[1:] == theirs[1:] or (mine[2:] == theirs[2:] and mine[:2] == theirs[1::-1])
    return mine[1:] == theirs if len(mine) > len(theirs) else mine == theirs[1:]


def keyword(wanted: str) -> Callable[[Facts], bool]:
    """Whether a text has the keyword, as whole words whatever their case. Raises ValueError where it has no character."""
    folded = clean(wanted).casefold().strip()
    if not folded:
        raise ValueError("an empty keyword")
    if _UNSPACED.search(folded):
        return lambda facts: folded in facts.folded
    if re.fullmatch(r"[\w\s'’-]+", folded) and _WORD.search(folded):
        words = folded_words(folded)
        return lambda facts: words in facts.spaced
    tokens = folded_tokens(folded)
    return lambda facts: tokens in facts.symbols


def about(wanted: str) -> Callable[[Facts], bool]:
    """As `keyword`, but each word of five letters or more may have one typing error."""
    words = folded_words(wanted).split()
    if not words:
        raise ValueError("a keyword without letters or digits")
    count = len(words)
    if count == 1:
        return lambda facts: _near_any(words[0], facts)

    def holds(facts: Facts) -> bool:
        found = facts.word_list
        return any(
            near(words[0], found[at]) and all(near(word, found[at + step]) for step, word in enumerate(words))
            for at in range(len(found) - count + 1)
        )

    return holds


def _near_any(word: str, facts: Facts) -> bool:
    nothing: frozenset[str] = frozenset()
    lengths = range(len(word) - 1, len(word) + 2) if len(word) >= _FUZZY_LETTERS else (len(word),)
    return any(near(word, other) for length in lengths for other in facts.by_length.get(length, nothing))


def _plain(char: str) -> str:
    if char in "\n\t":
        return char
    category = unicodedata.category(char)
    return " " if category in ("Cc", "Zs", "Zl", "Zp") else "" if category in ("Cf", "Cs") else char


def _is_question(facts: Facts) -> bool:
    if facts.tail.rstrip("\"'») ").translate(_QUESTION_MARKS).endswith("?"):
        return True
    return bool(facts.word_list) and facts.word_list[0] in _ASKING


def _is_command(facts: Facts) -> bool:
    words = facts.word_list[1:] if facts.word_list[:1] == ("please",) else facts.word_list
    return bool(words) and words[0] in _ORDERING and not facts.tail.endswith("?")


NUMBERS: Mapping[str, Callable[[Facts], int]] = {
    "words": lambda facts: len(facts.word_list),
    "chars": lambda facts: facts.chars,
    "lines": lambda facts: facts.lines,
    "digits": lambda facts: sum(map(str.isdigit, facts.text)),
    "questions": lambda facts: facts.text.translate(_QUESTION_MARKS).count("?"),
    "code_blocks": lambda facts: (len(_FENCE.findall(facts.text)) + 1) // 2,
    "urls": lambda facts: len(_URL.findall(facts.text)),
    "numbers": lambda facts: len(_NUMBER.findall(facts.text)),
}
"""What can be compared with a number. `words`, `digits` and the rest are those of the first 16,000 characters."""

FLAGS: Mapping[str, Callable[[Facts], bool]] = {
    "has_code": lambda facts: bool(_FENCE.search(facts.text) or _CODE.search(facts.text)),
    "has_url": lambda facts: bool(_URL.search(facts.text)),
    "has_math": lambda facts: bool(_MATH.search(facts.text)),
    "has_email": lambda facts: "@" in facts.text and bool(_EMAIL.search(facts.text)),
    "has_table": lambda facts: bool(_TABLE.search(facts.text)),
    "has_file": lambda facts: bool(facts.attachments) or bool(_FILE.search(facts.text)),
    "is_question": _is_question,
    "is_command": _is_command,
}
"""What is so or is not."""
