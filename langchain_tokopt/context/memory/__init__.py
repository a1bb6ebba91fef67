"""What a long conversation leaves behind: closed blocks in short, and what a new question needs of them."""

from langchain_tokopt.context.memory.blocks import BLOCK_TOKENS, KEEP_TOKENS, Block, Cut, Pays, Turn, cut
from langchain_tokopt.context.memory.chat import ChatMemory
from langchain_tokopt.context.memory.extract import RATIO, Digest, digests
from langchain_tokopt.context.memory.extractive_model import ExtractiveSummarizer
from langchain_tokopt.context.memory.query import Query, newest_question, query_of
from langchain_tokopt.context.memory.recall import RECALL_TOKENS, Recollection, place
from langchain_tokopt.context.memory.summaries import Summarizer, SummaryStore
from langchain_tokopt.context.memory.worth import worth_closing

__all__ = [
    "BLOCK_TOKENS",
    "KEEP_TOKENS",
    "RATIO",
    "RECALL_TOKENS",
    "Block",
    "ChatMemory",
    "Cut",
    "Digest",
    "ExtractiveSummarizer",
    "Pays",
    "Query",
    "Recollection",
    "Summarizer",
    "SummaryStore",
    "Turn",
    "cut",
    "digests",
    "newest_question",
    "place",
    "query_of",
    "worth_closing",
]
