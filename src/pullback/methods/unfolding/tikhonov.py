"""Matrix inversion and Tikhonov regularisation of unfolded contents, by one generalised singular value decomposition.

With w the ratio of the contents to the prior, A the response of w in units of the data's errors, b the data in these
units and C second differences along the bins, the estimate is

    w = argmin |A w - b|^2 + strength |C w|^2

as Hoecker and Kartvelishvili have it (hep-ph/9509307); their regularisation by the k-th singular value is
``strength = s_k^2``. Strength 0 is least squares, which for as many observed as truth bins is the inverse matrix. A
growing strength leads to the prior's shape.
"""

from typing import NamedTuple

import numpy as np

from pullback.methods.unfolding.binned import Estimate
from pullback.methods.unfolding.response import UnfoldingError

STRENGTHS = 200
"""Strengths that are tried, evenly in their logarithm, between the least and the greatest singular value."""
WORST_CONDITION = 1e12
"""Condition number above which float64 leaves no digits of an inverted response."""


class Spectrum(NamedTuple):
    """Generalised singular value decomposition of A and C: A = measured diag(cosine) R, and |C w| = |sine R w| / scale.

    Attributes:
        measured: (observed, mode).
        modes: w of each mode (truth, mode), the inverse of R.
        inverse: R (mode, truth).
        cosine, sine: weight of each mode in A, descending, and in the curvature times ``scale`` (mode,).
        scale: of the curvature.
    """

    measured: np.ndarray
    modes: np.ndarray
    inverse: np.ndarray
    cosine: np.ndarray
    sine: np.ndarray
    scale: float

    @property
    def strengths(self) -> np.ndarray:
        """Squares of the generalised singular values, descending (mode,); infinite for w without curvature."""
        with np.errstate(divide="ignore"):
            return (self.scale * self.cosine / np.where(self.sine > 1e-10, self.sine, 0.0)) ** 2

    def weights(self, strength: float) -> np.ndarray:
        """Diagonal of (A^T A + strength C^T C)^-1 in the basis of the modes (mode,)."""
        weights: np.ndarray = 1 / (self.cosine**2 + strength * (self.sine / self.scale) ** 2)
        return weights


def curvature(bins: int) -> np.ndarray:
    """Second differences along the bins (bin, bin), first differences at the ends: zero for equal numbers."""
    matrix = np.diag(np.full(bins - 1, 1.0), 1) + np.diag(np.full(bins - 1, 1.0), -1)
    return matrix - np.diag(matrix.sum(axis=1))


def spectrum(matrix: np.ndarray, variance: np.ndarray, prior: np.ndarray) -> Spectrum:
    """The decomposition.

    Args:
        matrix: response (observed, truth), with at least as many observed as truth bins.
        variance: that the fit weights the data with (observed,), positive.
        prior: contents (truth,), positive.

    Raises:
        UnfoldingError: fewer observed than truth bins, or a prior or variance that is not positive.
    """
    observed, truth = matrix.shape
    if observed < truth:
        raise UnfoldingError(
            f"found {observed} observed bins for {truth} truth bins, with underflow and overflow, wanted at least as "
            "many: raise `observed_bins` or lower `bins`"
        )
    for name, values in (("prior", prior), ("variance", variance)):
        if not (values > 0).all():
            raise UnfoldingError(f"the {name} of bin {np.flatnonzero(~(values > 0))[0]} is not positive: merge bins")
    seen = matrix * prior / np.sqrt(variance)[:, None]
    bent = curvature(truth)
    # Brought to one size, the rows of both keep their digits in the common factor.
    scale = float(np.linalg.norm(seen) / np.linalg.norm(bent))
    q, r = np.linalg.qr(np.concatenate([seen, scale * bent]))
    measured, cosine, modes = np.linalg.svd(q[:observed], full_matrices=False)
    sine = np.linalg.norm(q[observed:] @ modes.T, axis=0)
    return Spectrum(measured, np.linalg.solve(r, modes.T), modes @ r, cosine, sine, scale)


def tikhonov(
    matrix: np.ndarray, data: np.ndarray, variance: np.ndarray, prior: np.ndarray, strength: float
) -> Estimate:
    """The estimate of a given strength.

    Args:
        matrix: response (observed, truth), of either sign.
        data: (observed,), of either sign.
        variance: that the fit weights the data with (observed,).
        prior: contents (truth,).
        strength: of the regularisation; with 0 the estimate does not depend on the prior.

    Raises:
        UnfoldingError: as `spectrum`; with strength 0 also where the response cannot be inverted.
    """
    parts = spectrum(matrix, variance, prior)
    condition = float(np.linalg.cond(matrix))
    if strength == 0 and not condition < WORST_CONDITION:
        raise UnfoldingError(
            f"the response of {matrix.shape[0]} observed and {matrix.shape[1]} truth bins has the condition number "
            f"{condition:.2g}, and cannot be inverted: take fewer `bins`, or `tikhonov`"
        )
    weights, modes = parts.weights(strength), prior[:, None] * parts.modes
    by_data = (modes * (weights * parts.cosine)) @ (parts.measured / np.sqrt(variance)[:, None]).T
    content = by_data @ data
    inverse = (modes * weights) @ modes.T
    pull = (data - matrix @ content) / variance
    by_response = inverse[:, None, :] * pull[:, None] - by_data[:, :, None] * content
    return Estimate(
        content, by_data, by_response, {"regularisation_strength": strength, "response_condition": condition}
    )


def strength_of_rank(parts: Spectrum, rank: int) -> float:
    """Strength s_k^2 that keeps the first ``rank`` modes (Hoecker and Kartvelishvili); the first has no curvature.

    Raises:
        UnfoldingError: there are not as many modes.
    """
    if not 2 <= rank <= len(parts.cosine):
        raise UnfoldingError(f"`rank` is {rank}, wanted 2 to {len(parts.cosine)}, the number of truth bins")
    return float(parts.strengths[rank - 1])


def strength_of_least_correlation(parts: Spectrum) -> float:
    """Strength with the least mean global correlation of the contents (Schmitt, arXiv:1205.6201).

    The global correlation of bin i is sqrt(1 - 1 / (V_ii V^-1_ii)), V the covariance by the data's statistics. Too
    little regularisation makes neighbours anticorrelated, too much correlates all.
    """
    strengths = parts.strengths
    least, most = strengths[-1], strengths[np.isfinite(strengths)].max()
    if not 0 < least < most:
        least = most * 1e-12
    tried = np.geomspace(least, most, STRENGTHS)
    return float(tried[np.argmin([_mean_correlation(parts, strength) for strength in tried])])


def _mean_correlation(parts: Spectrum, strength: float) -> float:
    with np.errstate(divide="ignore", over="ignore"):
        spread = (parts.weights(strength) * parts.cosine) ** 2
        both = (parts.modes**2 @ spread) * (parts.inverse.T**2 @ (1 / spread))
    return float(np.sqrt(np.clip(1 - 1 / both, 0.0, 1.0)).mean())
