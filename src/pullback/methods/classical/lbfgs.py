r"""Deterministic full-waveform inversion: L-BFGS from a smooth initial model, with frequency continuation.

For each observation the misfit

    J(x) = |H (F(x) - y)|^2 / (2 |H y|^2) + tv mean sqrt(|grad x|^2 + eps^2) + tikhonov mean |grad x|^2 / 2

is minimised by L-BFGS-B within the problem's bounds, x in units of their width and grad in differences between
neighbours. H is a low-pass filter whose corner frequency rises from band to band (Bunks et al. 1995), to avoid cycle
skipping in early iterations; it sets dead (all-zero) traces of y to zero. The gradient of |F(x) - y|^2 comes from the
adjoint of the simulator.

The data are a hundred times as sensitive to nodes near a source, and to edge nodes, which extend into the absorbing
boundary, as to deep nodes. L-BFGS is therefore preconditioned: it works on x / s, s = (h + max h / 100)^(-1/2), with h
the diagonal of J^T H^2 J (J = dF/dx) at the start, the mean of (J^T H w)^2 over random data w ~ N(0, I).

The start is a profile with depth: the mean over the training truths of the seen families, smoothed, or a straight line;
or the best of a few other straight lines, if it fits the first band better. The truth of the observation is not used.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field as Option

from pullback.core.context import Context
from pullback.core.seeding import generator
from pullback.ensembles.fields import Field
from pullback.methods.base import ADJOINT, Method, PosteriorSamples
from pullback.methods.explained import explains
from pullback.methods.live_traces import live
from pullback.problems.base import Pullback, linearize
from pullback.study.base import Capability, Label, Name
from pullback.study.kinds import Infer, Message, MethodSpec, PointInfer

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem


class LbfgsInfer(PointInfer):
    """Settings of L-BFGS: frequency bands, initial model, regularisation."""

    lowpass_hz: list[Annotated[float, Option(gt=0)] | None] = Option(
        default=[2.0, 3.0, 5.0, 8.0, 14.0],
        min_length=1,
        description="Hz: corner of the low-pass filter of each band, the first as low as the data go; null: no filter",
    )
    iterations: int = Option(default=40, ge=1, description="most iterations of each band")
    start: tuple[float, float] | None = Option(
        default=None,
        description="x at the top and at the bottom of a straight line to start from; when not given, the mean profile "
        "with depth of the seen families' truths",
    )
    scan: int = Option(
        default=5,
        ge=0,
        description="values of x, evenly between its bounds: a descent begins with the straight line between two of "
        "them (top, bottom) where one fits the first band better than `start`; 0: never",
    )
    smooth: float = Option(
        default=0.1, ge=0, description="smoothing of that profile: standard deviation over the depth"
    )
    tv: float = Option(
        default=0.005, ge=0, description="weight of the total variation of x in units of its bounds' width"
    )
    tikhonov: float = Option(default=0.0, ge=0, description="weight of its squared gradient")


class LbfgsSpec(MethodSpec):
    """Full-waveform inversion by L-BFGS with the adjoint of the simulator and frequency continuation."""

    needs: ClassVar[frozenset[Capability]] = frozenset({"pairs", "forward", "gradient"})
    returns: ClassVar[Label] = "point estimate"
    reads_seen: ClassVar[bool] = True
    misfit_advice: ClassVar[str] = "another start, lower first corners or more iterations of L-BFGS"
    code: ClassVar[str] = "pullback.methods.classical.lbfgs:Lbfgs"

    infer: Mapping[Name, LbfgsInfer] = Option(default={"default": LbfgsInfer()}, min_length=1)

    def check(self, problem: "StudyProblem") -> Iterator[Message]:
        """Waves have x on a grid, starts within its bounds; without seen families there is no mean profile."""
        if problem.spec.arrays is not None and "x" not in problem.spec.arrays:
            yield f"it inverts x on a grid (depth, offset), and x of problem kind '{problem.kind}' is a vector"
        low, high = (getattr(problem.simulator, name, None) for name in ("velocity_min", "velocity_max"))
        for name, descent in self.infer.items():
            if low is None or high is None or descent.start is None:
                continue
            if not all(low <= end <= high for end in descent.start):
                looks = "; these look like km/s: give m/s" if max(descent.start) * 1000 <= high else ""
                found = f"{descent.start[0]:g} to {descent.start[1]:g} m/s"
                wanted = f"velocity_min to velocity_max, {low:g} to {high:g} m/s"
                yield f"infer.{name}.start", f"found {found}, wanted velocities within {wanted}{looks}"
        if any(family.role == "seen" for family in problem.families.values()):
            return
        for name, descent in self.infer.items():
            if descent.start is None:
                yield (
                    f"infer.{name}.start",
                    "without it a descent starts from the mean profile of the seen families, and there is none: give "
                    "the velocity at the top and at the bottom",
                )


log = logging.getLogger("pullback")

TRUTHS = 2000
"""Truths of each seen family in the mean profile."""

FILTER_POWER = 8
"""A Butterworth filter of fourth order run forwards and backwards."""

FLAT = 1e-3
"""eps of the total variation: differences well below this share of the bounds' width count as none."""

PROBES = 8
"""Random data from which the data's sensitivity to each node is estimated, for each band once: to a factor of two."""

FLOOR = 0.01
"""Nodes that move the data less than a tenth as much as the one that moves them most are not told apart."""

WALL = 1e3
"""What a model that cannot be simulated counts, in units of the first misfit: a line search turns back from it."""


class LbfgsError(ValueError):
    """The problem has no regular grid or no evenly sampled time axis; the message says which."""


class Descended(NamedTuple):
    """The end of one band: the model (depth, offset) and its relative misfit |H (F(x) - y)| / |H y|."""

    x: np.ndarray
    misfit: float


class Lbfgs(Method[None]):
    """L-BFGS inversion: one model (a point estimate) for each observation."""

    block = 1
    settings: LbfgsInfer
    profile: np.ndarray | None = None

    def __init__(self, spec: Any, problem: Any, context: Context, settings: Infer | None = None):
        super().__init__(spec, problem, context, settings)
        self._scales: dict[float | None, np.ndarray] = {}

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """The mean profile with depth of the seen families' truths, each family counted once.

        Raises:
            LbfgsError: x is no grid with bounds, or y has no evenly sampled time.
        """
        # With h5py, which a study is parsed without.
        from pullback.ensembles.store import EnsembleReader

        _check(self.problem.x, self.problem.y)
        profiles = []
        for path in seen:
            with EnsembleReader(path) as reader:
                profiles.append(reader.read("x", 0, TRUTHS).astype(np.float64).mean(axis=(0, 2)))
        if profiles:
            self.profile = np.mean(profiles, axis=0)

    def sample(self, state: None, y: np.ndarray, event_id: np.ndarray) -> PosteriorSamples:
        """The end of the last band for each observation (event, 1, depth, offset)."""
        found = []
        for event, observed in zip(event_id, y, strict=True):
            x, misfit = self._best_start(observed), np.nan
            for corner in self.settings.lowpass_hz:
                descent = Descent(self.problem, observed, corner, self.settings)
                x, misfit = descent.run(x, self._scale(descent, corner))
                self._count(descent)
                band = "all frequencies" if corner is None else f"below {corner:g} Hz"
                log.info("event %d, %s: misfit %.4g after %d evaluations", event, band, misfit, descent.evaluations)
            fine = bool(np.isfinite(misfit)) and explains(
                self.problem.y, descent.observed, descent.signal, f"L-BFGS, event {event}"
            )
            found.append((x if fine else np.full_like(x, np.nan), misfit if fine else np.nan))
        x = np.stack([x for x, _ in found]).astype(np.float32)[:, None]
        ok = np.array([[np.isfinite(misfit)] for _, misfit in found])
        misfits = [misfit for _, misfit in found if np.isfinite(misfit)]
        return PosteriorSamples(
            x, np.zeros(ok.shape), ok, {"final_misfit": float(np.median(misfits))} if misfits else {}
        )

    def _scale(self, descent: "Descent", corner: float | None) -> np.ndarray:
        """s of one band, taken at the start: the same for every event without dead traces."""
        whole = bool(descent.live.all())
        if whole and corner in self._scales:
            return self._scales[corner]
        rng = generator(*self.context.address, "probes", str(corner))
        scale = descent.scale(self.start(), rng)
        if whole:
            self._scales[corner] = scale
        return scale

    def _count(self, descent: "Descent") -> None:
        self.cost.simulator_calls += descent.evaluations + ADJOINT * descent.derivatives
        self.cost.likelihood_gradients += descent.derivatives
        self.cost.failed_simulations += descent.failed

    def _best_start(self, observed: np.ndarray) -> np.ndarray:
        """Of the start and the straight lines of the scan the one with the least J in the first band."""
        first = self.start()
        if not self.settings.scan:
            return first
        descent = Descent(self.problem, observed, self.settings.lowpass_hz[0], self.settings)
        ends = descent.low + descent.width * (np.arange(self.settings.scan) + 0.5) / self.settings.scan
        lines = [np.linspace(top, bottom, len(first)) for top in ends for bottom in ends]
        found = descent.least([first, *(np.broadcast_to(line[:, None], first.shape) for line in lines)])
        self._count(descent)
        return first if found is None else found

    def start(self) -> np.ndarray:
        """Initial model (depth, offset); the same for every observation."""
        from scipy.ndimage import gaussian_filter

        depth, offset = self.problem.x.shape
        if self.settings.start is not None:
            profile = np.linspace(*self.settings.start, depth)
        else:
            assert self.profile is not None
            profile = gaussian_filter(self.profile, self.settings.smooth * depth, mode="nearest")
        return np.repeat(profile[:, None], offset, axis=1)


class Descent:
    """Objective of one observation in one frequency band, and its minimisation.

    Args:
        problem: gives the derivative of its signal.
        observed: y (source, time, receiver), or with other axes beside time.
        corner: of the low-pass filter in Hz, or None.
        infer: weights of the regularisation, most iterations.
    """

    def __init__(self, problem: Any, observed: np.ndarray, corner: float | None, infer: LbfgsInfer):
        self.problem, self.infer = problem, infer
        self.low, self.width = problem.x.low[0], problem.x.high[0] - problem.x.low[0]
        self.axis = problem.y.dims.index("time")
        times = problem.y.coordinates["time"].values
        self.response = None if corner is None else low_pass(len(times), times[1] - times[0], corner)
        self.live = live(problem.y, observed)
        self.observed = self._filtered(observed)
        self.power = float((self.observed**2).sum()) or 1.0
        self.evaluations, self.derivatives, self.failed, self.wall = 0, 0, 0, np.inf
        self.best, self.misfit, self.end, self.signal = np.inf, np.nan, np.empty(0), np.empty(0)

    def scale(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """s (depth, offset) at a model, with maximum 1; all 1 where the simulation fails or y does not depend on x."""
        h = np.zeros(self.problem.x.shape)
        _, ok, pullback = self._linearize(np.clip(x, self.low, self.low + self.width))
        if not ok:
            return np.ones_like(h)
        for _ in range(PROBES):
            h += pullback(self._filtered(rng.standard_normal(self.observed.shape))) ** 2
        h += FLOOR * h.max()
        return np.sqrt(h.min() / h) if h.min() > 0 else np.ones_like(h)

    def least(self, models: list[np.ndarray]) -> np.ndarray | None:
        """The model (depth, offset) with the least J; None where none can be simulated."""
        for x in models:
            self._evaluate(np.clip((x - self.low) / self.width, 0, 1).ravel())
        return self.low + self.width * self.end if self.end.size else None

    def run(self, x: np.ndarray, scale: np.ndarray) -> Descended:
        """From a model (depth, offset) in the problem's unit to the band's minimum, in steps of x / scale."""
        from scipy.optimize import minimize

        self.end = np.clip((x - self.low) / self.width, 0, 1)
        iterations, s = self.infer.iterations, scale.ravel()

        def value(x: np.ndarray) -> tuple[float, np.ndarray]:
            # The bound itself, where rounding would go beyond it.
            found, slope = self._evaluate(np.minimum(s * x, 1.0))
            return found, s * slope()

        minimize(
            value,
            self.end.ravel() / s,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, 1.0 / most) for most in s],
            options={"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-10},
        )
        return Descended(self.low + self.width * self.end, self.misfit)

    def _linearize(self, x: np.ndarray) -> tuple[np.ndarray, bool, Pullback]:
        """Signal, ok and pullback of one model (depth, offset), counted."""
        signal, ok, pullback = linearize(self.problem, x[None])
        self.evaluations += 1
        self.failed += not ok[0]

        def counted(cotangent: np.ndarray) -> np.ndarray:
            self.derivatives += 1
            slope: np.ndarray = pullback(cotangent[None])[0]
            return slope

        return signal[0], bool(ok[0]), counted

    def _evaluate(self, scaled: np.ndarray) -> tuple[float, Callable[[], np.ndarray]]:
        """J and a function for its gradient in the scaled x (flat); J is large and constant where F fails."""
        x = scaled.reshape(self.problem.x.shape)
        y, ok, pullback = self._linearize(self.low + self.width * x)
        if not ok:
            return self.wall, lambda: np.zeros_like(scaled)
        # H is its own transpose.
        signal = self._filtered(y)
        residual = signal - self.observed
        value = float((residual**2).sum() / (2 * self.power))
        smooth, smooth_slope = roughness(x, self.infer.tv, self.infer.tikhonov)
        total = value + smooth
        if np.isinf(self.wall):
            self.wall = WALL * total
        if total < self.best:
            self.best, self.misfit, self.end, self.signal = total, float(np.sqrt(2 * value)), x.copy(), signal
        by_signal = self._filtered(residual) / self.power
        return total, lambda: (self.width * pullback(by_signal) + smooth_slope).ravel()

    def _filtered(self, y: np.ndarray) -> np.ndarray:
        y = y.astype(np.float64) * self.live
        return y if self.response is None else filtered(y, self.response, self.axis)


def low_pass(samples: int, interval: float, corner: float) -> np.ndarray:
    """Response of a zero-phase low-pass filter, 1/2 at the corner, at the frequencies of a record of twice the length.

    Args:
        samples: of a record.
        interval: between them, s.
        corner: Hz.
    """
    return 1 / (1 + (np.fft.rfftfreq(2 * samples, interval) / corner) ** FILTER_POWER)


def filtered(y: np.ndarray, response: np.ndarray, axis: int) -> np.ndarray:
    """A record filtered along an axis, with zeros before and after it; symmetric, as the response is real."""
    n = y.shape[axis]
    shape = [-1 if i == axis else 1 for i in range(y.ndim)]
    spectrum = np.fft.rfft(y, 2 * n, axis=axis) * response.reshape(shape)
    return np.take(np.fft.irfft(spectrum, 2 * n, axis=axis), range(n), axis=axis)


def roughness(x: np.ndarray, tv: float, tikhonov: float) -> tuple[float, np.ndarray]:
    """tv mean (sqrt(|grad x|^2 + eps^2) - eps) + tikhonov mean |grad x|^2 / 2 of an image, and its derivative."""
    down, right = np.zeros_like(x), np.zeros_like(x)
    down[:-1], right[:, :-1] = np.diff(x, axis=0), np.diff(x, axis=1)
    length = np.sqrt(down**2 + right**2 + FLAT**2)
    value = tv * (length - FLAT).mean() + tikhonov * (down**2 + right**2).mean() / 2
    weight = (tv / length + tikhonov) / x.size
    down, right = weight * down, weight * right
    slope = -down - right
    slope[1:] += down[:-1]
    slope[:, 1:] += right[:, :-1]
    return float(value), slope


def _check(x: Field, y: Field) -> None:
    if len(x.shape) != 2:
        raise LbfgsError(f"lbfgs-fwi inverts for x on a grid (depth, offset), found x of shape {x.shape}")
    if x.low is None or x.high is None or not np.isfinite([x.low[0], x.high[0]]).all():
        raise LbfgsError("lbfgs-fwi searches between bounds of x, and its field has none: give it `low` and `high`")
    time = y.coordinates.get("time")
    if time is None or len(time.values) < 2 or not np.allclose(np.diff(time.values, 2), 0, atol=1e-9):
        found = ", ".join(y.dims) or "a vector"
        raise LbfgsError(
            f"lbfgs-fwi filters y along an evenly sampled coordinate 'time', found {found}: name it in the problem's "
            "field"
        )
