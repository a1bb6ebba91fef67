"""How tools write what they found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

# No tool shows more entries than this, whatever it is asked for.
MOST = 200


def clipped(lines: Sequence[str], limit: int) -> str:
    """At most `limit` lines as one text; says how many were left out."""
    limit = min(max(limit, 1), MOST)
    shown = [line if len(line) <= 2000 else line[:2000] + " ..." for line in lines[:limit]]
    if len(lines) > limit:
        shown.append(f"... and {len(lines) - limit} more")
    return "\n".join(shown) if shown else "(nothing)"


def when(timestamp: float) -> str:
    """A Unix time as "2026-01-31 12:00 UTC"."""
    return datetime.fromtimestamp(timestamp, tz=timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
