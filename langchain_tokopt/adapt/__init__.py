"""Adapting while running: what does not pay is set aside."""

from langchain_tokopt.adapt.guard import SavingsGuard

__all__ = ["SavingsGuard"]
