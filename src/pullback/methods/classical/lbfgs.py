r"""Full-waveform inversion as geophysicists do it: one model, by L-BFGS from a smooth start, low frequencies first.

For each observation the misfit

    J(x) = |H (F(x) - y)|^2 / (2 |H y|^2) + tv mean sqrt(|grad x|^2 + eps^2) + tikhonov mean |grad x|^2 / 2

is made small by L-BFGS-B within the problem's bounds, x in units of their width and grad in differences between
neighbours. H keeps the frequencies below a corner, which rises from band to band (Bunks et al. 1995), so that early
steps see waves too long to be off by more than half a cycle. The derivative of |F(x) - y|^2 is that of the simulator,
by its adjoint.

The start is one profile with depth for all observations: the mean over the training truths of the seen families,
smoothed, or a straight line. Nothing of the answer is in it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from pullback.ensembles.store import EnsembleReader
from pullback.methods.base import Chunk, Method
from pullback.study.inference import Infer, LbfgsInfer

SIMULATIONS = 3
"""Simulations in one value with its derivative: the field, its recomputation from checkpoints, the adjoint."""

TRUTHS = 2000
"""Truths of each seen family in the mean profile."""

LOW_PASS_ORDER = 8
FLAT = 1e-3
"""eps of the total variation: differences well below this share of the bounds' width count as none."""


class Lbfgs(Method[None]):
    """One model for each observation; its spread says nothing."""

    block = 1
    profile: np.ndarray

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """The mean profile with depth of the seen families' truths, each family counted once."""
        profiles = []
        for path in seen:
            with EnsembleReader(path) as reader:
                profiles.append(reader.read("x", 0, TRUTHS).astype(np.float64).mean(axis=(0, 2)))
        self.profile = np.mean(profiles, axis=0)

    def draw(self, state: None, y: np.ndarray, event_id: np.ndarray, infer: Infer) -> Chunk:
        """The end of the last band for each observation (event, 1, depth, offset)."""
        assert isinstance(infer, LbfgsInfer)
        field = self.problem.x
        assert field.low is not None
        assert field.high is not None
        found, noticed = [], []
        for observed in y:
            x = np.repeat(self._start(infer)[:, None], field.shape[1], axis=1)
            for corner in infer.corners:
                descent = _Descent(self.problem, observed, corner, infer, (field.low[0], field.high[0]))
                x, report = descent.run(x, infer.iterations)
                self.cost.simulator_calls += SIMULATIONS * report["evaluations"]
                self.cost.failed_simulations += report["failed"]
            found.append(x)
            noticed.append(report)
        x = np.stack(found).astype(np.float32)[:, None]
        ok = np.isfinite(x).all(axis=(2, 3))
        misfit = float(np.median([report["misfit"] for report in noticed]))
        return Chunk(x, np.zeros(ok.shape), ok, {"final_misfit": misfit})

    def _start(self, infer: LbfgsInfer) -> np.ndarray:
        """Velocity with depth (depth,)."""
        from scipy.ndimage import gaussian_filter1d

        depth = self.problem.x.shape[0]
        if infer.start is not None:
            return np.linspace(*infer.start, depth)
        return gaussian_filter1d(self.profile, infer.smooth * depth, mode="nearest")


class _Descent:
    """The misfit of one observation in one band, and its minimum."""

    def __init__(
        self,
        problem: Any,
        observed: np.ndarray,
        corner: float | None,
        infer: LbfgsInfer,
        bounds: tuple[float, float],
    ):
        self.problem, self.infer = problem, infer
        self.low, self.width = bounds[0], bounds[1] - bounds[0]
        times = problem.y.coordinates["time"].values
        self.axis = problem.y.dims.index("time")
        self.response = _low_pass(len(times), times[1] - times[0], corner)
        self.observed = self._filtered(observed.astype(np.float64))
        self.power = float((self.observed**2).sum()) or 1.0
        self.shape = problem.x.shape
        self.report = {"evaluations": 0, "failed": 0, "misfit": np.nan}

    def run(self, x: np.ndarray, iterations: int) -> tuple[np.ndarray, dict[str, float]]:
        """From a model (depth, offset) in the problem's unit to the band's minimum; what happened."""
        from scipy.optimize import minimize

        start = np.clip((x - self.low) / self.width, 0, 1).ravel()
        options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 10, "ftol": 1e-9, "gtol": 1e-9}
        end = minimize(
            self._value, start, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(start), options=options
        )
        return self.low + self.width * end.x.reshape(self.shape), self.report

    def _value(self, scaled: np.ndarray) -> tuple[float, np.ndarray]:
        x = scaled.reshape(self.shape)
        value, slope, ok = self.problem.gradient(self.low + self.width * x[None], self._misfit)
        self.report["evaluations"] += 1
        if not ok[0]:
            # A line search that went too far: a wall that it turns back from.
            self.report["failed"] += 1
            return 1e3, np.zeros_like(scaled)
        self.report["misfit"] = float(np.sqrt(2 * value[0]))
        smooth, smooth_slope = roughness(x, self.infer.tv, self.infer.tikhonov)
        return float(value[0]) + smooth, (self.width * slope[0] + smooth_slope).ravel()

    def _misfit(self, y: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual = self._filtered(y[0].astype(np.float64)) - self.observed
        # The filter is its own transpose.
        return np.array([(residual**2).sum() / (2 * self.power)]), (self._filtered(residual) / self.power)[None]

    def _filtered(self, y: np.ndarray) -> np.ndarray:
        if self.response is None:
            return y
        shape = [-1 if i == self.axis else 1 for i in range(y.ndim)]
        n = y.shape[self.axis]
        spectrum = np.fft.rfft(y, 2 * n, axis=self.axis) * self.response.reshape(shape)
        return np.take(np.fft.irfft(spectrum, 2 * n, axis=self.axis), range(n), axis=self.axis)


def _low_pass(samples: int, interval: float, corner: float | None) -> np.ndarray | None:
    """Response of a zero-phase Butterworth filter on a record padded to twice its length; real, so symmetric."""
    if corner is None:
        return None
    return 1 / (1 + (np.fft.rfftfreq(2 * samples, interval) / corner) ** LOW_PASS_ORDER)


def roughness(x: np.ndarray, tv: float, tikhonov: float) -> tuple[float, np.ndarray]:
    """tv mean sqrt(|grad x|^2 + eps^2) + tikhonov mean |grad x|^2 / 2 of an image, and its derivative."""
    down, right = np.zeros_like(x), np.zeros_like(x)
    down[:-1], right[:, :-1] = np.diff(x, axis=0), np.diff(x, axis=1)
    length = np.sqrt(down**2 + right**2 + FLAT**2)
    value = tv * (length - FLAT).mean() + tikhonov * (down**2 + right**2).mean() / 2
    weight = (tv / length + tikhonov) / x.size
    slope = np.zeros_like(x)
    for step, axis in ((weight * down, 0), (weight * right, 1)):
        moved = np.moveaxis(slope, axis, 0)
        step = np.moveaxis(step, axis, 0)
        moved[1:] += step[:-1]
        moved[:-1] -= step[:-1]
    return float(value), slope
