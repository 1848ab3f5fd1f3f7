"""Weights and ancestry of particles in one or several islands: populations that are resampled apart.

A population of N particles is weighted as a whole, and its draws share few ancestors where N is small beside what y
says. K islands of N / K particles (Verge, Dubarry, Del Moral and Moulines 2015, "On parallel implementation of
sequential Monte Carlo methods: the island particle model", Statistics and Computing 25) are independent runs: each is
as far from the posterior as N / K particles leave it, but draws of different islands share no ancestor. Islands count
alike; weighted by their evidence, as few would remain as of the particles of one.
"""

import math

import numpy as np

from pullback.core import particles


class Islands:
    """Log weights of particles, island by island, on their way through the levels.

    Args:
        log_weight: (particle,).
        islands: K, a divisor of the number of particles.

    Attributes:
        log_weight: (K, particle of an island), float64; -inf of a dead one.
        ancestors: for each particle the one at the first level that it comes from.
        shares: effective size over the number of particles at each level, before resampling; mean over islands.
        died: number of particles that died, summed over the levels.
    """

    def __init__(self, log_weight: np.ndarray, islands: int = 1):
        self.log_weight = np.array(log_weight, np.float64).reshape(islands, -1)
        self.ancestors = np.arange(self.log_weight.size)
        self.died = 0
        self._evidence = np.zeros(islands)
        self._resampled: list[tuple[float, np.ndarray]] = []
        self._times = np.zeros(islands, int)
        self._share = self._effective()
        self.shares = [float(self._share.mean())]

    @property
    def alive(self) -> np.ndarray:
        """(particle,)."""
        return np.isfinite(self.log_weight).ravel()

    @property
    def resamplings(self) -> float:
        """Number of levels with resampling, mean over islands."""
        return float(self._times.mean())

    def grow(self, growth: np.ndarray, fine: np.ndarray) -> None:
        """Add to log weights; the dead stay dead.

        Args:
            growth: (particle,); a particle whose weight is no longer finite dies.
            fine: (particle,), whether the particle is finite.
        """
        before = self.alive
        with np.errstate(invalid="ignore"):
            grown = self.log_weight.ravel() + growth
        living = before & np.isfinite(grown) & fine
        self.died += int((before & ~living).sum())
        self.log_weight = np.where(living, grown, -np.inf).reshape(self.log_weight.shape)
        self._share = self._effective()
        self.shares.append(float(self._share.mean()))

    def resample(
        self, level: float, below: float, kind: particles.Resampling, rng: np.random.Generator
    ) -> np.ndarray | None:
        """Resample the islands whose effective share is too small.

        Args:
            level: noise level.
            below: share.
            kind: of resampling.
            rng: for the uniform numbers.

        Returns:
            Which particle each comes from (particle,); None where no island is resampled.
        """
        chosen = np.flatnonzero((self._share > 0) & (self._share < below))
        if not len(chosen):
            return None
        islands, size = self.log_weight.shape
        kept = np.arange(islands * size).reshape(islands, size)
        self._evidence[chosen] += particles.log_evidence(self.log_weight[chosen])
        for island in chosen:
            weight = particles.relative(self.log_weight[island])
            kept[island] = island * size + particles.resample(weight, size, rng, kind)
        self.log_weight[chosen] = 0.0
        self._times[chosen] += 1
        rows = kept.ravel()
        self.ancestors = self.ancestors[rows]
        self._resampled.append((level, rows))
        return rows

    def pooled(self) -> np.ndarray:
        """Log weights (particle,) with the same sum in each island that lives."""
        mean = particles.log_evidence(self.log_weight)
        living = np.isfinite(mean)
        if not living.any():
            return self.log_weight.ravel()
        shift = np.where(living, particles.log_evidence(mean) - np.where(living, mean, 0.0), 0.0)
        return (self.log_weight + shift[:, None]).ravel()

    def log_evidence(self) -> float:
        """Log of Z_last / Z_first: of the mean over islands; -inf where all particles died."""
        return float(particles.log_evidence(self._evidence + particles.log_evidence(self.log_weight)))

    def common_level(self) -> float:
        """Level at which the last of the islands' common ancestors was copied; inf where an island has none."""
        size = self.log_weight.shape[1]
        rows = np.flatnonzero(self.alive)
        wanted = len(np.unique(rows // size))
        for level, parents in reversed(self._resampled):
            rows = np.unique(parents[rows])
            if len(rows) == wanted:
                return level
        return math.inf

    def _effective(self) -> np.ndarray:
        return particles.effective_size(particles.relative(self.log_weight)) / self.log_weight.shape[1]
