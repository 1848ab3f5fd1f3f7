"""A diffusion prior p(x) with EDM preconditioning, trained on the truth of the seen families.

It is a separate artifact that all guided methods of a study share. Its meta values contain everything a sampler needs:
the kind of prediction, the range of noise levels in units of the scaled x, the scaling, and digests of the data it was
trained on.
"""

from functools import partial
from pathlib import Path

from pydantic import TypeAdapter
from torch import Tensor, nn

from pullback.core.seeding import generator, integer_seed
from pullback.diffusion.checkpoint import Artifact, load_artifact
from pullback.diffusion.denoiser import SIGMA_DATA, EdmDenoiser, edm_loss
from pullback.diffusion.numerics import pick_device, seeded
from pullback.diffusion.schedule import VarianceExploding
from pullback.diffusion.share import Noise
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.methods.amortised.model import target_weights
from pullback.methods.base import Method
from pullback.methods.guided.spec import EdmPriorSpec
from pullback.networks.build import build_network
from pullback.networks.settings import Network

KIND = "diffusion-prior"
PREDICTION = "edm-x0"
"""E[x_0 | x_t] by the preconditioning of `EdmDenoiser`."""


class PriorError(ValueError):
    """A diffusion prior that cannot be trained or used; the message says why and what to do."""


class EdmPrior(Method[None]):
    """Training of a diffusion prior."""

    spec: EdmPriorSpec

    def train(self, data: TrainingData, job: TrainPaths) -> Artifact:
        """Fit the scaling and the denoiser on the truth of the seen families; write the artifact where ``job`` says so.

        Raises:
            PriorError: x has a periodic quantity, which networks see relative to y: there is no prior of it alone.
        """
        from pullback.diffusion.loop import fit

        refuse(data.x)
        address = self.context.address
        scaling = data.fit_scaling(generator(*address, "scaling"))
        with seeded(integer_seed(*address, "weights")):
            model = _build(self.spec.network, scaling, self.spec.sigma_min, self.spec.sigma_max)
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
        loss = partial(_loss, targets=self.spec.train.loss_members)
        return fit(model, loss, data, self.spec.train, job, self.context, meta, least=0.0)


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


def _build(network: Network, scaling: Scaling, sigma_min: float, sigma_max: float) -> EdmDenoiser:
    return EdmDenoiser(build_network(network, scaling.x_shape, None, 0), VarianceExploding(sigma_min, sigma_max))


def load_prior(artifact: Path | str | Artifact, accelerator: str = "cpu") -> tuple[EdmDenoiser, Scaling]:
    """Read a prior's artifact: the denoiser of x as networks see it, and the scaling between that and physical units.

    Its weights are fixed; it is differentiable in x_t.

    Args:
        artifact: what `EdmPrior.train` returned, or the file that it wrote, read with ``weights_only=True``.
        accelerator: ``"auto"``, ``"cpu"`` or ``"gpu"``.

    Raises:
        ArtifactError: the file is missing, damaged, or foreign.
        PriorError: it is a model of another kind, or predicts something else.
    """
    weights, meta = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
    name = "the model" if isinstance(artifact, Artifact) else artifact
    found = (meta.get("kind"), meta.get("prediction"), meta.get("sigma_data"))
    if found != (KIND, PREDICTION, SIGMA_DATA):
        raise PriorError(
            f"{name}: holds (kind, prediction, sigma_data) = {found}, wanted {(KIND, PREDICTION, SIGMA_DATA)}; "
            "give the file of a diffusion prior (priors: of the study)"
        )
    scaling = Scaling.from_dict(meta["scaling"])
    network: Network = TypeAdapter(Network).validate_python(meta["network"])
    model = _build(network, scaling, meta["sigma_min"], meta["sigma_max"])
    model.load_state_dict(weights)
    return model.to(pick_device(accelerator)).eval().requires_grad_(False), scaling
