"""Covariances of draws that are conditioned on a finite set: against closed forms, and by the coverage of chi^2."""

import numpy as np
import pytest

from pullback.ensembles.posterior_store import PosteriorReader
from pullback.metrics.contents import chi_squared, group_sums, paired, shares_of
from pullback.metrics.resamples import resampled

NOISE, EVENTS, RESAMPLES, DRAWS = 3.0, 300, 60, 120
GAIN = 1 / (1 + NOISE**2)
"""Of the posterior mean GAIN y + (1 - GAIN) m, m the mean of the prior N(m, 1) that the mean of the set estimates."""
EDGES = {"a": np.array([-9.0, -0.6, 0.0, 0.6, 9.0])}


class Draws:
    """Draws as a reader of posteriors gives them, of a set of observations y = x + NOISE."""

    draw_weights = PosteriorReader.draw_weights

    def __init__(self, rng, resamples=RESAMPLES):
        truth = rng.normal(size=EVENTS)
        y = truth + NOISE * rng.normal(size=EVENTS)
        self.truth, self.draws = truth, DRAWS
        self.x = type("Field", (), {"shape": (1,)})
        if resamples:
            times = rng.multinomial(EVENTS, np.full(EVENTS, 1 / EVENTS), size=resamples).T
            mean = (y @ times / EVENTS)[np.arange(DRAWS) % resamples]
        else:
            mean = np.full(DRAWS, y.mean())
        spread = np.sqrt(1 - GAIN)
        x = GAIN * y[:, None] + (1 - GAIN) * mean + spread * rng.normal(size=(EVENTS, DRAWS))
        self.variables = {"x": x[..., None], "ok": np.ones(x.shape, bool), "log_weight": np.zeros(x.shape)}
        if resamples:
            self.variables["times"] = times.astype(np.uint8)
        self.columns = list(self.variables)
        self.one = x[np.arange(EVENTS), rng.integers(DRAWS, size=EVENTS)]

    def read(self, name, start=0, stop=None):
        return self.variables[name][start:stop]

    def contents(self, edges):
        return resampled(self, edges, lambda x: {"a": x[:, 0]}, None, np.arange(EVENTS), accepted=True)


def of_events(values, edges=EDGES):
    return group_sums({"a": values}, edges, None, np.arange(EVENTS), EVENTS)


def test_chi_squared_of_draws_and_truths_is_one_per_degree_of_freedom():
    rng, sets = np.random.default_rng(0), 150
    fixed, whole = [], []
    for _ in range(sets):
        made = Draws(rng)
        compared = paired(of_events(made.one), of_events(made.truth), EDGES, EVENTS)
        fixed.append(chi_squared(compared).value / 3)
        covariance = made.contents(EDGES).shares.added_to(compared.covariance, own=False)
        whole.append(chi_squared(compared._replace(covariance=covariance)).value / 3)
    error = np.sqrt(2 / 3 / sets)
    # The mean over draws differs from that of the truths by n^(-1/2) times v (1 + NOISE^2) / 2 v more than under a
    # fixed set, v = 1 - GAIN the variance of a posterior: in one of three directions, nearly.
    assert np.mean(fixed) > 1.8
    # Noise of the resamples is in the covariance: it errs to small values by up to a tenth.
    assert 0.9 - 3 * error < np.mean(whole) < 1 + 3 * error


def test_the_covariance_of_a_spectrum_is_that_over_data_sets():
    """One bin to each side of 0: its share stands for the mean, whose variance has a closed form."""
    rng, edges = np.random.default_rng(1), {"a": np.array([-50.0, 0.0, 50.0])}
    shares, fixed, found = [], [], []
    for _ in range(120):
        made = Draws(rng)
        own = shares_of(of_events(made.one, edges), edges, EVENTS)
        shares.append(own.value[0])
        fixed.append(own.covariance[0, 0])
        found.append(made.contents(edges).shares.added_to(own.covariance, own=True)[0, 0])
    # A variance from 120 sets has a relative error of sqrt(2 / 119) = 0.13.
    assert np.mean(found) == pytest.approx(np.var(shares, ddof=1), rel=3 * 0.13)
    assert np.mean(found) > 3 * np.mean(fixed)


def test_draws_under_the_set_itself_have_nothing_to_add():
    made = Draws(np.random.default_rng(2), resamples=0)
    assert made.contents(EDGES) is None
    assert Draws(np.random.default_rng(2), resamples=5).contents(EDGES) is None
