"""Parts to turn on or off, own calls that do not pay, and questions that were asked again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from langchain_tokopt.pricing import from_nano
from langchain_tokopt.telemetry.recommend_statistics import difference, sum_interval
from langchain_tokopt.telemetry.recommendation import FEWEST_EVENTS, Confidence, Recommendation, over_time
from langchain_tokopt.telemetry.report_figures import between, money, number, times

if TYPE_CHECKING:
    from langchain_tokopt.telemetry.recommend_evidence import Evidence, PartSavings, Repeats

# The part that each argument of the optimizer stands for, with its setting to turn it on.
_ON: Final = {
    "cache": "cache=SemanticCache()",
    "tools": "tools=ToolSelection()",
    "history": "history=HistoryCompression()",
}
_GUARD: Final = ("tools", "history")
_STAYED: Final = "the same step asks again"


def about_parts(evidence: Evidence) -> Iterator[Recommendation]:
    """Parts that would have saved, parts that cost more than they save, and answers that were paid for twice."""
    for part in evidence.parts:
        found = _turn_on(evidence, part) if part.shadow else _turn_off(evidence, part)
        if found is not None:
            yield found
    for one in (_own_calls(evidence), _repeats(evidence)):
        if one is not None:
            yield one


def _turn_on(evidence: Evidence, part: PartSavings) -> Recommendation | None:
    low, high = sum_interval(part.priced)
    if part.priced.count < FEWEST_EVENTS or low <= 0 or part.part not in _ON:
        return None
    real = next((one for one in evidence.parts if one.part == part.part and not one.shadow), None)
    if real is not None and real.priced.count >= FEWEST_EVENTS and real.priced.total <= 0:
        return None  # where it was on, it did not save
    tried = _tried(evidence, part.part)
    if tried is not None and tried[0] > 0:
        return None
    why = _together(part, low, high, "saved")
    confidence: Confidence = "medium"
    if tried is not None and tried[1] < 0:
        confidence = "high"
        why = f"{number(tried[2])} runs of the same agents say so as well: with it on, a run cost {_less(tried)}"
    served = " Whether the answers it would have given are right is not measured here." if part.part == "cache" else ""
    return over_time(
        evidence.seconds,
        id=f"turn-on:{part.part}",
        title=f"Turn {part.part} on, which only watches now (shadow mode)",
        change=f'TokenOptimizer({_ON[part.part]}, mode="optimize")',
        saves=part.priced.total,
        low=low,
        high=high,
        source="estimated",
        events=part.applied,
        basis=f"estimated from {times(part.applied)} that it would have worked in shadow mode",
        confidence=confidence,
        why=why,
        caveat=f"What it would have saved is our estimate, the provider's cache counted.{served}",
    )


def _turn_off(evidence: Evidence, part: PartSavings) -> Recommendation | None:
    low, high = sum_interval(part.priced)
    if part.priced.count < FEWEST_EVENTS or high >= 0 or part.part not in _ON:
        return None
    tried = _tried(evidence, part.part)
    if tried is not None and tried[1] < 0:
        return None  # with it on, runs cost less, whatever we estimate
    why = _together(part, -high, -low, "cost")
    confidence: Confidence = "medium"
    if tried is not None and tried[0] > 0:
        confidence = "high"
        why = f"{number(tried[2])} runs of the same agents say so as well: with it on, a run cost {_more(tried)}"
    guarded = part.part in _GUARD
    setting = "savings_guard=SavingsGuard()" if guarded else f"{part.part}=None"
    guard = f" The guard sets it aside only while it loses; {part.part}=None turns it off." if guarded else ""
    return over_time(
        evidence.seconds,
        id=f"turn-off:{part.part}",
        title=f"Turn {part.part} off where it costs more than it saves",
        change=f"TokenOptimizer({setting})",
        saves=-part.priced.total,
        low=-high,
        high=-low,
        source="estimated",
        events=part.applied,
        basis=f"estimated from {times(part.applied)} that it worked",
        confidence=confidence,
        why=why,
        caveat=f"What pays off only later in a thread is counted as far as the thread is on record.{guard}",
    )


def _own_calls(evidence: Evidence) -> Recommendation | None:
    saved = [part.priced.total for part in evidence.parts if not part.shadow]
    priced = sum(part.priced.count for part in evidence.parts if not part.shadow)
    spent = evidence.own_nano
    if spent is None or evidence.own_calls + priced < FEWEST_EVENTS or spent <= max(0, sum(saved)):
        return None
    loss = spent - max(0, sum(saved))
    return over_time(
        evidence.seconds,
        id="own-calls",
        title="Stop the optimiser's own model calls: they cost more than all parts save",
        change='TokenOptimizer.preset("standard")',
        saves=loss,
        low=loss,
        high=spent,
        source="estimated",
        events=evidence.own_calls + priced,
        basis=(
            f"{number(evidence.own_calls)} calls of its own cost {money(from_nano(spent))}; all parts together saved "
            f"{money(from_nano(sum(saved)))} by our estimate"
        ),
        confidence="medium",
        why="what the calls cost is on record; what the parts saved is estimated",
        caveat="Audits of the cache end with them, and a cache with max_error= needs audits to learn at first.",
    )


def _repeats(evidence: Evidence) -> Recommendation | None:
    """What was paid for a prompt that had been sent whole before: a cache of exact repeats would have answered."""
    cases = [case for case in evidence.repeats if case.reason != _STAYED]
    calls, nano = sum(case.calls for case in cases), sum(case.nano for case in cases)
    priced = sum(case.priced for case in cases)
    if calls < FEWEST_EVENTS or not nano:
        return None
    off = [case for case in cases if case.outcome is None]
    if sum(case.calls for case in off) * 2 >= calls:
        title, change = "Answer exact repeats from a cache", "TokenOptimizer(cache=SemanticCache(threshold=1.0))"
        said = "no cache looked at them"
    else:
        title, change, said = _why_missed(cases)
    return over_time(
        evidence.seconds,
        id="exact-repeats",
        title=title,
        change=change,
        saves=nano,
        low=0,
        high=nano,
        source="measured",
        events=calls,
        basis=(
            f"{number(calls)} calls, {number(priced)} at known prices, sent a prompt that had been sent whole within "
            f"the lifetime of the provider's cache; {said}"
        ),
        confidence="low",
        why="the repeats are on record, but not why they were asked again",
        caveat="A repeat that asks for another answer, such as a retry or a second sample, must not be served.",
    )


def _why_missed(cases: Iterable[Repeats]) -> tuple[str, str, str]:
    most = max((case for case in cases if case.outcome is not None), key=lambda case: case.calls)
    reason = most.reason or "no reason was given"
    did = "passed them by" if most.outcome == "bypass" else "missed"
    said = f"the cache looked and {did}, most often because: {reason}"
    if most.outcome == "bypass" and "tool" in reason:
        change = "SemanticCache(cacheable_tools=[...], ttl_seconds=3600)"
    elif most.outcome == "bypass" and "tenant" in reason:
        change = "agent.invoke(..., context={'tenant': ...})"
    elif most.outcome == "bypass" and "temperature" in reason:
        change = "SemanticCache(cache_sampled=True)"
    else:
        change = "SemanticCache(ttl_seconds=None, tenant=...)"
    return "Let the cache answer exact repeats that it misses", change, said


def _together(part: PartSavings, low: int, high: int, word: str) -> str:
    of_total = money(from_nano(abs(part.priced.total)))
    chance = f"; by chance it may be {between(_usd(low), _usd(high))} (95%)" if low != high else ""
    return f"{number(part.priced.count)} decisions at known prices {word} {of_total} together{chance}"


def _tried(evidence: Evidence, part: str) -> tuple[float, float, int] | None:
    """How much dearer a run is with the part on, where it was on for some runs of an agent and watched in others."""
    return difference([arm for arm in evidence.part_arms if arm.subject == part], "optimize", "shadow")


def _less(tried: tuple[float, float, int]) -> str:
    return f"{between(_usd(-tried[1]), _usd(-tried[0]))} less"


def _more(tried: tuple[float, float, int]) -> str:
    return f"{between(_usd(tried[0]), _usd(tried[1]))} more"


def _usd(nano: float) -> Decimal:
    return from_nano(round(nano))
