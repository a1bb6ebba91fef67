"""What a look into the cache brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata

from langchain_tokopt.cache.decision import Verdict
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.identity import ModelIdentity

if TYPE_CHECKING:
    import numpy as np
    from langchain.agents.middleware.types import ModelResponse
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A stored answer, ready to be given.

    Attributes:
        response: New messages with new ids and zero usage. Their `response_metadata["tokopt"]` names `id` and `entry`.
        how: "exact" for the same text, "semantic" for a similar one.
        similarity: Cosine similarity of the two questions, 1.0 for an exact hit.
        usage: What giving this answer used the first time, `None` if the provider did not say.
        identity: The model that gave it.
        id: Names this hit, for `SemanticCache.feedback`.
        entry: The id of the stored entry.
        risk: Estimated probability that the answer is wrong, `None` where that is not estimated.
    """

    response: ModelResponse[Any]
    how: Literal["exact", "semantic"]
    similarity: float
    usage: UsageMetadata | None
    identity: ModelIdentity
    id: str
    entry: int
    risk: float | None = None

    def to_response(self) -> ModelResponse[Any]:
        """The response that stands in for the model's."""
        return self.response


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look into the cache: a hit, or the reason for the miss and the similarity of the nearest question.

    Attributes:
        hit: What is served.
        similarity: Of the nearest question, `None` if there is none.
        reason: Why nothing is served.
        audit: Whether the model is to be asked beside, and its answer given to `SemanticCache.audited`.
        verdict: What was decided about the neighbours.
        payload: The stored answer that is served.
        vector: Of the question, float32 `[d]`.
    """

    hit: Hit | None = None
    similarity: float | None = None
    reason: str | None = None
    audit: bool = False
    verdict: Verdict | None = None
    payload: str | None = None
    vector: NDArray[np.float32] | None = None


def hit_id(hit: Hit | AIMessage | str) -> str:
    """The id of a hit: from the hit itself, or from the message that was given; "" for a message that is no hit.

    Raises:
        ConfigurationError: `hit` is none of these.
    """
    if isinstance(hit, Hit):
        return hit.id
    if isinstance(hit, AIMessage):
        note = hit.response_metadata.get("tokopt")
        return str(note.get("id", "")) if isinstance(note, dict) else ""
    if not isinstance(hit, str):
        raise ConfigurationError("hit", hit, "pass a Hit, its id, or the message that the cache gave")
    return hit
