"""A thread of several questions, each of which wants a tool that it does not pick, and how it is sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage

from langchain_tokopt.tools.ways import SelectionMode
from tests.providers.agents import chat_model, run
from tests.providers.billing import STEP, Bill
from tests.providers.compared import tool_arrays
from tests.providers.replies import Asked, Provider, Reply
from tests.providers.server import ProviderServer, Record
from tests.providers.wanting import MODELS, wants

RULES = "Be brief. " * 600  # enough for the providers to cache
QUESTIONS = {
    "Please list the invoice of Ada.": "export_server",
    "Thank you! And the calendar?": "create_ticket",
    "Now archive the contract.": "delete_parcel",
    "Who is the customer?": "export_server",
}
# The modes in which what was sent stays as it was.
STABLE: list[tuple[SelectionMode, Provider]] = [
    ("inline", "anthropic"),
    ("inline", "responses"),
    ("proxy", "anthropic"),
    ("proxy", "responses"),
    ("proxy", "openai"),
]
stable = pytest.mark.parametrize(("mode", "name"), STABLE)


def policy(asked: Asked) -> Reply:
    """What the thread's newest question wants."""
    wanted = next(tool for question, tool in QUESTIONS.items() if question in asked.last_user)
    return wants(wanted, text="One moment.", thinking="Hm.")(asked)


def client(name: Provider, server: ProviderServer) -> BaseChatModel:
    """A model whose prompts the provider caches."""
    cached = {"model_kwargs": {"cache_control": {"type": "ephemeral"}}} if name == "anthropic" else {}
    return chat_model(name, server, **MODELS[name], **cached)


def ask_all(agent: Any, config: Any, *, exactly: bool = True) -> dict[str, Any]:
    """Ask all questions in one thread; each is answered with its tool's result. The final state."""
    for question, tool in QUESTIONS.items():
        ran = run("invoke", agent, [HumanMessage(question)], config)
        assert ran.answer == f"Done: {tool}:x" if exactly else ran.answer.endswith(f" {tool}:x")
    return ran.state


def check_appends_only(records: Sequence[Record]) -> None:
    """Each request begins with all of the one before it, and all of that is read from the provider's cache."""
    assert len(tool_arrays(records)) == 1
    for before, now in pairwise(records):
        assert _messages(now)[: len(_messages(before))] == _messages(before)
        sent, read = (before.bill or Bill()).input, (now.bill or Bill()).cache_read
        # OpenAI reads in steps. The last token may be a part of one, and is counted nevertheless.
        assert read == sent if now.provider == "anthropic" else sent - 1 - read in range(-1, STEP)


def _messages(record: Record) -> list[str]:
    """The messages of a request, each as text, without marks for the provider's cache."""
    return [json.dumps(_unmarked(item)) for item in record.body.get("messages") or record.body["input"]]


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unmarked(inner) for key, inner in value.items() if key != "cache_control"}
    return [_unmarked(inner) for inner in value] if isinstance(value, list) else value
