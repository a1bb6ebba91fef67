"""Tool outputs shown in part."""

from langchain_tokopt.context.trimming.blobs import has_blob
from langchain_tokopt.context.trimming.identifiers import identifiers
from langchain_tokopt.context.trimming.relevance import Wanted
from langchain_tokopt.context.trimming.trim import Trimmed, trimmed

__all__ = ["Trimmed", "Wanted", "has_blob", "identifiers", "trimmed"]
