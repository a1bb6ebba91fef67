"""The budgets that a database keeps, for whoever looks at events: where they stand, and what is to come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from langchain_tokopt.cli.telemetry_options import now
from langchain_tokopt.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from langchain_tokopt.budget import Budget
    from langchain_tokopt.budget.planning import Forecast
    from langchain_tokopt.database import Database

# A forecast is tested against the past, which takes a moment for each node.
_MOST_FORECASTS: Final = 20
_FORECAST_SECONDS: Final = 600.0


class KeptBudgets:
    """The budgets of a database. A budget that cannot be read is told with its error, and stops nothing.

    Args:
        budgets: By name.
        broken: Why others could not be opened, by name.
    """

    def __init__(self, budgets: Mapping[str, Budget], broken: Mapping[str, str]) -> None:
        self._budgets = budgets
        self._broken = broken
        self._known: dict[str, tuple[float, Forecast | None]] = {}

    def status(self) -> list[dict[str, Any]]:
        """What `Budget.status()` gives, of each; `name` and `error` of those that cannot be read."""
        told: list[dict[str, Any]] = []
        for name, budget in self._budgets.items():
            try:
                told.append(budget.status())
            except StoreError as error:
                told.append({"name": name, "error": str(error)})
        return told + [{"name": name, "error": error} for name, error in self._broken.items()]

    def forecast(self, node: str) -> Forecast | None:
        """What `Budget.forecast()` says of a node, of the first budget that has a limit there.

        Of the first twenty nodes, and each anew after ten minutes.
        """
        made, found = self._known.get(node, (None, None))
        if made is None and len(self._known) >= _MOST_FORECASTS:
            return None
        if made is None or not 0 <= now() - made < _FORECAST_SECONDS:
            found = self._forecast(node)
            self._known[node] = now(), found
        return found

    def _forecast(self, node: str) -> Forecast | None:
        for budget in self._budgets.values():
            try:
                found = budget.forecast(node)
            except (ConfigurationError, StoreError):
                continue  # a limit for runs or threads; or `status` tells what is wrong
            if found is not None and found.limit is not None:
                return found
        return None


@contextmanager
def kept_budgets(database: Database) -> Iterator[KeptBudgets]:
    """The budgets of the database, to look at; none where nobody spends from one there. Makes no table.

    Raises:
        StoreError: The database cannot be read.
    """
    from langchain_tokopt.budget import Budget
    from langchain_tokopt.budget.ledgers.opening import budget_names
    from langchain_tokopt.cli.schemas import schemas

    with ExitStack() as opened:
        budgets: dict[str, Budget] = {}
        broken: dict[str, str] = {}
        for name in budget_names(database) if "budget" in schemas(database) else []:
            try:
                budgets[name] = opened.enter_context(closing(Budget.opened(database, name=name, clock=now)))
            except (ConfigurationError, StoreError) as error:
                broken[name] = str(error)
        yield KeptBudgets(budgets, broken)
