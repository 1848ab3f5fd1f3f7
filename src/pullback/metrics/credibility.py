"""Calibration: ranks of the truth among the draws of its event, and expected coverage."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from pullback.core import seeding
from pullback.ensembles.store import EnsembleReader
from pullback.metrics import expected_coverage as tarp
from pullback.metrics import ranks
from pullback.metrics.bootstrap import Replicas
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.sample import Sample, Space, deviation
from pullback.problems.base import Problem

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers

Y_VALUES = 4_000_000
"""Numbers of observations that are in memory at once."""


class Credibility:
    """What is ranked of one family's first events; references and tie-breakers are the same for all methods.

    Args:
        reader: of the family, with truth.
        n: events.
        space: how x is compared.
        problem: for the likelihood, or None.
        address: of the random numbers.
        reference: index of independent pairs of the same prior, or None.
    """

    def __init__(
        self,
        reader: EnsembleReader,
        n: int,
        space: Space,
        problem: Problem | None,
        address: seeding.Address,
        reference: Path | None = None,
    ):
        assert reader.x is not None
        self.reader, self.n, self.space, self.address = reader, n, space, address
        self.reference = reference
        self.field = reader.x
        self.names = ranks.quantity_names(self.field, problem)
        self.metrics = [*(f"sbc_ks.{name}" for name in self.names), *tarp.KINDS]
        self._ties = ranks.tie_breakers(address, n, len(self.metrics))

    @cached_property
    def _scale(self) -> np.ndarray:
        return deviation(self._truth)

    @cached_property
    def _truth(self) -> np.ndarray:
        return self.reader.read("x", 0, self.n).reshape(self.n, -1)

    def _observations(self, reader: EnsembleReader, n: int) -> np.ndarray:
        step = max(1, Y_VALUES // int(np.prod(reader.y.shape)))
        parts = (reader.read("y", start, min(start + step, n)) for start in range(0, n, step))
        return np.concatenate([tarp.project_observations(part.reshape(len(part), -1), self.address) for part in parts])

    @cached_property
    def _references(self) -> list[np.ndarray]:
        y = self._observations(self.reader, self.n)
        others = tarp.Others(self._truth, y, self.reader.read("group", 0, self.n))
        if self.reference is not None:
            with EnsembleReader(self.reference) as file:
                other = file.pairs()
                k = min(self.n, other.n)
                others = tarp.Others(other.read("x", 0, k).reshape(k, -1), self._observations(other, k), None)
        return [
            tarp.uniform_references(self._truth, self.space, self.field, others, self.address),
            tarp.local_references(y, others),
        ]

    def block(self, sample: Sample, start: int) -> np.ndarray:
        """Randomised ranks of a block of events from ``start`` on, (event, metric)."""
        rows = slice(start, start + len(sample))
        ties = self._ties[rows].T
        draws, true = ranks.quantities(sample)
        count = len(self.names)
        found = [
            ranks.ranks(drawn, at, sample.weight, tie) for drawn, at, tie in zip(draws, true, ties[:count], strict=True)
        ]
        found += [
            tarp.coverage(sample, reference[rows], self._scale, tie)
            for reference, tie in zip(self._references, ties[count:], strict=True)
        ]
        return np.column_stack(found)

    def write(self, group: h5py.Group, u: np.ndarray, replicas: Replicas) -> None:
        """What the report draws: ``ranks`` (quantity, bin) and ``coverage`` (reference, level); see `examples`.

        Each has the least effective number of events of its rows, 0 with few groups.
        """
        count, weight = len(self.names), replicas.weight
        binned = [ranks.effective(ranks.inside(column), replicas) for column in u.T[:count]]
        covered = [ranks.effective(ranks.under(column, tarp.LEVELS), replicas) for column in u.T[count:]]
        group["ranks"] = np.stack([ranks.histogram(column, weight) for column in u.T[:count]])
        group["coverage"] = np.stack([tarp.curve(column, weight) for column in u.T[count:]])
        group["ranks"].attrs.update(quantities=self.names, events=min(each or 0.0 for each in binned))
        references = [name.partition(".")[2] or "uniform" for name in tarp.KINDS]
        group["coverage"].attrs.update(references=references, events=min(each or 0.0 for each in covered))


def credibility_rows(answers: "Answers") -> Iterator[Measured]:
    """The distance of ranks, and of coverage, from uniform."""
    if answers.credibility is not None and answers.ranks is not None:
        replicas = answers.case.replicas(len(answers.ranks))
        for column, metric in zip(answers.ranks.T, answers.credibility.metrics, strict=True):
            yield ranks.uniformity(metric, column, replicas)


SBC = Metric(
    "sbc_ks",
    "SBC: distance of ranks from uniform",
    "ranks of truths among their draws; 95 % of exact samplers lie below 1.56 floors",
    "lower",
    measure=credibility_rows,
)
"""max |F(u) - u| of the ranks u of truths among their draws (Talts et al. 2018, arXiv 1804.06788), of each quantity.

Angles: about the circular mean of draws and truth together. Weights of draws: as many as are effective. Failed draws:
imputed. Floor: the mean of exact samplers, 0.87 / sqrt(n), with n the effective number of events.
"""
TARP = Metric(
    "tarp_gap",
    "TARP: gap of expected coverage",
    "largest gap over credibility levels, in all components jointly; 95 % of exact samplers lie below 1.56 floors",
    "lower",
    measure=credibility_rows,
)
"""max |F(f) - f| of the share f of draws nearer to a reference point than the truth (Lemos et al. 2023).

References uniform over the range, and ``.local`` the truth of the nearest observation. Angles: arcs. Weights of draws:
as many as are effective. Failed draws: imputed. Floor: as for the ranks.
"""
