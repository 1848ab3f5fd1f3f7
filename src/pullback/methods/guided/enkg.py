"""Ensemble Kalman diffusion guidance: a diffusion prior steered by a simulator that is a black box.

Zheng et al. 2024, arXiv 2409.20175 (EnKG). N particles follow the probability-flow ODE of the prior from sigma_max to
0. At guided levels each x_j is carried to a clean phi(x_j) by the rest of the ODE, simulated, and moved by the
statistical linearisation of the log-likelihood's gradient preconditioned with the particles' covariance (their
proposition 1):

    C_xx grad log p(y | phi(x_j)) ~ (1/N) sum_k <G(phi(x_k)) - mean G, y - G(phi(x_j))> (x_k - mean x)

Their released code, which is followed here, normalises the step: with A_jk = <G_j - y, G_k - mean G> / N,

    x_j <- x_j - (guidance / |A|_F) sum_k A_jk (x_k - mean x),   deviations of the *noisy* particles.

No noise is added (G is the problem's `apply`, where it has one), no derivative taken, no covariance of the
measurement noise used: the step is invariant to the scale of the data and to its noise level, so that the particles
concentrate more than a posterior does. The matrix in
front of the deviations has Frobenius norm = guidance, so its rows have mean norm guidance / sqrt(N): the step depends
on N, and `frobenius_norm` keeps the published row norm when N is smaller. Near a solution A is symmetric, and an update
contracts as long as its largest eigenvalue, at most the Frobenius norm, is below 2.
"""

import logging
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from pullback.core.seeding import generator
from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.sampler import Euler
from pullback.diffusion.schedule import VarianceExploding
from pullback.methods.explained import explains
from pullback.methods.guided.base import DiffusionMethod, Particles
from pullback.methods.guided.spec import EnkgInfer
from pullback.methods.live_traces import live
from pullback.problems.base import simulate

log = logging.getLogger("pullback")

PUBLISHED_PARTICLES = 2048
"""N of the published Navier-Stokes runs, for which guidance = 2 was chosen."""

ROUNDING = 1e-12
"""Relative spread of predictions (float64) below which they count as equal."""

Simulate = Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
"""(x_0 (N, *x) as networks see it, level, update) -> predicted data (N, m), and which simulations succeeded (N,)."""


class EnkgError(ValueError):
    """The guidance cannot continue (all simulations failed); the message says where and why."""


def frobenius_norm(guidance: float, particles: int, rescale: bool) -> float:
    """|lr A|_F of one update: guidance, or with ``rescale`` guidance * sqrt(N / 2048): the published mean row norm."""
    return guidance * math.sqrt(particles / PUBLISHED_PARTICLES) if rescale else guidance


def enkg_update(
    x: np.ndarray, predicted: np.ndarray, observed: np.ndarray, norm: float, ok: np.ndarray | None = None
) -> np.ndarray:
    """One guidance update of all particles.

    Args:
        x: noisy particles (N, d).
        predicted: G(phi(x)), (N, m).
        observed: y, (m,).
        norm: Frobenius norm of the update matrix, `frobenius_norm`.
        ok: particles with a valid prediction (N,); the others are left out and stay unchanged. All when None.

    Returns:
        New particles (N, d), float64. Particles stay unchanged where all valid predictions agree (zero update matrix).
    """
    x = np.array(x, dtype=np.float64)
    valid = np.ones(len(x), dtype=bool) if ok is None else ok
    Y = np.asarray(predicted, dtype=np.float64)[valid]
    residual = Y - np.asarray(observed, dtype=np.float64)
    deviation = Y - Y.mean(axis=0)
    A = residual @ deviation.T / len(Y)
    size = np.linalg.norm(A)
    # Predictions that differ by rounding alone give no direction: normalised, they would move particles at random.
    if size > 0 and np.linalg.norm(deviation) > ROUNDING * np.linalg.norm(Y):
        x[valid] -= norm / size * A @ (x[valid] - x[valid].mean(axis=0))
    return x


def inner_steps(level: int, infer: EnkgInfer) -> int:
    """Euler steps from x_t to x_0 at a level: 1 + (levels left) // divisor, at most ``inner_steps``."""
    return min(1 + (infer.levels - level) // infer.inner_divisor, infer.inner_steps)


@torch.no_grad()
def guide(
    denoiser: Denoiser,
    simulate: Simulate,
    observed: np.ndarray,
    x: Tensor,
    infer: EnkgInfer,
    progress: Callable[..., Iterable[int]] = lambda iterable, total=None, label="": iterable,
    label: str = "EnKG",
) -> Tensor:
    """Run EnKG for one observation.

    Args:
        denoiser: the prior, of x as networks see it, with a `VarianceExploding` schedule.
        simulate: the forward model from such x, as a black box.
        observed: y flattened, (m,), in the units of the simulation.
        x: standard normals (N, *x); N is the ensemble's size.
        infer: levels, updates, guidance.
        progress, label: progress bar over levels.

    Returns:
        Clean particles (N, *x).

    Raises:
        EnkgError: every particle's simulation failed.
    """
    schedule = denoiser.schedule
    assert isinstance(schedule, VarianceExploding)
    ode, grid = Euler(denoiser), schedule.times(infer.levels)
    observed = np.asarray(observed, dtype=np.float64)
    size = float(np.linalg.norm(observed)) or 1.0
    x = schedule.sigma_max * x
    for level in progress(range(infer.levels), infer.levels, label):
        sigma = grid[level]
        for update in range(infer.updates if level in infer.guided_levels else 0):
            clean = ode(x, schedule.times(inner_steps(level, infer), sigma))
            predicted, ok = simulate(clean.cpu().numpy(), level, update)
            ok = ok & np.isfinite(predicted).all(axis=1)
            if not ok.any():
                raise EnkgError(
                    f"{label}: all {len(ok)} simulations failed at level {level} (sigma {sigma:.3g}, update {update}); "
                    "look whether the simulator runs at all on draws of this prior, then for too strong a guidance"
                )
            misfit = np.linalg.norm(predicted[ok] - observed, axis=1) / size
            log.info(
                "%s: level %d of %d, sigma %.3g, relative misfit median %.3g, least %.3g, %d of %d failed",
                label, level + 1, infer.levels, sigma, np.median(misfit), misfit.min(), (~ok).sum(), len(ok),
            )  # fmt: skip
            norm = frobenius_norm(infer.guidance, int(ok.sum()), infer.rescale_guidance)
            moved = enkg_update(x.flatten(1).cpu().numpy(), predicted, observed, norm, ok)
            x = torch.from_numpy(moved).to(x).reshape(x.shape)
        x = ode.step(x, sigma, grid[level + 1])
    return x


class EnKG(DiffusionMethod):
    """EnKG against the problem's simulator; the particles of one observation are its draws."""

    settings: EnkgInfer

    def answer(self, y: np.ndarray, event_id: int) -> Particles:
        """Posterior particles of one observation; dead traces are excluded."""
        recorded = np.broadcast_to(live(self.problem.y, y), y.shape)
        last: list[np.ndarray] = []

        def simulate(z: np.ndarray, level: int, update: int) -> tuple[np.ndarray, np.ndarray]:
            predicted, ok = self._simulate(z, y, (event_id, level, update))
            if ok.any():
                last[:] = [predicted[ok][:, recorded.ravel()].mean(axis=0)]
            return predicted[:, recorded.ravel()], ok

        noise = self.noise("enkg", event_id, self.settings.draws)
        label = f"EnKG, event {event_id}"
        progress = self.context.progress
        x = guide(self.prior, simulate, y[recorded], noise, self.settings, progress, label)
        fine = not last or explains(self.problem.y, y[recorded], last[0], label)
        return Particles(x, ok=np.full(len(x), fine))

    def _simulate(self, z: np.ndarray, y: np.ndarray, where: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Simulate x within its bounds; a particle that is not finite is not simulated and has failed."""
        x = self.scaling.decode_x(z, y[None])
        ok = np.isfinite(x).reshape(len(x), -1).all(axis=1)
        predicted = np.full((len(x), y.size), np.nan)
        if ok.any():
            inside, changed = self.problem.x.project(x[ok])
            found, fine = self._predict(inside, where)
            predicted[ok] = found.reshape(len(found), -1)
            self.cost.simulator_calls += len(inside)
            self.cost.projected += int(changed.sum())
            ok[ok] = fine & np.isfinite(predicted[ok]).all(axis=1)
        self.cost.failed_simulations += int((~ok).sum())
        return predicted, ok

    def _predict(self, x: np.ndarray, where: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """G(x), free of noise where the problem can give it: noise of their own would set particles apart."""
        if hasattr(self.problem, "apply"):
            return self.problem.apply(x)
        return simulate(self.problem, x, generator(*self.context.address, "forward", *where))
