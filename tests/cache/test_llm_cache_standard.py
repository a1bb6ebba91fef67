"""LangChain's own suites for caches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_core.caches import BaseCache
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from langchain_tokopt.cache import SemanticCache, SemanticLLMCache
from tests.fakes import TableEmbeddings


@pytest.fixture
def cache() -> Iterator[BaseCache]:
    cache = SemanticLLMCache(SemanticCache(embeddings=TableEmbeddings()))
    yield cache
    cache.close()


class TestSync(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, cache: BaseCache) -> BaseCache:
        return cache


class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, cache: BaseCache) -> BaseCache:
        return cache


class TestSemanticPlainPrompts(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self) -> BaseCache:
        return SemanticLLMCache(SemanticCache(embeddings=TableEmbeddings()), semantic_plain=True)
