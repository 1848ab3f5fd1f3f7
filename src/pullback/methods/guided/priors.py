"""Diffusion priors of every kind: one artifact, one way to read it.

The artifact of a prior names its kind in the registry; the class of that kind makes the denoiser of z, x as networks
see it, on the clock of `VarianceExploding` (z_t = z_0 + t n). Its meta values hold the scaling between z and physical
units.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from pullback import registry
from pullback.diffusion.checkpoint import Artifact, load_artifact
from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.numerics import pick_device
from pullback.ensembles.fields import RELATIVE, Field
from pullback.ensembles.scaling import Scaling
from pullback.methods.base import Method

KIND = "diffusion-prior"


class PriorError(ValueError):
    """A diffusion prior that cannot be made or used; the message says why and what to do."""


class DiffusionPrior(Method[None]):
    """Base of the kinds of diffusion priors: ``train`` makes the artifact, ``denoiser`` reads it."""

    def describe(self, x: Field, scaling: Scaling) -> dict[str, Any]:
        """The meta values that every prior has."""
        return {
            "kind": KIND,
            "prior": self.spec.kind,
            "sigma_min": self.spec.sigma_min,
            "sigma_max": self.spec.sigma_max,
            "x_shape": list(scaling.x_shape),
            "x_units": list(x.units),
            "scaling": scaling.to_dict(),
        }

    @staticmethod
    def denoiser(weights: dict[str, Tensor], meta: dict[str, Any]) -> Denoiser:
        """The denoiser of an artifact, with a `VarianceExploding` schedule.

        Args:
            weights: of the artifact, on the device that it is to compute on.
            meta: its plain values.
        """
        raise NotImplementedError


def refuse(x: Field) -> None:
    """Raise PriorError for a field of truths that has a quantity relative to the observation."""
    if set(x.transforms) & set(RELATIVE):
        raise PriorError(
            "x has a quantity that is learnt relative to y, periodic or relative; a prior of x alone needs "
            "other transforms"
        )


def load_prior(artifact: Path | str | Artifact, accelerator: str = "cpu") -> tuple[Denoiser, Scaling]:
    """Read a prior's artifact: the denoiser of x as networks see it, and the scaling between that and physical units.

    Its weights are fixed; it is differentiable in x_t.

    Args:
        artifact: what the prior's ``train`` returned, or the file that it wrote, read with ``weights_only=True``.
        accelerator: ``"auto"``, ``"cpu"`` or ``"gpu"``.

    Raises:
        ArtifactError: the file is missing, damaged, or foreign.
        PriorError: it is a model of another kind, or a prior of a kind that is not known here.
    """
    weights, meta = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
    name = "the model" if isinstance(artifact, Artifact) else artifact
    if meta.get("kind") != KIND or "prior" not in meta:
        raise PriorError(
            f"{name}: holds a model of kind {meta.get('kind')!r}, wanted '{KIND}'; give the file of a diffusion prior "
            "(priors: of the study)"
        )
    if registry.is_path(meta["prior"]):
        raise PriorError(
            f"{name}: a prior of the kind '{meta['prior']}', which only methods of your own read; publish it as an "
            "entry point of the group pullback.priors for the methods of pullback"
        )
    try:
        spec = registry.load("priors", meta["prior"])
    except registry.KindError as error:
        raise PriorError(f"{name}: {error}; install the package that has it") from None
    code = registry.load_object(spec.code) if isinstance(spec.code, str) else spec.code
    device = pick_device(accelerator)
    found: Denoiser = code.denoiser({key: value.to(device) for key, value in weights.items()}, meta)
    return found, Scaling.from_dict(meta["scaling"])
