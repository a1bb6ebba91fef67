"""What was asked of a cache and what it gave, what that saved and what it cost; counted for this process."""

from __future__ import annotations

import threading
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.cache.hits import Hit
from langchain_tokopt.identity import ModelIdentity

if TYPE_CHECKING:
    from langchain_tokopt.pricing import Pricing

_COUNTS: Final = (
    "exact_hits",
    "semantic_hits",
    "misses",
    "bypasses",
    "errors",
    "stored",
    "not_stored",
    "audits_begun",
)


class Takings:
    """Counts and sums. Thread-safe.

    Attributes:
        pricing: Prices what hits save and audits cost; `None` if that is not to be known.
    """

    def __init__(self, pricing: Pricing | None) -> None:
        self.pricing = pricing
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._saved = self._spent = Decimal(0)

    def price(self, usage: UsageMetadata | None, identity: ModelIdentity) -> Decimal | None:
        """What a call cost, in USD; `None` if that is not known."""
        if self.pricing is None or usage is None or identity.name is None:
            return None
        return self.pricing.cost(usage, identity.name, identity.provider)

    def count(self, name: str, by: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[name] += by

    def gave(self, hit: Hit, *, missed_before: bool = False) -> None:
        """Count a hit. `missed_before`: the same request was counted as a miss before it waited."""
        saved = self.price(hit.usage, hit.identity) or 0
        with self._lock:
            self._counts[f"{hit.how}_hits"] += 1
            self._counts["misses"] -= missed_before
            self._saved += saved

    def audited(self, usage: UsageMetadata | None, identity: ModelIdentity) -> None:
        """Count an audit."""
        spent = self.price(usage, identity) or 0
        with self._lock:
            self._counts["audits_begun"] += 1
            self._spent += spent

    def stats(self, ahead: Decimal = Decimal(0)) -> dict[str, Any]:
        """All of it; `ahead` is what answers made ahead have cost."""
        with self._lock:
            told: dict[str, Any] = {name: self._counts[name] for name in _COUNTS}
            saved, spent = self._saved, self._spent
        told["hits"] = told["exact_hits"] + told["semantic_hits"]
        looked = told["hits"] + told["misses"]
        told["hit_rate"] = told["hits"] / looked if looked else None
        known = self.pricing is not None
        told["saved_usd"] = saved if known else None
        told["audit_usd"] = spent if known else None
        told["net_usd"] = saved - spent - ahead if known else None
        return told
