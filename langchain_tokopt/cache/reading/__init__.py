"""Reads a question once, so that it can be compared with many."""

from langchain_tokopt.cache.reading.question import Prepared, prepare

__all__ = ["Prepared", "prepare"]
