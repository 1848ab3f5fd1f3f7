"""Errors of one draw and of a point estimate, image scores, spread over skill, failed draws."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pullback.ensembles.fields import Field
from pullback.metrics.bootstrap import percentile_interval
from pullback.metrics.calibration import LEAST_DRAWS_POINT
from pullback.metrics.images import has_ssim, psnr, ssim
from pullback.metrics.metric import Measured, Metric, Scores
from pullback.metrics.sample import Sample, Space

if TYPE_CHECKING:
    from pullback.metrics.answers import Answers


def squared(unit: str) -> str:
    """The unit of a square."""
    if unit == "1":
        return unit
    return f"{unit}^2" if unit.isalpha() else f"({unit})^2"


def _errors(kind: str, squares: np.ndarray, magnitudes: np.ndarray, space: Space) -> Scores:
    """mse and mae over all components on the common scale, and of each named one in its own unit."""
    out = {
        f"mse_{kind}": ((squares / space.scale**2).mean(axis=1), squared(space.unit)),
        f"mae_{kind}": ((magnitudes / space.scale).mean(axis=1), space.unit),
    }
    for j, name in enumerate(space.listed):
        out[f"mse_{kind}.{name}"] = (squares[:, j], squared(space.units[j]))
        out[f"mae_{kind}.{name}"] = (magnitudes[:, j], space.units[j])
    return out


def _image_scores(
    kind: str, estimate: np.ndarray, truth: np.ndarray, field: Field, labels: tuple[float, float]
) -> Scores:
    """relative_l2, PSNR and SSIM of an array."""
    norm = np.linalg.norm(truth.astype(np.float64), axis=1)
    error = np.linalg.norm(estimate.astype(np.float64) - truth, axis=1)
    out = {f"relative_l2_{kind}": (error / np.where(norm > 0, norm, 1.0), "1")}
    out[f"psnr_{kind}"] = (psnr(error**2 / truth.shape[1], *labels), "dB")
    if has_ssim(field.shape):
        shape = (-1, *field.shape)
        out[f"ssim_{kind}"] = (ssim(estimate.reshape(shape), truth.reshape(shape), *labels), "1")
    return out


def _has_point(sample: Sample) -> bool:
    return sample.point_estimate or sample.x.shape[1] >= LEAST_DRAWS_POINT


def errors(sample: Sample) -> Scores:
    """Errors of one draw of each event, and of its point estimate.

    ``mse``, ``mae`` (mean over components; of angles, of the wrapped difference; over mixed units, on the truth's
    standard deviations), for arrays ``relative_l2``, ``psnr`` and ``ssim``: each ``_draw`` of one draw, as papers do,
    and ``_point`` of the mean (mse, relative_l2, psnr, ssim) or the median (mae) of at least 32 draws. An error of one
    draw is not minimal at the best posterior: the least mse_draw of an exact one is twice the posterior variance. The
    sum over components, E|x - x_hat|^2, is mse times their number.
    """
    truth, space = sample.known
    assert sample.field is not None
    error = space.difference(sample.one.astype(np.float64), truth)
    out = _errors("draw", error**2, np.abs(error), space)
    if not sample.field.is_vector:
        out |= _image_scores("draw", sample.one, truth, sample.field, sample.labels)
    if _has_point(sample):
        mean, median = sample.ordered.mean(), sample.ordered.median()
        squares = space.difference(mean, truth) ** 2
        out |= _errors("point", squares, np.abs(space.difference(median, truth)), space)
        if not sample.field.is_vector:
            out |= _image_scores("point", mean, truth, sample.field, sample.labels)
    return out


def spread_and_skill(sample: Sample) -> np.ndarray:
    """Predicted and actual squared error of the mean of the draws, on the common scale, (event, 2)."""
    truth, space = sample.known
    draws = sample.ordered
    spread = draws.variance() * (1 + 1 / draws.effective()) / space.scale**2
    skill = space.difference(draws.mean(), truth) ** 2 / space.scale**2
    return np.column_stack([spread.mean(axis=1), skill.mean(axis=1)])


def _spread_skill_rows(sample: Sample) -> Scores:
    wanted = _has_point(sample) and not sample.point_estimate
    return {"spread_skill": (spread_and_skill(sample), "1")} if wanted else {}


def root_of_ratio(means: np.ndarray) -> np.ndarray:
    """Spread over skill from their means (..., 2); NaN without a skill."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(means[..., 0] / np.where(means[..., 1] > 0, means[..., 1], np.nan))


def failed_draws(answers: "Answers") -> Iterator[Measured]:
    """The share of draws that failed."""
    replicas = answers.case.replicas(answers.posterior.n)
    value, spread = replicas.mean(answers.failed)
    yield Measured("failed_draws", float(value[0]), *percentile_interval(spread[:, 0]), None, replicas.n, "1")


FAILED_DRAWS = Metric(
    "failed_draws",
    "Failed draws",
    "fraction of failed draws; they are scored as the farthest corner of the range",
    "lower",
    needs_truth=False,
    measure=failed_draws,
    leads=False,
    alarm="{percent:.3g} % failed draws",
)
"""Share of draws that the method marked as failed or that are not finite.

Angles: as any. Weights of draws: none; a draw of weight zero has not failed. Floor: none.
"""
MSE = Metric(
    "mse", "Mean squared error", "mean squared difference to the truth of the same event", "lower", compute=errors
)
"""Mean over components of (x_hat - x)^2, x_hat one draw (``_draw``) or the mean of at least 32 (``_point``).

The least mse_draw is not at the best posterior: that of an exact one is twice its variance, as for a point estimate of
half that error. Angles: wrapped differences, circular mean. Weights of draws: the draw is chosen, the mean taken by
them. Floor: none.
"""
MAE = Metric(
    "mae", "Mean absolute error", "mean absolute difference to the truth of the same event", "lower", compute=errors
)
"""Mean over components of |x_hat - x|, x_hat one draw (``_draw``) or the median of at least 32 (``_point``).

Angles: the arc between the two, and the median about the circular mean. Weights of draws: the draw is chosen, the
median taken by them. Floor: none.
"""
RELATIVE_L2 = Metric(
    "relative_l2",
    "Relative L2 error",
    "norm of the difference to the truth over the norm of the truth",
    "lower",
    compute=errors,
)
"""Norm of x_hat - x over the norm of x, of an array; x_hat one draw or the mean of at least 32.

Angles: arrays have none. Weights of draws: as for the mean squared error. Floor: none.
"""
PSNR = Metric(
    "psnr",
    "Peak signal-to-noise ratio",
    "the width of the bounds over the root mean square error",
    "higher",
    least=None,
    compute=errors,
)
"""10 log10(range^2 / mean squared error) in dB of an array, with the range of its bounds (Hore and Ziou 2010).

Angles: arrays have none. Weights of draws: as for the mean squared error. Floor: none.
"""
SSIM = Metric("ssim", "Structural similarity", "1 for images that agree with the truth", "higher", compute=errors)
"""Structural similarity of an image of two dimensions on its bounds (Wang et al. 2004, windows of Gaussian weight).

Angles: arrays have none. Weights of draws: as for the mean squared error. Floor: none.
"""
SPREAD_SKILL = Metric(
    "spread_skill",
    "Spread over skill",
    "spread over actual error; 1 when calibrated, below 1 overconfident",
    "target",
    target=1.0,
    compute=_spread_skill_rows,
    of_means=root_of_ratio,
)
"""sqrt(mean (1 + 1/m) var / mean (x_hat - x)^2), x_hat and var the mean and variance of m draws (Fortin et al. 2014).

Angles: each draw about the circular mean of the others, as the truth about that of the draws, so that an exact
posterior has 1 however wide. Weights of draws: m is the effective number; below 2 no spread is known and it counts as
0. Failed draws: not in the variance, imputed in the mean. Floor: none; the target is 1.
"""
