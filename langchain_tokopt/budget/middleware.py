"""The budget around an agent's model calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from langchain.agents.middleware.types import (
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    PrivateStateAttr,
)
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.messages import AIMessage
from langgraph.channels.untracked_value import UntrackedValue
from langgraph.types import Command
from typing_extensions import NotRequired

from langchain_tokopt.budget.bill import Bill, Biller
from langchain_tokopt.budget.budget import Budget
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.paths import call_path
from langchain_tokopt.budget.refusals import BudgetStoreError, farewell
from langchain_tokopt.budget.watch import active_watch, watching
from langchain_tokopt.budget.worst_case import worst_case
from langchain_tokopt.caller import call_who
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError
from langchain_tokopt.flow import Flow, FlowMiddleware, is_background, plain

if TYPE_CHECKING:
    from langchain_tokopt.events import Mode, Sink

RUN_KEY = "tokopt_run"


class RunState(AgentState[Any]):
    """Tells the runs of one thread apart: like LangChain's own `run_limit`, a run is one invocation."""

    tokopt_run: NotRequired[Annotated[str, UntrackedValue(str, guard=False), PrivateStateAttr]]


class BudgetMiddleware(FlowMiddleware):
    """Reserves before every model call, and settles after it. Belongs innermost, so that it sees every retry.

    Args:
        budget: The limit; one `Budget` may serve many agents.
        sink: Who is told what happened; nobody by default.
        mode: "optimize", or "shadow" to record what would have been refused without refusing it.
        name: The middleware's name in the graph; two instances in one agent need different names.

    Raises:
        ConfigurationError: A setting cannot work.
    """

    part: ClassVar[str] = "budget"

    def __init__(
        self, budget: Budget, *, sink: Sink | None = None, mode: Mode = "optimize", name: str | None = None
    ) -> None:
        if not isinstance(budget, Budget):
            raise ConfigurationError("budget", budget, 'pass a Budget, such as Budget(usd="5.00", per="day")')
        super().__init__(sink=sink, mode=mode, name=name)
        self.budget = budget
        if budget.scoped:
            self.state_schema = RunState

    def flow(self, request: ModelRequest[Any]) -> Flow:
        watch = active_watch(self)
        before = len(watch) if watch is not None else 0
        try:
            hold = self._reserve(request)
        except BudgetExceededError as refused:
            if self._ends_run(request, refused):
                return ModelResponse(result=[_goodbye(refused)])
            raise
        biller = Biller(hold, self.budget.counter, self.budget.rates)
        try:
            response = yield hold.case.bind(request)
        except BaseException as error:
            self._book(hold, biller.for_error(error, None if watch is None else watch.attempts(before)))
            raise
        self._book(hold, biller.for_response(response, [] if watch is None else watch.attempts(before)))
        return response

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        with watching(self):
            return self._marked(request, super().wrap_model_call(request, handler))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]
    ) -> Any:
        with watching(self):
            return self._marked(request, await super().awrap_model_call(request, handler))

    def _reserve(self, request: ModelRequest[Any]) -> Hold:
        try:
            run = self._run(request)
            case = worst_case(request, self.budget.counter, max_output_tokens=self.budget.max_output_tokens)
            return self.budget.reserve(
                case,
                path=call_path(request, self.budget.levels),
                who=call_who(request),
                run=run,
                thread=_named_thread(request) or run,
                sink=self.sink,
                enforce=self.mode == "optimize",
            )
        except (BudgetExceededError, ConfigurationError):
            raise
        except Exception as error:
            # Whatever it was, a budget that fails closed lets no call go on that it could not check.
            if self.budget.on_store_failure == "closed":
                raise self.budget.unchecked(error) from error
            raise

    def _book(self, hold: Hold, bill: Bill) -> None:
        if bill.usage is None:
            self.budget.release(hold, reason=bill.reason, sink=self.sink)
        else:
            self.budget.settle(hold, bill.usage, usd=bill.usd, reason=bill.reason, sink=self.sink)

    # --- which run a call belongs to ---

    def _run(self, request: ModelRequest[Any]) -> str | None:
        """The run that the call belongs to; `None` where no limit is for a run or a thread, or nothing is known.

        Unless it was named, a run is known by its first model call. One that is tried again keeps its task id, so that
        all attempts count together.
        """
        if not self.budget.scoped:
            return None
        found = _named_run(request) or request.state.get(RUN_KEY) or _execution(request, "task_id")
        return None if found is None else str(found)

    def _marked(self, request: ModelRequest[Any], outcome: Any) -> Any:
        """What was returned, with a name for the run where it has none, for the agent's next call."""
        if not self.budget.scoped or RUN_KEY in request.state or _named_run(request):
            return outcome
        task = _execution(request, "task_id")
        if task is None:
            return outcome
        return ExtendedModelResponse(model_response=plain(outcome), command=Command(update={RUN_KEY: task}))

    # --- ending a run ---

    def _ends_run(self, request: ModelRequest[Any], refused: BudgetExceededError) -> bool:
        """Whether the refusal becomes the run's last message.

        Not where a structured answer is awaited: without one an agent asks its model again and again. Nor beside the
        run, where it would be taken for an answer.
        """
        if is_background(request):
            return False
        if self.budget.on_exceeded != "end" or isinstance(refused, BudgetStoreError):
            return False
        if request.response_format is not None and not isinstance(request.response_format, ProviderStrategy):
            return False
        forced = request.tool_choice not in (None, "auto", "none")
        return not forced and "response_format" not in request.model_settings


def _named_run(request: ModelRequest[Any]) -> str | None:
    """The id that the caller gave to the run."""
    return call_who(request).run or _execution(request, "run_id")


def _named_thread(request: ModelRequest[Any]) -> str | None:
    """The id that the caller gave to the thread. Without a thread, a run is a thread of its own."""
    return call_who(request).thread or _execution(request, "thread_id")


def _execution(request: ModelRequest[Any], name: str) -> str | None:
    """A field of LangGraph's execution info, which is there inside a graph only."""
    return getattr(getattr(request.runtime, "execution_info", None), name, None)


def _goodbye(refused: BudgetExceededError) -> AIMessage:
    """The last message of a run. It calls no tool, and its `finish_reason` tells a cache that it is no answer."""
    return AIMessage(content=farewell(refused), response_metadata={"finish_reason": "budget_exceeded"})
