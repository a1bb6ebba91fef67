"""What a call does when it does not fit: a ladder of steps, each used as long as it helps."""

from langchain_tokopt.budget.steps.climb import Compress, climb
from langchain_tokopt.budget.steps.ending import is_end
from langchain_tokopt.budget.steps.ladder import Ladder, Step
from langchain_tokopt.budget.steps.outcomes import Climbed, Ended, Place

__all__ = ["Climbed", "Compress", "Ended", "Ladder", "Place", "Step", "climb", "is_end"]
