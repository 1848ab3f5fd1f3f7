"""What methods with weighted particles share: the start, the run of one observation, draws and diagnostics."""

import logging
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.core.particles import normalise, resample
from pullback.core.seeding import generator
from pullback.methods.guided.base import DiffusionMethod, Particles
from pullback.methods.guided.observation import LikelihoodError, Observation
from pullback.methods.guided.particle_spec import ParticleInfer, ParticleSpec
from pullback.methods.guided.population import STABLE, Population, Scheme, evolve
from pullback.methods.guided.quadratic import Quadratic
from pullback.methods.guided.spec import MOST_LEVELS
from pullback.methods.guided.twist import Twist

log = logging.getLogger("pullback")

COPIES = 0.1
"""Noise level, in standard deviations of x, below which particles with a common ancestor count as its copies."""

MARGIN = 3
"""Of the levels that are said to be enough: the curvature that is measured where steps are too long is too small."""

PATH_POINTS = 25
"""Most points of the path of effective sizes that are kept."""


def start(twist: Twist, t: float, normals: Tensor) -> tuple[Tensor, np.ndarray | None, float]:
    """Particles of q_t, t large: the noisy prior is N(0, (t^2 + 1) I), since x as networks see it has unit variance.

    A quadratic Phi_t is conditioned on; others need weights (`evolve`).

    Args:
        twist: gives Phi_t.
        t: first level.
        normals: (particle, *x).

    Returns:
        Particles, their log weights or None, and log Z of q_t where they are equal.
    """
    if not isinstance(twist, Quadratic):
        return math.sqrt(t**2 + 1) * normals, None, 0.0
    x, log_z = twist.start(t, normals)
    return x, np.zeros(len(x)), log_z


class ParticleMethod(DiffusionMethod):
    """A method that samples each observation by a population of particles; a subclass gives its twist and scheme."""

    spec: ParticleSpec
    settings: ParticleInfer

    def twist(self, observation: Observation, levels: list[float]) -> Twist:
        """The prior and its tilt for one observation.

        Raises:
            LikelihoodError: it has none.
        """
        raise NotImplementedError

    def scheme(self, twist: Twist) -> Scheme:
        """Moves and weights for particles with this tilt."""
        raise NotImplementedError

    def resampled(self, **axes: Any) -> Scheme:
        """A scheme with these moves and weights and the resampling of the settings."""
        return Scheme(resampler=self.settings.resampler, resample_below=self.settings.resample_below, **axes)

    def levels(self) -> list[float]:
        """Noise levels from the first to 0.

        Raises:
            LikelihoodError: the first is none that the prior was trained for.
        """
        schedule, first = self.prior.schedule, self.settings.sigma_max
        if first is not None and not schedule.sigma_min < first <= schedule.sigma_max:
            raise LikelihoodError(
                f"sigma_max: {first:g}, and the prior is trained for levels from {schedule.sigma_min:g} to "
                f"{schedule.sigma_max:g}: choose one of these"
            )
        return schedule.times(self.settings.levels, first)

    def observation(self, y: np.ndarray) -> Observation:
        """The likelihood of one observation (*y,).

        Raises:
            LikelihoodError: the noise is not known, or has no variance.
        """
        found = super().observation(y)
        if not found.is_likelihood:
            raise LikelihoodError(
                "particles are weighted by the likelihood, and the problem's y has no noise; give its simulator a "
                "positive noise, or take the method dps with step: norm"
            )
        return found

    def answer(self, y: np.ndarray, event_id: int) -> Particles:
        """Draws for one observation (*y,)."""
        observation, levels = self.observation(y), self.levels()
        twist, n = self.twist(observation, levels), self.settings.population
        rng = generator(*self.context.address, "resampling", event_id)

        def noise(stage: str) -> Tensor:
            return self.noise(stage, event_id, n)

        x, log_weight, log_z = start(twist, levels[0], noise("start"))
        label = f"particles, event {event_id}"
        found = evolve(
            twist, self.scheme(twist), x, log_weight, levels, noise, rng,
            lambda steps: self.context.progress(steps, len(levels) - 1, label),
            self.settings.islands, self.watch,
        )  # fmt: skip
        self._report(found, label)
        drawn = reduced(found, self.settings.draws, self.spec.reduce, rng)
        return drawn._replace(diagnostics=diagnostics(found, observation.constant + log_z))

    def _report(self, found: Population, label: str) -> None:
        islands = self.settings.islands
        if not np.isfinite(found.log_weight).any():
            log.warning(
                "%s: all %d particles died; look at failed simulations, then take more particles and levels",
                label, len(found.x),
            )  # fmt: skip
        elif found.died:
            log.warning("%s: %d times a particle was not finite, or its likelihood failed", label, found.died)
        if found.common_level < COPIES:
            log.warning(
                "%s: the %d particles are copies of %d at noise level %.2g: they are %s, and the spread of copies is "
                "no uncertainty. Log-likelihoods did this that differ by far more than 1, as where steps are too few "
                "for the noise: more levels bring them together; more `islands` give more draws",
                label, len(found.x), islands, found.common_level, "one draw" if islands == 1 else f"{islands} draws",
            )  # fmt: skip
        if found.stiffness > STABLE:
            enough = math.ceil(MARGIN * self.settings.levels * found.stiffness / STABLE)
            log.warning(
                "%s: explicit guidance moves particles by up to %.3g times what is stable (step times curvature of "
                "the likelihood, median over particles): %s",
                label, found.stiffness / STABLE,
                f"about {enough} levels would do, or a lower sigma_max" if enough <= MOST_LEVELS
                else "no number of levels would do, take a lower sigma_max, or likelihood: tweedie",
            )  # fmt: skip


def reduced(found: Population, draws: int, reduce: str, rng: np.random.Generator) -> Particles:
    """Draws of a population.

    Args:
        found: the population at the last level.
        draws: how many; the particles themselves, with their weights, where there are as many.
        reduce: ``sample``, or ``highest-weight``: the particle with the largest weight alone.
        rng: for choosing draws.
    """
    weight = normalise(found.log_weight)
    if not weight.any():
        some = np.resize(np.arange(len(weight)), draws)
        return Particles(found.x[some], ok=np.zeros(draws, bool))
    if reduce == "highest-weight":
        return Particles(found.x[[int(weight.argmax())]])
    if draws == len(weight):
        ok = found.x.isfinite().flatten(1).all(1).cpu().numpy()
        return Particles(found.x, found.log_weight, ok)
    return Particles(found.x[torch.as_tensor(resample(weight, draws, rng), device=found.x.device)])


def diagnostics(found: Population, log_constant: float) -> dict[str, float]:
    """Numbers of a population for the report.

    Args:
        found: the population at the last level.
        log_constant: log of what the mean weight is multiplied by to give p(y).

    Returns:
        By name. Of particles without weights only how many died: equal weights say nothing of their quality.
    """
    dead = {"dead_particles": float(found.died)}
    if math.isnan(found.log_evidence):
        return dead
    alive = np.isfinite(found.log_weight)
    places = np.unique(np.linspace(0, len(found.ess) - 1, PATH_POINTS).round().astype(int))
    return {
        "ess_min": float(found.ess.min()),
        "ess_final": float(found.ess[-1]),
        "unique_ancestors": float(len(np.unique(found.ancestors[alive]))),
        "log_evidence": found.log_evidence + log_constant,
        "resamplings": float(found.resamplings),
        **dead,
        **{f"ess_level_{place}": float(found.ess[place]) for place in places},
    }
