"""How a thread is told of tools: the cheapest way, with the provider's prompt cache counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from langchain_core.messages import ToolMessage

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.thoughts import binds_thoughts
from langchain_tokopt.tools.additions import Form, carried_form, form_of
from langchain_tokopt.tools.bill import Bill
from langchain_tokopt.tools.worth import Way, Worth

SelectionMode: TypeAlias = Literal["auto", "rebind", "inline", "proxy", "off"]

# Fewer tools than this with fewer schema tokens than that cost less than choosing among them.
MIN_TOOLS = 30
MIN_TOKENS = 5_000
# A call through another tool is harder for a model to get right than a direct one: it must save this much more.
PROXY_MARGIN = 0.85


@dataclass(frozen=True, slots=True)
class Choice:
    """How a thread is told of tools (`None`: all are bound), in which form if inline, and why."""

    way: Way | None
    form: Form | None
    reason: str
    problems: tuple[Exception, ...] = ()


def choose(
    bill: Bill,
    asked: str,
    *,
    mode: SelectionMode,
    always: Sequence[str],
    picks: int,
    min_tools: int | None,
    calls: Sequence[int],
    searches: bool,
) -> Choice:
    """How a thread that began with `asked` is told of tools. Ranks nothing, and so needs no embedder.

    Args:
        bill: What the request's tools cost.
        asked: The text of the thread's first question.
        mode: What the user wants; "auto" is the cheapest way.
        always: Tools that are always bound.
        picks: How many tools a message picks.
        min_tools: With fewer tools all are bound; `None` for what usually pays.
        calls: Numbers of model calls that it has to pay for.
        searches: Whether the model can search for tools.
    """
    request, count = bill.request, len(bill.registry.index)
    if count - len(always) <= picks:
        return Choice(None, None, f"every tool would be bound: {count} tools")
    problems: tuple[Exception, ...] = ()
    if mode == "inline":
        form = carried_form(request.model, request.model_settings)
        if form is not None:
            return Choice("inline", form, "asked for by mode='inline'")
        remedy = "use a model whose profile says mid_conversation_tools, or another mode; until then it is as 'auto'"
        problems = (ConfigurationError("mode", mode, remedy),)
    elif mode == "proxy" or (mode == "rebind" and not binds_thoughts(request)):
        return Choice(mode, None, f"asked for by mode={mode!r}")
    elif mode == "rebind":
        remedy = (
            "use another mode with a model that thinks: its signed thoughts hold only while the tools stay the same"
        )
        problems = (ConfigurationError("mode", mode, remedy),)
    if _too_few(count, bill.given, min_tools):
        return Choice(None, None, f"too few to pay: {count} tools, {bill.given} schema tokens", problems)
    form = form_of(request.model, request.model_settings)
    # Where nothing is cached, nothing is lost by other tools in each request.
    thinks = binds_thoughts(request)
    ways: list[Way] = [] if thinks else ["rebind"]
    if bill.caches or thinks:
        ways.append("inline" if form is not None else "proxy")
    outlooks = {
        way: bill.outlook(way, always=always, picks=picks, asked=asked, calls=calls, searches=searches) for way in ways
    }
    way = min(ways, key=lambda one: _share(one, outlooks[one]))
    if _share(way, outlooks[way]) < 1:
        return Choice(way, form, f"expected to pay: {outlooks[way]}", problems)
    # A search in the thread tells that it was narrowed before, whatever has changed since (the model, the prices).
    searcher = bill.registry.searcher
    if any(isinstance(message, ToolMessage) and message.name == searcher for message in bill.messages):
        return Choice(way, form, "the thread was narrowed before", problems)
    return Choice(None, None, f"would not pay: {outlooks[way]}", problems)


def _share(way: Way, outlook: Worth) -> float:
    """What the way costs as a share of binding everything, with its risks on top."""
    return float(outlook.share) / (PROXY_MARGIN if way == "proxy" else 1)


def _too_few(count: int, tokens: int, min_tools: int | None) -> bool:
    return count < MIN_TOOLS and tokens < MIN_TOKENS if min_tools is None else count < min_tools
