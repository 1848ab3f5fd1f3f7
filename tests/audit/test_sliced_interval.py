"""Coverage of the sliced distance's 95 % interval, by simulation."""

import os

import numpy as np
import pytest

from pullback.core import seeding
from pullback.ensembles.fields import Field
from pullback.metrics.bootstrap import Replicas
from pullback.metrics.floors import Distances
from pullback.metrics.sample import Space

pytestmark = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: simulations of some minutes")

DATA_SETS, EVENTS = 400, 400


@pytest.mark.parametrize(
    ("dimension", "bias", "scale"),
    [(2, 0, 1), (2, 0.5, 1), (10, 0, 1), (10, 0.5, 1), (10, 0.5, 100), (50, 0, 1), (50, 0.5, 1)],
)
def test_interval_covers_the_mean_distance(dimension, bias, scale, capsys):
    """The interval of the value between data sets: 0.95 nominal, with 400 data sets 0.011 standard error."""
    unit = np.ones(dimension)
    unit[0] = scale
    values, ends = [], []
    for data in range(DATA_SETS):
        rng = np.random.default_rng(data)
        truth, draws = (rng.normal(size=(EVENTS, dimension)) * unit for _ in range(2))
        draws[:, 0] += bias * scale
        space = Space.of(Field.vector("x", tuple(f"f{i}" for i in range(dimension)), "m"), truth)
        replicas = Replicas(np.arange(EVENTS), 200, seeding.generator(data, "bootstrap"))
        found = Distances(truth, space, replicas, (0, "directions"), 250, 1).measure_swd(draws)
        values.append([m.value for m in found])
        ends.append([(m.low, m.high) for m in found])
    low, high = np.moveaxis(np.array(ends), 2, 0)
    mean = np.mean(values, axis=0)
    covered = ((low <= mean) & (mean <= high)).mean(axis=0)
    widths = (high - low).mean(axis=0) / 3.92 / np.std(values, axis=0)
    with capsys.disabled():
        print(
            f"\n{dimension}-D, bias {bias}, scale {scale}: coverage {np.round(covered, 2).tolist()}, "
            f"width over spread {np.round(widths, 2).tolist()}"
        )
    # 0.92 to 0.98, and three standard errors; exact draws of few components scatter less than their influence says.
    assert np.min(covered) > 0.92 - 0.035
    assert np.min(widths) > 0.85
    assert np.max(widths) < 1.6
