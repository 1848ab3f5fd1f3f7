"""Learned likelihood p(y|x): a mixture density network (Bishop 1994), by zuko.

Only the prior differs between the families of a problem, so one p(y|x) is learned on the pooled pairs of all seen
families and holds for unseen ones, as long as their truths lie in the support of the training pairs. x and y are as
networks see them (`Scaling`): the density is per unit of the scaled y. A fixed transform of y has a Jacobian that does
not depend on x, so that likelihood ratios, responsibilities and gains are the same as for the physical y, but absolute
values are not.

Of all pairs (y_i, x_p) the parameters are computed once for each particle. The exponent of each Gaussian,

    -1/2 y^T A y + (A m)^T y - 1/2 m^T A m + 1/2 log|A| + log pi - d/2 log(2 pi),    A = precision, m = mean,

is linear in the features (y_a y_b, y_a, 1): all pairs are one matrix product.

x and y are vectors. A quantity of x that networks see relative to y is refused: a density of y must not.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pullback.core.context import Context
from pullback.core.optional import require
from pullback.core.seeding import generator, integer_seed
from pullback.diffusion.checkpoint import Artifact, load_artifact
from pullback.diffusion.numerics import numerics, pick_device, seeded
from pullback.diffusion.share import Noise
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.fields import RELATIVE, Field
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.methods.base import Method
from pullback.methods.likelihood_spec import GmmLikelihoodSpec

KIND = "likelihood"
ROWS = 4096
"""Particles whose parameters are computed together."""


class LikelihoodError(ValueError):
    """A likelihood that cannot be learned or used; the message says why and what to do."""


class GmmLikelihood(Method[None]):
    """Training of a likelihood, a separate artifact."""

    spec: GmmLikelihoodSpec

    def train(self, data: TrainingData, job: TrainPaths) -> Artifact:
        """Fit the mixture to pairs of the seen families by maximum likelihood; write the artifact if ``job`` says so.

        Raises:
            LikelihoodError: x or y is an array, or has a quantity that is seen relative to y.
        """
        from pullback.diffusion.loop import fit

        refuse(data.x, data.y)
        address = self.context.address
        scaling = data.fit_scaling(generator(*address, "scaling"))
        with seeded(integer_seed(*address, "weights")):
            model = _build(self.spec, scaling)
        size = self.spec.model_dump(mode="json", exclude={"train"})
        meta = {"kind": KIND, "size": size, "scaling": scaling.to_dict(), "trained_on": data.digests}
        loss = partial(_loss, targets=self.spec.train.loss_members)
        return fit(model, loss, data, self.spec.train, job, self.context, meta)


def refuse(x: Field, y: Field) -> None:
    """Raise LikelihoodError for fields that are arrays or have a quantity that is seen relative to y."""
    for field in (x, y):
        if not field.is_vector:
            raise LikelihoodError(
                f"{field.name} is an array {field.shape}: a mixture of Gaussians is for vectors of a few quantities"
            )
        relative = [name for name, t in zip(field.features, field.transforms, strict=True) if t in RELATIVE]
        if relative:
            raise LikelihoodError(
                f"{', '.join(relative)} of {field.name}: networks see it relative to y, which a density of "
                "y must not; use refine: {likelihood: exact} where the problem gives it, or another transform"
            )


def _build(spec: GmmLikelihoodSpec, scaling: Scaling) -> nn.Module:
    zuko = require("zuko", "learn")
    hidden = (spec.width,) * spec.depth
    model: nn.Module = zuko.mixtures.GMM(
        features=scaling.y_shape[0],
        context=scaling.x_shape[0],
        components=spec.components,
        hidden_features=hidden,
        activation=nn.SiLU,
    )
    return model


def _loss(model: nn.Module, sets: dict[str, Tensor], noise: Noise, targets: int | None) -> tuple[Tensor, Tensor]:
    x, y, mask = (sets[name][:, :targets] for name in ("x", "y", "real" if "real" in sets else "mask"))
    # Precisions of narrow Gaussians do not survive bfloat16.
    with torch.autocast(mask.device.type, enabled=False):
        return -model(x[mask]).log_prob(y[mask]).sum(), mask.sum()


class LoadedLikelihood:
    """A trained likelihood.

    Args:
        model: zuko's conditional mixture.
        scaling: between physical units and what it sees.
        threads: of the linear algebra.
        device: where it computes.
    """

    def __init__(self, model: nn.Module, scaling: Scaling, threads: int, device: torch.device):
        self.model, self.scaling, self.threads, self.device = model, scaling, threads, device

    @torch.no_grad()
    def at(self, x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """log p(y|x) of particles x (particle, *x): a function of y (event, *y) that gives (event, particle), float32.

        Both in physical units; the density is per unit of the scaled y.
        """
        # Nothing of x is seen relative to y: any y will do.
        seen = torch.from_numpy(self.scaling.encode_x(x, x)).to(self.device)
        with self._numerics():
            parts = [_coefficients(self.model(rows)) for rows in seen.split(ROWS)]
        # (component, feature, particle): the components of one particle stand in as many matrices.
        table = torch.cat(parts, dim=-1)

        def log_likelihood(y: np.ndarray) -> np.ndarray:
            z = torch.from_numpy(self.scaling.encode_y(y)).to(self.device, torch.float64)
            features = _features(z)
            with self._numerics(), torch.no_grad():
                # In double precision: the terms of a narrow Gaussian are large and nearly cancel.
                parts = [(features @ one).float() for one in table]
                total = parts[0] if len(parts) == 1 else torch.logsumexp(torch.stack(parts), dim=0)
            return total.cpu().numpy()

        return log_likelihood

    def _numerics(self):  # type: ignore[no-untyped-def]
        return numerics(self.threads, self.device.type == "cuda")


def _features(y: Tensor) -> Tensor:
    """(event, feature): y_a y_b for a <= b, y_a, 1."""
    a, b = torch.triu_indices(y.shape[1], y.shape[1])
    return torch.cat([y[:, a] * y[:, b], y, torch.ones_like(y[:, :1])], dim=1)


def _coefficients(mixture) -> Tensor:  # type: ignore[no-untyped-def]
    """(component, feature, particle), float64, of zuko's mixtures of full Gaussians, one for each particle."""
    mean, scale = mixture.base.loc.double(), mixture.base.scale_tril.double()
    d = mean.shape[-1]
    inverse = torch.linalg.solve_triangular(scale, torch.eye(d, dtype=scale.dtype, device=scale.device), upper=False)
    precision = inverse.mT @ inverse
    linear = (precision @ mean[..., None])[..., 0]
    log_det = scale.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    share = torch.log_softmax(mixture.logits.double(), dim=-1)
    constant = share - log_det - 0.5 * (linear * mean).sum(-1) - 0.5 * d * np.log(2 * np.pi)
    a, b = torch.triu_indices(d, d)
    # Off the diagonal an entry stands for two.
    quadratic = -precision[..., a, b] * torch.where(a == b, 0.5, 1.0).to(precision)
    return torch.cat([quadratic, linear, constant[..., None]], dim=-1).permute(1, 2, 0).contiguous()


def load_likelihood(artifact: Path | str, context: Context) -> LoadedLikelihood:
    """Read a likelihood's artifact.

    Raises:
        ArtifactError: the file is missing, damaged or foreign.
        LikelihoodError: it is a model of another kind.
    """
    weights, meta = load_artifact(artifact)
    if meta.get("kind") != KIND:
        raise LikelihoodError(
            f"{artifact}: holds a model of kind {meta.get('kind')}, wanted '{KIND}'; give the file of a likelihood "
            "(likelihoods: of the study)"
        )
    scaling = Scaling.from_dict(meta["scaling"])
    model = _build(GmmLikelihoodSpec.model_validate(meta["size"]), scaling)
    model.load_state_dict(weights)
    device = pick_device(context.accelerator)
    model.to(device).eval().requires_grad_(False)
    return LoadedLikelihood(model, scaling, context.threads, device)
