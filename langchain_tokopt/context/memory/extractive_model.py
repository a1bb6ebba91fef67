"""The extractive digest as a chat model: LangChain's `SummarizationMiddleware` without a model call."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from langchain_tokopt.context.memory.blocks import Block, Turn, message_size
from langchain_tokopt.context.memory.extract import RATIO, digests

_MESSAGE: Final = '<message type="'
_MESSAGE_END: Final = "</message>"
_CALL: Final = re.compile(r'<tool_call id="([^"<>]*)" name="([^"<>]*)">([^<]*)</tool_call>')
_CONTENT: Final = re.compile(r"<content>([^<]*)</content>")
_LEAST: Final = 100  # tokens
_NOTHING: Final = "None."


class ExtractiveSummarizer(BaseChatModel):
    """Answers a request for a summary with the sentences of the conversation that say most. No model is called.

    Give it to `SummarizationMiddleware` as `model=`, or as `summarizer=` beside the agent's own model, with
    `trim_tokens_to_summarize=None`, since it reads any length at once. It understands the prompt of that middleware
    and any prompt with the messages as `get_buffer_string(messages, format="xml")` in it; other requests are taken as
    the conversation itself.

    Attributes:
        ratio: Which part of the conversation's tokens a summary may have, in (0, 1].
    """

    ratio: float = Field(default=RATIO, gt=0, le=1)

    @property
    def _llm_type(self) -> str:
        return "tokopt-extractive"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self._llm_type, "ratio": self.ratio}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        found = super()._get_ls_params(stop=stop, **kwargs)
        return {**found, "ls_provider": "tokopt", "ls_model_name": kwargs.get("model", self._llm_type)}

    def summarize(self, messages: Sequence[BaseMessage]) -> str:
        """The messages in short: whole sentences with their speakers, calls and results in a line each."""
        size = sum(message_size(message) for message in messages)
        block = Block(0, (Turn(0, tuple(_foldable(message) for message in messages), size),))
        ratio = min(1.0, max(self.ratio, _LEAST / max(1, size)))
        return next(digests([block], ratio=ratio)).text or _NOTHING

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        prompt = "\n".join(str(message.text) for message in messages)
        conversation = list(_read(prompt)) or [one for one in messages if not isinstance(one, SystemMessage)]
        answer = AIMessage(
            self.summarize(conversation),
            usage_metadata=UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0),
            response_metadata={"model_name": self._llm_type},
        )
        return ChatResult(generations=[ChatGeneration(message=answer)])


def _foldable(message: BaseMessage) -> BaseMessage:
    """The message as one that a digest may take up: here nothing else stays of it."""
    if isinstance(message, (AIMessage, ToolMessage)):
        return message
    name = message.name or (None if isinstance(message, HumanMessage) else message.type.capitalize())
    return HumanMessage(str(message.text), name=name)


def _read(prompt: str) -> Iterator[BaseMessage]:
    """The messages that `get_buffer_string(format="xml")` wrote into the prompt."""
    for part in prompt.split(_MESSAGE)[1:]:
        kind, opened, rest = part.partition('">')
        body, closed, _ = rest.partition(_MESSAGE_END)
        if opened and closed:
            yield _message(kind, body)


def _message(kind: str, body: str) -> BaseMessage:
    calls = _CALL.findall(body)
    content = _CONTENT.search(body)
    text = "" if calls else body
    text = html.unescape(content[1] if content and calls else text).strip()
    if kind == "ai":
        found = [
            {"type": "tool_call", "id": call_id, "name": html.unescape(name), "args": _arguments(html.unescape(args))}
            for call_id, name, args in calls
        ]
        return AIMessage(text, tool_calls=found)
    if kind == "human":
        return HumanMessage(text)
    if kind == "system":
        return SystemMessage(text)
    if kind == "tool":
        return ToolMessage(text, tool_call_id="", name="tool")
    return ChatMessage(content=text, role=kind)


def _arguments(text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except ValueError:
        return {"arguments": text}
    return read if isinstance(read, dict) else {"arguments": read}
