"""Unit conversion as a tool, exact by fractions: what is not a finite decimal is rounded and marked with "≈".

The table with its sources is in `_units`. Not covered: currencies, compound units beyond the table, months (see dates).
"""

import difflib
import math
import re
from collections.abc import Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import Annotated, Any

from pydantic import WithJsonSchema

from data.errors import ToolError
from data.sanitise import one_line
from router.tools import _units
from router.tools._units import Unit
from router.tools.base import Surroundings, Tool, tool

DIGITS = 15
"""Significant digits of a rounded result; an exact one may have twice as many."""
_DOUBTFUL = {
    "ton": "tonne, short ton or long ton",
    "tons": "tonne, short ton or long ton",
    "month": "days; months have no fixed length",
    "months": "days; months have no fixed length",
    "oz fl": "fl oz",
    "degrees": "degree (angle), °C or °F",
    "m/h": "mph or m/s",
}

_VALUE = r"(?P<value>-?\d[\d,]*(?:\.\d+)?)\s*(?P<source>[^\d\s?][^?]*?)"
_TARGET = r"(?P<target>[^\d\s?.][^?]*?)"
_POLITE = r"(?:(?:please|can you|could you)\s+)*"
_ASKED = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"{_POLITE}(?:convert|change|express|what(?:'s|\s+is|\s+are))?\s*{_VALUE}\s+(?:to|in|into|as)\s+{_TARGET}[\s?.]*",
        rf"how (?:many|much)\s+{_TARGET}\s+(?:are|is)?\s*(?:there\s+)?(?:in|to)?\s*{_VALUE}[\s?.]*",
    )
)

Number = Annotated[Any, WithJsonSchema({"type": "number"})]


def build(surroundings: Surroundings) -> Sequence[Tool]:
    """The one tool of this file."""
    return (convert_units,)


def spelled(question: str) -> dict[str, str] | None:
    """The arguments of a question that asks for nothing but a conversion, None for any other."""
    text = question.strip() if len(question) <= 200 else ""
    found = next((match for form in _ASKED if (match := form.fullmatch(text))), None)
    if found is None:
        return None
    arguments = {"value": found["value"], "from_unit": found["source"].strip(), "to_unit": found["target"].strip()}
    try:
        if _unit(arguments["from_unit"]).dimension != _unit(arguments["to_unit"]).dimension:
            return None
        _number(arguments["value"])
    except ToolError:
        return None
    return arguments


@tool("none", spelled=spelled)
def convert_units(value: Number, from_unit: str, to_unit: str) -> str:
    """Convert a value between units of length, mass, temperature, volume, area, speed, time, data, energy, power, pressure, angle
    or fuel consumption. Units: symbols or names, such as km, lb, °F, L, GiB, kWh, psi, mpg, L/100km."""
    number, source, target = _number(value), _unit(from_unit), _unit(to_unit)
    if source.dimension != target.dimension:
        raise ToolError(
            f"{source.name} measures {source.dimension}, {target.name} measures {target.dimension}", _examples(source.dimension)
        )
    try:
        base = source.to_base(number)
        if source.dimension == "temperature" and base < 0:
            raise ToolError(f"{_shown(number)} {source.symbol} is below absolute zero")
        result = target.from_base(base)
    except ZeroDivisionError as error:
        raise ToolError(f"0 {source.symbol} cannot be given in {target.symbol}") from error
    text = _shown(result, rough=source.rough != target.rough)
    equals = "" if text.startswith("≈") else "= "
    names = f" ({source.name} to {target.name})"
    return f"{_shown(number)} {source.symbol} {equals}{text} {target.symbol}{names}"


def _number(value: Any) -> Fraction:
    """A number of JSON, or its text with thousands separators, as written in decimal."""
    text = str(value).strip().replace(",", "").replace("_", "").replace("−", "-") if not isinstance(value, bool) else ""
    try:
        if len(text) > 320 or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(text[:40])
        number = Decimal(text)
        if not number.is_finite() or abs(number.adjusted()) > 300:
            raise ValueError(text[:40])
    except (ValueError, ArithmeticError) as error:
        raise ToolError(f"{one_line(text, 40)!r} is not a number that can be converted", "give one such as 12.5") from error
    return Fraction(number)


def _unit(text: str) -> Unit:
    """By exact symbol, by name in any case, or by symbol in any case where that leaves no doubt."""
    plain = " ".join(text[:80].split())
    symbols, names = _units.by_symbol(), _units.by_name()
    folded = plain.lower()
    if folded in _DOUBTFUL and plain not in symbols:
        raise ToolError(f"the unit {one_line(plain, 40)!r} can be read in several ways", f"say {_DOUBTFUL[folded]}")
    if found := symbols.get(plain) or names.get(folded):
        return found
    near = {unit.symbol: unit for symbol, unit in symbols.items() if symbol.lower() == folded}
    if len(near) == 1:
        return next(iter(near.values()))
    if near:
        choices = ", ".join(f"{symbol} ({unit.name})" for symbol, unit in near.items())
        raise ToolError(f"the unit {one_line(plain, 40)!r} can be read in several ways", f"say {choices}")
    close = difflib.get_close_matches(folded, [*names, *symbols], n=3, cutoff=0.6)
    raise ToolError(f"there is no unit {one_line(plain, 40)!r}", f"did you mean {', '.join(close)}?" if close else _dimensions())


def _shown(value: Fraction, rough: bool = False) -> str:
    """Exact where that is a decimal of at most 2 * DIGITS digits, else rounded to DIGITS."""
    with_guard = Context(prec=2 * DIGITS)
    exact = with_guard.divide(Decimal(value.numerator), Decimal(value.denominator))
    if rough or Fraction(exact) != value:
        return f"≈ {_plain(Context(prec=DIGITS).divide(Decimal(value.numerator), Decimal(value.denominator)))}"
    return _plain(exact)


def _plain(value: Decimal) -> str:
    value = value.normalize(Context(prec=400))
    return "0" if value == 0 else format(value, "f") if -10 <= value.adjusted() < 2 * DIGITS else format(value, "e")


def _examples(dimension: str) -> str:
    found = dict.fromkeys(unit.symbol for unit in _units.by_symbol().values() if unit.dimension == dimension)
    return f"units of {dimension}: {', '.join(found)}"


def _dimensions() -> str:
    return f"known: {', '.join(dict.fromkeys(unit.dimension for unit in _units.by_symbol().values()))}"
