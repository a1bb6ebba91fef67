"""`Alerts`: looks whether rules hold, raises and clears alerts, and tells of it."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.events import Sink
from langchain_tokopt.forks import follow_forks
from langchain_tokopt.telemetry.alerts.conditions import Planned, begun, steps_of, words_of
from langchain_tokopt.telemetry.alerts.deciding import Observation, lapsed
from langchain_tokopt.telemetry.alerts.observing import Forecasts, Observer, Sources, Status
from langchain_tokopt.telemetry.alerts.rules import DEFAULT_RULES, AlertRule
from langchain_tokopt.telemetry.alerts.table import AlertTable, alerts, clean
from langchain_tokopt.telemetry.alerts.words import Alert, AlertChanged, Change, Channel, Notice
from langchain_tokopt.telemetry.kpis import read_targets
from langchain_tokopt.telemetry.kpis_window import Audits
from langchain_tokopt.telemetry.store import EventStore

log = logging.getLogger("langchain_tokopt")

_ID: Final = re.compile(r"[0-9a-f]{6,32}")
_LONGEST_REST_SECONDS: Final = 30.0
_LAST_LIMIT: Final = 10_000


class Alerts:
    """Alerts of a project: kept in its database, so that of several processes that look each change is made by one.

    `check` looks at everything once. It is for a thread in the background, a command or a test; agents never wait for
    it. A process that is killed between a change and telling it does not tell it; `active` has the alert all the same.

    Args:
        store: The events; alerts are kept in the same database.
        rules: What raises alerts.
        channels: Where they are told: by the process that made the change, or, where that had neither channels nor a
            sink, by the next one that looks and has.
        budgets: Gives what `Budget.status()` gives, or several of these.
        forecasts: Gives, for a node of a budget, what it is expected to have spent by the end of its period: something
            with `expected` and `limit`, by key or by attribute; `None` where there is none.
        audits: Gives what the semantic cache knows of its audits; see `kpis`.
        health: Gives what `Telemetry.status()` gives.
        targets: Of KPIs; see `kpis`.
        sink: Hears of each change as an event, too.
        clock: Unix time in seconds.

    Raises:
        ConfigurationError: A setting cannot work.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        rules: Iterable[AlertRule] = DEFAULT_RULES,
        channels: Iterable[Channel] = (),
        budgets: Status | None = None,
        forecasts: Forecasts | None = None,
        audits: Audits | None = None,
        health: Callable[[], Mapping[str, Any]] | None = None,
        targets: Mapping[str, float] | None = None,
        sink: Sink | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rules = _read_rules(rules)
        self.channels = _read_channels(channels)
        given = {"budgets": budgets, "forecasts": forecasts, "audits": audits, "health": health}
        for name, source in given.items():
            if source is not None and not callable(source):
                raise ConfigurationError(name, source, "give a function that is asked at each look, or None")
        sources = Sources(store, budgets, forecasts, audits, health, read_targets(targets))
        self._table = AlertTable(store.database)
        self._observer = Observer(sources)
        self._sink = sink
        self._tells = bool(self.channels) or sink is not None
        self._clock = clock
        self._failing: set[int] = set()
        self._lock = threading.Lock()
        follow_forks(self, level=1)  # the database rests below

    # --- looking -----------------------------------------------------------------------------------------------------

    def check(self) -> list[Alert]:
        """Look once: the alerts that this raised or cleared. They are told before it returns.

        Raises:
            StoreError: The database cannot be used; nothing has changed.
        """
        now = float(self._clock())
        if self._tells:
            for notice in self._untold(now):
                self._tell(notice, now)
        with self._lock:
            seen = self._observer.observe(self.rules, now)
            known = {row.place: row for row in self._table.standing()}
            steps = [
                step for rule in self.rules if rule.name in seen for step in steps_of(rule, seen[rule.name], known, now)
            ]
            # What is left was not looked at now: it is of another process's rules, or of a subject that only it knows.
            steps += [
                Planned(row.place, "lapse", None, row, Observation()) for row in known.values() if lapsed(row, now)
            ]
            notices = self._made(steps, now) if steps else []
        for notice in notices:
            self._tell(notice, now)
        return [notice.alert for notice in notices if notice.change != "reminded"]

    def _untold(self, now: float) -> list[Notice]:
        """What processes have raised and cleared that had nobody to tell it to, such as a command."""
        rows = self._table.untold()
        if not rows:
            return []
        with self._table.database.write():
            told = {row.id for row in sorted(rows, key=lambda row: row.id) if self._table.told(row, at=now)}
        return [Notice("cleared" if row.tell == "cleared" else "raised", row.alert) for row in rows if row.id in told]

    def _made(self, steps: Sequence[Planned], now: float) -> list[Notice]:
        with self._table.database.write():
            # In one order for all processes, so that none waits for another that waits for it.
            found = [self._make(step, now) for step in sorted(steps, key=lambda step: step.place)]
            notices = [notice for notice in found if notice is not None]
            if any(notice.change == "cleared" for notice in notices):
                self._table.forget(now)
        return notices

    def _make(self, planned: Planned, now: float) -> Notice | None:
        """Make one change; what there is to tell, if it was this process that made it."""
        rule, row, seen, step = planned.rule, planned.row, planned.seen, planned.step
        if row is None:
            if rule is None:
                return None
            new = begun(rule, seen, now, tells=self._tells)
            made = self._table.begin(new, heard_at=seen.heard_at)
            return Notice("raised", new.alert) if made and new.raised_at is not None else None
        if step == "drop" or (step == "lapse" and row.raised_at is None):
            self._table.drop(row)
            return None
        over = {"cleared_at": now, "tell": None if self._tells or row.tell == "raised" else "cleared"}
        if rule is None:
            gone = self._table.move(row, **over)
            return Notice("cleared", replace(row, cleared_at=now).alert) if gone else None
        fresh: dict[str, Any] = {"value": seen.value, "seen_at": now}
        if seen.value is not None and step != "clear":
            fresh |= {"peak": rule.worse(row.peak, seen.value), **words_of(rule, seen)}
        change: Change | None = None
        if step == "raise":
            told = {"told_at": now} if self._tells else {"tell": "raised"}
            change, fresh = "raised", {**fresh, "raised_at": now, **told}
        elif step == "remind" and self._tells:
            change, fresh = "reminded", {**fresh, "told_at": now}
        elif step == "clear":
            words = {} if seen.value is None else {"title": words_of(rule, seen, cleared=True)["title"]}
            change, fresh = "cleared", {**fresh, **over, **words}
        made = self._table.move(row, **fresh)
        return Notice(change, replace(row, **fresh).alert) if made and change is not None else None

    def _tell(self, notice: Notice, now: float) -> None:
        alert = notice.alert
        if self._sink is not None:
            self._sink.emit(
                AlertChanged(
                    at=now,
                    alert=alert.id,
                    rule=alert.rule,
                    subject=alert.subject,
                    severity=alert.severity,
                    change=notice.change,
                    title=alert.title,
                    value=alert.value,
                    threshold=alert.threshold,
                )
            )
        for place, channel in enumerate(self.channels):
            try:
                channel.tell(notice)
            except Exception as error:
                if place not in self._failing:
                    self._failing.add(place)
                    name = type(channel).__name__
                    log.warning("%s could not tell an alert: %s: %s", name, type(error).__name__, error)
            else:
                self._failing.discard(place)

    # --- giving and taking up ----------------------------------------------------------------------------------------

    def active(self) -> list[Alert]:
        """The alerts that are not over, acknowledged ones with them, the longest first.

        Raises:
            StoreError: The database cannot be read.
        """
        return alerts([row for row in self._table.standing() if row.raised_at is not None])

    def history(self, *, limit: int = 100, since: float | None = None) -> list[Alert]:
        """The last alerts, the newest first, those that are over with them, as long as they are kept (90 days).

        Args:
            limit: How many, from 1 to 10,000.
            since: Without those that were over before this, Unix time in seconds.

        Raises:
            ConfigurationError: `limit` or `since` cannot be used.
            StoreError: The database cannot be read.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _LAST_LIMIT:
            raise ConfigurationError("limit", limit, f"give a number of alerts from 1 to {_LAST_LIMIT:,}")
        number = isinstance(since, (int, float)) and not isinstance(since, bool) and math.isfinite(since)
        if since is not None and not number:
            raise ConfigurationError("since", since, "give Unix time in seconds, or None")
        return alerts(self._table.history(limit=limit, since=since))

    def acknowledge(self, id: str, by: str, note: str | None = None) -> Alert:  # noqa: A002 - what it is called
        """The alert, with who has taken it up. It is not told again until it is over; the last one to say so counts.

        Args:
            id: Of an alert that is not over; its first digits, 6 or more, are enough.
            by: Who takes it up.
            note: What they have to say.

        Raises:
            ConfigurationError: There is no such alert, or several, or it is over; or `by` says nothing.
            StoreError: The database cannot be written.
        """
        if not isinstance(by, str) or not by.strip():
            raise ConfigurationError("by", by, "say who takes the alert up, such as a name")
        if note is not None and not isinstance(note, str):
            raise ConfigurationError("note", note, "give a text, or None")
        if not isinstance(id, str) or not _ID.fullmatch(id.lower()):
            raise ConfigurationError("id", id, "give the id of an alert, or its first digits, 6 or more")
        found = self._table.named(id.lower())
        if len(found) != 1:
            what = "several alerts begin so: give more digits" if found else "there is no alert with this id"
            raise ConfigurationError("id", id, what)
        row, now = found[0], self._clock()
        said = None if note is None else clean(note)
        if not self._table.acknowledge(row.id, by=clean(by), note=said, at=now):
            raise ConfigurationError("id", id, "this alert is over: there is nothing to take up")
        return replace(row, acknowledged_by=clean(by), acknowledged_at=now, note=said).alert

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let a look that is under way come to its end."""
        self._resting = self._lock.acquire(timeout=_LONGEST_REST_SECONDS)

    def after_fork_in_parent(self) -> None:
        if self._resting:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()


def _read_rules(rules: Iterable[AlertRule]) -> tuple[AlertRule, ...]:
    remedy = "give AlertRule objects, each with a name of its own"
    if isinstance(rules, (AlertRule, str)) or not isinstance(rules, Iterable):
        raise ConfigurationError("rules", rules, remedy)
    found = tuple(rules)
    for rule in found:
        if not isinstance(rule, AlertRule):
            raise ConfigurationError("rules", rule, remedy)
    names = [rule.name for rule in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigurationError("rules", twice, "two rules have this name: " + remedy)
    return found


def _read_channels(channels: Iterable[Channel]) -> tuple[Channel, ...]:
    remedy = "give a sequence of channels, such as (LogChannel(),)"
    if isinstance(channels, (str, Channel)) or not isinstance(channels, Iterable):
        raise ConfigurationError("channels", channels, remedy)
    found = tuple(channels)
    for channel in found:
        if not isinstance(channel, Channel) or isinstance(channel, type):
            raise ConfigurationError("channels", channel, remedy)
    return found
