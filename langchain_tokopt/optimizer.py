"""`TokenOptimizer`: holds the parts and fixes their order. It has no logic of its own."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import ToolMessage
from langchain_core.runnables import Runnable
from typing_extensions import Self

from langchain_tokopt.adapt import SavingsGuard
from langchain_tokopt.background import Background
from langchain_tokopt.budget import Budget, BudgetMiddleware
from langchain_tokopt.cache import SemanticCache, SemanticCacheMiddleware, SemanticLLMCache
from langchain_tokopt.chain import wrap_chain
from langchain_tokopt.context import HistoryCompression, HistoryCompressionMiddleware
from langchain_tokopt.context.harder import compress_harder
from langchain_tokopt.context.retrieval import is_retrieved
from langchain_tokopt.database import Database
from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.events import Mode, Sink
from langchain_tokopt.flow import FlowMiddleware, compose
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.monitoring import Monitoring
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.telemetry import FanOut, Report, RunMetadata, Telemetry, UsageCallback, UsageMiddleware
from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools import ToolSelection, ToolSelectionMiddleware, is_search_result

if TYPE_CHECKING:
    from langchain_tokopt.presets import Preset
    from langchain_tokopt.telemetry.alerts import AlertRule, Channel

DATABASE_FILE: Final = "tokopt.db"

_P = TypeVar("_P")


class _Default:
    """Stands for "the part with its own defaults", so that `None` can mean "off"."""

    def __repr__(self) -> str:
        return "<default>"


DEFAULT: Final = _Default()


class TokenOptimizer:
    """The parts that make an agent cheaper, ready to be added to it: `.middleware`, `.wrap`, `.callback`, `.llm_cache`.

    One optimiser serves any number of agents, threads and event loops. Each part is an object, or `None` for off.

    Args:
        data_dir: A folder for everything that is kept (one SQLite file); made when it is missing. `None` keeps it in
            memory.
        database: A `Database` or its URL (`postgresql://...` for many machines), instead of `data_dir`.
        embeddings: Any LangChain `Embeddings`, a model name or a folder; by default all-MiniLM-L6-v2, loaded when it
            is first needed.
        cache: A `SemanticCache`.
        tools: A `ToolSelection`.
        history: A `HistoryCompression`.
        budget: A `Budget`; off by default, since only you know the limit.
        savings_guard: A `SavingsGuard`, which sets a part aside when it costs more than it saves; off by default.
        sinks: Who else is told what happens, such as `OtelSink()`.
        alerts: What raises alerts: `AlertRule`s, `None` for the usual ones, an empty list for none.
        channels: Where alerts are told, such as `Webhook(url)`; by default in the log.
        targets: Of KPIs, by name, such as `{"cache.hit_rate": 0.2}`.
        keep_days: For how many days events are kept one by one; then as sums. `None` keeps all.
        pricing: A `Pricing`; by default the prices that genai-prices knows.
        counter: A `TokenCounter`.
        mode: "optimize"; "shadow" computes and records everything and changes nothing (no budget stops a call
            either); "off" only meters.
        name: Told apart from a second optimiser in one agent by its name.

    Raises:
        ConfigurationError: A setting cannot work; the message names it, its value and the remedy.
        StoreError: The folder or the database cannot be used.
    """

    def __init__(
        self,
        *,
        data_dir: str | Path | None = None,
        database: Database | str | None = None,
        embeddings: Embeddings | str | None = None,
        cache: SemanticCache | _Default | None = DEFAULT,
        tools: ToolSelection | _Default | None = DEFAULT,
        history: HistoryCompression | _Default | None = DEFAULT,
        budget: Budget | None = None,
        savings_guard: SavingsGuard | None = None,
        sinks: Sequence[Sink] = (),
        alerts: Sequence[AlertRule] | None = None,
        channels: Sequence[Channel] | None = None,
        targets: Mapping[str, float] | None = None,
        keep_days: float | None = 90.0,
        pricing: Pricing | None = None,
        counter: TokenCounter | None = None,
        mode: Literal["optimize", "shadow", "off"] = "optimize",
        name: str | None = None,
    ) -> None:
        if mode not in ("optimize", "shadow", "off"):
            raise ConfigurationError("mode", mode, 'use "optimize", "shadow" or "off"')
        for argument, part, kind in (
            ("cache", cache, SemanticCache),
            ("tools", tools, ToolSelection),
            ("history", history, HistoryCompression),
            ("budget", budget, Budget),
        ):
            if part is not None and part is not DEFAULT and not isinstance(part, kind):
                raise ConfigurationError(argument, part, f"pass a {kind.__name__} or None")
        self.mode = mode
        self.name = name
        self.pricing = pricing or Pricing()
        self.counter = counter or TokenCounter()
        self.database = _database(data_dir, database)
        self.embeddings = MemoEmbeddings(embeddings, data_dir=data_dir)
        self.telemetry = Telemetry(
            database=self.database, pricing=self.pricing, counter=self.counter, keep_days=keep_days
        )
        self._run_metadata = RunMetadata()
        self._sink = FanOut(self.telemetry, self._run_metadata, *sinks)
        self._own_database = not isinstance(database, Database)
        if self.database.persistent:
            self._open()
        off = mode == "off"
        self.cache = None if off else _part(cache, SemanticCache)
        self.tools = None if off else _part(tools, ToolSelection)
        self.history = None if off else _part(history, HistoryCompression)
        self.budget = budget
        self.savings_guard = savings_guard
        if self.cache:
            self.cache.attach(
                database=self.database,
                embeddings=self.embeddings,
                pricing=self.pricing,
                own_result=_is_ours,
            )
        if self.tools:
            self.tools.attach(
                embeddings=self.embeddings, counter=self.counter, pricing=self.pricing, database=self.database
            )
        if self.history:
            self.history.attach(
                counter=self.counter, pricing=self.pricing, database=self.database, stays=is_search_result
            )
        if self.budget:
            self.budget.attach(
                database=self.database,
                counter=self.counter,
                pricing=self.pricing,
                sink=self._sink,
                enforced=mode == "optimize",
            )
        self.monitoring = Monitoring(
            self.telemetry,
            cache=self.cache,
            budget=budget,
            rules=alerts,
            channels=channels,
            sink=self._sink,
            targets=targets,
        )
        self.monitoring.begin()
        self._id = uuid.uuid4().hex
        self._background = Background()
        self.middleware: list[FlowMiddleware] = self._flows(keeps_asides=True)
        self.callback = UsageCallback(self.telemetry, sink=self._sink)
        self.llm_cache = SemanticLLMCache(self.cache, sink=self._sink, mode=self._part_mode) if self.cache else None

    def _open(self) -> None:
        try:
            self.telemetry.open()
        except StoreError:
            if self._own_database:
                self.database.close()
            raise

    @property
    def _part_mode(self) -> Mode:
        return "shadow" if self.mode == "shadow" else "optimize"

    @classmethod
    def preset(cls, preset: Preset, /, **overrides: Any) -> TokenOptimizer:
        """An optimiser with settings for a purpose; `overrides` are arguments of `TokenOptimizer` and win.

        "minimal": only what cannot change an answer (lossless history). "standard": the defaults; the cache decides
        by a fixed similarity. "aggressive": a cache that learns which answers it may give, with at most 2 % of all
        requests answered wrongly, fewer tools, smaller parts of tool results, and long conversations in short.
        "adaptive": such a cache with at most 1 %; tools and history are set aside while they cost more than they save.
        Both audit some of the cache's answers by model calls of their own.

        Raises:
            ConfigurationError: There is no such preset.
        """
        from langchain_tokopt.presets import settings

        return cls(**{**settings(preset), **overrides})

    def _flows(self, *, keeps_asides: bool) -> list[FlowMiddleware]:
        """The parts that are on, outermost first."""
        mode = self._part_mode
        sink: Sink = self.savings_guard.watching(self._sink) if self.savings_guard else self._sink
        flows: list[FlowMiddleware] = []
        if self.cache:
            flows.append(SemanticCacheMiddleware(self.cache, sink=sink, mode=mode, pricing=self.pricing))
        if self.tools:
            flows.append(ToolSelectionMiddleware(self.tools, sink=sink, mode=mode, keeps_searches=keeps_asides))
        if self.history:
            flows.append(HistoryCompressionMiddleware(self.history, sink=sink, mode=mode, keeps_retrieved=keeps_asides))
        if self.budget and self.mode != "off":
            compress = partial(compress_harder, counter=self.counter)
            flows.append(BudgetMiddleware(self.budget, sink=sink, mode=mode, compress=compress))
        flows.append(UsageMiddleware(self.telemetry, sink=self._sink, run_metadata=self._run_metadata))
        for flow in flows:
            flow.owner = self._id
            flow.background = self._background
            if self.name:
                flow.rename(f"{self.name}.{flow.name}")
            if self.savings_guard and flow.part in ("tools", "history"):
                flow.allowed = self.savings_guard.allowing(flow.part)
        return flows

    @overload
    def wrap(self, target: BaseChatModel) -> OptimizedChatModel: ...

    @overload
    def wrap(self, target: Runnable[Any, Any]) -> Runnable[Any, Any]: ...

    def wrap(self, target: Runnable[Any, Any]) -> Runnable[Any, Any]:
        """The same chat model or chain, optimised; `target` itself is not changed.

        A chat model keeps all that it can do (`bind_tools`, `with_structured_output`, streaming ...). In a chain every
        chat model that can be seen is replaced. Wrapping what this optimiser has wrapped changes nothing.

        Raises:
            NoChatModelError: There is no chat model to be seen; the message says what to wrap instead.
        """
        flow = compose(*(middleware.run_flow for middleware in self._flows(keeps_asides=False)))

        def wrap_model(model: BaseChatModel) -> BaseChatModel:
            if isinstance(model, OptimizedChatModel) and model.tokopt_owner == self._id:
                return model
            return OptimizedChatModel.around(model, flow, owner=self._id)

        return wrap_model(target) if isinstance(target, BaseChatModel) else wrap_chain(target, wrap_model)

    def report(self, hours: float | None = None) -> Report:
        """What was spent and saved in the last `hours` (`None`: ever), what is wrong, and what to change.

        Shows itself in a notebook.
        """
        return self.monitoring.report(hours)

    def status(self) -> dict[str, Any]:
        """What is on, where things are kept, and how each part is."""
        return {
            "mode": self.mode,
            "database": self.database.url,
            "embeddings": self.embeddings.name if self.embeddings.loaded else "not loaded yet",
            "parts": [flow.part for flow in self.middleware],
            "cache": self.cache.stats() if self.cache else None,
            "budget": self.monitoring.standing() if self.budget else None,
            "telemetry": self.telemetry.status(),
        }

    def close(self) -> None:
        """Write what is waiting, let go of files and connections. Agents that still hold the middleware go on bare."""
        self._background.close()
        if self.cache:
            self.cache.close()
        if self.tools:
            self.tools.close()
        if self.history:
            self.history.close()
        self.telemetry.close()
        if self.budget:
            self.budget.close()
        if self._own_database:
            self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_ours(result: ToolMessage) -> bool:
    """Whether the optimiser itself gave this result to the model: what it shows is no news from outside."""
    return is_search_result(result) or is_retrieved(result)


def _part(given: _P | _Default | None, kind: type[_P]) -> _P | None:
    return kind() if isinstance(given, _Default) else given


def _database(data_dir: str | Path | None, database: Database | str | None) -> Database:
    if database is not None:
        if data_dir is not None:
            raise ConfigurationError("data_dir", str(data_dir), "give either data_dir or database, not both")
        return database if isinstance(database, Database) else Database(database)
    if data_dir is None:
        return Database()
    folder = Path(data_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"data_dir={str(folder)!r} cannot be made or used ({error}); give a folder that you can write to"
        raise StoreError(msg) from error
    return Database(folder / DATABASE_FILE)
