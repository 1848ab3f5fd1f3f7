"""Methods with guided particles, from the settings of a study to draws: linear-gaussian with its exact posterior."""

import json
import logging
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pullback.core.context import Context
from pullback.core.particles import normalise
from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.exact import GaussianDenoiser
from pullback.diffusion.schedule import VarianceExploding
from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Scaling
from pullback.methods.guided.afdps import stiffness
from pullback.methods.guided.base import Counted
from pullback.methods.guided.moments import DRAWS, LEVELS
from pullback.methods.guided.observation import LikelihoodError, Observation
from pullback.methods.guided.particle_method import COPIES
from pullback.methods.guided.population import Scheme
from pullback.methods.train import spec_of
from pullback.problems.base import simulate
from pullback.problems.whitening import NoiseError
from pullback.study import StudyError, load_study
from pullback.study.job_params import Plan
from pullback.study.kinds import parse
from pullback.study.problem_kind import problem_kind

torch.set_num_threads(1)

Y = np.array([[1.2], [-0.4]], np.float32)


def built(spec, problem=None, **settings):
    """A method on a problem, with the exact denoiser of its prior."""
    problem = problem or problem_kind("linear-gaussian").build({"matrix": [[1.0, 0.5]], "noise": 0.4})
    settings = {"levels": 40, "sigma_max": 20.0, **settings}
    made = parse("methods", {"prior": "edm", **spec, "infer": {"default": settings}})
    method = made.build(problem, Context((0, "problem", "method", 0), accelerator="cpu"), made.infer["default"])
    x = problem.sample_prior(np.random.default_rng(0), 4000, {})
    y = simulate(problem, x, np.random.default_rng(1))[0]
    method.scaling = Scaling.fit(problem.x, problem.y, x.astype(np.float32), np.asarray(y, np.float32))
    z = torch.from_numpy(method.scaling.encode_x(x, np.asarray(y)))
    denoiser = GaussianDenoiser(z.mean(0), torch.atleast_2d(z.T.cov()), VarianceExploding())
    method.prior = Counted(denoiser, method.cost)
    return method


def sampled(spec, problem=None, **settings):
    method = built(spec, problem, **settings)
    return method, method.sample(None, Y, np.array([3, 8]))


KINDS = ["afdps", "afdps-ode", "fkc", "fk-corrector", "tds", "fk-steering"]


@pytest.mark.parametrize("kind", KINDS)
def test_draws_of_a_linear_problem(kind):
    spec = {"kind": kind, **({"eta": 0} if kind == "fk-steering" else {})}
    draws = 1500
    method, found = sampled(spec, draws=draws, sigma_max=5.0 if kind in ("fk-corrector", "fk-steering") else 20.0)
    assert found.ok.all()
    exact = method.problem.posterior(Y, {})
    evidence = method.problem.log_evidence(Y, {})
    for row in range(2):
        weight = normalise(found.log_weight[row])
        mean = weight @ found.x[row]
        deviation = np.sqrt(weight @ (found.x[row] - mean) ** 2)
        wanted = np.sqrt(np.diagonal(np.broadcast_to(exact.covariance, (2, 1, 2, 2))[row, 0]))
        if kind == "fk-steering":
            continue  # Its noisy weights need more particles: `test_twisted_particles_have_the_exact_posterior`.
        # 900 effective particles give .05 with guidance, few particles are left where there is no guidance.
        np.testing.assert_allclose(mean, exact.mean[row, 0], atol=0.2 * wanted.max())
        np.testing.assert_allclose(deviation, wanted, rtol=0.2)
    if kind in ("afdps", "afdps-ode", "tds"):  # Without guidance, or from far above the data, it is noisier.
        assert found.diagnostics["log_evidence"] == pytest.approx(np.median(evidence), abs=0.25)
    assert 0 < found.diagnostics["ess_min"] <= found.diagnostics["ess_final"] <= 1
    assert 1 <= found.diagnostics["unique_ancestors"] <= draws
    assert found.diagnostics["dead_particles"] == 0
    levels = [name for name in found.diagnostics if name.startswith("ess_level_")]
    assert len(levels) == 25
    assert {"ess_level_0", "ess_level_40"} <= set(levels)


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_guidance_alone(eta):
    """At eta 1 with the exact p(y | x_t) it is the reverse SDE of the posterior; at 1/2 it is half of its guidance."""
    problem = problem_kind("linear-gaussian").build(
        {"matrix": [[1.0, 0.5]], "noise": 0.4, "covariance": [[1.0, 0.0], [0.0, 1.0]]}
    )
    spec = {"kind": "afdps", "eta": eta, "weights": "none", "tempering": "gaussian"}
    method, found = sampled(spec, problem, draws=4000, levels=100)
    assert found.ok.all()
    assert not found.log_weight.any()
    # An effective share of 1 would be read as particles that are all good.
    assert found.diagnostics == {"dead_particles": 0}
    exact = method.problem.posterior(Y, {})
    along = np.array([1.0, 0.5]) / np.hypot(1.0, 0.5)
    for row in range(2):
        wanted = along @ exact.mean[row, 0]
        # 4000 draws of a deviation of .34: .005; the sample's scaling of x moves the prior by .02.
        far = abs((found.x[row] @ along).mean() - wanted)
        assert far < 0.03 if eta == 1 else far > 0.1 * abs(wanted)


def test_costs():
    method, _ = sampled({"kind": "afdps"}, draws=10, levels=7)
    assert (method.cost.network_calls, method.cost.network_gradients) == (2 * 10 * 7, 0)
    assert method.cost.likelihood_gradients == 2 * 10 * 6  # The last step, to 0, is not guided.
    method, _ = sampled({"kind": "afdps", "corrector_steps": 2}, draws=10, levels=7)
    assert method.cost.network_calls == 2 * 10 * (7 + 6 * 2)
    method, _ = sampled({"kind": "tds"}, draws=10, levels=7)
    assert (method.cost.network_calls, method.cost.network_gradients) == (2 * 10 * 7, 2 * 10 * 7)
    method, _ = sampled({"kind": "fk-steering", "eta": 0}, draws=10, levels=7)
    assert (method.cost.network_calls, method.cost.network_gradients) == (2 * 10 * 7, 0)


def test_an_event_is_answered_the_same_beside_any_other():
    both = sampled({"kind": "afdps"}, draws=20, levels=10)[1]
    alone = built({"kind": "afdps"}, draws=20, levels=10).sample(None, Y[1:], np.array([8]))
    np.testing.assert_array_equal(alone.x[0], both.x[1])


def test_moments_of_a_network_are_those_of_its_draws():
    exact = built({"kind": "afdps"}, draws=8)
    method = built({"kind": "afdps"}, draws=8)
    mean, covariance = method.prior.denoiser.moments()

    class Network(Denoiser):
        schedule = method.prior.schedule

        def __call__(self, x, t):
            return exact.prior.denoiser(x, t)

    method.prior = Counted(Network(), method.cost)
    found = method.moments
    assert method.cost.network_calls == DRAWS * LEVELS
    # 1024 draws: 3 % of the deviation, 6 % of the covariance; 40 levels of order 2 from 80 add 5 % to the variance.
    torch.testing.assert_close(found.mean, mean.double(), atol=0.12, rtol=0)
    ours = (found.axes * found.variances) @ found.axes.T
    torch.testing.assert_close(ours, covariance.double(), atol=0.2, rtol=0)
    drawn = method.sample(None, Y, np.array([3, 8]))
    assert drawn.ok.all()
    assert method.cost.network_calls == DRAWS * LEVELS + 2 * 8 * 40  # Once, not for each event.


def test_particles_beyond_draws_and_the_heaviest():
    _, found = sampled({"kind": "afdps"}, draws=5, particles=40, levels=10)
    assert found.x.shape == (2, 5, 2)
    assert not found.log_weight.any()
    spec = {"kind": "afdps-sde", "reduce": "highest-weight"}
    _, one = sampled(spec, draws=1, particles=40, levels=10)
    _, all_of_them = sampled({"kind": "afdps-sde"}, draws=40, levels=10)
    heaviest = all_of_them.log_weight.argmax(axis=1)
    np.testing.assert_array_equal(one.x[:, 0], all_of_them.x[[0, 1], heaviest])


def test_labels():
    def label(**more):
        return parse("methods", {"kind": "afdps", "prior": "edm", **more}).label

    assert label() == "asymptotic"
    assert label(likelihood="tweedie") == "approximate"
    assert label(weights="none") == "approximate"
    assert label(reduce="highest-weight", infer={"a": {"draws": 1, "particles": 8}}) == "point estimate"
    assert parse("methods", {"kind": "fk-steering", "prior": "edm"}).label == "approximate"


@pytest.mark.parametrize(
    ("kind", "eta", "variant", "weights"),
    [
        ("afdps", 0.5, "sde", "auto"),
        ("afdps-sde", 1.0, "sde", "rate"),
        ("afdps-ode", 0.5, "ode", "difference"),
        ("fk-corrector", 0.0, "sde", "rate"),
        ("fkc", 0.5, "sde", "rate"),
    ],
)
def test_presets(kind, eta, variant, weights):
    spec = parse("methods", {"kind": kind, "prior": "edm"})
    assert (spec.eta, spec.variant, spec.weights) == (eta, variant, weights)
    assert (spec.corrector_steps > 0) == (variant == "ode")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"infer": {"a": {"draws": 1}}}, "at least 2 particles"),
        ({"likelihood": "tweedie", "tempering": "linear"}, "tempering has no effect"),
        ({"inflation": 2.0}, "inflation has no effect"),
        ({"variant": "ode", "eta": 1.0}, "eta has no effect with variant: ode"),
        (
            {"weights": "none", "reduce": "highest-weight", "infer": {"a": {"draws": 1, "particles": 8}}},
            "no highest weight",
        ),
        ({"eta": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(spec, message):
    with pytest.raises(ValidationError, match=message):
        parse("methods", {"kind": "afdps", "prior": "edm", **spec})


def study(spec):
    problem = {
        "kind": "linear-gaussian",
        "families": {"prior": {"role": "seen"}},
        "priors": {"known": {"kind": "exact"}},
        "methods": {"one": {"prior": "known", **spec}},
    }
    return {"config_version": 2, "study": "one", "problems": {"line": problem}}


def test_the_heaviest_particle_is_one_draw():
    with pytest.raises(StudyError, match=r"infer\.default\.draws: found 32, .*set draws: 1"):
        load_study(study({"kind": "afdps", "reduce": "highest-weight"}))


@pytest.mark.parametrize("level", [1000, 0.001])
def test_a_first_level_that_the_prior_has_not_is_refused_with_the_study(level):
    with pytest.raises(
        StudyError, match=rf"sigma_max: found {level:g}, and the prior 'known' has levels from 0\.002 to"
    ):
        load_study(study({"kind": "tds", "infer": {"default": {"sigma_max": level}}}))


@pytest.mark.parametrize(
    "spec",
    [
        *({"kind": kind} for kind in [*KINDS, "afdps-sde"]),
        {"kind": "afdps-ode", "likelihood": "tweedie", "inflation": 2.0},
        {"kind": "afdps", "reduce": "highest-weight", "infer": {"default": {"draws": 1, "particles": 8}}},
    ],
    ids=str,
)
def test_a_job_says_every_setting(spec):
    """A job holds all settings, those of the method apart from those of the inference; they are read again."""
    loaded = load_study(study(spec))
    job = json.loads(Plan(loaded).infer_job("line", "one", "default", 0, "prior", 0))
    again = spec_of(job)
    method = loaded.problems["line"].methods["one"]
    assert again.infer_settings(job["infer"]) == method.infer["default"]
    assert again == method.model_copy(update={"infer": again.infer})


def test_a_level_beyond_the_priors_is_refused():
    with pytest.raises(LikelihoodError, match=r"sigma_max: 100, and the prior is trained for levels from 0.002 to 80"):
        sampled({"kind": "afdps"}, draws=4, sigma_max=100.0)


class Curved:
    """y = x + x^3 / 30, differentiable by `vjp`: no linear form."""

    x = Field.vector("x", ["a"], "1")
    y = Field.vector("y", ["u"], "1")
    noise_covariance = 0.5

    def sample_prior(self, rng, n, params):
        return rng.standard_normal((n, 1))

    def apply(self, x):
        return x + x**3 / 30, x[:, 0] < 30

    def vjp(self, x, u):
        return (1 + 0.1 * x**2) * u

    def observe(self, signal, x, rng):
        return signal + 0.5**0.5 * rng.standard_normal(signal.shape)


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "afdps"},
        {"kind": "afdps", "eta": 0.6, "weights": "rate"},
        {"kind": "afdps", "weights": "path"},
        {"kind": "afdps", "likelihood": "tweedie"},
        {"kind": "tds"},
    ],
    ids=str,
)
def test_a_curved_problem(spec):
    """Against quadrature on a line."""
    # Rates of a guidance other than 1/2 are of order 1 in steps times curvature.
    numbers = {"draws": 400, "levels": 120} if "eta" in spec else {"draws": 800}
    method, found = sampled(spec, Curved(), sigma_max=2.0, **numbers)
    grid = np.linspace(-5, 5, 4001)
    for row, y in enumerate(Y[:, 0]):
        density = np.exp(-(grid**2) / 2 - (y - grid - grid**3 / 30) ** 2 / 1.0)
        mean = (density * grid).sum() / density.sum()
        deviation = math.sqrt((density * (grid - mean) ** 2).sum() / density.sum())
        weight = normalise(found.log_weight[row])
        assert weight @ found.x[row, :, 0] == pytest.approx(mean, abs=0.25 * deviation)
    assert method.cost.simulator_calls > 0
    assert method.cost.likelihood_gradients > 0


def test_linear_needs_a_linear_problem():
    spec = parse("methods", {"kind": "afdps", "prior": "edm", "tempering": "gaussian"})
    ((key, message),) = spec.check(SimpleNamespace(capabilities=frozenset({"gradient"}), kind="fwi"))
    assert (key, message.startswith("gaussian needs a linear problem, and kind 'fwi' is not")) == ("tempering", True)
    assert not list(spec.check(SimpleNamespace(capabilities=frozenset({"linear"}), kind="linear-gaussian")))
    with pytest.raises(LikelihoodError, match="take tempering: linear"):
        sampled({"kind": "afdps", "tempering": "none"}, Curved(), draws=4)


def test_steps_that_are_too_long_say_how_many_would_do(caplog):
    caplog.set_level(logging.WARNING, "pullback")
    sampled({"kind": "afdps"}, Curved(), draws=20, sigma_max=5.0, levels=10)
    enough = [int(n) for n in re.findall(r"about (\d+) levels would do, or a lower sigma_max", caplog.text)]
    caplog.clear()
    sampled({"kind": "afdps"}, Curved(), draws=20, sigma_max=5.0, levels=max(enough))
    assert not caplog.records


def test_copies_of_one_particle_are_said(caplog):
    """Noise far below what 12 levels resolve: log-likelihoods of particles are thousands apart."""
    caplog.set_level(logging.WARNING, "pullback")
    sampled({"kind": "tds"}, Curved(), draws=200, sigma_max=2.0)
    assert not caplog.records
    sharp = Curved()
    sharp.noise_covariance = 1e-6
    _, found = sampled({"kind": "tds", "inflation": 100}, sharp, draws=8, sigma_max=2.0, levels=12)
    assert found.x.std(axis=1).max() < COPIES
    assert re.search(r"the 8 particles are copies of 1 at noise level .*: they are one draw", caplog.text)
    caplog.clear()
    sampled({"kind": "tds", "inflation": 100}, sharp, draws=8, sigma_max=2.0, levels=12, islands=2)
    assert re.search(r"copies of 2 at noise level .*: they are 2 draws", caplog.text)


def test_islands_divide_the_particles():
    for islands, particles in ((3, 8), (8, 8)):
        with pytest.raises(ValidationError, match=f"islands: {islands} do not divide {particles} particles"):
            built({"kind": "afdps"}, draws=4, particles=particles, islands=islands)


def test_stiffness_of_a_linear_problem_without_singular_vectors(monkeypatch):
    monkeypatch.setattr("pullback.methods.guided.observation.Whitened.svd", None)
    with pytest.raises(LikelihoodError, match=r"levels: 12 make explicit .* levels: \d+ would do") as caught:
        sampled({"kind": "afdps"}, draws=4, sigma_max=3.0, levels=12)
    enough = int(str(caught.value).partition("noise of y: levels: ")[2].split()[0])
    assert sampled({"kind": "afdps"}, draws=4, sigma_max=3.0, levels=enough)[1].ok.all()


def test_a_corrector_that_is_too_long_needs_another_size(monkeypatch):
    """Its time depends on the level, not on how many there are: 2^20 levels were named, which no study may have."""
    monkeypatch.setattr("pullback.methods.guided.observation.Whitened.svd", None)
    spec = {"kind": "afdps-ode", "corrector_size": 0.1}
    says = r"no levels would do; take a lower sigma_max, a smaller corrector_size, or"
    with pytest.raises(LikelihoodError, match=says):
        sampled(spec, draws=4, sigma_max=20.0, levels=12)
    assert sampled(spec | {"corrector_size": 1e-4}, draws=4, sigma_max=20.0, levels=12)[1].ok.all()


def test_particles_need_a_likelihood():
    """Without its noise a problem has only a misfit, whose units would set the weights."""
    problem = Curved()
    problem.noise_covariance = None
    for kind in ("afdps", "tds", "fk-steering"):
        with pytest.raises(LikelihoodError, match=r"y has no noise; give its simulator a positive noise"):
            sampled({"kind": kind}, problem, draws=4, levels=3)


def test_stiffness_and_the_largest_singular_value_against_numpy():
    method = built({"kind": "afdps"}, problem_kind("linear-gaussian").build({"matrix": [[1.0, 0.5], [0.3, -1.0]]}))
    linear = Observation(method.problem, method.scaling, np.zeros(2, np.float32), method.cost).linear
    unit = linear.operator.apply(torch.eye(2, dtype=torch.float64)).T.numpy()
    assert linear.operator.largest == pytest.approx(np.linalg.svd(unit)[1][0], rel=1e-2)
    assert stiffness(Scheme(eta=1.0), [3.0, 2.0, 1.0, 0.0], 3.0) == pytest.approx(3 * 2 * math.log(2) / 3)


def test_noise_of_zero_is_refused():
    problem = Curved()
    problem.noise_covariance = 0.0
    with pytest.raises(NoiseError, match="noise has variance 0"):
        sampled({"kind": "afdps"}, problem, draws=4)


def test_failures_are_counted_and_said(caplog):
    caplog.set_level(logging.WARNING, "pullback")

    class Fails(Curved):
        def apply(self, x):
            return super().apply(x)[0], np.zeros(len(x), bool)

    problem = Curved()
    method = built({"kind": "afdps"}, problem, draws=6, levels=5)
    problem.apply = Fails().apply
    found = method.sample(None, Y[:1], np.array([0]))
    assert not found.ok.any()
    assert "all 6 particles died" in caplog.text
    assert method.cost.failed_simulations > 0


def test_the_way_of_the_first_observations_particles_is_kept():
    """At the last level they are the draws, whose noise is gone, with their weights."""
    method = built({"kind": "afdps"}, draws=50, particles=50)
    assert method.marginals is None
    found = method.sample(None, Y, np.array([3, 8]))
    kept = method.marginals
    assert kept.event_id == 3
    assert kept.level[0] == pytest.approx(20.0)
    assert (np.diff(kept.level) < 0).all()
    assert kept.weight.sum(axis=1) == pytest.approx(np.ones(len(kept.level)))
    last = kept.bounded()[-1]
    assert last == pytest.approx(found.x[0, :, 0], abs=8 * kept.std * kept.level[-1])
    method.sample(None, Y[1:], np.array([8]))
    assert method.marginals is kept
    assert method.using(method.settings).marginals is None
