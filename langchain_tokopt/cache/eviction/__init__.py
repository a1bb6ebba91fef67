"""What goes when there is no room: policies, one that learns which of them to follow, and the rows that it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from langchain_tokopt.cache.eviction.adaptive import Adaptive
from langchain_tokopt.cache.eviction.policies import FIXED, Facts, Limits, Policy
from langchain_tokopt.cache.eviction.room import Census, Room
from langchain_tokopt.cache.eviction.simulation import Access, SimulatedCache

Eviction: TypeAlias = Literal["lru", "lfu", "ttl", "cost", "adaptive"]

# By the names that users choose from.
POLICIES: Mapping[str, Callable[[Limits], Policy]] = {**FIXED, "adaptive": Adaptive}

__all__ = [
    "POLICIES",
    "Access",
    "Adaptive",
    "Census",
    "Eviction",
    "Facts",
    "Limits",
    "Policy",
    "Room",
    "SimulatedCache",
]
