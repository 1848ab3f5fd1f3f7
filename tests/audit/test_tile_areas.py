"""How near test tiles of Marmousi are to training tiles: the table of docs/geology.md."""

import os
from pathlib import Path

import numpy as np
import pytest

from pullback.problems.fwi import Fwi
from pullback.simulators.wave_settings import AREAS, FwiSimulator

MARMOUSI = (
    Path(os.environ.get("PULLBACK_DATA") or Path(__file__).parents[2] / ".." / "shared" / "data")
    / "fwi/marmousi_vp_1601x401_float32.bin"
)

pytestmark = [
    pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1"),
    pytest.mark.skipif(not MARMOUSI.exists(), reason="there is no ../shared/data (set PULLBACK_DATA)"),
]


def tiles(area, n: int, seed: int) -> np.ndarray:
    """Tiles as vectors."""
    options = {"file": str(MARMOUSI), "shape": [1601, 401], "first_axis": "offset", "spacing": 7.5, "units": "km/s"}
    params = {"geology": "tiles", "tiles": {**options, "area": area}}
    x = Fwi(FwiSimulator(preset="fwi32")).sample_prior(np.random.default_rng(seed), n, params)
    return x.reshape(n, -1).astype(float)


def nearest(test: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Least, 5 %, median and 95 % of the root mean square difference to the nearest of ``train``, m/s."""
    squared = (test**2).sum(1)[:, None] + (train**2).sum(1) - 2 * test @ train.T
    return np.quantile(np.sqrt(squared.min(axis=1).clip(0) / test.shape[1]), [0, 0.05, 0.5, 0.95]).round()


@pytest.mark.parametrize(
    ("n", "anywhere", "apart"),
    [
        (500, [9, 28, 163, 506], [136, 161, 376, 651]),
        (2000, [9, 16, 97, 333], [135, 143, 361, 639]),
        (8000, [5, 12, 64, 226], [132, 139, 357, 638]),
    ],
)
def test_tiles_of_areas_apart_are_no_copies(n, anywhere, apart):
    np.testing.assert_array_equal(nearest(tiles("anywhere", 200, 1), tiles("anywhere", n, 2)), anywhere)
    np.testing.assert_array_equal(nearest(tiles(AREAS[True]["test"], 200, 1), tiles(AREAS[True]["train"], n, 2)), apart)
