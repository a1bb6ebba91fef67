"""What every policy promises, what each of them keeps, and that the adaptive one keeps up with the best of them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.cache.eviction import POLICIES, Access, Adaptive, Facts, Limits, SimulatedCache
from langchain_tokopt.cache.eviction.policies import FIXED, Age
from langchain_tokopt.errors import ConfigurationError


def uses(keys: str | Sequence[str], **fields: Any) -> list[Access]:
    return [Access(key=key, at=float(at), **fields) for at, key in enumerate(keys)]


def played(name: str, limits: Limits, trace: Sequence[Access]) -> SimulatedCache:
    cache = SimulatedCache(POLICIES[name](limits), limits)
    for use in trace:
        cache.access(use)
    return cache


def held(cache: SimulatedCache, keys: str) -> str:
    return "".join(key for key in keys if key in cache)


# --- every policy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POLICIES)
@given(
    trace=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 9), st.integers(0, 5), st.sampled_from([None, 3.0])),
        max_size=60,
    ),
    limits=st.sampled_from([Limits(entries=1), Limits(entries=3), Limits(bytes=10), Limits(entries=4, bytes=12)]),
)
def test_a_cache_never_exceeds_its_limits_and_holds_what_it_says(
    name: str, trace: list[tuple[str, int, int, float | None]], limits: Limits
) -> None:
    cache = SimulatedCache(POLICIES[name](limits), limits)
    sizes: dict[str, int] = {}
    expiry: dict[str, float] = {}
    for at, (key, size, value, ttl) in enumerate(trace):
        there = key in cache
        live = there and at < expiry[key]
        hit = cache.access(Access(key=key, at=float(at), bytes=size, value=float(value), ttl_seconds=ttl))
        assert hit == int(live)
        if not live and key in cache:
            sizes[key], expiry[key] = size, float("inf") if ttl is None else at + ttl
        assert (key in cache) == (live or not limits.exceeded(1, size))
        kept = [key for key in sizes if key in cache]
        assert (len(kept), sum(sizes[key] for key in kept)) == (len(cache), cache.bytes)
        assert not limits.exceeded(len(cache), cache.bytes)


@pytest.mark.parametrize("name", POLICIES)
def test_what_was_learnt_survives_as_json(name: str) -> None:
    rng = random.Random(0)
    limits = Limits(entries=20)
    policy = POLICIES[name](limits)
    cache = SimulatedCache(policy, limits)
    for at in range(400):
        use = Access(key=str(int(rng.paretovariate(0.7))), at=float(at), value=rng.random())
        cache.access(use)
        if isinstance(policy, Adaptive):
            policy.observe(use)
    again = POLICIES[name](limits)
    state = json.loads(json.dumps(policy.state()))
    again.restore(state)
    assert again.state() == policy.state()
    facts = Facts(used_at=390.0, created_at=10.0, hits=3, value=0.5, expires_at=500.0)
    assert again.priority(facts) == policy.priority(facts)


@pytest.mark.parametrize("name", POLICIES)
def test_several_uses_told_at_once_are_one_miss_and_hits(name: str) -> None:
    limits = Limits(entries=2)
    cache = SimulatedCache(POLICIES[name](limits), limits)
    assert cache.access(Access(key="a", at=0.0, times=3)) == 2
    assert cache.access(Access(key="a", at=1.0, times=3)) == 3


@pytest.mark.parametrize("limits", [{"entries": 0}, {"bytes": 0}, {"entries": True}, {"entries": 1.5}])
def test_limits_that_cannot_work_are_refused(limits: Any) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        Limits(**limits)


# --- each of them ----------------------------------------------------------------------------------------------------


def test_lru_lets_go_what_was_not_used_for_longest() -> None:
    assert held(played("lru", Limits(entries=3), uses("abcad")), "abcd") == "acd"


def test_lfu_lets_go_what_was_used_least() -> None:
    assert held(played("lfu", Limits(entries=3), uses("aaabbcd")), "abcd") == "abd"


def test_lfu_does_not_keep_for_ever_what_was_popular_once() -> None:
    once = "a" * 50
    since = "".join(f"{x}{x}" for x in "bcdefghijklmnopqrstuvwxyz" * 3)
    assert "a" in played("lfu", Limits(entries=3), uses(once + since[:10]))
    assert "a" not in played("lfu", Limits(entries=3), uses(once + since))


def test_ttl_lets_go_what_expires_first_then_what_is_oldest() -> None:
    trace = [
        Access(key="a", at=0.0),
        Access(key="b", at=1.0),
        Access(key="c", at=2.0, ttl_seconds=100.0),
        Access(key="d", at=3.0, ttl_seconds=50.0),
        Access(key="a", at=4.0),
    ]
    limits = Limits(entries=4)
    assert held(played("ttl", limits, [*trace, Access(key="e", at=5.0)]), "abcde") == "abce"
    assert held(played("ttl", limits, [*trace, *uses("efg")]), "abcdefg") == "befg"


def test_cost_keeps_what_saves_most_for_its_room() -> None:
    trace = [
        Access(key="dear", at=0.0, bytes=10, value=100.0),
        Access(key="cheap", at=1.0, bytes=10, value=1.0),
        Access(key="huge", at=2.0, bytes=60, value=120.0),
    ]
    some = played("cost", Limits(bytes=100), [*trace, Access(key="new", at=3.0, bytes=30, value=300.0)])
    assert [key for key in ("dear", "cheap", "huge", "new") if key in some] == ["dear", "huge", "new"]
    more = played("cost", Limits(bytes=100), [*trace, Access(key="new", at=3.0, bytes=40, value=300.0)])
    assert [key for key in ("dear", "cheap", "huge", "new") if key in more] == ["dear", "new"]


def test_cost_counts_places_where_only_places_are_limited() -> None:
    trace = [Access(key="long", at=0.0, bytes=10_000, value=5.0), Access(key="short", at=1.0, bytes=1, value=4.0)]
    cache = played("cost", Limits(entries=2), [*trace, Access(key="new", at=2.0, value=9.0)])
    assert [key for key in ("long", "short", "new") if key in cache] == ["long", "new"]


def test_an_age_remembers_what_it_was() -> None:
    age = Age()
    for at, level in ((10.0, 1.0), (20.0, 5.0), (30.0, 4.0), (40.0, 6.0)):
        age.rise(level, at)
    assert [age.at(time) for time in (9.0, 10.0, 19.0, 20.0, 35.0, 40.0, 99.0)] == [0.0, 1.0, 1.0, 5.0, 5.0, 6.0, 6.0]
    for step in range(1000):
        age.rise(7.0 + step, 50.0 + step)
    assert len(age.state()[0]) <= 512
    assert age.at(1049.0) == 1006.0
    assert age.at(1000.0) == 957.0
    assert abs(age.at(500.0) - 457.0) <= 64


@pytest.mark.parametrize("state", [None, [[1.0], []], [["x"], [1.0]]])
def test_a_damaged_age_is_refused(state: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Age().restore(state)


# --- the adaptive one ------------------------------------------------------------------------------------------------


def zipf(rng: random.Random, keys: int, length: int) -> list[int]:
    weights = [1 / (rank + 1) ** 0.9 for rank in range(keys)]
    return rng.choices(range(keys), weights, k=length)


def traces(seed: int) -> dict[str, list[Access]]:
    """Small relatives of the traces of `benchmarks.cache_eviction`."""
    rng = random.Random(seed)
    recent: list[int] = []
    for _ in range(12_000):
        far = int(rng.expovariate(1 / 60)) + 1
        recent.append(recent[-far] if rng.random() < 0.7 and far <= len(recent) else len(recent) + 10**6)
    scans = []
    for at, key in enumerate(zipf(rng, 600, 12_000)):
        scans.append(key if at % 3 else at + 10**6)
    worth = [(rng.randint(1, 40), rng.expovariate(1.0)) for _ in range(1_200)]
    return {
        "popular": uses([str(key) for key in zipf(rng, 1_200, 12_000)]),
        "recent": uses([str(key) for key in recent]),
        "scans": uses([str(key) for key in scans]),
        "circle": uses([str(at % 150) for at in range(6_000)]),
        "worth": [
            Access(key=str(key), at=float(at), bytes=worth[key][0], value=worth[key][1])
            for at, key in enumerate(zipf(rng, 1_200, 12_000))
        ],
    }


def saved(name: str, limits: Limits, trace: Sequence[Access]) -> float:
    policy = POLICIES[name](limits)
    cache = SimulatedCache(policy, limits)
    total = 0.0
    for use in trace:
        if isinstance(policy, Adaptive):
            before = policy.followed
            policy.observe(use)
            if policy.followed != before:
                cache.reorder()
        total += cache.access(use) * use.value
    return total


@pytest.mark.parametrize("kind", ["popular", "recent", "scans", "circle", "worth"])
def test_adaptive_saves_nearly_what_the_best_fixed_policy_saves(kind: str) -> None:
    for seed in range(2):
        trace = traces(seed)[kind]
        limits = Limits(bytes=2_400) if kind == "worth" else Limits(entries=120)
        best = max(saved(name, limits, trace) for name in FIXED)
        assert saved("adaptive", limits, trace) >= 0.97 * best


def test_adaptive_leaves_every_fixed_policy_behind_on_a_circle() -> None:
    trace, limits = traces(0)["circle"], Limits(entries=120)
    assert {saved(name, limits, trace) for name in FIXED} == {0.0}
    assert saved("adaptive", limits, trace) > 0.7 * len(trace)


def test_adaptive_follows_a_change() -> None:
    limits = Limits(entries=120)
    policy = Adaptive(limits)
    recent, popular = traces(1)["recent"], traces(1)["popular"]
    for use in recent:
        policy.observe(use)
    assert policy.followed == "lru"
    for use in popular:
        policy.observe(replace(use, at=use.at + len(recent)))
    assert policy.followed in ("lfu", "cost")  # the same order where all answers are alike


def test_a_miniature_is_a_part_of_the_cache() -> None:
    assert Adaptive(Limits(entries=100)).share == 1.0
    assert Adaptive(Limits(entries=5_120)).share == 0.1
    assert Adaptive(Limits(entries=5_120, bytes=4_000 * 1_023)).share == 0.5
    assert Adaptive(Limits()).share == 1.0


def test_what_was_learnt_under_other_limits_is_left_aside() -> None:
    small = Adaptive(Limits(entries=10))
    for use in uses("abcabcabc"):
        small.observe(use)
    large = Adaptive(Limits(entries=20))
    before = large.state()
    large.restore(small.state())
    assert large.state() == before
