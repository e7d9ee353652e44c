"""Where the values of a TOML or JSON text stand: the line of every key and item, by its path.

`tomllib` and `json` read the values and tell no places; these find them in a text that they have accepted. A path is the keys and
item numbers from the top: ("labels", 2, "name"). Not covered: texts with syntax faults, whose places the parsers tell themselves.
"""

import bisect
import re

Path = tuple[str | int, ...]

_STRING = re.compile(r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL)
_HEADER = re.compile(r"\[(?P<list>\[)?(?P<key>[^\]\n]*)\]\]?")
_PART = re.compile(r"""\s*(?:"(?P<double>(?:\\.|[^"\\\n])*)"|'(?P<single>[^'\n]*)'|(?P<bare>[\w-]+))\s*\.?""")
_KEY = re.compile(
    r"""[ \t]*(?P<key>(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[\w-]+)(?:\s*\.\s*(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[\w-]+))*)[ \t]*="""
)
_BLANK = re.compile(r"(?:\s+|#[^\n]*)+")
_SCALAR = re.compile(r"[^\s,\[\]{}#\"':=]+")


class Lines:
    """The line, from 1, of each path of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._found: dict[Path, int] = {}

    def at(self, *path: str | int) -> int:
        """The line of the value at a path, else of the nearest thing around it, else 1."""
        for length in range(len(path), 0, -1):
            for found in (path[:length], (*path[:length], 0)):  # a list of tables begins with its first
                if found in self._found:
                    return self._found[found]
        return 1

    def of_offset(self, offset: int) -> int:
        """The line that the character at `offset` is in."""
        return bisect.bisect_left(self._ends, offset) + 1

    def put(self, path: Path, offset: int) -> None:
        """Say where the value at a path begins; the first place said counts."""
        self._found.setdefault(path, self.of_offset(offset))

    def nested(self, position: int, path: Path, key: re.Pattern[str], sign: str) -> int:
        """Note the arrays and tables of the value at `position`; the position after it. key: how a table's keys are written."""
        open_: list[tuple[Path, int]] = []  # the path of each open array (next item's number) or table (-1)
        text = self._text
        current = path
        while position < len(text):
            if blank := _BLANK.match(text, position):
                position = blank.end()
                continue
            if open_ and open_[-1][1] < 0 and (found := key.match(text, position)) and text[found.end() - 1] == sign:
                current = (*open_[-1][0], *_parts(found.group("key")))
                self.put(current, position)
                position = found.end()
                continue
            char = text[position]
            if open_ and open_[-1][1] >= 0 and char not in ",]":
                current = (*open_[-1][0], open_[-1][1])
                self.put(current, position)
            position = self._step(char, position, open_, current)
            if not open_:
                return position
        return position

    def _step(self, char: str, position: int, open_: list[tuple[Path, int]], current: Path) -> int:
        if char in "[{":
            open_.append((current, 0 if char == "[" else -1))
        elif char in "]}" and open_:
            open_.pop()
        elif char == "," and open_ and open_[-1][1] >= 0:
            open_[-1] = (open_[-1][0], open_[-1][1] + 1)
        elif char in "\"'":
            match = _STRING.match(self._text, position)
            return match.end() if match else position + 1
        else:
            scalar = _SCALAR.match(self._text, position)
            return scalar.end() if scalar else position + 1
        return position + 1


def toml_lines(text: str) -> Lines:
    """The places of a text that tomllib has accepted. O(n log n)."""
    lines = Lines(text)
    counts: dict[Path, int] = {}
    table: Path = ()
    position = 0
    while position < len(text):
        if blank := _BLANK.match(text, position):
            position = blank.end()
        elif found := _KEY.match(text, position):
            path = (*table, *_parts(found.group("key")))
            lines.put(path, position)
            begin = _BLANK.match(text, found.end())
            position = lines.nested(begin.end() if begin else found.end(), path, _KEY, "=")
        elif header := _HEADER.match(text, position):
            table = _resolved(_parts(header.group("key")), bool(header.group("list")), counts)
            lines.put(table, position)
            position = header.end()
        else:
            position += 1
    return lines


_JSON_KEY = re.compile(r'(?P<key>"(?:\\.|[^"\\\n])*")\s*:')


def json_lines(text: str) -> Lines:
    """The places of a text that json has accepted. O(n log n)."""
    lines = Lines(text)
    lines.nested(0, (), _JSON_KEY, ":")
    return lines


def _parts(key: str) -> Path:
    found = []
    for part in _PART.finditer(key):
        found.append(part.group("double") if part.group("double") is not None else part.group("single") or part.group("bare") or "")
    return tuple(found)


def _resolved(parts: Path, is_list: bool, counts: dict[Path, int]) -> Path:
    """A header's path with the numbers of the lists of tables that it goes through."""
    path: Path = ()
    for at, part in enumerate(parts):
        path = (*path, part)
        last = at == len(parts) - 1
        if last and is_list:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path
