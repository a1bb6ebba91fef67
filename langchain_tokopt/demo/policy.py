"""A chat model that needs no API key: it follows a plan, and knows only what its prompt says.

It decides as a model would have to: from the newest question, from the tool results that are in the messages it is
sent, and from the tools that are bound in this very call. It keeps nothing between calls. So when an optimiser hides
what it needs, its next step or its answer is a different one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain.agents.middleware.types import ModelRequest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolCall
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from langchain_tokopt.demo.plans import Want, plan_for
from langchain_tokopt.demo.sight import NOTHING, Result, Sight
from langchain_tokopt.demo.wholes import is_original, whole
from langchain_tokopt.prefix import PromptCache, rates_in_use, segments
from langchain_tokopt.pricing import Rates
from langchain_tokopt.tokens import TokenCounter

SEARCH_TOOLS = "search_tools"
# An agent that has called the model so often for one question says what it has found.
MAX_STEPS = 16


@dataclass(frozen=True)
class Bill:
    """How the provider that is played counts and bills: its prices, its prompt cache, its tokeniser."""

    rates: Rates
    counter: TokenCounter
    cache: PromptCache

    def usage(
        self,
        model: BaseChatModel,
        messages: Sequence[BaseMessage],
        tools: Sequence[Mapping[str, Any]],
        answer: AIMessage,
        settings: Mapping[str, Any],
    ) -> UsageMetadata:
        """What a provider would report for this call: everything that it was sent, and what of it was cached."""
        system = messages[0] if messages and isinstance(messages[0], SystemMessage) else None
        request: ModelRequest[Any] = ModelRequest(
            model=model,
            messages=list(messages[1:] if system else messages),  # type: ignore[arg-type]
            system_message=system,
            tools=[dict(tool) for tool in tools],
            model_settings=dict(settings),
        )
        use = self.cache.observe(segments(request, self.counter), rates_in_use(request, self.rates))
        written = self.counter.text(answer.text, self.rates.model)
        for call in answer.tool_calls:
            written += 8 + self.counter.text(call["name"] + json.dumps(call["args"]), self.rates.model)
        written = max(written, 1)
        return UsageMetadata(
            input_tokens=use.total,
            output_tokens=written,
            total_tokens=use.total + written,
            input_token_details=InputTokenDetails(cache_read=use.read, cache_creation=use.write),
        )


class PolicyModel(BaseChatModel):
    """The scripted model; without a `bill` it reports no usage. `provider` and `model_name`: which model it plays."""

    model_name: str = "scripted-policy"
    provider: str = "tokopt-demo"
    _bill: Bill | None = PrivateAttr(default=None)

    def __init__(
        self, *, bill: Bill | None = None, model_name: str = "scripted-policy", provider: str = "demo"
    ) -> None:
        super().__init__(model_name=model_name, provider=provider)  # type: ignore[call-arg]
        self._bill = bill

    @property
    def _llm_type(self) -> str:
        return "tokopt-demo-policy"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"model_name": self.model_name, "provider": self.provider}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        params = {"ls_provider": self.provider, "ls_model_name": self.model_name}
        return {**super()._get_ls_params(stop=stop, **kwargs), **params}

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        tools = kwargs.pop("tools", None) or []
        answer = next_message(messages, tools)
        if self._bill is not None:
            answer.usage_metadata = self._bill.usage(self, messages, tools, answer, kwargs)
        reason = "tool_calls" if answer.tool_calls else "stop"
        answer.response_metadata = {"model_name": self.model_name, "finish_reason": reason}
        return ChatResult(generations=[ChatGeneration(message=answer)], llm_output={"model_name": self.model_name})


def next_message(messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]]) -> AIMessage:
    """The policy's next message for a prompt: tool calls, or its answer. The same for the same prompt."""
    sight = Sight.of(messages, tools)
    plan = plan_for(sight.question)
    left = [result for result in sight.results if result.tool != SEARCH_TOOLS and not is_original(result)]
    asked_for = {str(value) for r in sight.results if r.tool == SEARCH_TOOLS for value in r.args.values()}
    got = None
    try:
        while True:
            wants = next(plan) if got is None else plan.send(got)
            got, calls = [], []
            for want in wants:
                result, call = _taken(want, left), None
                if result is not None:
                    result, call = whole(result, sight.results)
                if result is not None and (call is None or sight.steps > MAX_STEPS):
                    got.append(result)
                    continue
                if result is None and sight.steps <= MAX_STEPS:
                    call = _choose(want, sight, asked_for)
                got.append(NOTHING)
                if call is not None and call not in calls:
                    calls.append(call)
            if calls:
                return AIMessage(content="", tool_calls=[_with_id(call, messages, n) for n, call in enumerate(calls)])
    except StopIteration as end:
        return AIMessage(content=str(end.value))


def _taken(want: Want, left: list[Result]) -> Result | None:
    """The result of one of the wanted calls, taken from those not yet used; `None` when there is none."""
    for name, args in want.calls:
        for result in left:
            if result.tool == name and result.args == args:
                left.remove(result)
                return result
    return None


def _choose(want: Want, sight: Sight, asked_for: set[str]) -> tuple[str, Mapping[str, Any]] | None:
    """The call to make for a want with the tools that are bound; `None` when none of them will do."""
    best = want.calls[0][0]
    if best not in sight.tools and SEARCH_TOOLS in sight.tools and want.words not in asked_for:
        properties = sight.tools[SEARCH_TOOLS].get("properties") or {}
        query = next((name for name, schema in properties.items() if schema.get("type") == "string"), "query")
        return SEARCH_TOOLS, {query: want.words}
    return next(((name, args) for name, args in want.calls if name in sight.tools), None)


def _with_id(call: tuple[str, Mapping[str, Any]], messages: Sequence[BaseMessage], number: int) -> ToolCall:
    """The call with an id that no earlier call in the prompt has."""
    name, args = call
    earlier = [c["id"] for message in messages if isinstance(message, AIMessage) for c in message.tool_calls]
    digest = hashlib.blake2b(json.dumps([earlier, name, args, number]).encode(), digest_size=8).hexdigest()
    return ToolCall(type="tool_call", id=f"call_{digest}", name=name, args=dict(args))
