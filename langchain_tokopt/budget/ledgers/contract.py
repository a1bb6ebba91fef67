"""What every ledger does, whatever it keeps its counters in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from langchain_tokopt.budget.amounts import Amount
from langchain_tokopt.budget.ledgers.words import (
    Account,
    Balance,
    Bucket,
    Cap,
    Correction,
    Entry,
    Expired,
    Granted,
    Refusal,
    Settlement,
    Source,
    StoredLimit,
    Valued,
)
from langchain_tokopt.budget.periods import Per


class Ledger(Protocol):
    """Counters, reservations, limits and a journal that threads, processes and machines share, for one named budget.

    Every change is atomic: it happens on all of its accounts and in the journal, or not at all; what a method returned
    is durable as far as the store is. All methods are thread-safe, and a forked child may go on using the object.

    Raises:
        StoreError: The store cannot be used, at construction as in every method. A change that raised it was made
            either wholly or not at all; making it again under the same reservation id is safe.
    """

    # --- the life of a reservation ---

    def reserve(
        self, reservation: str, caps: Sequence[Cap], amount: Amount, *, path: str, now: float, expires_at: float
    ) -> Granted | Refusal:
        """Hold the amount on the accounts of all `caps`, if it fits under every one of them; else change nothing.

        It fits under a cap when, unit by unit, `spent + held + amount <= limit`; a unit without a limit always fits,
        and a unit of which the amount has nothing fits even when the account is beyond that limit. Each account is
        named by at most one cap. A reservation that is known already is granted again, and nothing is changed.
        """
        ...

    def settle(
        self,
        reservation: str,
        actual: Amount,
        *,
        accounts: Sequence[Account],
        path: str,
        now: float,
        reason: str | None = None,
    ) -> Settlement:
        """Book what the call really took, whatever the limits, and free what it held. Settling twice changes nothing.

        When the lease ran out, or nothing is known of the reservation, the whole amount is booked as overage on its
        accounts (those it was made on, else `accounts` and `path`): money that was spent is never lost.
        """
        ...

    def release(self, reservation: str, *, now: float, reason: str | None = None) -> Amount | None:
        """What was held and is free again; `None` when nothing was held under that id any more."""
        ...

    def renew(self, reservations: Sequence[str], *, expires_at: float) -> int:
        """How many of the reservations are still held; their leases now run until `expires_at`."""
        ...

    def sweep(self, *, now: float) -> list[Expired]:
        """The reservations whose lease ran out (`expires_at <= now`); what they held is free again."""
        ...

    # --- looking ---

    def balances(self, accounts: Sequence[Account]) -> dict[Account, Balance]:
        """What each of the accounts has spent and holds; nothing for one that was never used."""
        ...

    def accounts(self, *, per: Per, period: int, count: int = 1000) -> dict[Account, Balance]:
        """The accounts of one period in which something happened, of all nodes and scopes, those opened last first."""
        ...

    def journal(
        self,
        *,
        node: str | None = None,
        reservation: str | None = None,
        since: float | None = None,
        until: float | None = None,
        count: int = 100,
    ) -> list[Entry]:
        """The newest entries that all of this is true of, newest first.

        `node`: the entry changed an account of that node, or the node was set or moved; "" is the root.
        `since` is inclusive, `until` exclusive.
        """
        ...

    def series(self, *, since: float, until: float, bucket_seconds: int) -> list[Bucket]:
        """What was spent per path and bucket, by start and path; a bucket starts at a multiple of its length.

        The times of the bookings count, not the periods that they were booked in. Empty buckets are left out.
        """
        ...

    # --- repairing ---

    def reconcile(self, *, now: float) -> list[Correction]:
        """Rebuild every counter from the journal; the counters that were wrong, in the order of their accounts."""
        ...

    # --- limits and feedback ---

    def limits(self) -> list[StoredLimit]:
        """The limits that are kept here, by node, per, source and scope."""
        ...

    def put_limits(
        self, limits: Sequence[StoredLimit], *, reasons: Mapping[str, str] | None = None, now: float
    ) -> None:
        """Keep the limits, each in the place of the one for its node, per, source and scope, all of them or none.

        Each is written into the journal: as "moved" when it comes from an allocation, else as "set", with the text that
        `reasons` has for its node.
        """
        ...

    def drop_limit(self, node: str, per: Per, *, source: Source, now: float, reason: str | None = None) -> bool:
        """Whether there was such a limit, of whatever scope; it is gone, and the journal says so ("dropped")."""
        ...

    def claim(self, task: str, *, now: float, until: float) -> bool:
        """Whether the task is the caller's until then. Of all that ask before a claim runs out, one gets it."""
        ...

    def value(self, valued: Valued) -> None:
        """Keep what an answer on the path was worth."""
        ...

    def values(self, *, since: float, until: float) -> list[Valued]:
        """What was reported from `since` (inclusive) to `until` (exclusive), oldest first."""
        ...

    def close(self) -> None:
        """Let go of connections that are the ledger's own."""
        ...
