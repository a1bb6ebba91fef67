"""Views of a history that fit into a number of tokens."""

from langchain_tokopt.context.fitting.view import Fitted, fit, fitted

__all__ = ["Fitted", "fit", "fitted"]
