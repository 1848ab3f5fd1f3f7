"""A diffusion prior p(x) with EDM preconditioning, trained on the truth of the seen families.

It is an artifact of its own that every guided method of a study shares. Its meta values say all that a sampler has to
know: the kind of prediction, the range of noise levels in units of the scaled x, the scaling, and digests of the data
it was trained on.
"""

import hashlib
from functools import partial
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from pullback.core.seeding import generator, integer_seed
from pullback.diffusion.checkpoint import load_artifact
from pullback.diffusion.edm import SIGMA_DATA, EdmDenoiser, edm_loss
from pullback.diffusion.numerics import pick_device, seeded
from pullback.diffusion.share import Noise
from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.methods.amortised.model import target_weights
from pullback.methods.base import Method, TrainPaths
from pullback.methods.guided.spec import EdmPriorSpec
from pullback.networks.build import build_network
from pullback.networks.settings import Network

KIND = "diffusion-prior"
PREDICTION = "edm-x0"
"""E[x_0 | x_t] by the preconditioning of `diffusion.edm`."""


class PriorError(ValueError):
    """A diffusion prior that cannot be trained or used; the message says why and what to do."""


class LoadedPrior:
    """A trained prior, ready to sample: a `Denoiser` of x as networks see it, without gradients.

    Attributes:
        scaling: between x in physical units and x as the network sees it.
        sigma_min, sigma_max: range of noise levels, in units of the scaled x.
        sha256: of the artifact's file.
        device: where it computes.
    """

    def __init__(
        self, model: EdmDenoiser, scaling: Scaling, sigmas: tuple[float, float], sha256: str, device: torch.device
    ):
        self.model = model
        self.scaling = scaling
        self.sigma_min, self.sigma_max = sigmas
        self.sha256 = sha256
        self.device = device

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Means (B, *x) of x_0 given x_t (B, *x)."""
        return self.model(x, sigma)


class EdmPrior(Method[None]):
    """Training of a diffusion prior."""

    spec: EdmPriorSpec

    def train(self, data: TrainingData, job: TrainPaths) -> None:
        """Fit the scaling and the denoiser on the truth of the seen families and write the artifact.

        Raises:
            PriorError: x has a periodic quantity, which networks see relative to y: there is no prior of it alone.
        """
        from pullback.diffusion.loop import fit

        refuse(data.x)
        address = self.context.address
        scaling = data.fit_scaling(generator(*address, "scaling"))
        with seeded(integer_seed(*address, "weights")):
            model = _build(self.spec.network, scaling)
        meta = {
            "kind": KIND,
            "prediction": PREDICTION,
            "sigma_data": SIGMA_DATA,
            "sigma_min": self.spec.sigma_min,
            "sigma_max": self.spec.sigma_max,
            "network": self.spec.network.model_dump(mode="json"),
            "x_shape": list(scaling.x_shape),
            "x_units": list(data.x.units),
            "scaling": scaling.to_dict(),
            "trained_on": data.digests,
        }
        fit(model, partial(_loss, targets=self.spec.train.loss_members), data, self.spec.train, job, self.context, meta)


def refuse(x: Field) -> None:
    """Raise PriorError for a field of truths that has a periodic quantity."""
    if "periodic" in x.transforms:
        raise PriorError(
            "x has a periodic quantity, which is learnt relative to y; a prior of x alone needs other transforms"
        )


def _loss(model: nn.Module, sets: dict[str, Tensor], noise: Noise, targets: int | None) -> tuple[Tensor, Tensor]:
    x, mask = (sets[name][:, :targets] for name in ("x", "mask"))
    level, n = noise.normal(mask.shape), noise.normal(x.shape)
    # Only the members: a set's padding would cost as much as they do.
    share = target_weights(sets, targets)[mask.flatten()]
    return (edm_loss(model, x[mask], level[mask], n[mask]) * share).sum(), share.sum()


def _build(network: Network, scaling: Scaling) -> EdmDenoiser:
    return EdmDenoiser(build_network(network, scaling.x_shape, None, 0))


def load_prior(artifact: Path | str, accelerator: str = "cpu") -> tuple[LoadedPrior, Scaling]:
    """Read a prior's artifact: the denoiser and the scaling of x.

    Args:
        artifact: a file that `EdmPrior.train` wrote; read with ``weights_only=True``.
        accelerator: ``"auto"``, ``"cpu"`` or ``"gpu"``.

    Raises:
        ArtifactError: the file is missing, damaged, or foreign.
        PriorError: it is a model of another kind, or predicts something else.
    """
    weights, meta = load_artifact(artifact)
    found = (meta.get("kind"), meta.get("prediction"), meta.get("sigma_data"))
    if found != (KIND, PREDICTION, SIGMA_DATA):
        raise PriorError(
            f"{artifact}: holds (kind, prediction, sigma_data) = {found}, wanted {(KIND, PREDICTION, SIGMA_DATA)}; "
            "give the file of a diffusion prior (priors: of the study)"
        )
    scaling = Scaling.from_dict(meta["scaling"])
    network: Network = TypeAdapter(Network).validate_python(meta["network"])
    model = _build(network, scaling)
    model.load_state_dict(weights)
    device = pick_device(accelerator)
    model.to(device).eval().requires_grad_(False)
    sha256 = hashlib.sha256(Path(artifact).read_bytes()).hexdigest()
    return LoadedPrior(model, scaling, (meta["sigma_min"], meta["sigma_max"]), sha256, device), scaling
