"""Whether two answers say the same: what audits and misses are compared by."""

from __future__ import annotations

import inspect
import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_tokopt.cache.guard import negation_differs, numbers_differ
from langchain_tokopt.cache.reading import prepare
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.forks import follow_forks

if TYPE_CHECKING:
    from langchain_tokopt.embeddings import MemoEmbeddings

log = logging.getLogger("langchain_tokopt")

Judge: TypeAlias = Callable[[str, str, str], bool]
"""Takes the question, the stored answer and the model's answer; says whether they tell the user the same."""

_ALIKE: Final = 0.9
_COMPARED: Final = 1_200  # characters of an answer that are embedded: about what MiniLM reads
_SHORT: Final = 400  # characters up to which a number or a negation decides
_MOST_HUNG: Final = 4
_GLANCE_SECONDS: Final = 0.05  # between two looks at whether a hung judge should still be waited for
# Words with what holds them together ("1.5", "it's", "and/or"), a minus before one, and signs that mean something.
_PIECES: Final = re.compile(r"""!=|-?\w+(?:[.,:/'\u2019*-]\w+)*[+#]*|[^\w\s.,;:!?"'`*()\[\]\u2010-\u2026-]""")
_OPINION: Final = re.compile(r"\W*(SAME|DIFFERENT)\b")


def same_text(question: str, stored: str, new: str) -> bool:
    """Whether the answers are the same, upper case, spaces and the punctuation of sentences aside."""
    return stored == new or _PIECES.findall(stored.casefold()) == _PIECES.findall(new.casefold()) != []


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
        said = self._model.invoke([SystemMessage(self._TASK), HumanMessage(asked)]).text.strip()
        opinion = _OPINION.match(said.upper())
        if opinion is None:
            msg = f"the judge said neither SAME nor DIFFERENT: {said[:60]!r}"
            raise ValueError(msg)
        return opinion[1] == "SAME"


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
    if isinstance(judge, str) and judge in ("similarity", "text"):
        return
    if isinstance(judge, BaseChatModel):
        raise ConfigurationError("judge", type(judge).__name__, "have a model judge with ModelJudge(model)")
    if inspect.iscoroutinefunction(judge) or inspect.iscoroutinefunction(getattr(judge, "__call__", None)):  # noqa: B004
        remedy = "use a function that is not async: it is called in a thread where no event loop runs"
        raise ConfigurationError("judge", judge, remedy)
    if not callable(judge):
        remedy = 'use "similarity", "text", or a function of the question and two answers that returns a bool'
        raise ConfigurationError("judge", judge, remedy)


class _NotWaitedForError(Exception):
    """The cache is being closed, or the process forks."""


def _always() -> bool:
    return True


class Bench:
    """Has a judge give its opinion within a time limit; a judge that raises, hangs or mumbles gives none.

    Args:
        judge: Judges.
        timeout_seconds: How long it may take.
        quick: Whether it is one of our own: no thread is needed, and any number of comparisons is cheap.
        wanted: Whether to go on waiting for an opinion.

    Attributes:
        failures: How often it gave none.
    """

    def __init__(
        self, judge: Judge, *, timeout_seconds: float, quick: bool, wanted: Callable[[], bool] = _always
    ) -> None:
        self._judge = judge
        self._timeout = timeout_seconds
        self.quick = quick
        self._wanted = wanted
        self.failures = 0
        self._logged = False
        self._start_anew()
        follow_forks(self)

    def _start_anew(self) -> None:
        self._under_way: set[Future[bool]] = set()
        self._lock = threading.Lock()

    def same(self, question: str, stored: str, new: str) -> bool | None:
        """Whether the answers are the same; `None` if the judge gave no opinion."""
        try:
            verdict = self._judge(question, stored, new) if self.quick else self._in_time(question, stored, new)
        except _NotWaitedForError:
            return None
        except Exception as error:  # the user's judge may do anything
            self._gave_none(f"{type(error).__name__}: {error}")
            return None
        if not isinstance(verdict, (bool, np.bool_)):
            self._gave_none(f"it returned {type(verdict).__name__}, not a bool")
            return None
        return bool(verdict)

    def _in_time(self, question: str, stored: str, new: str) -> bool:
        said: Future[bool] = Future()
        with self._lock:
            hung = len(self._under_way)
            if hung < _MOST_HUNG:
                self._under_way.add(said)
        if hung >= _MOST_HUNG:
            msg = f"{hung} of its comparisons have not come back"
            raise TimeoutError(msg)

        def work() -> None:
            try:
                said.set_result(self._judge(question, stored, new))
            except BaseException as error:  # nobody is above this thread
                said.set_exception(error)
            finally:
                with self._lock:
                    self._under_way.discard(said)

        try:  # a daemon: a judge that hangs does not keep the process from ending
            threading.Thread(target=work, name="tokopt-judge", daemon=True).start()
        except RuntimeError:  # no thread is to be had
            with self._lock:
                self._under_way.discard(said)
            raise
        until = time.monotonic() + self._timeout
        while self._wanted():
            left = until - time.monotonic()
            wait([said], timeout=max(0.0, min(left, _GLANCE_SECONDS)))
            if said.done():
                return said.result()
            if left <= 0:
                msg = f"no answer within {self._timeout:g} s"
                raise TimeoutError(msg)
        raise _NotWaitedForError

    def _gave_none(self, problem: str) -> None:
        with self._lock:
            self.failures += 1
            first, self._logged = not self._logged, True
        if first:
            log.warning("the cache's judge gave no opinion, and nothing was learned from it: %s", problem)

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Nothing to do: who waits for an opinion is told by `wanted`."""

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """Comparisons that are under way, and who holds the lock, are in the parent."""
        self._start_anew()
