"""What a conversation costs from its first answer to its last, and what a question at its end still finds.

    python -m benchmarks.history_cost --data CONVERSATIONS.jsonl [--only METHOD ...] [--json OUT]

Rows are those of `benchmarks.history`. Every message of the assistant is a call whose prompt is all that was said
before, so long as a method leaves it. Each is billed with the provider's prompt cache, at listed prices and with
nothing but the conversation in the prompt; all calls come in time.

* `window`: the newest messages with 4,000 tokens together.
* `rebuild`: for each call the newest messages, and of the older ones those that the call needs, a fifth of the tokens.
* `ours`: `ChatMemory`: closed blocks in short, and before the newest message what it needs of them. Whether closing a
  block pays is decided at Anthropic's prices, whatever table it is billed at.

`chat_cost` at a price table is relative to sending everything, over all conversations, with the lowest and the highest
one. `TABLE:N` is that of the first N messages; `cost_so_far` is the highest that it was at any call of any
conversation. The cache is one that finds every beginning which was sent before, as OpenAI's does, and Anthropic's if
the last message before the newest one is marked; `anthropic-end` is Anthropic's where only the end of a prompt is
marked. `chat_tokens` are the tokens of all prompts together, relative to sending everything.

`chat_evidence` and `chat_answer` are as in `benchmarks.history`, for the questions at the end of the conversation.
`recalls_per_call` is how often something was recalled, `recall_tokens` how much it was then.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from benchmarks.history import COUNTER, SAMPLE, Conversation, Kept, Question, read_conversations, searchable
from benchmarks.rows import Measure, publish
from langchain_tokopt import Pricing
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.memory import ChatMemory, worth_closing
from langchain_tokopt.context.memory.render import MARK, made_here
from langchain_tokopt.context.ranking import Passage, Ranking, best_within
from langchain_tokopt.prefix import PrefixUse, PromptCache, Segment
from langchain_tokopt.rates import Rates
from langchain_tokopt.wire import digest

METHODS = ("window", "rebuild", "ours")
WINDOW = 4_000
RECENT = 2_000
SHARE = 0.2
BEGINNINGS = (50, 100, 200, 400)
_LOOKED_BACK = 20  # https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching: blocks before a mark

# What a call is sent, given all that was said before it.
View: TypeAlias = "Callable[[Sequence[BaseMessage]], list[BaseMessage]]"
Prompt: TypeAlias = "tuple[Segment, ...]"


# --- methods ---------------------------------------------------------------------------------------------------------


def everything(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """All messages."""
    return list(messages)


def window(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The newest messages that have `WINDOW` tokens together."""
    return list(messages[_start_of_newest(messages, WINDOW) :])


def rebuild(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The newest messages, and of the older ones those that rank best for the newest one."""
    recent = _start_of_newest(messages, RECENT)
    older = messages[:recent]
    sizes = [COUNTER.message(message) for message in older]
    ranking = Ranking([Passage(message.text, label=message.name or message.type) for message in older])
    chosen = best_within(ranking.scores(messages[-1].text), sizes, int(SHARE * sum(sizes))) if older else []
    return [*(older[at] for at in chosen), *messages[recent:]]


def _start_of_newest(messages: Sequence[BaseMessage], tokens: int) -> int:
    start = len(messages)
    while start and (start == len(messages) or COUNTER.message(messages[start - 1]) <= tokens):
        start -= 1
        tokens -= COUNTER.message(messages[start])
    return start


def views(**settings: Any) -> dict[str, Callable[[], View]]:
    """The methods, each made anew for a conversation. `settings` are those of `ChatMemory`."""
    ours = {"pays": worth_closing(price_tables(Pricing())[0].rates), **settings}
    return {"window": lambda: window, "rebuild": lambda: rebuild, "ours": lambda: ChatMemory(**ours).view}


# --- bills -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PriceTable:
    """Prices, and whether only the end of each prompt is marked for the cache."""

    name: str
    rates: Rates
    only_ends: bool = False


def price_tables(pricing: Pricing) -> list[PriceTable]:
    """Anthropic's prices, OpenAI's, and the former without a cache.

    Raises:
        LookupError: A price is not known.
    """
    found = {name: pricing.rates(name) for name in ("claude-sonnet-4-6", "gpt-5-mini")}
    claude, gpt = found.values()
    if claude is None or gpt is None:
        msg = f"no price is known for one of {', '.join(found)}"
        raise LookupError(msg)
    return [
        PriceTable("anthropic", claude),
        PriceTable("anthropic-end", claude, only_ends=True),
        PriceTable("openai", gpt),
        PriceTable("uncached", claude.without_caching()),
    ]


def costs_so_far(prompts: Sequence[Prompt], table: PriceTable) -> list[Decimal]:
    """What the calls cost up to each one, in USD."""
    cache = _EndsCache() if table.only_ends else PromptCache(clock=lambda: 0.0)
    total, costs = Decimal(0), []
    for prompt in prompts:
        total += cache.observe(prompt, table.rates).cost(table.rates)
        costs.append(total)
    return costs


class _EndsCache:
    """A cache with what was sent up to the end of each prompt, found from up to 20 blocks before the next one's end."""

    def __init__(self) -> None:
        self._ends: set[bytes] = set()

    def observe(self, prompt: Prompt, rates: Rates) -> PrefixUse:
        """How a request is billed that is sent now."""
        prefix, total, read, first = b"", 0, 0, len(prompt) - _LOOKED_BACK
        for at, segment in enumerate(prompt):
            prefix = digest("", prefix, segment.digest)
            total += segment.tokens
            if at >= first and prefix in self._ends and total >= rates.min_cache_tokens:
                read = total
        if total < rates.min_cache_tokens:
            return PrefixUse(0, 0, total)
        self._ends.add(prefix)
        return PrefixUse(read, total - read, 0)


def prompts_of(talk: Conversation, view: View) -> Iterator[list[BaseMessage]]:
    """What each call of a conversation is sent."""
    for at, message in enumerate(talk.messages):
        if at and isinstance(message, AIMessage):
            yield view(talk.messages[:at])


def _weighed(messages: Sequence[BaseMessage], model: str) -> Prompt:
    return tuple(Segment(*COUNTER.weighed(message, model)) for message in messages)


# --- figures ---------------------------------------------------------------------------------------------------------


def rows(talks: Sequence[Conversation], wanted: Sequence[str] = METHODS, **settings: Any) -> Iterator[Measure]:
    """The figures of each method, relative to sending everything. `settings` are those of `ChatMemory`."""
    tables = price_tables(Pricing())
    base = {talk: _bills(list(prompts_of(talk, everything)), tables) for talk in talks}
    for method in wanted:
        make = views(**settings)[method]
        sent = {talk: list(prompts_of(talk, make())) for talk in talks}
        bills = {talk: _bills(prompts, tables) for talk, prompts in sent.items()}
        for table in tables:
            yield from _costs(method, table.name, talks, bills, base)
        totals = (sum(sum(found.tokens) for found in of.values()) for of in (bills, base))
        yield Measure(method, "chat_tokens", None, next(totals) / next(totals))
        yield from _visible(method, talks, make)
        yield from _recalls(method, [prompt for prompts in sent.values() for prompt in prompts])


@dataclass(frozen=True)
class _Bills:
    """Of each call the tokens, and by price table what all up to it cost."""

    tokens: list[int]
    costs: dict[str, list[Decimal]]


def _bills(prompts: Sequence[Sequence[BaseMessage]], tables: Sequence[PriceTable]) -> _Bills:
    weighed: dict[str, list[Prompt]] = {}
    for model in {table.rates.model: None for table in tables}:
        weighed[model] = [_weighed(prompt, model) for prompt in prompts]
    tokens = [sum(segment.tokens for segment in prompt) for prompt in weighed[tables[0].rates.model]]
    return _Bills(tokens, {table.name: costs_so_far(weighed[table.rates.model], table) for table in tables})


def _costs(
    method: str,
    table: str,
    talks: Sequence[Conversation],
    bills: dict[Conversation, _Bills],
    base: dict[Conversation, _Bills],
) -> Iterator[Measure]:
    pairs = {talk: (bills[talk].costs[table], base[talk].costs[table]) for talk in talks if base[talk].tokens}
    if not pairs:
        return
    each = [float(costs[-1] / full[-1]) for costs, full in pairs.values()]
    total = _ratio((costs[-1], full[-1]) for costs, full in pairs.values())
    yield Measure(method, "chat_cost", table, total, min(each), max(each))
    highest = max(
        float(cost / whole) for costs, full in pairs.values() for cost, whole in zip(costs, full, strict=True)
    )
    yield Measure(method, "cost_so_far", table, highest)
    for count in BEGINNINGS:
        long = {talk: found for talk, found in pairs.items() if len(talk.messages) >= count}
        calls = {talk: sum(isinstance(message, AIMessage) for message in talk.messages[1:count]) for talk in long}
        begun = [(costs[calls[talk] - 1], full[calls[talk] - 1]) for talk, (costs, full) in long.items() if calls[talk]]
        if begun:
            yield Measure(method, "chat_cost", f"{table}:{count}", _ratio(begun))


def _ratio(pairs: Iterable[tuple[Decimal, Decimal]]) -> float:
    ours, whole = zip(*pairs, strict=True)
    return float(sum(ours) / sum(whole))


def _visible(method: str, talks: Sequence[Conversation], make: Callable[[], View]) -> Iterator[Measure]:
    evidence: list[float] = []
    answers: list[float] = []
    for talk in talks:
        view, texts = make(), talk.texts
        for question in talk.questions:
            kept = _kept(view, talk, question)
            evidence.append(statistics.fmean(kept.share(name, texts[name]) for name in question.evidence))
            answer = searchable(question.answer)
            stating = [name for name in question.evidence if answer.strip() and answer in searchable(texts[name])]
            if stating:
                answers.append(float(any(kept.states(answer, name, texts[name]) for name in stating)))
    for metric, found in (("chat_evidence", evidence), ("chat_answer", answers)):
        if found:
            yield Measure(method, metric, None, statistics.fmean(found))


def _kept(view: View, talk: Conversation, question: Question) -> Kept:
    """What a question at the end of the conversation finds: whole messages, and text that stands for others."""
    shown = view([*talk.messages, HumanMessage(question.text)])[:-1]
    ids = frozenset(str(message.id) for message in shown if not made_here(message))
    return Kept(ids, searchable("\n".join(message.text for message in shown if made_here(message))))


def _recalls(method: str, prompts: Sequence[Sequence[BaseMessage]]) -> Iterator[Measure]:
    found = [message for prompt in prompts for message in prompt if message.additional_kwargs.get(MARK) == "recall"]
    if found:
        yield Measure(method, "recalls_per_call", None, len(found) / len(prompts))
        yield Measure(method, "recall_tokens", None, statistics.fmean(text_size(message.text) for message in found))


# --- the whole -------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Measure and publish. Exit code 2: the data cannot be used."""
    args = _arguments(argv)
    try:
        talks = read_conversations(args.data)
        measured = list(rows(talks, args.only))
    except (OSError, ValueError, LookupError) as error:
        print(f"{args.data}: {error}", file=sys.stderr)
        return 2
    calls = sum(isinstance(message, AIMessage) for talk in talks for message in talk.messages[1:])
    print(f"{len(talks)} conversations, {calls} calls ({COUNTER.source()})")
    publish("history_cost", args.data.name, measured, args.json)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history_cost", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="conversations; the sample by default")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=METHODS, metavar="METHOD")
    parser.add_argument("--seed", type=int, default=0, help="nothing is drawn: for likeness with the others")
    parser.add_argument("--json", type=Path, metavar="OUT")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
