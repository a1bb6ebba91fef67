"""What a selection says it saves in money, worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import SecretStr

from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools import Selection, ToolSelection
from langchain_tokopt.tools.notes import note_text
from tests.fakes import ScriptedModel, ai
from tests.tools.toolbox import CACHED, PLAIN, priced, request, tool, toolbox

COUNTER = TokenCounter()
MILLION = Decimal(1_000_000)
READ, WRITE = CACHED.cache_read, CACHED.cache_write
CLAUDE: Any = ChatAnthropic(model_name="claude-opus-5-5", api_key=SecretStr("test"))  # type: ignore[call-arg]
CHAT = ScriptedModel(model_name="priced", provider="nobody")

DELETE = HumanMessage("delete the invoice")
CALLED = ai(tool_calls=[{"name": "delete_invoice", "args": {}, "id": "1"}])
GONE = ToolMessage("gone", name="delete_invoice", tool_call_id="1")
DONE = AIMessage("done")
MORE = HumanMessage("export_server")
SYSTEM = SystemMessage("Be brief.")


def selection(rates: Rates | None, mode: Any, **settings: Any) -> ToolSelection:
    overrides = {} if rates is None else {"priced": rates, "claude-opus-5-5": rates}
    return ToolSelection(
        pricing=Pricing(overrides=overrides), counter=COUNTER, mode=mode, **{"max_tools": 2, **settings}
    )


def figures(of: Selection) -> tuple[int, int, Decimal | None]:
    assert of.tokens_before is not None
    assert of.tokens_after is not None
    return of.tokens_before, of.tokens_after, of.saved_usd


def tokens(names: list[str], way: str, model: str) -> int:
    """Of these tools as the model is told of them."""
    index = ToolSelection().index(toolbox())
    if way == "proxy":
        return COUNTER.text(note_text([index.spec(name) for name in names], "call_tool"), model)
    sent = ToolSelection(mode="rebind").select(priced(toolbox(), DELETE)).plan
    assert sent is not None
    return sum(COUNTER.tool(sent.registry.sent(sent.registry.at[name]), model) for name in names)


def test_what_is_no_longer_sent_is_saved_when_nothing_is_cached() -> None:
    before, after, saved = figures(selection(PLAIN, "rebind").select(priced(toolbox(), DELETE)))
    assert saved == (before - after) * Decimal(2) / MILLION


def test_without_a_price_nothing_is_claimed() -> None:
    _, _, saved = figures(selection(None, "rebind").select(priced(toolbox(), DELETE)))
    assert saved is None


@pytest.mark.parametrize(
    ("way", "model", "name"),
    [("rebind", CHAT, "priced"), ("inline", CLAUDE, "claude-opus-5-5"), ("proxy", CHAT, "priced")],
)
def test_what_is_read_and_what_is_written_is_told_apart(way: str, model: Any, name: str) -> None:
    selecting = selection(CACHED, way)

    def at(*messages: AnyMessage) -> Selection:
        return selecting.select(request(toolbox(), *messages, model=model, system_message=SYSTEM))

    system = COUNTER.message(SYSTEM, name)
    first, second = at(DELETE), at(DELETE, CALLED, GONE)
    before, after, saved = figures(first)
    picked = tokens(["create_invoice", "delete_invoice"], way, name)
    core = after - picked
    assert first.plan is not None
    assert core == COUNTER.tools(first.plan.tools[: 2 if way == "proxy" else 1], name)
    # With all tools these and the system prompt are read. What was picked for this thread is written; where it stands
    # before the system prompt, that is written again. The message is written in any case.
    behind = system if way == "rebind" else 0
    assert saved == (before * READ - core * READ - picked * WRITE + behind * (READ - WRITE)) / MILLION

    # Nothing new became known: everything is read, and what is new in the thread is written in any case.
    assert figures(second) == (before, after, (before - after) * READ / MILLION)

    _, later, saved = figures(at(DELETE, CALLED, GONE, DONE, MORE))
    added = tokens(["create_server", "export_server"], way, name)
    assert later - after == added
    behind = system + COUNTER.messages([DELETE, CALLED, GONE], name) if way == "rebind" else 0
    assert saved == (before * READ - after * READ - added * WRITE + behind * (READ - WRITE)) / MILLION


def test_only_what_is_shown_of_a_thread_is_paid_for() -> None:
    # Another middleware shows the last message only: each call writes it, and reads the tools.
    selecting = selection(CACHED, "proxy")
    thread = [DELETE, CALLED, GONE, DONE, HumanMessage("delete the invoice again")]
    given = priced(toolbox(), thread[-1], state={"messages": thread})
    before, after, saved = figures(selecting.select(given))
    assert after == figures(selecting.select(priced(toolbox(), DELETE)))[1]
    core = COUNTER.tools(selecting.select(given).tools or [], "priced")
    assert saved == ((before - core) * READ - (after - core) * WRITE) / MILLION


def test_smaller_schemas_save_money_where_all_tools_are_bound() -> None:
    # Twice the spaces, and titles that pydantic makes of the names.
    large = [tool(f"t{n}", "word  " * 50) for n in range(4)]
    for rates, price in ((PLAIN, PLAIN.input), (CACHED, READ)):
        bound = selection(rates, "auto").select(priced(large, DELETE, CALLED, GONE))
        before, after, saved = figures(bound)
        assert bound.tools is not None
        assert (before, after) == (COUNTER.tools(large, "priced"), COUNTER.tools(bound.tools, "priced"))
        assert before > after
        assert saved == (before - after) * price / MILLION
    assert selection(None, "auto").select(priced(large, DELETE)).saved_usd is None
    alone = selection(PLAIN, "auto", shrink=False).select(priced(large, DELETE))
    assert (alone.tools, alone.saved_usd, alone.tokens_after) == (None, None, alone.tokens_before)


@pytest.mark.parametrize(("rates", "words"), [(PLAIN, 0), (PLAIN, 60), (CACHED, 60), (CACHED, 200)])
@pytest.mark.parametrize("model", [CHAT, CLAUDE])
def test_a_thread_that_auto_narrows_saves_money_over_its_calls(rates: Rates, words: int, model: Any) -> None:
    tools = [tool(f"{one.name}_of_{n}", "word " * words) for one in toolbox() for n in range(2)]
    selecting = selection(rates, "auto", max_tools=8)
    thread: list[AnyMessage] = []
    saved = Decimal(0)
    ways = set()
    for turn, said in enumerate(("delete the invoice", "and the ticket", "list employees", "delete employees")):
        thread.append(HumanMessage(f"{said}. " + "word " * 400))
        for step in range(3):
            chosen = selecting.select(request(tools, *thread, model=model))
            assert chosen.saved_usd is not None or chosen.tools is None
            saved += chosen.saved_usd or 0
            ways.add(chosen.detail.get("mode"))
            thread += [
                ai("word " * 100, tool_calls=[{"name": "delete_invoice_of_1", "args": {}, "id": f"{turn}{step}"}]),
                ToolMessage("word " * 300, name="delete_invoice_of_1", tool_call_id=f"{turn}{step}"),
            ]
        thread.append(AIMessage("done"))
    assert len(ways) == 1
    assert saved > 0
