"""LiteLLM's BudgetManager (https://docs.litellm.ai/docs/budget_manager), as its documentation uses it.

It keeps what users have spent in a dictionary, and writes that into `user_cost.json` of the working folder after each
call. Nothing else of this project is imported here, so that it can run in an environment of its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks.budget_load import MODEL, Call

USER = "everybody"


class LiteLLM:
    """One user with a total budget: look whether it is used up, call, add what the call cost.

    Args:
        folder: Where its file is.
        usd: The limit.
    """

    def __init__(self, *, folder: str, usd: str) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its prices come with it; nothing is fetched
        import litellm

        os.chdir(Path(folder))
        self._litellm = litellm
        self._manager = litellm.BudgetManager(project_name="benchmark")
        if not self._manager.is_valid_user(USER):
            self._manager.create_budget(total_budget=float(usd), user=USER)

    def reserve(self, call: Call) -> Any | None:
        """Whether the user may go on; nothing is held."""
        manager = self._manager
        return USER if manager.get_current_cost(user=USER) <= manager.get_total_budget(USER) else None

    def settle(self, held: Any, call: Call) -> None:
        """Add what the answer cost, by LiteLLM's own prices."""
        usage = self._litellm.Usage(
            prompt_tokens=call.input_tokens,
            completion_tokens=call.output_tokens,
            total_tokens=call.input_tokens + call.output_tokens,
        )
        self._manager.update_cost(completion_obj=self._litellm.ModelResponse(model=MODEL, usage=usage), user=str(held))

    def release(self, held: Any) -> None:
        """Nothing was held."""

    def close(self) -> None:
        """Write the file a last time."""
        self._manager.save_data()
