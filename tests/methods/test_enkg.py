"""EnKG against transcriptions, a linear-Gaussian problem and an exact prior; no wave simulator."""

import math

import numpy as np
import pytest
import torch

from pullback.core.context import Context
from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.exact import GaussianDenoiser
from pullback.diffusion.schedule import VarianceExploding
from pullback.ensembles.fields import Field
from pullback.ensembles.scaling import Column
from pullback.methods.guided.base import Counted, DiffusionMethod, Particles
from pullback.methods.guided.enkg import EnKG, EnkgError, enkg_update, frobenius_norm, guide, inner_steps
from pullback.methods.guided.prior_draws import PriorDraws
from pullback.methods.guided.spec import DiffusionInfer, EnkgInfer

torch.set_num_threads(1)

D, M, N = 4, 6, 24
RNG = np.random.default_rng(0)
FACTOR = RNG.normal(size=(D, D))
MEAN = RNG.normal(size=D)
G = RNG.normal(size=(M, D))
TRUTH = MEAN + FACTOR @ RNG.normal(size=D)
Y = G @ TRUTH
SETTINGS = EnkgInfer(levels=20, draws=N, guidance=0.5, rescale_guidance=False)


def exact_prior():
    return GaussianDenoiser(torch.from_numpy(MEAN), torch.from_numpy(FACTOR @ FACTOR.T), VarianceExploding())


def ensemble(seed=1, n=7):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, D))
    return x, (x + 0.1 * rng.normal(size=x.shape)) @ G.T


def published(x, predicted, observed, guidance):
    """The update of facts enkg_and_fwi.md 1.2, one product at a time."""
    n = len(x)
    mean_x = sum(x) / n
    mean_y = sum(predicted) / n
    A = [[sum((predicted[j] - observed) * (predicted[k] - mean_y)) / n for k in range(n)] for j in range(n)]
    size = math.sqrt(sum(a**2 for row in A for a in row))
    return np.array([x[j] - guidance / size * sum(A[j][k] * (x[k] - mean_x) for k in range(n)) for j in range(n)])


def test_update_is_the_published_one():
    x, predicted = ensemble()
    moved = enkg_update(x, predicted, Y, 1.7)
    np.testing.assert_allclose(moved, published(x, predicted, Y, 1.7), rtol=1e-12, atol=1e-12)
    assert np.abs(moved - x).max() > 0.05


def test_update_does_not_see_the_scale_of_the_data():
    x, predicted = ensemble()
    np.testing.assert_allclose(
        enkg_update(x, 1e-6 * predicted, 1e-6 * Y, 1.0), enkg_update(x, predicted, Y, 1.0), rtol=1e-9, atol=1e-12
    )


def test_update_does_not_see_the_order_of_particles():
    x, predicted = ensemble()
    order = np.random.default_rng(2).permutation(len(x))
    moved = enkg_update(x[order], predicted[order], Y, 1.0)
    np.testing.assert_allclose(moved, enkg_update(x, predicted, Y, 1.0)[order], rtol=1e-12, atol=1e-12)


def test_a_failed_particle_has_no_vote_and_does_not_move():
    x, predicted = ensemble()
    ok = np.ones(len(x), dtype=bool)
    ok[2] = False
    predicted[2] = np.nan
    moved = enkg_update(x, predicted, Y, 1.0, ok)
    np.testing.assert_array_equal(moved[2], x[2])
    np.testing.assert_allclose(moved[ok], enkg_update(x[ok], predicted[ok], Y, 1.0), rtol=1e-12, atol=1e-12)


def test_nobody_moves_where_all_predictions_agree():
    x, predicted = ensemble()
    np.testing.assert_array_equal(enkg_update(x, np.tile(predicted[:1], (7, 1)), Y, 2.0), x)


def test_step_keeps_the_published_row_norm_for_fewer_particles():
    # Facts: guidance / sqrt(N) is 0.044 at N = 2048 and 0.25 at N = 64.
    assert 2.0 / math.sqrt(2048) == pytest.approx(0.044, abs=5e-4)
    assert frobenius_norm(2.0, 2048, True) == 2.0
    assert frobenius_norm(2.0, 64, True) / math.sqrt(64) == pytest.approx(2.0 / math.sqrt(2048))
    assert frobenius_norm(2.0, 64, False) / math.sqrt(64) == pytest.approx(0.25)


@pytest.mark.parametrize(("skip", "updates", "particles", "calls"), [(0.05, 2, 2048, 290_816), (0.1, 1, 1024, 64_512)])
def test_schedule_makes_the_released_number_of_simulations(skip, updates, particles, calls):
    infer = EnkgInfer(levels=80, updates=updates, skip_start=skip, skip_end=skip, draws=particles)
    assert len(infer.guided_levels) * updates * particles == calls


def test_inner_steps_as_released():
    infer = EnkgInfer(levels=80)
    assert [inner_steps(level, infer) for level in (0, 4, 8, 40, 76, 77, 79)] == [20, 20, 19, 11, 2, 1, 1]


class Linear:
    """Simulator of the linear problem that counts, and can refuse particles."""

    def __init__(self, refuse=lambda z, level: np.zeros(len(z), dtype=bool)):
        self.calls = 0
        self.refuse = refuse

    def __call__(self, z, level, update):
        assert type(z) is np.ndarray
        self.calls += len(z)
        ok = ~self.refuse(z, level)
        predicted = z @ G.T
        predicted[~ok] = np.nan
        return predicted, ok


def noise(seed=0, n=N):
    return torch.randn((n, D), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def misfits(z):
    return np.linalg.norm(np.asarray(z) @ G.T - Y, axis=1)


def test_guidance_lowers_the_misfit():
    unguided = SETTINGS.model_copy(update={"guidance": 1e-12})
    ratios = []
    for seed in range(5):
        guided = guide(exact_prior(), Linear(), Y, noise(seed), SETTINGS)
        free = guide(exact_prior(), Linear(), Y, noise(seed), unguided)
        ratios.append(np.median(misfits(guided)) / np.median(misfits(free)))
    assert np.median(ratios) < 0.1
    assert max(ratios) < 0.2


def test_simulations_are_what_the_settings_say():
    simulate = Linear()
    guide(exact_prior(), simulate, Y, noise(), SETTINGS)
    # Levels 2 ... 18 of 20 at 5 % skipped on both ends.
    assert simulate.calls == 17 * 2 * N


def test_a_particle_that_always_fails_leaves_the_others_alone():
    first = guide(exact_prior(), Linear(), Y, noise(), SETTINGS)

    def with_a_bad_one(z, level):
        return np.arange(len(z)) == N

    more = torch.cat([noise(), noise(9, 1)])
    found = guide(exact_prior(), Linear(with_a_bad_one), Y, more, SETTINGS)
    torch.testing.assert_close(found[:N], first, rtol=1e-8, atol=1e-8)
    assert torch.isfinite(found).all()


def test_all_failed_is_an_error_that_says_where():
    late = Linear(lambda z, level: np.full(len(z), level >= 7))
    with pytest.raises(EnkgError, match=r"all 24 simulations failed at level 7 \(sigma"):
        guide(exact_prior(), late, Y, noise(), SETTINGS)


def test_no_gradient_is_reachable():
    class Leaf(torch.nn.Module, Denoiser):
        schedule = VarianceExploding()

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x, sigma):
            return self.scale * exact_prior()(x, sigma)

    found = guide(Leaf(), Linear(), Y, noise().requires_grad_(), SETTINGS)
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"skip_start": 0.5, "skip_end": 0.5}, "leave none of 20 levels"), ({"draws": 1}, "at least 2 are needed")],
)
def test_settings_that_guide_nothing_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        EnkgInfer(**keys)


# The method: a problem in physical units, a prior with a scaling, events by id.


class Problem:
    x = Field.vector("x", "abcd", "1", low=(-1.0,) * D, high=(1.0,) * D)
    y = Field.vector("y", "uvwxyz", "1")

    def __init__(self):
        self.seen = []

    def simulate(self, x, rng):
        self.seen.append(x)
        return x @ G.T, np.arange(len(x)) != 3


class Halved:
    """A scaling: networks see x / 2."""

    x_shape = (D,)
    x_columns = tuple(Column(i, f"x{i}", "linear", 0.0, 2.0) for i in range(D))

    def decode_x(self, z, y):
        return (2 * z).astype(np.float32)


def make(cls, broken=None):
    method = cls(None, Problem(), Context(("study", "problem", "enkg", 0)))
    schedule = VarianceExploding(0.01, 20.0)
    exact = GaussianDenoiser(torch.zeros(D), torch.eye(D), schedule)

    class Prior(Denoiser):
        def __call__(self, x, sigma):
            mean = exact(x, sigma)
            if broken is not None:
                mean[broken] = torch.nan
            return mean

    Prior.schedule = schedule
    method.prior = Counted(Prior(), method.cost)
    method.scaling = Halved()
    return method


INFER = EnkgInfer(levels=10, draws=8)


def test_method_projects_and_counts():
    method = make(EnKG)
    y = np.stack([Y, 2 * Y]).astype(np.float32)
    chunk = method.using(INFER).sample(None, y, np.array([5, 9]))
    assert chunk.x.shape == (2, 8, D)
    assert chunk.x.dtype == np.float32
    assert chunk.ok.all()
    assert (chunk.log_weight == 0).all()
    # Levels 1 ... 9 of 10, two updates, two events; the simulator refuses one particle each time.
    runs = 9 * 2 * 2
    assert method.cost.simulator_calls == runs * 8
    assert method.cost.failed_simulations == runs
    steps = [inner_steps(level, INFER) for level in INFER.guided_levels]
    assert method.cost.network_calls == 2 * 8 * (10 + 2 * sum(steps))
    simulated = np.concatenate(method.problem.seen)
    assert simulated.min() >= -1
    assert simulated.max() <= 1
    on_a_bound = (np.abs(simulated) == 1).any(axis=1).sum()
    assert method.cost.projected == on_a_bound > 0


def test_an_event_is_answered_the_same_beside_any_other():
    y = np.stack([Y, 2 * Y]).astype(np.float32)
    together = make(EnKG).using(INFER).sample(None, y, np.array([5, 9]))
    alone = make(EnKG).using(INFER).sample(None, y[1:], np.array([9]))
    np.testing.assert_array_equal(together.x[1], alone.x[0])
    other = make(EnKG).using(INFER).sample(None, y[1:], np.array([8]))
    assert np.abs(other.x - alone.x).max() > 1e-3


def test_particles_are_compared_with_the_observation_without_noise_of_their_own():
    """A problem whose simulator adds as much noise as there is signal, and which can leave it out."""

    class Noisy(Problem):
        def simulate(self, x, rng):
            y, ok = super().simulate(x, rng)
            return y + np.sqrt((y**2).mean()) * rng.normal(size=y.shape), ok

    class Telling(Noisy):
        def apply(self, x):
            return Problem.simulate(self, x, None)

    answers = []
    for problem in (Problem, Telling, Noisy):
        method = make(EnKG)
        method.problem = problem()
        answers.append(method.using(INFER).sample(None, Y[None].astype(np.float32), np.array([5])).x)
    np.testing.assert_array_equal(answers[1], answers[0])
    assert np.abs(answers[2] - answers[0]).max() > 1e-2


def test_a_dead_trace_is_no_data():
    """The answer is that of a record which never had it."""

    def record(receivers):
        class Traces(Problem):
            y = Field.array("y", ("time", "receiver"), (3, receivers), "1")

            def simulate(self, x, rng):
                return (x @ G.T).reshape(-1, 3, 2)[..., :receivers], np.ones(len(x), bool)

        return Traces()

    y = Y.reshape(1, 3, 2).astype(np.float32)
    y[..., 1] = 0
    answers = []
    for receivers in (1, 2):
        method = make(EnKG)
        method.problem = record(receivers)
        answers.append(method.using(INFER).sample(None, y[..., :receivers], np.array([5])).x)
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5)


def test_a_particle_that_is_not_a_number_is_never_simulated_and_comes_out_failed():
    method = make(EnKG, broken=6)
    chunk = method.using(INFER).sample(None, Y[None].astype(np.float32), np.array([0]))
    # The driver marks it (test_infer.py).
    assert np.isfinite(chunk.x).all(axis=-1).tolist() == [[True] * 6 + [False, True]]
    assert np.isfinite(np.concatenate(method.problem.seen)).all()
    assert method.cost.simulator_calls == 9 * 2 * 7
    assert method.cost.failed_simulations == 9 * 2 * 2


def test_prior_draws_look_at_nothing_and_simulate_nothing():
    method = make(PriorDraws)
    infer = DiffusionInfer(levels=40, draws=2000)
    chunk = method.using(infer).sample(None, Y[None].astype(np.float32), np.array([0]))
    assert method.problem.seen == []
    assert method.cost.network_calls == 40 * 2000
    # x / 2 ~ N(0, I): standard error of a variance of 2000 draws is 4 * sqrt(2 / 2000) = 0.13; Euler's error at 40
    # levels is about 0.1.
    np.testing.assert_allclose(np.cov(chunk.x[0].T), 4 * np.eye(D), rtol=0, atol=0.6)


def test_weights_and_dead_particles_of_an_answer_are_kept():
    class Weighted(DiffusionMethod):
        def answer(self, y, event_id):
            x = self.noise("weighted", event_id, self.settings.draws)
            if event_id == 3:
                return Particles(x)
            return Particles(x, np.array([0.0, -1.0, -np.inf]), np.array([True, True, False]), {"ess": float(event_id)})

    y = np.zeros((3, M), np.float32)
    found = make(Weighted).using(DiffusionInfer(draws=3)).sample(None, y, np.array([3, 4, 6]))
    np.testing.assert_array_equal(found.log_weight, [[0, 0, 0], [0, -1, -np.inf], [0, -1, -np.inf]])
    np.testing.assert_array_equal(found.ok, [[True] * 3, [True, True, False], [True, True, False]])
    assert found.diagnostics == {"ess": 5.0}


def test_a_counted_denoiser_gives_each_row_its_own_level_and_a_derivative():
    method = make(PriorDraws)
    x, sigma = torch.randn(600, D, generator=torch.Generator().manual_seed(0)), torch.linspace(0.1, 5, 600)
    mean, pull = method.prior.vjp(x, sigma)
    # Of N(0, I): x / (1 + sigma^2).
    torch.testing.assert_close(mean, x / (1 + sigma[:, None] ** 2))
    torch.testing.assert_close(pull(torch.ones_like(x)), (1 / (1 + sigma[:, None] ** 2)).expand(600, D))
    assert method.cost.network_calls == 600
