"""Unit conversion: known values, the table's consistency, and units that are unknown, doubtful or do not belong together."""

import itertools

import pytest

from data.chat import ToolCall
from router.tools import Outcome, Toolbox, _units, units
from router.tools.base import Surroundings
from router.tools.units import build

BOX = Toolbox(build(Surroundings()))


def call(value: object, source: str, target: str) -> Outcome:
    return BOX.call(ToolCall("convert_units", {"value": value, "from_unit": source, "to_unit": target}))


@pytest.mark.parametrize(
    ("value", "source", "target", "result"),
    [
        (5, "mi", "km", "= 8.04672 km"),
        (0.1, "m", "cm", "= 10 cm"),
        (1, "kilometers", "Miles", "≈ 0.621371192237334 mi"),
        (100, "°C", "°F", "= 212 °F"),
        (-40, "fahrenheit", "celsius", "= -40 °C"),
        (0, "K", "degC", "= -273.15 °C"),
        (98.6, "F", "C", "= 37 °C"),
        (1, "lb", "g", "= 453.59237 g"),
        (1, "stone", "pounds", "= 14 lb"),
        (1, "gallon", "L", "= 3.785411784 L (US gallon to litre)"),
        (1, "imperial gallon", "L", "= 4.54609 L"),
        (2, "cups", "ml", "= 473.176473 mL"),
        (1, "tbsp", "tsp", "= 3 tsp"),
        (1, "acre", "m2", "= 4046.8564224 m²"),
        (1, "square mile", "acres", "= 640 ac"),
        (100, "km/h", "mph", "≈ 62.1371192237334 mph"),
        (1, "knot", "km/h", "= 1.852 km/h"),
        (1, "week", "hours", "= 168 h"),
        (1, "GB", "GiB", "= 0.931322574615478515625 GiB"),
        (1, "GiB", "MiB", "= 1024 MiB"),
        (8, "Mbit", "MB", "= 1 MB"),
        (100, "Mbps", "MB/s", "= 12.5 MB/s"),
        (1, "kWh", "MJ", "= 3.6 MJ"),
        (1, "kcal", "J", "= 4184 J"),
        (1, "horsepower", "W", "= 745.69987158227022 W"),
        (1, "atm", "hPa", "= 1013.25 hPa"),
        (760, "torr", "atm", "= 1 atm"),
        (30, "psi", "bar", "≈ 2.06842718795051 bar"),
        (180, "deg", "rad", "≈ 3.14159265358979 rad"),
        (1, "turn", "gradians", "= 400 gon"),
        (1, "rad", "turn", "≈ 0.159154943091895 turn"),
        (30, "mpg", "L/100km", "≈ 7.84048611111111 L/100km"),
        (5, "L/100km", "km/L", "= 20 km/L"),
        (8, "l/100 km", "imp mpg", "≈ 35.3101170414778 imp mpg"),
        (12345678901234567890, "m", "km", "= 12345678901234567.89 km"),
        ("1,000", "m", "km", "= 1 km"),
        (1, "m", "m", "= 1 m"),
    ],
)
def test_conversion(value: object, source: str, target: str, result: str) -> None:
    found = call(value, source, target)
    assert not found.failed and result in found.text


def test_every_pair_of_units_of_a_dimension_leads_there_and_back_exactly() -> None:
    units = dict.fromkeys(_units.by_symbol().values())
    assert len(units) > 100
    for one, other in itertools.permutations(units, 2):
        if one.dimension == other.dimension:
            value = one.from_base(_units.Fraction(12345, 7))
            assert one.from_base(other.to_base(other.from_base(one.to_base(value)))) == value


def test_no_symbol_and_no_name_stands_for_two_units() -> None:
    symbols = [symbol for row in _units._rows() for symbol in row[0]]
    names = [name.lower() for row in _units._rows() for name in row[1]]
    assert len(symbols) == len(set(symbols)) and len(names) == len(set(names))


@pytest.mark.parametrize(
    ("value", "source", "target", "said"),
    [
        (1, "m", "kg", "units of length: m, km"),
        (1, "kilometr", "m", "kilometre"),
        (1, "flurbs", "m", "there is no unit 'flurbs'"),
        (1, "", "m", "there is no unit"),
        (1, "ton", "kg", "tonne, short ton or long ton"),
        (1, "mb", "kB", "Mbit (megabit), MB (megabyte)"),
        (1, "mw", "W", "megawatt"),
        (1, "month", "day", "no fixed length"),
        (-300, "°C", "K", "below absolute zero"),
        (0, "mpg", "L/100km", "cannot be given"),
        (True, "m", "km", "not a number"),
        (float("nan"), "m", "km", "not a number"),
        (float("inf"), "m", "km", "not a number"),
        ("1e999999999", "m", "km", "not a number"),
        ("9" * 5000, "m", "km", "not a number"),
        ([1], "m", "km", "not a number"),
        (None, "m", "km", "not a number"),
        ("five", "m", "km", "not a number"),
        (1, "x" * 100_000, "km", "there is no unit"),
        (1, "m\x1b[2J", "km", "there is no unit"),
    ],
)
def test_what_cannot_be_converted_is_said(value: object, source: str, target: str, said: str) -> None:
    found = call(value, source, target)
    assert found.failed and said in found.text and len(found.text) < 500 and "\x1b" not in found.text


def test_wrong_arguments_name_the_wrong_one() -> None:
    found = BOX.call(ToolCall("convert_units", {"value": 1, "from": "m", "to_unit": "km"}))
    assert found.failed and "from_unit" in found.text and "from:" in found.text


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Convert 5 miles to kilometers", "8.04672 km"),
        ("How many feet are in 3 meters?", "9.84251968503937 ft"),
        ("what is 72 °F in °C?", "22.2222222222222 °C"),
        ("100 kg in lb", "220.462262184878 lb"),
    ],
)
def test_a_question_that_is_nothing_but_a_conversion_spells_out_its_call(question, said):
    assert said in units.convert_units.run(**units.spelled(question))


@pytest.mark.parametrize(
    "question",
    ["", "convert 3 to Christianity", "how many people are in 3 rooms?", "5 miles to kg", "Convert 5 miles to km and explain"],
)
def test_any_other_question_spells_out_no_conversion(question):
    assert units.spelled(question) is None
