"""Whether two answers say the same: what audits and misses are compared by."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_tokopt.cache.guard import negation_differs, numbers_differ
from langchain_tokopt.cache.reading import prepare
from langchain_tokopt.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_tokopt.embeddings import MemoEmbeddings

log = logging.getLogger("langchain_tokopt")

Judge: TypeAlias = Callable[[str, str, str], bool]
"""Takes the question, the stored answer and the model's answer; says whether they tell the user the same."""

_ALIKE: Final = 0.9
_COMPARED: Final = 1_200  # characters of an answer that are embedded: about what MiniLM reads
_SHORT: Final = 400  # characters up to which a number or a negation decides
_MOST_HUNG: Final = 4
_WORDS: Final = re.compile(r"\w+")


def same_text(question: str, stored: str, new: str) -> bool:
    """Whether the answers are the same, upper case, spaces and punctuation aside."""
    return stored == new or _WORDS.findall(stored.casefold()) == _WORDS.findall(new.casefold()) != []


class SimilarAnswers:
    """Says that answers are the same if their embeddings are near each other, and short ones agree in their numbers.

    Args:
        embeddings: Embeds the answers.
        threshold: Cosine similarity, in (0, 1].
    """

    def __init__(self, embeddings: MemoEmbeddings, *, threshold: float = _ALIKE) -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 < threshold <= 1:
            raise ConfigurationError("threshold", threshold, "use a cosine similarity in (0, 1], such as 0.9")
        self._embeddings = embeddings
        self.threshold = threshold

    def __call__(self, question: str, stored: str, new: str) -> bool:
        if same_text(question, stored, new):
            return True
        if not stored.strip() or not new.strip():
            return False
        if len(stored) <= _SHORT and len(new) <= _SHORT:
            a, b = prepare(stored), prepare(new)
            if numbers_differ(a.amounts, b.amounts) or negation_differs(a, b):
                return False
        one, other = self._embeddings.vectors([stored[:_COMPARED], new[:_COMPARED]])
        return float(one @ other) >= self.threshold


class ModelJudge:
    """Asks a chat model whether two answers say the same. Its calls cost money and are not the agent's.

    Args:
        model: Any chat model; a small one will do.
    """

    _TASK: Final = (
        "You compare two answers to one question. Reply with the single word SAME if a user would learn the same from "
        "both, whatever the wording, or DIFFERENT if a fact, a number, a name or a recommendation differs."
    )

    def __init__(self, model: BaseChatModel) -> None:
        if not isinstance(model, BaseChatModel):
            raise ConfigurationError("model", model, "pass a chat model")
        self._model = model.model_copy(update={"tags": [*(model.tags or []), "nostream"], "cache": False})

    def __call__(self, question: str, stored: str, new: str) -> bool:
        asked = f"Question:\n{question}\n\nFirst answer:\n{stored}\n\nSecond answer:\n{new}"
        said = self._model.invoke([SystemMessage(self._TASK), HumanMessage(asked)]).text.strip().upper()
        if said.startswith("SAME"):
            return True
        if said.startswith("DIFFERENT"):
            return False
        msg = f"the judge said neither SAME nor DIFFERENT: {said[:60]!r}"
        raise ValueError(msg)


def find_judge(judge: Judge | Literal["similarity", "text"], embeddings: Callable[[], MemoEmbeddings]) -> Judge:
    """The judge for a setting.

    Raises:
        ConfigurationError: There is none.
    """
    if judge == "similarity":
        return SimilarAnswers(embeddings())
    if judge == "text":
        return same_text
    check_judge(judge)
    return judge


def check_judge(judge: Any) -> None:
    """Raises `ConfigurationError` for what cannot be a judge."""
    if judge not in ("similarity", "text") and not callable(judge):
        remedy = 'use "similarity", "text", or a function of the question and two answers that returns a bool'
        raise ConfigurationError("judge", judge, remedy)


class Bench:
    """Has a judge give its opinion within a time limit; a judge that raises, hangs or mumbles gives none.

    Attributes:
        failures: How often it gave none.
    """

    def __init__(self, judge: Judge, *, timeout_seconds: float, quick: bool) -> None:
        self._judge = judge
        self._timeout = timeout_seconds
        self.quick = quick  # our own judges: no thread is needed, and any number of comparisons is cheap
        self.failures = 0
        self._hung = 0
        self._logged = False
        self._lock = threading.Lock()

    def same(self, question: str, stored: str, new: str) -> bool | None:
        """Whether the answers are the same; `None` if the judge gave no opinion."""
        try:
            verdict = self._judge(question, stored, new) if self.quick else self._in_time(question, stored, new)
        except Exception as error:  # the user's judge may do anything
            self._gave_none(f"{type(error).__name__}: {error}")
            return None
        if not isinstance(verdict, bool):
            self._gave_none(f"it returned {type(verdict).__name__}, not a bool")
            return None
        return verdict

    def _in_time(self, question: str, stored: str, new: str) -> bool:
        if self._hung >= _MOST_HUNG:
            msg = f"{self._hung} of its comparisons have not come back"
            raise TimeoutError(msg)
        said: Future[bool] = Future()

        def work() -> None:
            try:
                said.set_result(self._judge(question, stored, new))
            except BaseException as error:
                said.set_exception(error)
            finally:
                with self._lock:
                    self._hung -= 1

        with self._lock:
            self._hung += 1
        threading.Thread(target=work, name="tokopt-judge", daemon=True).start()
        try:
            return said.result(self._timeout)
        except FutureTimeoutError:
            msg = f"no answer within {self._timeout:g} s"
            raise TimeoutError(msg) from None

    def _gave_none(self, problem: str) -> None:
        with self._lock:
            self.failures += 1
            first, self._logged = not self._logged, True
        if first:
            log.warning("the cache's judge gave no opinion, and nothing was learned from it: %s", problem)
