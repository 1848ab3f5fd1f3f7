"""pullback from Python: models on arrays (`models`), files of a study as arrays (`files`), waves, metrics."""

from pullback import waves
from pullback.api.files import Ensemble, Posterior, open_ensemble, open_posterior
from pullback.api.models import CDDPM, CFM, EIDDPM, EIFM, HVAE, DiffusionPrior, Regression, VelocityGAN
from pullback.api.unfolded import UnfoldedEvents, open_unfolded
from pullback.methods.base import PosteriorSamples
from pullback.metrics.arrays import energy_score, sliced_wasserstein, tarp, wasserstein_1d

__all__ = [
    "CDDPM",
    "CFM",
    "EIDDPM",
    "EIFM",
    "HVAE",
    "DiffusionPrior",
    "Ensemble",
    "Posterior",
    "PosteriorSamples",
    "Regression",
    "UnfoldedEvents",
    "VelocityGAN",
    "energy_score",
    "open_ensemble",
    "open_posterior",
    "open_unfolded",
    "sliced_wasserstein",
    "tarp",
    "wasserstein_1d",
    "waves",
]
