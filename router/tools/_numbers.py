"""The numbers of the calculator: exact Fractions as long as possible, else Decimals of 60 digits, and how they are shown.

Every result is bounded to BITS. Not covered: what is calculated with them (see `_functions`).
"""

import decimal
import math
from decimal import Decimal
from fractions import Fraction

from data.errors import ToolError

Number = Fraction | Decimal

BITS = 20_000
"""Numerator and denominator at most, about 6,000 digits; larger is refused before it is computed."""
SHOWN_DIGITS = 4_000
"""Whole numbers with more digits are shown in scientific notation."""
CONTEXT = decimal.Context(
    prec=60,
    rounding=decimal.ROUND_HALF_EVEN,
    Emax=999_999,
    Emin=-999_999,
    traps=[decimal.Overflow, decimal.InvalidOperation, decimal.DivisionByZero],
)
GUARD = Decimal(10) ** -40  # rounding of 60-digit results stays far below this
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798214808651")
E = Decimal("2.71828182845904523536028747135266249775724709369995957496696762772407663035354759457138217852516642742746639193")


def exact(text: str) -> Fraction:
    """A decimal literal as a Fraction."""
    digits, _, exponent = text.lower().replace("_", "").partition("e")
    if exponent and abs(int(exponent)) > BITS // 4:
        raise too_large()
    return Fraction(f"{digits}e{exponent}" if exponent else digits)


def shown(value: Number) -> str:
    """For the model: exact where it is, else after "≈"."""
    if isinstance(value, Decimal):
        return f"≈ {significant(value, 30)}"
    if value.denominator == 1:
        return _whole(value.numerator)
    twos, fives, rest = _factors(value.denominator)
    if rest == 1 and max(twos, fives) <= 60:
        return format((Decimal(value.numerator) / Decimal(value.denominator)).normalize(), "f") if _fits(value) else _long(value)
    if value.denominator.bit_length() + value.numerator.bit_length() > 400:
        return f"≈ {significant(approximate(value), 30)} (an exact fraction with very many digits)"
    return f"{value.numerator}/{value.denominator} ≈ {significant(approximate(value), 20)}"


def approximate(value: Number) -> Decimal:
    """The value as a 60-digit Decimal."""
    return value if isinstance(value, Decimal) else Decimal(value.numerator) / Decimal(value.denominator)


def whole(value: Number, what: str) -> int:
    """The value as an int; raises ToolError, which says `what` it is, for what is not a whole number."""
    if isinstance(value, Decimal):
        near = value.to_integral_value()
        if abs(value - near) >= GUARD or abs(near) > Decimal(10) ** 40:
            raise ToolError(f"{what} must be a whole number, not {significant(value, 20)}")
        return int(near)
    if value.denominator != 1:
        raise ToolError(f"{what} must be a whole number, not {shown(value)[:60]}")
    return value.numerator


def bounded(value: Fraction) -> Fraction:
    """The value itself; raises ToolError where it has too many digits."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > BITS:
        raise too_large()
    return value


def too_large() -> ToolError:
    """What to say of a result beyond the bounds."""
    return ToolError(f"the result has more than {int(BITS * math.log10(2)):,} digits", "use powmod or logarithms instead")


def _factors(value: int) -> tuple[int, int, int]:
    """How often 2 and 5 divide it, at most a few hundred times, and what is left."""
    counts = [0, 0]
    for index, prime in enumerate((2, 5)):
        while value % prime == 0 and counts[index] < 300:
            value //= prime
            counts[index] += 1
    return counts[0], counts[1], value


def _fits(value: Fraction) -> bool:
    return value.numerator.bit_length() < 180


def _long(value: Fraction) -> str:
    with decimal.localcontext(decimal.Context(prec=SHOWN_DIGITS)):
        return _cut_exponent(format(Decimal(value.numerator) / Decimal(value.denominator), "f"))


def _cut_exponent(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _whole(value: int) -> str:
    digits = int(abs(value).bit_length() * math.log10(2)) + 1
    if digits <= SHOWN_DIGITS:
        return str(value)
    return f"≈ {significant(Decimal(value), 30)} (a whole number with about {digits:,} digits)"


def significant(value: Decimal, digits: int) -> str:
    """So many significant digits, plain where that is short."""
    with decimal.localcontext(decimal.Context(prec=digits)):
        value = +value
    if value == 0:
        return "0"
    value = value.normalize()
    return format(value, "f") if -7 <= value.adjusted() < 30 else format(value, "e")
