from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from langchain_tokopt.errors import StoreError
from langchain_tokopt.tools.picks import NAMELESS_SECONDS, Picks
from tests.fakes import FakeClock

FIRST = HumanMessage("delete the invoice", id="1")
NAMELESS = HumanMessage("delete the invoice")


class Keeper:
    """Keeps the first picks for each key; `broken` is what each question raises then."""

    def __init__(self) -> None:
        self.kept: dict[bytes, tuple[str, ...]] = {}
        self.asked: list[str] = []
        self.broken: set[str] = set()

    def picks(self, key: bytes) -> Sequence[str] | None:
        self._ask("picks")
        return self.kept.get(key)

    def keep_picks(self, key: bytes, names: Sequence[str]) -> Sequence[str]:
        self._ask("keep_picks")
        return self.kept.setdefault(key, tuple(names))

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if what in self.broken:
            raise StoreError(f"{what} failed")


def gives(*names: str) -> Callable[[], Sequence[str]]:
    return lambda: names


def never() -> Sequence[str]:
    raise AssertionError("asked for tools that are known")


def test_a_message_keeps_the_tools_that_were_picked_first() -> None:
    picks = Picks()
    assert picks.of([FIRST], 0, "", gives("a", "b")) == ("a", "b")
    assert picks.of([FIRST], 0, "", never) == ("a", "b")
    assert picks.of([AIMessage("hello"), FIRST], 1, "", never) == ("a", "b")


def test_no_tools_are_an_answer_too() -> None:
    picks = Picks()
    assert picks.of([FIRST], 0, "", gives()) == ()
    assert picks.of([FIRST], 0, "", never) == ()


@pytest.mark.parametrize(
    ("other", "settings"),
    [
        (HumanMessage("delete the invoice", id="2"), ""),
        (HumanMessage("delete the ticket", id="1"), ""),  # a user may edit a message
        (NAMELESS, ""),
        (FIRST, "20"),
    ],
)
def test_another_message_or_setting_is_picked_for_anew(other: HumanMessage, settings: str) -> None:
    picks = Picks()
    picks.of([FIRST], 0, "", gives("a"))
    assert picks.of([other], 0, settings, gives("b")) == ("b",)


def test_a_message_without_an_id_is_known_by_what_the_user_said_up_to_it() -> None:
    picks = Picks()
    thread: list[BaseMessage] = [NAMELESS, AIMessage("done"), HumanMessage("and the ticket")]
    picks.of(thread, 0, "", gives("a"))
    picks.of(thread, 2, "", gives("b"))
    copied: list[BaseMessage] = [HumanMessage(NAMELESS.text), AIMessage("said otherwise"), HumanMessage(thread[2].text)]
    assert (picks.of(copied, 0, "", never), picks.of(copied, 2, "", never)) == (("a",), ("b",))
    assert picks.of([thread[2]], 0, "", gives("c")) == ("c",)
    # Where one text ends and the next begins is part of what was said.
    split = [HumanMessage("delete the"), HumanMessage("invoice\0and the ticket")]
    assert picks.of(split, 1, "", gives("d")) == ("d",)


def test_what_was_picked_without_an_id_is_forgotten_after_an_hour() -> None:
    clock = FakeClock()
    picks = Picks(clock=clock)
    for message in (NAMELESS, FIRST):
        picks.of([message], 0, "", gives("a"))
    clock.advance(NAMELESS_SECONDS - 1)
    assert picks.of([NAMELESS], 0, "", never) == ("a",)
    clock.advance(1)
    assert picks.of([NAMELESS], 0, "", gives("b")) == ("b",)
    assert picks.of([FIRST], 0, "", never) == ("a",)
    clock.advance(NAMELESS_SECONDS - 1)
    assert picks.of([NAMELESS], 0, "", never) == ("b",)


def test_who_picks_first_picks_for_all() -> None:
    keeper = Keeper()
    one, other = Picks(keeper), Picks(keeper)
    assert one.of([FIRST], 0, "", gives("a")) == ("a",)
    assert other.of([FIRST], 0, "", never) == ("a",)
    assert keeper.asked == ["picks", "keep_picks", "picks"]
    # At the same moment: the other had asked before the first one had kept anything.
    late = HumanMessage("list the reports", id="9")

    def meanwhile() -> Sequence[str]:
        one.of([late], 0, "", gives("first"))
        return ("second",)

    assert other.of([late], 0, "", meanwhile) == ("first",)
    assert other.of([late], 0, "", never) == ("first",)


def test_a_message_without_an_id_is_nobody_elses() -> None:
    keeper = Keeper()
    Picks(keeper).of([NAMELESS], 0, "", gives("a"))
    assert keeper.asked == []


@pytest.mark.parametrize(("broken", "asked"), [("picks", ["picks"]), ("keep_picks", ["picks", "keep_picks"])])
def test_a_keeper_that_fails_is_told_of_and_not_asked_again_for_the_message(broken: str, asked: list[str]) -> None:
    keeper, problems = Keeper(), list[Exception]()
    keeper.broken = {broken}
    picks = Picks(keeper, failed=problems.append)
    assert picks.of([FIRST], 0, "", gives("a")) == ("a",)
    assert picks.of([FIRST], 0, "", never) == ("a",)
    assert keeper.asked == asked
    assert [str(problem) for problem in problems] == [f"{broken} failed"]


def test_an_error_of_the_ranking_is_not_the_keepers() -> None:
    problems: list[Exception] = []
    picks = Picks(Keeper(), failed=problems.append)
    with pytest.raises(AssertionError, match="asked for tools"):
        picks.of([FIRST], 0, "", never)
    assert problems == []
    assert picks.of([FIRST], 0, "", gives("a")) == ("a",)


def test_texts_that_cannot_be_encoded_are_told_apart() -> None:
    picks = Picks()
    assert picks.of([HumanMessage("\ud800")], 0, "", gives("a")) == ("a",)
    assert picks.of([HumanMessage("\udfff")], 0, "", gives("b")) == ("b",)
    assert picks.of([HumanMessage("\ud800")], 0, "", never) == ("a",)
