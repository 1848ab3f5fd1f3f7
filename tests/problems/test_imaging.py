"""Imaging: operators against scipy, their transposes and singular vectors, likelihood, posterior, parts, bad input."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from pullback.ensembles.scaling import Scaling
from pullback.methods.base import Cost
from pullback.methods.guided.observation import Observation
from pullback.problems import base
from pullback.problems.imaging.images import PICTURES, Source
from pullback.problems.imaging.operators import BlockMean, Circular, gaussian_kernel, motion_kernel
from pullback.problems.imaging.problem import Imaging, ImagingSimulator
from pullback.problems.imaging.settings import ImagingParams
from pullback.problems.linear import MOST_COMPONENTS, Identity
from pullback.study import StudyError, load_study
from pullback.study.job_params import Plan

pytest.importorskip("sklearn")
pytest.importorskip("skimage")

BLUR, MOTION = {"kind": "gaussian-blur", "width": 1.3}, {"kind": "motion-blur", "length": 5, "angle": 30}
COARSE, BOX, RANDOM = (
    {"kind": "super-resolution", "factor": 4},
    {"kind": "box-inpainting", "box": 5},
    {"kind": "random-inpainting", "keep": 0.4},
)
ALL = [BLUR, MOTION, COARSE, BOX, RANDOM]
EPS = np.finfo(float).eps


def built(operator, size=16, **more):
    return Imaging(ImagingSimulator.model_validate({"operator": operator, "size": size, **more}))


def names(operator):
    return operator["kind"]


@pytest.mark.parametrize("operator", ALL, ids=names)
def test_the_transpose_is_the_adjoint(operator):
    """<A x, u> = <x, A^T u>, of arrays and of tensors; both sums are of 256 numbers of order 1."""
    problem, rng = built(operator), np.random.default_rng(0)
    x, u = rng.standard_normal((5, *problem.x.shape)), rng.standard_normal((5, *problem.y.shape))
    forward, back = problem.linear.apply(x), problem.linear.transpose(u)
    np.testing.assert_allclose((forward * u).sum((1, 2)), (x * back).sum((1, 2)), atol=256 * 16 * EPS)
    for found, wanted, given in ((problem.linear.apply, forward, x), (problem.linear.transpose, back, u)):
        single = found(torch.tensor(given, dtype=torch.float32))
        assert single.dtype == torch.float32
        np.testing.assert_allclose(found(torch.tensor(given)).numpy(), wanted, atol=100 * EPS)
        np.testing.assert_allclose(single.numpy(), wanted, atol=100 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("size", [15, 16])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: Circular(gaussian_kernel(1.3), n),
        lambda n: Circular(motion_kernel(5, 30), n),
        # Neither symmetric nor positive, with values that are 0.
        lambda n: Circular(np.array([[0.0, 0, 0], [0, 1, -1], [0, 0, 0]]), n),
        lambda n: BlockMean(n, 5 if n == 15 else 4),
        lambda n: Identity((n, n)),
    ],
    ids=["blur", "motion", "difference", "means", "selection"],
)
def test_singular_vectors_make_the_operator(make, size):
    operator = make(size)
    matrix = operator.apply(np.eye(size**2).reshape(-1, size, size)).reshape(size**2, -1).T
    u, s, v = operator.svd
    # Sums of 256 products, entries of vectors to a few rounding errors.
    np.testing.assert_allclose((u * s) @ v.T, matrix, atol=100 * EPS)
    np.testing.assert_allclose(u.T @ u, np.eye(len(s)), atol=100 * EPS)
    np.testing.assert_allclose(v.T @ v, np.eye(len(s)), atol=100 * EPS)
    np.testing.assert_allclose(s, np.linalg.svd(matrix, compute_uv=False)[: len(s)], atol=100 * EPS)


@pytest.mark.parametrize(("width", "size"), [(0.6, 8), (1.3, 16), (3.0, 64)])
def test_blur_is_that_of_scipy(width, size):
    x = np.random.default_rng(1).random((2, size, size))
    wanted = [ndimage.gaussian_filter(image, width, mode="wrap", truncate=4.0) for image in x]
    found = built({"kind": "gaussian-blur", "width": width}, size=size).apply(x)[0]
    np.testing.assert_allclose(found, wanted, atol=100 * EPS)


@pytest.mark.parametrize(("length", "angle"), [(3, 0), (5, 30), (8.5, 115)])
def test_motion_is_a_convolution_with_a_straight_path(length, angle):
    kernel, x = motion_kernel(length, angle), np.random.default_rng(2).random((2, 16, 16))
    wanted = [ndimage.convolve(image, kernel, mode="wrap") for image in x]
    found = built({"kind": "motion-blur", "length": length, "angle": angle}).apply(x)[0]
    np.testing.assert_allclose(found, wanted, atol=100 * EPS)
    # Bilinear sharing keeps mass and mean, and adds f (1 - f) to the variance along an axis at a fraction f.
    assert kernel.sum() == pytest.approx(1)
    axis = np.arange(len(kernel)) - len(kernel) // 2
    assert np.abs([axis @ kernel.sum(1), axis @ kernel.sum(0)]).max() < 1e-12
    turn = np.radians(angle)
    points = (np.arange(10_000) + 0.5) / 10_000 * length - length / 2
    for along, share in ((-points * np.sin(turn), kernel.sum(1)), (points * np.cos(turn), kernel.sum(0))):
        fraction = along - np.floor(along)
        # The kernel's own points are 64 to a pixel: a mean over them has an error of second order in their distance.
        assert axis**2 @ share == pytest.approx((along**2 + fraction * (1 - fraction)).mean(), abs=1e-3)
    # Up and to the right, rows falling: the two ends lie on opposite sides of both axes.
    assert axis @ kernel @ axis == pytest.approx(-(length**2) / 12 * np.sin(turn) * np.cos(turn), abs=1e-3)


@pytest.mark.parametrize("factor", [2, 4])
def test_super_resolution_sees_means_of_blocks(factor):
    from skimage.measure import block_reduce

    problem, x = built({"kind": "super-resolution", "factor": factor}), np.random.default_rng(3).random((3, 16, 16))
    assert problem.y.shape == (16 // factor,) * 2
    np.testing.assert_allclose(problem.apply(x)[0], block_reduce(x, (1, factor, factor), np.mean), atol=10 * EPS)


def test_what_is_lost():
    x = np.full((2000, 16, 16), 0.5, np.float32)
    y = base.simulate(built(BOX), x, np.random.default_rng(4))[0]
    lost = y == 0
    assert (lost.sum((1, 2)) == 25).all()
    assert (lost.any(1).sum(1) == 5).all()
    assert (lost.any(2).sum(1) == 5).all()
    # A box at a uniform place: its first row has 12 values.
    counts = np.bincount(lost.any(2).argmax(1), minlength=12)
    assert stats.chisquare(counts).pvalue > 1e-6
    y = base.simulate(built(RANDOM, noise=0.1), x, np.random.default_rng(5))[0]
    kept = y != 0
    assert abs(kept.mean() - 0.4) < 5 * np.sqrt(0.24 / x.size)
    assert abs(y[kept].std() - 0.1) < 5 * 0.1 / np.sqrt(2 * kept.sum())
    np.testing.assert_array_equal(built(RANDOM).observed(y), kept)


@pytest.mark.parametrize("operator", ALL, ids=names)
def test_likelihood_is_that_of_scipy(operator):
    problem, rng = built(operator, noise=0.07), np.random.default_rng(6)
    x = rng.random((7, 16, 16))
    y = base.simulate(problem, x[:4], rng)[0]
    density = stats.norm.logpdf(y[:, None], problem.apply(x)[0][None], 0.07)
    wanted = np.where(problem.observed(y)[:, None], density, 0).sum((2, 3))
    np.testing.assert_allclose(problem.log_likelihood(y[:, None], x[None]), wanted, rtol=1e-12)
    # Squares are multiplied out: of some 1e5, to 1e-16 of the parts, which are about as large.
    np.testing.assert_allclose(problem.pairwise_log_likelihood(y, x), wanted, rtol=1e-10)


def test_draws_of_the_exact_posterior_have_the_weights_of_the_likelihood():
    problem, params = built(COARSE, noise=0.25), {"source": "digits", "images": "held-out"}
    images = problem.source(params).every
    assert len(images) == 359
    x = problem.sample_prior(np.random.default_rng(7), 3, params)
    y = base.simulate(problem, x, np.random.default_rng(8))[0]
    draws, effective = problem.exact_posterior(y, params, 4000, 400, np.random.default_rng(9))
    assert np.isinf(effective).all()
    log_weight = problem.log_likelihood(y[:, None], images[None])
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    mean = np.einsum("ei,irc->erc", weight, images)
    deviation = np.sqrt(np.einsum("ei,irc->erc", weight, images**2) - mean**2)
    assert (np.abs(draws.mean(1) - mean) <= 5 * deviation / np.sqrt(4000) + 1e-6).all()
    effective = problem.exact_posterior(y, params, 2, 100, np.random.default_rng(10))[1]
    assert (effective <= 100).all()
    assert (effective >= 1).all()


def test_noise_is_in_the_range_of_x():
    """0.05 of codes on [-1, 1] is 0.025 here: the same images, mapped by 2 x - 1, have the same noise."""
    problem, x = built(BLUR, noise=0.025), np.random.default_rng(11).random((400, 16, 16))
    y = base.simulate(problem, x, np.random.default_rng(12))[0]
    theirs = 2 * y - 1 - (2 * problem.apply(x)[0] - 1)
    assert abs(theirs.std() - 0.05) < 5 * 0.05 / np.sqrt(2 * theirs.size)
    assert problem.noise_covariance == pytest.approx(0.025**2)


@pytest.mark.parametrize("operator", ALL, ids=names)
def test_singular_vectors_of_one_observation(operator):
    """Of what was kept, in units of the noise and of x as networks see it: NumPy's values, and the operator again."""
    problem, rng = built(operator, size=12, noise=0.1), np.random.default_rng(15)
    x = rng.random((20, 12, 12))
    y = base.simulate(problem, x, rng)[0]
    linear = Observation(problem, Scaling.fit(problem.x, problem.y, x, y), y[3], Cost()).linear
    assert linear is not None
    matrix = linear.operator.apply(torch.eye(144, dtype=torch.float64).reshape(144, 12, 12)).numpy().T
    assert matrix.shape == (problem.observed(y[3]).sum(), 144)
    u, s, v = (np.asarray(part) for part in linear.svd)
    np.testing.assert_allclose((u * s) @ v.T, matrix, atol=1e-12)
    np.testing.assert_allclose(u.T @ u, np.eye(len(s)), atol=1e-12)
    np.testing.assert_allclose(s, np.linalg.svd(matrix, compute_uv=False)[: len(s)], atol=1e-12)
    if problem.options.operator.loses:
        assert (s == s[0]).all()


def test_images_up_to_64_have_singular_vectors():
    assert MOST_COMPONENTS == 64 * 64
    for operator in (BLUR, MOTION, {**COARSE, "factor": 5}, RANDOM):
        assert not hasattr(built(operator, size=65).linear, "svd")
    operator = built(COARSE, size=64).linear
    u, s, v = operator.svd
    x = np.random.default_rng(13).random((1, 64, 64))
    np.testing.assert_allclose((u * s) @ (v.T @ x.ravel()), operator.apply(x).ravel(), atol=100 * EPS)


# Where images come from


@pytest.mark.parametrize(("source", "count"), [("digits", 1797), ("pictures", len(PICTURES))])
def test_parts_share_no_image(source, count):
    parts = [Source(ImagingParams(source=source, images=part), 8).index for part in ("train", "validation", "held-out")]
    assert sorted(np.concatenate(parts)) == list(range(count))
    assert [len(part) / count for part in parts] == pytest.approx([0.6, 0.2, 0.2], abs=1e-3)


def test_patches_are_cut_of_the_images_of_a_part():
    """Every patch is found in one of its pictures, and in none of the other parts'."""
    rng, params = np.random.default_rng(14), ImagingParams(source="pictures", images="held-out", shrink=8)
    source = Source(params, 8)
    found = source.draw(rng, 8)
    windows = {
        image: np.lib.stride_tricks.sliding_window_view(_shrunk(source.images[image], 8), (8, 8)).astype(np.float32)
        for image in range(len(PICTURES))
    }
    for patch in found:
        at = [image for image, all_of_it in windows.items() if (all_of_it == patch).all((-2, -1)).any()]
        assert len(at) == 1
        assert at[0] in source.index
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1


def _shrunk(picture, step):
    from skimage.measure import block_reduce

    rows, columns = (length // step * step for length in picture.shape)
    return block_reduce(picture[:rows, :columns], (step, step), np.mean)


def test_an_image_taken_whole_is_its_middle():
    source = Source(ImagingParams(source="digits"), 8)
    np.testing.assert_array_equal(source.whole(3), source.images[3])
    source.images = [np.add.outer(np.zeros(8), np.arange(12.0)) / 12]
    np.testing.assert_allclose(source.whole(0), np.broadcast_to(np.arange(2, 10) / 12, (8, 8)))


def study(**families):
    return {
        "config_version": 2,
        "study": "restore",
        "problems": {
            "deblur": {
                "kind": "imaging",
                "simulator": {"size": 16, "operator": BLUR},
                "families": families,
                "methods": {"oracle": {"kind": "oracle"}},
            }
        },
    }


def test_splits_take_images_by_role():
    plan = Plan(
        load_study(
            study(
                digits={"role": "seen", "params": {"source": "digits"}},
                pictures={"role": "unseen", "params": {"source": "pictures"}},
                all={"role": "unseen", "params": {"source": "pictures", "images": "all"}},
            )
        )
    )
    taken = {split: plan.params("deblur", "digits", split)["images"] for split in plan.splits("deblur", "digits")}
    assert taken == {"train": "train", "validation": "validation", "test": "held-out", "reference": "held-out"}
    assert plan.params("deblur", "pictures", "test")["images"] == "held-out"
    assert plan.params("deblur", "all", "reference")["images"] == "all"


@pytest.mark.parametrize(
    ("simulator", "says"),
    [
        ({"noise": 0}, "simulator.noise: .*greater than 0"),
        (
            {"operator": {"kind": "gaussian-blur", "width": 4}},
            "has a kernel of 33 x 33 pixels, and the image has 16 x 16",
        ),
        (
            {"operator": {"kind": "motion-blur", "length": 16}},
            "has a kernel of 17 x 17 pixels, and the image has 16 x 16",
        ),
        ({"operator": {"kind": "super-resolution", "factor": 3}}, "3 does not divide the 16 pixels .* 2, 4, 8, 16"),
        ({"operator": {"kind": "super-resolution", "factor": 32}}, "32 does not divide the 16 pixels"),
        (
            {"operator": {"kind": "box-inpainting", "box": 16}},
            "leaves nothing of an image of 16 x 16: wanted at most 15",
        ),
        ({"operator": {"kind": "random-inpainting", "keep": 0}}, "keep: .*greater than 0"),
        ({"operator": {"kind": "blur"}}, "gaussian-blur"),
    ],
)
def test_operators_that_cannot_be(simulator, says):
    wrong = study(digits={"role": "unseen", "params": {"source": "digits"}})
    wrong["problems"]["deblur"]["simulator"] = {"size": 16, **simulator}
    with pytest.raises(StudyError, match=f"(?s){says}"):
        load_study(wrong)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "source: Field required"),
        ({"source": "files"}, "'files' and `files` belong together"),
        ({"source": "digits", "files": "here"}, "'files' and `files` belong together"),
        ({"source": "digits", "shrink": 2}, "`shrink` is of patches"),
    ],
)
def test_priors_that_cannot_be(params, says):
    with pytest.raises(StudyError, match=says):
        load_study(study(odd={"role": "unseen", "params": params}))


def test_noise_cannot_be_added_to_lost_pixels():
    wrong = study(
        digits={"role": "unseen", "params": {"source": "digits"}},
        noisy={"role": "unseen", "events_from": "digits", "shift": {"kind": "noise", "relative": 0.1}},
    )
    load_study(wrong)
    wrong["problems"]["deblur"]["simulator"] = {"size": 16, "operator": BOX}
    with pytest.raises(StudyError, match="noise would fall on lost pixels"):
        load_study(wrong)


def test_another_operator_is_a_shift():
    """Observations through a wider blur than the one that is assumed."""
    wider = {"kind": "simulator", "change": {"operator": {"kind": "gaussian-blur", "width": 1.6}}}
    load_study(
        study(
            digits={"role": "unseen", "params": {"source": "digits"}},
            wider={"role": "unseen", "events_from": "digits", "shift": wider},
        )
    )
