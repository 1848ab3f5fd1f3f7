"""Level 1: efficiency, fakes and likelihood in closed form against what is drawn."""

import numpy as np
import pytest

from pullback.simulators import detector
from pullback.simulators.detectors.acceptance import Acceptance
from pullback.simulators.detectors.smearing import Smearing

DETECTOR = Acceptance(kind="acceptance", turn_on=30.0, turn_on_width=8.0, fake_rate=0.7, fake_pt_scale=6.0)


@pytest.mark.parametrize("pt_min", [5.0, 25.0])
@pytest.mark.parametrize("x", [(22.0, 0.3), (35.0, -2.4), (60.0, 3.0), (60.0, 4.48)])
def test_efficiency_is_the_fraction_that_is_reconstructed(x, pt_min):
    n = 40_000
    jets = np.tile([*x, 3.0, 5.0], (n, 1))
    y, kept = DETECTOR.smear(jets, np.random.default_rng(1))
    found = (kept & (y[:, 0] >= pt_min)).mean()
    wanted = DETECTOR.efficiency(jets[:1], pt_min)[0]
    # The plateau, the turn-on and the cuts, written once more.
    plateau = 0.98 if abs(x[1]) < 2.5 else 0.9
    assert wanted == pytest.approx(
        plateau * detector.normal_cdf((x[0] - 30) / 8) * np.exp(detector.log_kept(jets[0], pt_min))
    )
    assert abs(found - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / n) + 1 / n


def test_fakes_follow_their_density():
    n = 20_000
    y, collision = DETECTOR.fakes(n, np.random.default_rng(2))
    counts = np.bincount(collision, minlength=n)
    assert abs(counts.mean() - 0.7) < 5 * np.sqrt(0.7 / n)
    assert abs(counts.var() - 0.7) < 5 * np.sqrt((0.7 + 2 * 0.7**2) / n)  # variance of a Poisson variance
    assert detector.is_kept(y).all()
    assert np.all((y[:, 2] >= -np.pi) & (y[:, 2] < np.pi))
    for pt_min in (5.0, 12.0, 30.0):
        wanted = DETECTOR.fake_number(pt_min)
        assert abs((y[:, 0] >= pt_min).sum() / n - wanted) < 5 * np.sqrt(wanted / n)
    # Numbers in a box against the integral of the density over it.
    pt, eta, phi = np.linspace(8, 15, 201), np.linspace(-1, 2, 4), np.linspace(0.5, 2.0, 4)
    centres = np.stack(np.meshgrid(*((e[1:] + e[:-1]) / 2 for e in (pt, eta, phi)), indexing="ij"), axis=-1)
    volume = (pt[1] - pt[0]) * (eta[1] - eta[0]) * (phi[1] - phi[0])
    wanted = DETECTOR.fake_density(centres).sum() * volume
    inside = np.all((y > [8, -1, 0.5]) & (y < [15, 2, 2.0]), axis=1).sum() / n
    assert abs(inside - wanted) < 5 * np.sqrt(wanted / n)


def test_numbers_do_not_depend_on_those_after_them():
    x = np.column_stack([np.linspace(21, 90, 12), np.zeros(12), np.zeros(12), np.zeros(12)])
    whole, short = (DETECTOR.smear(part, np.random.default_rng(3)) for part in (x, x[:5]))
    np.testing.assert_array_equal(short[0], whole[0][:5])
    np.testing.assert_array_equal(short[1], whole[1][:5])
    (y, where), (first, of) = (DETECTOR.fakes(n, np.random.default_rng(4)) for n in (50, 20))
    np.testing.assert_array_equal(first, y[where < 20])
    np.testing.assert_array_equal(of, where[where < 20])


def test_a_reconstructed_jet_follows_level_0():
    x = np.tile([24.0, 4.45, 2.0, 1.0], (30_000, 1))
    drawn, kept = DETECTOR.smear(x, np.random.default_rng(5))
    again, ok = DETECTOR.smear_kept(x, np.random.default_rng(6), 5.0)
    assert ok.all()
    level_0 = Smearing(kind="smearing")
    np.testing.assert_array_equal(DETECTOR.log_likelihood(again, x, 5.0), level_0.log_likelihood(again, x, 5.0))
    for feature in (0, 1):
        one, other = drawn[kept, feature], again[:, feature]
        assert abs(one.mean() - other.mean()) < 5 * np.hypot(one.std() / kept.sum() ** 0.5, other.std() / 30_000**0.5)


def test_truth_jets_below_the_fiducial_cut_are_made():
    assert DETECTOR.truth_pt_min(30.0) == 20.0
    assert Smearing(kind="smearing").truth_pt_min(30.0) == 30.0
