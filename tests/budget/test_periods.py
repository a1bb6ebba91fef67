"""Periods begin and end where the user's calendar says, in UTC seconds."""

from __future__ import annotations

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.budget.periods import ALWAYS, Per, period_at, read_timezone

BERLIN = ZoneInfo("Europe/Berlin")
UTC = timezone.utc


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("now", "start", "end", "hours"),
    [
        ("2027-03-28T12:00+02:00", "2027-03-27T23:00+00:00", "2027-03-28T22:00+00:00", 23),
        ("2027-10-31T12:00+01:00", "2027-10-30T22:00+00:00", "2027-10-31T23:00+00:00", 25),
        ("2027-06-15T00:00+02:00", "2027-06-14T22:00+00:00", "2027-06-15T22:00+00:00", 24),
    ],
)
def test_a_day_in_berlin_is_as_long_as_the_clocks_make_it(now: str, start: str, end: str, hours: int) -> None:
    period = period_at("day", at(now), BERLIN)
    assert (period.start, period.end) == (at(start), at(end))
    assert at(end) - at(start) == hours * 3600


def test_a_day_ends_where_the_next_begins() -> None:
    last_second = at("2027-10-31T23:59:59+01:00")
    assert period_at("day", last_second, BERLIN).end == last_second + 1
    assert period_at("day", last_second + 1, BERLIN).start == last_second + 1


def test_the_same_moment_is_another_day_in_another_time_zone() -> None:
    now = at("2027-01-01T23:30+00:00")
    assert period_at("day", now, UTC).start == at("2027-01-01T00:00+00:00")
    assert period_at("day", now, ZoneInfo("Asia/Tokyo")).start == at("2027-01-01T15:00+00:00")


@pytest.mark.parametrize(
    ("per", "start", "end"),
    [
        ("hour", "2027-02-28T13:00+00:00", "2027-02-28T14:00+00:00"),
        ("day", "2027-02-28T00:00+00:00", "2027-03-01T00:00+00:00"),
        ("week", "2027-02-22T00:00+00:00", "2027-03-01T00:00+00:00"),
        ("month", "2027-02-01T00:00+00:00", "2027-03-01T00:00+00:00"),
    ],
)
def test_periods_in_utc(per: Per, start: str, end: str) -> None:
    period = period_at(per, at("2027-02-28T13:45:10+00:00") + 0.75, UTC)
    assert (period.start, period.end) == (at(start), at(end))
    assert period.resets_at == datetime.fromisoformat(end)
    assert period.resets_at is not None
    assert period.resets_at.tzinfo is UTC


def test_hours_follow_time_zones_with_half_hours() -> None:
    period = period_at("hour", at("2027-02-28T13:45:10+00:00"), ZoneInfo("Asia/Kolkata"))
    assert period.start == at("2027-02-28T13:30+00:00")


def test_a_month_over_a_clock_change_and_a_year_over_december() -> None:
    march = period_at("month", at("2027-03-15T12:00+01:00"), BERLIN)
    assert (march.start, march.end) == (at("2027-03-01T00:00+01:00"), at("2027-04-01T00:00+02:00"))
    december = period_at("month", at("2027-12-31T12:00+01:00"), BERLIN)
    assert december.end == at("2028-01-01T00:00+01:00")


def test_a_midnight_that_the_clocks_skip_is_the_moment_they_change() -> None:
    # In Beirut the clocks go from 00:00 to 01:00 on 2022-03-27.
    period = period_at("day", at("2022-03-27T12:00+03:00"), ZoneInfo("Asia/Beirut"))
    assert period.start == at("2022-03-27T01:00+03:00")
    assert period_at("day", at("2022-03-26T12:00+02:00"), ZoneInfo("Asia/Beirut")).end == period.start


@pytest.mark.parametrize("per", ["forever", "run", "thread"])
def test_what_has_no_calendar_never_ends(per: Per) -> None:
    assert period_at(per, 1_800_000_000, UTC) is ALWAYS
    assert ALWAYS.resets_at is None


def test_utc_needs_no_time_zone_database() -> None:
    assert read_timezone("UTC") is UTC


def test_the_last_instant_of_an_hour_belongs_to_it() -> None:
    assert period_at("hour", 3599.9999999, UTC).start == 0
    assert period_at("day", 86_399.9999999, UTC).start == 0


@given(
    per=st.sampled_from(["hour", "day", "week", "month"]),
    now=st.floats(0, 4_000_000_000, allow_nan=False),
    zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland", "Asia/Beirut"]
    ),
)
def test_every_moment_lies_in_its_own_period(per: Per, now: float, zone: str) -> None:
    period = period_at(per, now, read_timezone(zone))
    assert period.end is not None
    assert period.start <= now < period.end
    assert period_at(per, period.start, read_timezone(zone)) == period
    assert period_at(per, period.end, read_timezone(zone)).start == period.end
