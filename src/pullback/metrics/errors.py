"""Scores of single events: errors of one draw and of a point estimate, CRPS, energy score, coverage."""

import numpy as np

from pullback.ensembles.fields import Field
from pullback.metrics.calibration import COVERAGES, LEAST_DRAWS_COVERAGE, LEAST_DRAWS_POINT, SortedDraws
from pullback.metrics.draws import Judged, Space
from pullback.metrics.energy import energy_score
from pullback.metrics.images import has_ssim, psnr, ssim

MOST_FEATURES = 16
"""Vectors with more features get no rows for each of them."""

SPREAD, SKILL = "spread_skill/spread", "spread_skill/skill"
"""Two columns whose ratio of means makes one row."""


def squared(unit: str) -> str:
    """The unit of a square."""
    if unit == "1":
        return unit
    return f"{unit}^2" if unit.isalpha() else f"({unit})^2"


class Scores:
    """Columns of per-event scores, with their units, block after block."""

    def __init__(self) -> None:
        self.units: dict[str, str] = {}
        self._blocks: list[dict[str, np.ndarray]] = []

    def add(self, block: dict[str, tuple[np.ndarray, str]]) -> None:
        """Append the scores (event,) of a block of events."""
        self.units = {name: unit for name, (_, unit) in block.items()}
        self._blocks.append({name: np.asarray(values, np.float64) for name, (values, _) in block.items()})

    def matrix(self) -> tuple[list[str], np.ndarray]:
        """Names, and (event, name)."""
        names = list(self.units)
        return names, np.column_stack([np.concatenate([block[name] for block in self._blocks]) for name in names])


def _errors(kind: str, squares: np.ndarray, magnitudes: np.ndarray, space: Space) -> dict[str, tuple[np.ndarray, str]]:
    """mse and mae over all components on the common scale, and of each named one in its own unit."""
    out = {
        f"mse_{kind}": ((squares / space.scale**2).mean(axis=1), squared(space.unit)),
        f"mae_{kind}": ((magnitudes / space.scale).mean(axis=1), space.unit),
    }
    if 1 < len(space.names) <= MOST_FEATURES:
        for j, (name, unit) in enumerate(zip(space.names, space.units, strict=True)):
            out[f"mse_{kind}.{name}"] = (squares[:, j], squared(unit))
            out[f"mae_{kind}.{name}"] = (magnitudes[:, j], unit)
    return out


def _image_scores(
    kind: str, estimate: np.ndarray, truth: np.ndarray, field: Field, labels: tuple[float, float]
) -> dict[str, tuple[np.ndarray, str]]:
    """relative_l2, PSNR and SSIM of an array."""
    norm = np.linalg.norm(truth.astype(np.float64), axis=1)
    error = np.linalg.norm(estimate.astype(np.float64) - truth, axis=1)
    out = {f"relative_l2_{kind}": (error / np.where(norm > 0, norm, 1.0), "1")}
    out[f"psnr_{kind}"] = (psnr(error**2 / truth.shape[1], *labels), "dB")
    if has_ssim(field.shape):
        shape = (-1, *field.shape)
        out[f"ssim_{kind}"] = (ssim(estimate.reshape(shape), truth.reshape(shape), *labels), "1")
    return out


def score_block(
    judged: Judged, truth: np.ndarray, space: Space, field: Field, labels: tuple[float, float], point_estimate: bool
) -> dict[str, tuple[np.ndarray, str]]:
    """Every score of a block of events: name -> (values (event,), unit).

    ``mse``, ``mae`` (mean over components; of angles, of the wrapped difference; over mixed units, on the truth's
    standard deviations), for arrays ``relative_l2``, ``psnr`` and ``ssim``: each ``_draw`` of one draw, as papers do,
    and ``_point`` of the mean (mse, relative_l2, psnr, ssim) or the median (mae) of at least 32 draws. An error of one
    draw is not minimal at the best posterior: the least mse_draw of an exact one is twice the posterior variance. The
    sum over components, E|x - x_hat|^2, is mse times their number.

    Args:
        judged: draws.
        truth: (event, component).
        space: how x is compared.
        field: of x.
        labels: what SSIM maps to [0, 1]; their difference is the peak of PSNR.
        point_estimate: the method returns a point, so that one draw is enough for ``_point``.
    """
    error = space.difference(judged.one.astype(np.float64), truth)
    out = _errors("draw", error**2, np.abs(error), space)
    if not field.is_vector:
        out |= _image_scores("draw", judged.one, truth, field, labels)
    draws = SortedDraws(judged, space)
    point = point_estimate or draws.draws >= LEAST_DRAWS_POINT
    if point:
        mean, median = draws.mean(), draws.median()
        squares = space.difference(mean, truth) ** 2
        out |= _errors("point", squares, np.abs(space.difference(median, truth)), space)
        if not field.is_vector:
            out |= _image_scores("point", mean, truth, field, labels)
    if point_estimate:
        return out
    if point:
        spread = draws.variance() * (1 + 1 / draws.effective()) / space.scale**2
        out[SPREAD] = (spread.mean(axis=1), "1")
        out[SKILL] = ((squares / space.scale**2).mean(axis=1), "1")
    if draws.draws > 1:
        out["energy_score"] = (energy_score(judged, truth, space), space.unit)
        score = draws.crps(truth, space.farthest(truth))
        out["crps"] = ((score / space.scale).mean(axis=1), space.unit)
        if 1 < len(space.names) <= MOST_FEATURES:
            out |= {f"crps.{name}": (score[:, j], space.units[j]) for j, name in enumerate(space.names)}
    if draws.draws >= LEAST_DRAWS_COVERAGE:
        for percent in COVERAGES:
            out[f"coverage{percent}"] = (draws.coverage(truth, percent).mean(axis=1), "1")
    return out
