"""How often sets that come from a training prior are called far from it, by number of events and kind of family."""

import os

import numpy as np
import pytest

from pullback.ensembles.fields import Field
from pullback.ensembles.store import EnsembleWriter
from pullback.metrics.seen import SeenObservations
from pullback.report.tables import FAR

pytestmark = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1")

FIELDS = (Field.vector("x", ("a",), "1"), Field.vector("y", ("a", "b"), ("GeV", "rad")))


def normal(rng, n, place):
    """Two quantities of different units."""
    return np.column_stack([100 + 30 * rng.standard_normal(n) + 5 * place, 0.3 * rng.standard_normal(n)])


def tailed(rng, n, place):
    """Student's t with 3 degrees of freedom: distances fall slower than n^-1/2."""
    return np.column_stack([rng.standard_t(3, n) + place, rng.standard_t(3, n)])


def blobs(rng, n, place):
    """Two modes: what is apart is how many events each has."""
    return np.column_stack([rng.choice([-4.0, 4.0], n), np.zeros(n)]) + rng.standard_normal((n, 2)) + place


LAWS = {"normal": normal, "tailed": tailed, "blobs": blobs}


def write(path, law, rng, places, events):
    with EnsembleWriter(path, x=FIELDS[0], y=FIELDS[1], spec="{}") as writer:
        y = np.concatenate([law(rng, events, place) for place in places]).astype("f4")
        writer.append(y, np.arange(len(y)), x=y[:, :1])
        if len(places) > 1:
            edges = np.arange(len(places) + 1) * events
            writer.ensembles(edges, np.array(places)[:, None], ["place"])
    return path


def ratios(folder, law, sweep, n, trainings, sets):
    """Distances over their floors of fresh sets of n events, for a few trainings."""
    found = []
    for number in range(trainings):
        rng = np.random.default_rng([number, n, sweep])
        if sweep:
            paths = [write(folder / f"{number}-{n}.h5", law, rng, list(rng.uniform(-1, 1, 64)), 512)]
        else:
            # Two families: a set of the first must not be judged by the second.
            paths = [write(folder / f"{number}-{n}-{i}.h5", law, rng, [place], 4000) for i, place in enumerate((0, 1))]
        seen = SeenObservations(paths, 20_000)
        for _ in range(sets):
            place = rng.uniform(-1, 1) if sweep else 0
            one = seen.distance(law(rng, n, place).astype("f4"), None, ("audit", number))
            found.append(one.value / one.floor)
    return np.array(found)


@pytest.mark.parametrize("n", [1, 3, 10, 100, 1000])
@pytest.mark.parametrize("sweep", [False, True], ids=["families", "sweep"])
@pytest.mark.parametrize("law", LAWS)
def test_sets_of_a_training_prior_are_rarely_far(tmp_path, law, sweep, n):
    found = ratios(tmp_path, LAWS[law], sweep, n, trainings=20, sets=10)
    above, far = np.mean(found > 1), np.mean(found > FAR)
    print(f"{law:7s} {'sweep' if sweep else 'families':8s} n {n:5d}: above 1 {above:.3f}, far {far:.3f}")
    assert far <= 0.05
