"""The binned response of a detector, from simulated pairs, misses and fakes.

An axis with edges (bin + 1,) has bin + 2 bins: index 0 is the underflow, 1 to bin lie between the edges, and bin + 1 is
the overflow. Nothing is clipped into an outer bin.
"""

from typing import NamedTuple

import numpy as np

TAIL = 0.005
"""Share of the simulated events below the first quantile edge, and above the last."""


class UnfoldingError(ValueError):
    """Events that cannot be unfolded in these bins; the message says what was found and what to do."""


class Entries(NamedTuple):
    """Simulated objects in bins; those of each kind have arrays of one length.

    Attributes:
        observed, truth, weight: bins and weight of the pairs (pair,).
        missed, missed_weight: truth bin and weight of the misses (miss,).
        fake, fake_weight: observed bin and weight of the fakes (fake,).
    """

    observed: np.ndarray
    truth: np.ndarray
    weight: np.ndarray
    missed: np.ndarray = np.empty(0, int)
    missed_weight: np.ndarray = np.empty(0)
    fake: np.ndarray = np.empty(0, int)
    fake_weight: np.ndarray = np.empty(0)


class Response(NamedTuple):
    """What the detector makes of a truth object, in bins.

    Attributes:
        matrix: probability that an object of a truth bin is reconstructed in an observed bin (observed, truth); its
            columns sum to the efficiency.
        truth: simulated objects in each truth bin, sum of weights (truth,): pairs and misses.
        simulated: effective number of them, (sum w)^2 / sum w^2 (truth,).
        error: standard error of each entry of the matrix by its own number of pairs (observed, truth).
        fakes: share of fakes among the objects of an observed bin (observed,).
    """

    matrix: np.ndarray
    truth: np.ndarray
    simulated: np.ndarray
    error: np.ndarray
    fakes: np.ndarray

    @property
    def efficiency(self) -> np.ndarray:
        """Probability that an object of a truth bin is reconstructed (truth,)."""
        return self.matrix.sum(axis=0)

    def take(self, observed: np.ndarray, truth: np.ndarray) -> "Response":
        """The response of some observed and truth bins (indices); what goes to other observed bins counts as lost."""
        cells = np.ix_(observed, truth)
        return Response(
            self.matrix[cells],
            self.truth[truth],
            self.simulated[truth],
            self.error[cells],
            self.fakes[observed],
        )


def bin_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of each value (event,), with underflow 0 and overflow last; the last edge belongs to the bin below it."""
    index = np.searchsorted(edges, values, side="right")
    index[values == edges[-1]] = len(edges) - 1
    return index


def quantile_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges (bin + 1,) of bins with equal numbers of values; a share `TAIL` is left outside at either end.

    Raises:
        UnfoldingError: the values take too few different numbers for two bins.
    """
    edges: np.ndarray = np.unique(np.quantile(values.astype(np.float64), np.linspace(TAIL, 1 - TAIL, bins + 1)))
    if len(edges) < 3:
        raise UnfoldingError(
            f"{bins} bins with equal numbers of events have only {len(edges)} different edges: give the edges"
        )
    return edges


def response_of(entries: Entries, bins: tuple[int, int]) -> Response:
    """The response from simulated objects.

    Weights may be negative where those of a truth bin have a positive sum.

    Args:
        entries: in bins.
        bins: number of observed and of truth bins, underflow and overflow among them.
    """
    observed, truth = bins
    cell = entries.observed * truth + entries.truth
    pairs, squares = (
        np.bincount(cell, weights=weight, minlength=observed * truth).reshape(bins)
        for weight in (entries.weight, entries.weight**2)
    )
    missed, missed_squares = (
        np.bincount(entries.missed, weights=weight, minlength=truth)
        for weight in (entries.missed_weight, entries.missed_weight**2)
    )
    fakes = np.bincount(entries.fake, weights=entries.fake_weight, minlength=observed)
    total, total_squares = pairs.sum(axis=0) + missed, squares.sum(axis=0) + missed_squares
    return Response(
        ratio(pairs, total),
        total,
        ratio(total**2, total_squares),
        ratio(np.sqrt(squares), total),
        ratio(fakes, pairs.sum(axis=1) + fakes),
    )


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient that is zero where the denominator is."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator != 0)
