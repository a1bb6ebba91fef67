"""When results are shown in part, when what was sent is rewritten, and when the tool is bound."""

from __future__ import annotations

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.context.history import HistoryCompression
from langchain_tokopt.context.lossless.size import text_size
from langchain_tokopt.context.policy import Policy, Prices
from langchain_tokopt.context.threads import Reading
from tests.context.in_part import CACHED, UNCACHED, an_agent, handles, log, policy

FREE_TO_READ = Prices(read=0.0, write=1.0)


def read(messages: list[BaseMessage], policy: Policy) -> tuple[list[BaseMessage], Reading]:
    view = HistoryCompression().examine(messages, policy=policy)
    assert view.reading is not None
    return view.messages, view.reading


def in_part(messages: list[BaseMessage]) -> list[int]:
    """The indices of the results that are shown in part."""
    return [at for at, message in enumerate(messages) if handles(str(message.content))]


def test_a_large_new_result_is_shown_in_part_and_a_small_one_whole() -> None:
    shown, reading = read(an_agent([log(1), "all is well"]), policy(prices=CACHED, new=300))
    assert in_part(shown) == [2]
    assert reading.rewrites == ()
    assert reading.trimmable > 300


def test_seen_results_are_rewritten_where_reading_them_again_costs_more() -> None:
    messages = an_agent([log(n, 120) for n in range(4)])
    shown, reading = read(messages, policy(prices=UNCACHED, new=None))
    # The results of the newest step stay.
    assert in_part(shown) == [2, 4, 6]
    assert [rewrite.first for rewrite in reading.rewrites] == [2, 4, 6]
    assert all(rewrite.removed >= 700 for rewrite in reading.rewrites)


def test_where_reading_costs_nothing_nothing_is_rewritten() -> None:
    _, reading = read(an_agent([log(n) for n in range(12)]), policy(prices=FREE_TO_READ, new=None))
    assert reading.rewrites == ()


def test_with_a_cache_what_was_sent_is_rewritten_seldom() -> None:
    messages = an_agent([log(n, 120) for n in range(20)])
    _, cached = read(messages, policy(prices=CACHED, new=None))
    _, uncached = read(messages, policy(prices=UNCACHED, new=None))
    assert 0 < len(cached.rewrites) < len(uncached.rewrites)
    assert cached.rewrites[0].call > uncached.rewrites[0].call
    assert cached.rewrites[0].removed > 5 * uncached.rewrites[0].removed


def test_a_thread_that_ends_soon_is_not_rewritten_and_a_long_one_early() -> None:
    messages = an_agent([log(n) for n in range(4)])
    _, short = read(messages, policy(prices=Prices(0.5, 1.5), new=None, calls=(4,) * 50))
    _, long = read(messages, policy(prices=Prices(0.5, 1.5), new=None, calls=(90,) * 50))
    assert short.rewrites == ()
    assert long.rewrites != ()


def test_the_newest_steps_stay() -> None:
    messages = an_agent([log(n, 120) for n in range(6)])
    assert in_part(read(messages, policy(prices=UNCACHED, new=None, keep_steps=3))[0]) == [2, 4, 6]


def test_a_call_that_is_made_again_changes_nothing() -> None:
    messages, history = an_agent([log(n) for n in range(6)]), HistoryCompression()
    first, second = (history.examine(messages, policy=policy(prices=UNCACHED)) for _ in range(2))
    assert first.messages == second.messages
    assert first.reading == second.reading


def test_the_tool_is_bound_from_the_start_where_results_are_expected_to_be_large() -> None:
    messages = an_agent(["all is well"])
    assert read(messages, policy(trims=True))[1].bound
    assert not read(messages, policy(trims=False))[1].bound


def test_the_tool_is_bound_late_where_that_pays() -> None:
    messages = an_agent(["all is well", log(1, 400), "all is well"])
    shown, reading = read(messages, policy(trims=False, new=300))
    assert reading.bound
    assert reading.bound_at == 4
    assert in_part(shown) == [4]


def test_the_tool_is_not_bound_for_little() -> None:
    messages = an_agent([*[f"all is well with {n}" for n in range(200)], log(1, 20)])
    shown, reading = read(messages, policy(trims=False, new=300, lossless=None))
    assert not reading.bound
    assert in_part(shown) == []
    assert not reading.marks


def test_results_that_are_errors_are_never_shown_in_part() -> None:
    messages = an_agent([log(1)])
    messages[-1] = messages[-1].model_copy(update={"status": "error"})
    shown, _ = read(messages, policy(prices=UNCACHED, new=100))
    assert shown[-1] is messages[-1]


def test_what_the_model_asked_for_stays_and_gives_new_results_more_room() -> None:
    messages = an_agent([log(1)])
    call = {"name": "retrieve_original", "args": {"id": "0"}, "id": "r", "type": "tool_call"}
    asked = [
        AIMessage("", tool_calls=[call]),
        ToolMessage(log(1), tool_call_id="r", name="retrieve_original", artifact={"tokopt_retrieved": True}),
    ]
    later = an_agent(["", log(2)])[3:]
    one, _ = read([*messages, *later], policy(new=300, lossless=None, keep_steps=9))
    other, _ = read([*messages, *asked, *later], policy(new=300, lossless=None, keep_steps=9))
    assert other[4] is asked[1]
    assert text_size(str(one[-1].content)) < text_size(str(other[-1].content)) <= text_size(log(2))


def test_a_result_that_referred_to_what_is_rewritten_is_shown_anew() -> None:
    messages = an_agent([log(1), f"{log(1)}\n{log(2)}", log(3), log(4)])
    shown, reading = read(messages, policy(prices=UNCACHED, new=None, keep_steps=1, old=40))
    assert reading.rewrites
    assert "[same as" not in "".join(str(message.content) for message in shown)


def test_a_thread_without_results_has_sizes() -> None:
    messages: list[BaseMessage] = [HumanMessage("Hello"), AIMessage("Hello!")]
    view = HistoryCompression().examine(messages, policy=policy())
    assert view.messages == messages
