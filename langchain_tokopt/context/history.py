"""The history as the model is shown it: the same messages, with tool results that take fewer tokens.

Every tool result is shortened when it comes in, looking only at itself and at what came before it. Appending a message
changes bytes that were sent before at few points only, where that pays with the provider's prompt cache counted (see
`progress`). The view is a pure function of the messages and the policy: any process gives the same bytes at any time.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_tokopt.context.fitting import fitted
from langchain_tokopt.context.folding import fold
from langchain_tokopt.context.habits import Habits
from langchain_tokopt.context.importance import MessageImportance
from langchain_tokopt.context.lossless.ingest import Ingest, ToolResult
from langchain_tokopt.context.memory import ChatMemory, Digest, Summarizer, SummaryStore
from langchain_tokopt.context.memory.render import is_users
from langchain_tokopt.context.overflow import shortened
from langchain_tokopt.context.policy import Expected, Policy, Prices, Sizes
from langchain_tokopt.context.retrieval import is_retrieved, retrieval_schema
from langchain_tokopt.context.shown_copies import ShownCopies
from langchain_tokopt.context.threads import Reading, Threads
from langchain_tokopt.context.validate import only_results_changed, problem
from langchain_tokopt.errors import ConfigurationError, ContextTooLargeError
from langchain_tokopt.memo import Memo
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import TokenCounter

if TYPE_CHECKING:
    from langchain_tokopt.database import Database

log = logging.getLogger("langchain_tokopt")


# Estimates of tokens are at most so many times too small.
_FAR_BELOW = 2


@dataclass(frozen=True)
class View:
    """What the model is shown.

    Attributes:
        messages: The messages; those that are not changed are the very same objects.
        changed: Indices of the messages that are shown shorter.
        saved: Estimated tokens that each kind of change saves: "json", "whitespace", "repeats".
        problem: Why the list was passed through untouched; `None` when it is valid.
        reading: What is known of the thread; `None` where nothing is done.
        blocks: The originals of the parts of the conversation that are shown in short or left out, by their handles.
        fitted: Whether messages were left out or cut to fit into `max_tokens`.
    """

    messages: list[BaseMessage]
    changed: tuple[int, ...] = ()
    saved: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None
    reading: Reading | None = None
    blocks: Mapping[str, str] = field(default_factory=dict)
    fitted: bool = False

    def cut_to(self, messages: list[BaseMessage], blocks: Mapping[str, str]) -> View:
        """The view with these messages, which were made to fit, and with what was left out for that."""
        changed = tuple(range(len(messages)))
        return replace(self, messages=messages, changed=changed, fitted=True, blocks={**self.blocks, **blocks})


class HistoryCompression:
    """Shows a history in fewer tokens.

    Without loss: a result, or a run of its lines, that was shown before becomes a reference to its earliest copy; JSON
    takes its smallest shape; terminal codes and whitespace that nobody sees go. Then in part, where the model can get
    the rest back: large results at once, seen ones where that pays. Results with `status="error"` stay as they are, and
    without `chat` and `max_tokens` so does everything that is not text of a tool result. Safe to share between threads
    and agents.

    Args:
        lossless: Whether tool results are made shorter without loss.
        dedupe: Refer to what was shown before instead of showing it again.
        json: Show JSON results in their smallest shape.
        whitespace: Leave out terminal codes, overwritten progress bars, spaces at line ends and blank lines.
        min_tokens: A change that saves fewer tokens is not made.
        never: Names of tools whose results are always shown as they are.
        max_result_tokens: A new result with half as many tokens again is shown in part: the lines that matter, in about
            so many tokens, and for the others how many they are and the new names in them. A thread in which the model
            asks for originals gets more room. `None`: new results are shown whole.
        old_result_tokens: Results that the model has seen are shown in a part of at least so many tokens (or of a tenth
            of what they had), but only where that pays, with what it costs at the provider's prompt cache. `None`:
            never.
        keep_steps: The results of so many of the newest steps stay as they are.
        retrieve: Let the model get back what is shown in part, by a tool `retrieve_original`. `False`: it cannot.
        chat: Shows what a long conversation leaves behind in short, where that pays, and recalls what a new question
            needs of it. Off by default: what is not recalled is not seen.
        summarizer: A chat model, or a function of a text, that summarizes each block of `chat` once, beside the user's
            answer. What it says is shown in the place of the block's own sentences, if it keeps names and numbers.
        max_tokens: The most that the messages may have. Where they have more, the least important ones are cut or left
            out, whatever that costs.
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
        max_result_tokens: int | None = 700,
        old_result_tokens: int | None = 60,
        keep_steps: int = 2,
        retrieve: bool = True,
        chat: ChatMemory | None = None,
        summarizer: Summarizer | None = None,
        max_tokens: int | None = None,
        counter: TokenCounter | None = None,
        pricing: Pricing | None = None,
        remember: bool = True,
    ) -> None:
        if isinstance(min_tokens, bool) or not isinstance(min_tokens, int) or min_tokens < 1:
            raise ConfigurationError("min_tokens", min_tokens, "give a whole number of at least 1")
        if isinstance(never, str) or not all(isinstance(name, str) for name in never):
            raise ConfigurationError("never", never, 'give the tools\' names in a collection, such as {"retrieve"}')
        self._lossless = None
        if lossless and (dedupe or json or whitespace):
            self._lossless = Ingest(dedupe=dedupe, json=json, whitespace=whitespace, min_tokens=min_tokens)
        self.never = frozenset(never)
        self.sizes = _sizes(max_result_tokens, old_result_tokens, keep_steps)
        self.retrieve = retrieve
        if chat is not None and not isinstance(chat, ChatMemory):
            raise ConfigurationError("chat", chat, "give a ChatMemory or None")
        self._summarizer = summarizer
        if summarizer is not None:
            chat = (chat or ChatMemory()).with_summaries(SummaryStore(summarizer))
        self.chat = chat
        self._importance = MessageImportance(remember=remember)
        self._copies = ShownCopies(limit=20_000 if remember else 0)
        self._tool_tokens: dict[str, int] = {}
        self._asked: Memo[bool] = Memo(limit=4_096)
        if max_tokens is not None and (
            isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1
        ):
            raise ConfigurationError("max_tokens", max_tokens, "give a whole number of at least 1, or None")
        self.max_tokens = max_tokens
        self.active = self._lossless is not None or self.sizes is not None or chat is not None
        self._plain = self.policy(None, tool=None)
        self._counter = counter
        self._pricing = pricing
        self._stays: Callable[[ToolMessage], bool] | None = None
        self._threads = Threads(remember=remember)
        self.habits = Habits()
        self._reported: set[str] = set()
        self._lock = threading.Lock()

    def attach(
        self,
        *,
        counter: TokenCounter | None = None,
        pricing: Pricing | None = None,
        database: Database | None = None,
        stays: Callable[[ToolMessage], bool] | None = None,
    ) -> HistoryCompression:
        """This object, with what was not given at construction filled in; what it learns is kept in `database`.

        `stays` says which results are always shown as they are, beside those of the tools in `never`.
        """
        self._stays = self._stays or stays
        self._counter = self._counter or counter
        self._pricing = self._pricing or pricing
        if database is not None and self._summarizer is not None and self.chat is not None:
            self.chat = self.chat.with_summaries(SummaryStore(self._summarizer, database=database))
        if database is not None:
            self.habits.attach(database)
        return self

    def close(self) -> None:
        """Write what was learned and is waiting. The history can still be used."""
        self.habits.close()

    @property
    def summaries(self) -> SummaryStore | None:
        """Where summaries of blocks are made and kept; `None` without a summarizer."""
        return self.chat.summaries if self.chat is not None else None

    def to_summarize(self, messages: Sequence[BaseMessage]) -> list[Digest]:
        """The closed blocks of the thread that have no summary, each once; none without a summarizer."""
        store = self.summaries
        if self.chat is None or store is None:
            return []
        found = []
        for digest in self.chat.digests(self.chat.cut(messages).blocks):
            if store.wanted(digest.block) and self._asked.get(digest.block.digest) is None:
                self._asked.put(digest.block.digest, True)
                found.append(digest)
        return found

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

    def view(
        self, messages: Sequence[BaseMessage], *, start: int = 0, policy: Policy | None = None
    ) -> list[BaseMessage]:
        """The messages as the model is shown them. The given list and its messages stay as they are.

        Results before index `start` are shown as they are; a thread has to keep to one `start`, and to one `policy`
        (by default nothing is shown in part). A list that no provider would take (a call without its result, a result
        without its call, an id twice) is passed through untouched.
        """
        return self.examine(messages, start=start, policy=policy).messages

    def pre_model_hook(self, state: Mapping[str, Any]) -> dict[str, list[BaseMessage]]:
        """`{"llm_input_messages": ...}` for a state with `messages`: a hook for graphs that are not agents."""
        return {"llm_input_messages": self.view(state["messages"])}

    def policy(
        self,
        rates: Rates | None,
        *,
        tool: str | None,
        expected: Expected | None = None,
        tool_tokens: int = 0,
        head_tokens: int = 0,
    ) -> Policy:
        """What decides how a thread is shown to a model with these rates.

        Args:
            rates: As they hold for the request; `None` for those of an unknown model.
            tool: The name of the tool that gives back what is shown in part; `None`: there is none.
            expected: What earlier threads of the agent were like.
            tool_tokens: What binding the tool costs on each call.
            head_tokens: What comes before the messages: tools and system message.
        """
        expected = expected or Expected()
        return Policy(
            lossless=self._lossless,
            sizes=self.sizes if (tool is not None or not self.retrieve) and not expected.asks else None,
            prices=Prices.of(rates),
            expected=expected,
            tool=tool,
            tool_tokens=tool_tokens,
            head_tokens=head_tokens,
        )

    def tool_tokens(self, name: str) -> int:
        """What binding the tool that gives back originals costs on each call."""
        if name not in self._tool_tokens:
            self._tool_tokens[name] = self.counter.tool(retrieval_schema(name))
        return self._tool_tokens[name]

    def examine(
        self,
        messages: Sequence[BaseMessage],
        *,
        start: int = 0,
        policy: Policy | None = None,
        max_tokens: int | None = None,
        query: str | None = None,
        model: str | None = None,
    ) -> View:
        """The view, with what was changed in it and what that saves.

        Raises:
            ContextTooLargeError: What must stay has more than `max_tokens` (by default those of the settings), or
                nothing may be cut (`policy.fixed`).
        """
        given, policy = list(messages), policy or self._plain
        limit = max_tokens or self.max_tokens
        if not given or not (self.active or limit):
            return View(given)
        wrong = problem(given)
        if wrong is not None:
            return self._untouched(given, wrong)
        view = self._compressed(given, start, policy) if self.active else View(given)
        if limit is None or self._fits(view, limit, model):
            return view
        if policy.fixed:
            needed = self.counter.messages(view.messages, model)
            raise ContextTooLargeError(needed=needed, limit=limit, parts=(("messages before signed thoughts", needed),))
        return self._fitted(given, policy, limit, query, model)

    def _fits(self, view: View, max_tokens: int, model: str | None) -> bool:
        """Whether the view has at most so many tokens; an estimate will do where it has far fewer."""
        known = view.reading is not None and len(view.reading.tokens) == len(view.messages)
        if known and view.reading is not None and _FAR_BELOW * sum(view.reading.tokens) < max_tokens:
            return True
        return self.counter.messages(view.messages, model) <= max_tokens

    def _fitted(
        self, given: list[BaseMessage], policy: Policy, max_tokens: int, query: str | None, model: str | None
    ) -> View:
        """The view in at most so many tokens. What is cut are the thread's own messages, not forms of them."""
        how: dict[str, Any] = {
            "counter": self.counter,
            "model": model,
            "tool": policy.tool,
            "importance": self._importance,
        }
        if query is None and (short := shortened(given, max_tokens, **how)) is not None:
            view = self._compressed(short.messages, 0, policy) if self.active else View(short.messages)
            if self.counter.messages(view.messages, model) <= max_tokens:
                return view.cut_to(view.messages, short.blocks)
        cut = fitted(given, max_tokens, query=query, **how)
        return View(given).cut_to(cut.messages, cut.blocks)

    def _compressed(self, given: list[BaseMessage], start: int, policy: Policy) -> View:
        folded = fold(self.chat, given, policy) if self.chat and not policy.fixed else None
        base, blocks = given, {}
        if folded is not None and folded.blocks:
            base, blocks = folded.messages, dict(folded.blocks)
            start = sum(at is not None and at < start for at in folded.origin)
            # The prompt is rewritten as it is: the tool may as well be bound from here on.
            policy = replace(policy, expected=replace(policy.expected, trims=True))
        if not blocks and not any(isinstance(message, ToolMessage) for message in given):
            return View(given)
        results = dict(self._tool_results(base, start, policy.least if policy.sizes else 0))
        reading = self._threads.read(base, [results.get(index) for index in range(len(base))], policy)
        shown, saved = list(base), Counter[str]()
        for index, result in reading.shown:
            # The given message and not the one that was read: they differ in what is no text.
            shown[index] = self._copies.of(cast("ToolMessage", base[index]), result)
            saved.update(dict(result.saved))
        if not only_results_changed(base, shown):
            return self._untouched(given, "the edit would have touched more than the text of tool results")
        if folded is None or not blocks:
            return View(shown, tuple(index for index, _ in reading.shown), dict(saved), reading=reading)
        view = folded.with_recalled(shown)
        if wrong := problem(view):
            return self._untouched(given, f"in short {wrong}")
        changed = tuple(at for at, message in enumerate(view) if at >= len(given) or message is not given[at])
        return View(view, changed, dict(saved), reading=reading, blocks=blocks)

    def _untouched(self, messages: list[BaseMessage], wrong: str) -> View:
        with self._lock:
            new = wrong not in self._reported
            self._reported.add(wrong)
        if new:
            log.warning("a history is sent as it is, because %s", wrong)
        return View(messages, problem=wrong)

    def _tool_results(self, messages: list[BaseMessage], start: int, least: int) -> Iterator[tuple[int, ToolResult]]:
        names: dict[str | None, str] = {}
        number = 0
        for index, message in enumerate(messages):
            if isinstance(message, AIMessage):
                names.update((call["id"], call["name"]) for call in message.tool_calls)
            elif isinstance(message, ToolMessage):
                number += 1
                name = message.name or names.get(message.tool_call_id)
                own = is_retrieved(message) or (self._stays is not None and self._stays(message))
                stays = own or message.status == "error" or name in self.never
                early = index < start and not stays
                yield index, ToolResult(message, number, name, stays or early, least if early else 0)


def _sizes(new: int | None, old: int | None, keep_steps: int) -> Sizes | None:
    for argument, value in (("max_result_tokens", new), ("old_result_tokens", old)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 20):
            raise ConfigurationError(argument, value, "give a whole number of at least 20, or None")
    if isinstance(keep_steps, bool) or not isinstance(keep_steps, int) or keep_steps < 1:
        raise ConfigurationError("keep_steps", keep_steps, "give a whole number of at least 1")
    if new is None and old is None:
        return None
    return Sizes(new, old if old is not None else 0, keep_steps=keep_steps, rewrite=old is not None)


def compress_messages(
    messages: Sequence[BaseMessage],
    *,
    max_tokens: int | None = None,
    query: str | None = None,
    max_result_tokens: int | None = None,
    counter: TokenCounter | None = None,
    **settings: Any,
) -> list[BaseMessage]:
    """The messages in fewer tokens, the given ones stay as they are: tool results without loss, and no more than fits.

    For a history that grows keep a `HistoryCompression`: it computes only what is new.

    Args:
        messages: A history that a provider would take; another comes back as it is.
        max_tokens: The most that all of them may have. What matters least for `query` is cut or left out.
        query: What they are needed for; by default the newest text of the user.
        max_result_tokens: Tool results with more tokens are shown in part.
        counter: Counts tokens for `max_tokens`.
        settings: Further arguments of `HistoryCompression`.

    Raises:
        ContextTooLargeError: What must stay has more than `max_tokens`; the message names the biggest parts.
        ConfigurationError: A setting makes no sense.
    """
    settings = {"old_result_tokens": None, "retrieve": False, "remember": False, **settings}
    history = HistoryCompression(
        max_result_tokens=max_result_tokens, max_tokens=max_tokens, counter=counter, **settings
    )
    return history.examine(messages, query=query if query is not None else _newest_text(messages)).messages


def _newest_text(messages: Sequence[BaseMessage]) -> str:
    return next((str(message.text) for message in reversed(messages) if is_users(message)), "")
