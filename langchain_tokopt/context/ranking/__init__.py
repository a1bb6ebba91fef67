"""Which parts of a long text a question needs: by the words that they share, and where they stand. No model needed."""

from langchain_tokopt.context.ranking.passages import Passage
from langchain_tokopt.context.ranking.rank import Ranking, best_within, rank

__all__ = ["Passage", "Ranking", "best_within", "rank"]
