"""Histories with results that are large, and policies that show them in part, for tests."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from langchain_tokopt.context import progress
from langchain_tokopt.context.lossless.ingest import Ingest
from langchain_tokopt.context.policy import Expected, Policy, Prices, Sizes
from tests.strategies import tool_texts

TOOL = "retrieve_original"
LOSSLESS = Ingest(dedupe=True, json=True, whitespace=True, min_tokens=8)
CACHED = Prices(read=0.1, write=1.25)
UNCACHED = Prices(read=1.0, write=1.0)
_HANDLE = re.compile(r'\[shown in part; retrieve_original\("([0-9a-f]{8})"\) has all of it\]')


def policy(
    *,
    prices: Prices = CACHED,
    new: int | None = 300,
    old: int = 40,
    keep_steps: int = 1,
    trims: bool = True,
    tool: str | None = TOOL,
    lossless: Ingest | None = LOSSLESS,
    calls: tuple[int, ...] = (),
) -> Policy:
    """One that shows results in part early."""
    return Policy(
        lossless=lossless,
        sizes=Sizes(new=new, old=old, keep_steps=keep_steps),
        prices=prices,
        expected=Expected(calls, trims),
        tool=tool,
    )


def policies() -> st.SearchStrategy[Policy]:
    """Any that shows results in part."""
    return st.builds(
        policy,
        prices=st.sampled_from([CACHED, UNCACHED, Prices(0.5, 1.0)]),
        new=st.sampled_from([None, 30, 120, 400]),
        old=st.sampled_from([20, 60]),
        keep_steps=st.sampled_from([1, 2]),
        trims=st.booleans(),
        tool=st.sampled_from([TOOL, TOOL, TOOL, None]),
        lossless=st.sampled_from(
            [LOSSLESS, LOSSLESS, None, Ingest(dedupe=True, json=False, whitespace=False, min_tokens=8)]
        ),
        calls=st.sampled_from([(), (3, 20, 40)]),
    )


@contextmanager
def rewriting_early() -> Iterator[None]:
    """Rewrites need to remove next to nothing, so that small histories have them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "LEAST_REMOVED", 30)
        patch.setattr(progress, "LEAST_LOST", 5)
        yield


def log(seed: int, lines: int = 60) -> str:
    """A log in which every line has a name of its own."""
    dice = random.Random(seed)
    return "\n".join(
        f"INFO worker_{dice.randrange(100)} finished job/{dice.randrange(10**6):06d} in {dice.randrange(900)} ms"
        for _ in range(lines)
    )


def large_texts() -> st.SearchStrategy[str]:
    """Outputs of some hundred tokens, some of which say again what others say."""
    logs = st.builds(log, st.integers(0, 3), st.integers(10, 60))
    return st.one_of(logs, logs, tool_texts(), st.builds("{}\n{}".format, tool_texts(), logs))


@st.composite
def agent_threads(draw: st.DrawFn, *, max_steps: int = 8) -> list[BaseMessage]:
    """A task, and steps of an agent: calls and their results, now and then another question."""
    messages: list[BaseMessage] = [HumanMessage("Find out why job/000001 of worker_7 failed.", id="task")]
    for step in range(draw(st.integers(1, max_steps))):
        if draw(st.integers(0, 5)) == 0:
            messages.append(HumanMessage(f"And what about worker_{step}?", id=f"q{step}"))
        texts = draw(st.lists(large_texts(), min_size=1, max_size=2))
        args = [{"path": f"logs/{draw(st.integers(0, 9))}.log"} for _ in texts]
        calls = [
            {"name": draw(st.sampled_from(["read", "bash"])), "args": given, "id": f"c{step}-{n}", "type": "tool_call"}
            for n, given in enumerate(args)
        ]
        messages.append(AIMessage(draw(st.sampled_from(["", "I look at it."])), tool_calls=calls, id=f"a{step}"))
        for n, (call, text) in enumerate(zip(calls, texts, strict=True)):
            blocks = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "data:,"}}]
            content = draw(st.sampled_from([text, text, text, blocks]))
            status = draw(st.sampled_from(["success", "success", "success", "error"]))
            messages.append(ToolMessage(content, tool_call_id=call["id"], id=f"r{step}-{n}", status=status))
    if draw(st.booleans()):
        messages.append(AIMessage("Done: it was the disk.", id="end"))
    return messages


def an_agent(texts: Sequence[str], *, name: str = "read") -> list[BaseMessage]:
    """A task and one step for each text, which the tool answers."""
    messages: list[BaseMessage] = [HumanMessage("Find out why job/000001 of worker_7 failed.", id="task")]
    for step, text in enumerate(texts):
        call = {"name": name, "args": {"path": f"logs/{step}.log"}, "id": f"c{step}", "type": "tool_call"}
        messages.append(AIMessage("", tool_calls=[call], id=f"a{step}"))
        messages.append(ToolMessage(text, tool_call_id=f"c{step}", name=name, id=f"r{step}"))
    return messages


def handles(text: str) -> list[str]:
    """What a text that is shown in part says that its original is asked for by."""
    return _HANDLE.findall(text)
