"""Tiles cut from a velocity model: pieces of it, from areas apart for different splits."""

import re

import numpy as np
import pytest

from pullback.readers.tiles import describe, sample_tiles
from pullback.readers.velocity import VelocityFileError
from pullback.simulators.wave_settings import AREAS, Tiles

# 41 x 61 nodes of 10 m: 400 m deep, 600 m wide, velocity a plane in depth and offset.
DEPTH, OFFSET = np.arange(41) * 10.0, np.arange(61) * 10.0
PLANE = (2000 + 2 * DEPTH[:, None] + 0.5 * OFFSET).astype("f4")


def options(path, **more) -> Tiles:
    return Tiles(**{"file": str(path), "spacing": 10.0, **more})


def tiles(path, n=200, shape=(11, 16), extent=(100.0, 150.0), seed=0, **more) -> np.ndarray:
    return sample_tiles(options(path, **more), np.random.default_rng(seed), n, shape, extent)


@pytest.fixture
def plane(tmp_path):
    np.save(tmp_path / "plane.npy", PLANE)
    return tmp_path / "plane.npy"


def test_tiles_are_pieces_of_the_section(plane):
    """Of a plane every tile is a plane of the same slopes, wherever it lies; its corner says where that is."""
    cut = tiles(plane)
    assert cut.shape == (200, 11, 16)
    assert cut.dtype == np.float32
    # Nodes of the tile are 10 m apart both ways, as those of the file.
    np.testing.assert_allclose(np.diff(cut, axis=1), 20, atol=2e-3)
    np.testing.assert_allclose(np.diff(cut, axis=2), 5, atol=2e-3)
    # First nodes lie anywhere in 300 m x 450 m: velocities from 2000 to 2000 + 600 + 225 there, means in the middle.
    corner = cut[:, 0, 0]
    assert 2000 <= corner.min() < 2060
    assert 2765 < corner.max() <= 2825
    assert corner.mean() == pytest.approx(2412.5, abs=4 * np.hypot(600, 225) / np.sqrt(12 * 200))
    np.testing.assert_array_equal(cut, tiles(plane))
    assert not np.isin(cut[:, 0, 0], tiles(plane, seed=1)[:, 0, 0]).any()


def test_the_same_tiles_on_finer_nodes(plane):
    """Interpolation is linear and the places do not depend on the nodes, so that a plane is met exactly."""
    np.testing.assert_allclose(tiles(plane, shape=(21, 31))[:, ::2, ::2], tiles(plane), rtol=1e-6)


def test_depth_from_and_stretch(plane):
    deep = tiles(plane, depth_from=250.0)
    # Between 250 m and 300 m of depth, anywhere in 450 m of offset.
    assert deep[:, 0, 0].min() >= 2500
    assert deep[:, 0, 0].max() <= 2600 + 225
    stretched = tiles(plane, stretch=2.0)
    np.testing.assert_allclose(np.diff(stretched, axis=1)[:, 1:-1], 40, atol=1)
    whole = tiles(plane, n=3, shape=PLANE.shape, extent=(400.0, 600.0))
    np.testing.assert_allclose(whole, np.broadcast_to(PLANE, whole.shape), rtol=1e-6)
    # 133.3 m x 3 is 400 m, whatever comes of it in binary.
    tiles(plane, n=1, extent=(400 / 3, 200.0), stretch=3.0)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"stretch": 5.0}, "400 m deep and 600 m wide, too small for tiles of 500 m x 750 m below 0 m"),
        ({"depth_from": 310.0}, r"tiles of 100 m x 150 m below 310 m: lower tiles\.stretch or tiles\.depth_from"),
    ],
)
def test_a_section_that_is_too_small(plane, more, said):
    with pytest.raises(VelocityFileError, match=said):
        tiles(plane, **more)


def test_only_what_new_nodes_cannot_carry_is_smoothed(tmp_path):
    """Stripes of two nodes: as they are on nodes as near as the file's, nearly gone on nodes four times as far."""
    stripes = np.where(np.arange(401) % 4 < 2, 2000.0, 3000.0)
    np.save(tmp_path / "stripes.npy", np.tile(stripes, (81, 1)))
    # Whole steps: the section is as deep as a tile and only one node wider, so that nodes fall on nodes.
    fine = tiles(tmp_path / "stripes.npy", n=1, shape=(81, 401), extent=(800.0, 4000.0))
    np.testing.assert_allclose(fine[0, 40], stripes, rtol=1e-6)
    coarse = tiles(tmp_path / "stripes.npy", n=20, shape=(21, 81), extent=(800.0, 3200.0))
    # A sigma of half of 4 - 1 nodes leaves exp(-(2 pi 1.5 / 4)^2 / 2) = .062 of their swing of 500 sqrt(2) m/s.
    inner = coarse[:, :, 2:-2]
    assert 30 < np.abs(inner - 2500).max() < 50


@pytest.mark.parametrize("nodes", [(11, 16), (3, 4)], ids=["as near as the file's", "farther apart"])
@pytest.mark.parametrize("trained", AREAS)
def test_tiles_of_different_splits_share_no_node(tmp_path, trained, nodes):
    """Velocities are the numbers of columns: what is smoothed or interpolated stays between those of the area."""
    columns = 1000.0 + np.arange(307)
    np.save(tmp_path / "columns.npy", np.tile(columns, (41, 1)))
    path, cut, seen = tmp_path / "columns.npy", {}, set()
    for split, area in AREAS[trained].items():
        cut[split] = tiles(path, shape=nodes, area=area)
        low, high = int(np.floor(cut[split].min())), int(np.ceil(cut[split].max()))
        assert not seen & set(range(low, high + 1))
        seen |= set(range(low, high + 1))
        # Everything else in the area is used: tiles are 15 nodes wide.
        assert high - low > (area[1] - area[0]) * 307 - 12
    assert list(cut) == (["train", "validation", "test", "reference"] if trained else ["test", "reference"])
    everywhere = tiles(path, shape=nodes, area="anywhere")
    np.testing.assert_array_equal(everywhere, tiles(path, shape=nodes))
    assert everywhere.max() - everywhere.min() > 290


def test_an_area_that_is_too_narrow(plane):
    said = (
        r"600 m wide, .* from 15 % of it, 80 m, narrower than a tile of 150 m: give a section 1133 m wide, .* anywhere$"
    )
    with pytest.raises(VelocityFileError, match=said):
        tiles(plane, area=(0.55, 0.7))
    np.save(plane, np.tile(PLANE[:, :1], (1, 114)))
    assert tiles(plane, n=1, area=(0.55, 0.7)).shape == (1, 11, 16)


def test_what_is_said_of_a_section(plane):
    test, reference, train = (options(plane, area=area) for area in ((0.7, 0.85), (0.85, 1.0), (0.0, 0.55)))
    elsewhere = options("another.npy", area="anywhere")
    splits = {"test": test, "reference": reference, "train": train, "salt/train": elsewhere}
    found = describe(splits, (1500, 4500))
    assert found.warnings == []
    assert found.summary == (
        f"{plane}: 2150 m/s at the top, 2950 at the bottom; 600 m x 400 m; first axis taken as depth; tiles of test "
        "between offsets of 430 and 510 m, at least 10 m from those of reference, at least 100 m from those of train"
    )
    (overlap,) = describe({"test": test, "train": options(plane, area="anywhere")}, (1500, 4500)).warnings
    assert overlap == f"{plane}: tiles of test may overlap those of train: see tiles.area"


@pytest.mark.parametrize(
    ("values", "bounds", "warned", "told"),
    [
        (PLANE, (1500, 3000), None, "2.4 % outside 1500 to 3000 m/s is clipped"),
        (
            PLANE,
            (1500, 2500),
            r"55\.8 % outside 1500 to 2500 m/s is clipped: correct its units, or velocity_min",
            "clipped",
        ),
        (PLANE / 0.3048, (1500, 4500), r"100\.0 % outside .*: say tiles\.units: ft/s if it is in that", "100.0 %"),
        (PLANE[::-1], (1500, 4500), "velocity falls from 2950 m/s at the top to 2150 at the bottom: if", "2950 m/s at"),
    ],
)
def test_sources_that_make_uniform_rock_are_warned_of(tmp_path, values, bounds, warned, told):
    np.save(tmp_path / "rock.npy", values)
    found = describe({"test": options(tmp_path / "rock.npy", first_axis="depth")}, bounds)
    assert told in found.summary
    assert len(found.warnings) == (warned is not None)
    assert warned is None or re.search(warned, found.warnings[0])
