"""Metrics of posteriors and of distributions, on plain arrays and as rows of a study's tables.

    from pullback.metrics import energy_score, sliced_wasserstein, tarp

    energy_score(draws, truth).mean()     # draws (event, draw, *x), truth (event, *x)

The functions are those of `pullback.metrics.arrays`; a study's own metric is a `Metric`.
"""

from typing import TYPE_CHECKING

from pullback.core.lazy import offered

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


__getattr__, __dir__ = offered(
    __name__, {name: f"pullback.metrics.{'arrays' if name.islower() else name.lower()}" for name in __all__}
)
