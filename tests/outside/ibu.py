"""Iterative Bayesian unfolding of one quantity in bins (D'Agostini 1995), with bootstrap replicas of the data."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from pullback.methods import Bins, EnsembleReader, Infer, Method, MethodSpec, Unfolded, generator


class Ibu(Method):
    """The response of the bins is that of the seen pairs."""

    def load(self, artifact, prior, seen):
        i, j = self.problem.x.features.index(self.spec.truth), self.problem.y.features.index(self.spec.observed)
        pairs = []
        for path in seen:
            with EnsembleReader(path) as reader:
                pairs.append((reader.read("x"), reader.read("y")[:, j]))
        self.x, y = (np.concatenate(part) for part in zip(*pairs, strict=True))
        self.column, bins = j, self.spec.bins
        self.causes, self.effects = (np.quantile(values, np.linspace(0, 1, bins + 1)) for values in (self.x[:, i], y))
        self.cause = self.bin(self.x[:, i], self.causes)
        joint = np.zeros((bins, bins))
        np.add.at(joint, (self.bin(y, self.effects), self.cause), 1.0)
        self.prior = joint.sum(axis=0)
        self.response = joint / self.prior

    def bin(self, values, edges):
        return np.clip(np.searchsorted(edges, values) - 1, 0, self.spec.bins - 1)

    def unfold(self, state, ensemble):
        measured = self.bin(ensemble.read("y")[:, self.column], self.effects)
        rng = generator(*self.context.address, "bootstrap")
        weights = [np.ones(ensemble.n), *rng.poisson(1.0, (self.settings.replicas, ensemble.n))]
        contents = []
        for weight in weights:
            data = np.bincount(measured, weight, self.spec.bins)
            content = self.prior * data.sum() / self.prior.sum()
            for _ in range(self.settings.iterations):
                content = content * (self.response.T @ (data / np.maximum(self.response @ content, 1e-12)))
            contents.append(content)
        bins = Bins(self.causes, contents[0], np.cov(np.transpose(contents[1:])))
        return Unfolded(self.x, (contents / self.prior).T[self.cause], {self.spec.truth: bins})


class IbuInfer(Infer):
    """Settings of one unfolding."""

    iterations: int = Field(default=8, ge=1, description="updates of the contents of the bins")
    replicas: int = Field(default=20, ge=2, description="bootstrap replicas of the data")


class IbuSpec(MethodSpec):
    """Iterative Bayesian unfolding of one quantity in bins."""

    code: ClassVar = Ibu
    returns: ClassVar = "approximate"
    reads_seen: ClassVar = True
    needs_seen: ClassVar = True
    samples: ClassVar = False
    unfolds: ClassVar = True

    truth: str = Field(description="quantity of x that is unfolded")
    observed: str = Field(description="quantity of y that measures it")
    bins: int = Field(default=20, ge=2, description="bins of each, with equal numbers of seen events")
    infer: Mapping[str, IbuInfer] = Field(default={"default": IbuInfer()}, min_length=1)

    def check_fields(self, x, y):
        for name, field in ((self.truth, x), (self.observed, y)):
            if name not in field.features:
                raise ValueError(f"{field.name} has no quantity '{name}'; wanted one of {', '.join(field.features)}")
