"""What a user can set on a cache, checked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from langchain_core.embeddings import Embeddings

from langchain_tokopt.cache.decision.learned import check_settings as check_learning
from langchain_tokopt.cache.eviction import POLICIES, Eviction, Limits
from langchain_tokopt.cache.expiry import check_jitter
from langchain_tokopt.cache.judging import Judge, check_judge
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError

PLAIN_THRESHOLD = 0.93
History = Literal["exact", "ignore", "semantic"]


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """The settings of a `SemanticCache`, which describes them.

    Raises:
        ConfigurationError: One of them cannot work.
    """

    max_error: float | None = None
    threshold: float | None = None
    audit_rate: float = 0.03
    warm_up_requests: int = 150
    judge: Judge | Literal["similarity", "text"] = "similarity"
    judge_candidates: int | None = None
    judge_timeout_seconds: float = 30.0
    eviction: Eviction = "adaptive"
    max_entries: int | None = 10_000
    max_bytes: int | None = None
    max_entry_bytes: int | None = 1_000_000
    ttl_seconds: float | None = None
    ttl_jitter: float = 0.1
    on_embedder_change: Literal["reembed", "refuse"] = "reembed"
    index_folder: str | Path | None = None
    neighbours: int = 20
    max_scopes: int = 256
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_error is not None and self.threshold is not None:
            remedy = "give either max_error, for a bounded error, or threshold, for a plain one"
            raise ConfigurationError("threshold", self.threshold, remedy)
        check_threshold(self.plain_threshold)
        check_learning(
            max_error=0.5 if self.max_error is None else self.max_error,
            audit_rate=self.audit_rate,
            warm_up=self.warm_up_requests,
            warm_up_name="warm_up_requests",
        )
        check_judge(self.judge)
        check_seconds("judge_timeout_seconds", self.judge_timeout_seconds)
        if not isinstance(self.eviction, str) or self.eviction not in POLICIES:
            raise ConfigurationError("eviction", self.eviction, f"use one of {', '.join(get_args(Eviction))}")
        Limits(entries=self.max_entries, bytes=self.max_bytes)
        if self.ttl_seconds is not None:
            check_seconds("ttl_seconds", self.ttl_seconds)
        check_jitter(self.ttl_jitter)
        check_count("neighbours", self.neighbours)
        check_count("max_scopes", self.max_scopes)
        for name in ("judge_candidates", "max_entry_bytes"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.index_folder is not None and not isinstance(self.index_folder, (str, Path)):
            raise ConfigurationError("index_folder", self.index_folder, "pass the path of a folder")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0):
            raise ConfigurationError("seed", self.seed, "use a whole number of at least 0, or None for any")
        if self.on_embedder_change not in ("reembed", "refuse"):
            raise ConfigurationError("on_embedder_change", self.on_embedder_change, 'use "reembed" or "refuse"')

    @property
    def plain_threshold(self) -> float:
        """The similarity of the plain decision."""
        return PLAIN_THRESHOLD if self.threshold is None else self.threshold

    @property
    def candidates(self) -> int:
        """With how many answers a new one is compared: a judge that costs something gets few."""
        return self.judge_candidates or (8 if self.judge in ("similarity", "text") else 2)


def check_threshold(threshold: Any) -> None:
    """Raises `ConfigurationError` for what is no cosine similarity in (0, 1]."""
    number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not number or not 0 < threshold <= 1:
        raise ConfigurationError("threshold", threshold, "use a cosine similarity in (0, 1], such as 0.93")


def check_seconds(name: str, value: Any) -> None:
    """Raises `ConfigurationError` for what is no time above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(name, value, "use a number of seconds above 0, or leave it out for the default")


def check_count(name: str, value: Any) -> None:
    """Raises `ConfigurationError` for what is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(name, value, "use a whole number of at least 1")


def check_tools(cacheable_tools: Collection[str], ttl_seconds: float | None) -> None:
    """Raises `ConfigurationError` for what is no list of tool names, or has no time to live."""
    listed = isinstance(cacheable_tools, Collection) and not isinstance(cacheable_tools, str)
    if not listed or not all(isinstance(name, str) for name in cacheable_tools):
        raise ConfigurationError("cacheable_tools", cacheable_tools, "pass a list of tool names")
    if cacheable_tools and ttl_seconds is None:
        remedy = "answers from tools go stale: set ttl_seconds= to how long their results stay true"
        raise ConfigurationError("cacheable_tools", sorted(cacheable_tools), remedy)


@dataclass
class Resources:
    """The embedder and the database of a cache: given, attached later, or made at the first use."""

    given_embeddings: Embeddings | str | None
    given_database: Database | str | Path | None
    _opened: Database | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        embeddings, database = self.given_embeddings, self.given_database
        if embeddings is not None and not isinstance(embeddings, (Embeddings, str)):
            raise ConfigurationError("embeddings", embeddings, "pass a LangChain Embeddings, a model name or a folder")
        if database is not None and not isinstance(database, (Database, str, Path)):
            raise ConfigurationError("database", database, "pass a Database, a path or a URL")

    def attach(self, *, database: Database | None, embeddings: MemoEmbeddings | None) -> None:
        """Use these where none was given."""
        self.given_database = database if self.given_database is None else self.given_database
        self.given_embeddings = embeddings if self.given_embeddings is None else self.given_embeddings

    def embeddings(self) -> MemoEmbeddings:
        with self._lock:
            if not isinstance(self.given_embeddings, MemoEmbeddings):
                self.given_embeddings = MemoEmbeddings(self.given_embeddings)
            return self.given_embeddings

    def database(self, clock: Callable[[], float]) -> Database:
        with self._lock:
            if not isinstance(self.given_database, Database):
                self.given_database = self._opened = Database(self.given_database, clock=clock)
            return self.given_database

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
