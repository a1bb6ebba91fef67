"""How the children of a node share its budget: what the user wants, and the children as planning needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from langchain_tokopt.budget.amounts import Unit, read_amount, read_unit
from langchain_tokopt.budget.nodes import Path, Pattern
from langchain_tokopt.budget.periods import Per, read_per
from langchain_tokopt.budget.planning import Strategy
from langchain_tokopt.budget.planning.children import read_strategy
from langchain_tokopt.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """How the children of a node share its budget.

    Attributes:
        strategy: "equal"; "proportional" to what they used; "priority", by `priorities`; "performance", by what their
            answers were worth (see `Budget.feedback`) for what they took; "predictive", by what they are expected to
            need until the period ends.
        per: Which of the node's limits is shared; `None` for the only one.
        unit: What is shared, "usd", "tokens" or "calls"; `None` for the first that the limit has.
        children: Their names, as segments below the node or whole nodes. `None`: those that have spent, have a limit
            or have a share.
        floors: The least that a child is to have, by its name, in the unit.
        caps: The most that a child is to have.
        priorities: For "priority": how much more a child is to have than one with 1.
        every_seconds: How often shares are moved while calls are made; `None` for once in each period.

    Raises:
        ConfigurationError: A setting cannot work.
    """

    strategy: Strategy = "proportional"
    per: Per | None = None
    unit: Unit | None = None
    children: Sequence[str] | None = None
    floors: Mapping[str, object] = field(default_factory=dict)
    caps: Mapping[str, object] = field(default_factory=dict)
    priorities: Mapping[str, float] = field(default_factory=dict)
    every_seconds: float | None = None

    def __post_init__(self) -> None:
        read_strategy(self.strategy)
        if self.per is not None and read_per(self.per) in ("run", "thread"):
            raise ConfigurationError("per", self.per, "a limit for each run or thread has no children to share it")
        if self.unit is not None:
            read_unit(self.unit)
        if isinstance(self.children, str) or not isinstance(self.children, (Sequence, type(None))):
            raise ConfigurationError("children", self.children, 'give a list of names, such as ["agent=writer"]')
        for argument in ("floors", "caps", "priorities"):
            if not isinstance(getattr(self, argument), Mapping):
                raise ConfigurationError(argument, getattr(self, argument), 'map names, such as {"agent=writer": 1}')
        every = self.every_seconds
        if every is not None and (isinstance(every, bool) or not isinstance(every, (int, float)) or not every > 0):
            raise ConfigurationError("every_seconds", every, "use a number of seconds above 0, such as 3600")
        for child in (*(self.children or ()), *self.floors, *self.caps, *self.priorities):
            child_of("", child, "children")

    def bounds(self, node: str, unit: Unit) -> tuple[dict[str, int], dict[str, int], dict[str, float]]:
        """Floors, caps and priorities by node.

        Raises:
            ConfigurationError: An amount cannot be read in that unit.
        """
        floors = {child_of(node, name, "floors"): read_amount("floors", at, unit) for name, at in self.floors.items()}
        caps = {child_of(node, name, "caps"): read_amount("caps", at, unit) for name, at in self.caps.items()}
        return floors, caps, {child_of(node, name, "priorities"): at for name, at in self.priorities.items()}


def child_of(node: str, name: object, argument: str) -> str:
    """The child that is called so: a segment below the node, or a whole node.

    Raises:
        ConfigurationError: It is no name, or leaves something open.
    """
    pattern = Pattern.read(name, argument)
    if pattern.wildcards or not pattern.segments:
        raise ConfigurationError(argument, name, "name one child, as a segment below the node or as a whole node")
    child = str(pattern)
    if not node or child.startswith(f"{node}/") or len(pattern.segments) > 1:
        return child
    return f"{node}/{child}"


def is_within(path: str, node: str) -> bool:
    """Whether a call on the path counts on the node."""
    return Pattern.read(node).node_on(Path.read(path)) == node
