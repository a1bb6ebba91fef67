"""The learned decision: serves as much as it can while the share of wrong answers stays within what is accepted."""

from __future__ import annotations

import logging
import math
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from langchain_tokopt.cache.decision import steering
from langchain_tokopt.cache.decision.evidence import propose
from langchain_tokopt.cache.decision.reader import Reader
from langchain_tokopt.cache.decision.record import KEPT, Label, MemoryRecord, Record
from langchain_tokopt.cache.decision.scorer import Scorer, fit, unlearned
from langchain_tokopt.cache.decision.steering import Sums
from langchain_tokopt.cache.decision.verdict import Neighbour, Verdict
from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.forks import follow_forks

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger("langchain_tokopt")

_NEAR_ENOUGH: Final = 0.4  # similarity below which a neighbour is no proposal
_FEWEST_LABELS: Final = 50
_AUDITS_AT_FIRST: Final = 0.4
_AUDITS_HALVE: Final = 1_000  # requests
_LEAST_AUDITED: Final = 0.3  # of the usual rate: for the answers of which the decision is surest
_RECENT: Final = 2_000  # proposals that the limit is set by
_REMEMBERED_AUDITS: Final = 500  # of the latest audits the correction is made from
_WATCHED: Final = (60, 150)  # audits, the latest: in these a change shows sooner than in all
_RETRY: Final = 50.0  # requests


@dataclass(frozen=True, slots=True)
class _Policy:
    """What is decided by; replaced as a whole."""

    scorer: Scorer
    noise: steering.Noise
    limit: float = 0.0
    mean_root: float = 0.1  # mean square root of the risk of what is served

    def risk(self, features: NDArray[np.float64]) -> float:
        return float(self.noise.true_share(self.scorer.risk(features[None, :]))[0])


class Learned:
    """Serves an answer if its risk of being wrong is below a limit that moves with what was learned.

    The risk is a logistic regression over similarity, neighbours and words. It learns from misses, where the model
    was asked anyway, and from audits: a small share of the answers that are given is compared with what the model
    says, more of the risky ones, and more in the beginning. Nothing is served before it has seen enough of both.

    Where words differ that change an answer (numbers, names, negations ...), a question is never served from that
    neighbour, whatever the risk.

    Thread-safe. Learning happens where `background` says, never in a request.

    Args:
        max_error: Share of all requests that may be answered wrongly, in (0, 1).
        record: Where labels and sums are kept; in memory by default.
        audit_rate: Share of the given answers that are audited in the long run; it begins at 40 %.
        warm_up: How many requests are only watched.
        background: Has work done under a name; at once by default.
        rehearse: Gives labels that are made anew from stored questions, each as if it had just been asked.
        seed: Of the audits' lot.
    """

    def __init__(
        self,
        max_error: float,
        *,
        record: Record | None = None,
        audit_rate: float = 0.03,
        warm_up: int = 150,
        background: Callable[[str, Callable[[], object]], object] | None = None,
        rehearse: Callable[[], Iterable[Label]] | None = None,
        seed: int | None = None,
    ) -> None:
        check_settings(max_error=max_error, audit_rate=audit_rate, warm_up=warm_up)
        self.max_error = max_error
        self.audit_rate = audit_rate
        self.warm_up = warm_up
        self._record: Record = record if record is not None else MemoryRecord()
        self._background = background or (lambda _, work: work())
        self._rehearse = rehearse
        self._lot = random.Random(seed)  # noqa: S311 - no secret
        self._lock = threading.Lock()
        self._learning = threading.Lock()
        self.read_question = Reader()
        self._policy = _Policy(unlearned(), steering.Noise())
        self._labels: deque[Label] = deque(maxlen=KEPT)
        self._rehearsed: list[Label] = []
        self._reached = 0
        self._known = Sums()  # what the record said when it was last read
        self._new_labels: list[Label] = []
        self._new = Sums()
        self._recent: deque[tuple[NDArray[np.float64] | None, float]] = deque(maxlen=_RECENT)
        self._begun = False
        self._next_lesson = 0.0
        self._next_rehearsal = 500.0
        self._lessons = 0
        self._logged = False
        follow_forks(self)

    # --- deciding ----------------------------------------------------------------------------------------------------

    def decide(
        self,
        question: str,
        vector: NDArray[np.float32],
        near: Sequence[Neighbour],
        vectors: Callable[[], NDArray[np.float32]],
    ) -> Verdict:
        if not self._begun:  # what was learned before is here at once: the record may need to know of the embedder
            self._begun = True
            self._ask_for_lesson(at_once=True)
        if not near:
            return Verdict(reason="nothing stored")
        if not near[0].similarity >= _NEAR_ENOUGH:
            return Verdict(reason="nothing similar", near=tuple(near))
        proposal = propose(self.read_question(question), vector, near, vectors(), self.read_question)
        policy = self._policy
        risk = policy.risk(proposal.features)
        reason = None
        if proposal.forbidden is not None:
            reason = f"the nearest question differs in {proposal.forbidden}"
        elif policy.limit <= 0.0:
            reason = "not enough is known yet"
        elif not risk <= policy.limit:  # so that nothing is served when it is no number
            reason = "the risk of a wrong answer is too high"
        else:
            rate = self._rate(risk, policy)
        with self._lock:
            self._recent.append((proposal.features if proposal.forbidden is None else None, 1.0))
            self._new = replace(self._new, proposals=self._new.proposals + 1)
            if reason is None:
                audit = self._lot.random() < rate
                self._new = replace(
                    self._new,
                    served=self._new.served + 1,
                    pending_risk=self._new.pending_risk + risk,
                )
        return Verdict(
            neighbour=proposal.neighbour,
            serve=reason is None,
            audit_rate=rate if reason is None else 0.0,
            audit=reason is None and audit,
            risk=risk,
            features=proposal.features,
            reason=reason,
            near=tuple(near),
        )

    def risk(self, features: NDArray[np.float64]) -> float:
        """Estimated probability that an answer with these features, `[f]`, is wrong."""
        return self._policy.risk(features)

    def _rate(self, risk: float, policy: _Policy) -> float:
        """The risky are audited more often: for a number of audits that tells most about the sum (Neyman 1934)."""
        asked = self._known.requests + self._new.requests
        base = self.audit_rate + max(0.0, _AUDITS_AT_FIRST - self.audit_rate) * math.pow(2.0, -asked / _AUDITS_HALVE)
        return min(1.0, base * max(_LEAST_AUDITED, math.sqrt(risk) / max(policy.mean_root, 1e-6)))

    # --- being told --------------------------------------------------------------------------------------------------

    def asked(self) -> None:
        """Count a request, whatever comes of it."""
        with self._lock:
            self._new = replace(self._new, requests=self._new.requests + 1)
        self._ask_for_lesson()

    def compared(self, verdict: Verdict, *, same: bool) -> None:
        """Take in what a comparison of the proposed answer with the model's said: after a miss, or in an audit."""
        if verdict.features is None:
            return
        if not verdict.serve:
            with self._lock:
                self._new_labels.append(Label(verdict.features, same))
            return
        weight, risk = 1.0 / verdict.audit_rate, verdict.risk or 0.0
        with self._lock:
            self._new_labels.append(Label(verdict.features, same, weight, risk))
            self._new = replace(
                self._new,
                pending_risk=self._new.pending_risk - risk,
                known_wrong=self._new.known_wrong + (not same),
                audits=self._new.audits + 1,
                weight=self._new.weight + weight,
                weight_squared=self._new.weight_squared + weight * weight,
                weight_wrong=self._new.weight_wrong + weight * (not same),
            )

    def withdrawn(self, verdict: Verdict) -> None:
        """Take back an answer that was to be given and was not, as if it had not been decided."""
        with self._lock:
            self._new = replace(
                self._new,
                served=self._new.served - 1,
                pending_risk=self._new.pending_risk - (verdict.risk or 0.0),
            )

    def told(self, verdict: Verdict, *, correct: bool) -> None:
        """Take in what somebody said of an answer that was given.

        It is no sample, since complaints come more often than praise: it teaches the regression, and a wrong answer
        counts as one, but the correction and the audited error are not made from it.
        """
        if verdict.features is None:
            return
        with self._lock:
            self._new_labels.append(Label(verdict.features, correct))
            if not correct and verdict.serve and not verdict.audit:  # an audit finds out by itself
                self._new = replace(
                    self._new,
                    pending_risk=self._new.pending_risk - (verdict.risk or 0.0),
                    known_wrong=self._new.known_wrong + 1,
                )

    def judged_twins(self, *, same: bool) -> None:
        """Take in how two answers to one and the same question were judged: what the judge errs on."""
        with self._lock:
            self._new = replace(self._new, twins=self._new.twins + 1, twins_apart=self._new.twins_apart + (not same))

    def judged_strangers(self, *, same: bool) -> None:
        """Take in how answers to two unrelated questions were judged."""
        with self._lock:
            self._new = replace(
                self._new, strangers=self._new.strangers + 1, strangers_alike=self._new.strangers_alike + same
            )

    # --- learning ----------------------------------------------------------------------------------------------------

    def _ask_for_lesson(self, *, at_once: bool = False) -> None:
        with self._lock:
            requests = self._known.requests + self._new.requests
            if not at_once and requests < self._next_lesson:
                return
            self._next_lesson = requests + _RETRY  # until the lesson is over; some are never held, or fail
        try:
            self._background("learning what may be served", self.learn)
        except Exception as error:
            if not self._logged:
                self._logged = True
                log.warning("the cache could not learn what may be served: %s: %s", type(error).__name__, error)

    def learn(self) -> None:
        """Fit the regression and set the limit anew; share what is new with other processes, and take over theirs.

        When the record fails, the lesson is held with what is known here before the error is raised.
        """
        with self._learning:
            try:
                self._share()
            finally:
                self._study()

    def _study(self) -> None:
        sums = self.sums
        later = sums.requests + max(500.0, sums.requests / 8)
        due = sums.requests >= self._next_rehearsal
        self._next_rehearsal = later if due else min(later, self._next_rehearsal)  # the count may have been halved
        if self._rehearse is not None and due:
            self._rehearsed = list(self._rehearse())
        live = self._live()
        labels = [*live, *self._rehearsed]
        enough = len(labels) >= _FEWEST_LABELS and any(label.same for label in labels)
        if enough and sums.requests >= self.warm_up:
            self._set_policy(labels, live, sums)
        with self._lock:
            first = not self._lessons and not enough
            self._next_lesson = sums.requests + (25.0 if first else max(50.0, sums.requests / 40))
            self._next_lesson = max(self._next_lesson, float(self.warm_up))

    def _live(self) -> list[Label]:
        """The labels of what was really asked, oldest first."""
        with self._lock:
            return [*self._labels, *self._new_labels][-KEPT:]

    def _set_policy(self, labels: list[Label], live: list[Label], sums: Sums) -> None:
        features = np.stack([label.features for label in labels])
        same = np.array([float(label.same) for label in labels])
        before = self._policy
        scorer = fit(features, same, live=len(live), start=before.scorer if self._lessons else None)
        noise = steering.noise(sums)
        with self._lock:
            room = _RECENT - len(self._recent)
            if not self._lessons and room > 0:
                # Labels that are not of this process's own proposals: after a restart they stand for what is asked.
                older = live[: max(0, len(live) - len(self._recent))][-room:]
                self._recent.extendleft((label.features, label.weight) for label in reversed(older))
            recent = list(self._recent)
        possible = [(row, weight) for row, weight in recent if row is not None]  # the others are never served
        if not possible:
            return
        risks = noise.true_share(scorer.risk(np.stack([row for row, _ in possible])))
        weights = np.array([weight for _, weight in possible])
        factor = _correction(live, noise).upper
        target = steering.limit(
            risks,
            weights,
            share=sums.proposals / max(1.0, sums.requests) * float(weights.sum()) / sum(weight for _, weight in recent),
            factor=factor,
            afford=steering.affordable(sums, self.max_error, factor, noise),
            max_error=self.max_error,
        )
        limit = target if before.limit <= 0.0 else 0.5 * (before.limit + target)
        served = risks[risks <= limit]
        self._policy = _Policy(scorer, noise, limit, float(np.sqrt(served).mean()) if len(served) else 0.1)
        self._lessons += 1

    def _share(self) -> None:
        """Write what is new to the record and read what others wrote; on failure all is kept for the next time."""
        with self._lock:
            labels, sums = self._new_labels, self._new
            self._new_labels, self._new = [], Sums()
            self._known = self._known + sums  # so that nothing is missing while the record is asked
        try:
            if labels or sums:
                self._record.add(labels, sums)
        except BaseException:
            with self._lock:
                self._new_labels = [*labels, *self._new_labels][-KEPT:]
                self._new = self._new + sums
                self._known = self._known + _negative(sums)
            self._take_over()  # what others have learned can be read where nothing can be written
            raise
        self._take_over()

    def _take_over(self) -> None:
        self._reached, newer, known = self._record.read(self._reached)
        with self._lock:
            self._labels.extend(newer)
            self._known = known

    def flush(self) -> None:
        """Write down what is new."""
        with self._learning:
            self._share()

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Nothing to do: the lock is held for moments only, and the child makes new ones."""

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """What is not written down yet is the parent's to write."""
        self._lock, self._learning = threading.Lock(), threading.Lock()
        self._new_labels, self._new = [], Sums()
        self._lot.seed()

    # --- telling -----------------------------------------------------------------------------------------------------

    @property
    def limit(self) -> float:
        """The risk up to which answers are given; 0 while none are."""
        return self._policy.limit

    @property
    def sums(self) -> Sums:
        """What was counted, by all processes as far as they have written it down."""
        with self._lock:
            return self._known + self._new

    def stats(self) -> dict[str, Any]:
        """What is known of the error: audited (`audited_error`, with its interval) and estimated, and at what cost."""
        sums = self.sums
        audited = steering.audited_error(sums)
        noise = self._policy.noise
        live = self._live()
        correction = _correction(live, noise)
        requests = max(1.0, sums.requests)
        return {
            "requests": sums.requests,
            "max_error": self.max_error,
            "audited_error": audited.value,
            "audited_error_low": audited.low,
            "audited_error_high": audited.high,
            "estimated_error": steering.wrong_so_far(sums, correction.mean, noise) / requests,
            "estimated_error_high": steering.wrong_so_far(sums, correction.upper, noise) / requests,
            "audits": sums.audits,
            "audit_share": sums.audits / requests,
            "risk_limit": self.limit,
            "labels": len(live),
            "judge_errors": {"apart": noise.apart, "alike": noise.alike},
        }


def check_settings(*, max_error: Any, audit_rate: Any, warm_up: Any, warm_up_name: str = "warm_up") -> None:
    """Raises `ConfigurationError` for settings that cannot work."""
    if isinstance(max_error, bool) or not isinstance(max_error, (int, float)) or not 0 < max_error < 1:
        raise ConfigurationError("max_error", max_error, "use a share of wrong answers in (0, 1), such as 0.01")
    if isinstance(audit_rate, bool) or not isinstance(audit_rate, (int, float)) or not 0 < audit_rate <= 1:
        raise ConfigurationError("audit_rate", audit_rate, "use a share of the given answers in (0, 1], such as 0.03")
    if isinstance(warm_up, bool) or not isinstance(warm_up, int) or warm_up < 0:
        raise ConfigurationError(warm_up_name, warm_up, "use a number of requests, 0 or more")


def _correction(live: Sequence[Label], noise: steering.Noise) -> steering.Correction:
    audits = [label for label in live if label.risk is not None][-_REMEMBERED_AUDITS:]
    if not audits:
        return steering.correction(0.0, 0.0)
    risks = np.array([label.risk or 0.0 for label in audits])
    weights = np.array([label.weight for label in audits])
    wrong = np.array([float(not label.same) for label in audits])
    true = float(noise.true_share(wrong.mean(keepdims=True))[0]) * len(audits)
    likely = steering.correction(float(risks.sum()), true)
    surely = max(steering.surely(risks[-n:], weights[-n:], wrong[-n:], noise) for n in (*_WATCHED, len(audits)))
    return steering.Correction(max(likely.mean, surely), max(likely.upper, surely))


def _negative(sums: Sums) -> Sums:
    return Sums(*(-getattr(sums, field.name) for field in fields(sums)))
