"""Unfolding in bins: estimates of the truth's contents, and their covariance.

Each method gives an `Estimate`: the contents and their derivatives by the data and by the response matrix. The
covariance is propagated to first order through them. Data are objects in observed bins (observed,) from which fakes
have been taken away; a response matrix (observed, truth) is P(observed bin | truth bin), and its columns sum to the
efficiency.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from pullback.methods.unfolding.response import Response, UnfoldingError, ratio

Statistic = Literal["ks", "chi2", "rmd"]
"""Difference of two iterations: the greatest of cumulated shares (Kolmogorov-Smirnov), chi^2 per bin of two histograms,
or the greatest relative difference of a bin."""


class Estimate(NamedTuple):
    """Unfolded contents.

    Attributes:
        content: objects in each truth bin before the detector (truth,).
        by_data: derivative of the contents by the data (truth, observed).
        by_response: derivative by the entries of the response matrix (truth, observed, truth); prior and weights of the
            fit are held fixed.
        diagnostics: numbers of the estimate.
    """

    content: np.ndarray
    by_data: np.ndarray
    by_response: np.ndarray
    diagnostics: Mapping[str, float] = MappingProxyType({})


def data_covariance(estimate: Estimate, covariance: np.ndarray) -> np.ndarray:
    """Covariance of the contents (truth, truth) by that of the data, a matrix or variances (observed,)."""
    if covariance.ndim == 1:
        return (estimate.by_data * covariance) @ estimate.by_data.T
    spread: np.ndarray = estimate.by_data @ covariance @ estimate.by_data.T
    return spread


def response_covariance(
    estimate: Estimate, response: Response, form: Literal["multinomial", "poisson"] = "multinomial"
) -> np.ndarray:
    """Covariance of the contents (truth, truth) that follows from the finite simulation.

    Args:
        estimate: unfolded with this response.
        response: the response.
        form: the law of the entries in a column of the matrix. ``multinomial``: a known number of simulated objects is
            shared among the observed bins and the lost ones (D'Agostini 1995; of weighted objects the effective number
            counts). ``poisson``: each entry scatters independently by its own error.
    """
    by = estimate.by_response
    truth = len(estimate.content)
    if form == "poisson":
        spread: np.ndarray = (by * response.error**2).reshape(truth, -1) @ by.reshape(truth, -1).T
        return spread
    each = ratio(response.matrix, response.simulated[None, :])
    mean = np.einsum("ijk,jk->ik", by, response.matrix)
    outer = ratio(mean, response.simulated[None, :]) @ mean.T
    full: np.ndarray = (by * each).reshape(truth, -1) @ by.reshape(truth, -1).T - outer
    return full


def by_simulation(
    estimate: Estimate,
    response: Response,
    counts: np.ndarray,
    form: Literal["multinomial", "poisson"] = "multinomial",
) -> np.ndarray:
    """What a simulated object of weight one changes in the contents, to first order (cell, truth).

    A cell is an observed bin, or none for a miss, times a truth bin, or none for a fake: (observed + 1) (truth + 1)
    rows, the truth bins running first and "none" standing last. Sums of squares of these rows, weighted and added up in
    groups, are the covariance of the contents by the statistics of the simulation: of response and fakes, with weights
    and dependent objects, and of several features of the same objects (`counts.GroupedCounts.propagated`).

    Args:
        estimate: unfolded with this response.
        response: the response; `Response.truth` in the unit of the weights.
        counts: data with fakes (observed,).
        form: as in `response_covariance`.
    """
    observed, truth = response.matrix.shape
    cells = np.zeros((observed + 1, truth + 1, truth))
    cells[:observed, :truth] = np.moveaxis(estimate.by_response, 0, -1)
    if form == "multinomial":
        cells[:, :truth] -= np.einsum("ijk,jk->ki", estimate.by_response, response.matrix)
    cells[:, :truth] = ratio(cells[:, :truth], response.truth[:, None])
    # The share of fakes f = F / (F + R) falls by f / (F + R) with a pair, and grows by (1 - f) / (F + R) with a fake.
    each = ratio(counts * (1 - response.fakes), response.matrix @ response.truth)
    taken = estimate.by_data.T * each[:, None]
    cells[:observed, :truth] += (taken * response.fakes[:, None])[:, None]
    cells[:observed, truth] = -taken * (1 - response.fakes)[:, None]
    return cells.reshape(-1, truth)


def bayes(
    matrix: np.ndarray,
    data: np.ndarray,
    prior: np.ndarray,
    iterations: int,
    statistic: Statistic | None = None,
    tolerance: float = 0.0,
) -> Estimate:
    """Iterative Bayesian unfolding (D'Agostini, Nucl. Instrum. Meth. A 362 (1995) 487).

    The derivatives hold over all iterations (Adye, arXiv:1105.1160).

    Args:
        matrix: response (observed, truth). Single entries may be negative, by simulated events of negative weight.
        data: (observed,).
        prior: contents or shares that the iteration begins with (truth,), of any scale.
        iterations: how many, or the most.
        statistic: with it the iteration ends as soon as it is below the tolerance.
        tolerance: in the unit of the statistic.

    Raises:
        UnfoldingError: a negative number, no data, or a truth bin of the prior that is never reconstructed.
    """
    refuse_negative("data", data)
    refuse_negative("prior", prior)
    if not data.sum() > 0:
        raise UnfoldingError("the data are empty: there is nothing to unfold")
    efficiency = matrix.sum(axis=0)
    if (never := np.flatnonzero((efficiency == 0) & (prior > 0))).size:
        raise UnfoldingError(f"truth bin {never[0]} is never reconstructed: merge it with another, or leave it out")
    content = prior * (data.sum() / prior.sum())
    by_data = np.zeros(matrix.T.shape)
    by_response = np.zeros((len(prior), *matrix.shape))
    each, done, previous, truth = np.inf, 0, content, np.arange(len(prior))
    while done < iterations and (statistic is None or not each < tolerance):
        previous, done = content, done + 1
        content, folded = _updated(matrix, efficiency, previous, data)
        refuse_negative("folded contents", folded)
        refuse_negative("contents", content)
        excess = ratio(data, folded)
        back = ratio(matrix * ratio(previous, efficiency), folded[:, None])  # P(truth bin | observed bin) / efficiency
        seen = ratio(back * efficiency, previous[None, :])
        chain = np.diag(ratio(content, previous)) - (back.T * data) @ seen
        direct = (back.T * -excess)[:, :, None] * previous
        direct[truth, :, truth] += ratio(np.outer(previous, excess) - content[:, None], efficiency[:, None])
        by_data = back.T + chain @ by_data
        by_response = direct + np.tensordot(chain, by_response, 1)
        if statistic is not None:
            each = STATISTICS[statistic](content, previous)
    change = float(np.abs(content - previous).sum() / content.sum())
    return Estimate(content, by_data, by_response, {"unfolding_iterations": float(done), "iteration_change": change})


def bayes_contents(matrix: np.ndarray, data: np.ndarray, prior: np.ndarray, iterations: int) -> np.ndarray:
    """Contents (replica, truth) of `bayes` for replicas of the data (replica, observed), without derivatives."""
    efficiency = matrix.sum(axis=0)
    content = prior * (data.sum(axis=1, keepdims=True) / prior.sum())
    for _ in range(iterations):
        content, _ = _updated(matrix, efficiency, content, data)
    return content


def _updated(
    matrix: np.ndarray, efficiency: np.ndarray, content: np.ndarray, data: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Contents (..., truth) after one iteration, and those before it folded (..., observed)."""
    folded = content @ matrix.T
    return ratio(content * (ratio(data, folded) @ matrix), efficiency), folded


def _ks(new: np.ndarray, old: np.ndarray) -> float:
    return float(np.abs(np.cumsum(new) / new.sum() - np.cumsum(old) / old.sum()).max())


def _chi2(new: np.ndarray, old: np.ndarray) -> float:
    a, b = new.sum(), old.sum()
    return float(((b * new - a * old) ** 2 / np.maximum(new + old, 1.0)).sum() / (a * b * len(new)))


def _rmd(new: np.ndarray, old: np.ndarray) -> float:
    return float((np.abs(new - old) / np.maximum(new + old, 1.0)).max())


STATISTICS: dict[Statistic, Callable[[np.ndarray, np.ndarray], float]] = {"ks": _ks, "chi2": _chi2, "rmd": _rmd}


def bin_by_bin(matrix: np.ndarray, data: np.ndarray, prior: np.ndarray) -> Estimate:
    """Each bin times its simulated ratio of truth to observation: correct only where data and simulation agree.

    Args:
        matrix: response (bin, bin), observed bins as truth bins.
        data: (bin,), of either sign.
        prior: simulated truth (bin,), of any scale.

    Raises:
        UnfoldingError: the matrix is not square, or nothing is simulated in an observed bin that holds data.
    """
    if matrix.shape[0] != matrix.shape[1]:
        raise UnfoldingError(
            f"found {matrix.shape[0]} observed and {matrix.shape[1]} truth bins: correction bin by bin needs the same"
        )
    folded = matrix @ prior
    if (empty := np.flatnonzero((folded <= 0) & (data != 0))).size:
        raise UnfoldingError(f"nothing is simulated in observed bin {empty[0]}: merge it with another")
    factor = ratio(prior, folded)
    content, bins = factor * data, np.arange(len(data))
    by_response = np.zeros((len(prior), *matrix.shape))
    by_response[bins, bins] = -np.outer(ratio(content, folded), prior)
    return Estimate(content, np.diag(factor), by_response)


def refolded_chi2(matrix: np.ndarray, data: np.ndarray, content: np.ndarray, scatter: np.ndarray) -> float:
    """Chi^2 per observed bin of the data and the folded contents.

    Args:
        matrix: response (observed, truth).
        data: (observed,).
        content: (truth,).
        scatter: variance of the data per object that is expected there (observed,), 1 for counts without fakes.
    """
    folded = matrix @ content
    variance = np.maximum(folded, 0.0) * scatter
    return float(ratio((data - folded) ** 2, variance).sum() / len(data))


def refuse_negative(name: str, values: np.ndarray) -> None:
    """Raise `UnfoldingError` where an iteration of positive factors meets a negative number (bin,)."""
    if (found := np.flatnonzero(values < 0)).size:
        raise UnfoldingError(
            f"{name}: bin {found[0]} holds {values[found[0]]:.4g}, and iterative Bayesian unfolding needs numbers that "
            "are not negative: take wider bins, or `matrix-inversion` or `tikhonov`"
        )
