"""Pieces of spending become hours and days of the user's own calendar."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from langchain_tokopt.budget.planning import Series, Stretch
from langchain_tokopt.errors import ConfigurationError

BERLIN = ZoneInfo("Europe/Berlin")
KOLKATA = ZoneInfo("Asia/Kolkata")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def even(since: str, until: str, seconds: int = 900) -> list[tuple[float, int]]:
    """One unit in every piece."""
    return [(start, 1) for start in range(at(since), at(until), seconds)]


def test_days_are_as_long_as_the_clocks_make_them() -> None:
    now = at("2027-03-30T00:00+02:00")
    series = Series.read(
        even("2027-03-26T00:00+01:00", "2027-03-30T00:00+02:00"),
        piece_seconds=900,
        now=now,
        until=at("2027-04-01T00:00+02:00"),
        zone=BERLIN,
        step="day",
    )
    assert series.values == (24 * 4, 23 * 4, 24 * 4)  # the first day may be cut and is left out
    assert series.phases == (5, 6, 0)
    assert series.current == 0
    assert series.over == 0
    assert series.ahead == (
        Stretch(at("2027-03-31T00:00+02:00"), 1, 1.0),
        Stretch(at("2027-04-01T00:00+02:00"), 2, 1.0),
    )


def test_an_hour_that_comes_twice_has_the_same_phase_twice() -> None:
    series = Series.read(
        even("2027-10-30T23:00+02:00", "2027-10-31T05:00+01:00"),
        piece_seconds=900,
        now=at("2027-10-31T05:00+01:00"),
        until=at("2027-10-31T06:30+01:00"),
        zone=BERLIN,
    )
    sunday = 6 * 24
    assert series.step == "hour"
    assert series.phases == (sunday, sunday + 1, sunday + 2, sunday + 2, sunday + 3, sunday + 4)
    assert series.values == (4,) * 6
    assert [stretch.part for stretch in series.ahead] == [1.0, 0.5]
    assert series.left == 1.5


def test_zones_with_half_hours_have_hours_of_their_own() -> None:
    series = Series.read(
        even("2027-05-03T00:00+05:30", "2027-05-03T04:15+05:30"),
        piece_seconds=900,
        now=at("2027-05-03T04:15+05:30"),
        until=at("2027-05-03T05:00+05:30"),
        zone=KOLKATA,
    )
    assert (series.values, series.phases, series.current, series.over) == ((4, 4, 4), (1, 2, 3), 1, 0.25)
    assert series.ahead == (Stretch(at("2027-05-03T05:00+05:30"), 4, 0.75),)


def test_what_is_before_the_first_spending_is_not_counted() -> None:
    spent = [(at("2027-05-01T12:00+00:00"), 0), (at("2027-05-05T20:00+00:00"), 7), (at("2027-05-07T09:00+00:00"), 5)]
    now = at("2027-05-08T00:00+00:00")
    series = Series.read(spent, piece_seconds=900, now=now, until=now + 5 * 86_400)
    assert series.step == "day"
    assert series.values == (0, 5)
    assert series.phases == (3, 4)


def test_a_day_that_may_be_cut_counts_when_there_is_no_other() -> None:
    now = at("2027-05-08T00:00+00:00")
    series = Series.read([(now - 3_600, 7)], piece_seconds=900, now=now, until=now + 5 * 86_400)
    assert series.values == (7,)


def test_nothing_spent_is_an_empty_series() -> None:
    now = at("2027-05-08T06:00+00:00")
    series = Series.read([], piece_seconds=900, now=now, until=now + 5 * 86_400)
    assert (series.values, series.phases, series.current, series.over) == ((), (), 0, 0.25)
    assert len(series.ahead) == 6
    assert series.left == pytest.approx(5)


def test_order_and_later_pieces_do_not_matter() -> None:
    now = at("2027-05-08T06:00+00:00")
    spent = [(now - 900 * n, n) for n in range(1, 900)]
    one, other = (
        Series.read(pieces, piece_seconds=900, now=now, until=now + 5 * 86_400)
        for pieces in (spent, [*spent[::-1], (now + 1, 10**9)])
    )
    assert one == other


def test_how_much_of_a_day_is_over_is_judged_by_the_days_before() -> None:
    """All money goes from 8 to 18 o'clock: at 8 nothing is over, at 13 half of the day, at 18 all of it."""
    days = [f"2027-05-{day:02}" for day in range(1, 29)]
    spent = [piece for day in days for piece in even(f"{day}T08:00+00:00", f"{day}T18:00+00:00")]
    over = {}
    for clock in ("08:00", "13:00", "18:00"):
        now = at(f"2027-05-29T{clock}+00:00")
        series = Series.read(spent, piece_seconds=900, now=now, until=at("2027-06-01T00:00+00:00"))
        over[clock] = series.over
        assert series.ahead[0].part == pytest.approx(1 - series.over)
    # 27 whole days, and an even flow counts as two.
    assert over["08:00"] == pytest.approx((0 * 26 + 2 * 8 / 24) / 28, abs=0.003)
    assert over["13:00"] == pytest.approx((0.5 * 26 + 2 * 13 / 24) / 28, abs=0.003)
    assert over["18:00"] == pytest.approx((1 * 26 + 2 * 18 / 24) / 28, abs=0.003)


def test_the_clock_on_the_wall_tells_how_much_of_a_day_is_over_when_clocks_change() -> None:
    """In summer time the same working hours are an hour earlier in UTC."""
    days = [f"2027-03-{day:02}" for day in range(8, 28)]
    spent = [piece for day in days for piece in even(f"{day}T12:00+01:00", f"{day}T13:00+01:00")]
    noon = at("2027-03-29T12:00+02:00")
    before, after = (
        Series.read(spent, piece_seconds=900, now=now, until=noon + 7 * 86_400, zone=BERLIN).over
        for now in (noon, noon + 3_600)
    )
    assert before < 0.1
    assert after > 0.9


def test_a_piece_is_spread_over_its_length() -> None:
    spent = [(at(f"2027-05-{day:02}T12:00+00:00"), 60) for day in range(1, 29)]
    now = at("2027-05-29T12:30+00:00")
    over = Series.read(spent, piece_seconds=3_600, now=now, until=now + 5 * 86_400).over
    assert over == pytest.approx(0.5, abs=0.01)


def test_the_end_of_the_period_must_be_ahead() -> None:
    with pytest.raises(ConfigurationError, match="until=5 "):
        Series.read([], piece_seconds=900, now=10, until=5)


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"phases": (1,)}, "phases"),
        ({"values": (1, -1)}, "values"),
        ({"current": -1}, "values"),
        ({"ahead": ()}, "ahead"),
    ],
)
def test_a_series_that_cannot_be_is_refused(change: dict[str, object], argument: str) -> None:
    good = {"values": (1, 2), "phases": (0, 1), "current": 0, "over": 0.0, "now": 0.0, "ahead": (Stretch(1.0, 2),)}
    Series(step="day", **good)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError) as caught:
        Series(step="day", **{**good, **change})  # type: ignore[arg-type]
    assert caught.value.argument == argument
