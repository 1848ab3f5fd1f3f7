"""Iterative Bayesian unfolding of one feature (D'Agostini 1995), a method that only unfolds, given by path."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from pullback.core.seeding import generator
from pullback.ensembles.store import EnsembleReader
from pullback.ensembles.unfolded import Bins, Unfolded
from pullback.methods.base import Method
from pullback.study.base import Name
from pullback.study.kinds import Infer, MethodSpec


class IbuInfer(Infer):
    """Settings of the iteration."""

    iterations: int = Field(default=10, ge=1, description="updates of the truth's bin contents")
    bins: int = Field(default=20, ge=2, description="bins of truth and observation")
    replicas: int = Field(default=20, ge=0, description="bootstrap replicas of the data")


class Ibu(Method[dict]):
    """The response comes from the seen pairs, the data are resampled with Poisson weights of mean one."""

    settings: IbuInfer

    def load(self, artifact, prior, seen):
        """Read the seen pairs."""
        pairs = []
        for path in seen:
            with EnsembleReader(path) as reader:
                pairs.append((reader.read("x"), reader.read("y")))
        self.x, self.y = (np.concatenate(part) for part in zip(*pairs, strict=True))

    def _edges(self, values):
        return np.linspace(*np.quantile(values, [0.001, 0.999]), self.settings.bins + 1)

    def condition(self, ensemble, workdir=None):
        """Bin contents of the truth in each replica of the data (replica, bin), the last axis that of x."""
        truth, observed = self._edges(self.x[:, 0]), self._edges(self.y[:, 0])
        cause, effect = (
            np.clip(np.searchsorted(edges, values[:, 0]) - 1, 0, self.settings.bins - 1)
            for edges, values in ((truth, self.x), (observed, self.y))
        )
        joint = np.zeros((self.settings.bins, self.settings.bins))
        np.add.at(joint, (effect, cause), 1.0)
        prior = joint.sum(axis=0)
        response = joint / np.maximum(prior, 1.0)
        measured = np.clip(np.searchsorted(observed, ensemble.read("y")[:, 0]) - 1, 0, self.settings.bins - 1)
        rng = generator(*self.context.address, "bootstrap")
        weights = [np.ones(ensemble.n), *(rng.poisson(1.0, ensemble.n) for _ in range(self.settings.replicas))]
        found = []
        for weight in weights:
            data = np.bincount(measured, weights=weight, minlength=self.settings.bins)
            content = prior * data.sum() / prior.sum()
            for _ in range(self.settings.iterations):
                folded = response @ content
                content = content * (response.T @ (data / np.where(folded > 0, folded, 1.0)))
            found.append(content)
        return {"edges": truth, "content": np.array(found), "prior": prior, "cause": cause}

    def unfold(self, state, ensemble):
        """The seen truths, each weighted by what became of its bin; and the bins."""
        content = state["content"]
        weight = (content / np.maximum(state["prior"], 1.0))[:, state["cause"]].T
        name = self.problem.x.features[0]
        bins = Bins(state["edges"], content[0], np.cov(content[1:].T))
        return Unfolded(self.x, weight, {name: bins}, {"unfolded_iterations": float(self.settings.iterations)})


class IbuSpec(MethodSpec):
    """Iterative Bayesian unfolding."""

    returns: ClassVar = "approximate"
    reads_seen: ClassVar[bool] = True
    needs_seen: ClassVar[bool] = True
    samples: ClassVar[bool] = False
    unfolds: ClassVar[bool] = True
    costly_condition: ClassVar[bool] = True
    code: ClassVar = Ibu

    infer: Mapping[Name, IbuInfer] = Field(default={"default": IbuInfer()}, min_length=1)
