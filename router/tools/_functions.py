"""What the calculator can do with its numbers (see `_numbers`): operators, roots, logarithms, angles, counting.

Bounds stand before the work, so that 9**9**9**9 costs nothing.
"""

import decimal
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from data.errors import ToolError
from router.tools._angles import arccosine, arcsine, arctangent, cosine, sine, tangent
from router.tools._numbers import BITS, CONTEXT, GUARD, PI, E, Number, approximate, bounded, significant, too_large, whole


def add(one: Number, other: Number) -> Number:
    """Sum."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return bounded(one + other)
    return approximate(one) + approximate(other)


def negative(value: Number) -> Number:
    """The value with the other sign."""
    return -value


def multiply(one: Number, other: Number) -> Number:
    """Product."""
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return bounded(one * other)
    return approximate(one) * approximate(other)


def divide(one: Number, other: Number) -> Number:
    """Quotient; raises ToolError for a divisor of 0."""
    _not_zero(other)
    if isinstance(one, Fraction) and isinstance(other, Fraction):
        return bounded(one / other)
    return approximate(one) / approximate(other)


def floor_divide(one: Number, other: Number) -> Number:
    """Quotient rounded down, as Python's //."""
    return floor(divide(one, other))


def remainder(one: Number, other: Number) -> Number:
    """What is left of `one` after floor_divide; it has the divisor's sign, as in Python."""
    return add(one, negative(multiply(other, floor_divide(one, other))))


def power(base: Number, exponent: Number) -> Number:
    """Exact for whole exponents of exact numbers and where the root is exact; raises ToolError before a result grows too large."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if base == 0 and exponent < 0:
            raise ToolError("0 to a negative power is not defined")
        if exponent.denominator == 1:
            return _whole_power(base, exponent.numerator)
        if exponent.denominator <= 64 and (found := _exact_root(base, exponent.denominator)) is not None:
            return _whole_power(found, exponent.numerator)
    if base < 0 and (isinstance(exponent, Decimal) or exponent.denominator != 1):
        raise ToolError("a negative number to a fractional power is not a real number")
    return approximate(base) ** approximate(exponent)


def square_root(value: Number) -> Number:
    """Exact for squares of fractions; raises ToolError below 0."""
    return root(value, Fraction(2))


def root(value: Number, degree: Number) -> Number:
    """The degree-th root; a negative value has one for odd degrees."""
    n = whole(degree, "the degree of a root")
    if n < 1 or n > 1000:
        raise ToolError(f"a root of degree {significant(Decimal(n), 10)} is not taken", "use 1 to 1000")
    if value < 0:
        if n % 2 == 0:
            raise ToolError(f"the root of degree {n} of a negative number is not a real number")
        return negative(root(negative(value), degree))
    if isinstance(value, Fraction) and n <= 64 and (found := _exact_root(value, n)) is not None:
        return found
    number = approximate(value)
    return number.sqrt() if n == 2 else number ** (Decimal(1) / n) if number else number


def factorial(value: Number) -> Number:
    """n! for whole n from 0; raises ToolError."""
    n = whole(value, "the argument of a factorial")
    if n < 0:
        raise ToolError("the factorial of a negative number is not defined")
    if n > BITS or math.lgamma(n + 1) > BITS * math.log(2):
        raise too_large()
    return Fraction(math.factorial(n))


def radians(value: Number) -> Number:
    """Degrees as radians."""
    return divide(multiply(value, PI), Fraction(180))


def floor(value: Number) -> Number:
    """Rounded down."""
    if isinstance(value, Fraction):
        return Fraction(math.floor(value))
    near = value.to_integral_value()
    return Fraction(near if abs(value - near) < GUARD else value.to_integral_value(rounding=decimal.ROUND_FLOOR))


def rounded(value: Number, digits: Number = Fraction(0)) -> Number:
    """To so many decimals, halves away from zero, as taught at school."""
    places = whole(digits, "the number of decimals")
    if abs(places) > 50:
        raise ToolError("round takes at most 50 decimals")
    scaled = multiply(value, Fraction(10) ** places)
    half = add(scaled, Fraction(1, 2)) if scaled >= 0 else negative(add(negative(scaled), Fraction(1, 2)))
    nearest = floor(half) if scaled >= 0 else negative(floor(negative(half)))
    return divide(nearest, Fraction(10) ** places)


def logarithm(value: Number, base: Number | None = None) -> Number:
    """To the base, natural without one; exact where the value is a whole power of a whole base."""
    if value <= 0:
        raise ToolError("the logarithm of 0 or less is not defined")
    if base is None:
        return Fraction(0) if value == 1 else approximate(value).ln()
    if base <= 0 or base == 1:
        raise ToolError("the base of a logarithm must be above 0 and not 1")
    found = approximate(value).ln() / approximate(base).ln()
    near = int(found.to_integral_value())
    if (
        isinstance(value, Fraction)
        and isinstance(base, Fraction)
        and abs(found - near) < GUARD
        and _whole_power(base, near) == value
    ):
        return Fraction(near)
    return found


def _based_logarithm(value: Number, *base: Number) -> Number:
    if not base:
        raise ToolError("log without a base can be read in two ways", "write ln(x), log10(x) or log(x, base)")
    return logarithm(value, base[0])


def _exponential(value: Number) -> Number:
    return Fraction(1) if value == 0 else approximate(value).exp()


def _combinations(n: Number, k: Number, ordered: bool = False) -> Number:
    total, chosen = whole(n, "n"), whole(k, "k")
    if total < 0 or chosen < 0:
        raise ToolError("choosing is defined for whole numbers from 0 only")
    if chosen > total:
        return Fraction(0)
    chosen = chosen if ordered else min(chosen, total - chosen)
    per_factor = max(1, total.bit_length() - (0 if ordered or not chosen else chosen.bit_length() - 2))
    if chosen * per_factor > BITS:
        raise too_large()
    return Fraction(math.perm(total, chosen) if ordered else math.comb(total, chosen))


def _power_modulo(base: Number, exponent: Number, modulus: Number) -> Number:
    values = [whole(value, "each argument of powmod") for value in (base, exponent, modulus)]
    if values[2] == 0 or values[1] < 0:
        raise ToolError("powmod takes an exponent from 0 and a modulus other than 0")
    if values[1].bit_length() * values[2].bit_length() ** 2 > 4_000_000_000:
        raise too_large()
    return Fraction(pow(*values))


def _gcd(*values: Number) -> Number:
    return Fraction(math.gcd(*(whole(value, "each argument of gcd") for value in values)))


def _lcm(*values: Number) -> Number:
    total = Fraction(1)
    for value in values:
        total = bounded(Fraction(math.lcm(total.numerator, whole(value, "each argument of lcm"))))
    return total


def _total(*values: Number) -> Number:
    found: Number = Fraction(0)
    for value in values:
        found = add(found, value)
    return found


@dataclass(frozen=True, slots=True)
class Function:
    """What may be called, with the least and the most arguments."""

    of: Callable[..., Number]
    arity: tuple[int, int] = (1, 1)


MANY = 1_000
CONSTANTS: dict[str, Number] = {"pi": PI, "e": E, "tau": CONTEXT.multiply(PI, Decimal(2))}
FUNCTIONS: dict[str, Function] = {
    "sqrt": Function(square_root),
    "cbrt": Function(lambda value: root(value, Fraction(3))),
    "root": Function(root, (2, 2)),
    "pow": Function(power, (2, 2)),
    "powmod": Function(_power_modulo, (3, 3)),
    "mod": Function(remainder, (2, 2)),
    "exp": Function(_exponential),
    "ln": Function(logarithm),
    "log": Function(_based_logarithm, (1, 2)),
    "log2": Function(lambda value: logarithm(value, Fraction(2))),
    "log10": Function(lambda value: logarithm(value, Fraction(10))),
    "sin": Function(sine),
    "cos": Function(cosine),
    "tan": Function(tangent),
    "asin": Function(arcsine),
    "acos": Function(arccosine),
    "atan": Function(arctangent),
    "radians": Function(radians),
    "degrees": Function(lambda value: divide(multiply(value, Fraction(180)), PI)),
    "abs": Function(abs),
    "round": Function(rounded, (1, 2)),
    "floor": Function(floor),
    "ceil": Function(lambda value: negative(floor(negative(value)))),
    "min": Function(lambda *values: min(values), (1, MANY)),
    "max": Function(lambda *values: max(values), (1, MANY)),
    "sum": Function(_total, (1, MANY)),
    "mean": Function(lambda *values: divide(_total(*values), Fraction(len(values))), (1, MANY)),
    "gcd": Function(_gcd, (1, MANY)),
    "lcm": Function(_lcm, (1, MANY)),
    "comb": Function(_combinations, (2, 2)),
    "perm": Function(lambda n, k: _combinations(n, k, ordered=True), (2, 2)),
    "factorial": Function(factorial),
}


def _whole_power(base: Fraction, exponent: int) -> Fraction:
    if base in (0, 1, -1):
        return base ** (exponent % 2 or 2 if base == -1 else min(exponent, 1)) if exponent else Fraction(1)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if (bits - 1) * abs(exponent) > BITS:
        raise too_large()
    return bounded(base**exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    if value < 0:
        return None
    above, below = _integer_root(value.numerator, degree), _integer_root(value.denominator, degree)
    found = Fraction(above, below)
    return found if found**degree == value else None


def _integer_root(value: int, degree: int) -> int:
    """The root rounded down, by Newton's method from above."""
    if degree == 2 or value < 2:
        return math.isqrt(value) if degree == 2 else value
    guess = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better


def _not_zero(value: Number) -> None:
    if value == 0:
        raise ToolError("division by zero is not defined")
