"""Metrics of posteriors and of distributions, on plain arrays and as rows of a study's tables.

    from pullback.metrics import energy_score, sliced_wasserstein, tarp

    energy_score(draws, truth).mean()     # draws (event, draw, *x), truth (event, *x)

The functions are those of `pullback.metrics.arrays`; a study's own metric is a `Metric`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullback.metrics.arrays import (
        c2st,
        coverage,
        crps,
        energy_score,
        ks_distance,
        sbc_ranks,
        sliced_wasserstein,
        spread_skill,
        tarp,
        wasserstein_1d,
    )
    from pullback.metrics.metric import Metric
    from pullback.metrics.sample import Sample

_MODULES = {"Metric": "metric", "Sample": "sample"}

__all__ = [
    "Metric",
    "Sample",
    "c2st",
    "coverage",
    "crps",
    "energy_score",
    "ks_distance",
    "sbc_ranks",
    "sliced_wasserstein",
    "spread_skill",
    "tarp",
    "wasserstein_1d",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES.get(name, 'arrays')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
