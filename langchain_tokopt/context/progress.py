"""A thread as it is read from its beginning: what is shown of each message, and where what was sent is rewritten.

Messages are read one by one. A new tool result is shown without loss, and in part where it is large; that never changes
what was sent before. Before each model call it is asked whether showing *seen* results in a smaller part pays: that
makes the prompt shorter for all calls to come, and costs that what follows the first change is written to the
provider's cache again. All of it follows from the messages and the policy, so any process comes to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from langchain_core.messages import AIMessage, BaseMessage

from langchain_tokopt.context.item import MESSAGE_TOKENS, Form, Item, Step, Steps
from langchain_tokopt.context.lossless.ingest import Ingest, ToolResult
from langchain_tokopt.context.lossless.repeats import ShownLines
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.memory.render import is_users
from langchain_tokopt.context.message_text import message_text
from langchain_tokopt.context.policy import Policy, Sizes
from langchain_tokopt.context.retrieval import is_retrieved
from langchain_tokopt.context.showing import Room, show, take_in
from langchain_tokopt.context.trimming import Wanted, has_blob, identifiers
from langchain_tokopt.weighted_memo import WeightedMemo

# A rewrite must remove so many tokens, and be worth this many times what it costs: what is expected may not come.
LEAST_REMOVED: Final = 700
MARGIN: Final = 1.3
# Binding a tool in mid-thread rewrites the whole prompt. So much of the future is relied on then: a result that is not
# sent is saved in any case.
SURE_CALLS_LEFT: Final = 2
# For the sake of results that were sent it is bound if so large a part of the calls that are expected is enough.
BINDING_CALLS: Final = 0.25
# A new result is shown in part when it has so many times what it may have: less is not worth what may be missed.
WORTH_CUTTING: Final = 1.5
# Whenever the model has asked for an original, new results get twice the room, up to so many times.
MOST_ROOM: Final = 8
# A result that would lose fewer tokens stays as it is.
LEAST_LOST: Final = 40


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A point at which what was sent before is sent in another form.

    Attributes:
        call: The number of messages that the call was sent which changed it.
        first: The index of the first message that changed.
        removed: About how many tokens that removed.
    """

    call: int
    first: int
    removed: int


@dataclass(slots=True)
class Progress:
    """How far a thread has been read, and how it is shown.

    Attributes:
        policy: What decides beside the messages.
        steps: What the same steps came to before; they are not worked out again.
        tokens: Of each message as it is shown.
        items: The tool results.
        lines: Where each of their lines is shown.
        names: The identifiers that are shown; `said` those outside of tool results.
        rewrites: Where what was sent has been changed.
        answers: The indices of the model's answers: each ended a call.
        bound: Whether the tool that gives back originals is bound from here on; `bound_at`, since how many messages.
        retrieved: How often the model has asked for what was shown in part.
        trimmable: The tokens that results would lose if they were always shown in part.
        called_at: The messages that the last call was made with; `touched`, whether that call changed anything.
        task: The newest user message; `call_text` the newest answer of the model.
        key: A digest of all messages that have been read, and of the policy.
    """

    policy: Policy
    steps: Steps = field(default_factory=lambda: WeightedMemo(weight_limit=0))
    tokens: list[int] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    lines: ShownLines = field(default_factory=ShownLines)
    names: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)
    rewrites: list[Rewrite] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    calls: int = 0
    bound: bool = False
    bound_at: int = 0
    retrieved: int = 0
    trimmable: int = 0
    called_at: int = -1
    touched: bool = False
    task: str = ""
    call_text: str = ""
    key: bytes = b""

    def __post_init__(self) -> None:
        self.bound = self.policy.tool is None or self.policy.binds_at_once

    def goes_on_with(self, message: BaseMessage) -> bool:
        """Whether the message can be read next: a call that changed the view has to have been answered."""
        return not self.touched or self.called_at != self.count or isinstance(message, AIMessage)

    @property
    def count(self) -> int:
        """How many messages have been read."""
        return len(self.tokens)

    def read(self, message: BaseMessage, result: ToolResult | None, key: bytes = b"") -> None:
        """Take in the next message of the thread; `result` is it where it is a tool's.

        `key`: a digest of it, of all messages before it, and of the policy; without one no step is looked up.
        """
        if isinstance(message, AIMessage):
            self.call()
            self.calls += 1
            self.answers.append(self.count)
        self.key = key
        if result is not None:
            self._read_result(result)
            return
        text = message_text(message)
        self.tokens.append(text_size(text) + MESSAGE_TOKENS)
        if is_users(message):
            self.task = text
        elif isinstance(message, AIMessage):
            self.call_text = text
        found = set(identifiers(text))
        self.names |= found
        self.said |= found

    # --- new results -------------------------------------------------------------------------------------------------

    def _read_result(self, result: ToolResult) -> None:
        wanted, mark = Wanted(self.call_text, self.task), self.lines.mark()
        step = self.steps.get(self.key) if self.key else None
        if isinstance(step, Step):
            take_in(result, step.form.shown, self.lines, self.policy.lossless)
            if step.bound and not self.bound:
                self.bound, self.bound_at = True, self.count
            self.trimmable += step.trimmable
        else:
            step = self._new_step(result, wanted)
            if self.key:
                self.steps.put(self.key, step, step.weight)
        self.retrieved += is_retrieved(result.message)
        self.tokens.append(step.form.tokens)
        self.items.append(Item(self.count - 1, self.calls, result, wanted, step.form, step.whole, mark))
        self.names |= step.form.names

    def _new_step(self, result: ToolResult, wanted: Wanted) -> Step:
        policy, settings, before, trimmable = self.policy, self.policy.lossless, self.lines.mark(), self.trimmable
        shown, tokens = show(result, self.lines, settings, None)
        limit = policy.sizes.new if policy.sizes else None
        if limit is not None:
            limit = max(limit * min(MOST_ROOM, 1 << min(self.retrieved, MOST_ROOM)), result.least)
        if limit is not None and may_be_cut(result) and _is_large(result, tokens, limit):
            whole = tokens
            self.lines.undo(before)
            shown, tokens = show(result, self.lines, settings, Room(limit, wanted, self.names, policy.tool))
            self.trimmable += whole - tokens
            if shown.parts and not self._bind(whole - tokens):
                self.lines.undo(before)
                shown, tokens = show(result, self.lines, settings, None)
        given = sum(text_size(text) for _, _, text in result.texts()) if shown.texts else tokens
        return Step(Form.of(result, shown, tokens), given, self.trimmable - trimmable, self.bound)

    def _bind(self, removed: int) -> bool:
        """Whether the tool that gives back originals is bound, or it pays to bind it now that a result is so large.

        A tool more changes the prompt at its very beginning: all of it is written to the cache again.
        """
        if self.bound or not self.policy.binds_late:
            return self.bound
        policy = self.policy
        gain = removed * (policy.prices.write + policy.prices.read * SURE_CALLS_LEFT)
        cost = (policy.head_tokens + sum(self.tokens)) * policy.rewrite_factor
        tool = policy.tool_tokens * policy.prices.read * policy.expected.calls_left(self.calls)
        if gain > MARGIN * cost + tool:
            self.bound, self.bound_at = True, self.count
        return self.bound

    # --- rewrites ----------------------------------------------------------------------------------------------------

    def call(self) -> None:
        """A model call is made with what has been read so far: rewrite what pays. Asked again it changes nothing."""
        if self.called_at == self.count:
            return
        self.called_at, self.touched = self.count, False
        sizes = self.policy.sizes
        if sizes is None or not sizes.rewrite or not self.items or not (self.bound or self.policy.binds_late):
            return
        candidates = self._candidates(sizes)
        if not candidates:
            return
        first = self._best(candidates)
        if first is not None:
            self._rewrite(first, candidates)

    def _candidates(self, sizes: Sizes) -> list[Item]:
        """The results that may be shown in a smaller part, newest first."""
        newest = self.calls - sizes.keep_steps
        found = []
        for item in reversed(self.items):
            if item.rewritten or item.step > newest or not may_be_cut(item.result):
                continue
            if item.result.least and sum(self.tokens) - item.tokens < MOST_ROOM * item.result.least:
                continue  # the prompt might become too small to be cached
            if item.tokens <= sizes.old + LEAST_LOST:
                continue
            if item.old is None:
                item.old = self._smaller(item, sizes)
                self.touched = True
            if item.tokens - item.old.tokens >= LEAST_LOST:
                found.append(item)
        return found

    def _smaller(self, item: Item, sizes: Sizes) -> Form:
        """The result in the part in which it is shown once the agent has moved on."""
        key = self.key and self.key + item.index.to_bytes(4, "big")
        known = self.steps.get(key) if key else None
        if isinstance(known, Form):
            return known
        tokens = max(sizes.old, round(sizes.old_share * item.whole))
        room = Room(tokens, item.wanted, self.said, self.policy.tool)
        form = Form.of(item.result, *show(item.result, ShownLines(), self._alone(), room))
        if key:
            self.steps.put(key, form, form.weight)
        return form

    def _alone(self) -> Ingest | None:
        settings = self.policy.lossless
        return replace(settings, dedupe=False) if settings else None

    def _best(self, candidates: Sequence[Item]) -> int | None:
        """The message from which on it pays most to rewrite; `None` if it pays nowhere."""
        policy = self.policy
        left = policy.expected.calls_left(self.calls)
        at = self.answers[-1] if self.answers else 0  # what comes from there on was not sent before
        removed = tail = 0
        best, first = 0.0, None
        for item in candidates:
            tail += sum(self.tokens[item.index : at])
            at = min(at, item.index)
            removed += item.tokens - _old(item).tokens
            gain = self._gain(removed, tail - removed, item.index, left)
            if removed >= LEAST_REMOVED and gain > best:
                best, first = gain, item.index
        return first

    def _gain(self, removed: int, written: int, first: int, left: float) -> float:
        """What a rewrite from message `first` on is worth, in tokens that are not cached."""
        policy = self.policy
        if not self.bound:
            written += policy.head_tokens + sum(self.tokens[:first])
            left *= BINDING_CALLS
        return removed * left * policy.prices.read - MARGIN * written * policy.rewrite_factor

    def _rewrite(self, first: int, candidates: Sequence[Item]) -> None:
        """Show the candidates from `first` on in their smaller part, and what comes after them as it is then."""
        smaller = {item.index for item in candidates if item.index >= first}
        later = [item for item in self.items if item.index >= first]
        self.touched = True
        self.lines.undo(later[0].mark)
        forms: list[Form] = []
        for item in later:
            item.mark = self.lines.mark()
            forms.append(self._form_behind(item, smaller=item.index in smaller))
        removed = sum(item.tokens - form.tokens for item, form in zip(later, forms, strict=True))
        if removed < LEAST_REMOVED:
            self._take_back(later)
            return
        self.rewrites.append(Rewrite(self.count, first, removed))
        if not self.bound:
            self.bound, self.bound_at = True, self.count
        for item, form in zip(later, forms, strict=True):
            item.form, self.tokens[item.index] = form, form.tokens
            item.rewritten = item.rewritten or item.index in smaller
        self.names = self.said.union(*(item.form.names for item in self.items))

    def _form_behind(self, item: Item, *, smaller: bool) -> Form:
        """How a result is shown behind a rewrite; its lines are taken in."""
        form, settings = _old(item) if smaller else item.form, self.policy.lossless
        if smaller or form.shown.parts:
            take_in(item.result, form.shown, self.lines, settings)
            return form
        # What it referred to may not be shown any more.
        shown, tokens = show(item.result, self.lines, settings, None)
        return form if shown == form.shown else Form.of(item.result, shown, tokens)

    def _take_back(self, later: Sequence[Item]) -> None:
        """Let the lines be those of the results as they are shown."""
        self.lines.undo(later[0].mark)
        for item in later:
            item.mark = self.lines.mark()
            take_in(item.result, item.shown, self.lines, self.policy.lossless)


def _old(item: Item) -> Form:
    if item.old is None:
        msg = "a candidate has no smaller part"
        raise AssertionError(msg)
    return item.old


def _is_large(result: ToolResult, tokens: int, limit: int) -> bool:
    """Whether so much of the result need not be shown that it is worth it."""
    if tokens + MESSAGE_TOKENS > WORTH_CUTTING * limit:
        return True
    return not result.least and any(has_blob(text) for _, _, text in result.texts())


def may_be_cut(result: ToolResult) -> bool:
    """Whether the result may be shown in part."""
    return not result.verbatim or result.least > 0
