"""LangChain's `SummarizationMiddleware`, with a model that writes perfect summaries: just what will be needed.

How well a live model summarises is not measured here; what it never gets to see is lost whatever it can do. Facts stand
in the summary in their own words, the newest first, as far as half of the context has room for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.runtime import Runtime


class PerfectSummary(BaseChatModel):
    """Answers with those of `facts` that it is shown, in an earlier summary too: as many as `max_tokens` hold."""

    facts: list[str]
    max_tokens: int

    @property
    def _llm_type(self) -> str:
        return "perfect-summary"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        shown = "\n".join(message.text for message in messages)
        kept: list[str] = []
        for fact in reversed(self.facts):
            line = AIMessage("\n".join([fact, *kept]))
            if fact in shown and count_tokens_approximately([line]) <= self.max_tokens:
                kept.insert(0, fact)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("\n".join(kept) or "Nothing."))])


def kept_facts(messages: Sequence[AnyMessage], facts: Mapping[str, str], max_tokens: int) -> set[str]:
    """Which of `facts`, id of a message -> its text, the model still sees at the end of the conversation.

    The middleware looks at the conversation after each message, as in an agent, with its own defaults but for the
    number of tokens at which it summarises.
    """
    model = PerfectSummary(facts=list(facts.values()), max_tokens=max_tokens // 2)
    middleware: SummarizationMiddleware[Any, Any] = SummarizationMiddleware(model, trigger=("tokens", max_tokens))
    state: list[AnyMessage] = []
    for message in messages:
        state.append(message)
        update = middleware.before_model({"messages": state}, Runtime())
        if update is not None:
            state = update["messages"][1:]  # the first one removes all that were there
    shown = "\n".join(message.text for message in state)
    return {name for name, text in facts.items() if text in shown}
