"""The history in fewer tokens: what a model is shown of it, not what the thread keeps. Documents in fewer tokens."""

from langchain_tokopt.context.documents import compress_documents
from langchain_tokopt.context.fitting import fit
from langchain_tokopt.context.history import HistoryCompression, View, compress_messages
from langchain_tokopt.context.importance import Importance, MessageImportance
from langchain_tokopt.context.lossless.references import expand
from langchain_tokopt.context.memory import ChatMemory, ExtractiveSummarizer, SummaryStore
from langchain_tokopt.context.middleware import HistoryCompressionMiddleware
from langchain_tokopt.context.ranking import Passage, Ranking, best_within, rank
from langchain_tokopt.context.validate import problem

__all__ = [
    "ChatMemory",
    "ExtractiveSummarizer",
    "HistoryCompression",
    "HistoryCompressionMiddleware",
    "Importance",
    "MessageImportance",
    "Passage",
    "Ranking",
    "SummaryStore",
    "View",
    "best_within",
    "compress_documents",
    "compress_messages",
    "expand",
    "fit",
    "problem",
    "rank",
]
