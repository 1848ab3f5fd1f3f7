"""What makes each geology what it is."""

import numpy as np
import pytest

from pullback.simulators.geology import GEOLOGIES, GeologyError, sample
from pullback.study.problems import FwiParams

SHAPE = (32, 32)


def models(name: str, n: int = 200, seed: int = 0, **more) -> np.ndarray:
    return sample(name, np.random.default_rng(seed), n, SHAPE, **more)


def test_the_names_are_those_of_a_study():
    assert set(GEOLOGIES) == set(FwiParams.model_fields["geology"].annotation.__args__)


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


@pytest.mark.parametrize("name", ["flat", "curved", "flat-fault", "curved-fault", "salt", "channel"])
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
    assert thinnest >= 3  # an eighth of 32 cells, less one by rounding


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
    # Smooth: amplitude .17 * 32 cells and the shortest wavelength .4 * 32 give at most 2 pi .17 / .4 = 2.7 cells per
    # cell.
    assert moves.max() <= 4


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


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("granite", {}, "there are flat, curved"),
        ("flat", {"layers": (5, 2)}, "wanted 1 <= least <= most <= 16"),
        ("flat", {"layers": (2, 40)}, "40 in 32 cells of depth"),
        ("flat", {"low": 4500.0, "high": 1500.0}, "wanted 0 < low < high"),
    ],
)
def test_impossible_requests(name, more, message):
    with pytest.raises(GeologyError, match=message):
        models(name, **more)


def test_other_shapes():
    assert sample("curved-fault", np.random.default_rng(0), 3, (70, 40), layers=(2, 8)).shape == (3, 70, 40)
