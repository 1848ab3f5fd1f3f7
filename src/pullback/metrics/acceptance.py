"""The truth before the detector, estimated from a posterior with purity and efficiency.

Each recorded observation stands for purity(y) / efficiency(x) truths, x from p(x|y) (`methods.amortised.acceptance`).
Their number and the distribution of their features are compared with the pairs and misses of a test family.
"""

import logging
from collections.abc import Iterator

import h5py
import numpy as np

from pullback.core import seeding
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.unfolded import Unfolded
from pullback.metrics.bootstrap import Replicas, percentile_interval
from pullback.metrics.case import Case, event_weights
from pullback.metrics.examples import write_correlation
from pullback.metrics.metric import Measured, Metric
from pullback.metrics.resamples import resampled
from pullback.metrics.spectra import features
from pullback.metrics.unfolded_spectra import corrected
from pullback.metrics.unfolding import REPLICAS, SAMPLES, sample_rows, write_spectra

log = logging.getLogger("pullback")


def judge(
    case: Case, posterior: PosteriorReader, address: seeding.Address, group: h5py.Group | None = None
) -> list[Measured]:
    """Rows of a posterior of all recorded events that has a purity or an efficiency; its spectra are kept.

    Args:
        case: the family.
        posterior: its draws, also of fakes.
        address: root of the bootstrap.
        group: where the report finds the spectra before the detector; None keeps none.
    """
    n = posterior.n
    given = [name for name in ("purity", "efficiency") if name in posterior.columns]
    if not given:
        return []
    weight, whose = event_weights(case.recorded, n), case.recorded.read("group", 0, n)
    purity = posterior.read("purity").astype(np.float64) if "purity" in given else np.ones(n)
    rng = seeding.generator(*address, "acceptance")
    rows = []
    if "purity" in given:
        replicas = Replicas(whose, REPLICAS, rng, weight)
        mean, spread = replicas.mean(1.0 - purity[:, None])
        rows.append(Measured("fake_fraction", float(mean[0]), *percentile_interval(spread[:, 0]), None, n, "1"))
    if not case.known:
        return rows
    if n < case.recorded.n:
        log.info("%s: %d of %d events have draws: truths are not counted", case.name, n, case.recorded.n)
        return rows
    each = max(1, min(posterior.draws, SAMPLES // n))
    x, ok = (posterior.read(name)[:, :each] for name in ("x", "ok"))
    truths = posterior.draw_weights(None, draws=each)
    own = case.recorded.read("weight").astype(np.float64) if "weight" in case.recorded.columns else np.ones(n)
    # Equal weights do not weight; what the others were multiplied by has no meaning.
    scale = 1.0 if weight is None else float(weight.sum() / own.sum())
    rows += _ratios(case, purity, truths.sum(axis=1), weight, scale, whose, rng, given)
    replicas = Replicas(whose, REPLICAS, rng)
    repeated = np.column_stack([np.ones(n), *replicas.drawn(REPLICAS)])
    # Replica by draw: a draw of an observation is drawn as often as its collision.
    share = truths if weight is None else truths * weight[:, None]
    found = Unfolded(x[ok], (share[..., None] * repeated[:, None])[ok])
    assert found.x is not None
    assert found.weight is not None
    flat, distance_events = found.x.reshape(len(found.x), -1), case.events_of_distance(case.reader.n)
    rows += sample_rows(flat, found.weight, case, distance_events)
    counting = (truths * own[:, None])[ok]
    of_draw = np.broadcast_to(whose[:, None], ok.shape)[ok]
    finite = resampled(posterior, case.edges, lambda x: features(case, x), own, whose, accepted=True)
    more, contents = corrected(flat, counting, of_draw, case, n, len(given) == 2, finite)
    rows += more
    if case.alternative is not None:
        rows += case.alternative.row("_unfolded", [contents.shares()], n)
    if group is not None:
        write_spectra(group, found, case, distance_events)
        write_correlation(group, [contents])
    return rows


def _ratios(
    case: Case,
    purity: np.ndarray,
    truths: np.ndarray,
    weight: np.ndarray | None,
    scale: float,
    whose: np.ndarray,
    rng: np.random.Generator,
    given: list[str],
) -> Iterator[Measured]:
    """Estimated numbers over true ones, with bootstrap intervals over groups of both.

    Args:
        case: the family.
        purity: of each recorded event (event,).
        truths: purity / efficiency of each (event,), the mean over its draws.
        weight: of each (event,), or None.
        scale: what the events' own weights were multiplied by.
        whose: group of each (event,).
        rng: of the bootstrap.
        given: which of purity and efficiency the posterior has.
    """
    real, missed = (~case.recorded.fake()).astype(np.float64), case.recorded.missed
    # A purity of 0 in float32 is that of no pair.
    by_efficiency = truths / np.where(purity > 0, purity, 1.0)
    columns = np.stack([purity, real, real * by_efficiency, real, truths], axis=1)
    if missed is not None and len(missed.x):
        columns = np.concatenate([columns, np.tile([0.0, 0.0, 0.0, 1.0, 0.0], (len(missed.x), 1))])
        whose = np.concatenate([whose, missed.group])
        weight = None if weight is None else np.concatenate([weight, missed.weight * scale])
    replicas = Replicas(whose, REPLICAS, rng, weight)
    mean, spread = replicas.mean(columns)
    wanted = {"purity_ratio": (0, 1), "efficiency_ratio": (2, 3), "truths_ratio": (4, 3)}
    if "purity" not in given:
        del wanted["purity_ratio"]
    if missed is None:
        del wanted["efficiency_ratio"], wanted["truths_ratio"]
    for name, (up, down) in wanted.items():
        if mean[down] > 0:
            interval = percentile_interval(spread[:, up] / spread[:, down])
            yield Measured(name, float(mean[up] / mean[down]), *interval, None, len(purity), "1")


FAKE_FRACTION = Metric(
    "fake_fraction",
    "Estimated share of fakes",
    "of the recorded observations, 1 - purity",
    needs_truth=False,
)
"""1 - the mean of the purity that the method estimates over all recorded observations.

Angles: none. Weights of events: of the mean. Failed draws: none. Floor: none.
"""
PURITY_RATIO = Metric(
    "purity_ratio",
    "Estimated over true purity",
    "number of observations with a truth, estimated over true",
    "target",
    target=1.0,
)
"""Sum of the estimated purities over the number of observations that have a truth.

Angles: none. Weights of events: in both sums. Failed draws: none. Floor: none; the target is 1.
"""
EFFICIENCY_RATIO = Metric(
    "efficiency_ratio",
    "Truths by the estimated efficiency",
    "number of truths of the pairs divided by the estimated efficiency, over the true number",
    "target",
    target=1.0,
)
"""Sum over pairs of the mean of 1 / efficiency(x) over draws, over the number of pairs and misses.

Angles: none. Weights of events: in both sums. Failed draws: an event without a draw counts 0. Floor: none; target 1.
"""
TRUTHS_RATIO = Metric(
    "truths_ratio",
    "Estimated over true number of truths",
    "corrected for fakes and misses",
    "target",
    target=1.0,
)
"""Sum of purity / efficiency over all recorded observations, over the number of pairs and misses.

Angles: none. Weights of events: in both sums. Failed draws: an event without a draw counts 0. Floor: none; target 1.
"""
