"""The budget around an agent's model calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

from langchain.agents.middleware.types import (
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    hook_config,
)
from langchain.agents.structured_output import ProviderStrategy
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime
from langgraph.types import Command
from typing_extensions import Self

from langchain_tokopt.budget.bill import Bill, Biller
from langchain_tokopt.budget.budget import Budget
from langchain_tokopt.budget.hold import Hold
from langchain_tokopt.budget.nodes import Path
from langchain_tokopt.budget.paths import call_path
from langchain_tokopt.budget.refusals import unreadable_path
from langchain_tokopt.budget.runs import RUN_KEY, RunState, calling_tool, execution, named_thread, run_of
from langchain_tokopt.budget.steps import Climbed, Compress, Ended, Place, climb, is_end
from langchain_tokopt.budget.watch import active_watch, watching
from langchain_tokopt.budget.worst_case import worst_case
from langchain_tokopt.caller import call_who
from langchain_tokopt.errors import BudgetExceededError, ConfigurationError
from langchain_tokopt.flow import Flow, FlowMiddleware, plain

if TYPE_CHECKING:
    from langgraph.prebuilt.tool_node import ToolCallRequest

    from langchain_tokopt.events import Mode, Sink


class BudgetMiddleware(FlowMiddleware):
    """Reserves before every model call, and settles after it. Belongs innermost, so that it sees every retry.

    Args:
        budget: The limits; one `Budget` may serve many agents.
        compress: Makes a request smaller, for the step "compress" of the budget's ladder.
        sink: Who is told what happened; nobody by default.
        mode: "optimize", or "shadow" to record what would have been refused without refusing it.
        name: The middleware's name in the graph; two instances in one agent need different names.

    Raises:
        ConfigurationError: A setting cannot work.
    """

    part: ClassVar[str] = "budget"

    def __new__(cls, budget: object = None, **settings: Any) -> Self:
        """An instance with the hooks that the budget needs, and no others: each has its price."""
        if cls is not BudgetMiddleware or not isinstance(budget, Budget):
            return object.__new__(cls)
        ends = "end" in budget.ladder and settings.get("mode") != "shadow"
        if budget.scoped:
            return object.__new__(_EndingAndNamingBudgetMiddleware if ends else _NamingBudgetMiddleware)  # type: ignore[return-value]
        return object.__new__(_EndingBudgetMiddleware if ends else cls)  # type: ignore[return-value]

    def __init__(
        self,
        budget: Budget,
        *,
        compress: Compress | None = None,
        sink: Sink | None = None,
        mode: Mode = "optimize",
        name: str | None = None,
    ) -> None:
        if not isinstance(budget, Budget):
            raise ConfigurationError("budget", budget, 'pass a Budget, such as Budget(usd="5.00", per="day")')
        if compress is None and "compress" in budget.ladder:
            raise ConfigurationError(
                "compress", None, 'on_exceeded has "compress": pass a function that makes a request smaller'
            )
        super().__init__(sink=sink, mode=mode, name=name)
        self.budget = budget
        self._compress = compress
        if budget.scoped:
            self.state_schema = RunState

    def flow(self, request: ModelRequest[Any]) -> Flow:
        watch = active_watch(self)
        before = len(watch) if watch is not None else 0
        outcome = self._reserve(request)
        if isinstance(outcome, Ended):
            if self._would_loop(request):
                raise outcome.error
            return ModelResponse(result=outcome.messages)
        hold = outcome.hold
        biller = Biller(hold, self.budget.counter, self.budget.rates)
        try:
            response = yield outcome.request
        except BaseException as error:
            bill = biller.for_error(error, None if watch is None else watch.attempts(before))
            self._book(hold, bill, outcome.remark)
            raise
        bill = biller.for_response(response, [] if watch is None else watch.attempts(before))
        self._book(hold, bill, outcome.remark)
        return response

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        with watching(self):
            return self._marked(request, super().wrap_model_call(request, handler))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]
    ) -> Any:
        with watching(self):
            return self._marked(request, await super().awrap_model_call(request, handler))

    def _reserve(self, request: ModelRequest[Any]) -> Climbed | Ended:
        try:
            run, who = run_of(request) if self.budget.scoped else None, call_who(request)
            place = Place(self._path(request), who, run, named_thread(request) or run)
            if self.mode == "optimize":
                return climb(self.budget, request, place=place, sink=self.sink, compress=self._compress)
            case = worst_case(request, self.budget.counter, max_output_tokens=self.budget.max_output_tokens)
            where: dict[str, Any] = {"path": place.path, "who": who, "run": run, "thread": place.thread}
            return Climbed(request, self.budget.reserve(case, **where, sink=self.sink, enforce=False))
        except (BudgetExceededError, GraphBubbleUp):
            raise
        except Exception as error:
            # Whatever it was, a budget that fails closed lets no call go on that it could not check.
            if self.budget.on_store_failure == "closed":
                raise self.budget.unchecked(error) from error
            raise

    def _path(self, request: ModelRequest[Any]) -> Path:
        """Where the call stands. One that says what cannot be read is stopped: it must not get past its limits so."""
        try:
            return call_path(request, self.budget.levels)
        except ConfigurationError as error:
            if self.mode == "shadow":
                return Path()
            raise unreadable_path(self.budget.name, error) from error

    def _would_loop(self, request: ModelRequest[Any]) -> bool:
        """Whether the agent would go on after a message that ends the run: it awaits a structured answer by a tool."""
        if request.runtime is None or isinstance(self, _EndingBudgetMiddleware):
            return False
        return request.response_format is not None and not isinstance(request.response_format, ProviderStrategy)

    def _book(self, hold: Hold, bill: Bill, remark: str | None) -> None:
        reason = "; ".join(text for text in (remark, bill.reason) if text) or None
        if bill.usage is None:
            self.budget.release(hold, reason=reason, sink=self.sink)
        else:
            self.budget.settle(hold, bill.usage, usd=bill.usd, calls=bill.calls, reason=reason, sink=self.sink)

    def _marked(self, request: ModelRequest[Any], outcome: Any) -> Any:
        """What was returned, with the name of the run: for the agent's next call, and for its tools."""
        if not self.budget.scoped or RUN_KEY in request.state:
            return outcome
        run = run_of(request)
        if run is None or execution(request, "task_id") is None:
            return outcome
        return ExtendedModelResponse(model_response=plain(outcome), command=Command(update={RUN_KEY: run}))


class _NamingBudgetMiddleware(BudgetMiddleware):
    """Also tells the agents that a tool calls whose run they belong to. Only for limits on runs and threads."""

    @property
    def name(self) -> str:
        return self._name or BudgetMiddleware.__name__

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Any]) -> Any:
        with calling_tool(request):
            return handler(request)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Any]]
    ) -> Any:
        with calling_tool(request):
            return await handler(request)


class _EndingBudgetMiddleware(BudgetMiddleware):
    """Also ends the agent's loop. A node of its own, so only the agents whose ladder ends with "end" have it.

    An agent that awaits a structured answer calls its model again and again until it has one; a jump from behind the
    model is what ends that.
    """

    @property
    def name(self) -> str:
        return self._name or BudgetMiddleware.__name__

    @hook_config(can_jump_to=["end"])
    def after_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        return {"jump_to": "end"} if is_end(state["messages"]) else None

    @hook_config(can_jump_to=["end"])
    async def aafter_model(self, state: AgentState[Any], runtime: Runtime[Any]) -> dict[str, Any] | None:
        return self.after_model(state, runtime)


class _EndingAndNamingBudgetMiddleware(_EndingBudgetMiddleware, _NamingBudgetMiddleware):
    """Does both."""
