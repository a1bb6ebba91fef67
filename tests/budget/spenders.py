"""A process that spends from a shared budget: `python -m tests.budget.spenders <url> <threads> <calls> [die]`.

Prints how many calls were made. With "die" it reserves one call, says so and waits to be killed.
"""

from __future__ import annotations

import sys
import threading
import time
from decimal import Decimal

from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.budget import Budget, WorstCase
from langchain_tokopt.database import Database
from langchain_tokopt.errors import BudgetExceededError
from langchain_tokopt.pricing import Pricing, Rates

# One call takes exactly 0.20 USD.
PRICING = Pricing(overrides={"model": Rates(input=Decimal(100), output=Decimal(100))})
CASE = WorstCase("model", None, 1000, 1000, 1000)
USAGE = UsageMetadata(input_tokens=1000, output_tokens=1000, total_tokens=2000)


def main(url: str, threads: int, calls: int, *, die: bool) -> None:
    budget = Budget(usd="5", store=Database(url), pricing=PRICING, lease_seconds=30)
    if die:
        budget.reserve(CASE)
        print("reserved", flush=True)  # noqa: T201 - it is what the test reads
        time.sleep(60)
    made: list[int] = []

    def spend() -> None:
        for _ in range(calls):
            try:
                hold = budget.reserve(CASE)
            except BudgetExceededError:
                continue
            made.append(1)
            budget.settle(hold, USAGE)

    working = [threading.Thread(target=spend) for _ in range(threads)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    budget.close()
    print(len(made))  # noqa: T201 - it is what the test reads


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), die="die" in sys.argv)
