from __future__ import annotations

import logging
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.pricing import Pricing, Rates
from langchain_tokopt.tokens import TokenCounter
from langchain_tokopt.tools import Selection, ToolSelection
from tests.fakes import TableEmbeddings, ai
from tests.tools.toolbox import (
    CACHED,
    PLAIN,
    anthropic_dict,
    names,
    openai_dict,
    priced,
    request,
    tool,
    toolbox,
    wire,
)

DELETE = HumanMessage("delete the invoice")
IMAGE = HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}])
GPT = ChatOpenAI(model="gpt-5.5", api_key=SecretStr("test"), use_responses_api=True)
DICTS = [openai_dict(one.name, one.description) for one in toolbox()]  # nothing of them is left out


def rebind(**settings: Any) -> ToolSelection:
    return ToolSelection(mode="rebind", **{"max_tools": 2, **settings})


def auto(rates: Rates | None, **settings: Any) -> ToolSelection:
    overrides = {} if rates is None else {"priced": rates}
    return ToolSelection(pricing=Pricing(overrides=overrides), **{"max_tools": 2, "min_tools": 0, **settings})


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


def test_where_the_model_may_search_no_more_what_it_found_stays() -> None:
    search = ai(tool_calls=[{"name": "search_tools", "args": {}, "id": "1"}])
    found = ToolMessage("- export_server(item: string)", name="search_tools", tool_call_id="1")
    selection = rebind().select(request(toolbox(), DELETE, search, found), searches=False)
    assert sent(selection) == ["create_invoice", "delete_invoice", "export_server"]
    assert selection.detail["searcher"] is None


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
        (request([{"type": "web_search"}], DELETE), "nothing to choose from: 0 function tools"),
        (request([openai_dict("one"), {"type": "web_search"}], DELETE), "every tool would be bound: 1 tools"),
        (request(DICTS), "no user message"),
        (request(DICTS, AIMessage("hi")), "no user message"),
        (request(DICTS, IMAGE), "the first user message has no text"),
        (request(DICTS, HumanMessage("  ")), "the first user message has no text"),
        (request([openai_dict("one"), openai_dict("two")], DELETE), "every tool would be bound: 2 tools"),
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


@pytest.mark.parametrize("mode", ["auto", "rebind", "inline", "proxy", "off"])
def test_learning_from_any_request_is_quiet(mode: Any) -> None:
    selection = ToolSelection(mode=mode)
    for given in (request([]), request(toolbox(tool("delete_invoice")), DELETE), request(DICTS, AIMessage("hi"))):
        selection.learn_from(given)
    assert selection.memory.usage.version == 0


def test_inline_where_the_model_cannot_is_as_auto_and_told_of() -> None:
    selection = ToolSelection(mode="inline", max_tools=2, min_tools=0).select(priced(DICTS, DELETE))
    assert selection.detail["mode"] == "rebind"
    assert [type(problem) for problem in selection.problems] == [ConfigurationError]
    few = ToolSelection(mode="inline").select(priced(DICTS[:20], DELETE))
    assert (few.tools, len(few.problems)) == (None, 1)


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


def test_few_and_small_tools_are_all_bound_without_asking_the_embedder() -> None:
    embeddings = TableEmbeddings()
    selection = ToolSelection(embeddings=embeddings).select(request(DICTS[:29], DELETE))
    assert selection.tools is None
    assert selection.reason == f"too few to pay: 29 tools, {selection.tokens_before} schema tokens"
    assert selection.tokens_after == selection.tokens_before
    assert embeddings.asked == []


def test_where_all_are_bound_they_are_sent_as_small_as_they_can_be() -> None:
    large = [{"type": "web_search"}, *(openai_dict(f"tool_{n}", "Does  this,  and  that") for n in range(5))]
    selection = ToolSelection().select(request(large, DELETE))
    assert names(selection.tools or []) == names(large)
    assert (selection.tools or [])[0] is large[0]
    assert [one["function"]["description"] for one in (selection.tools or [])[1:]] == ["Does this, and that"] * 5
    assert ToolSelection(shrink=False).select(request(large, DELETE)).tools is None


def test_where_all_are_bound_the_errors_of_unknown_tools_are_short_too() -> None:
    error = f"Error: gone is not a valid tool, try one of [{', '.join(names(DICTS))}]."
    asked = ai(tool_calls=[{"name": "gone", "args": {}, "id": "1"}])
    failed = ToolMessage(error, name="gone", tool_call_id="1", status="error")
    selection = ToolSelection(min_tools=50).select(request(DICTS, DELETE, asked, failed))
    assert selection.messages is not None
    assert selection.messages[:2] == [DELETE, asked]
    assert selection.messages[2].text.startswith("Error: gone is not a valid tool. The nearest names are: ")
    assert failed.text == error


@pytest.mark.parametrize("mode", ["rebind", "inline", "proxy"])
def test_small_talk_needs_no_tools(mode: Any) -> None:
    embeddings = TableEmbeddings()
    selecting = ToolSelection(mode=mode, max_tools=2, embeddings=embeddings)
    hello = HumanMessage("hello there!")
    selection = selecting.select(request(toolbox(), hello, model=GPT))
    assert sent(selection) == ["search_tools", "call_tool"][: 2 if mode == "proxy" else 1]
    assert wire(selection.messages or []) == wire([hello])
    assert (selection.detail["asked"], selection.detail["embedded"], embeddings.asked) == (0, None, [])
    later = selecting.select(request(toolbox(), hello, AIMessage("Hi!"), DELETE, model=GPT))
    assert later.detail["asked"] == 2


def test_a_message_without_text_may_need_anything() -> None:
    # Where tools are told of in the conversation they would be there for good: the model can search.
    thread = [DELETE, AIMessage("done"), IMAGE]
    assert len(sent(rebind().select(request(toolbox(), *thread)))) == 49
    for mode in ("inline", "proxy"):
        selection = ToolSelection(mode=mode, max_tools=2).select(request(toolbox(), *thread, model=GPT))  # type: ignore[arg-type]
        assert selection.detail["asked"] == 2


def test_a_model_is_told_of_twelve_tools_at_once_inline() -> None:
    given = request(toolbox(), HumanMessage("sort out the paperwork"), model=GPT)
    assert ToolSelection(mode="inline", max_tools=20).select(given).detail["asked"] == 12
    assert ToolSelection(mode="proxy", max_tools=20).select(given).detail["asked"] == 20


def test_tools_that_fit_far_worse_than_the_best_are_not_picked() -> None:
    assert rebind(max_tools=12).select(request(toolbox(), DELETE)).detail["asked"] == 5


@pytest.mark.parametrize(("max_tools", "later"), [(12, 6), (8, 5), (3, 3)])
def test_a_later_message_picks_half_as_many_and_five_where_there_were_as_many(max_tools: int, later: int) -> None:
    first, second = HumanMessage("sort out the paperwork"), HumanMessage("tidy the desk of Ada")
    selection = rebind(max_tools=max_tools)
    bound = selection.select(request(toolbox(), first, AIMessage("done"), second))
    assert bound.detail["asked"] == max_tools  # the later ones are among the first
    assert selection.memory.picks.of([first, second], 1, f"{later} None", list) == tuple(names(DICTS)[:later])


def test_each_message_picks_the_best_that_fit_into_its_tokens_and_one_at_least() -> None:
    tools = [*DICTS[:5], openai_dict("export_file", "word " * 200), openai_dict("export_files", "Writes files")]
    one = TokenCounter().tool(tools[-1])

    def picked(max_tokens: int | None) -> list[str]:
        return sent(
            rebind(max_tokens=max_tokens, max_tools=3).select(request(tools, HumanMessage("export_files, invoice")))
        )

    assert picked(None) == ["search_tools", "create_invoice", "export_file", "export_files"]
    assert picked(1) == picked(one) == ["search_tools", "export_files"]
    assert picked(one + 40) == ["search_tools", "create_invoice", "export_files"]


def test_long_descriptions_are_shortened_to_the_tokens_of_a_tool() -> None:
    tools = [*DICTS, openai_dict("paint", "Paints a picture. " * 50)]
    (paint,) = (
        one
        for one in rebind(tool_tokens=60).select(request(tools, HumanMessage("paint"))).tools or []
        if one["function"]["name"] == "paint"
    )
    assert len(paint["function"]["description"]) < 300
    assert TokenCounter().tool(paint, "gpt-4o-mini") <= 60


def test_tools_are_sent_as_they_are_without_shrinking() -> None:
    selection = rebind(shrink=False).select(request(toolbox(), DELETE))
    assert (selection.tools or [])[1:] == [toolbox()[0], toolbox()[12]]
    assert all(a is b for a, b in zip((selection.tools or [])[1:], [toolbox()[0], toolbox()[12]], strict=True))


def test_breakpoints_are_those_of_the_request() -> None:
    mark = {"type": "ephemeral"}
    plain = toolbox()
    marked = [*plain[:-1], plain[-1].model_copy(update={"extras": {"cache_control": mark}})]
    selection = rebind()
    for tools, expected in ((plain, None), (marked, mark), (list(plain), None), (list(marked), mark)):
        last = (selection.select(request(tools, DELETE)).tools or [])[-1]
        assert (last.extras or {}).get("cache_control") == expected


def test_the_decision_does_not_depend_on_how_long_the_thread_is() -> None:
    ways = []
    for rates in (PLAIN, CACHED, None):
        selection = auto(rates)
        thread: list[Any] = [DELETE]
        seen = {selection.select(priced(DICTS, *thread)).detail.get("mode")}
        for step in range(3):
            thread += [
                ai(tool_calls=[{"name": "delete_invoice", "args": {}, "id": str(step)}]),
                ToolMessage("word " * 5_000, name="delete_invoice", tool_call_id=str(step)),
            ]
            seen.add(selection.select(priced(DICTS, *thread)).detail.get("mode"))
        ways.append(seen)
    assert ways == [{"rebind"}, {None}, {"rebind"}]


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
        "mode": "rebind",
        "embedded": False,
    }


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
    assert late.select(request(toolbox(), HumanMessage("delete the ticket"))).detail["embedded"]
    assert theirs.asked


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"max_tools": 0}, "max_tools"),
        ({"max_tools": True}, "max_tools"),
        ({"max_tools": 2.5}, "max_tools"),
        ({"min_tools": -1}, "min_tools"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tool_tokens": 0}, "tool_tokens"),
        ({"tool_tokens": True}, "tool_tokens"),
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
