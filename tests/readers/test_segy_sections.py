"""Sections in depth in SEG-Y and Seismic Unix: traces lie by their coordinates; contradictions are refused."""

import numpy as np
import pytest
import segyfiles

from pullback.readers.segy import describe, read_model
from pullback.readers.segy_layout import SegyError
from pullback.readers.velocity import read_section
from pullback.simulators.wave_settings import Tiles

ROCK = np.linspace(1600, 4400, 24)[:, None] + np.random.default_rng(2).uniform(0, 50, (24, 40))
ROCK = ROCK.astype(np.float32)
CDP = 12.5 * np.arange(40)
SECTION = {"traces": ROCK.T, "interval": 12_500, "scalar": -10, "cdp": 10 * CDP}
CUBE = {
    "traces": np.concatenate([ROCK.T + 100 * i for i in range(5)]),
    "cdp": 10 * np.tile(CDP, 5),
    "cdp_y": 250 * np.repeat(np.arange(5), 40),
    "inline": 1 + np.repeat(np.arange(5), 40),
    "crossline": 1 + np.tile(np.arange(40), 5),
}
ORDER = np.random.default_rng(3).permutation(40)
UNSORTED = {"traces": ROCK.T[ORDER], "cdp": 10 * CDP[ORDER]}
SU_SECTION = {"suffix": ".su", "scalar": 0, "cdp": 0, "d1": 12.5, "f1": 0.0, "d2": 12.5, "f2": 0.0}


def written(folder, suffix=".segy", **changes):
    return segyfiles.write(folder / f"a{suffix}", **{**SECTION, **changes})


OTHER = "in bytes 3225-3226 is {}, and its samples look like {}: write the right code there"


@pytest.mark.parametrize(
    ("changes", "options", "added"),
    [
        ({}, {}, 0),
        ({}, {"spacing": 12.5}, 0),
        (UNSORTED, {}, 0),
        (UNSORTED, {"spacing": 12.5}, 0),
        (CUBE, {"inline": 3}, 200),
        (CUBE, {"inline": 5, "spacing": 12.5}, 400),
        ({"revision": b"\2\0", "interval": 0, "binary": [(3273, "d", 12.5)]}, {}, 0),
        ({"order": "<"}, {}, 0),
        ({"tail": bytes(700)}, {}, 0),
        (SU_SECTION, {}, 0),
        ({**SU_SECTION, "order": "<"}, {"spacing": 12.5}, 0),
        ({"suffix": ".su", "cdp": 0, "scalar": -10, "group": 10 * CDP}, {}, 0),
    ],
)
def test_sections_lie_by_their_coordinates(tmp_path, changes, options, added):
    section = read_section(Tiles(file=str(written(tmp_path, **changes)), **options))
    np.testing.assert_array_equal(section.velocity, ROCK + np.float32(added))
    assert section.spacing == (12.5, 12.5)


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        (CUBE, {}, r"a cube of 5 inlines \(1 to 5, bytes 189-192\) x 40 crosslines .*tiles\.inline"),
        (CUBE, {"spacing": 12.5}, r"a cube of 5 inlines"),
        ({**CUBE, "cdp": 0, "cdp_y": 0}, {"spacing": 12.5}, r"a cube of 5 inlines"),
        ({**CUBE, "inline": 0, "crossline": 0}, {"spacing": 12.5}, r"beside a straight line by CDP_X .*tiles\.inline"),
        (CUBE, {"inline": 9}, r"no inline 9 \(bytes 189-192\), found 1 to 5: correct tiles\.inline"),
        (SU_SECTION, {"inline": 9}, r"Seismic Unix has no numbers of inlines"),
        ({}, {"spacing": 10.0}, r"traces lie 12\.5 m apart by CDP_X, and tiles\.spacing is 10: correct the one"),
        (SU_SECTION, {"spacing": 10.0}, r"samples lie 12\.5 m apart \(bytes 181-184\), and tiles\.spacing is 10"),
        ({"cdp": 10 * CDP**1.1}, {"spacing": 12.5}, r"traces lie .* apart by CDP_X, wanted one distance"),
        ({"identification": [1, 1, 1, 2, *[1] * 36]}, {}, r"trace 3 is dead or a dummy \(bytes 29-30\)"),
        ({"code": 1}, {}, OTHER.format(r"1 \(IBM float\)", r"IEEE float \(5\)")),
        (
            {"samples": 24, "traces": [segyfiles.ibm(t) for t in ROCK.T]},
            {},
            OTHER.format(r"5 \(IEEE float\)", r"IBM float \(1\)"),
        ),
        ({**SU_SECTION, "d1": 0.004}, {}, r"samples lie 0\.004 m apart \(bytes 181-184\), .* one in time, or in km"),
        ({"interval": 12}, {}, r"samples lie 12 mm apart by the headers .*: give tiles\.spacing"),
        ({"own_interval": 4000}, {}, r"12500 by the binary header .* and 4000 by trace 0"),
        ({"system": 2}, {}, r"lengths are in feet \(bytes 3255-3256 hold 2\), wanted metres"),
    ],
)
def test_sections_that_contradict_themselves_or_the_study(tmp_path, changes, options, words):
    path = written(tmp_path, **changes)
    with pytest.raises(SegyError, match=words):
        read_section(Tiles(file=str(path), **options))


def test_velocities_of_either_float_pass(tmp_path):
    ibm = {"code": 1, "samples": 24, "traces": [segyfiles.ibm(t) for t in ROCK.T]}
    found = read_model(written(tmp_path, **ibm)).velocity
    np.testing.assert_allclose(found, ROCK, rtol=1e-6)
    slow = {"traces": ROCK.T / 8}
    found = read_model(written(tmp_path, **slow)).velocity
    np.testing.assert_array_equal(found, ROCK / 8)


def test_what_a_cube_holds(tmp_path):
    cube = describe(written(tmp_path, **CUBE))
    assert (cube["inlines"], cube["crosslines"], cube["midpoint X (m)"]) == ("1 to 5", "1 to 40", "0 to 487.5")
