"""Answers that were given once are given again, to the same question and to one that means the same."""

from langchain_tokopt.cache.hits import Hit, Look
from langchain_tokopt.cache.judging import ModelJudge, SimilarAnswers
from langchain_tokopt.cache.key import Bypass, CacheKey
from langchain_tokopt.cache.llm_cache import SemanticLLMCache
from langchain_tokopt.cache.middleware import SemanticCacheMiddleware
from langchain_tokopt.cache.precompute import Precompute
from langchain_tokopt.cache.semantic import SemanticCache

__all__ = [
    "Bypass",
    "CacheKey",
    "Hit",
    "Look",
    "ModelJudge",
    "Precompute",
    "SemanticCache",
    "SemanticCacheMiddleware",
    "SemanticLLMCache",
    "SimilarAnswers",
]
