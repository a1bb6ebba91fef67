"""Why a share is what it is, and why something moves, each in a plain sentence."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_tokopt.budget.amounts import Unit
from langchain_tokopt.budget.planning.children import Child, Move, Strategy
from langchain_tokopt.budget.planning.saying import amount, share
from langchain_tokopt.budget.planning.strategies import foreseen, performance


class Told:
    """The sentences of one plan. `wanted` are the shares that the strategy would give, in the order of the children."""

    def __init__(
        self,
        children: Sequence[Child],
        wanted: Sequence[int],
        strategy: Strategy,
        unit: Unit,
        per: str,
        gone: float | None,
    ) -> None:
        self._children = {child.name: child for child in children}
        self._wanted = {child.name: after for child, after in zip(children, wanted, strict=True)}
        self._unit = unit
        self._per = per
        self._gone = gone
        self._why = dict(zip(self._children, self._claims(children, strategy), strict=True))

    def share(self, child: Child, after: int) -> str:
        """Why the child has that much."""
        return f"{child.name} {self._bound(child, after) or self._why[child.name]}"

    def move(self, source: str | None, target: str | None, moved: int) -> Move:
        """A move, explained from both sides."""
        what = amount(moved, self._unit)
        takes = "" if target is None else f"{target} {self._takes(target)}"
        if source is None:
            return Move(source, target, moved, f"gave {what} to {target}: {takes}")
        gives = f"{source} {self._gives(source)}"
        if target is None:
            return Move(source, target, moved, f"took {what} back from {source}: {gives}")
        return Move(source, target, moved, f"moved {what} from {source} to {target}: {gives}, {takes}")

    def _gives(self, name: str) -> str:
        child = self._children[name]
        had = child.current or 0
        if child.cap is not None and had > max(child.cap, child.used):
            return f"may have {amount(max(child.cap, child.used), self._unit)} at most"
        if not had:
            return self._why[name]
        gone = "" if self._gone is None else f" with {share(self._gone)} of the {self._per} gone"
        return f"has used {share(child.used / had)} of its {amount(had, self._unit)}{gone}"

    def _takes(self, name: str) -> str:
        child = self._children[name]
        had = child.current or 0
        if child.current is not None and had < child.used:
            return f"has used {amount(child.used, self._unit)}, more than its {amount(had, self._unit)}"
        if had < child.floor:
            return f"is to have {amount(child.floor, self._unit)} at least"
        return self._why[name]

    def _bound(self, child: Child, after: int) -> str | None:
        """The bound that the share stands at, if it does."""
        if after == child.used and after > child.floor:
            return f"has used {amount(child.used, self._unit)} already"
        if after == child.floor and after:
            return f"has the least that it is to have, {amount(after, self._unit)}"
        if after == child.cap:
            return f"has the most that it may have, {amount(after, self._unit)}"
        return None

    def _claims(self, children: Sequence[Child], strategy: Strategy) -> list[str]:
        """What speaks for each child by the strategy."""
        if strategy == "proportional":
            uses = [child.used if child.recent is None else child.recent for child in children]
            whole = sum(uses)
            if not whole:
                return ["has as good a claim as any: nothing was used yet"] * len(children)
            return [
                f"used {share(use / whole)} of what all used" if use else "has used nothing yet and gets a start"
                for use in uses
            ]
        if strategy == "priority":
            whole_priority = sum(sorted(child.priority for child in children))
            return [f"has priority {child.priority:g} of {whole_priority:g} in all" for child in children]
        if strategy == "performance":
            return self._worths(children)
        if strategy == "predictive":
            return self._needs(children)
        return ["has the same claim as each"] * len(children)

    def _worths(self, children: Sequence[Child]) -> list[str]:
        found = performance(children)
        if not any(found):
            return ["has as good a claim as any: no answer was worth anything yet"] * len(children)
        best = max(worth or 0.0 for worth in found)
        said = []
        for worth, child in zip(found, children, strict=True):
            ratio = f"gets {share((worth or 0.0) / best)} of the value per {self._cost_unit} that the best gets"
            count = len(child.values)
            said.append(f"{ratio} ({count} answer{'' if count == 1 else 's'} valued)")
        return said

    @property
    def _cost_unit(self) -> str:
        return {"usd": "dollar", "tokens": "token", "calls": "call"}[self._unit]

    def _needs(self, children: Sequence[Child]) -> list[str]:
        said = []
        for child, need in zip(children, foreseen(children), strict=True):
            more = amount(need - child.used, self._unit)
            guess = "" if child.forecast is not None else ", if it is like the others"
            if need > child.used:
                said.append(f"will need about {more} more{guess}")
            else:
                said.append("will need nothing more" if child.forecast is not None else "has as good a claim as any")
        return said
