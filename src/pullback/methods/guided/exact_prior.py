"""The prior of the seen families in closed form: a mixture of Gaussians, which has an exact denoiser.

With z = (x - mean) / std, as networks see x, a component N(m, C) becomes N((m - mean) / std, C / (std std^T)).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.core.seeding import generator
from pullback.diffusion.checkpoint import Artifact
from pullback.diffusion.exact import MixtureDenoiser
from pullback.diffusion.schedule import VarianceExploding
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.sets import TrainingData
from pullback.methods.guided.prior_spec import ExactPriorSpec
from pullback.methods.guided.priors import DiffusionPrior, PriorError


class ExactPrior(DiffusionPrior):
    """The mixture of the seen families' priors, scaled as networks see x; nothing is trained."""

    spec: ExactPriorSpec
    families: dict[str, dict[str, Any]]

    def set_prior_params(self, params: dict[str, Any]) -> None:
        """Pass the parameters of each seen family's prior, by family."""
        self.families = params if self.spec.family is None else {self.spec.family: params[self.spec.family]}

    def train(self, data: TrainingData, job: TrainPaths) -> Artifact:
        """Fit the scaling on the truth of the seen families, as for a network; write the scaled mixture.

        Raises:
            PriorError: networks see x through a transform that is not linear: the prior of z has no closed form.
        """
        scaling = data.fit_scaling(generator(*self.context.address, "scaling"))
        if other := {column.transform for column in scaling.x_columns} - {"linear"}:
            raise PriorError(
                f"networks see x through {', '.join(sorted(other))}, which leaves no Gaussian a Gaussian: train a "
                "prior, with kind: edm"
            )
        parts = [self.problem.mixture_prior(params) for params in self.families.values()]
        mean, std = (np.array([getattr(column, name) for column in scaling.x_columns]) for name in ("mean", "std"))
        weights = {
            "weights": np.concatenate([part.weight for part in parts]) / len(parts),
            "means": (np.concatenate([part.mean for part in parts]) - mean) / std,
            "covariances": np.concatenate([part.covariance for part in parts]) / np.outer(std, std),
        }
        meta = {**self.describe(data.x, scaling), "families": list(self.families)}
        return job.write({name: torch.from_numpy(values) for name, values in weights.items()}, meta)

    @staticmethod
    def denoiser(weights: dict[str, Tensor], meta: dict[str, Any]) -> MixtureDenoiser:
        """See `DiffusionPrior`."""
        weight, mean, covariance = (weights[name].float() for name in ("weights", "means", "covariances"))
        return MixtureDenoiser(weight, mean, covariance, VarianceExploding(meta["sigma_min"], meta["sigma_max"]))
