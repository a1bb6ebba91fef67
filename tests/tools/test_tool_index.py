from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.embeddings import Embeddings

from langchain_tokopt.embeddings import MemoEmbeddings
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.encoder import Encoder
from langchain_tokopt.tools.usage import LearnedUsage
from tests.fakes import FakeClock, TableEmbeddings
from tests.tools.toolbox import anthropic_dict, openai_dict, tool, toolbox


def test_words_in_common_rank_a_tool_first() -> None:
    index = ToolIndex(toolbox())
    assert index.top("Delete the invoice of May", 1) == ["delete_invoice"]
    assert set(index.top("export something", 12)) == {name for name in index.names if name.startswith("export_")}


def test_equal_scores_keep_registration_order() -> None:
    index = ToolIndex([tool("b_one"), tool("a_two"), tool("c_three")])
    assert index.top("nothing in common", 3) == ["b_one", "a_two", "c_three"]


def test_meaning_finds_what_words_do_not() -> None:
    fly, cook = tool("fly", "Book a flight"), tool("cook", "Find a recipe")
    table = {
        "fly: Book a flight Parameters: item": [1, 0, 0],
        "cook: Find a recipe Parameters: item": [0, 1, 0],
        "something for dinner": [0.1, 0.9, 0],
    }
    index = ToolIndex([fly, cook], embeddings=TableEmbeddings(table))
    assert index.embedded("something for dinner") is None
    assert index.top("something for dinner", 1) == ["cook"]
    assert index.embedded("something for dinner") is True
    by_words = ToolIndex([fly, cook])
    assert by_words.top("something for dinner", 1) == ["fly"]
    assert by_words.embedded("something for dinner") is False


def test_meaning_and_words_are_added_as_standard_scores() -> None:
    # Two tools: every standard score is +1 or -1, so meaning (weight 1) wins over words (weight 0.4).
    one, two = tool("one", "pears"), tool("two", "apples")
    table = {"one: pears Parameters: item": [1, 0], "two: apples Parameters: item": [0, 1], "pears": [0.6, 0.8]}
    index = ToolIndex([one, two], embeddings=TableEmbeddings(table, dim=2))
    assert index.top("pears", 2) == ["two", "one"]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Not export_report, I mean delete_server.", ["delete_server", "export_report"]),
        ("use `list_contract`: export the report", ["list_contract"]),
    ],
)
def test_tools_named_in_the_text_come_first(text: str, first: list[str]) -> None:
    assert ToolIndex(toolbox()).top(text, len(first)) == first


def test_a_name_that_is_an_ordinary_word_counts_only_when_it_is_meant_as_a_name() -> None:
    index = ToolIndex([tool("send", "Post a letter"), tool("search", "Look for files"), tool("getUser", "x")])
    assert index.mentioned("search the files and send them to getUser") == ["getUser"]
    assert index.mentioned("call `search` and then send(item)") == ["send", "search"]


def test_a_tool_without_a_description_is_found_by_its_name_and_parameters() -> None:
    index = ToolIndex([openai_dict("open_door"), openai_dict("close_window")])
    assert index.top("please close that window", 1) == ["close_window"]


def test_tools_that_the_provider_runs_are_left_out() -> None:
    index = ToolIndex([{"type": "web_search"}, tool("send"), anthropic_dict("fetch")])
    assert index.names == ("send", "fetch")
    assert len(index) == 2
    assert "send" in index
    assert "web_search" not in index


def test_equal_names_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"tools='send' cannot be used: two tools have this name"):
        ToolIndex([tool("send"), openai_dict("send")])


def test_a_search_matches_nothing_without_a_word_or_a_meaning_in_common() -> None:
    index = ToolIndex([tool("fly"), tool("cook")])
    assert index.matches("quantum", 5) == []
    assert [spec.name for spec in index.matches("cook", 5)] == ["cook"]


def test_a_meaning_far_away_is_no_match() -> None:
    table = {"fly: fly Parameters: item": [1, 0], "cook: cook Parameters: item": [0.1, 0.995], "travel": [1, 0]}
    table |= {"fly": [1, 0], "cook": [0.1, 0.995]}
    index = ToolIndex([tool("fly"), tool("cook")], embeddings=TableEmbeddings(table, dim=2))
    assert [spec.name for spec in index.matches("travel", 5)] == ["fly"]


def test_only_the_ends_of_a_huge_text_are_read() -> None:
    embeddings = TableEmbeddings()
    index = ToolIndex(toolbox(), embeddings=embeddings)
    text = "delete the invoice " + "x" * 1_000_000 + " export"
    assert index.top(text, 1) == ["delete_invoice"]
    assert max(len(asked) for asked in embeddings.asked) == 4_001


def test_empty_text_and_no_tools_are_fine() -> None:
    assert ToolIndex([]).top("anything", 5) == []
    assert ToolIndex(toolbox(), embeddings=TableEmbeddings()).top("", 2) == ["create_invoice", "create_ticket"]


class Broken(Embeddings):
    def __init__(self) -> None:
        self.asked = 0
        self.works = False

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked += 1
        if not self.works:
            msg = "no such model"
            raise ValueError(msg)
        return [[1.0, 0.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def test_a_failing_embedder_is_left_alone_for_a_minute_and_words_decide() -> None:
    clock, broken = FakeClock(), Broken()
    encoder = Encoder(broken, clock=clock)
    index = ToolIndex(toolbox(), embeddings=encoder)
    assert index.top("delete the invoice", 1) == ["delete_invoice"]
    assert index.top("delete the ticket", 1) == ["delete_ticket"]
    assert broken.asked == 1
    assert [str(problem) for problem in encoder.problems()] == ["no such model"]
    assert encoder.problems() == ()
    broken.works = True
    clock.advance(61)
    assert index.top("delete the server", 1) == ["delete_server"]
    assert index.embedded("delete the server")
    assert not index.embedded("delete the invoice")  # what was ranked once stays


class Slow(TableEmbeddings):
    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.go_on.wait(30)
        return super().embed_documents(texts)


def test_a_slow_embedder_is_not_waited_for_again_and_used_when_it_is_there() -> None:
    slow = Slow()
    encoder = Encoder(slow, timeout_seconds=0.01)
    index = ToolIndex(toolbox(), embeddings=encoder)
    assert index.top("delete the invoice", 1) == ["delete_invoice"]
    assert index.top("delete the ticket", 1) == ["delete_ticket"]
    assert [type(problem) for problem in encoder.problems()] == [TimeoutError]
    slow.go_on.set()
    index.warm()
    patient = ToolIndex(toolbox(), embeddings=slow)
    assert patient.top("delete the invoice", 1) == ["delete_invoice"]
    assert patient.embedded("delete the invoice")


def test_a_large_set_is_embedded_in_batches() -> None:
    sizes: list[int] = []

    class Counted(TableEmbeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            sizes.append(len(texts))
            return super().embed_documents(texts)

    index = ToolIndex([tool(f"tool_{number}") for number in range(130)], embeddings=Counted())
    assert index.top("use tool_129", 1) == ["tool_129"]
    assert index.embedded("use tool_129")
    assert sizes == [128, 128, 4]  # 64 tools at a time, of which name and description are the same


def test_a_process_that_ends_while_tools_are_embedded_ends_in_order() -> None:
    script = """
import threading, time
from langchain_tokopt.tools import ToolIndex
from langchain_tokopt.tools.encoder import Encoder
from tests.fakes import TableEmbeddings
from tests.tools.toolbox import tool

class Slow(TableEmbeddings):
    def embed_documents(self, texts):
        time.sleep(0.2)
        print("batch", flush=True)
        return super().embed_documents(texts)

tools = [tool(f"tool_{n}") for n in range(70)]
ToolIndex(tools, embeddings=Encoder(Slow(), timeout_seconds=0.001)).top("anything", 1)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "batch\n")


# --- those that fit ---


MANY_THINGS = "delete or export the invoice or the ticket, or list the servers"


def test_tools_that_fit_far_worse_than_the_best_are_left_out() -> None:
    index = ToolIndex(toolbox())
    assert index.fitting(MANY_THINGS, 12) == index.top(MANY_THINGS, 9)
    assert index.top(MANY_THINGS, 12)[9:] == ["create_server", "create_invoice", "create_ticket"]


def test_five_tools_always_fit() -> None:
    index = ToolIndex(toolbox())
    assert index.fitting("nothing in common", 12) == index.top("nothing in common", 12)
    assert index.fitting("delete the invoice", 12) == index.top("delete the invoice", 5)
    assert index.fitting("delete the invoice", 3) == index.top("delete the invoice", 3)


def test_a_tool_that_is_named_is_no_measure_for_the_others() -> None:
    index = ToolIndex(toolbox(tool("zebra")))
    assert index.fitting(f"{MANY_THINGS}, `zebra`", 12) == ["zebra", *index.fitting(MANY_THINGS, 12)]


# --- requests for several things -------------------------------------------------------------------------------------

TWO_THINGS = "delete the old invoice and the invoice copies of May, then export every server"
PARTS = ["delete the old invoice", "the invoice copies of May", "export every server"]


def test_a_text_that_asks_for_two_things_is_ranked_by_its_parts_too() -> None:
    index = ToolIndex(toolbox())
    as_one = "delete the old invoice with the invoice copies of May export every server"
    assert index.top(as_one, 2) == ["delete_invoice", "delete_server"]
    assert index.top(TWO_THINGS, 2) == ["delete_invoice", "export_server"]


class OnThisMachine(MemoEmbeddings):
    """An embedder that takes many texts at once."""

    local = True  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        (MemoEmbeddings, [TWO_THINGS]),
        (OnThisMachine, [TWO_THINGS, *PARTS]),
    ],
)
def test_parts_are_embedded_only_where_that_is_no_further_call(kind: type[MemoEmbeddings], asked: list[str]) -> None:
    embeddings = TableEmbeddings()
    index = ToolIndex([tool("fly"), tool("cook")], embeddings=kind(embeddings))
    index.warm()
    embeddings.asked.clear()
    index.top(TWO_THINGS, 1)
    assert embeddings.asked == asked


# --- learning --------------------------------------------------------------------------------------------------------


def test_a_tool_that_a_text_led_to_rises_for_texts_like_it() -> None:
    index = ToolIndex(toolbox())
    assert index.top("sort out the paperwork of Ada", 1) == ["create_invoice"]  # nothing fits: the first one
    index.learn("sort out the paperwork", ["export_contract"])
    assert index.top("sort out the paperwork of Ada", 1) == ["export_contract"]
    assert index.top("delete the invoice", 1) == ["delete_invoice"]


def test_a_tool_that_was_learned_moves_towards_the_question() -> None:
    table = {
        **{text: [1, 0, 0] for text in ("fly: fly Parameters: item", "fly")},
        **{text: [0, 1, 0] for text in ("cook: cook Parameters: item", "cook")},
        "hungry": [0, 0.3, 0.954],
        "starving": [0.3, 0, 0.954],
    }
    index = ToolIndex([tool("fly"), tool("cook")], embeddings=TableEmbeddings(table, dim=3))
    assert index.top("starving", 1) == ["fly"]
    index.learn("hungry", ["cook"])
    assert index.top("starving", 1) == ["cook"]


def test_tools_that_are_called_together_come_together() -> None:
    index = ToolIndex([tool("alpha"), tool("beta"), tool("gamma")])
    assert index.top("alpha", 3) == ["alpha", "beta", "gamma"]
    index.learn("tidy up", ["alpha", "gamma"])
    assert index.top("alpha", 3) == ["alpha", "gamma", "beta"]


def test_a_tool_that_follows_another_comes_when_that_one_was_called() -> None:
    index = ToolIndex(toolbox())
    index.learn("and off with it", ["export_server"], before=["list_report"])
    assert index.top("next", 1, before=["list_report"]) == ["export_server"]
    assert index.top("next", 1, before=["list_ticket"]) == ["create_invoice"]


def test_nothing_is_learned_of_unknown_tools_and_of_texts_without_words() -> None:
    usage = LearnedUsage()
    index = ToolIndex(toolbox(), usage=usage)
    index.learn("sort out the paperwork", ["gone", "search_tools"])
    assert usage.version == 0
    index.learn("  ", ["export_contract"])
    assert index.top("  ", 1) == ["create_invoice"]


def test_what_was_learned_holds_in_any_registry_until_the_tool_changes() -> None:
    usage = LearnedUsage()
    ToolIndex(toolbox(), usage=usage).learn("sort out the paperwork", ["export_contract"])
    other = ToolIndex([tool("other"), tool("export_contract")], usage=usage)
    assert other.top("sort out the paperwork", 1) == ["export_contract"]
    changed = ToolIndex([tool("other"), tool("export_contract", "Export a contract as PDF")], usage=usage)
    assert changed.top("sort out the paperwork", 1) == ["other"]


def test_usage_is_brought_up_to_date_before_each_new_ranking() -> None:
    recalled: list[tuple[str, int]] = []

    def recall(embedder: str, digests: Sequence[bytes]) -> None:
        recalled.append((embedder, len(digests)))

    index = ToolIndex(toolbox(), embeddings=TableEmbeddings(), recall=recall)
    index.top("delete the invoice", 1)
    index.top("delete the invoice", 2)  # ranked already
    index.top("delete the ticket", 1)
    assert recalled == [("TableEmbeddings/8", 48)] * 2
    index.learn("delete the invoice", ["delete_invoice"])
    index.top("delete the invoice", 1)
    assert len(recalled) == 3


@pytest.mark.parametrize("seconds", [0, -1, True, float("nan"), "5"])
def test_a_time_limit_that_cannot_work_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="embed_timeout_seconds"):
        Encoder(TableEmbeddings(), timeout_seconds=seconds)


BOX = toolbox()
INDEX, SAME = ToolIndex(BOX), ToolIndex(BOX)


@given(st.text(max_size=200), st.integers(0, 60))
def test_any_text_gives_different_tools_and_the_same_every_time(text: str, k: int) -> None:
    first = INDEX.top(text, k)
    assert len(first) == len(set(first)) == min(k, len(BOX))
    assert SAME.top(text, k) == first
