from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools import Selection, ToolSelection
from tests.fakes import ScriptedModel, TableEmbeddings, ai
from tests.tools.toolbox import anthropic_dict, names, openai_dict, request, tool, toolbox

DELETE = HumanMessage("delete the invoice")
PLAIN = Rates(input=Decimal(2), output=Decimal(8))
CACHED = Rates(
    input=Decimal(2), output=Decimal(8), cache_read=Decimal("0.2"), cache_write=Decimal("2.5"), caching="automatic"
)


def rebind(**settings: Any) -> ToolSelection:
    return ToolSelection(mode="rebind", **{"max_tools": 2, **settings})


def auto(rates: Rates | None, **settings: Any) -> ToolSelection:
    overrides = {} if rates is None else {"priced": rates}
    return ToolSelection(pricing=Pricing(overrides=overrides), **{"max_tools": 2, "min_tools": 0, **settings})


def priced(tools: list[Any], *messages: Any, **more: Any) -> Any:
    return request(tools, *messages, model=ScriptedModel(model_name="priced", provider="nobody"), **more)


def sent(selection: Selection) -> list[str]:
    assert selection.tools is not None
    return names(selection.tools)


def test_the_best_tools_are_bound_in_registration_order_after_the_search_tool() -> None:
    assert sent(rebind().select(request(toolbox(), HumanMessage("list or create an invoice")))) == [
        "search_tools",
        "create_invoice",
        "list_invoice",
    ]


def test_pinned_and_provider_tools_come_first_for_every_thread() -> None:
    web = {"type": "web_search"}
    tools = [web, *toolbox(), {"type": "code_interpreter"}]
    selection = rebind(pinned=[tools[5], "export_server"])
    assert sent(selection.select(request(tools, DELETE))) == [
        "web_search",
        "create_contract",
        "export_server",
        "code_interpreter",
        "search_tools",
        "create_invoice",
        "delete_invoice",
    ]
    assert selection.select(request(tools, DELETE)).tools[0] is web  # type: ignore[index]


def test_a_pinned_tool_that_is_missing_is_reported_once_and_bound_when_it_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    selection = rebind(pinned=["late"])
    for _ in range(2):
        selection.select(request(toolbox(), DELETE))
    assert [record.message for record in caplog.records] == [
        "pinned tool 'late' is not among the tools of this request; it is bound once it is"
    ]
    assert "late" in sent(selection.select(request(toolbox(tool("late")), DELETE)))


@pytest.mark.parametrize(
    "choice",
    [
        "export_server",
        {"type": "function", "function": {"name": "export_server"}},
        {"type": "tool", "name": "export_server"},
    ],
)
def test_the_tool_that_must_be_called_is_bound_last(choice: Any) -> None:
    selection = rebind()
    assert sent(selection.select(request(toolbox(), DELETE, tool_choice=choice)))[-1] == "export_server"
    given = request(toolbox(), DELETE, model_settings={"tool_choice": choice})
    assert sent(selection.select(given))[-1] == "export_server"
    assert "export_server" not in sent(selection.select(request(toolbox(), DELETE, tool_choice="any")))


def test_a_forced_tool_keeps_its_place_once_it_was_called() -> None:
    selection = rebind()
    forced = sent(selection.select(request(toolbox(), DELETE, tool_choice="export_server")))
    asked = ai(tool_calls=[{"name": "export_server", "args": {}}])
    assert sent(selection.select(request(toolbox(), DELETE, asked))) == forced


def test_tools_called_in_what_is_shown_are_bound_even_when_the_thread_lacks_them() -> None:
    shown = [DELETE, ai(tool_calls=[{"name": "export_server", "args": {}}])]
    given = request(toolbox(), *shown, state={"messages": [DELETE]})
    assert sent(rebind().select(given))[-1] == "export_server"


def test_without_a_search_tool_twice_as_many_are_picked() -> None:
    tools = [openai_dict(one.name, one.description) for one in toolbox()]
    selection = rebind().select(request(tools, HumanMessage("export")), escape_hatch=False)
    assert sent(selection) == ["export_invoice", "export_ticket", "export_customer", "export_calendar"]
    assert all(any(bound is one for one in tools) for bound in selection.tools or [])
    assert selection.searcher is None


def test_dict_tools_and_base_tools_mix() -> None:
    tools = [anthropic_dict("fly", "Book a flight"), openai_dict("cook", "Find a recipe"), *toolbox()]
    assert sent(rebind().select(request(tools, HumanMessage("flight recipe")))) == ["search_tools", "fly", "cook"]


def test_tools_without_a_description_are_selected_by_name() -> None:
    tools = [openai_dict(f"open_{noun}") for noun in ("door", "window", "gate", "lid", "box")]
    assert sent(rebind().select(request(tools, HumanMessage("the lid and the gate")))) == [
        "search_tools",
        "open_gate",
        "open_lid",
    ]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (request([], DELETE), "nothing to choose from: 0 function tools"),
        (request([tool("one"), {"type": "web_search"}], DELETE), "nothing to choose from: 1 function tools"),
        (request(toolbox()), "no user message"),
        (request(toolbox(), AIMessage("hi")), "no user message"),
        (
            request(toolbox(), HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}])),
            "the first user message has no text",
        ),
        (request(toolbox(), HumanMessage("  ")), "the first user message has no text"),
        (request([tool("one"), tool("two")], DELETE), "every tool would be bound: 2 tools"),
        (
            request([{**anthropic_dict("a"), "defer_loading": True}, *toolbox()], DELETE),
            "the provider's own tool search is in use (defer_loading)",
        ),
    ],
)
def test_requests_that_are_left_alone(given: Any, reason: str) -> None:
    selection = rebind().select(given)
    assert (selection.tools, selection.reason, selection.problems) == (None, reason, ())


def test_off_is_off() -> None:
    assert ToolSelection(mode="off").select(request(toolbox(), DELETE)).reason == "turned off"


def test_equal_names_are_reported_and_nothing_is_narrowed() -> None:
    selection = rebind().select(request(toolbox(tool("delete_invoice")), DELETE))
    assert selection.tools is None
    assert "two tools have this name" in selection.reason
    assert [type(problem) for problem in selection.problems] == [ConfigurationError]


def test_a_tool_of_the_user_keeps_the_name_search_tools(caplog: pytest.LogCaptureFixture) -> None:
    selection = rebind()
    for _ in range(2):
        bound = sent(selection.select(request(toolbox(tool("search_tools")), DELETE)))
    assert bound == ["find_tools", "create_invoice", "delete_invoice"]
    assert [record.message for record in caplog.records] == [
        "there is a tool named 'search_tools' already; the tool that finds others is named 'find_tools'"
    ]
    provider = [{"type": "tool_search", "name": "search_tools"}, *toolbox()]
    assert "find_tools" in sent(rebind().select(request(provider, DELETE)))


def test_few_and_small_tools_are_left_alone_without_asking_the_embedder() -> None:
    embeddings = TableEmbeddings()
    selection = ToolSelection(embeddings=embeddings).select(request(toolbox()[:29], DELETE))
    assert selection.tools is None
    assert selection.reason == f"too few to pay: 29 tools, {selection.tokens_before} schema tokens"
    assert selection.tokens_after == selection.tokens_before
    assert embeddings.asked == []


def test_few_but_large_tools_are_worth_a_look() -> None:
    large = [tool(one.name, one.description + " word" * 400) for one in toolbox()[:20]]
    assert ToolSelection(max_tools=2).select(request(large, DELETE)).tools is not None
    selection = ToolSelection(max_tools=2, min_tools=21).select(request(large, DELETE))
    assert selection.reason.startswith("too few to pay: 20 tools")


def test_auto_narrows_where_nothing_is_cached_and_not_where_reading_is_cheap() -> None:
    uncached = auto(PLAIN).select(priced(toolbox(), DELETE))
    assert uncached.tools is not None
    assert uncached.reason.startswith("expected to pay: ")
    cached = auto(CACHED).select(priced(toolbox(), DELETE))
    assert cached.tools is None
    assert cached.reason.startswith("would not pay: ")
    assert "USD a thread with some tools" in cached.reason


def test_auto_narrows_a_large_set_in_spite_of_the_cache() -> None:
    large = [tool(one.name, one.description + " word" * 1_000) for one in toolbox()]
    assert auto(CACHED).select(priced(large, DELETE)).tools is not None


def test_an_explicit_cache_counts_only_where_it_is_used() -> None:
    explicit = Rates(
        input=Decimal(2), output=Decimal(8), cache_read=Decimal("0.2"), cache_write=Decimal("2.5"), caching="explicit"
    )
    assert auto(explicit).select(priced(toolbox(), DELETE)).tools is not None
    marked = priced(toolbox(), DELETE, model_settings={"cache_control": {"type": "ephemeral"}})
    assert auto(explicit).select(marked).tools is None


def test_a_large_system_prompt_behind_the_tools_speaks_against_narrowing() -> None:
    large = [tool(one.name, one.description + " word" * 100) for one in toolbox()]
    given = {"calls_expected": 4}
    assert auto(CACHED, **given).select(priced(large, DELETE)).tools is not None
    system = SystemMessage("word " * 20_000)
    assert auto(CACHED, **given).select(priced(large, DELETE, system_message=system)).tools is None


def test_unknown_prices_are_decided_on_tokens() -> None:
    selection = auto(None).select(priced(toolbox(), DELETE))
    assert selection.tools is not None
    assert selection.saved_usd is None
    assert "tokens a thread with some tools" in selection.reason


def test_the_decision_does_not_depend_on_how_long_the_thread_is() -> None:
    for rates in (PLAIN, CACHED, None):
        selection = auto(rates)
        thread: list[Any] = [DELETE]
        narrowed = selection.select(priced(toolbox(), *thread)).tools is not None
        for step in range(10):
            thread += [
                ai(tool_calls=[{"name": "delete_invoice", "args": {}, "id": str(step)}]),
                ToolMessage("word " * 2_000, name="delete_invoice", tool_call_id=str(step)),
            ]
            assert (selection.select(priced(toolbox(), *thread)).tools is not None) is narrowed


def test_a_thread_that_has_searched_stays_narrowed_when_prices_change() -> None:
    found = ToolMessage("- export_server(item: string)", name="search_tools", tool_call_id="1")
    searched = [DELETE, ai(tool_calls=[{"name": "search_tools", "args": {}, "id": "1"}]), found]
    selection = auto(CACHED).select(priced(toolbox(), *searched))
    assert sent(selection) == ["search_tools", "create_invoice", "delete_invoice", "export_server"]
    assert selection.reason == "the thread was narrowed before"


def test_the_figures_are_the_schema_tokens_before_and_after() -> None:
    counter = TokenCounter()
    selection = rebind(counter=counter).select(request([*toolbox(), {"type": "web_search"}], DELETE))
    assert selection.tokens_before == counter.tools([*toolbox(), {"type": "web_search"}], "gpt-4o-mini")
    assert selection.tokens_after == counter.tools(selection.tools or [], "gpt-4o-mini")
    assert dict(selection.detail) == {
        "tools": 49,
        "bound": 4,
        "hidden": 46,
        "pinned": 0,
        "asked": 2,
        "called": 0,
        "found": 0,
        "forced": 0,
        "searcher": "search_tools",
        "embedded": False,
    }


def test_money_saved_is_what_is_no_longer_sent_when_nothing_is_cached() -> None:
    counter = TokenCounter()
    selection = auto(PLAIN, mode="rebind", counter=counter).select(priced(toolbox(), DELETE))
    assert selection.tokens_before is not None
    assert selection.tokens_after is not None
    assert selection.saved_usd == (selection.tokens_before - selection.tokens_after) * Decimal(2) / 1_000_000


def test_money_saved_counts_what_is_written_to_the_cache_again() -> None:
    counter = TokenCounter()
    selection = auto(CACHED, mode="rebind", counter=counter)
    million = Decimal(1_000_000)
    read, write = CACHED.cache_read, CACHED.cache_write

    first = selection.select(priced(toolbox(), DELETE))
    core = counter.tools([first.searcher], "priced")  # type: ignore[list-item]
    picked = (first.tokens_after or 0) - core
    # With all tools they are read; narrowed, what was picked for this thread is written. The message is written anyway.
    assert first.saved_usd == ((first.tokens_before or 0) * read - core * read - picked * write) / million

    asked = ai(tool_calls=[{"name": "delete_invoice", "args": {}, "id": "1"}])
    result = ToolMessage("gone", name="delete_invoice", tool_call_id="1")
    second = selection.select(priced(toolbox(), DELETE, asked, result))
    assert second.saved_usd == ((second.tokens_before or 0) - (second.tokens_after or 0)) * read / million

    more = HumanMessage("export_server")
    third = selection.select(priced(toolbox(), DELETE, asked, result, AIMessage("done"), more))
    added = (third.tokens_after or 0) - (second.tokens_after or 0)
    behind = counter.messages([DELETE, asked, result], "priced")
    expected = (third.tokens_before or 0) * read - (second.tokens_after or 0) * read - added * write
    assert added > 0
    assert third.saved_usd == (expected + behind * (read - write)) / million


def test_the_cache_breakpoint_moves_to_the_last_tool_that_is_bound() -> None:
    mark = {"type": "ephemeral"}
    tools = toolbox()
    tools[-1] = tools[-1].model_copy(update={"extras": {"cache_control": mark}})
    bound = rebind().select(request(tools, DELETE)).tools or []
    assert [getattr(one, "extras", None) for one in bound] == [None, None, {"cache_control": mark}]
    pinned = rebind(pinned=["export_server"]).select(request(tools, DELETE)).tools or []
    assert names(pinned) == ["export_server", "search_tools", "create_invoice", "delete_invoice"]
    assert [bool(getattr(one, "extras", None)) for one in pinned] == [False, False, False, True]
    assert tools[-1].extras == {"cache_control": mark}


def test_the_index_is_kept_while_the_tools_are_the_same() -> None:
    selection, tools = rebind(), toolbox()
    index = selection.index(tools)
    copied = [*tools[:-1], tools[-1].model_copy(update={"extras": {"cache_control": {}}})]
    assert selection.index(list(tools)) is index
    assert selection.index(copied) is index
    assert selection.index(tools[:-1]) is not index
    for count in range(100):
        selection.index([tool(f"t{count}"), tool("b")])
    assert selection.index(tools) is not index
    assert selection.index(tools).names == index.names


def test_tools_come_and_go_while_a_thread_runs() -> None:
    selection = rebind()
    called = ai(tool_calls=[{"name": "late", "args": {}}])
    assert "late" not in sent(selection.select(request(toolbox(), DELETE, called)))
    assert sent(selection.select(request(toolbox(tool("late")), DELETE, called)))[-1] == "late"


def test_a_failing_embedder_is_reported_and_words_decide(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(TableEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            raise OSError("no network")

    selection = rebind(embeddings=Broken()).select(request(toolbox(), DELETE))
    assert sent(selection) == ["search_tools", "create_invoice", "delete_invoice"]
    assert [str(problem) for problem in selection.problems] == ["no network"]


def test_what_is_attached_fills_what_was_not_given() -> None:
    mine, theirs = TableEmbeddings(), TableEmbeddings()
    selection = rebind(embeddings=mine)
    assert selection.attach(embeddings=theirs, counter=TokenCounter(), pricing=Pricing()) is selection
    selection.select(request(toolbox(), DELETE))
    assert mine.asked
    assert not theirs.asked
    late = rebind()
    late.select(request(toolbox(), DELETE))
    late.attach(embeddings=theirs).attach(embeddings=mine)
    assert late.select(request(toolbox(), DELETE)).detail["embedded"]
    assert theirs.asked


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"max_tools": 0}, "max_tools"),
        ({"max_tools": True}, "max_tools"),
        ({"max_tools": 2.5}, "max_tools"),
        ({"min_tools": -1}, "min_tools"),
        ({"mode": "always"}, "mode"),
        ({"calls_expected": 0}, "calls_expected"),
        ({"embed_timeout_seconds": 0}, "embed_timeout_seconds"),
        ({"pinned": "send"}, "pinned"),
        ({"pinned": [{"type": "web_search"}]}, "pinned"),
        ({"pinned": [""]}, "pinned"),
        ({"embeddings": 3}, "embeddings"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], argument: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{argument}="):
        ToolSelection(**settings)


def test_the_log_is_quiet_when_nothing_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        rebind().select(request(toolbox(), DELETE))
    assert caplog.records == []
