"""Looking ahead: what will be spent until a period ends, and who shares a budget with how much.

Plain functions of what they are given. They know no store, no clock and no agent.
"""

from langchain_tokopt.budget.amounts import Unit
from langchain_tokopt.budget.planning.allocation import allocate, rebalance
from langchain_tokopt.budget.planning.children import Child, Move, Plan, Share, Strategy
from langchain_tokopt.budget.planning.forecast import Forecast, Method, MethodError, Point, forecast
from langchain_tokopt.budget.planning.series import Series, Step, Stretch

__all__ = [
    "Child",
    "Forecast",
    "Method",
    "MethodError",
    "Move",
    "Plan",
    "Point",
    "Series",
    "Share",
    "Step",
    "Strategy",
    "Stretch",
    "Unit",
    "allocate",
    "forecast",
    "rebalance",
]
