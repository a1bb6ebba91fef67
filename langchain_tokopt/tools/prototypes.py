"""The arithmetic of `IntentClassifier`: which of many groups a vector belongs to, learned one vector at a time.

A group is the sum of its vectors, compared by cosine from the centre of all groups. Two things are added to that.
Directions in which vectors of one group differ anyway count less: the metric of linear discriminant analysis. And a
vector that would have been taken for another group pulls its own group closer and pushes the other one away, once, as
in soft learning vector quantisation (S. Seo and K. Obermayer, Neural Computation 15, 2003). No vector is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float32]

# All of these were chosen on 20 and 5 examples a class of Banking77, and left alone on CLINC150 and MetaTool.
_SCALE = 20.0  # of cosines, which are then the logits: fits how often they are right
_CORRECTION = 2.0  # weight of a vector's error beside the vector itself
_TRUSTED = 10.0  # vectors of a group after which its errors count in full; earlier ones say little
_DOUBT = 0.1  # a group of n vectors has n / (n + this) of its similarity
_SHRINKAGE = 1.5  # vectors per dimension that the assumption "all directions are equal" is worth
_FEWEST = 0.05  # vectors per dimension up to which it is all there is
_NEGLIGIBLE = 0.003  # probability below which a group is not pushed away
_RENEWAL = 1.25  # growth of what was learned after which centre and metric are computed anew
_LONGEST = 768  # longer vectors are compared without the metric, whose cost grows with the square
_LARGEST_WEIGHT = 1e6
_ROUNDING = 1e-4
_TINY = 1e-30

_SUMS, _MEANS, _SHIFTED = 0, 1, 2  # what is kept of a group: vectors
_COUNTS, _COEFFICIENTS = 0, 1  # and numbers


class Prototypes:
    """Groups by position. For one thread at a time.

    Args:
        dim: Length of the vectors, all of unit norm.
        half_life: Number of vectors after which a vector counts half; `None` for never.
    """

    def __init__(self, dim: int, *, half_life: float | None = None) -> None:
        self.dim = dim
        self._half_life = half_life
        self._known = 0
        self._rows: Numbers = np.zeros((3, 0, dim), dtype=np.float32)
        self._numbers: NDArray[np.float64] = np.zeros((2, 0))
        self._centre: Numbers = np.zeros(dim, dtype=np.float32)
        self._spread = _Spread(dim)
        self._weight = 1.0  # of the newest vector; grows with a half-life, instead of all others shrinking
        self._learned = 0
        self._next_renewal = 1
        self._renewed_with = 0  # groups

    def __len__(self) -> int:
        return self._known

    def learn(self, vector: Numbers, position: int) -> None:
        """Add a vector `[dim]` to the group at this position; a new group has the position `len(self)`."""
        if self._half_life is not None:
            self._age(self._half_life)
        if position == self._known:
            self._make_room()
        seen = self._seen(vector)
        steps = np.zeros(self._known)
        steps[position] = 1.0
        trust = min(1.0, self._numbers[_COUNTS, position] / self._weight / _TRUSTED)
        if trust:
            error = -self._probabilities(seen)
            error[position] += 1.0
            steps += _CORRECTION * trust * np.where(abs(error) < _NEGLIGIBLE, 0.0, error)
        self._move(vector, seen, steps * self._weight)
        self._count(vector, position)
        self._learned += 1
        if self._learned >= self._next_renewal or self._known > _RENEWAL * self._renewed_with:
            self._renew()

    def probabilities(self, vector: Numbers) -> NDArray[np.float64]:
        """How probable each group is for a vector `[dim]`: float64 `[len(self)]`, at least one group, together 1."""
        return self._probabilities(self._seen(vector))

    def remove(self, position: int) -> None:
        """Drop a group; those behind it move up."""
        self._rows = np.delete(self._rows, position, axis=1)
        self._numbers = np.delete(self._numbers, position, axis=1)
        self._known -= 1
        self._renewed_with = min(self._renewed_with, self._known)

    # --- keeping it --------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
        """What was learned, as numbers and arrays; the arrays are copies."""
        half = np.triu_indices(len(self._spread.scatter))  # one is symmetric, the other triangular
        numbers = {
            "weight": self._weight,
            "learned": self._learned,
            "next_renewal": self._next_renewal,
            "renewed_with": self._renewed_with,
            "freedom": self._spread.freedom,
        }
        arrays = {
            "rows": self._rows[:_SHIFTED, : self._known].copy(),
            "numbers": self._numbers[:, : self._known].copy(),
            "centre": self._centre.copy(),
            "scatter": self._spread.scatter[half],
            "metric": self._spread.metric[half],
        }
        return numbers, arrays

    def restore(self, numbers: dict[str, float], arrays: dict[str, NDArray[Any]]) -> None:
        """Take over what `state` gave."""
        self._weight = float(numbers["weight"])
        self._learned, self._next_renewal = int(numbers["learned"]), int(numbers["next_renewal"])
        self._renewed_with = int(numbers["renewed_with"])
        self._spread.freedom = float(numbers["freedom"])
        half = np.triu_indices(len(self._spread.scatter))
        self._spread.scatter[half] = self._spread.scatter.T[half] = arrays["scatter"]
        self._spread.metric[half] = arrays["metric"]
        self._centre[:] = arrays["centre"]
        self._numbers = np.asarray(arrays["numbers"], dtype=np.float64)
        self._known = self._numbers.shape[1]
        self._rows = np.zeros((3, self._known, self.dim), dtype=np.float32)
        self._rows[:_SHIFTED] = arrays["rows"]
        self._shift_all()

    # -----------------------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        if self._known == self._rows.shape[1]:
            more = max(8, self._known)  # twice the room, so that many groups cost little
            self._rows = np.pad(self._rows, ((0, 0), (0, more), (0, 0)))
            self._numbers = np.pad(self._numbers, ((0, 0), (0, more)))
        self._known += 1

    def _age(self, half_life: float) -> None:
        self._weight *= 2.0 ** (1.0 / half_life)
        if self._weight > _LARGEST_WEIGHT:
            self._rows[[_SUMS, _SHIFTED]] /= np.float32(self._weight)
            self._numbers /= self._weight
            self._spread.scatter /= np.float32(self._weight)
            self._spread.freedom /= self._weight
            self._weight = 1.0

    def _move(self, vector: Numbers, seen: Numbers, steps: NDArray[np.float64]) -> None:
        """Add multiples of the vector to the sums of the groups."""
        moved = np.nonzero(steps)[0]
        by = steps[moved].astype(np.float32)
        self._rows[_SUMS, moved] += np.outer(by, vector)
        self._rows[_SHIFTED, moved] += np.outer(by, seen)
        self._numbers[_COEFFICIENTS, moved] += steps[moved]

    def _count(self, vector: Numbers, position: int) -> None:
        """Update the group's mean, and with it how vectors of one group differ (B. P. Welford, 1962)."""
        self._numbers[_COUNTS, position] += self._weight
        count = self._numbers[_COUNTS, position]
        before = vector - self._rows[_MEANS, position]
        self._rows[_MEANS, position] += before * np.float32(self._weight / count)
        if count > self._weight:
            self._spread.add(before, vector - self._rows[_MEANS, position], self._weight)

    def _renew(self) -> None:
        self._centre = self._rows[_MEANS, : self._known].mean(axis=0)
        self._spread.renew()
        self._shift_all()
        self._renewed_with = self._known
        self._next_renewal = max(self._learned + 1, int(self._learned * _RENEWAL))
        if self._half_life is not None:
            self._next_renewal = min(self._next_renewal, self._learned + 1 + int(self._half_life / 4))

    def _shift_all(self) -> None:
        """See all groups from the present centre, by the present metric."""
        coefficients = self._numbers[_COEFFICIENTS, :, None].astype(np.float32)
        self._rows[_SHIFTED] = self._spread.white(self._rows[_SUMS] - coefficients * self._centre)

    def _seen(self, vector: Numbers) -> Numbers:
        return self._spread.white(vector - self._centre)

    def _probabilities(self, seen: Numbers) -> NDArray[np.float64]:
        groups = self._rows[_SHIFTED, : self._known]
        # Differences from the centre that are lost in the rounding of float32 have no direction.
        least = _ROUNDING * np.abs(self._numbers[_COEFFICIENTS, : self._known])
        norms = np.maximum(np.sqrt(np.einsum("ij,ij->i", groups, groups)), least)
        cosines = groups @ seen / (np.maximum(norms, _TINY) * max(float(np.linalg.norm(seen)), _ROUNDING))
        counts = self._numbers[_COUNTS, : self._known] / self._weight
        evidence = np.maximum(counts / (counts + _DOUBT), _TINY)
        logits = _SCALE * cosines * evidence + np.log(evidence)  # what has faded neither attracts nor repels
        odds = np.exp(logits - logits.max())
        return np.asarray(odds / odds.sum(), dtype=np.float64)


class _Spread:
    """How vectors of one group differ from each other, over all groups; and the metric that makes up for it.

    Args:
        dim: Length of the vectors. For long ones all directions stay equal.
    """

    def __init__(self, dim: int) -> None:
        size = dim if dim <= _LONGEST else 0
        self.scatter: Numbers = np.zeros((size, size), dtype=np.float32)
        self.metric: Numbers = np.eye(size, dtype=np.float32)
        self.freedom = 0.0  # weight of the vectors beyond the first of each group

    def add(self, before: Numbers, after: Numbers, weight: float) -> None:
        """Add a vector by its differences to its group's mean before and after it."""
        if len(self.scatter):
            self.scatter += np.outer(before * np.float32(weight), after)
            self.freedom += weight

    def renew(self) -> None:
        """Compute the metric anew."""
        dim, total = len(self.scatter), float(np.trace(self.scatter))
        if total <= 0 or self.freedom <= _FEWEST * dim:
            return
        # Shrunk towards equal directions, as by J. H. Friedman, "Regularized discriminant analysis", 1989.
        assumed = _SHRINKAGE * dim
        covariance = self.scatter * np.float32(dim * self.freedom / total)
        covariance[np.diag_indices(dim)] += np.float32(assumed)
        covariance /= np.float32(self.freedom + assumed)
        self.metric = np.linalg.inv(np.linalg.cholesky(covariance)).T

    def white(self, vectors: Numbers) -> Numbers:
        """The vectors as the metric sees them: `[dim]` or `[n, dim]`."""
        return vectors @ self.metric if len(self.metric) else vectors
