"""Answers from one cache to another, as a text file."""

from langchain_tokopt.cache.transfer.incoming import BadRow, Imported, import_
from langchain_tokopt.cache.transfer.outgoing import export

__all__ = ["BadRow", "Imported", "export", "import_"]
