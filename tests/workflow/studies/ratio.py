"""A method given by path that only unfolds: simulated truths, weighted by data over simulation at their y."""

from typing import ClassVar

import numpy as np

from pullback.methods import EnsembleReader, Method, MethodSpec, Unfolded, generator

BINS = 20
REPLICAS = 20


class Ratio(Method[dict]):
    """One bin's ratio for all truths whose observation is in it; its conditioning is a job of its own."""

    def load(self, artifact, prior, seen):
        with EnsembleReader(seen[0]) as reader:
            self.x, y = reader.read("x"), reader.read("y")[:, 0]
        self.edges = np.quantile(y, np.linspace(0, 1, BINS + 1))[1:-1]
        self.bin = np.searchsorted(self.edges, y)

    def condition(self, ensemble, workdir=None):
        """Observations of each bin in each replica of the data (replica, bin)."""
        bin = np.searchsorted(self.edges, ensemble.read("y")[:, 0])
        rng = generator(*self.context.address, "bootstrap")
        weights = [np.ones(ensemble.n), *rng.poisson(1.0, (REPLICAS, ensemble.n))]
        return {"counts": np.array([np.bincount(bin, weight, BINS) for weight in weights])}

    def unfold(self, state, ensemble):
        ratio = state["counts"] / np.bincount(self.bin, minlength=BINS)
        return Unfolded(self.x, ratio[:, self.bin].T, diagnostics={"ratio_bins": float(BINS)})


class RatioSpec(MethodSpec):
    """Weights by the ratio of data to simulation in bins of the observation."""

    returns: ClassVar = "approximate"
    reads_seen: ClassVar[bool] = True
    needs_seen: ClassVar[bool] = True
    samples: ClassVar[bool] = False
    unfolds: ClassVar[bool] = True
    costly_condition: ClassVar[bool] = True
    code: ClassVar = Ratio
