"""How signals become a score: two logistic models with a few rounded weights, one for what is said, one for results.

Where the weights are from: fitted by logistic regression in which what was needed and what was not weigh the same, so
that 0.5 means "as typical of one as of the other", and rounded.

* What is said: LoCoMo (Maharana et al. 2024, https://arxiv.org/abs/2402.17753), 3 conversations with 330 questions; a
  turn is needed when it is gold evidence of a question (of this question, where the request is known).
* Results: 25 runs of mini-swe-agent on SWE-bench and 50 of tau-bench airline; a result is needed when a later call of
  the model holds an identifier that came up first in it (half of the weight: that was in no call and no answer before).

The other half of both was left for scoring: `python -m benchmarks.importance`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from langchain_tokopt.context.importance.signals import Signals

SAID: Final = {
    "bias": -2.3,
    "new_terms": 0.9,
    "dates": 1.5,
    "proper_names": 0.5,
    "quotes": 1.0,
    "own": 0.6,
    "question": -0.4,
    "answers": 1.3,
}
SAID_FOR_REQUEST: Final = {"bias": -3.3, "new_terms": 0.7, "answers": 0.4, "likeness": 1.6}
RESULT: Final = {
    "bias": -1.7,
    "unused_names": 1.1,
    "used_names": 0.3,
    "in_use": 1.3,
    "log_age": -0.35,
    "superseded": -0.9,
}
# The runs have one request each, which tells little about results; a question about one of them would tell more.
RESULT_FOR_REQUEST: Final = {**RESULT, "likeness": 0.2}


def features(signals: Signals) -> dict[str, float]:
    """What the models look at."""
    if signals.kind == "result":
        return {
            "unused_names": math.log1p(signals.brought - signals.used),
            "used_names": math.log1p(signals.used),
            "in_use": 0.0 if signals.last_use is None else 1 / (1 + signals.last_use / 4),
            "log_age": math.log1p(signals.age),
            "superseded": float(signals.superseded),
            "likeness": signals.likeness,
        }
    _, dates, proper, quotes, own = signals.reading.facts
    return {
        "new_terms": math.log1p(signals.new_terms),
        "dates": min(dates, 2),
        "proper_names": math.log1p(proper),
        "quotes": min(quotes, 2),
        "own": math.log1p(own),
        "question": float(signals.reading.question),
        "answers": float(signals.answers),
        "likeness": signals.likeness,
    }


def probability(signals: Signals, *, for_request: bool) -> float:
    """How typical the signals are of a message that is needed later, 0 to 1."""
    if signals.kind == "result":
        weights: Mapping[str, float] = RESULT_FOR_REQUEST if for_request else RESULT
    else:
        weights = SAID_FOR_REQUEST if for_request else SAID
    found = features(signals)
    total = weights["bias"] + sum(weights[name] * value for name, value in found.items() if name in weights)
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, total))))
