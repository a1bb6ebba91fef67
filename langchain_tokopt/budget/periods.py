"""When a limit starts afresh: period boundaries in UTC, from the calendar of the user's own time zone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from langchain_tokopt.errors import ConfigurationError

Per = Literal["forever", "run", "thread", "hour", "day", "week", "month"]


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` up to, not including, `end`: Unix time in whole seconds. `end` is `None` when it never ends."""

    start: int
    end: int | None

    @property
    def resets_at(self) -> datetime | None:
        """The end, timezone-aware in UTC."""
        return None if self.end is None else datetime.fromtimestamp(self.end, timezone.utc)


ALWAYS = Period(0, None)


def read_per(per: object) -> Per:
    """The kind of period.

    Raises:
        ConfigurationError: There is no such kind.
    """
    for known in get_args(Per):
        if per == known:
            kind: Per = known
            return kind
    raise ConfigurationError("per", per, f"use one of {', '.join(map(repr, get_args(Per)))}")


def read_timezone(name: object) -> tzinfo:
    """The time zone of that IANA name. UTC needs no time zone database.

    Raises:
        ConfigurationError: There is no such time zone on this machine.
    """
    if name == "UTC":
        return timezone.utc
    try:
        if isinstance(name, str):
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    remedy = 'use an IANA name such as "Europe/Berlin"; if the name is right, pip install tzdata'
    raise ConfigurationError("timezone", name, remedy)


def period_at(per: Per, now: float, zone: tzinfo) -> Period:
    """The period that `now` (Unix time) falls into. Days, weeks (from Monday) and months begin at local midnight.

    A day is as long as the calendar makes it: 23 or 25 hours where the clocks are changed.
    """
    if per in ("forever", "run", "thread"):
        return ALWAYS
    # Whole seconds: `fromtimestamp` rounds, and 23:59:59.9999999 would be the next day.
    moment = math.floor(now)
    local = datetime.fromtimestamp(moment, zone)
    if per == "hour":
        start = moment - local.minute * 60 - local.second
        return Period(start, start + 3600)
    day = local.date()
    if per == "day":
        first, after = day, day + timedelta(days=1)
    elif per == "week":
        first = day - timedelta(days=day.weekday())
        after = first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
    return Period(_midnight(first, zone), _midnight(after, zone))


def _midnight(day: date, zone: tzinfo) -> int:
    """When the day begins. A midnight that the clocks skip is the moment they are changed; of two, the first."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
