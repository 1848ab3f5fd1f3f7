"""The digits problem: frames between two images, noise and lost pixels, likelihood and posterior, the user's files."""

import struct

import numpy as np
import pytest

from pullback.ensembles.store import EnsembleReader, index_ensemble
from pullback.problems import base
from pullback.problems.digits import Digits, DigitsSimulator, levelled, transport
from pullback.problems.pixels import resized, splat
from pullback.problems.simulate import simulate
from pullback.readers.idx import IdxError
from pullback.study import StudyError, load_study
from pullback.study.job_params import Plan

pytest.importorskip("sklearn")
pytest.importorskip("ot")

PROBLEM = Digits(DigitsSimulator())
SMALL = Digits(DigitsSimulator(size=8))
"""At the size of the data, where plans are found in a quarter of the time."""
PAIRS = np.random.default_rng(0).integers(178, size=(30, 2))
ALPHAS = (0.1, 0.25, 0.5, 0.8)


def centre(images):
    """Centres of mass (event, 2)."""
    grid = np.indices(images.shape[1:])
    return np.stack([(images * axis).sum((1, 2)) for axis in grid], axis=1) / images.sum((1, 2))[:, None]


@pytest.mark.parametrize(("alpha", "digit", "end"), [(0, 9, 0), (1, 6, 1)])
def test_the_ends_are_the_digits(alpha, digit, end):
    expected = PROBLEM.images[digit][PAIRS[:, end]]
    np.testing.assert_array_equal(PROBLEM.frames(PAIRS, alpha), expected.astype(np.float32))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_intensity_is_linear_and_within_the_bounds(alpha):
    frames = PROBLEM.frames(PAIRS, alpha)
    first, last = (PROBLEM.images[digit][PAIRS[:, i]].sum((1, 2)) for i, digit in enumerate((9, 6)))
    # 256 pixels in float32, and less than EXCESS in each that is cut at the end of levelling.
    np.testing.assert_allclose(frames.sum((1, 2)), (1 - alpha) * first + alpha * last, atol=256 * 2e-6)
    assert frames.min() >= 0
    assert frames.max() <= 1


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_centre_of_mass_moves_on_a_straight_line(alpha):
    first, last = (centre(PROBLEM.images[digit][PAIRS[:, i]]) for i, digit in enumerate((9, 6)))
    off = np.abs(centre(PROBLEM.frames(PAIRS, alpha)) - (1 - alpha) * first - alpha * last)
    # Exact but for what is levelled beside the border, which can only flow inwards.
    assert np.median(off) < 1e-5
    assert off.max() < 0.05


def test_the_plan_is_the_cheapest_assignment():
    """Of two binary images with equally many pixels the optimal plan is an assignment; scipy solves it otherwise."""
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(1)
    a, b = (rng.permutation(64).reshape(8, 8) < 20 for _ in range(2))
    row, column = np.divmod(np.arange(64), 8)
    cost = (row[:, None] - row) ** 2.0 + (column[:, None] - column) ** 2.0
    plan = transport(a.astype(float), b.astype(float), cost)
    some = cost[np.ix_(np.flatnonzero(a), np.flatnonzero(b))]
    expected = some[optimize.linear_sum_assignment(some)].mean()
    assert (plan.mass * cost[plan.source, plan.target]).sum() == pytest.approx(expected, rel=1e-12)


def test_masses_are_shared_by_the_four_pixels_around():
    found = splat(np.array([0, 1]), np.array([0.25, 2.0]), np.array([1.5, 2.0]), np.array([8.0, 1.0]), (2, 3, 3))
    expected = np.zeros((2, 3, 3))
    expected[0, :2, 1:] = [[3, 3], [1, 1]]
    expected[1, 2, 2] = 1
    np.testing.assert_allclose(found, expected)


def test_levelling_moves_only_what_is_above_one():
    images = np.zeros((2, 5, 5))
    images[0, 2, 2], images[1, 0, 0] = 1.4, 1.4
    found = levelled(images)
    assert found[0, 2, 2] == 1
    assert found[0, 1, 2] == pytest.approx(0.1)
    assert found.sum((1, 2)) == pytest.approx([1.4, 1.4], abs=1e-5)
    np.testing.assert_array_equal(levelled(images / 2), images / 2)


def test_interpolation_keeps_a_ramp_and_the_range():
    ramp = np.add.outer(np.arange(8.0), 2 * np.arange(8.0))[None]
    fine = resized(ramp, 16)[0]
    # Between centres of pixels; beyond the outermost ones the border is continued.
    np.testing.assert_allclose(np.diff(fine, axis=0)[1:-1], 0.5)
    np.testing.assert_allclose(np.diff(fine, axis=1)[:, 1:-1], 1.0)
    assert (fine.min(), fine.max()) == (ramp.min(), ramp.max())
    np.testing.assert_array_equal(resized(ramp, 8), ramp)
    np.testing.assert_allclose(resized(np.ones((1, 9, 9)), 4), 1)


def test_noise_and_lost_pixels():
    x = np.full((800, 16, 16), 0.3, np.float32)
    y, ok = base.simulate(PROBLEM, x, np.random.default_rng(2))
    assert ok.all()
    kept = y != 0
    n = kept.sum()
    assert abs(kept.mean() - 0.1) < 5 * np.sqrt(0.09 / x.size)
    assert abs(y[kept].mean() - 0.3) < 5 * np.sqrt(0.2 / n)
    assert abs(y[kept].var() - 0.2) < 5 * 0.2 * np.sqrt(2 / n)
    # Drawn afresh for each event and pixel: two events share 1 % of their pixels.
    both = (kept[::2] & kept[1::2]).mean()
    assert abs(both - 0.01) < 5 * np.sqrt(0.0099 / (x.size / 2))


def test_likelihood_is_a_density():
    """Over images of two pixels: the four masks' integrals add up to 1, by a sum over a grid."""
    problem = Digits(DigitsSimulator(noise_variance=0.3, keep=0.35))
    x = np.array([[0.2, 0.9]])
    grid = np.linspace(-6, 7, 401) + 1e-3
    step = grid[1] - grid[0]
    pixels = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)[..., None, :]
    alone = np.zeros((2, len(grid), 1, 2))
    alone[0, :, 0, 0], alone[1, :, 0, 1] = grid, grid
    total = np.exp(problem.log_likelihood(pixels, x)).sum() * step**2
    total += np.exp(problem.log_likelihood(alone, x)).sum() * step
    total += np.exp(problem.log_likelihood(np.zeros((1, 2)), x))
    assert total == pytest.approx(1, abs=1e-9)
    one = problem.log_likelihood(np.array([[0.0, 0.5]]), x)
    density = -0.5 * (0.5 - 0.9) ** 2 / 0.3 - 0.5 * np.log(2 * np.pi * 0.3)
    assert one == pytest.approx(np.log(0.65) + np.log(0.35) + density)


@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_the_fast_form_of_the_likelihood_is_the_likelihood(keep):
    problem = Digits(DigitsSimulator(keep=keep, size=8))
    rng = np.random.default_rng(4)
    x = rng.random((30, 8, 8)).astype(np.float32)
    y, _ = base.simulate(problem, x[:12], rng)
    y[3, 2, 5] = 0.0
    wanted = problem.log_likelihood(y[:, None], x[None])
    assert np.isneginf(wanted[3]).all() == (keep == 1)
    # float32 products of 64 pixels.
    np.testing.assert_allclose(problem.pairwise_log_likelihood(y, x), wanted, atol=1e-3)


def test_likelihood_where_every_pixel_is_kept():
    problem = Digits(DigitsSimulator(keep=1))
    x = np.full((4, 4), 0.5)
    assert np.isfinite(problem.log_likelihood(x, x))
    assert problem.log_likelihood(np.zeros((4, 4)), x) == -np.inf


@pytest.mark.parametrize("pool", [20_000, 300])
def test_exact_posterior_weighs_frames_by_their_likelihood(monkeypatch, pool):
    """Mean and variance of draws against a sum over all frames; a pool smaller than the prior only approximates."""
    monkeypatch.setattr(SMALL, "pool", lambda digit, which: np.arange(20))
    rng = np.random.default_rng(3)
    params = {"alpha": 0.5}
    y, _ = base.simulate(SMALL, SMALL.sample_prior(rng, 2, params), rng)
    pairs = np.stack(np.divmod(np.arange(400), 20), axis=1)
    frames = SMALL.frames(pairs, 0.5).astype(float)
    draws = 4000
    found, ess = SMALL.exact_posterior(y, params, draws, pool, rng)
    for event in range(2):
        weight = np.exp(SMALL.log_likelihood(y[event], frames))
        weight /= weight.sum()
        mean = np.tensordot(weight, frames, 1)
        variance = np.tensordot(weight, (frames - mean) ** 2, 1)
        # A random pool adds the error of its few frames of large weight.
        effective = draws if pool > 400 else pool / 400 / (weight**2).sum()
        scale = np.sqrt(variance.sum() / effective)
        assert np.linalg.norm(found[event].mean(0) - mean) < 5 * scale
        # Of the finite prior all frames are weighed: nothing is approximated.
        assert np.isinf(ess[event]) if pool > 400 else 1 <= ess[event] <= pool


def test_held_out_digits_are_never_those_of_training():
    for digit, n in ((9, 180), (6, 181)):
        train, held_out = (set(PROBLEM.pool(digit, which)) for which in ("train", "held-out"))
        assert not train & held_out
        assert train | held_out == set(PROBLEM.pool(digit, "all")) == set(range(n))
        assert held_out == set(range(3, n, 4))


@pytest.mark.parametrize("which", ["train", "held-out"])
def test_a_family_draws_from_its_pool_alone(which):
    x = SMALL.sample_prior(np.random.default_rng(4), 100, {"alpha": 0.0, "digits": which})
    pool = SMALL.images[9][SMALL.pool(9, which)].astype(np.float32)
    found = [np.flatnonzero((pool == frame).all(axis=(1, 2))) for frame in x]
    assert all(len(some) for some in found)
    assert len({int(some[0]) for some in found}) > 30


STUDY = {
    "kind": "digits",
    "simulator": {"size": 8},
    "families": {
        "sweep": {
            "role": "seen",
            "params": {"alpha": {"uniform": [[0.1, 0.4], [0.6, 0.9]]}},
            "sweep": {"ensembles": 5, "events": 8, "validation_ensembles": 2},
        },
        "half": {"role": "unseen", "params": {"alpha": 0.5}},
        "same": {"role": "unseen", "params": {"alpha": 0.5, "digits": "train"}},
    },
    "methods": {"cfm": {"kind": "cfm", "network": {"kind": "unet"}}},
}


def plan(**more):
    config = {"config_version": 2, "study": "s", "problems": {"toy": {**STUDY, "size": {"test": 150}, **more}}}
    return Plan(load_study(config))


def test_judged_families_take_held_out_digits_unless_they_say_so():
    found = {name: plan().family("toy", name).params["digits"] for name in STUDY["families"]}
    assert found == {"sweep": "train", "half": "held-out", "same": "train"}
    assert '"digits":"held-out"' in plan().simulate_job("toy", "half", "test", 0)


def test_data_do_not_depend_on_the_number_of_shards(tmp_path):
    digests = set()
    for shard in (8, 100):
        study = plan(size={"shard": shard})
        files = []
        for i in range(study.shards("toy", "sweep", "train")):
            files.append(tmp_path / f"{shard}-{i}.h5")
            simulate(study.simulate_job("toy", "sweep", "train", i), files[-1])
        index_ensemble(study.index_job("toy", "sweep", "train"), files, tmp_path / f"{shard}.h5")
        reader = EnsembleReader(tmp_path / f"{shard}.h5")
        digests.add(reader.digest)
        # What the network may be told of a prior is a number; which digits were used is not one.
        assert reader.theta_names == ["alpha"]
        assert reader.theta.shape == (5, 1)
    assert len(files) == 1
    assert len(digests) == 1


@pytest.mark.parametrize("alpha", [1.2, {"uniform": [[0.1, 0.4], [0.6, 1.1]]}])
def test_alpha_is_a_share(alpha):
    families = {"sweep": STUDY["families"]["sweep"] | {"params": {"alpha": alpha}}}
    with pytest.raises(StudyError, match=r"families\.sweep\.params.*alpha is a share of the way"):
        plan(families=families)


def write_idx(path, values):
    path.write_bytes(bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes())
    return str(path)


@pytest.fixture
def files(tmp_path):
    """12 images of each of 6, 7 and 9, 28 x 28."""
    rng = np.random.default_rng(5)
    labels = np.tile(np.array([6, 7, 9], np.uint8), 12)
    images = np.zeros((36, 28, 28), np.uint8)
    images[:, 8:20, 10:18] = rng.integers(256, size=(36, 12, 8))
    return images, labels, tmp_path


def options(images, labels, folder, **more):
    return DigitsSimulator(
        images=write_idx(folder / "images", images), labels=write_idx(folder / "labels", labels), **more
    )


def test_files_of_mnist_are_read_at_their_own_size(files):
    images, labels, _ = files
    problem = Digits(options(*files))
    assert problem.x.shape == (28, 28)
    np.testing.assert_allclose(problem.images[9], images[labels == 9] / 255)
    assert problem.preflight()["images of a 6 (held-out)"] == 3
    x = problem.frames(np.array([[4, 2]]), 1.0)
    np.testing.assert_array_equal(x[0], (images[labels == 6][2] / 255).astype(np.float32))
    assert Digits(options(*files, size=14)).images[6].shape == (12, 14, 14)


def test_files_that_do_not_belong_together_are_refused(files):
    images, labels, folder = files
    with pytest.raises(IdxError, match="36 images and 35 labels"):
        _ = Digits(options(images, labels[1:], folder)).images
    with pytest.raises(IdxError, match="0 images of a 9, wanted at least 4"):
        _ = Digits(options(images, np.full_like(labels, 6), folder)).images
    with pytest.raises(IdxError, match="are `images` and `labels` swapped"):
        _ = Digits(DigitsSimulator(images=str(folder / "labels"), labels=str(folder / "images"))).images
    with pytest.raises(ValueError, match="belong together: give both"):
        DigitsSimulator(images="somewhere")


def test_a_study_follows_the_content_of_the_files(files, monkeypatch):
    monkeypatch.setenv("DIGITS", str(files[2]))
    study = plan(simulator={"images": "$DIGITS/images", "labels": "$DIGITS/labels"})
    assert study.simulator_files("toy") == [f"{files[2]}/images", f"{files[2]}/labels"]
