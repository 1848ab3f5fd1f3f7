"""What makes each geology what it is."""

import numpy as np
import pytest

from pullback.simulators.geology import GEOLOGIES, GeologyError, Ground, _random_field, sample
from pullback.simulators.wave_settings import FwiParams

SHAPE = (32, 32)


def models(name: str, n: int = 200, seed: int = 0, **more) -> np.ndarray:
    return sample(name, np.random.default_rng(seed), n, SHAPE, **more)


def test_the_names_are_those_of_a_study():
    assert {*GEOLOGIES, "tiles"} == set(FwiParams.model_fields["geology"].annotation.__args__)


@pytest.mark.parametrize("name", sorted(GEOLOGIES))
def test_every_geology(name):
    v = models(name)
    assert v.shape == (200, *SHAPE)
    assert v.dtype == np.float32
    assert v.min() >= 1500
    assert v.max() <= 4500
    assert np.array_equal(v, models(name))
    assert not np.array_equal(v, models(name, seed=1))
    assert len({m.tobytes() for m in v}) == 200
    # The bounds are used, not only kept: the prior is not a narrow one.
    assert v.max() - v.min() > 2000
    narrow = models(name, low=2000.0, high=2500.0)
    assert narrow.min() >= 2000
    assert narrow.max() <= 2500


@pytest.mark.parametrize(
    "name", ["flat", "curved", "flat-fault", "curved-fault", "salt", "channel", "lens", "thrust", "water"]
)
def test_layered_geologies_have_whole_velocities(name):
    v = models(name)
    assert np.array_equal(v, np.round(v))


def test_flat_rows_are_constant_and_layers_as_asked():
    v = models("flat", layers=(3, 6))
    assert (v == v[:, :, :1]).all()
    counts = [1 + np.count_nonzero(np.diff(m[:, 0])) for m in v]
    # Two neighbours may share a rounded velocity, so the least count can be undercut by luck, the most never exceeded.
    assert set(counts) <= {2, 3, 4, 5, 6}
    assert {3, 4, 5, 6} <= set(counts)
    assert np.mean(np.array(counts) < 3) < 0.02
    edges = [np.flatnonzero(np.diff(m[:, 0])) + 1 for m in v]
    thinnest = min(np.diff([0, *e, SHAPE[0]]).min() for e in edges)
    assert thinnest >= 2  # a twelfth of 31 steps holds two nodes or more


@pytest.mark.parametrize("name", ["flat", "curved"])
def test_sorted_rises_with_depth_and_unsorted_does_not(name):
    assert (np.diff(models(name, layers=(4, 4)), axis=1) >= 0).all()
    falls = (np.diff(models(name, layers=(4, 4), sorted=False), axis=1) < 0).any(axis=(1, 2))
    # Four velocities in random order are sorted once in 24.
    assert 0.9 < falls.mean() < 1


def test_curved_interfaces_share_one_shape():
    v = models("curved", layers=(2, 2))
    # The number of slow cells in a column is the depth of the one interface there.
    slow = (v == v[:, :1].min(axis=2, keepdims=True)).sum(axis=1)
    moves = np.abs(np.diff(slow, axis=1))
    assert (slow.max(axis=1) > slow.min(axis=1)).mean() > 0.95
    # Smooth: amplitude .25 * 31 cells and the shortest wavelength .3 * 31 give at most 2 pi .25 / .3 = 5.2 cells per
    # cell.
    assert moves.max() <= 6


@pytest.mark.parametrize(("name", "smooth"), [("flat-fault", "flat"), ("curved-fault", "curved")])
def test_faults_break_rows(name, smooth):
    def steepest(v: np.ndarray) -> np.ndarray:
        """Largest number of cells in one column pair where velocity changes sideways."""
        return (np.diff(v, axis=2) != 0).sum(axis=1).max(axis=1)

    faulted, whole = steepest(models(name)), steepest(models(smooth))
    assert (faulted > 0).mean() > 0.97
    assert np.median(faulted) >= 1.5 * max(np.median(whole), 1)


def test_faults_bring_other_stacks():
    """With two layers a fault alone keeps two velocities; another stack, behind half of the faults, makes more."""
    kinds = np.array([len(np.unique(m)) for m in models("flat-fault", n=600, layers=(2, 2))])
    assert 0.35 < (kinds > 2).mean() < 0.55
    assert kinds.max() == 4


def test_salt_is_one_fast_body_in_slow_rock():
    for m in models("salt", n=100):
        body = m >= 4500 - 0.05 * 3000
        assert 0.03 < body.mean() < 0.6
        assert len(np.unique(m[body])) == 1
        assert m[~body].max() <= 1500 + 0.6 * 3000
        # One piece: each row that it meets lies between its first and its last, without a gap.
        rows = np.flatnonzero(body.any(axis=1))
        assert len(rows) == rows[-1] - rows[0] + 1


def test_gradient_is_smooth_and_style_is_rough():
    gradient, style = models("gradient"), models("style")
    assert (np.diff(gradient, axis=1) > 0).all()
    assert np.abs(np.diff(gradient, axis=2)).max() < 3000 * 0.2 / 32 + 1
    # A Gaussian field of length .03 to .1 depth: neighbours agree, cells 16 apart hardly do.
    detrended = style - style.mean(axis=2, keepdims=True)
    variance = (detrended**2).mean()
    near = (detrended[:, :, 1:] * detrended[:, :, :-1]).mean() / variance
    far = (detrended[:, :, 16:] * detrended[:, :, :-16]).mean() / variance
    assert near > 0.6
    assert abs(far) < 0.25
    rises = style[:, 24:].mean(axis=(1, 2)) > style[:, :8].mean(axis=(1, 2))
    assert rises.mean() > 0.9


def test_channels_stand_in_flat_rock():
    v = models("channel", layers=(1, 1))
    assert all(2 <= len(np.unique(m)) <= 3 for m in v)
    # The edges of a parabola that opens upwards: within a channel's rows, deeper rows are not wider.
    one = [m for m in v if len(np.unique(m)) == 2]
    assert one
    for m in one:
        widths = (m != m[0, 0]).sum(axis=1)
        widths = widths[widths > 0]
        assert len(widths)
        contrast = abs(float(m[m != m[0, 0]][0]) - float(m[0, 0]))
        assert contrast >= 0.15 * 3000 - 1


def test_a_lens_is_slow_rock_under_a_crest_with_a_level_bottom():
    """Against the same curved layers without it: what differs is slower, hangs from a cap and ends at one depth."""
    for m in models("lens", n=100, layers=(1, 1)):
        host = m.max()
        lens = m < host
        assert lens.any()
        assert 0.64 < m[lens].min() / host < 0.89
        assert len(np.unique(m)) == 2
        # Within each column one piece, and all columns that have it end in the same row.
        columns = np.flatnonzero(lens.any(axis=0))
        bottoms = {np.flatnonzero(lens[:, c])[-1] for c in columns}
        assert len(bottoms) == 1
        for c in columns:
            rows = np.flatnonzero(lens[:, c])
            assert len(rows) == rows[-1] - rows[0] + 1


def test_a_thrust_puts_fast_rock_on_slow_rock():
    """Layers that get faster with depth, and yet columns in which velocity falls: along one line that dips 15 to 35
    degrees."""
    v = models("thrust", n=200, layers=(5, 5))
    falls = np.diff(v, axis=1) < 0
    with_one = falls.any(axis=(1, 2))
    assert with_one.mean() > 0.9
    slopes = []
    for m in falls[with_one]:
        rows, columns = np.nonzero(m)
        # One fault: at most one fall in a column.
        assert np.bincount(columns).max() == 1
        if np.ptp(columns) > 15:
            slopes.append(np.degrees(np.arctan(abs(np.polyfit(columns, rows, 1)[0]))))
    assert np.median(slopes) == pytest.approx(25, abs=5)
    assert np.quantile(slopes, 0.05) > 10
    assert np.quantile(slopes, 0.95) < 40
    assert not (np.diff(models("curved", layers=(5, 5)), axis=1) < 0).any()


def test_water_lies_on_rock():
    for m in models("water", n=100):
        water = m == 1500
        assert (m[~water] >= 1500 + 0.1 * 3000).all()
        # From the surface down to one depth in each column, a tenth to a third of the model.
        depths = water.sum(axis=0)
        assert all(water[:d, c].all() for c, d in enumerate(depths))
        assert depths.min() >= 1
        assert depths.max() <= 0.36 * 32 + 1
    assert models("water", low=1600.0).min() == 1600


def test_rough_style_is_rougher():
    """Style-B has less in common with its neighbours than Style-A, and as much of a trend."""

    def neighbours(v):
        detrended = v - v.mean(axis=2, keepdims=True)
        return (detrended[:, :, 1:] * detrended[:, :, :-1]).mean() / (detrended**2).mean()

    rough, smooth = models("style", rough=True), models("style")
    assert neighbours(rough) < neighbours(smooth) - 0.15


@pytest.mark.parametrize("aspect", [1.0, 2.5])
@pytest.mark.parametrize(("name", "more"), [*((name, {}) for name in GEOLOGIES), ("style", {"rough": True})])
def test_a_finer_grid_has_the_same_rock(name, more, aspect):
    """Nodes that two grids share have the same velocity: 63 nodes hold the 32, and so do 94, in any section."""
    coarse, fine = (
        sample(name, np.random.default_rng(3), 100, shape, aspect=aspect, **more) for shape in ((32, 32), (63, 94))
    )
    np.testing.assert_allclose(fine[:, ::2, ::3], coarse, rtol=2e-6)


def test_the_aspect_is_that_of_the_nodes_where_none_is_given():
    for shape, aspect in (((32, 32), 1.0), ((33, 65), 2.0)):
        for name in ("salt", "thrust", "style"):
            given, left_out = (sample(name, np.random.default_rng(0), 5, shape, aspect=a) for a in (aspect, None))
            np.testing.assert_array_equal(given, left_out)


def test_a_random_field_has_the_length_it_says():
    """exp(-r^2 / (2 l^2)) across and along, in a section that is wider than deep."""
    g = Ground(400, 33, 65, 2.0, (1, 1), True, 1500.0, 4500.0)
    field = _random_field(np.random.default_rng(0), g, np.full((400, 1, 1), 0.08))
    assert field.var() == pytest.approx(1, rel=0.05)
    # Nodes are 1/32 of the depth apart both ways: 65 offsets of a section twice as wide as deep.
    for lag in (1, 2, 4):
        expected = np.exp(-((lag / 32) ** 2) / (2 * 0.08**2))
        assert (field[:, lag:] * field[:, :-lag]).mean() == pytest.approx(expected, abs=0.05)
        assert (field[:, :, lag:] * field[:, :, :-lag]).mean() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("granite", {}, "there are flat, curved"),
        ("flat", {"layers": (5, 2)}, "wanted 1 <= least <= most <= 16"),
        ("flat", {"layers": (2, 40)}, "40 on 32 nodes of depth"),
        ("flat", {"low": 4500.0, "high": 1500.0}, "wanted 0 < low < high"),
    ],
)
def test_impossible_requests(name, more, message):
    with pytest.raises(GeologyError, match=message):
        models(name, **more)


def test_other_shapes():
    assert sample("curved-fault", np.random.default_rng(0), 3, (70, 40), layers=(2, 8)).shape == (3, 70, 40)
