"""The binned unfolding methods: seen families give response and prior, one feature is unfolded after the other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pullback.core.seeding import generator
from pullback.ensembles.arrays import Ensemble
from pullback.ensembles.family_events import nominal
from pullback.ensembles.positive_weights import cell_resampled
from pullback.ensembles.unfolded import Bins, Unfolded
from pullback.methods.base import Method
from pullback.methods.unfolding import binned, tikhonov
from pullback.methods.unfolding.binned_spec import BinnedInfer, BinnedSpec, IbuInfer, TikhonovInfer
from pullback.methods.unfolding.channels import Channel, Simulated, channel_of, simulated_objects
from pullback.methods.unfolding.counts import GroupedCounts
from pullback.methods.unfolding.response import UnfoldingError, bin_of, ratio

SWEEPS = 20
"""Most rounds in which the weighted sample is fitted to the bins of several features."""
FIT = 1e-3
"""Relative difference of bin sums at which these rounds end."""


class Outcome(NamedTuple):
    """What became of one feature.

    Attributes:
        estimate: of the kept truth bins.
        by_counts: derivative of their contents by the counts, fakes among them (truth, observed).
        by_simulation: what a simulated object changes in them (cell, truth).
        replicas: contents in each replica, the nominal first (replica, truth).
    """

    estimate: binned.Estimate
    by_counts: np.ndarray
    by_simulation: np.ndarray
    replicas: np.ndarray


class Binned(Method[None]):
    """Base of the binned methods; one gives the contents of the truth bins of one feature."""

    spec: BinnedSpec
    settings: BinnedInfer

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """Read the seen families and bin their features."""
        from pullback.ensembles.store import EnsembleReader

        found = {}
        for path in seen:
            with EnsembleReader(path) as reader:
                family = str(reader.attributes.get("family", path.parent.name))
                if self.spec.in_response(family) or self.spec.prior_shape == family:
                    found[family] = Simulated.of(reader)
        self.learn(found)

    def learn(self, families: Mapping[str, Simulated]) -> None:
        """Bin the features of the families, by name, and make their responses."""
        chosen = [one for name, one in families.items() if self.spec.in_response(name)]
        self.truth = np.concatenate([one.truth for one in chosen])
        self.weight = np.concatenate([one.weight for one in chosen])
        self.objects = simulated_objects(chosen)
        self.channels = [
            channel_of(name, binning, self.problem, chosen, self._prior(families), self.same_bins)
            for name, binning in self.spec.features.items()
        ]

    def _prior(self, families: Mapping[str, Simulated]) -> Simulated | Literal["response", "flat"]:
        prior = self.spec.prior_shape
        return prior if prior in ("response", "flat") else families[prior]  # type: ignore[return-value]

    same_bins = False
    """Whether observed bins are the truth's."""

    def estimate(self, channel: Channel, data: np.ndarray, scatter: np.ndarray) -> binned.Estimate:
        """Contents of the truth bins.

        Args:
            channel: the feature.
            data: observed objects without fakes (observed,).
            scatter: variance of these per object that is expected (observed,).
        """
        raise NotImplementedError

    def replica_contents(self, channel: Channel, data: np.ndarray, estimate: binned.Estimate) -> np.ndarray:
        """Contents (replica, truth) for replicas of the data (replica, observed)."""
        return data @ estimate.by_data.T

    def unfold(self, state: None, ensemble: Ensemble) -> Unfolded:
        """Bins of each feature, their joint covariance, and the simulated truths weighted by what became of theirs.

        Raises:
            UnfoldingError: all observations of a feature lie outside its bins, or as the method.
        """
        y = ensemble.read("y")
        weight = nominal(ensemble.read("weight")) if "weight" in ensemble.columns else np.ones(ensemble.n)
        sizes = [len(channel.observed_edges) + 1 for channel in self.channels]
        starts = np.cumsum([0, *sizes])
        cells = np.empty((len(y), len(sizes)), np.int64)
        for j, channel in enumerate(self.channels):
            cells[:, j] = bin_of(y[:, channel.observed_feature].astype(np.float64), channel.observed_edges) + starts[j]
        counts = GroupedCounts(cells, weight, ensemble.read("group"), int(starts[-1]))
        replicas = counts.replicas(self.settings.replicas, generator(*self.context.address, "bootstrap"))
        counted = np.vstack([counts.nominal, replicas])
        found, by_counts, diagnostics = [], [], {}
        for channel, start, size in zip(self.channels, starts, sizes, strict=False):
            _refuse_outside(channel, counts.squares[start:])
            place = start + channel.observed
            outcome = self._unfolding(channel, counted[:, place], counts.squares[place])
            found.append(outcome)
            change = np.zeros((size, int(channel.inside.sum())))
            change[channel.observed] = outcome.by_counts[channel.inside].T
            by_counts.append(change)
            numbers = _diagnostics(channel, outcome, counts.nominal[start : start + size])
            diagnostics.update({f"{key}.{channel.name}": value for key, value in numbers.items()})
        joint = counts.propagated(_beside(by_counts)) + self._by_simulation(found)
        ends = np.cumsum([0, *(int(channel.inside.sum()) for channel in self.channels)])
        bins = {
            channel.name: Bins(channel.edges, outcome.estimate.content[channel.inside], joint[low:high, low:high])
            for channel, outcome, low, high in zip(self.channels, found, ends, ends[1:], strict=False)
        }
        x, weights = self._sample(found)
        return Unfolded(x, weights, bins, diagnostics, joint, counts=True)

    def _unfolding(self, channel: Channel, counts: np.ndarray, squares: np.ndarray) -> Outcome:
        """One feature, from counts (replica, observed) and their sums of squared weights."""
        response, real = channel.response, 1 - channel.response.fakes
        data = counts * real
        scatter = real * max(ratio(squares.sum(), np.abs(counts[0]).sum()), np.finfo(float).tiny)
        estimate = self.estimate(channel, data[0], scatter)
        replicas = np.vstack([estimate.content, self.replica_contents(channel, data[1:], estimate)])
        chi2 = binned.refolded_chi2(response.matrix, data[0], estimate.content, scatter)
        return Outcome(
            estimate._replace(diagnostics={"refolded_chi2": chi2, **estimate.diagnostics}),
            estimate.by_data * real,
            binned.by_simulation(estimate, response, counts[0], self.settings.response_errors),
            replicas,
        )

    def _by_simulation(self, found: list[Outcome]) -> np.ndarray:
        """Covariance of the contents between the edges, of all features, by the statistics of the simulation."""
        sizes = [len(outcome.by_simulation) for outcome in found]
        starts = np.cumsum([0, *sizes])
        cells = np.column_stack([channel.cells for channel in self.channels]) + starts[:-1]
        objects = GroupedCounts(cells, *self.objects, int(starts[-1]))
        changes = [
            outcome.by_simulation[:, channel.inside] for channel, outcome in zip(self.channels, found, strict=True)
        ]
        return objects.propagated(_beside(changes))

    def _sample(self, found: list[Outcome]) -> tuple[np.ndarray, np.ndarray]:
        """Simulated truths (sample, *x) and their weights (sample, replica), which sum to the contents of the bins.

        Of several features the weights are fitted to the bins of one after the other, round by round (iterative
        proportional fitting). Negative contents count as 0.
        """
        rows = np.arange(len(self.truth))
        if len(rows) > self.settings.sample:
            rng = generator(*self.context.address, "sample")
            rows = np.sort(rng.choice(len(rows), self.settings.sample, replace=False))
        truth, base = self.truth[rows], self.weight[rows]
        if (base < 0).any():
            base = cell_resampled(truth, self.problem.x, base)
        cells = [bin_of(truth[:, channel.feature].astype(np.float64), channel.edges) for channel in self.channels]
        wanted = []
        for channel, outcome in zip(self.channels, found, strict=True):
            contents = np.zeros((len(outcome.replicas), len(channel.edges) + 1))
            contents[:, channel.truth] = np.maximum(outcome.replicas, 0.0)
            wanted.append(contents)
        weights = np.empty((len(rows), len(wanted[0])))
        for replica in range(len(wanted[0])):
            weights[:, replica] = _fitted(base, cells, [contents[replica] for contents in wanted])
        return truth, weights


def _beside(tables: list[np.ndarray]) -> np.ndarray:
    """One table with those of all features on its diagonal."""
    from scipy.linalg import block_diag

    table: np.ndarray = block_diag(*tables)
    return table


def _fitted(base: np.ndarray, cells: list[np.ndarray], contents: list[np.ndarray]) -> np.ndarray:
    """Weights whose sums in the bins of each axis are the contents."""
    weight = base
    for _ in range(SWEEPS if len(cells) > 1 else 1):
        worst = 0.0
        for cell, content in zip(cells, contents, strict=True):
            factor = ratio(content, np.bincount(cell, weight, len(content)))
            weight = weight * factor[cell]
            worst = max(worst, float(np.abs(factor[factor > 0] - 1).max(initial=0.0)))
        if worst < FIT:
            break
    return weight


def _refuse_outside(channel: Channel, squares: np.ndarray) -> None:
    inside = squares[1 : len(channel.observed_edges)]
    if not inside.any():
        edges = channel.observed_edges
        raise UnfoldingError(
            f"features.{channel.name}: all observations lie outside the observed bins, {edges[0]:.6g} to "
            f"{edges[-1]:.6g}: compare the units, or give other edges in `observed_bins`"
        )


def _diagnostics(channel: Channel, outcome: Outcome, counts: np.ndarray) -> dict[str, float]:
    """Numbers of one feature; ``counts`` are those of all observed bins."""
    content = outcome.estimate.content
    return {
        **outcome.estimate.diagnostics,
        "outside_bins": 1 - float(ratio(content[channel.inside].sum(), content.sum())),
        "unexplained": float(ratio(counts[~channel.simulated].sum(), counts.sum())),
        "negative_bins": float((content[channel.inside] < 0).sum()),
    }


class Ibu(Binned):
    """Iterative Bayesian unfolding."""

    settings: IbuInfer

    def estimate(self, channel: Channel, data: np.ndarray, scatter: np.ndarray) -> binned.Estimate:
        """`binned.bayes`."""
        s = self.settings
        return binned.bayes(channel.response.matrix, data, channel.prior, s.iterations, s.statistic, s.tolerance)

    def replica_contents(self, channel: Channel, data: np.ndarray, estimate: binned.Estimate) -> np.ndarray:
        """As many iterations for each replica, of data that are not negative."""
        iterations = int(estimate.diagnostics["unfolding_iterations"])
        return binned.bayes_contents(channel.response.matrix, np.maximum(data, 0.0), channel.prior, iterations)


class BinByBin(Binned):
    """Correction factors bin by bin."""

    same_bins = True

    def estimate(self, channel: Channel, data: np.ndarray, scatter: np.ndarray) -> binned.Estimate:
        """`binned.bin_by_bin`; data where nothing is simulated, in underflow or overflow, have no factor."""
        matrix, prior = channel.response.matrix, channel.prior
        return binned.bin_by_bin(matrix, np.where(matrix @ prior > 0, data, 0.0), prior)


class LeastSquares(Binned):
    """Base of the methods that fit the folded contents to the data."""

    def estimate(self, channel: Channel, data: np.ndarray, scatter: np.ndarray) -> binned.Estimate:
        """`tikhonov.tikhonov`; the data are weighted by the errors that the prior leads one to expect."""
        matrix = channel.response.matrix
        folded = matrix @ channel.prior
        total = data.sum()
        if not total > 0:
            raise UnfoldingError(f"features.{channel.name}: the observations sum to {total:.4g}: nothing is to unfold")
        prior, variance = channel.prior * (total / folded.sum()), folded * (total / folded.sum()) * scatter
        return tikhonov.tikhonov(matrix, data, variance, prior, self.strength(matrix, variance, prior))

    def strength(self, matrix: np.ndarray, variance: np.ndarray, prior: np.ndarray) -> float:
        """Strength of the regularisation."""
        raise NotImplementedError


class MatrixInversion(LeastSquares):
    """Least squares without regularisation."""

    def strength(self, matrix: np.ndarray, variance: np.ndarray, prior: np.ndarray) -> float:
        """None."""
        return 0.0


class Tikhonov(LeastSquares):
    """Least squares with a penalty on curvature."""

    settings: TikhonovInfer

    def strength(self, matrix: np.ndarray, variance: np.ndarray, prior: np.ndarray) -> float:
        """As the settings say."""
        chosen, rank = self.settings.strength, self.settings.rank
        if rank is None and isinstance(chosen, float):
            return chosen
        parts = tikhonov.spectrum(matrix, variance, prior)
        return tikhonov.strength_of_rank(parts, rank) if rank else tikhonov.strength_of_least_correlation(parts)
