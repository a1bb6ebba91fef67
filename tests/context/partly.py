"""A middleware for tests that shows tool results in part, with the tool that gives back the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, cast

from langchain.agents.middleware.types import ModelRequest
from langchain_core.messages import AnyMessage, BaseMessage, ToolMessage

from langchain_tokopt.asides import Heard, as_loss, with_asked
from langchain_tokopt.caller import call_who
from langchain_tokopt.context.handles import handle
from langchain_tokopt.context.retrieval import Originals, is_retrieved
from langchain_tokopt.context.retrieval_flow import name_beside, retrieving, with_retrieval
from langchain_tokopt.events import Decision
from langchain_tokopt.flow import Flow, FlowMiddleware
from langchain_tokopt.kept import restored
from langchain_tokopt.pricing import Pricing
from langchain_tokopt.tokens import TokenCounter


class Partly(FlowMiddleware):
    """Shows the first line of each tool result that has several, and the id of the whole.

    `keeps` is whether what the model asks for becomes part of the thread, `always` whether it has the tool from the
    beginning.
    """

    part: ClassVar[str] = "history"

    def __init__(
        self, *, keeps: bool = True, always: bool = False, pricing: Pricing | None = None, **more: Any
    ) -> None:
        super().__init__(**more)
        self.keeps = keeps
        self.always = always
        self.pricing = pricing or Pricing()

    def flow(self, request: ModelRequest[Any]) -> Flow:
        request = restored(request)
        name = name_beside(request.tools)
        if not self.always and partly(request.messages, name) == request.messages:
            return (yield request)
        originals = Originals(request.state.get("messages") or request.messages)

        def send(asked: Sequence[BaseMessage]) -> ModelRequest[Any]:
            seen = with_asked(request, asked)
            shown = cast("list[AnyMessage]", partly(seen.messages, name))
            return with_retrieval(seen.override(messages=shown), name)

        def told(sent: ModelRequest[Any], heard: Heard | None) -> None:
            decided = Decision(part=self.part, who=call_who(request), action="applied", reason="shown in part")
            if heard is not None:
                counter = TokenCounter()
                decided = as_loss(decided, sent, heard, counter=counter, pricing=self.pricing, remark="only retrieved")
            self.sink.emit(decided)

        shadow = self.mode == "shadow"
        return (yield from retrieving(send, originals, name, keeps=self.keeps, told=told, shadow=shadow))


def partly(messages: Sequence[BaseMessage], name: str) -> list[BaseMessage]:
    """The messages as the model sees them."""
    return [
        message.model_copy(update={"content": marked(message.content, name)})
        if isinstance(message, ToolMessage) and "\n" in message.content and _is_others(message)
        else message
        for message in messages
    ]


def _is_others(message: ToolMessage) -> bool:
    return not is_retrieved(message) and message.name != "search_tools"


def marked(text: Any, name: str = "retrieve_original") -> str:
    """The text's first line, and how to get the whole."""
    return f'{text.splitlines()[0]}\n[the rest: {name}(id="{handle(text)}")]'
