"""Calendar arithmetic and time zones, against the standard library where it knows, and bad dates."""

import datetime
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.chat import ToolCall
from router.tools import Outcome, Toolbox, dates
from router.tools.base import Surroundings
from router.tools.dates import build

BOX = Toolbox(build(Surroundings()))
DAYS = st.dates(datetime.date(1800, 1, 1), datetime.date(2200, 12, 31))


def call(name: str, **arguments: object) -> Outcome:
    return BOX.call(ToolCall(name, arguments))


def text(name: str, **arguments: object) -> str:
    found = call(name, **arguments)
    assert not found.failed, found.text
    return found.text


def test_now_tells_date_time_weekday_and_zone() -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    found = re.fullmatch(r"(\S+ \S+) (\w+day) Asia/Tokyo \(UTC\+09:00\)", text("now", zone="Asia/Tokyo"))
    assert found is not None
    moment = datetime.datetime.fromisoformat(f"{found[1]}+09:00")
    assert before <= moment <= datetime.datetime.now(datetime.UTC)
    assert found[2] == moment.strftime("%A")
    assert re.fullmatch(r"\S+ \S+ \w+day .* \(UTC[+-]\d\d:\d\d\)", text("now"))


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"date": "2024-01-31", "months": 1}, "2024-02-29 (Thursday)"),
        ({"date": "2023-01-31", "months": 1}, "2023-02-28 (Tuesday)"),
        ({"date": "2024-02-29", "years": 1}, "2025-02-28 (Friday)"),
        ({"date": "2024-03-31", "months": -1}, "2024-02-29 (Thursday)"),
        ({"date": "2024-12-15", "months": 14}, "2026-02-15 (Sunday)"),
        ({"date": "2026-11-20", "days": 100}, "2027-02-28 (Sunday)"),
        ({"date": "2026-11-20", "weeks": -2, "days": 1}, "2026-11-07 (Saturday)"),
        ({"date": "2026-11-20", "business_days": 1}, "2026-11-23 (Monday)"),
        ({"date": "2026-11-20", "business_days": 10}, "2026-12-04 (Friday)"),
        ({"date": "2026-11-21", "business_days": 1}, "2026-11-23 (Monday)"),
        ({"date": "2026-11-22", "business_days": -1}, "2026-11-20 (Friday)"),
        ({"date": "2026-11-23", "business_days": -1}, "2026-11-20 (Friday)"),
        ({"date": "2026-11-20"}, "2026-11-20 (Friday)"),
    ],
)
def test_steps_in_the_calendar(arguments: dict[str, object], result: str) -> None:
    assert text("add_to_date", **arguments) == result


@given(DAYS, st.integers(-3000, 3000))
@settings(deadline=None, max_examples=100)
def test_business_days_agree_with_counting_them_one_by_one(start: datetime.date, count: int) -> None:
    at, left = start, abs(count)
    while left:
        at += datetime.timedelta(days=1 if count > 0 else -1)
        left -= at.weekday() < 5
    assert text("add_to_date", date=start.isoformat(), business_days=count).startswith(at.isoformat())
    if count > 0:
        assert f"; {count} business day" in text("days_between", first=start.isoformat(), second=at.isoformat())


@given(DAYS, DAYS)
@settings(deadline=None, max_examples=100)
def test_difference_in_years_months_and_days_leads_back(first: datetime.date, second: datetime.date) -> None:
    early, late = sorted((first, second))
    found = text("days_between", first=early.isoformat(), second=late.isoformat())
    assert f"is {(late - early).days} day" in found
    span = re.search(r"; (\d+) years?, (\d+) months? and (\d+) days?", found)
    if span:
        years, months, days = map(int, span.groups())
        assert text("add_to_date", date=early.isoformat(), years=years, months=months, days=days).startswith(late.isoformat())


def test_difference_names_the_direction() -> None:
    assert text("days_between", first="2026-11-20", second="2026-11-13").startswith(
        "2026-11-13 (Friday) is 7 days before 2026-11-20 (Friday); 1 week and 0 days; 5 business days"
    )
    assert text("days_between", first="2024-01-31", second="2024-03-01").startswith(
        "2024-03-01 (Friday) is 30 days after 2024-01-31 (Wednesday); 4 weeks and 2 days; 0 years, 1 month and 1 day"
    )


@given(st.dates())
@settings(deadline=None, max_examples=100)
def test_description_agrees_with_the_standard_library(day: datetime.date) -> None:
    found = text("describe_date", date=day.isoformat())
    week = day.isocalendar()
    assert f"({day:%A}); ISO week {week.year}-W{week.week:02d}-{week.weekday}; day {day.timetuple().tm_yday} " in found


def test_description_of_a_date() -> None:
    assert text("describe_date", date="2024-02-29") == (
        "2024-02-29 (Thursday); ISO week 2024-W09-4; day 60 of the year; quarter 1; 2024 is a leap year; the month has 29 days"
    )


@pytest.mark.parametrize(
    ("time", "source", "target", "result"),
    [
        ("2026-03-01T14:30", "Europe/Paris", "America/New_York", "is 2026-03-01 08:30:00 Sunday America/New_York (UTC-05:00)"),
        ("2026-03-01 14:30:15", "utc", "Asia/Kolkata", "is 2026-03-01 20:00:15 Sunday Asia/Kolkata (UTC+05:30)"),
        ("2026-12-31T23:00", "America/Los_Angeles", "Pacific/Auckland", "is 2027-01-01 20:00:00 Friday"),
        ("2026-07-01T12:00", "europe/london", "UTC", "is 2026-07-01 11:00:00 Wednesday UTC"),
        ("2026-10-25T02:30", "Europe/Paris", "UTC", "comes twice"),
    ],
)
def test_conversion_between_zones(time: str, source: str, target: str, result: str) -> None:
    assert result in text("convert_time", time=time, from_zone=source, to_zone=target)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("describe_date", {"date": "2026-02-30"}, "out of range"),
        ("describe_date", {"date": "1.3.2026"}, "2026-03-01"),
        ("describe_date", {"date": ""}, "not a date"),
        ("describe_date", {"date": "x" * 100_000}, "not a date"),
        ("describe_date", {"date": "2026-01-01\x1b[2J"}, "not a date"),
        ("describe_date", {"date": "0000-01-01"}, "not a date"),
        ("add_to_date", {"date": "9999-12-31", "days": 1}, "outside the years"),
        ("add_to_date", {"date": "0001-01-01", "business_days": -1}, "outside the years"),
        ("add_to_date", {"date": "2026-01-01", "years": 10**40}, "leaves the years"),
        ("add_to_date", {"date": "2026-01-01", "business_days": 4_000_000}, "outside the years"),
        ("add_to_date", {"date": "2026-01-01", "days": "many"}, "days"),
        ("now", {"zone": "tokio"}, "Asia/Tokyo"),
        ("now", {"zone": "new york"}, "America/New_York"),
        ("now", {"zone": "../../etc/passwd"}, "no zone"),
        ("now", {"zone": "a" * 100_000}, "no zone"),
        ("convert_time", {"time": "2026-03-29T02:30", "from_zone": "Europe/Paris", "to_zone": "UTC"}, "skips"),
        ("convert_time", {"time": "2pm", "from_zone": "UTC", "to_zone": "UTC"}, "not a time"),
        ("convert_time", {"time": "14:30+02:00", "from_zone": "UTC", "to_zone": "UTC"}, "zone of its own"),
        ("convert_time", {"time": "0001-01-01T00:00", "from_zone": "Asia/Tokyo", "to_zone": "America/Lima"}, "outside the years"),
    ],
)
def test_what_makes_no_date_is_said(name: str, arguments: dict[str, object], said: str) -> None:
    found = call(name, **arguments)
    assert found.failed and said in found.text and len(found.text) < 400 and "\x1b" not in found.text


@pytest.mark.parametrize("question", ["What time is it?", "what's the date today?", "What day is it?", "what is today's date"])
def test_a_question_for_nothing_but_the_time_spells_out_its_call(question):
    assert dates.asks_now(question) == {}


@pytest.mark.parametrize(
    "question", ["", "what time is it in Paris?", "what is the date of the battle of Hastings?", "what a day", "what is time?"]
)
def test_any_other_question_is_not_for_the_time(question):
    assert dates.asks_now(question) is None


def test_a_question_for_the_weekday_of_a_date_spells_out_its_call():
    assert "Friday" in dates.describe_date.run(**dates.asks_weekday("What day of the week is 2026-12-25?"))
    assert dates.asks_weekday("What day is it?") is None
