"""Studies whose truth is known: two configurations that are equally good.

``Design`` draws scores from variance components; ``CrossValidation`` trains two learners that
cannot differ in truth, on folds of one data set, so that the overlap of training parts is real.
A true gap is put in afterwards, by :meth:`Studies.shifted`.

**Scores** of configuration c, fold k, seed s:  score = base + F_k + G_ck + E_cks, independent and
normal with the deviations ``fold``, ``interaction`` and ``seed``. Folds are independent.

**Predictions** behind them: the two runs of a seed disagree on who is right on a share
``disagreement`` of the test utterances. The scores then say how those divide, and these counts are
all that McNemar's test sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmer_lib.stats.tables import Floats
from mmer_lib.stats.usual import Studies

Bools = npt.NDArray[np.bool_]
Singles = npt.NDArray[np.float32]

CHUNK = 200  # studies of one cross-validation at a time: some 100 MB


@dataclass(frozen=True)
class Design:
    """K folds x S seeds with deviations in shares: of folds, fold x configuration, and runs.

    The defaults lie in the paper's range: runs deviate by .018 to .024 in all, and five folds of
    7,487 utterances have 1,497 each.
    """

    n_folds: int = 5
    n_seeds: int = 10
    fold: float = 0.014
    interaction: float = 0.0055
    seed: float = 0.012
    n_test: float = 1497
    disagreement: float = 0.35
    base: float = 0.6

    def simulate(self, n_studies: int, rng: np.random.Generator) -> Studies:
        """Studies of two configurations without any true difference."""
        a, b = self.scores(n_studies, 2, rng).swapaxes(0, 1)
        total, gap = self.n_test * self.disagreement, self.n_test * (a - b)
        only_a = np.clip((total + gap) / 2, 0, None)
        return Studies(a, b, only_a, only_a - gap, self.n_test, 1 / (self.n_folds - 1))

    def scores(self, n_studies: int, n_configurations: int, rng: np.random.Generator) -> Floats:
        """Scores (R, configurations, K, S) of configurations that are all equally good."""
        r, c, k, s = n_studies, n_configurations, self.n_folds, self.n_seeds
        folds = rng.normal(self.base, self.fold, (r, 1, k, 1))
        interactions = rng.normal(0, self.interaction, (r, c, k, 1))
        return folds + interactions + rng.normal(0, self.seed, (r, c, k, s))


@dataclass(frozen=True)
class CrossValidation:
    """Two nearest-mean classifiers, each with its own half of equally informative features.

    Utterances of two classes have 2 x ``n_features`` independent normal features whose class means
    differ by ``signal`` deviations. A run (its seed) sees three quarters of its learner's features.
    Whichever learner looks better does so by chance, yet in every fold, because folds share their
    training utterances: the truth is a difference of zero.
    """

    n_utterances: int = 500
    n_features: int = 10
    signal: float = 0.25
    n_folds: int = 5
    n_seeds: int = 10
    n_repeats: int = 1  # draws of the folds, from the same utterances

    def simulate(self, n_studies: int, rng: np.random.Generator) -> Studies:
        """Studies of two learners without any true difference; K counts the folds of all draws."""
        sizes = [min(CHUNK, n_studies - start) for start in range(0, n_studies, CHUNK)]
        chunks = [self._count_right(size, rng) for size in sizes]
        a, b, both = np.concatenate(chunks, axis=1)  # (R, K, S) each
        n_test = 2 * (self.n_utterances // (2 * self.n_folds))
        overlap = 1 / (self.n_folds - 1)
        return Studies(a / n_test, b / n_test, a - both, b - both, n_test, overlap, self.n_repeats)

    def _count_right(self, r: int, rng: np.random.Generator) -> Floats:
        """How many utterances a, b and both get right: (3, r, K, S)."""
        n = self.n_utterances // (2 * self.n_folds)  # of a class in a fold
        shape = (r, 2, 2, self.n_folds * n, self.n_features)  # learner, class
        x = rng.standard_normal(shape, dtype=np.float32)
        x[:, :, 1] += np.float32(self.signal)
        draws = []
        for _ in range(self.n_repeats):
            right = self._cross_validate(x, rng)
            a, b = right[:, 0], right[:, 1]
            draws.append([side.sum(axis=2) for side in (a, b, a & b)])
            order = rng.random((r, 1, 2, shape[3], 1)).argsort(axis=3)
            x = np.take_along_axis(x, order, axis=3)  # the next draw of folds
        return np.concatenate(draws, axis=2).astype(np.float64)

    def _cross_validate(self, x: Singles, rng: np.random.Generator) -> Bools:
        """Which test utterances each run gets right: (r, 2, K, n_test, S)."""
        k, s, d = self.n_folds, self.n_seeds, self.n_features
        r, n = len(x), x.shape[3] // k
        x = x.reshape(r, 2, 2, k, n, d).swapaxes(2, 3)  # (r, 2, k, class, n, d)
        sums = x.sum(axis=4)  # (r, 2, k, 2, d)
        means = (sums.sum(axis=2, keepdims=True) - sums) / ((k - 1) * n)  # of the other folds
        direction = means[:, :, :, 1] - means[:, :, :, 0]  # (r, 2, k, d)
        middle = means.mean(axis=3)
        evidence = (x - middle[:, :, :, None, None]) * direction[:, :, :, None, None]
        seen = rng.random((r, 2, k, d, s), dtype=np.float32).argsort(axis=3) < 3 * d // 4
        votes = evidence.reshape(r, 2, k, 2 * n, d) @ seen.astype(np.float32)  # (r, 2, k, 2n, s)
        truth = np.repeat([False, True], n)[:, None]
        right: Bools = (votes > 0) == truth
        return right
