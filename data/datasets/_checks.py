"""What cleaning looks for in one text: hidden characters, chat control tokens, turns of another role, spreadsheet formulas.

Each function takes a text and the name of its place, and returns the text made sound or raises `Fault`. A text of ASCII without
`<`, `[` and control characters (`is_plain`) needs only the last two checks. Patterns are linear in the length of the text.
Not covered: look-alike letters of other scripts.
"""

import re
import unicodedata
from collections import Counter
from typing import Final

STRAY: Final = 8
"""Invisible characters that may be stray in a text of any length; more are one in a hundred or the row is refused."""
_LETTER: Final = "A-Za-z0-9\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff"
"""Scripts whose words need no invisible characters; those of Arabic, Indic and South-East Asian scripts do (Unicode 16, 23.2)."""
_JOINING: Final = (
    "\u0590-\u08ff\u0900-\u0dff\u0e00-\u0fff\u1000-\u109f\u1780-\u18af\u2e80-\u9fff\uac00-\ud7a3\ufb1d-\ufdff\ufe70-\ufefc"
)
_ZERO_WIDTH: Final = "\u180e\u200b-\u200f\u061c\u2060-\u2064\u206a-\u206f\ufeff\u034f\u115f\u1160\u3164\uffa0\ufff9-\ufffb"
_BIDI: Final = "\u202a-\u202e\u2066-\u2069"
_EMOJI: Final = "\u00a9\u00ae\u203c-\u205f\u2070-\u2bff\u3030\u303d\u3297\u3299\ufe0f\u20e3\U0001f000-\U0001faff\u2640\u2642"

_NOT_PLAIN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f<\[]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BREAKS: Final = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_TERMINAL: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\`-~])")  # ECMA-48
_CONTROL: Final = re.compile("[\x01-\x08\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
_OVERRIDE: Final = re.compile(f"[\u202d\u202e][^\u202c-\u202e\n{_LETTER}]*[{_LETTER}]")
_UNUSUAL: Final = re.compile(f"[\u00ad{_ZERO_WIDTH}{_BIDI}\ufe00-\ufe0f\U000e0000-\U000e0fff]")
_SEQUENCE: Final = re.compile(
    "\U0001f3f4[\U000e0020-\U000e007e]{2,6}\U000e007f"  # flags of subdivisions, UTS #51 section 2.8
    "|(?<=[\u3400-\u9fff\uf900-\ufaff])[\U000e0100-\U000e01ef]"  # variants of one ideograph, UTS #37
)
_TAG: Final = re.compile("[\U000e0000-\U000e0fff]")
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f]{3}")
_KEPT: Final = re.compile(
    f"(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])|[\ufe00-\ufe0f]"
    f"|(?<=[{_JOINING}])[\u200b-\u200f\u061c]|[\u200b-\u200f\u061c](?=[{_JOINING}])"
)
_WITHIN: Final = re.compile(f"(?<=[{_LETTER}])[{_ZERO_WIDTH}]+(?=[{_LETTER}])")
_SPELLED: Final = re.compile("\u00ad\\w\u00ad")
_HIDDEN: Final = re.compile(f"[\u00ad{_ZERO_WIDTH}{_BIDI}]")
_RUN: Final = re.compile(f"[{_ZERO_WIDTH}{_BIDI}]{{4}}")
_MOJIBAKE: Final = re.compile("Ã[\u0080-¿]|â€[\u0080-\u00ff™œ˜“¦]|Â[\u00a0-¿]")  # UTF-8 read as Windows-1252

_NAMES: Final = (
    "s|bos|eos|pad|unk|mask|sep|cls|start_of_turn|end_of_turn|start_of_image|end_of_turn|tool_call|tool_response|tools|tool_result"
    "|function_calls?|unused\\d+|extra_id_\\d+|reserved_\\d+|seg_\\w+|fim_(?:prefix|middle|suffix|pad)"
)
_TOKEN: Final = re.compile(
    r"<(?=\|[^<>|\s][^<>|\n]{0,62}\|>)|<(?=｜[^<>｜\s][^<>｜\n]{0,62}｜>)|<(?=</?SYS>>)"
    rf"|<(?=/?(?:{_NAMES})>)"
    r"|\[(?=/?(?:INST|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS|SYSTEM_PROMPT|PREFIX|SUFFIX|MIDDLE|IMG|ARGS|CALL_ID|gMASK|sMASK"
    r"|CLS|SEP|PAD|UNK|MASK|BOS|EOS)\])"
)
_THINKING: Final = re.compile(r"<(?=/?(?:think|thinking|thought|reasoning_content)>)")
_ROLE: Final = "system|user|assistant|tool|model|developer|ipython|human|function"
_OPENS: Final = re.compile(
    rf"<\|(?:im_start|start|start_header_id|header_start|turn)\|>\s*(?:{_ROLE})\b"
    rf"|<start_of_turn>\s*(?:{_ROLE})\b"
    r"|<\|(?:im_end|eot_id|eot|end|endoftext|end_of_turn|eom_id)\|>\s*<\|"
    rf"|^[ \t]*<[|｜](?:{_ROLE}|User|Assistant)[|｜]>"
    r"|</s>\s*(?:<s>|\[INST\]|<\|)"
    r"|\[INST\][^\[]*\[/INST\]|\[/INST\][^\[]*\[INST\]|<<SYS>>[^<]*<</SYS>>",
    re.MULTILINE,
)
_MARK: Final = r"[ \t]{0,8}(?:\*\*)?[ \t]{0,8}"
_ORDERS: Final = (
    "you|ignore|forget|disregard|override|from now|new |always|never|act|pretend|respond|reply|answer|output|do not|don't"
    "|the (?:user|assistant)"
)
_LINES: Final = {
    "assistant": re.compile(
        rf"(?:\A|\n){_MARK}(?:ai[ _])?(?:assistant|chatbot|chatgpt){_MARK}:|\n[ \t]*\n{_MARK}(?:ai|bot){_MARK}:"
        r"|(?:\A|\n)[ \t]{0,8}#{2,4}[ \t]{0,8}(?:response|assistant)[ \t]{0,8}:",
        re.IGNORECASE,
    ),
    "user": re.compile(
        rf"(?:\A|\n){_MARK}human{_MARK}:|\n[ \t]*\n{_MARK}user{_MARK}:"
        r"|(?:\A|\n)[ \t]{0,8}#{2,4}[ \t]{0,8}(?:instruction|human|user)[ \t]{0,8}:",
        re.IGNORECASE,
    ),
    "system": re.compile(
        rf"(?:\A|\n){_MARK}system[ _](?:prompt|message|instructions?){_MARK}:|(?:\A|\n){_MARK}system{_MARK}:\s{{0,8}}(?:{_ORDERS})"
        r"|(?:\A|\n)[ \t]{0,8}#{2,4}[ \t]{0,8}system[ \t]{0,8}:",
        re.IGNORECASE,
    ),
}
"""By role, how a line opens its turn. "System: Windows 11" and "Model: X100" are no turns."""
_DIALOGUE: Final = re.compile(
    rf"^{_MARK}(?:human|user){_MARK}:[^\n]*\n(?:[^\n]*\n){{0,40}}?{_MARK}(?:assistant|ai|bot){_MARK}:", re.IGNORECASE | re.MULTILINE
)
_MAY_OPEN: Final = r"[ \t]*[#*]{0,4}[ \t*]{0,8}(?:ai|assistant|bot|chat|human|user|system|response|instruction)"
_OPENING: Final = re.compile(_MAY_OPEN, re.IGNORECASE)
_OPENING_LINE: Final = re.compile(rf"\n{_MAY_OPEN}", re.IGNORECASE)
_FUNCTIONS: Final = (
    "SUM|IF|HYPERLINK|WEBSERVICE|IMPORT(?:XML|DATA|FEED|HTML|RANGE)|IMAGE|CONCAT(?:ENATE)?|CHAR|INDIRECT|CALL|EXEC|REGISTER|CMD"
    "|[VHX]?LOOKUP|FILTERXML|DDE|ABS|MAX|MIN|AVERAGE|COUNT(?:A|IF)?|NOW|TODAY|RAND|QUERY|FORMULATEXT|INFO|CELL|T|N"
)
_FORMULA: Final = re.compile(
    r"""[\s"']*(?:
      [=+@-]+\s*(?:'[^'\n|]{1,60}'|[A-Za-z][\w.]{0,30})\|(?:\s*'[^'\n]{0,500}'|[^!\s]{1,200})![\w'"]  # DDE: =cmd|' /C calc'!A0
    | =[=+@-]*\s*[A-Za-z][\w.]{0,30}\|                                            # DDE cut short: =cmd|
    | =[=+@-]*\s*(?:[A-Za-z][\w.]{1,40}\(|\$?[A-Z]{1,3}\$?\d{1,7}(?![\w])|"[^"\n]*"\s*&|[\d.]+\s*[-+*/^&]\s*[\w("'$])
    | [+-][=+@-]*\s*(?:[A-Z][A-Z0-9.]{1,40}\(|\$?[A-Z]{1,3}\$?\d{1,7}\s*[-+*/^:&]\s*\$?[A-Z\d(])
    | [+-]\d+[+*/^-]\d+[+*/^-]?(?:cmd\||[A-Z]{1,3}\d)
    | @[=+@-]*\s*(?i:"""
    + _FUNCTIONS
    + r""")\(
    )""",
    re.VERBOSE,
)


class Fault(Exception):
    """A row cannot be kept: the name of the filter and the reason, both for people. Never leaves this package."""

    def __init__(self, filter: str, reason: str) -> None:
        super().__init__(filter, reason)
        self.filter = filter
        self.reason = reason


def is_plain(text: str) -> bool:
    """Whether the text is ASCII without control characters and without what opens a control token. About 5 µs for 1 KB."""
    return text.isascii() and _NOT_PLAIN.search(text) is None


def made_visible(text: str, where: str, counts: Counter[str], replaced: float) -> str:
    """The text in NFC without control and stray invisible characters; raises Fault where they hide something."""
    if "\x00" in text:
        raise Fault("null character", f"{where} holds a NUL character")
    if not text.isascii() and _SURROGATE.search(text):
        raise Fault("lone surrogate", f"{where} holds half of a surrogate pair and is not Unicode text")
    text = _without(_BREAKS, text, "line ends", counts, "\n")
    text = _without(_TERMINAL, text, "terminal sequences", counts)
    text = _without(_CONTROL, text, "control characters", counts)
    if text.isascii():
        return text
    if _UNUSUAL.search(text):
        text = _without_invisible(text, where, counts)
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
        counts["texts normalised to NFC"] += 1
    _count_damage(text, where, counts, replaced)
    return text


def tokens_escaped(text: str, counts: Counter[str], keep_thinking: bool) -> str:
    """The text with a space after the first character of every chat control token. keep_thinking: `<think>` is one of its words."""
    text, found = _TOKEN.subn(lambda match: f"{match[0]} ", text)
    if not keep_thinking:
        text, more = _THINKING.subn("< ", text)
        found += more
    if found:
        counts["chat control tokens escaped"] += found
    return text


def refuse_turns(text: str, where: str) -> None:
    """Raise Fault where control tokens open or close a turn."""
    if match := _OPENS.search(text):
        shown = " ".join(match[0].split())[:40]
        raise Fault("role spoofing", f"{where} opens a turn of its own with the control token {shown}")


def refuse_lines(text: str, where: str, role: str) -> None:
    """Raise Fault where a line opens a turn of another role, such as `Assistant:` or `### Response:` on a line of a user's text.

    A dialogue told on lines of its own (`User: …`, `Assistant: …`) is refused as well; a single `System: Windows 11` is not.
    """
    if role in ("", "system") or not (_OPENING.match(text) or _OPENING_LINE.search(text)):
        return
    for other, pattern in _LINES.items():
        if other != role and (match := pattern.search(text)):
            raise Fault("role spoofing", f'{where} opens a turn of the {other} with "{match[0].strip()[:40]}"')
    if _DIALOGUE.search(text):
        raise Fault("role spoofing", f"{where} tells turns of user and assistant on lines of their own")


def refuse_formula(text: str, where: str) -> None:
    """Raise Fault where a spreadsheet would run the text (OWASP, CSV injection); "-5 degrees" and "@alice hi" pass."""
    if text[:1] in "=+-@ \t\n\"'" and _FORMULA.match(text):
        raise Fault("spreadsheet formula", f'{where} begins like a formula: "{" ".join(text[:40].split())}"')


def _without(pattern: re.Pattern[str], text: str, what: str, counts: Counter[str], instead: str = "") -> str:
    text, found = pattern.subn(instead, text)
    if found:
        counts[what] += found
    return text


def _without_invisible(text: str, where: str, counts: Counter[str]) -> str:
    """The text without stray invisible characters, until nothing is left to remove: each one gone gives others new neighbours."""
    while (shorter := _less_invisible(text, where)) != text:
        counts["invisible characters"] += len(text) - len(shorter)
        text = shorter
    return text


def _less_invisible(text: str, where: str) -> str:
    """The text without stray invisible characters; those that emoji and scripts need stay."""
    if _TAG.search(_SEQUENCE.sub("", text)) or _SELECTORS.search(text):
        raise Fault("hidden text", f"{where} hides characters in tags or variation selectors")
    if _OVERRIDE.search(text):
        raise Fault("hidden text", f"{where} shows letters in another order than they stand (bidirectional override)")
    kept = {match.start() for match in _KEPT.finditer(text)} | {
        place for match in _SEQUENCE.finditer(text) for place in range(match.start(), match.end())
    }
    hidden = [match.start() for match in _HIDDEN.finditer(text) if match.start() not in kept]
    if not hidden:
        return text
    bare = "".join(character for place, character in enumerate(text) if place not in kept)
    if _WITHIN.search(text) or _SPELLED.search(text):
        raise Fault("hidden text", f"{where} has invisible characters within words")
    if _RUN.search(bare) or len(hidden) > max(STRAY, len(text) // 100):
        raise Fault("hidden text", f"{where} has {len(hidden):,} invisible characters")
    gone = set(hidden)
    return "".join(character for place, character in enumerate(text) if place not in gone)


def _count_damage(text: str, where: str, counts: Counter[str], replaced: float) -> None:
    """Count texts that a wrong encoding damaged; raises Fault where much of the text is lost."""
    if lost := text.count("\ufffd"):
        if lost > replaced * len(text):
            raise Fault("damaged text", f"{where} has lost {lost:,} of {len(text):,} characters to a wrong encoding")
        counts["texts with replacement characters"] += 1
    if _MOJIBAKE.search(text):
        counts["texts with wrongly decoded characters"] += 1
