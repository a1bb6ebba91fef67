"""Summaries of closed blocks by a model, made once each and kept; the extractive digest stands in for a missing one."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from langchain.agents.middleware.internal_call_transformer import internal_call_metadata
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

from langchain_tokopt.context.lossless.size import Size, text_size
from langchain_tokopt.context.memory.blocks import Block
from langchain_tokopt.context.memory.extract import Digest
from langchain_tokopt.context.memory.summary_rows import SummaryRows
from langchain_tokopt.context.memory.summary_text import checked_summary, summary_prompt
from langchain_tokopt.errors import ConfigurationError, StoreError
from langchain_tokopt.forks import follow_forks
from langchain_tokopt.identity import model_identity
from langchain_tokopt.memo import Memo
from langchain_tokopt.steps import INTERNAL_TAG, internal_call, must_end
from langchain_tokopt.weighted_memo import WeightedMemo

if TYPE_CHECKING:
    from langchain.agents.middleware.types import ModelRequest
    from langchain_core.messages import AnyMessage

    from langchain_tokopt.database import Database

log = logging.getLogger("langchain_tokopt")

Summarizer: TypeAlias = "BaseChatModel | Callable[[str], str] | Callable[[str], Awaitable[str]]"
"""A chat model, or a function of a block's text, sync or async, that returns its summary."""

REMEMBERED_CHARACTERS: Final = 8_000_000
_MOST_TRIES: Final = 2  # for one block
_MOST_HUNG: Final = 16  # at once
_CUT_SHORT: Final = frozenset({"length", "max_tokens", "MAX_TOKENS"})


class SummaryStore:
    """Makes a summary of a closed block, once, from the block's originals, and keeps it.

    What a model answers is no pure function of the block, so what is shown depends on what was kept. With a database
    every process shows the same summary, the first that was kept. Without one a summary lives as long as this object:
    another process, or this one after a restart, shows the extractive digest instead, or a summary of its own, and the
    provider's cache is written again from that block on. So is it where a summary takes the place of a digest that was
    shown: whoever shows them decides when that pays, and keeps to what was shown until then.

    A summarizer that raises, takes too long, refuses, or loses identifiers and numbers gives no summary; a block is
    tried twice at most. Thread-safe.

    Args:
        summarizer: A chat model, or a function of the block's text, sync or async. `None`: only what was kept is shown.
        database: Where summaries are kept for other processes.
        timeout: How many seconds a summary may take.
        name: What the summarizer is called; those of others are not shown. By default the model's name, or the
            function's.
        size: Says how many tokens a text has.

    Raises:
        ConfigurationError: A setting makes no sense.
        StoreError: The database cannot be used.
    """

    def __init__(
        self,
        summarizer: Summarizer | None = None,
        *,
        database: Database | None = None,
        timeout: float = 30.0,
        name: str | None = None,
        size: Size = text_size,
    ) -> None:
        if summarizer is not None and not callable(summarizer) and not isinstance(summarizer, BaseChatModel):
            raise ConfigurationError("summarizer", summarizer, "use a chat model, or a function of a text")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
            raise ConfigurationError("timeout", timeout, "use a number of seconds above 0")
        self.summarizer = summarizer
        self.name = name if name is not None else _name_of(summarizer)
        self._timeout = float(timeout)
        self._size = size
        self._kept: WeightedMemo[str] = WeightedMemo(weight_limit=REMEMBERED_CHARACTERS)
        self._missing: Memo[int] = Memo(limit=4_096)
        self._rows = SummaryRows(database) if database is not None else None
        self._said: set[str] = set()
        self._start_anew()
        follow_forks(self)

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._under_way: set[bytes] = set()
        self._hung: set[Future[Any]] = set()

    # --- what is kept ------------------------------------------------------------------------------------------------

    def get(self, block: Block) -> str | None:
        """The summary that is kept for the block, `None` if there is none."""
        key = self._key(block)
        found = self._kept.get(key)
        if found is None and self._rows is not None:
            try:
                found = self._rows.get(key)
            except StoreError as error:
                self._say("the summaries in the database cannot be read", error)
            if found is not None:
                self._kept.put(key, found, len(found))
        return found

    def shown(self, digest: Digest) -> Digest:
        """The block's summary if it is kept, else the digest itself."""
        summary = self.get(digest.block)
        return digest if summary is None else _summarized(digest, summary)

    def accept(self, digest: Digest, said: str) -> Digest:
        """What a summarizer said as the block's summary, kept from now on; the digest if it cannot stand for the block.

        If a summary was kept before, that one is given back.
        """
        summary = checked_summary(said, digest, size=self._size)
        if summary is None:
            self._gave_none(digest.block, "it refused, said too much, or lost identifiers and numbers")
            return digest
        key = self._key(digest.block)
        if self._rows is not None:
            try:
                summary = self._rows.keep(key, summary)
            except StoreError as error:
                self._say("a summary could not be written to the database", error)
        self._kept.put(key, summary, len(summary))
        return _summarized(digest, summary)

    # --- making one --------------------------------------------------------------------------------------------------

    def wanted(self, block: Block) -> bool:
        """Whether a summary should be made: none is kept, none is under way, and it was not tried too often."""
        key = self._key(block)
        return (
            self.summarizer is not None
            and self.get(block) is None
            and key not in self._under_way
            and (self._missing.get(key) or 0) < _MOST_TRIES
        )

    def request(self, digest: Digest, request: ModelRequest[Any]) -> ModelRequest[Any] | None:
        """The call that makes the summary, for a flow to yield; `None` if the summarizer is not a chat model.

        It is marked as internal, so that the budget and the events count it. What comes back goes to `accept`.
        """
        if not isinstance(self.summarizer, BaseChatModel):
            return None
        messages = cast("list[AnyMessage]", summary_prompt(digest))
        return internal_call(
            request.override(
                model=self.summarizer,
                system_message=None,
                messages=messages,
                tools=[],
                tool_choice=None,
                response_format=None,
                model_settings={},
            )
        )

    def fold(self, digest: Digest) -> Digest:
        """The block's summary: the kept one, or one that is made now, outside of any flow; the digest if that fails."""
        if not self.wanted(digest.block):
            return self.shown(digest)
        with self._making(digest.block) as mine:
            if not mine:
                return digest
            try:
                said = self._in_thread(lambda: _now(self._call(digest))).result(self._timeout)
                return self.accept(digest, _text(said))
            except Exception as error:  # the user's summarizer may do anything
                if must_end(error):
                    raise
                self._gave_none(digest.block, _reason(error, self._timeout))
                return digest

    async def afold(self, digest: Digest) -> Digest:
        """As `fold`, without blocking the event loop."""
        if not await asyncio.to_thread(self.wanted, digest.block):
            return await asyncio.to_thread(self.shown, digest)
        with self._making(digest.block) as mine:
            if not mine:
                return digest
            try:
                said = await asyncio.wait_for(self._acall(digest), self._timeout)
                return await asyncio.to_thread(self.accept, digest, _text(said))
            except Exception as error:
                if must_end(error):
                    raise
                self._gave_none(digest.block, _reason(error, self._timeout))
                return digest

    def _call(self, digest: Digest) -> Any:
        if isinstance(self.summarizer, BaseChatModel):
            return _marked(self.summarizer).invoke(summary_prompt(digest))
        return cast("Callable[[str], Any]", self.summarizer)(digest.block.original)

    async def _acall(self, digest: Digest) -> Any:
        if isinstance(self.summarizer, BaseChatModel):
            return await _marked(self.summarizer).ainvoke(summary_prompt(digest))
        if _is_async(self.summarizer):
            return await self._call(digest)
        return await asyncio.wrap_future(self._in_thread(lambda: _now(self._call(digest))))

    def _in_thread(self, work: Callable[[], Any]) -> Future[Any]:
        """The outcome of `work`, done in a daemon: one that hangs does not keep the process from ending."""
        done: Future[Any] = Future()
        with self._lock:
            if len(self._hung) >= _MOST_HUNG:
                msg = f"{len(self._hung)} summaries have not come back"
                raise TimeoutError(msg)
            self._hung.add(done)
        context = contextvars.copy_context()

        def run() -> None:
            try:
                outcome = context.run(work)
                if not done.cancelled():
                    done.set_result(outcome)
            except BaseException as error:  # nobody is above this thread
                if not done.cancelled():
                    done.set_exception(error)
            finally:
                with self._lock:
                    self._hung.discard(done)

        done.set_running_or_notify_cancel()
        threading.Thread(target=run, name="tokopt-summary", daemon=True).start()
        return done

    @contextmanager
    def _making(self, block: Block) -> Iterator[bool]:
        """Whether the caller is the one who makes the block's summary, and not somebody else already."""
        key = self._key(block)
        with self._lock:
            mine = key not in self._under_way
            self._under_way.add(key)
        try:
            yield mine
        finally:
            if mine:
                with self._lock:
                    self._under_way.discard(key)

    # --- shared ------------------------------------------------------------------------------------------------------

    def _key(self, block: Block) -> bytes:
        """A name that no other block has: handles are short, and nobody may be shown a summary of what others said."""
        digest = hashlib.blake2b(self.name.encode("utf-8", "surrogatepass"), digest_size=16)
        digest.update(b"\0" + block.digest)
        return digest.digest()

    def _gave_none(self, block: Block, why: str) -> None:
        key = self._key(block)
        self._missing.put(key, (self._missing.get(key) or 0) + 1)
        self._say("a block is shown in its own sentences, because the summarizer gave no summary", why)

    def _say(self, what: str, why: object) -> None:
        if what not in self._said:
            self._said.add(what)
            log.warning("%s: %s", what, why)

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """Summaries that are under way, and who holds the lock, are in the parent."""
        self._start_anew()


def _summarized(digest: Digest, summary: str) -> Digest:
    return replace(digest, text=summary, shown={}, kind="summary")


def _marked(model: BaseChatModel) -> BaseChatModel:
    """The model, marked like an `internal_call`: kept out of the user's stream and counted as overhead."""
    return model.model_copy(
        update={
            "tags": [*(model.tags or []), "nostream", INTERNAL_TAG],
            "metadata": {**(model.metadata or {}), **internal_call_metadata()},
        }
    )


def _text(said: Any) -> str:
    """The text of an answer. Raises `ValueError` for one that was cut short, or is none."""
    if isinstance(said, AIMessage):
        ended = {said.response_metadata.get(key) for key in ("finish_reason", "stop_reason")}
        if ended & _CUT_SHORT:
            msg = "it was cut short"
            raise ValueError(msg)
        return str(said.text)
    if not isinstance(said, str):
        msg = f"it returned {type(said).__name__}, not a text"
        raise ValueError(msg)
    return said


def _now(value: Any) -> Any:
    """The value, waited for in this thread if it is awaitable."""
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, (TimeoutError, FutureTimeoutError, asyncio.TimeoutError)) and not str(error):
        return f"no answer within {timeout:g} s"
    return f"{type(error).__name__}: {error}"


def _name_of(summarizer: Any) -> str:
    if isinstance(summarizer, BaseChatModel):
        return model_identity(summarizer).name or type(summarizer).__name__
    return getattr(summarizer, "__qualname__", None) or type(summarizer).__name__
