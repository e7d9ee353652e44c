"""Sine, cosine, tangent and their inverses to 40 decimals.

By their power series after argument reduction (Abramowitz and Stegun, 4.3.65, 4.3.66 and 4.4.42).
"""

import decimal
from decimal import Decimal

from data.errors import ToolError
from router.tools._numbers import GUARD, PI, Number, approximate


def sine(value: Number) -> Number:
    """Of radians; the absolute error is below 1e-40."""
    return _clean(_series(_reduced(value), odd=True))


def cosine(value: Number) -> Number:
    """Of radians; the absolute error is below 1e-40."""
    return _clean(_series(_reduced(value), odd=False))


def tangent(value: Number) -> Number:
    """Of radians; raises ToolError at odd multiples of pi/2."""
    below = cosine(value)
    if below == 0:
        raise ToolError("the tangent is not defined there")
    return approximate(sine(value)) / approximate(below)


def arctangent(value: Number) -> Number:
    """In radians."""
    x = approximate(value)
    if abs(x) > 1:
        quarter = +PI / 2 if x > 0 else -PI / 2
        return quarter - approximate(arctangent(1 / x))
    for _ in range(6):  # atan(x) = 2 atan(x / (1 + sqrt(1 + x^2)))
        x = x / (1 + (1 + x * x).sqrt())
    total, term, n = x, x, 1
    while abs(term) > Decimal(10) ** -62:
        term = -term * x * x
        n += 2
        total += term / n
    return total * 64


def arcsine(value: Number) -> Number:
    """In radians; raises ToolError beyond -1 to 1."""
    x = approximate(value)
    if abs(x) > 1:
        raise ToolError("the arcsine and arccosine take -1 to 1 only")
    return +PI / 2 * x if abs(x) == 1 else arctangent(x / (1 - x * x).sqrt())


def arccosine(value: Number) -> Number:
    """In radians; raises ToolError beyond -1 to 1."""
    return +PI / 2 - approximate(arcsine(value))


def _reduced(value: Number) -> Decimal:
    """Within -pi to pi; refuses what is so large that no digit would be sure."""
    x = approximate(value)
    if abs(x) > Decimal(10) ** 15:
        raise ToolError("the angle is too large to be exact", "reduce it by whole turns")
    with decimal.localcontext(decimal.Context(prec=100)):
        return x - 2 * PI * (x / (2 * PI)).to_integral_value()


def _series(x: Decimal, odd: bool) -> Decimal:
    term = +x if odd else Decimal(1)
    total, n = term, 1 if odd else 0
    while abs(term) > Decimal(10) ** -58:
        term = -term * x * x / ((n + 1) * (n + 2))
        n += 2
        total += term
    return total


def _clean(value: Decimal) -> Number:
    """0, 1 and -1 are recognised within the guard, the rest stays as it is."""
    for known in (0, 1, -1):
        if abs(value - known) < GUARD:
            return Decimal(known)
    return value
