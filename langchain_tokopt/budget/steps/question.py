"""The question that the user is asked when a call would go beyond a limit."""

from __future__ import annotations

from typing import Any

from langchain_tokopt.budget.hold import Shortage
from langchain_tokopt.budget.refusals import over_limit
from langchain_tokopt.budget.steps.answers import UNDERSTOOD
from langchain_tokopt.budget.steps.asking import KIND

_ACTION = "spend"


def question(budget: str, shortage: Shortage, *, model: str | None, problem: str = "") -> dict[str, Any]:
    """The figures of the limit that is short, and the question in words; plain JSON.

    It is also a request of LangChain's `HumanInTheLoopMiddleware`, so that what shows its questions shows this one.
    Amounts of money are text, as they must not become floats. `problem` says what was wrong with the answer before.
    """
    refused, hold = over_limit(budget, shortage), shortage.hold
    missing = hold.reserved.beyond(shortage.left)
    limit = _amount(refused.limit, refused.unit)
    spent, needed = _amount(refused.spent, refused.unit), _amount(refused.needed, refused.unit)
    of = f"budget {budget!r}" if refused.node == "global" else f"budget {budget!r} on {refused.node!r}"
    afresh = f" It starts afresh at {refused.resets_at:%Y-%m-%d %H:%M} UTC." if refused.resets_at else ""
    asked = (
        f"{spent} of the {limit} of {of} are spent or held, and the next call of {model or 'the model'} may take up to "
        f"{needed}.{afresh} Shall it be made?"
    )
    figures = {
        "budget": budget,
        "node": refused.node,
        "per": refused.per,
        "path": str(hold.path),
        "unit": refused.unit,
        "limit": _plain(refused.limit),
        "spent": _plain(refused.spent),
        "needed": _plain(refused.needed),
        "missing": {
            **({"usd": f"{missing.usd:f}"} if missing.nano else {}),
            **({"tokens": missing.tokens} if missing.tokens else {}),
            **({"calls": missing.calls} if missing.calls else {}),
        },
        "resets_at": refused.resets_at.isoformat() if refused.resets_at else None,
        "model": model,
    }
    shown = f"{problem}\n{asked}" if problem else asked
    return {
        "type": KIND,
        "question": asked,
        **({"problem": problem} if problem else {}),
        **figures,
        "answers": UNDERSTOOD,
        "action_requests": [{"name": _ACTION, "args": figures, "description": shown}],
        "review_configs": [{"action_name": _ACTION, "allowed_decisions": ["approve", "reject"]}],
    }


def _amount(value: Any, unit: str) -> str:
    return f"{value:f} USD" if unit == "usd" else f"{value} {unit if value != 1 else unit[:-1]}"


def _plain(value: Any) -> str | int:
    return value if isinstance(value, int) else f"{value:f}"
