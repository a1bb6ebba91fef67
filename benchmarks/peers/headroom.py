"""The package headroom-ai: its extractive compressor of prose, told the question.

Nothing is sent anywhere: its offline switch is set, and so is the one that turns telemetry off.
"""

from __future__ import annotations

import os
import sys
from typing import Any


class HeadroomPeer:
    """`TextCrusher` with its own defaults.

    Raises:
        ImportError: It is not installed.
    """

    def __init__(self) -> None:
        os.environ.update(HEADROOM_OFFLINE="1", HEADROOM_TELEMETRY="off", DO_NOT_TRACK="1")
        from headroom.transforms.text_crusher import TextCrusher

        self._crusher: Any = TextCrusher()

    def __call__(self, text: str, question: str, share: float) -> str:
        """The text with about `share` of its tokens: whole sentences in their order, a line each."""
        return str(self._crusher.compress(text, question, share).compressed)


def is_installed() -> bool:
    """Whether there is such a peer; where there is none it is said why."""
    try:
        HeadroomPeer()
    except ImportError as error:
        print(f"headroom-ai is not installed ({error}): its figures are missing", file=sys.stderr)
        return False
    return True
