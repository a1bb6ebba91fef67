"""Running the agent over the questions, bare and optimised."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware.types import AgentMiddleware, ModelRequest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver

from langchain_tokopt.cache import SemanticCache
from langchain_tokopt.demo.policy import Bill, PolicyModel
from langchain_tokopt.demo.prices import PriceTable
from langchain_tokopt.demo.questions import Asked, Thread
from langchain_tokopt.errors import MissingDependencyError, TokOptError
from langchain_tokopt.events import Event
from langchain_tokopt.optimizer import TokenOptimizer
from langchain_tokopt.prefix import PromptCache
from langchain_tokopt.tokens import TokenCounter

SYSTEM_PROMPT = """\
You answer questions about a folder of documents and source code. You can see the folder only through your tools.

- Look before you answer: search or list first, then read the lines that matter. Never guess a path, a name or a number.
- Paths are relative to the top of the folder. Lines are counted from 1.
- If a tool reports an error, read what it says, correct the call and try again.
- Answer in one or two sentences. Say where you found it: the file and the line.
- If the files do not say it, say so.
"""
# The demo's files do not change while it runs, so answers that come from them may be given again.
ANSWERS_STAY_GOOD_SECONDS = 3600.0
_MOST_STEPS = 100


class LiveModelError(TokOptError):
    """A live model could not be made or called."""


@dataclass(frozen=True)
class Answer:
    """One question with its answer.

    Attributes:
        thread: The thread's id.
        asked: The question.
        text: The answer.
        prompt: What the model was sent in the last call for this question, from the question on; empty when no model
            was called.
        tools: How many tools were bound in that call.
    """

    thread: str
    asked: Asked
    text: str
    prompt: tuple[BaseMessage, ...] = ()
    tools: int = 0


@dataclass(frozen=True)
class Run:
    """All answers of one run, and its event log."""

    table: PriceTable
    optimised: bool
    answers: tuple[Answer, ...]
    events: tuple[Event, ...]
    seconds: float


class LastPrompt(BaseCallbackHandler):
    """Keeps what the model was sent last: not what the thread holds, but what reached the model."""

    def __init__(self) -> None:
        self.messages: list[BaseMessage] = []
        self.tools = 0

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        self.messages = list(messages[0])
        self.tools = len((kwargs.get("invocation_params") or {}).get("tools") or ())


class WithSettings(AgentMiddleware[Any, Any, Any]):
    """Adds settings to every model request, as a provider's prompt caching middleware does."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.settings = settings

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        return handler(request.override(model_settings={**request.model_settings, **self.settings}))


def run(
    table: PriceTable,
    tools: Sequence[BaseTool],
    threads: Sequence[Thread],
    *,
    optimised: bool,
    embeddings: Embeddings | None = None,
    model: BaseChatModel | None = None,
    counter: TokenCounter | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Run:
    """Ask every question, thread after thread, and read the event log.

    Args:
        table: The prices.
        tools: What the agent can call.
        threads: The questions.
        optimised: With the optimiser's standard preset, or with its meter only.
        embeddings: For the optimiser; by default the ones that it finds.
        model: A live model; by default the scripted one, which plays the table's model.
        counter: Counts tokens; shared between runs it counts the same text once.
        tick: Called after each answer.

    Raises:
        LiveModelError: The live model failed.
    """
    counter = counter or TokenCounter()
    live = model is not None
    if model is None:
        bill = Bill(table.rates, counter, PromptCache()) if table.rates else None
        model = PolicyModel(bill=bill, model_name=table.model, provider=table.provider)
    settings: list[AgentMiddleware[Any, Any, Any]] = [WithSettings(dict(table.settings))] if table.settings else []
    with (
        tempfile.TemporaryDirectory(prefix="tokopt-demo-", ignore_cleanup_errors=True) as folder,
        _optimizer(table, tools, optimised, embeddings, counter, folder) as optimizer,
    ):
        agent = create_agent(
            model,
            list(tools),
            system_prompt=SYSTEM_PROMPT,
            middleware=[*settings, *optimizer.middleware],
            checkpointer=InMemorySaver(),
        )
        started = time.perf_counter()
        answers: list[Answer] = []
        for thread in threads:
            for asked in thread.questions:
                try:
                    answers.append(_ask(agent, thread.id, asked))
                except Exception as error:
                    if not live or isinstance(error, TokOptError):
                        raise
                    raise LiveModelError(f"{table.title} failed: {_one_line(error)}") from error
                tick()
        seconds = time.perf_counter() - started
        events = tuple(optimizer.telemetry.events())
    return Run(table, optimised, tuple(answers), events, seconds)


def _optimizer(
    table: PriceTable,
    tools: Sequence[BaseTool],
    optimised: bool,
    embeddings: Embeddings | None,
    counter: TokenCounter,
    folder: str,
) -> TokenOptimizer:
    if not optimised:
        return TokenOptimizer(mode="off", data_dir=folder, pricing=table.pricing, counter=counter)
    return TokenOptimizer.preset(
        "standard",
        data_dir=folder,
        pricing=table.pricing,
        counter=counter,
        embeddings=embeddings,
        cache=SemanticCache(
            cacheable_tools=[tool.name for tool in tools],
            ttl_seconds=ANSWERS_STAY_GOOD_SECONDS,
        ),
    )


def _ask(agent: Any, thread: str, asked: Asked) -> Answer:
    last = LastPrompt()
    config = {
        "configurable": {"thread_id": thread, "user_id": "demo"},
        "callbacks": [last],
        "recursion_limit": _MOST_STEPS,
    }
    messages = agent.invoke({"messages": [HumanMessage(asked.text)]}, config)["messages"]
    start = max((n for n, message in enumerate(last.messages) if isinstance(message, HumanMessage)), default=0)
    return Answer(thread, asked, messages[-1].text, tuple(last.messages[start:]), last.tools)


def live_model(name: str) -> BaseChatModel:
    """The live model "provider:name", ready to be called.

    Raises:
        LiveModelError: Its package or its API key is missing, or the name is wrong.
    """
    from langchain.chat_models import init_chat_model

    try:
        return init_chat_model(name)
    except ImportError as error:
        raise LiveModelError(f"model={name!r} needs a package that is not installed: {_one_line(error)}") from error
    except Exception as error:
        raise LiveModelError(f"model={name!r} cannot be used: {_one_line(error)}") from error


def ready_embeddings() -> tuple[Embeddings | None, str | None]:
    """The embeddings of this machine, loaded; or why there are none."""
    from langchain_tokopt.embeddings import MemoEmbeddings, find_embeddings

    try:
        embeddings = MemoEmbeddings(find_embeddings())
        embeddings.vector("ready")
    except MissingDependencyError as error:
        return None, _one_line(error)
    return embeddings, None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."
