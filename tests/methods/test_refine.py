"""Refinement by EM on particles: against dense sums, closed forms and cases that are built to fail."""

import numpy as np
import pytest

from pullback.core.context import Context
from pullback.core.seeding import generator
from pullback.ensembles.fields import Field
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.amortised.spec import AmortisedInfer, Refine
from pullback.methods.base import Method, PosteriorSamples
from pullback.methods.infer import answer
from pullback.methods.refinement.em import Sample, choose, em_step, equal, pairs, predictive
from pullback.methods.refinement.kernel import Coordinates, bandwidth
from pullback.methods.refinement.refine import Refined, RefineError
from pullback.metrics.distances import sliced_wasserstein
from pullback.problems.base import simulate
from pullback.problems.gaussian import Gaussian, GaussianSimulator
from pullback.problems.reweighting import pairwise

PROBLEM = Gaussian(GaussianSimulator())
SMALL = Refine(particles=2000)  # one for each of 2000 events
ANGLES = np.linspace(0, np.pi, 50, endpoint=False)
THETA = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)


def events(n, gamma, seed=0):
    rng = np.random.default_rng(seed)
    x = PROBLEM.sample_prior(rng, n, {"gamma": gamma})
    return x.astype(np.float32), simulate(PROBLEM, x, rng)[0].astype(np.float32)


def swd(u, v):
    return sliced_wasserstein(u, v, THETA)


def replace_particles(n):
    return SMALL.model_copy(update={"particles": n})


class Believes(Method[None]):
    """The exact posterior under a prior that may be wrong: what an amortised method is outside its training priors."""

    block = 100

    def __init__(self, gamma):
        super().__init__(None, PROBLEM, Context((1, "toy", "believes", 0)))
        self.gamma = gamma

    def sample(self, state, y, event_id):
        rng = generator(*self.context.address, int(event_id[0]))
        x, _ = PROBLEM.exact_posterior(y, {"gamma": self.gamma}, self.settings.draws, 64, rng)
        return PosteriorSamples(x, np.zeros(x.shape[:2]), np.ones(x.shape[:2], bool))

    def diagnostics(self, state):
        return {"believed": self.gamma}


def write(path, x, y):
    with EnsembleWriter(path, x=PROBLEM.x, y=PROBLEM.y, spec="{}") as writer:
        writer.append(y, np.arange(len(y)), x=x)
    return path


def refined(tmp_path, method, x, y, settings=SMALL, draws=1, likelihood=None):
    """Draws (event, draw, 2) of the refined method, and its diagnostics, through the driver and a file."""
    with EnsembleReader(write(tmp_path / "e.h5", x, y)) as reader:
        settings_of_all = AmortisedInfer(draws=draws, refine=settings)
        answer(Refined(method, likelihood).using(settings_of_all), reader, tmp_path / "p.h5", "{}")
    posterior = PosteriorReader(tmp_path / "p.h5")
    return posterior.read("x"), posterior.diagnostics


# The iteration


def dense_em(log_likelihood, weight, iterations):
    """The definition, in float64 and loops over events: r_ip, then its mean."""
    for _ in range(iterations):
        total = np.zeros_like(weight)
        for row in log_likelihood:
            r = weight * np.exp(row)
            total += r / r.sum()
        weight = total / len(log_likelihood)
    return weight


def test_iterations_are_those_of_the_definition():
    _, y = events(300, 0.5)
    particles = PROBLEM.sample_prior(np.random.default_rng(1), 500, {"gamma": 0.0})
    found = pairs(pairwise(PROBLEM, particles), y, len(particles))
    log_likelihood = PROBLEM.log_likelihood(y[:, None], particles[None])
    weight = np.random.default_rng(2).dirichlet(np.ones(500))
    ours = weight.astype(np.float32)
    for _ in range(7):
        ours = em_step(found, ours)
    wanted = dense_em(log_likelihood, weight, 7)
    np.testing.assert_allclose(ours, wanted, rtol=2e-3, atol=1e-7)
    mixed = np.log((np.exp(log_likelihood) * wanted).sum(axis=1)).mean()
    assert predictive(found, ours) == pytest.approx(mixed, abs=1e-5)


def test_the_likelihood_of_the_set_never_falls():
    _, y = events(400, 0.9)
    particles = PROBLEM.sample_prior(np.random.default_rng(1), 600, {"gamma": 0.0})
    found = pairs(pairwise(PROBLEM, particles), y, len(particles))
    weight, reached = equal(particles).weight, []
    for _ in range(60):
        reached.append(predictive(found, weight))
        weight = em_step(found, weight)
    # float32 sums of 600 terms.
    assert np.all(np.diff(reached) > -1e-6)
    assert reached[-1] > reached[0] + 0.05
    assert weight.sum() == pytest.approx(1, abs=1e-5)


def test_pairs_without_a_fast_form_and_with_events_that_nothing_explains():
    x, y = events(50, 0.5)

    class Slow:
        def log_likelihood(self, y, x):
            values = PROBLEM.log_likelihood(y, x)
            values[3] = -np.inf
            values[4, 5] = np.nan
            return values

    ours = pairs(pairwise(Slow(), x), y, len(x))
    fast = pairs(pairwise(PROBLEM, x), y, len(x))
    others = np.arange(50) != 3
    assert ours.ratio.shape == (49, 50)
    assert ours.ratio[3, 5] < 1e-20
    ours.ratio[3, 5] = fast.ratio[4, 5]
    np.testing.assert_allclose(ours.ratio, fast.ratio[others], rtol=1e-4, atol=1e-20)
    np.testing.assert_allclose(ours.offset, fast.offset[others], atol=1e-9)


# Early stopping


def test_held_out_members_stop_the_fit_before_it_is_spikes():
    """Few observations and many particles: the likelihood of the fitted ones grows on and on, that of others falls."""
    _, y = events(60, 0.6, seed=3)
    _, others = events(1500, 0.6, seed=4)
    particles = PROBLEM.sample_prior(np.random.default_rng(5), 1000, {"gamma": 0.6})
    settings = Refine(particles=1000, most_iterations=120, rounds=1)

    def at(x):
        return pairwise(PROBLEM, x)

    fit = choose(at, equal(particles), y, others, settings, lambda sample, number: sample)
    ours, theirs = pairs(at(particles), y, 1000), pairs(at(particles), others, 1000)
    weight = equal(particles).weight
    curve, training = [], []
    for _ in range(120):
        curve.append(predictive(theirs, weight))
        training.append(predictive(ours, weight))
        weight = em_step(ours, weight)
    assert training[-1] > training[0] + 0.1
    assert curve[-1] < max(curve) - 0.1
    assert fit.iterations == [int(np.argmax(curve))]
    assert fit.iterations[0] < 20
    assert fit.gain == pytest.approx(max(curve) - curve[0], abs=1e-6)


# What comes of it


@pytest.mark.parametrize(("gamma", "believed"), [(0.9, 0.5), (-0.9, 0.0)])
def test_a_wrong_prior_is_corrected(tmp_path, gamma, believed):
    x, y = events(2000, gamma)
    before = Believes(believed).using(AmortisedInfer(draws=1)).sample(None, y, np.arange(2000)).x[:, 0]
    after, noticed = refined(tmp_path, Believes(believed), x, y)
    assert swd(after[:, 0], x) < 0.6 * swd(before, x)
    assert abs(np.corrcoef(after[:, 0].T)[0, 1] - gamma) < 0.5 * abs(np.corrcoef(before.T)[0, 1] - gamma)
    assert noticed["believed"] == believed
    assert noticed["refine_iterations"] >= 1
    assert noticed["refine_gain"] > 0.01
    assert (
        1 <= noticed["refine_event_ess_least"] <= noticed["refine_event_ess"] <= noticed["refine_particles"] <= 2000.01
    )


def weighted(path, x, y, weight):
    with EnsembleWriter(path, x=PROBLEM.x, y=PROBLEM.y, spec="{}", columns={"weight": "float64"}) as writer:
        writer.append(y, np.arange(len(y)), x=x, weight=weight)
    return EnsembleReader(path)


def test_event_weights_count(tmp_path):
    """Half of the events weigh nothing: the prior that is found is that of the others."""
    x, y = events(2000, 0.5)
    weight = np.where(x[:, 0] > 1, 3.0, 0.0)
    wanted, all_of_them = x[weight > 0].mean(axis=0), x.mean(axis=0)
    settings = AmortisedInfer(refine=Refine(particles=4000))
    with weighted(tmp_path / "w.h5", x, y, weight) as reader:
        sample = Refined(Believes(0.5)).using(settings).condition(reader).sample
    found = np.average(sample.x, axis=0, weights=sample.weight)
    # Noise of half the radius: the weighted prior has a sharp edge that no fit finds.
    assert np.linalg.norm(found - wanted) < 0.25 * np.linalg.norm(all_of_them - wanted)


def test_negative_event_weights_are_refused(tmp_path):
    x, y = events(100, 0.5)
    with (
        weighted(tmp_path / "w.h5", x, y, np.where(np.arange(100) < 7, -1.0, 1.0)) as reader,
        pytest.raises(RefineError, match=r"7 of 100 event weights are negative: .* leave `refine` out"),
    ):
        Refined(Believes(0.5)).using(AmortisedInfer(refine=SMALL)).condition(reader)


def test_a_right_prior_is_a_fixed_point(tmp_path):
    """Not worse than before by more than the noise of a sample of particles.

    The sliced distance of n paired draws is about .04 at n = 4000 (facts, section 2.1), and goes as n^-1/2: .056 for
    independent samples of 2000, less for pairs; the particles add one more such sample.
    """
    x, y = events(2000, 0.5)
    before = Believes(0.5).using(AmortisedInfer(draws=1)).sample(None, y, np.arange(2000)).x[:, 0]
    after, noticed = refined(tmp_path, Believes(0.5), x, y)
    assert swd(after[:, 0], x) < np.hypot(swd(before, x), 0.056)
    assert noticed["refine_gain"] < 0.02


def test_the_posterior_under_a_right_prior_stays_what_it_is(tmp_path):
    x, y = events(500, 0.5)
    exactly, _ = PROBLEM.exact_posterior(y, {"gamma": 0.5}, 64, 64, np.random.default_rng(0))
    after, _ = refined(tmp_path, Believes(0.5), x, y, replace_particles(6000), draws=64)
    spread = exactly.std(axis=1)
    mean = (after.mean(axis=1) - exactly.mean(axis=1)) / spread
    # 64 draws on each side: standard errors of 1/8 each in the mean and 1/11 each in the spread.
    assert np.sqrt((mean**2).mean()) < 0.35
    assert abs(np.median(after.std(axis=1) / spread) - 1) < 0.06


class Resamples(Believes):
    """Its state is the number of resamples that it was conditioned on."""

    def condition(self, ensemble, workdir=None):
        return self.settings.bootstrap

    def sample(self, state, y, event_id):
        chunk = super().sample(None, y, event_id)
        return PosteriorSamples(chunk.x + 100 * state, chunk.log_weight, chunk.ok)


def test_particles_are_drawn_under_the_set_itself(tmp_path):
    x, y = events(300, 0.5)
    with EnsembleReader(write(tmp_path / "e.h5", x, y)) as reader:
        settings = AmortisedInfer(bootstrap=8, refine=Refine(particles=300))
        state = Refined(Resamples(0.5)).using(settings).condition(reader)
    assert np.abs(state.sample.x).max() < 50
    assert state.inner == 8


class KnowsFakes(Believes):
    """Observations beyond 20 are fakes; half of the truths are recorded, fewer of large ones."""

    acceptance = ("purity", "efficiency")

    def purity_of(self, state, y):
        return (y[:, 0] < 20).astype(float)

    def efficiency_of(self, x):
        return 0.5 / (1 + np.exp(x[..., 0] / 10))


def test_fakes_are_left_out_of_the_fit_and_draws_keep_purity_and_efficiency(tmp_path):
    x, y = events(400, 0.5)
    y[300:] += 40
    with EnsembleReader(write(tmp_path / "e.h5", x, y)) as reader:
        method = Refined(KnowsFakes(0.5)).using(AmortisedInfer(draws=3, refine=replace_particles(1000)))
        state = method.condition(reader)
        # The draws for fakes lie some 15 further out than any truth.
        assert np.abs(state.sample.x[state.sample.weight > 0]).max() < 8
        answer(method, reader, tmp_path / "p.h5", "{}")
    with PosteriorReader(tmp_path / "p.h5") as found:
        np.testing.assert_array_equal(found.read("purity"), np.arange(400) < 300)
        wanted = KnowsFakes(0.5).efficiency_of(found.read("x"))
        np.testing.assert_allclose(found.read("efficiency"), wanted, rtol=1e-6)


def test_draws_do_not_depend_on_how_events_are_cut(tmp_path):
    x, y = events(300, 0.8)
    method = Refined(Believes(0.5))
    settings = AmortisedInfer(draws=3, refine=Refine(particles=400, members=200))
    with EnsembleReader(write(tmp_path / "e.h5", x, y)) as reader:
        state = method.using(settings).condition(reader)
        again = method.using(settings).condition(reader)
    ids = np.arange(300)
    whole = method.using(settings).sample(state, y, ids).x
    np.testing.assert_array_equal(whole, method.using(settings).sample(again, y, ids).x)
    cut = [method.using(settings).sample(state, y[i : i + 60], ids[i : i + 60]).x for i in range(0, 300, 60)]
    # Matrix products of other sizes: other last bits.
    np.testing.assert_allclose(whole, np.concatenate(cut), atol=1e-4)


def test_a_set_too_small_to_say_anything_is_left_alone(tmp_path):
    x, y = events(5, 0.9)
    draws, noticed = refined(tmp_path, Believes(0.5), x, y, draws=40)
    assert noticed["refine_iterations"] == 0
    assert draws.shape == (5, 40, 2)
    assert np.isfinite(draws).all()


def test_an_event_that_no_particle_explains_keeps_the_draws_of_the_method(tmp_path, monkeypatch):
    x, y = events(60, 0.5)
    monkeypatch.setattr(PROBLEM, "pairwise_log_likelihood", None, raising=False)

    def only_some(y, x):
        values = Gaussian.log_likelihood(PROBLEM, y, x)
        return np.where(np.asarray(y)[..., 0] > 3, -np.inf, values)

    monkeypatch.setattr(PROBLEM, "log_likelihood", only_some)
    draws, _ = refined(tmp_path, Believes(0.5), x, y, Refine(particles=200), draws=2)
    lost = y[:, 0] > 3
    assert 0 < lost.sum() < 60
    assert np.isfinite(draws).all()


# The kernel


def test_smoothing_keeps_mean_and_covariance():
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal([3, -1], [[2, 1.2], [1.2, 1]], 20_000)
    field = Field.vector("x", ("a", "b"), "1")
    moved = Coordinates(field, x).smooth(x, 0.5, rng.standard_normal(x.shape))
    assert np.abs(moved - x).mean() > 0.1
    # Standard errors of 1 / sqrt(20000) = .007, and twice that for second moments.
    np.testing.assert_allclose(moved.mean(axis=0), x.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(np.cov(moved.T), np.cov(x.T), atol=0.08)


def test_smoothing_knows_angles_positive_quantities_and_bounds():
    rng = np.random.default_rng(0)
    angle = (np.pi + 0.3 * rng.standard_normal(5000) + np.pi) % (2 * np.pi) - np.pi
    x = np.stack([np.exp(0.5 * rng.standard_normal(5000)), angle], axis=1)
    field = Field.vector("x", ("pt", "phi"), "1", transforms=("log", "periodic"), low=(0.0, -4.0), high=(5.0, 4.0))
    moved = Coordinates(field, x).smooth(x, 0.4, rng.standard_normal(x.shape))
    assert moved[:, 0].min() > 0
    assert moved[:, 0].max() <= 5
    assert np.abs(moved[:, 1]).max() <= np.pi + 1e-6
    assert np.log(moved[:, 0]).std() == pytest.approx(0.5, rel=0.05)
    # The angles surround pi: their spread is .3, not that of two clumps at both ends.
    turned = (moved[:, 1] % (2 * np.pi)) - np.pi
    assert turned.std() == pytest.approx(0.3, rel=0.05)


def test_the_bandwidth_is_the_normal_reference_rule():
    assert bandwidth(1000, 1) == pytest.approx(1.06 * 1000**-0.2, rel=0.002)
    assert bandwidth(8000, 2) == pytest.approx(8000 ** (-1 / 6))
    assert bandwidth(1, 2, 5.0) == 1


def test_resampling_takes_particles_by_their_weight():
    weight = np.array([0.5, 0, 0.25, 0.25], np.float32)
    x = np.arange(4.0)[:, None]
    found = Sample(x, weight).resampled(np.random.default_rng(0))[:, 0]
    assert sorted(found) == [0, 0, 2, 3]


def test_the_fast_form_of_the_likelihood_is_the_likelihood():
    x, y = events(40, 0.3)
    wanted = PROBLEM.log_likelihood(y[:, None], x[None])
    np.testing.assert_allclose(PROBLEM.pairwise_log_likelihood(y, x), wanted, rtol=1e-9, atol=1e-6)


def test_arrays_are_not_moved(tmp_path):
    field = Field.array("x", ("depth",), (2,), "m")

    class Arrays:
        x, y = field, PROBLEM.y
        pairwise_log_likelihood = PROBLEM.pairwise_log_likelihood

    method = Believes(0.5)
    method.problem = Arrays()
    x, y = events(50, 0.5)
    with EnsembleReader(write(tmp_path / "e.h5", x, y)) as reader:
        state = Refined(method).using(AmortisedInfer(refine=replace_particles(200))).condition(reader)
    assert state.coordinates is None
    draws = (
        Refined(method).using(AmortisedInfer(draws=2, refine=replace_particles(200))).sample(state, y, np.arange(50)).x
    )
    assert {tuple(row) for row in draws.reshape(-1, 2)} <= {tuple(row) for row in state.sample.x}
