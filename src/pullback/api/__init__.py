"""pullback from Python: models on arrays (`models`), files of a study as arrays (`files`), waves, metrics."""

from pullback import waves
from pullback.api.files import Ensemble, Posterior, open_ensemble, open_posterior
from pullback.api.models import CDDPM, CFM, EIDDPM, EIFM, HVAE, Regression, VelocityGAN
from pullback.methods.base import PosteriorSamples

__all__ = [
    "CDDPM",
    "CFM",
    "EIDDPM",
    "EIFM",
    "HVAE",
    "Ensemble",
    "Posterior",
    "PosteriorSamples",
    "Regression",
    "VelocityGAN",
    "open_ensemble",
    "open_posterior",
    "waves",
]
