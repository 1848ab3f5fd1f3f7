"""L-BFGS full-waveform inversion: its pieces against differences and definitions, and a descent with real waves."""

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from pullback.core.context import Context
from pullback.ensembles.fields import Coordinate, Field
from pullback.ensembles.store import EnsembleWriter
from pullback.methods.base import ADJOINT
from pullback.methods.classical import lbfgs
from pullback.methods.classical.lbfgs import (
    PROBES,
    Descent,
    Lbfgs,
    LbfgsError,
    LbfgsInfer,
    LbfgsSpec,
    filtered,
    low_pass,
    roughness,
)
from pullback.problems.fwi import Fwi
from pullback.simulators.wave_settings import FwiSimulator
from pullback.study import StudyError, load_study


@pytest.mark.parametrize(("tv", "tikhonov"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_roughness_has_the_derivative_of_its_differences(tv, tikhonov):
    rng = np.random.default_rng(0)
    # Steps well above the smallest that count, flat parts, and one edge.
    x = 0.05 * rng.standard_normal((6, 5))
    x[:, 3:] += 0.5
    x[4] = x[5]
    value, slope = roughness(x, tv, tikhonov)
    step = 1e-6
    for place in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        up, down = (roughness(x + sign * moved, tv, tikhonov)[0] for sign in (1, -1))
        assert slope[place] == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-8)
    assert value > 0
    assert roughness(np.full((6, 5), 0.3), tv, tikhonov)[0] == pytest.approx(0, abs=1e-12)


def test_total_variation_does_not_mind_how_steep_an_edge_is():
    """A step of 0.4 over one cell or over four: the same total variation; a quarter of the squared gradient."""
    steep, slow = np.zeros((1, 20)), np.zeros((1, 20))
    steep[:, 10:] = 0.4
    slow[:, 8:12], slow[:, 12:] = [0.1, 0.2, 0.3, 0.4], 0.4
    # The last cells have no neighbour; eps of 1e-3 takes 1 % of a step of 0.1.
    assert roughness(slow, 1, 0)[0] == pytest.approx(roughness(steep, 1, 0)[0], rel=0.02)
    assert roughness(steep, 1, 0)[0] == pytest.approx(0.4 / 20, rel=0.01)
    assert roughness(slow, 0, 1)[0] == pytest.approx(roughness(steep, 0, 1)[0] / 4)


SAMPLES, INTERVAL = 256, 0.004


def test_the_low_pass_filter_is_symmetric():
    """<H a, b> = <a, H b>, although H looks beyond the ends of a record."""
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 3, SAMPLES, 4))
    response = low_pass(SAMPLES, INTERVAL, 6.0)
    left, right = (filtered(a, response, 1) * b).sum(), (a * filtered(b, response, 1)).sum()
    assert left == pytest.approx(right, rel=1e-12)
    assert abs(left - (a * b).sum()) > 0.1 * abs(left)


def test_the_low_pass_filter_keeps_what_is_below_its_corner():
    """Away from the ends: all of half the corner, half of the corner, next to nothing of twice the corner; no delay."""
    time = np.arange(SAMPLES) * INTERVAL
    middle = slice(80, -80)
    for frequency, share in ((4.0, 1.0), (8.0, 0.5), (16.0, 0.004)):
        wave = np.sin(2 * np.pi * frequency * time)
        found = filtered(wave, low_pass(SAMPLES, INTERVAL, 8.0), 0)[middle]
        np.testing.assert_allclose(found, share * wave[middle], atol=0.01)


def test_it_is_butterworths_filter_both_ways():
    pulse = np.zeros(SAMPLES)
    pulse[100:130] = np.hanning(30)
    wanted = sosfiltfilt(butter(4, 8.0, fs=1 / INTERVAL, output="sos"), pulse)
    np.testing.assert_allclose(filtered(pulse, low_pass(SAMPLES, INTERVAL, 8.0), 0), wanted, atol=0.01)


class Line:
    """y = x G on a small grid, refused beyond some value: a simulator of which everything is known."""

    x = Field.array("x", ("depth", "offset"), (3, 2), "1", low=(0.0,), high=(10.0,))
    y = Field.array("y", ("time", "receiver"), (20, 2), "1",
                    coordinates={"time": Coordinate(np.arange(20) * 0.01, "s")})  # fmt: skip

    def __init__(self, refuse=lambda x: False):
        self.G = np.random.default_rng(2).standard_normal((6, 40))
        self.refuse, self.calls, self.derivatives = refuse, 0, 0

    def signal(self, x):
        return (x.reshape(len(x), -1) @ self.G).reshape(-1, 20, 2)

    def apply(self, x):
        self.calls += len(x)
        assert (x >= 0).all()
        assert (x <= 10).all()
        return self.signal(x), np.full(len(x), not self.refuse(x))

    def vjp(self, x, cotangent):
        self.calls += ADJOINT * len(x)
        self.derivatives += len(x)
        assert not self.refuse(x)
        return (cotangent.reshape(len(x), -1) @ self.G.T).reshape(x.shape)


TRUTH = np.array([[1.0, 9.0], [4.0, 6.0], [0.0, 10.0]])
"""Two cells lie on the bounds."""


def answer(problem, infer, truth=TRUTH):
    method = Lbfgs(LbfgsSpec(kind="lbfgs-fwi"), problem, Context(("study", "toy", "lbfgs", 0)))
    method.load(None, None, [])
    return method, method.using(infer).sample(None, problem.signal(truth[None]), np.array([0]))


def test_a_linear_problem_is_solved_and_simulations_are_counted():
    problem = Line()
    method, chunk = answer(problem, LbfgsInfer(start=(5, 5), lowpass_hz=[None], iterations=60, tv=0, scan=0))
    np.testing.assert_allclose(chunk.x[0, 0], TRUTH, atol=1e-3)
    assert chunk.ok.all()
    assert chunk.diagnostics["final_misfit"] < 1e-4
    assert method.cost.simulator_calls == problem.calls
    assert method.cost.likelihood_gradients == problem.derivatives
    assert problem.calls > (1 + ADJOINT) * 5 + ADJOINT * PROBES
    assert method.cost.failed_simulations == 0


def test_a_dead_receiver_is_no_data():
    """More data than unknowns on the live one: its least squares are the truth, whatever the other one recorded."""
    problem = Line()
    y = problem.signal(TRUTH[None])
    y[..., 1] = 0
    method = Lbfgs(LbfgsSpec(kind="lbfgs-fwi"), problem, Context(("study", "toy", "lbfgs", 0)))
    method.load(None, None, [])
    infer = LbfgsInfer(start=(5, 5), lowpass_hz=[20.0, None], iterations=60, tv=0, scan=2)
    chunk = method.using(infer).sample(None, y, np.array([0]))
    np.testing.assert_allclose(chunk.x[0, 0], TRUTH, atol=1e-3)
    assert chunk.diagnostics["final_misfit"] < 1e-4
    # Nodes are scaled by what they move on it, and a whole record beside it keeps its own scale.
    whole = problem.signal(TRUTH[None])
    both = method.using(infer).sample(None, np.concatenate([y, whole]), np.arange(2))
    alone = Lbfgs(LbfgsSpec(kind="lbfgs-fwi"), problem, method.context)
    alone.load(None, None, [])
    np.testing.assert_array_equal(both.x[1:], alone.using(infer).sample(None, whole, np.arange(1)).x)
    descent = Descent(problem, y[0], None, infer)
    half = Line()
    half.G = problem.G * np.tile([1.0, 0.0], 20)
    rng = [np.random.default_rng(3) for _ in range(2)]
    other = Descent(half, whole[0], None, infer).scale(TRUTH, rng[0])
    np.testing.assert_allclose(descent.scale(TRUTH, rng[1]), other, rtol=1e-12)


def test_a_line_search_that_goes_too_far_turns_back():
    """Relative to so small a y the misfit is steep: the first step goes far beyond the truth and is refused."""
    truth = 0.1 * TRUTH
    problem = Line(lambda x: x.max() > 2)
    method, chunk = answer(problem, LbfgsInfer(start=(0, 0), lowpass_hz=[None], iterations=60, tv=0, scan=0), truth)
    assert method.cost.failed_simulations > 0
    assert method.cost.simulator_calls == problem.calls
    np.testing.assert_allclose(chunk.x[0, 0], truth, atol=1e-2)


@pytest.mark.parametrize("scan", [0, 3])
def test_a_start_that_cannot_be_simulated_is_a_failed_draw(scan):
    problem = Line(lambda x: True)
    method, chunk = answer(problem, LbfgsInfer(start=(5, 5), lowpass_hz=[None], scan=scan))
    assert not chunk.ok.any()
    assert np.isnan(chunk.x).all()
    assert method.cost.failed_simulations > 0
    assert method.cost.simulator_calls == problem.calls


def test_smoothing_wins_where_the_data_say_nothing():
    """With no weight on the data's side (a simulator of zeros) Tikhonov's answer to a rough start is flat."""
    problem = Line()
    problem.G = np.zeros_like(problem.G)
    descent = Descent(problem, np.zeros((20, 2)), None, LbfgsInfer(tikhonov=1.0, iterations=50, tv=0))
    end = descent.run(TRUTH, np.ones((3, 2)))
    assert np.ptp(end.x) < 1e-2
    assert np.mean(end.x) == pytest.approx(TRUTH.mean(), abs=1e-2)


@pytest.mark.parametrize(("start", "truth"), [((0, 1), (3, 7)), ((0, 1), (9, 1)), ((2.2, 6.1), (2, 6))])
def test_a_descent_begins_with_the_line_that_fits_best(start, truth):
    """Of those between 1, 3, 5, 7 and 9, or the start where it is nearer."""
    problem = Line()
    line = np.repeat(np.linspace(*truth, 3)[:, None], 2, axis=1)
    infer = LbfgsInfer(start=start, scan=5, tv=0)
    method = Lbfgs(LbfgsSpec(kind="lbfgs-fwi"), problem, Context(("study", "toy", "lbfgs", 0)))
    method.load(None, None, [])
    found = method.using(infer)._best_start(problem.signal(line[None])[0])
    wanted = line if start == (0, 1) else method.using(infer).start()
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert method.cost.simulator_calls == 26 == problem.calls


def test_an_event_has_the_same_answer_in_any_company():
    problem, infer = Line(), LbfgsInfer(start=(-3, 12), lowpass_hz=[8.0, None], iterations=5)
    y = problem.signal(np.stack([TRUTH, TRUTH[::-1]]))
    methods = [Lbfgs(LbfgsSpec(kind="lbfgs-fwi"), problem, Context(("study", "toy", "lbfgs", 0))) for _ in range(2)]
    both = methods[0].using(infer).sample(None, y, np.arange(2))
    alone = methods[1].using(infer).sample(None, y[1:], np.array([1]))
    np.testing.assert_array_equal(both.x[1:], alone.x)


def test_nodes_are_scaled_by_what_they_move(monkeypatch):
    """(h + max h / 100)^(-1/2), h the diagonal of J^T H^2 J, from 4000 random data: each h to 2 %."""
    monkeypatch.setattr(lbfgs, "PROBES", 4000)
    problem = Line()
    problem.G *= np.array([100, 30, 10, 3, 1, 0.3])[:, None]
    descent = Descent(problem, problem.signal(TRUTH[None])[0], 8.0, LbfgsInfer())
    found = descent.scale(np.full((3, 2), 5.0), np.random.default_rng(0))
    through = filtered(problem.G.reshape(6, 20, 2), low_pass(20, 0.01, 8.0), 1).reshape(6, -1)
    h = (through**2).sum(axis=1)
    wanted = (h + h.max() / 100) ** -0.5
    np.testing.assert_allclose(found.ravel(), wanted / wanted.max(), rtol=0.05)
    assert found.min() < 0.15


@pytest.mark.parametrize("refuse", [lambda x: True, lambda x: False])
def test_without_a_simulation_or_an_effect_nothing_is_scaled(refuse):
    problem = Line(refuse)
    problem.G = 0 * problem.G
    descent = Descent(problem, np.zeros((20, 2)), None, LbfgsInfer())
    np.testing.assert_array_equal(descent.scale(TRUTH, np.random.default_rng(0)), np.ones((3, 2)))


def test_the_start_is_the_smoothed_mean_profile(tmp_path):
    """Of two families of different size, each counted once; a straight line where one is given."""
    files = []
    for name, value, events in (("a", 2.0, 3), ("b", 8.0, 30)):
        files.append(tmp_path / f"{name}.h5")
        x = np.full((events, 3, 2), value)
        x[:, 2] += 1
        with EnsembleWriter(files[-1], x=Line.x, y=Line.y, spec="{}") as writer:
            writer.append(np.zeros((events, 20, 2)), np.arange(events), x=x)
    method = Lbfgs(LbfgsSpec(kind="lbfgs-fwi"), Line(), Context(("study", "toy", "lbfgs", 0)))
    method.load(None, None, files)
    np.testing.assert_allclose(method.using(LbfgsInfer(smooth=0.0)).start(), [[5, 5], [5, 5], [6, 6]])
    smooth = method.using(LbfgsInfer(smooth=0.4)).start()[:, 0]
    assert (np.diff(smooth) > 0).all()
    assert np.ptp(smooth) < 1
    np.testing.assert_allclose(method.using(LbfgsInfer(start=(1, 3))).start(), [[1, 1], [2, 2], [3, 3]])


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (Field.vector("x", ("a", "b"), "1"), Line.y, r"on a grid \(depth, offset\), found x of shape \(2,\)"),
        (Field.array("x", ("depth", "offset"), (3, 2), "1"), Line.y, "its field has none: give it `low` and `high`"),
        (Line.x, Field.vector("y", ("c",), "1"), "evenly sampled coordinate 'time', found y_feature"),
        (Line.x, Field.array("y", ("time", "receiver"), (20, 2), "1"), "'time', found time, receiver"),
    ],
)
def test_a_problem_that_is_not_one_of_waves_is_refused(x, y, says):
    problem = Line()
    problem.x, problem.y = x, y
    with pytest.raises(LbfgsError, match=says):
        Lbfgs(LbfgsSpec(kind="lbfgs-fwi"), problem, Context(("study",))).load(None, None, [])


def study(kind, family, **infer):
    return {
        "config_version": 2,
        "study": "small",
        "problems": {
            "one": {
                "kind": kind,
                "families": {"a": family},
                "methods": {"descent": {"kind": "lbfgs-fwi", "infer": {"default": infer}}},
            }
        },
    }


def test_a_problem_without_a_derivative_or_a_grid_is_refused_while_the_study_is_read():
    with pytest.raises(StudyError, match="'lbfgs-fwi' needs gradient, and problem kind 'unfolding' gives"):
        load_study(study("unfolding", {"role": "unseen", "params": {"process": "dijet"}}, start=[0, 1]))
    with pytest.raises(StudyError, match=r"x on a grid .*, and x of problem kind 'gaussian' is a vector"):
        load_study(study("gaussian", {"role": "unseen", "params": {"gamma": 0.5}}, start=[0, 1]))


def test_without_seen_families_a_descent_wants_a_start():
    unseen = {"role": "unseen", "params": {"geology": "flat"}}
    with pytest.raises(StudyError, match=r"methods\.descent\.infer\.default\.start: without it .* there is none: give"):
        load_study(study("fwi", unseen))
    assert load_study(study("fwi", unseen, start=[1500, 4000]))


@pytest.fixture(scope="module")
def waves():
    """One section with a curved fault, of 12 x 12 nodes, and its gathers."""
    problem = Fwi(FwiSimulator(x_cells=(12, 12), boundary="sponge", absorbing_cells=28))
    truth = problem.sample_prior(np.random.default_rng(5), 1, {"geology": "curved-fault"})
    y, ok = problem.apply(truth)
    assert ok.all()
    return problem, truth, y


def relative(a, b):
    return np.linalg.norm(np.asarray(a, float) - b) / np.linalg.norm(b)


def test_waves_find_a_fault_from_a_straight_line(waves):
    problem, truth, y = waves
    infer = LbfgsInfer(start=(1800, 4000), lowpass_hz=[4.0, None], iterations=12, scan=0)
    method = Lbfgs(LbfgsSpec(kind="lbfgs-fwi"), problem, Context(("study", "fwi", "lbfgs", 0)))
    method.load(None, None, [])
    start = method.using(infer).start().astype(np.float32)[None]
    chunk = method.using(infer).sample(None, y, np.array([0]))
    assert chunk.x.shape == (1, 1, 12, 12)
    assert chunk.ok.all()
    before, after = (relative(problem.apply(x)[0], y) for x in (start, chunk.x[:, 0]))
    assert after < 0.1 * before
    assert chunk.diagnostics["final_misfit"] == pytest.approx(after, rel=1e-3)
    assert relative(chunk.x[:, 0], truth) < 0.6 * relative(start, truth)
    assert chunk.x.min() >= 1500
    assert chunk.x.max() <= 4500
    # Of two bands; a line search of 20 trials may be under way when the most evaluations are reached.
    evaluations = (method.cost.simulator_calls - 2 * (1 + ADJOINT * PROBES)) / (1 + ADJOINT)
    assert 2 * 12 <= evaluations <= 2 * (2 * 12 + 20)
