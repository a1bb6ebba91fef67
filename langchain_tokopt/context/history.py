"""The history as the model is shown it: the same messages, with tool results that take fewer tokens.

Every tool result is shortened once, when it comes in, looking only at itself and at what came before it. So the view is
a pure function of the messages and the settings: any process gives the same bytes at any time, and appending a
message never changes bytes that were sent before. The provider's prompt cache stays whole.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.context.lossless.ingest import Ingest, ShownResult, ToolResult, replay, shorten
from langchain_tokopt.context.lossless.repeats import ShownLines
from langchain_tokopt.context.validate import only_results_changed, problem
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.weighted_memo import WeightedMemo

log = logging.getLogger("langchain_tokopt")

# What is remembered between calls: characters of shortened results, and lines of histories that are still growing.
REMEMBERED_CHARACTERS = 32_000_000
REMEMBERED_LINES = 400_000


@dataclass(frozen=True)
class View:
    """What the model is shown.

    Attributes:
        messages: The messages; those that are not changed are the very same objects.
        changed: Indices of the messages that are shown shorter.
        saved: Estimated tokens that each kind of change saves: "json", "whitespace", "repeats".
        problem: Why the list was passed through untouched; `None` when it is valid.
    """

    messages: list[BaseMessage]
    changed: tuple[int, ...] = ()
    saved: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None


class HistoryCompression:
    """Shows tool results in fewer tokens, without loss.

    A result, or a run of its lines, that was shown before becomes a reference to its earliest copy; JSON takes its
    smallest shape; terminal codes and whitespace that nobody sees go. Results with `status="error"` and everything
    that is not text of a tool result stay as they are. Safe to share between threads and agents.

    Args:
        lossless: Whether tool results are changed at all.
        dedupe: Refer to what was shown before instead of showing it again.
        json: Show JSON results in their smallest shape.
        whitespace: Leave out terminal codes, overwritten progress bars, spaces at line ends and blank lines.
        min_tokens: A change that saves fewer tokens is not made.
        never: Names of tools whose results are always shown as they are.
        counter: Counts tokens for reports and prices. What a result looks like does not depend on it.
        pricing: Says what tokens cost.
        remember: Keep what was computed, within bounds, so that a growing history costs only what is new.
    """

    def __init__(
        self,
        *,
        lossless: bool = True,
        dedupe: bool = True,
        json: bool = True,
        whitespace: bool = True,
        min_tokens: int = 8,
        never: Collection[str] = (),
        counter: TokenCounter | None = None,
        pricing: Pricing | None = None,
        remember: bool = True,
    ) -> None:
        if isinstance(min_tokens, bool) or not isinstance(min_tokens, int) or min_tokens < 1:
            raise ConfigurationError("min_tokens", min_tokens, "give a whole number of at least 1")
        if isinstance(never, str) or not all(isinstance(name, str) for name in never):
            raise ConfigurationError("never", never, 'give the tools\' names in a collection, such as {"retrieve"}')
        self.settings = Ingest(dedupe=dedupe, json=json, whitespace=whitespace, min_tokens=min_tokens)
        self.never = frozenset(never)
        self.active = lossless and (dedupe or json or whitespace)
        self._counter = counter
        self._pricing = pricing
        self._results: WeightedMemo[ShownResult] = WeightedMemo(weight_limit=REMEMBERED_CHARACTERS if remember else 0)
        # By its last result, a history's lines. Whoever makes it longer takes them, and keeps them under the new key.
        self._lines: WeightedMemo[ShownLines] = WeightedMemo(weight_limit=REMEMBERED_LINES if remember else 0)
        self._reported: set[str] = set()
        self._lock = threading.Lock()

    def attach(self, *, counter: TokenCounter | None = None, pricing: Pricing | None = None) -> HistoryCompression:
        """This object, with what was not given at construction filled in."""
        self._counter = self._counter or counter
        self._pricing = self._pricing or pricing
        return self

    @property
    def counter(self) -> TokenCounter:
        """What counts tokens here."""
        if self._counter is None:
            self._counter = TokenCounter()
        return self._counter

    @property
    def pricing(self) -> Pricing:
        """What knows prices here."""
        if self._pricing is None:
            self._pricing = Pricing()
        return self._pricing

    def view(self, messages: Sequence[BaseMessage], *, start: int = 0) -> list[BaseMessage]:
        """The messages as the model is shown them. The given list and its messages stay as they are.

        Results before index `start` are shown as they are; a thread has to keep to one `start`. A list that no provider
        would take (a call without its result, a result without its call, an id twice) is passed through untouched.
        """
        return self.examine(messages, start=start).messages

    def pre_model_hook(self, state: Mapping[str, Any]) -> dict[str, list[BaseMessage]]:
        """`{"llm_input_messages": ...}` for a state with `messages`: a hook for graphs that are not agents."""
        return {"llm_input_messages": self.view(state["messages"])}

    def examine(self, messages: Sequence[BaseMessage], *, start: int = 0) -> View:
        """The view, with what was changed in it and what that saves."""
        given = list(messages)
        if not self.active or not any(isinstance(message, ToolMessage) for message in given):
            return View(given)
        wrong = problem(given)
        if wrong is not None:
            return self._untouched(given, wrong)
        results = list(self._tool_results(given, start))
        view, changed, saved = list(given), [], Counter[str]()
        for (index, result), shown in zip(results, self._shown([result for _, result in results]), strict=True):
            if shown.texts:
                view[index] = result.message.model_copy(update={"content": shown.content(result.message)})
                changed.append(index)
            for change, tokens in shown.saved:
                saved[change] += tokens
        if not only_results_changed(given, view):
            return self._untouched(given, "the edit would have touched more than the text of tool results")
        return View(view, tuple(changed), dict(saved))

    def _untouched(self, messages: list[BaseMessage], wrong: str) -> View:
        with self._lock:
            new = wrong not in self._reported
            self._reported.add(wrong)
        if new:
            log.warning("a history is sent as it is, because %s", wrong)
        return View(messages, problem=wrong)

    def _tool_results(self, messages: list[BaseMessage], start: int) -> Iterator[tuple[int, ToolResult]]:
        names: dict[str | None, str] = {}
        number = 0
        for index, message in enumerate(messages):
            if isinstance(message, AIMessage):
                names.update((call["id"], call["name"]) for call in message.tool_calls)
            elif isinstance(message, ToolMessage):
                number += 1
                name = message.name or names.get(message.tool_call_id)
                verbatim = index < start or message.status == "error" or name in self.never
                yield index, ToolResult(message, number, name, verbatim)

    def _shown(self, results: list[ToolResult]) -> list[ShownResult]:
        """Each result as it is shown; computed from the first one on that is not remembered."""
        keys = list(_chain(results))
        shown: list[ShownResult] = []
        for key in keys:
            known = self._results.get(key)
            if known is None:
                break
            shown.append(known)
        done = len(shown)
        if done == len(results):
            return shown
        lines = ShownLines()
        if done and self.settings.dedupe:
            lines = self._lines.take(keys[done - 1]) or replay(zip(results[:done], shown, strict=True))
        for key, result in zip(keys[done:], results[done:], strict=True):
            shown.append(shorten(result, lines, self.settings))
            self._results.put(key, shown[-1], 200 + sum(len(text) for _, text in shown[-1].texts))
        self._lines.put(keys[-1], lines, 100 + lines.lines)
        return shown


def _chain(results: list[ToolResult]) -> Iterator[bytes]:
    """For each result a digest of it and of all before it: of everything that decides how it is shown."""
    link = b""
    for result in results:
        digest = hashlib.blake2b(link, digest_size=16)
        digest.update(f"{int(result.verbatim)}{result.name}".encode("utf-8", "surrogatepass"))
        for index, _, text in result.texts():
            data = text.encode("utf-8", "surrogatepass")
            digest.update(f"|{index}:{len(data)}|".encode())
            digest.update(data)
        link = digest.digest()
        yield link


def compress_messages(
    messages: Sequence[BaseMessage],
    *,
    dedupe: bool = True,
    json: bool = True,
    whitespace: bool = True,
    min_tokens: int = 8,
    never: Collection[str] = (),
) -> list[BaseMessage]:
    """The messages as `HistoryCompression` shows them: tool results in fewer tokens. The given ones stay as they are.

    For a history that grows keep a `HistoryCompression`: it computes only what is new.
    """
    history = HistoryCompression(
        dedupe=dedupe, json=json, whitespace=whitespace, min_tokens=min_tokens, never=never, remember=False
    )
    return history.view(messages)
