"""Limits on what agents spend, on every level, in USD, tokens and calls: reserved before a call, settled after it."""

from langchain_tokopt.budget.allocations import Allocation
from langchain_tokopt.budget.budget import Budget
from langchain_tokopt.budget.hold import Hold, Shortage
from langchain_tokopt.budget.ledgers.words import Correction
from langchain_tokopt.budget.limits import Limit
from langchain_tokopt.budget.middleware import BudgetMiddleware
from langchain_tokopt.budget.planning import Forecast, Plan
from langchain_tokopt.budget.refusals import BudgetStoreError, CallRefusedError, UnknownNodeError, UnknownPriceError
from langchain_tokopt.budget.spending import Spending
from langchain_tokopt.budget.watch import watching
from langchain_tokopt.budget.worst_case import WorstCase, worst_case

__all__ = [
    "Allocation",
    "Budget",
    "BudgetMiddleware",
    "BudgetStoreError",
    "CallRefusedError",
    "Correction",
    "Forecast",
    "Hold",
    "Limit",
    "Plan",
    "Shortage",
    "Spending",
    "UnknownNodeError",
    "UnknownPriceError",
    "WorstCase",
    "watching",
    "worst_case",
]
