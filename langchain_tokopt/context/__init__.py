"""The history in fewer tokens: what a model is shown of it, not what the thread keeps."""

from langchain_tokopt.context.history import HistoryCompression, View, compress_messages
from langchain_tokopt.context.lossless.references import expand
from langchain_tokopt.context.middleware import HistoryCompressionMiddleware
from langchain_tokopt.context.validate import problem

__all__ = [
    "HistoryCompression",
    "HistoryCompressionMiddleware",
    "View",
    "compress_messages",
    "expand",
    "problem",
]
