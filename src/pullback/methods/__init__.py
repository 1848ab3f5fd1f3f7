"""Methods: one life cycle, one file each.

What a method of one's own is written with is imported from here (docs/extending.md).
"""

import importlib
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    # By its text: every job's code holds this file, and must not hold what it offers.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"pullback.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
