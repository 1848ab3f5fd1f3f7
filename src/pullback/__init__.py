"""pullback: ensemble inverse problems, from simulators to posteriors and per-prior generalisation reports.

From Python (docs/python.md):

    >>> from pullback import EIFM, open_ensemble, open_posterior
    >>> model = EIFM(k=8).fit(ensembles)              # a list of (x, y), one for each prior; or HDF5 ensembles
    >>> draws = model.sample(y_new, draws=32)         # (event, draw, *x), conditioned on the set y_new

Names are imported when they are first used: ``import pullback`` takes neither numpy nor torch.
"""

from typing import TYPE_CHECKING

from pullback.core.lazy import offered

if TYPE_CHECKING:
    from pullback import waves
    from pullback.api import (
        CDDPM,
        CFM,
        EIDDPM,
        EIFM,
        HVAE,
        DiffusionPrior,
        Ensemble,
        Posterior,
        PosteriorSamples,
        Regression,
        UnfoldedEvents,
        VelocityGAN,
        energy_score,
        open_ensemble,
        open_posterior,
        open_unfolded,
        sliced_wasserstein,
        tarp,
        wasserstein_1d,
    )

__version__ = "0.1.0"

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


__getattr__, __dir__ = offered(__name__, dict.fromkeys(__all__, "pullback.api"))
