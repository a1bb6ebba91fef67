"""Climbing the ladder: a request that does not fit goes through the steps until it fits, or until it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from langgraph.errors import GraphBubbleUp

from langchain_tokopt.budget.hold import Hold, Shortage
from langchain_tokopt.budget.refusals import BudgetStoreError, CallRefusedError, farewell
from langchain_tokopt.budget.steps import asking, cheaper, ending, fallback
from langchain_tokopt.budget.steps.answers import Answer, read_answer
from langchain_tokopt.budget.steps.ladder import Step
from langchain_tokopt.budget.steps.outcomes import Climbed, Ended, Place
from langchain_tokopt.budget.steps.question import question
from langchain_tokopt.budget.worst_case import WorstCase, worst_case
from langchain_tokopt.events import Decision, Sink
from langchain_tokopt.flow import is_background, is_internal
from langchain_tokopt.thoughts import binds_history

if TYPE_CHECKING:
    from typing import TypeAlias

    from langchain.agents.middleware.types import ModelRequest

    from langchain_tokopt.budget.budget import Budget

Compress: TypeAlias = "Callable[[ModelRequest[Any]], ModelRequest[Any]]"

log = logging.getLogger("langchain_tokopt")

APPROVED: Final = "approved by the user, beyond the limit"
# So often the input is compressed on top of what was compressed before.
_ROUNDS: Final = 6

RAISED: Final = "raised by the user, who was asked"


def climb(
    budget: Budget, request: ModelRequest[Any], *, place: Place, sink: Sink, compress: Compress | None = None
) -> Climbed | Ended:
    """The request as it may be sent and what is held for it, or how the run ends.

    Every step that was taken, and every one that did not help, is told as a `Decision`. Nothing is held when this
    raises.

    Args:
        budget: Whose ladder is climbed.
        request: The call.
        place: Where it stands.
        sink: Who is told.
        compress: Makes the input smaller; for the step "compress".

    Raises:
        CallRefusedError: The call may not be made, and the ladder ends with "raise", or with "end" where no message can
            take the place of the answer.
        GraphInterrupt: The user is asked. The node runs again when the answer is there.
    """
    return _Climb(budget, request, place, sink, compress).run()


class _Skipped(Exception):  # noqa: N818 - says why a step does not help
    pass


class _Climb:
    """One call on its way up. `refused` is why it did not fit when it was offered last."""

    def __init__(
        self, budget: Budget, request: ModelRequest[Any], place: Place, sink: Sink, compress: Compress | None
    ) -> None:
        self.budget, self.request, self.place, self.sink, self.compress = budget, request, place, sink, compress
        self.case = self._case(request)
        self.bound = budget.ladder.steps[0] == "clamp"
        self.refused: Shortage | CallRefusedError | None = None
        self.remark = ""
        self.approval: str | None = None

    def run(self) -> Climbed | Ended:
        given = None
        if "ask" in self.budget.ladder and not self._beside and (before := asking.waiting(self.budget.name)):
            given = self._answer(before)  # taken before anything is held
        hold = self._offer()
        for step in self.budget.ladder.steps:
            if hold is not None:
                break
            if step == "end":
                return self._end()
            if step == "raise":
                raise self._refusal()
            hold = self._step(step, given)
        if hold is None:  # a ladder ends with "end" or "raise"
            raise self._refusal()
        return Climbed(hold.case.bind(self.request), hold, self.approval)

    @property
    def _beside(self) -> bool:
        """Whether the call is one beside the user's, of which the user knows nothing."""
        return is_background(self.request) or is_internal(self.request)

    def _case(self, request: ModelRequest[Any]) -> WorstCase:
        return worst_case(request, self.budget.counter, max_output_tokens=self.budget.max_output_tokens)

    def _offer(self) -> Hold | None:
        place = self.place
        try:
            outcome = self.budget.offer(
                self.case,
                path=place.path,
                who=place.who,
                run=place.run,
                thread=place.thread,
                sink=self.sink,
                bound=self.bound,
            )
        except BudgetStoreError:
            raise
        except CallRefusedError as error:  # not for want of money: such as an unknown price
            self.refused = error
            return None
        if isinstance(outcome, Shortage):
            self.refused = outcome
            return None
        self.refused = None
        if outcome.case.output_tokens < self.case.output_tokens:
            self._tell(
                "clamp", f"the answer is bounded to {outcome.case.output_tokens} tokens", self.case, outcome.case
            )
        return outcome

    def _step(self, step: Step, given: tuple[Any] | None) -> Hold | None:
        try:
            if step == "compress":
                return self._compressed()
            if step == "fallback":
                return self._fallen_back()
            if step == "clamp":
                return self._clamped()
            return self._asked(given)
        except _Skipped as why:
            self._tell(step, str(why))
            return None

    # --- the steps ---------------------------------------------------------------------------------------------------

    def _compressed(self) -> Hold | None:
        if self.compress is None:
            raise _Skipped("there is nothing that could compress")
        if binds_history(self.request):
            raise _Skipped("the model's signed thoughts hold only after the history as it is")
        before, hold, why_not = self.case, None, "nothing gets smaller"
        for _ in range(_ROUNDS):
            try:
                smaller = self.compress(self.request)
                case = self._case(smaller)
            except (GraphBubbleUp, CallRefusedError):
                raise
            except Exception as error:
                why_not = f"it failed ({type(error).__name__}: {error})"
                break
            if case.input_tokens >= self.case.input_tokens:
                break
            self.request, self.case = smaller, case
            if (hold := self._offer()) is not None:
                break
        if self.case is before:
            raise _Skipped(why_not)
        self._tell_taken("compress", f"{self.case.counted_tokens} tokens of input are left", before, hold)
        return hold

    def _fallen_back(self) -> Hold | None:
        model = self.budget.ladder.fallback_model
        if model is None:
            raise _Skipped("there is no other model")
        try:
            other = fallback.for_model(self.request, model)
        except fallback.Unfit as unfit:
            raise _Skipped(str(unfit)) from unfit
        case = self._bounded_as_asked(self._case(other))
        window = (model.profile or {}).get("max_input_tokens")
        if isinstance(window, int) and case.counted_tokens > window:
            raise _Skipped(f"{case.counted_tokens} tokens of input do not fit into its context window of {window}")
        why_not = cheaper.why_not(self.budget, self.refused, self.case, case)
        if why_not is not None:
            raise _Skipped(why_not)
        before, self.request, self.case = self.case, other, case
        hold = self._offer()
        self._tell_taken("fallback", f"{case.model} is called instead of {before.model}", before, hold)
        return hold

    def _bounded_as_asked(self, case: WorstCase) -> WorstCase:
        """The case with an answer no longer than the caller wants it."""
        asked = fallback.asked_for(self.request)
        if asked is None or not case.settings or asked * case.answers >= case.output_tokens:
            return case
        return case.clamped(asked * case.answers)

    def _clamped(self) -> Hold | None:
        if self.bound and self.budget.ladder.steps[0] == "clamp":
            raise _Skipped("no answer is short enough")
        self.bound = True
        hold = self._offer()
        if hold is None:
            raise _Skipped("no answer is short enough")
        return hold

    # --- asking ------------------------------------------------------------------------------------------------------

    def _asked(self, given: tuple[Any] | None) -> Hold | None:
        why_not = "the call is made beside the user's" if self._beside else asking.why_not(self.request)
        if why_not is not None:
            raise _Skipped(why_not)
        problem = ""
        while isinstance(shortage := self.refused, Shortage):
            if given is None:
                given = self._answer(question(self.budget.name, shortage, model=self.case.model, problem=problem))
            if given is None:
                raise _Skipped("the question could not be put")
            (value,), given = given, None
            try:
                answer = read_answer(value, missing=shortage.hold.reserved.beyond(shortage.left))
            except ValueError as error:
                problem = str(error)
                continue
            hold = self._done(answer, shortage)
            if hold is not None or answer.type == "reject":
                return hold
            problem = "the limit was raised, but others have taken what was left"
        raise _Skipped("more money would not help")

    def _answer(self, asked: Mapping[str, Any]) -> tuple[Any] | None:
        """What the user answers, in a tuple of one; `None` where LangGraph does not take the question."""
        try:
            return (asking.ask(asked),)
        except GraphBubbleUp:
            raise
        except Exception as error:
            log.warning("the budget's question could not be put: %s: %s", type(error).__name__, error)
            return None

    def _done(self, answer: Answer, shortage: Shortage) -> Hold | None:
        if answer.type == "approve":
            approved = self.budget.hold_anyway(shortage, reason=APPROVED, sink=self.sink)
            self.approval = APPROVED
            self._tell("ask", APPROVED, self.case, approved.case)
            return approved
        if answer.type == "reject":
            said = f": {answer.message}" if answer.message else ""
            self.remark = f"The user was asked, and did not want more to be spent{said}."
            self._tell("ask", f"refused by the user{said}")
            return None
        hold, by = None, answer.by
        for _ in shortage.short:  # each limit that is short has to be raised
            if not isinstance(self.refused, Shortage):
                break
            self.budget.grant(
                self.refused, usd=answer.usd, tokens=by.tokens or None, calls=by.calls or None, reason=RAISED
            )
            hold = self._offer()
        self._tell("ask", RAISED, self.case, self.case if hold is None else hold.case)
        return hold

    # --- the end -----------------------------------------------------------------------------------------------------

    def _refusal(self) -> CallRefusedError:
        """The refusal, put on record."""
        refused = self.refused
        if isinstance(refused, Shortage):
            refused = self.budget.refuse(refused, sink=self.sink)
        if refused is None:
            msg = "a call that fits is not refused"
            raise TypeError(msg)
        if self.remark:
            refused.args = (f"{refused} {self.remark}",)
        return refused

    def _end(self) -> Ended:
        error = self._refusal()
        why_not = ending.why_not(self.request)
        if why_not is not None:
            self._tell("end", why_not)
            raise error
        self._tell("end", str(error), self.case, self.case)
        text = farewell(error)
        return Ended(ending.last_words(self.request, f"{text} {self.remark}".rstrip()), error)

    def _tell_taken(self, step: Step, reason: str, before: WorstCase, hold: Hold | None) -> None:
        """Put a step on record that others may be taken on top of."""
        self._tell(step, reason if hold is not None else f"{reason}; it does not fit yet", before, self.case)

    def _tell(self, step: Step, reason: str, before: WorstCase | None = None, after: WorstCase | None = None) -> None:
        """Put a step on record. Tokens of the worst case are a detail: nothing was saved by them."""
        detail: dict[str, Any] = {"step": step, "budget": self.budget.name}
        if before is not None and after is not None:
            detail |= {"most_before": _most(before), "most_after": _most(after)}
        self.sink.emit(
            Decision(
                part="budget",
                who=self.place.who,
                action="skipped" if after is None else "applied",
                reason=f"{step}: {reason}",
                detail=detail,
            )
        )


def _most(case: WorstCase) -> int:
    """The most tokens that the call takes."""
    return case.input_tokens + case.output_tokens
