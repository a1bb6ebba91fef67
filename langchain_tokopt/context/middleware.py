"""The history part as a middleware: the model is sent the view, the thread keeps what it had."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar, cast

from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.asides import Heard, as_loss, with_asked
from langchain_tokopt.caller import call_who
from langchain_tokopt.context.history import HistoryCompression, View
from langchain_tokopt.context.memory import Digest, SummaryStore
from langchain_tokopt.context.policy import Expected, Policy, Prices
from langchain_tokopt.context.retrieval import Originals
from langchain_tokopt.context.retrieval_flow import name_beside, retrieving, with_retrieval
from langchain_tokopt.errors import ContextTooLargeError
from langchain_tokopt.events import Decision, Mode, Sink
from langchain_tokopt.flow import Flow, FlowMiddleware, Later, is_background, is_internal
from langchain_tokopt.kept import restored
from langchain_tokopt.prefix import Segment, rates_in_use, segments, split
from langchain_tokopt.pricing import Rates, model_identity
from langchain_tokopt.thoughts import binds_history, binds_thoughts

# With these the provider keeps the history and is sent only what is new, or takes old results out of it, so that what a
# reference points to might be gone.
_SERVER_SIDE = ("use_previous_response_id", "previous_response_id", "conversation", "context_management")

# Of a context window so much is used: tokens are counted by estimate for some models.
_WINDOW_SHARE = 0.9
_NO_LIMIT = 1 << 62


class HistoryCompressionMiddleware(FlowMiddleware):
    """Sends tool results in fewer tokens; the thread's own messages stay as they are.

    What is sent changes before its end only where that pays with the provider's prompt cache counted. Results that come
    before the prompt has the size from which on the provider caches are sent as they are: shortening them could keep a
    small prompt out of the cache. Requests whose history the provider keeps or edits (`previous_response_id`,
    `context_management`) are left alone.

    Where a result is shown in part, the model has a tool that gives back the whole of it, `retrieve_original`. It is
    answered here: no node of the graph has to know it, and whoever approves tool calls does not see it.

    Later results refer to earlier ones. So whatever takes results out of the history, such as a
    `ContextEditingMiddleware`, has to come before this middleware in the agent's list.

    Added to a thread that ran without it, the first call sends the earlier results in their short form and so writes
    that part of the provider's cache again, once.

    Args:
        history: What is done to the history; `HistoryCompression()` by default.
        sink: Who is told what happened; nobody by default.
        mode: "optimize", or "shadow" to compute and record without changing anything.
        name: The middleware's name in the graph; two instances in one agent need different names.
        keeps_retrieved: Whether what the model got back becomes part of the thread, as it does in an agent. A bare
            model has one answer to give, which carries it then, and only the model sees it again.
    """

    part: ClassVar[str] = "history"

    def __init__(
        self,
        history: HistoryCompression | None = None,
        *,
        sink: Sink | None = None,
        mode: Mode = "optimize",
        name: str | None = None,
        keeps_retrieved: bool = True,
    ) -> None:
        super().__init__(sink=sink, mode=mode, name=name)
        self.history = history if history is not None else HistoryCompression()
        self.keeps_retrieved = keeps_retrieved

    def flow(self, request: ModelRequest[Any]) -> Flow:
        if is_internal(request):
            return (yield request)
        request = restored(request)
        decided: list[Decision] = []
        blocks: dict[str, str] = {}
        tool = _retrieval_name(request) if self.history.retrieve else None

        def send(asked: Sequence[BaseMessage]) -> ModelRequest[Any]:
            started = time.perf_counter()
            sent, outcome = self._shown(with_asked(request, asked), tool)
            blocks.update(outcome.blocks)
            decided.append(self._decision(request, outcome, applied=sent is not request, started=started))
            return sent

        def told(sent: ModelRequest[Any], heard: Heard | None) -> None:
            decision = decided[-1]
            if heard is not None:
                counter, pricing = self.history.counter, self.history.pricing
                remark = "this call only asked for what is shown in part"
                decision = as_loss(decision, sent, heard, counter=counter, pricing=pricing, remark=remark)
            self.sink.emit(decision)

        first = send(())
        yield from self._summarize(request)
        if tool is None or len(first.tools) == len(request.tools):
            self.sink.emit(decided[-1])
            return (yield first)
        originals = Originals(_thread(request), blocks)
        again = lambda asked: send(asked) if asked else first  # noqa: E731 - the first request is made already
        shadow = self.mode == "shadow"
        return (yield from retrieving(again, originals, tool, keeps=self.keeps_retrieved, told=told, shadow=shadow))

    def _summarize(self, request: ModelRequest[Any]) -> Generator[Later, Any, None]:
        """Have closed blocks summarized beside the user's answer."""
        store = self.history.summaries
        if store is None or self.mode == "shadow" or is_background(request) or binds_history(request):
            return
        for digest in self.history.to_summarize(request.messages):
            asked = store.request(digest, request)
            if asked is not None:
                yield Later(asked, partial(_accept, store, digest))
            else:
                self.background.run(partial(store.fold, digest))

    def _decision(self, request: ModelRequest[Any], outcome: _Outcome, *, applied: bool, started: float) -> Decision:
        return Decision(
            part=self.part,
            who=call_who(request),
            action="applied" if applied else "skipped",
            tokens_before=outcome.before,
            tokens_after=outcome.after,
            saved_usd=outcome.saved_usd,
            reason=outcome.reason,
            detail=dict(outcome.detail or {}),
            seconds=time.perf_counter() - started,
        )

    def _shown(self, request: ModelRequest[Any], tool: str | None) -> tuple[ModelRequest[Any], _Outcome]:
        """The request to send, and what there is to say about it."""
        results = sum(isinstance(message, ToolMessage) for message in request.messages)
        if not self.history.active and self.history.max_tokens is None:
            return request, _Outcome("switched off")
        if kept := kept_by_provider(request):
            return request, _Outcome(f"the provider keeps or edits the history ({kept})")
        rates = self._rates(request)
        bare = segments(request, self.history.counter)
        head, start = len(bare) - len(request.messages), 0
        if rates is not None and rates.caching != "none":
            start = _cacheable_from(bare, rates.min_cache_tokens) - head
        head_tokens = sum(segment.tokens for segment in bare[:head])
        if self._began_elsewhere(request):
            return request, _Outcome(
                "the thread began without this, and the model's signed thoughts hold only after that"
            )
        policy, thread = self._policy(request, rates, tool, head_tokens)
        view = self._view(request, start, policy, head_tokens)
        self._learn(thread, request, view)
        before = sum(segment.tokens for segment in bare)
        binds = tool is not None and (policy.binds_at_once if view.reading is None else view.reading.bound)
        binds = binds or (tool is not None and (view.fitted or bool(view.blocks)))
        if not view.changed and not binds:
            reason = _why_not(view, request.messages[max(0, start) :], rates) if results else "no tool results"
            return request, _Outcome(reason, before, before)
        sent = request.override(messages=cast("list[AnyMessage]", view.messages)) if view.changed else request
        short = self._short_segments(request, view, bare)
        if tool is not None and binds:
            sent = with_retrieval(sent, tool)
            short = [_tool_segment(sent, self.history), *short]
        detail = {"results": results, "changed": len(view.changed), **view.saved}
        if view.reading is not None:
            detail["in_part"] = len(view.reading.marks)
            detail["rewrites"] = len(view.reading.rewrites)
        return sent, _Outcome(
            _what_was_done(view, results),
            before,
            sum(segment.tokens for segment in short),
            self._saved(request, view, bare, short, rates and rates_in_use(request, rates)),
            detail,
            view.blocks,
        )

    def _learn(self, thread: str, request: ModelRequest[Any], view: View) -> None:
        """Take note of how far the thread is: by its own answers, for of those shown in short there are fewer."""
        calls = sum(isinstance(message, AIMessage) for message in request.messages)
        habits, read = self.history.habits, view.reading
        if read is None:
            habits.went(thread, calls=calls, trimmable=0)
        else:
            habits.went(thread, calls=calls, trimmable=read.trimmable, parts=len(read.marks), asked=read.asked)

    def _view(self, request: ModelRequest[Any], start: int, policy: Policy, head_tokens: int) -> View:
        model = model_identity(request.model, request.model_settings).name
        limit = self.history.max_tokens
        room = _room(request, head_tokens)
        if room is not None:
            limit = room if limit is None else min(limit, room)
        try:
            return self.history.examine(
                request.messages, start=start, policy=policy, max_tokens=limit, model=model or None
            )
        except ContextTooLargeError as error:  # the provider may know better; only a budget stops a call
            self.failed(self.part, error, "request")
            return self.history.examine(request.messages, start=start, policy=policy, max_tokens=_NO_LIMIT)

    def _began_elsewhere(self, request: ModelRequest[Any]) -> bool:
        """Whether there are thoughts that were signed after a history that was sent as it is."""
        if not binds_history(request) or not any(isinstance(message, AIMessage) for message in request.messages):
            return False
        return not self.history.habits.knows(_thread_key(request)[0])

    def _policy(
        self, request: ModelRequest[Any], rates: Rates | None, tool: str | None, head_tokens: int
    ) -> tuple[Policy, str]:
        """What decides how the thread is shown, and the thread's key among those that are remembered."""
        in_use = rates and rates_in_use(request, rates)
        thread, agent = _thread_key(request)
        tokens = self.history.tool_tokens(tool) if tool else 0
        expected = Expected()
        # A thread that is only watched was sent as it is: it does not begin with this.
        begins = binds_history(request) and self.mode != "shadow"
        if begins or (not binds_history(request) and (tool is not None or self.history.chat is not None)):
            expected = self.history.habits.expected(thread, agent, Prices.of(in_use), tokens)
        policy = self.history.policy(
            in_use, tool=tool, expected=expected, tool_tokens=tokens, head_tokens=_rounded(head_tokens)
        )
        if in_use is not None and in_use.caching != "none":
            policy = replace(policy, least=in_use.min_cache_tokens * 5 // 4)  # a part may come out somewhat smaller
        # Thoughts that are signed together with what came before them are refused after any rewrite.
        if policy.sizes is not None and binds_thoughts(request):
            policy = replace(policy, sizes=replace(policy.sizes, rewrite=False), binds_late=False)
        if binds_history(request):
            policy = replace(policy, fixed=True)
        return policy, thread

    def _rates(self, request: ModelRequest[Any]) -> Rates | None:
        model = model_identity(request.model, request.model_settings)
        return self.history.pricing.rates(model.name, model.provider) if model.name else None

    def _short_segments(self, request: ModelRequest[Any], view: View, bare: Sequence[Segment]) -> list[Segment]:
        """The segments of the view: those of the request, except where a message was changed."""
        if not view.changed:
            return list(bare)
        if len(view.messages) != len(request.messages):
            shown = request.override(messages=cast("list[AnyMessage]", view.messages))
            return list(segments(shown, self.history.counter))
        changed = cast("list[AnyMessage]", [view.messages[index] for index in view.changed])
        alone = request.override(messages=changed, tools=[], system_message=None)
        short, head = list(bare), len(bare) - len(request.messages)
        # The last segments are the messages; what comes before them belongs to the rest of the request.
        for index, segment in zip(view.changed, segments(alone, self.history.counter)[-len(changed) :], strict=True):
            short[head + index] = segment
        return short

    def _saved(
        self,
        request: ModelRequest[Any],
        view: View,
        bare: Sequence[Segment],
        short: Sequence[Segment],
        rates: Rates | None,
    ) -> Decimal | None:
        """USD that this call saves, with the provider's cache as this thread's last call left it.

        What was sent last is what came before the last answer: the same as now, and no more of it than comes before
        the first change, if this call made one.
        """
        if rates is None:
            return None
        answers = [at for at, message in enumerate(request.messages) if isinstance(message, AIMessage)]
        now = len(request.messages)
        costs = []
        for sent in (bare, short):
            head = len(bare) - now if sent is bare else len(short) - len(view.messages)
            cached = None if not answers else head + answers[-1] + len(sent) - head - now
            if sent is short and view.reading is not None and cached is not None and not view.fitted:
                made = [one.first for one in view.reading.rewrites if one.call == now]
                cached = min([cached, *(head + first for first in made)])
                if view.reading.bound_at > answers[-1]:
                    cached = 0  # a tool more changes the prompt from its beginning
            costs.append(split(None if cached is None else sent[:cached], sent, rates).cost(rates))
        return costs[0] - costs[1]


@dataclass(frozen=True)
class _Outcome:
    reason: str
    before: int | None = None
    after: int | None = None
    saved_usd: Decimal | None = None
    detail: dict[str, int] | None = None
    blocks: Mapping[str, str] = field(default_factory=dict)


def _accept(store: SummaryStore, digest: Digest, response: ModelResponse[Any]) -> None:
    said = next((str(message.text) for message in response.result if isinstance(message, AIMessage)), "")
    store.accept(digest, said)


def _room(request: ModelRequest[Any], head_tokens: int) -> int | None:
    """The tokens that messages may have before the model's context window is full; `None` where it is not known."""
    profile = getattr(request.model, "profile", None)
    window = profile.get("max_input_tokens") if isinstance(profile, Mapping) else None
    if isinstance(window, bool) or not isinstance(window, int) or window <= 0:
        return None
    return max(1, int(_WINDOW_SHARE * window) - head_tokens)


def _retrieval_name(request: ModelRequest[Any]) -> str | None:
    """The name of the tool that gives back originals; `None` for a model that has no tools."""
    return name_beside(request.tools) if request.tools else None


def _thread(request: ModelRequest[Any]) -> Sequence[BaseMessage]:
    """The thread's own messages."""
    state: Any = request.state
    stored = state.get("messages") if isinstance(state, dict) else None
    return [*(stored or ()), *request.messages]


def _thread_key(request: ModelRequest[Any]) -> tuple[str, str]:
    """The thread, and the agent whose thread it is: by their names, or by how they begin and by their tools."""
    caller = call_who(request)
    tools = sorted(str(getattr(tool, "name", None) or tool) for tool in request.tools)
    agent = caller.agent or hashlib.blake2b("\0".join(tools).encode("utf-8", "replace"), digest_size=16).hexdigest()
    if caller.thread:
        return f"{agent}:{caller.thread}", agent
    first = next((message for message in request.messages if isinstance(message, HumanMessage)), None)
    text = "" if first is None else str(first.text)
    return f"{agent}#{hashlib.blake2b(text.encode('utf-8', 'replace'), digest_size=16).hexdigest()}", agent


def _tool_segment(request: ModelRequest[Any], history: HistoryCompression) -> Segment:
    schema = history.counter.schema(request.tools[-1])
    return Segment(schema.digest, history.counter.tool(request.tools[-1]))


def _rounded(tokens: int) -> int:
    """To one of few values, so that a tool more or less does not change how a thread is shown."""
    return 1 << max(0, tokens - 1).bit_length() if tokens else 0


def kept_by_provider(request: ModelRequest[Any]) -> str | None:
    """The setting by which the provider keeps the conversation itself, so that it cannot be sent otherwise."""
    model: Any = request.model
    for key in _SERVER_SIDE:
        if request.model_settings.get(key, getattr(model, key, None)):
            return key
    for bound in (getattr(model, "model_kwargs", None), getattr(model, "kwargs", None)):
        for key in _SERVER_SIDE:
            if isinstance(bound, dict) and bound.get(key):
                return key
    return None


def _cacheable_from(prompt: Sequence[Segment], minimum: int) -> int:
    """The first segment that has a prefix before it that is large enough to be cached."""
    total = 0
    for index, segment in enumerate(prompt):
        if total >= minimum:
            return index
        total += segment.tokens
    return len(prompt)


def _what_was_done(view: View, results: int) -> str:
    if not view.changed:
        return "results may be shown in part later on"
    if view.fitted:
        return "the history is cut to fit into the tokens that there are"
    if view.blocks:
        return f"{len(view.blocks)} parts of the conversation are shown in short"
    done = f"{len(view.changed)} of {results} tool results are sent in fewer tokens"
    if view.reading is not None and view.reading.marks:
        done += f", {len(view.reading.marks)} of them in part"
    return done


def _why_not(view: View, shortened: Sequence[AnyMessage], rates: Rates | None) -> str:
    if view.problem:
        return f"the history is sent as it is, because {view.problem}"
    if rates is not None and not any(isinstance(message, ToolMessage) for message in shortened):
        return f"the tool results are within the first {rates.min_cache_tokens} tokens, below which nothing is cached"
    return "no tool result would get shorter"
