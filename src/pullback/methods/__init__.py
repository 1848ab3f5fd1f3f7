"""Methods: one life cycle, one file each.

What a method of one's own is written with is imported from here (docs/extending.md).
"""

from typing import TYPE_CHECKING

from pullback.core.lazy import offered

if TYPE_CHECKING:
    from pullback.core.seeding import event_normals, event_uniforms, generator, integer_seed
    from pullback.diffusion.checkpoint import Artifact, load_artifact
    from pullback.ensembles.scaling import Scaling
    from pullback.ensembles.store import EnsembleReader
    from pullback.ensembles.unfolded import Bins, Unfolded
    from pullback.methods.base import Method
    from pullback.methods.base import PosteriorSamples as PosteriorSamples
    from pullback.study.kinds import Infer, LikelihoodSpec, MethodSpec, PriorSpec

_MODULES = {
    "Artifact": "diffusion.checkpoint",
    "Bins": "ensembles.unfolded",
    "EnsembleReader": "ensembles.store",
    "Infer": "study.kinds",
    "LikelihoodSpec": "study.kinds",
    "Method": "methods.base",
    "MethodSpec": "study.kinds",
    "PosteriorSamples": "methods.base",
    "PriorSpec": "study.kinds",
    "Scaling": "ensembles.scaling",
    "Unfolded": "ensembles.unfolded",
    "event_normals": "core.seeding",
    "event_uniforms": "core.seeding",
    "generator": "core.seeding",
    "integer_seed": "core.seeding",
    "load_artifact": "diffusion.checkpoint",
}

# Without PosteriorSamples, which the documentation describes once, where `pullback` offers it.
__all__ = [
    "Artifact",
    "Bins",
    "EnsembleReader",
    "Infer",
    "LikelihoodSpec",
    "Method",
    "MethodSpec",
    "PriorSpec",
    "Scaling",
    "Unfolded",
    "event_normals",
    "event_uniforms",
    "generator",
    "integer_seed",
    "load_artifact",
]


__getattr__, __dir__ = offered(__name__, {name: f"pullback.{module}" for name, module in _MODULES.items()})
