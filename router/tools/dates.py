"""Date and time: what it is now, calendar arithmetic, weekdays and weeks, and conversion between zones, all exact.

Dates are those of the proleptic Gregorian calendar, years 1 to 9999, written 2026-03-01 (ISO 8601). Zones are IANA names.
Not covered: public holidays, other calendars, leap seconds.
"""

import calendar
import datetime
import difflib
import functools
import re
import zoneinfo
from collections.abc import Sequence

from data.errors import ToolError
from data.sanitise import one_line
from router.tools.base import Surroundings, Tool, tool

LARGEST = 4_000_000
"""Days, weeks, months or years of one step at most; more leaves the calendar anyway."""
_LAST_WEEKDAY = 4  # Friday; Monday is 0
ASKED_CHARS = 80
"""Length of a question that may be nothing but a call; longer ones say more."""
_NOW = re.compile(
    r"(?:please )?(?:(?:can|could) you )?(?:tell me )?"
    r"(?:what(?:'s| is) the (?:current |exact )?(?:time|date|day)(?: and (?:time|date))?(?: is it)?(?: right)?(?: now| today)?"
    r"|what (?:time|day|date) (?:is it|is today|it is)(?: right)?(?: now| today)?"
    r"|what(?:'s| is) today's date|what(?:'s| is) today)[ ?.!]*"
)
_WEEKDAY = re.compile(
    r"(?:what|which) (?:day|weekday)(?: of the week)? (?:is|was|will be|does) (?P<date>\d{4}-\d{2}-\d{2})(?: fall on)?[ ?.]*"
)


def build(surroundings: Surroundings) -> Sequence[Tool]:
    """now, add_to_date, days_between, describe_date and convert_time."""
    return (now, add_to_date, days_between, describe_date, convert_time)


def asks_now(question: str) -> dict[str, str] | None:
    """No arguments for a question that asks for nothing but the time or the date, None for any other."""
    return {} if len(question) <= ASKED_CHARS and _NOW.fullmatch(" ".join(question.casefold().split())) else None


def asks_weekday(question: str) -> dict[str, str] | None:
    """The date of a question that asks for nothing but its weekday, None for any other."""
    found = _WEEKDAY.fullmatch(" ".join(question.casefold().split())) if len(question) <= ASKED_CHARS else None
    return {"date": found["date"]} if found else None


@tool("none", spelled=asks_now)
def now(zone: str = "") -> str:
    """Today's date and the time now, with weekday and zone. zone: for example Europe/Paris; empty for the user's own."""
    return _moment(datetime.datetime.now(_zone(zone)) if zone else datetime.datetime.now().astimezone())


@tool("none")
def add_to_date(date: str, days: int = 0, weeks: int = 0, months: int = 0, years: int = 0, business_days: int = 0) -> str:
    """Add to a date; negative numbers go back. date: like 2026-03-01, or today. business_days: Monday to Friday."""
    found = _date(date)
    for number in (days, weeks, months, years, business_days):
        if abs(number) > LARGEST:
            raise ToolError("the step leaves the years 1 to 9999")
    try:
        found = _add_months(found, 12 * years + months) + datetime.timedelta(days=days + 7 * weeks)
        return _day(_add_business_days(found, business_days))
    except (OverflowError, ValueError) as error:
        raise ToolError("the result lies outside the years 1 to 9999") from error


@tool("none")
def days_between(first: str, second: str) -> str:
    """Days from the first date to the second, also in weeks, in years, months and days, and in business days."""
    start, end = _date(first), _date(second)
    days = abs((end - start).days)
    parts = [_count(days, "day")]
    if days >= 7:
        parts.append(f"{_count(days // 7, 'week')} and {_count(days % 7, 'day')}")
    years, months, rest = _span(min(start, end), max(start, end))
    if years or months:
        parts.append(f"{_count(years, 'year')}, {_count(months, 'month')} and {_count(rest, 'day')}")
    parts.append(f"{_count(abs(_business_days(start, end)), 'business day')} (Monday to Friday, the first date not counted)")
    order = "after" if end > start else "before" if end < start else "from"
    return f"{_day(end)} is {parts[0]} {order} {_day(start)}" + "".join(f"; {part}" for part in parts[1:])


@tool("none", spelled=asks_weekday)
def describe_date(date: str) -> str:
    """Weekday, ISO week, day of the year, quarter and leap year of a date. date: like 2026-03-01, or today."""
    found = _date(date)
    week = found.isocalendar()
    of_year = found.timetuple().tm_yday
    leap = "a" if calendar.isleap(found.year) else "not a"
    days = _month_days(found.year, found.month)
    return (
        f"{_day(found)}; ISO week {week.year}-W{week.week:02d}-{week.weekday}; day {of_year} of the year; "
        f"quarter {(found.month + 2) // 3}; {found.year} is {leap} leap year; the month has {days} days"
    )


@tool("none")
def convert_time(time: str, from_zone: str, to_zone: str) -> str:
    """Convert a time between zones. time: like 2026-03-01T14:30, or 14:30 for today. Zones: IANA names like America/New_York."""
    source, target = _zone(from_zone), _zone(to_zone)
    text = time.strip().replace(" ", "T")
    try:
        if "T" in text or "-" in text:
            moment = datetime.datetime.fromisoformat(text)
        else:
            clock = datetime.time.fromisoformat(text)
            moment = datetime.datetime.combine(datetime.datetime.now(source).date(), clock)
    except ValueError as error:
        raise ToolError(f"{one_line(time, 40)!r} is not a time", "write it like 2026-03-01T14:30 or 14:30") from error
    if moment.tzinfo is not None:
        raise ToolError("the time carries a zone of its own", "leave it out; from_zone tells it")
    return _converted(moment, source, target)


def _converted(moment: datetime.datetime, source: zoneinfo.ZoneInfo, target: zoneinfo.ZoneInfo) -> str:
    """Both moments, with a word where the clock skips or repeats that hour (PEP 495)."""
    note = ""
    early, late = (moment.replace(tzinfo=source, fold=fold) for fold in (0, 1))
    try:
        if early.utcoffset() != late.utcoffset():
            skipped = early.astimezone(datetime.UTC).astimezone(source).replace(tzinfo=None) != moment
            if skipped:
                raise ToolError(
                    f"{moment:%Y-%m-%d %H:%M} does not exist in {source.key}: the clock skips it", "ask for another time"
                )
            note = f"; that hour comes twice in {source.key}, this is the first, the second is {_moment(late.astimezone(target))}"
        return f"{_moment(early)} is {_moment(early.astimezone(target))}{note}"
    except OverflowError as error:
        raise ToolError("the result lies outside the years 1 to 9999") from error


def _date(text: str) -> datetime.date:
    plain = text.strip()
    known = {"today": 0, "tomorrow": 1, "yesterday": -1}
    if plain.lower() in known:
        return datetime.datetime.now().astimezone().date() + datetime.timedelta(days=known[plain.lower()])
    try:
        return datetime.date.fromisoformat(plain[:10]) if plain[10:11] == "T" else datetime.date.fromisoformat(plain)
    except ValueError as error:
        reason = f": {error}" if "out of range" in str(error) or "must be in" in str(error) else ""
        raise ToolError(f"{one_line(text, 40)!r} is not a date{reason}", "write it like 2026-03-01, or today") from error


def _zone(name: str) -> zoneinfo.ZoneInfo:
    plain = name.strip().replace(" ", "_")
    if plain.upper() in ("Z", "GMT"):
        plain = "UTC"
    names = _zones()
    if len(plain) <= 60 and plain.casefold() in names:
        return zoneinfo.ZoneInfo(names[plain.casefold()])
    cities = {known.rpartition("/")[2].casefold(): known for known in sorted(names.values())}
    near = [cities[city] for city in difflib.get_close_matches(plain[:60].rpartition("/")[2].casefold(), cities, n=3, cutoff=0.75)]
    raise ToolError(
        f"there is no zone {one_line(name, 40)!r}", f"did you mean {', '.join(near)}?" if near else "name it like Europe/Paris"
    )


@functools.cache
def _zones() -> dict[str, str]:
    """Every zone of this machine by its name in lower case."""
    return {known.casefold(): known for known in zoneinfo.available_timezones()}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _day(date: datetime.date) -> str:
    return f"{date.isoformat()} ({calendar.day_name[date.weekday()]})"


def _moment(moment: datetime.datetime) -> str:
    zone = getattr(moment.tzinfo, "key", None) or moment.tzname() or ""
    offset = moment.isoformat()[-6:]
    return f"{moment:%Y-%m-%d %H:%M:%S} {calendar.day_name[moment.weekday()]} {zone} (UTC{offset})"


def _month_days(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _add_months(date: datetime.date, months: int) -> datetime.date:
    """The same day so many months on, or the month's last: 31 January and a month is 28 or 29 February."""
    year, month = divmod(date.year * 12 + date.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise OverflowError(year)
    return date.replace(year=year, month=month + 1, day=min(date.day, _month_days(year, month + 1)))


def _add_business_days(date: datetime.date, count: int) -> datetime.date:
    """Steps over Saturdays and Sundays; from a weekend the first step reaches Monday, backward Friday."""
    if count == 0:
        return date
    sign = 1 if count > 0 else -1
    if date.weekday() > _LAST_WEEKDAY:  # to the working day just left behind
        back = date.weekday() - _LAST_WEEKDAY if sign > 0 else date.weekday() - 7
        date -= datetime.timedelta(days=back)
    weeks, rest = divmod(abs(count), 5)
    date += datetime.timedelta(days=7 * weeks * sign)
    for _ in range(rest):
        date += datetime.timedelta(days=sign)
        while date.weekday() > _LAST_WEEKDAY:
            date += datetime.timedelta(days=sign)
    return date


def _business_days(start: datetime.date, end: datetime.date) -> int:
    """Working days after start up to and with end; negative backward."""
    if end < start:
        return -(_worked(start.toordinal() - 1) - _worked(end.toordinal() - 1))
    return _worked(end.toordinal()) - _worked(start.toordinal())


def _worked(ordinal: int) -> int:
    """Working days from day 1 (a Monday, 0001-01-01) to this one."""
    weeks, rest = divmod(ordinal, 7)
    return weeks * 5 + min(rest, 5)


def _span(start: datetime.date, end: datetime.date) -> tuple[int, int, int]:
    """Whole years, months and the days left from start to a later end."""
    months = (end.year - start.year) * 12 + end.month - start.month
    if _add_months(start, months) > end:
        months -= 1
    rest = (end - _add_months(start, months)).days
    return months // 12, months % 12, rest
