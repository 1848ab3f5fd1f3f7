"""A diffusion prior p(x) with EDM preconditioning, trained on the truth of the seen families.

Its meta values contain everything a sampler needs: the network, the range of noise levels in units of the scaled x,
the scaling, and digests of the data it was trained on.
"""

from functools import partial
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor, nn

from pullback.core.seeding import generator, integer_seed
from pullback.diffusion.checkpoint import Artifact
from pullback.diffusion.denoiser import EdmDenoiser, edm_loss
from pullback.diffusion.numerics import seeded
from pullback.diffusion.schedule import VarianceExploding
from pullback.diffusion.share import Noise
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.sets import TrainingData
from pullback.methods.amortised.conditional_net import target_weights
from pullback.methods.guided.prior_spec import EdmPriorSpec
from pullback.methods.guided.priors import DiffusionPrior, refuse
from pullback.networks.build import build_network
from pullback.networks.settings import Network


class EdmPrior(DiffusionPrior):
    """Training of a diffusion prior."""

    spec: EdmPriorSpec

    def train(self, data: TrainingData, job: TrainPaths) -> Artifact:
        """Fit the scaling and the denoiser on the truth of the seen families; write the artifact where ``job`` says so.

        Raises:
            PriorError: x has a quantity that networks see relative to y: there is no prior of it alone.
        """
        from pullback.diffusion.loop import fit

        refuse(data.x)
        address = self.context.address
        scaling = data.fit_scaling(generator(*address, "scaling"))
        with seeded(integer_seed(*address, "weights")):
            network = build_network(self.spec.network, scaling.x_shape, None, 0)
        model = EdmDenoiser(network, VarianceExploding(self.spec.sigma_min, self.spec.sigma_max))
        meta = {
            **self.describe(data.x, scaling),
            "network": self.spec.network.model_dump(mode="json"),
            "trained_on": data.digests,
        }
        loss = partial(_loss, targets=self.spec.train.loss_members)
        return fit(model, loss, data, self.spec.train, job, self.context, meta, least=0.0)

    @staticmethod
    def denoiser(weights: dict[str, Tensor], meta: dict[str, Any]) -> EdmDenoiser:
        """See `DiffusionPrior`."""
        settings: Network = TypeAdapter(Network).validate_python(meta["network"])
        network = build_network(settings, tuple(meta["x_shape"]), None, 0)
        model = EdmDenoiser(network, VarianceExploding(meta["sigma_min"], meta["sigma_max"]))
        model.load_state_dict(weights)
        return model.to(next(iter(weights.values())).device).eval().requires_grad_(False)


def _loss(model: nn.Module, sets: dict[str, Tensor], noise: Noise, targets: int | None) -> tuple[Tensor, Tensor]:
    x, mask = (sets[name][:, :targets] for name in ("x", "mask"))
    level, n = noise.normal(mask.shape), noise.normal(x.shape)
    # Only the members: a set's padding would cost as much as they do.
    share = target_weights(sets, targets)[mask.flatten()]
    return (edm_loss(model, x[mask], level[mask], n[mask]) * share).sum(), share.sum()
