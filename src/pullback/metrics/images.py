"""Scores of fields on a grid."""

import numpy as np

from pullback.ensembles.fields import Field

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03
PSNR_MOST = 100.0
"""dB: no error at all counts as this, so that means stay finite."""


def label_range(field: Field, truth: np.ndarray) -> tuple[float, float]:
    """What is mapped to [0, 1] before SSIM, and the peak of PSNR: the field's bounds, or else the truth's range."""
    if field.low is not None and field.high is not None and np.isfinite([field.low[0], field.high[0]]).all():
        return float(field.low[0]), float(field.high[0])
    return float(truth.min()), float(truth.max())


def psnr(mse: np.ndarray, low: float, high: float) -> np.ndarray:
    """Peak signal-to-noise ratio 10 log10((high - low)^2 / mse) of mean squared errors (event,): (event,) in dB."""
    least = (high - low) ** 2 * 10 ** (-PSNR_MOST / 10)
    return 10 * np.log10((high - low) ** 2 / np.maximum(np.asarray(mse, np.float64), least))


def has_ssim(shape: tuple[int, ...]) -> bool:
    """Whether SSIM is defined: two dimensions, each at least as wide as the window."""
    return len(shape) == 2 and min(shape) >= WINDOW


def ssim(a: np.ndarray, b: np.ndarray, low: float, high: float) -> np.ndarray:
    """Structural similarity of images (event, row, column), averaged over all pixels: (event,) float64.

    Wang et al. 2004 as OpenFWI computes it: labels mapped to [0, 1] (data range 1), Gaussian window of 11 x 11 with
    sigma 1.5, K = (0.01, 0.03), population moments, zeros beyond the border.

    Args:
        a, b: images in the unit of the field.
        low, high: values that map to 0 and 1.
    """
    from scipy.ndimage import correlate1d

    offset = np.arange(WINDOW) - WINDOW // 2
    kernel = np.exp(-0.5 * (offset / SIGMA) ** 2)
    kernel /= kernel.sum()

    def smooth(image: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(image, kernel, axis=1, mode="constant"), kernel, axis=2, mode="constant")

    a, b = ((np.asarray(image, np.float64) - low) / (high - low) for image in (a, b))
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    cov = smooth(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    score = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return score.mean(axis=(1, 2))
