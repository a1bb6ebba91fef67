"""Whether a stored answer may be given to a question that is near the one it was given to."""

from langchain_tokopt.cache.decision.threshold import Threshold
from langchain_tokopt.cache.decision.verdict import Decider, Neighbour, Verdict

__all__ = ["Decider", "Neighbour", "Threshold", "Verdict"]
