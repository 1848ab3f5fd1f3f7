import numpy as np
import pytest

from pullback.ensembles.fields import Field
from pullback.metrics.images import has_ssim, label_range, psnr, ssim


def direct_ssim(a, b):
    """SSIM of two images in [0, 1], pixel by pixel from its definition, zeros beyond the border."""
    offsets = range(-5, 6)
    gauss = np.array([[np.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in offsets] for i in offsets])
    gauss /= gauss.sum()
    a, b = np.pad(a, 5), np.pad(b, 5)
    scores = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mp, mq = (gauss * p).sum(), (gauss * q).sum()
            vp, vq = (gauss * (p - mp) ** 2).sum(), (gauss * (q - mq) ** 2).sum()
            cov = (gauss * (p - mp) * (q - mq)).sum()
            scores.append(
                (2 * mp * mq + 0.01**2) * (2 * cov + 0.03**2) / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2))
            )
    return np.mean(scores)


def test_ssim_is_its_definition():
    rng = np.random.default_rng(0)
    a = rng.uniform(1500, 4500, (3, 12, 15))
    b = a + rng.normal(0, 400, a.shape)
    found = ssim(a, b, 1500, 4500)
    expected = [direct_ssim((p - 1500) / 3000, (q - 1500) / 3000) for p, q in zip(a, b, strict=True)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_ssim_agrees_with_scikit_image_inside_the_border():
    """In a frame of zeros the border's treatment does not matter: both maps are 1 there."""
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(1)
    a, b = np.zeros((2, 40, 40))
    a[10:30, 10:30], b[10:30, 10:30] = rng.uniform(size=(2, 20, 20))
    _, full = metrics.structural_similarity(
        a, b, full=True, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    assert ssim(a[None], b[None], 0, 1)[0] == pytest.approx(full.mean(), rel=1e-9)


def test_ssim_of_small_images_is_scikit_image_with_zeros_around():
    """16 x 16 in [0, 1], as digits are: most windows reach over the border, where this SSIM sees zeros."""
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(3)
    a = rng.uniform(size=(2, 16, 16))
    b = a + rng.normal(0, 0.3, a.shape)  # draws leave [0, 1]: the range stays 1
    for one, other, found in zip(a, b, ssim(a, b, 0, 1), strict=True):
        _, full = metrics.structural_similarity(
            np.pad(one, 20),
            np.pad(other, 20),
            full=True,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        assert found == pytest.approx(full[20:-20, 20:-20].mean(), rel=1e-9)


def test_psnr_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(4)
    truth = rng.uniform(1500, 4500, (3, 16, 16))
    said = truth + rng.normal(0, [[[10.0]], [[100.0]], [[1000.0]]], truth.shape)
    wanted = [metrics.peak_signal_noise_ratio(a, b, data_range=3000) for a, b in zip(truth, said, strict=True)]
    found = psnr(((said - truth) ** 2).mean(axis=(1, 2)), 1500, 4500)
    assert found == pytest.approx(wanted, rel=1e-12)
    assert (np.diff(found) < -15).all()


def test_psnr_of_no_error_is_finite():
    """And more than that of any error that a measurement can see: a hundredth of a m/s in 3000."""
    assert psnr(np.zeros(2), 1500, 4500) == pytest.approx([100, 100])
    assert psnr(np.array([0.1**2]), 1500, 4500) == pytest.approx([20 * np.log10(3000 / 0.1)])


def test_equal_images_score_one_and_noise_lowers_it():
    rng = np.random.default_rng(2)
    a = rng.uniform(0, 1, (4, 16, 16))
    noise = rng.normal(size=a.shape)
    assert ssim(a, a, 0, 1) == pytest.approx(np.ones(4))
    scores = [ssim(a, a + s * noise, 0, 1).mean() for s in (0.05, 0.2, 0.8)]
    assert scores == sorted(scores, reverse=True)


def test_labels_are_mapped_by_the_bounds_or_else_the_truth():
    truth = np.array([[2.0, 3.0]])
    bounded = Field.array("x", ("a", "b"), (12, 12), "m/s", low=(1.0,), high=(5.0,))
    assert label_range(bounded, truth) == (1.0, 5.0)
    assert label_range(Field.array("x", ("a", "b"), (12, 12), "m/s"), truth) == (2.0, 3.0)
    assert has_ssim((11, 11))
    assert not has_ssim((10, 40))
    assert not has_ssim((40,))
