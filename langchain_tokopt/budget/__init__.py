"""Hard limits on what agents spend, in USD and tokens: reserved before a call, settled after it."""

from langchain_tokopt.budget.accounts import Correction
from langchain_tokopt.budget.budget import Budget
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.middleware import BudgetMiddleware
from langchain_tokopt.budget.refusals import BudgetStoreError, CallRefusedError, UnknownPriceError
from langchain_tokopt.budget.spending import Spending
from langchain_tokopt.budget.watch import watching
from langchain_tokopt.budget.worst_case import WorstCase, worst_case

__all__ = [
    "Budget",
    "BudgetMiddleware",
    "BudgetStoreError",
    "CallRefusedError",
    "Correction",
    "Hold",
    "Spending",
    "UnknownPriceError",
    "WorstCase",
    "watching",
    "worst_case",
]
