"""By how much the counts of a model are off, learned from what its provider reports."""

from __future__ import annotations

import math
import re
from typing import Final

_LEAST, _MOST = 0.5, 2.0
_SLOWEST: Final = 0.2

# What cl100k counts has to be multiplied with for Claude, as long as nothing was reported: 15 to 20 % are missing, and
# since Opus 4.7 texts have about 30 % more tokens still.
# https://platform.claude.com/docs/en/build-with-claude/token-counting
_CLAUDE: Final = 1.2
_NEWER_CLAUDE: Final = 1.55
_NEWER: Final = re.compile(r"claude-(?:opus-4-[7-9]|(?:opus|sonnet|haiku)-(?:[5-9]|\d\d)(?!\d)|fable|mythos)")


class Corrections:
    """Factors by model name. Of reports that come at the same moment one may be lost."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, int]] = {}

    def observe(self, model: str | None, counted: int, reported: int) -> None:
        """Learn from one request.

        The factor is an exponentially weighted mean of `reported / counted`, of its logarithm, so that twice too much
        and half too little weigh the same. The first report weighs one half, later ones less, down to a fifth.
        """
        if counted <= 0 or reported <= 0:
            return
        before, reports = self._known.get(model or "", (_first_guess(model), 0))
        weight = max(_SLOWEST, 1 / (reports + 2))
        ratio = min(_MOST, max(_LEAST, reported / counted))
        after = math.exp((1 - weight) * math.log(before) + weight * math.log(ratio))
        self._known[model or ""] = (min(_MOST, max(_LEAST, after)), reports + 1)

    def of(self, model: str | None) -> float:
        """What a count has to be multiplied with to come near to the provider's, 0.5 to 2."""
        return self._known.get(model or "", (_first_guess(model), 0))[0]


def _first_guess(model: str | None) -> float:
    name = (model or "").lower().replace(".", "-")
    if "claude" not in name:
        return 1.0
    return _NEWER_CLAUDE if _NEWER.search(name) else _CLAUDE
