"""Exact arithmetic: values against Python's own fractions, notation that people use, and input meant to blow it up."""

import math
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chat import ToolCall
from data.errors import ToolError
from router.tools import Toolbox, calculator
from router.tools.base import Surroundings
from router.tools.calculator import build, calculate

Tree = tuple[str, Fraction]


def _joined(pair: tuple[Tree, Tree, str]) -> Tree:
    (one, first), (other, second), sign = pair
    if sign == "/" and second == 0:
        sign = "+"
    value = {"+": first + second, "-": first - second, "*": first * second, "/": first / second if second else Fraction(0)}[sign]
    return f"({one} {sign} {other})", value


NUMBERS = st.integers(0, 10**12).map(lambda n: (str(n), Fraction(n))) | st.decimals(0, 10**6, places=4).map(
    lambda n: (str(n), Fraction(n))
)
TREES = st.recursive(NUMBERS, lambda below: st.tuples(below, below, st.sampled_from("+-*/")).map(_joined), max_leaves=12)


@given(TREES)
@settings(deadline=None, max_examples=150)
def test_arithmetic_is_exact(tree: Tree) -> None:
    text, value = tree
    shown = calculate(text)
    if "≈" not in shown:
        assert Fraction(shown) == value
    elif not shown.startswith("≈"):
        assert Fraction(shown.split(" ≈ ")[0]) == value
    else:
        assert math.isclose(float(shown.split()[1]), value, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("0.1 + 0.2", "0.3"),
        ("3*(4+5)/7", "27/7 ≈ 3.8571428571428571429"),
        ("1/3", "1/3 ≈ 0.33333333333333333333"),
        ("-2**2", "-4"),
        ("2**3**2", "512"),
        ("2^-2", "0.25"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("7 mod 4", "3"),
        ("17% of 250", "42.5"),
        ("50% + 1", "1.5"),
        ("200 * 10%", "20"),
        ("10% - 3", "-2.9"),
        ("1,234,567.89 + 1", "1234568.89"),
        ("1 000 000 / 8", "125000"),
        ("1_000 × 2 − 3 ÷ 4", "1999.25"),
        ("10!", "3628800"),
        ("20! / 18!", "380"),
        ("sqrt(16/9)", "4/3 ≈ 1.3333333333333333333"),
        ("√144 + 5²", "37"),
        ("root(-8, 3)", "-2"),
        ("log(8, 2)", "3"),
        ("log10(0.001)", "-3"),
        ("ln(1)", "0"),
        ("comb(52, 5)", "2598960"),
        ("perm(5, 2)", "20"),
        ("gcd(12, 18, 30)", "6"),
        ("lcm(4, 6)", "12"),
        ("powmod(2, 1000000, 7)", "2"),
        ("max(3, 7/2, -1) + min(1, 2)", "4.5"),
        ("mean(1, 2, 4)", "7/3 ≈ 2.3333333333333333333"),
        ("round(2.5) + round(-2.5)", "0"),
        ("round(2/3, 2)", "0.67"),
        ("round(1250, -2)", "1300"),
        ("floor(-1.5) + ceil(1.2)", "0"),
        ("floor(sqrt(2)**2)", "2"),
        ("abs(-3) * sum(1, 2, 3)", "18"),
        ("sin(30°)", "≈ 0.5"),
        ("cos(pi/2)", "≈ 0"),
        ("tan(45°)", "≈ 1"),
        ("atan(1) * 4", "≈ 3.14159265358979323846264338328"),
        ("sqrt(2)", "≈ 1.41421356237309504880168872421"),
        ("exp(1)", "≈ 2.71828182845904523536028747135"),
        ("tau / pi - 2", "≈ 0"),
        ("2+2=", "4"),
        ("100 * 1.07^10", "196.715135728956532249"),
        ("(-1)**(10**100)", "1"),
        ("1e-3 / 3", "1/3000 ≈ 0.00033333333333333333333"),
    ],
)
def test_value(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize("degrees", range(0, 361, 15))
def test_sine_cosine_and_arctangent_agree_with_the_machine(degrees: int) -> None:
    for name in ("sin", "cos", "atan"):
        expected = getattr(math, name)(math.radians(degrees))
        assert float(calculate(f"{name}(radians({degrees}))").removeprefix("≈ ")) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "empty"),
        ("1/0", "division by zero"),
        ("5 % 0", "division by zero"),
        ("0 ** -1", "not defined"),
        ("5 +", "ends too early"),
        ("(1 + 2", "closing parenthesis"),
        ("1 + 2)", "not expected"),
        ("2(3+4)", "2*(3+4)"),
        ("3,14", "point for decimals"),
        ("1.234,56", "point for decimals"),
        ("max(1,000, 2,000)", "two ways"),
        ("max(1,234, 2)", "two ways"),
        ("10 % -3", "two ways"),
        ("4!!", "two ways"),
        ("log(100)", "two ways"),
        ("foo(3)", "'foo' is unknown"),
        ("nan", "unknown"),
        ("infinity", "unknown"),
        ("sqrt", "in parentheses"),
        ("sqrt(1, 2)", "takes 1 arguments, 2 given"),
        ("sqrt(-1)", "not a real number"),
        ("(-8)**(1/3)", "not a real number"),
        ("ln(0)", "not defined"),
        ("log(5, 1)", "base"),
        ("asin(2)", "-1 to 1"),
        ("tan(pi/2)", "not defined"),
        ("(1/2)!", "whole number"),
        ("(-1)!", "negative"),
        ("comb(5, -1)", "from 0"),
        ("0x10", "not expected"),
        ("__import__('os').system('id')", "means nothing"),
        ("1 if 1 else 2", "not expected"),
        ("$5 + 3", "means nothing"),
    ],
)
def test_what_cannot_be_calculated_is_said(expression: str, said: str) -> None:
    with pytest.raises(ToolError) as fault:
        calculate(expression)
    assert said in str(fault.value)


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9**9",
        "factorial(10**9)",
        "99999!",
        "10**10**10",
        "(10**6000)**2",
        "comb(10**9, 10**8)",
        "perm(10**6, 10**5)",
        "powmod(9**6000, 9**6000, 9**6000)",
        "lcm(10**3000+1, 10**3000+3, 10**3000+7)",
        "1e999999",
        "1e-999999",
        "exp(10**9)",
        "sqrt(2)**10**12",
        "sin(10**100)",
        "(" * 100_000 + ")" * 100_000,
        "(" * 400 + "1" + ")" * 400,
        "-" * 900 + "1",
        "2**" * 300 + "2",
        "√" * 900 + "2",
        "9" * 1000 + "**9",
        "!" * 900,
        "1+" * 50_000 + "1",
        "\x00",
        "1\n+\x1b[2J",
    ],
    ids=lambda expression: f"{expression[:20]!r} of {len(expression)}",
)
def test_hostile_expression_is_refused_at_once(expression: str) -> None:
    started = time.process_time()
    with pytest.raises(ToolError) as fault:
        calculate(expression)
    assert time.process_time() - started < 0.5  # a bound far above the milliseconds it takes, far below a hang
    assert len(str(fault.value)) < 600


def test_every_allowed_expression_ends_quickly() -> None:
    started = time.process_time()
    for part in ("(10**5000/3)*", "sqrt(1/3)*", "comb(900,450)*", "(1/7)+", "exp(sin(2))*"):
        try:
            assert calculate(part * (900 // len(part)) + "1")
        except ToolError as fault:
            assert "digits" in fault.what or "large" in fault.what
    assert time.process_time() - started < 5


def test_large_whole_numbers_are_shown_in_full_or_said_to_be_rounded() -> None:
    assert calculate("2**10000") == str(2**10000)
    assert calculate("2**19000").endswith("(a whole number with about 5,720 digits)")


def test_tool_computes_without_asking_anyone() -> None:
    box = Toolbox(build(Surroundings()))
    assert box.tools["calculator"].permission == "none"
    found = box.call(ToolCall("calculator", {"expression": "6*7"}))
    assert (found.text, found.failed, found.untrusted, box.tainted) == ("42", False, False, False)


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("What is 17 * 23?", "391"),
        ("what's 17% of 2,340?", "397.8"),
        ("please calculate 12 plus 30", "42"),
        ("How much is 3 times 4 ?", "12"),
        ("7 divided by 2 =", "3.5"),
        ("10!", "3628800"),
    ],
)
def test_a_question_that_is_nothing_but_a_sum_spells_out_its_call(question, value):
    arguments = calculator.spelled(question)
    assert calculator.calculate(**arguments) == value


@pytest.mark.parametrize(
    "question",
    [
        "",
        "5",
        "2026",
        "2026-12-25",
        "what is 9/11?",
        "555-1234",
        "2 + 2 and why?",
        "what is love",
        "solve x+1=2",
        "1 " * 400,
        "1/0",
        "9**9**9",
    ],
)
def test_any_other_question_spells_out_nothing(question):
    assert calculator.spelled(question) is None
