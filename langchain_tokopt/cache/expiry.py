"""When an answer expires: not all at the same moment."""

from __future__ import annotations

import hashlib

from langchain_tokopt.errors import ConfigurationError

_WHOLE = float(2**64)


def expires_at(now: float, ttl_seconds: float | None, *, key: str, jitter: float = 0.1) -> float | None:
    """When an answer that is stored `now` expires: at the TTL's end or up to `jitter` of it before; `None` for never.

    Answers that were stored together (a warm-up, a restart) would otherwise expire together, and their questions would
    all reach the model at once. The moment depends on the `key` alone: the same answer imported again expires at the
    same time. It is never later than the TTL promises.

    Args:
        now: Unix time in seconds.
        ttl_seconds: How long the answer is good.
        key: Names the answer, such as the digest of its question.
        jitter: Share of the TTL, in [0, 1).
    """
    if ttl_seconds is None:
        return None
    place = int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    return now + ttl_seconds * (1.0 - jitter * (place / _WHOLE))


def check_jitter(jitter: float) -> None:
    """Raises `ConfigurationError` for a share of the TTL that cannot be."""
    if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or not 0 <= jitter < 1:
        raise ConfigurationError("ttl_jitter", jitter, "use a share of the TTL in [0, 1), such as 0.1")
