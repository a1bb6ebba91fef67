"""Which ladders there are, and what is refused at construction."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_tokopt.budget import Budget, BudgetMiddleware
from langchain_tokopt.budget.steps import Ladder
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.model import OptimizedChatModel
from langchain_tokopt.steps import straight
from tests.fakes import ScriptedModel

CHEAP = ScriptedModel(model_name="gpt-4.1-nano")


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ("raise", ("clamp", "raise")),
        ("end", ("clamp", "end")),
        ("ask", ("clamp", "ask", "raise")),
        (["end"], ("end",)),
        (("raise",), ("raise",)),
        (("clamp",), ("clamp", "raise")),
        (["compress", "clamp", "ask"], ("compress", "clamp", "ask", "raise")),
        (("ask", "clamp", "end"), ("ask", "clamp", "end")),
    ],
)
def test_a_word_stands_for_a_ladder_and_a_sequence_is_taken_as_it_is(given: Any, steps: tuple[str, ...]) -> None:
    assert Ladder.read(given) == Ladder(steps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given",
    ["clamp", "stop", "", None, 3, (), [], ("clamp", "clamp"), ("end", "raise"), ("raise", "clamp"), (None,), {"end"}],
)
def test_a_ladder_that_cannot_be_climbed_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"on_exceeded=.* cannot be used: "):
        Ladder.read(given)


def test_a_fallback_needs_its_model_and_the_model_its_step() -> None:
    assert Ladder.read(("fallback",), CHEAP) == Ladder(("fallback", "raise"), CHEAP)
    with pytest.raises(ConfigurationError, match="give a cheaper chat model"):
        Ladder.read(("fallback", "clamp"))
    with pytest.raises(ConfigurationError, match='on_exceeded has no "fallback"'):
        Ladder.read("raise", CHEAP)


@pytest.mark.parametrize("given", ["no-such-provider:model", 5, object()])
def test_what_is_no_chat_model_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="fallback_model="):
        Ladder.read(("fallback",), given)


def test_of_a_wrapped_model_the_one_inside_is_called() -> None:
    wrapped = OptimizedChatModel.around(CHEAP, straight, owner="me")
    assert Ladder.read(("fallback",), wrapped).fallback_model is CHEAP
    theirs = OptimizedChatModel.around(CHEAP, straight)
    assert Ladder.read(("fallback",), theirs).fallback_model is theirs


def test_a_budget_reads_its_ladder() -> None:
    budget = Budget(usd="1", on_exceeded=("fallback", "clamp", "end"), fallback_model=CHEAP)
    assert budget.ladder == Ladder(("fallback", "clamp", "end"), CHEAP)
    assert Budget(usd="1").ladder == Ladder()
    with pytest.raises(ConfigurationError, match="on_exceeded"):
        Budget(usd="1", on_exceeded="fallback")  # type: ignore[arg-type]


def test_compress_needs_somebody_who_does_it() -> None:
    budget = Budget(usd="1", on_exceeded=("compress", "raise"))
    with pytest.raises(ConfigurationError, match="compress=None cannot be used"):
        BudgetMiddleware(budget)
    BudgetMiddleware(budget, compress=lambda request: request)
