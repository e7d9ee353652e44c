"""Untrusted text made harmless for a terminal: what a model, a file, a tool or a model's metadata says may not act.

Every C0 and C1 control character except TAB and LF, DEL, bidirectional overrides, line and paragraph separators and lone
surrogates become visible symbols, so that no CSI, OSC, DCS or other escape sequence survives, whole or cut at any byte.
The map works on single characters and keeps no state: a stream may be sanitised piece by piece. Emoji joiners and
combining marks stay. Not covered: markup of Rich and Textual (show text with `markup=False`) and links (the widgets
refuse other schemes than http and https).
"""

_PICTURES = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}  # ESC -> ␛ and so on
_BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # embeddings, overrides, isolates: Unicode UAX #9, section 2
_REPLACEMENT = 0xFFFD
_UNSAFE = (
    _PICTURES | {0x7F: 0x2421} | dict.fromkeys((*range(0x80, 0xA0), *_BIDI, 0x2028, 0x2029, *range(0xD800, 0xE000)), _REPLACEMENT)
)


def sanitise(text: str) -> str:
    """`text` without a character that a terminal acts on, except TAB and LF; CR LF becomes LF. O(n), no state."""
    return text.replace("\r\n", "\n").translate(_UNSAFE)


def one_line(text: str, width: int = 80) -> str:
    """The sanitised text on one line, cut with an ellipsis to at most `width` characters."""
    line = " ".join(sanitise(text[: width * 8]).split())
    return line if len(line) <= width else line[: width - 1] + "…"
