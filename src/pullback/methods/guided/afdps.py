"""AFDPS: weighted particles under the likelihood at the noisy state (Chen et al. 2025, arXiv 2506.03979).

Particles follow q_t ~ p_t exp(-a_t mu), mu = -log p(y|x) evaluated at x_t itself, by the drift and the weights of
`particle_kernels`; only the end, t = 0, is the posterior. Their eq. 3.6 is eta = 1 with V = G, algorithm 2, or V = 0
with Langevin correctors, algorithm 4. Where the likelihood dominates, the guided diffusion's stationary law is
exp(-2 eta mu): too narrow at eta = 1, whose weights then have no second moment, and right at eta = 1/2, the default.

Linear problems take the guidance and the noise of a step together, exactly (`contract`), and begin under the
likelihood; their particles can follow p(y|x_t) as it is for a Gaussian prior (`quadratic`). Elsewhere steps are
explicit, stable only while the step times the likelihood's curvature is below 2: for H known this is checked before the
first step, else watched.
"""

import math
from functools import cached_property
from itertools import pairwise

from pullback.methods.guided.moments import DRAWS, Moments, moments_of
from pullback.methods.guided.observation import LikelihoodError, Observation, Operator, Whitened
from pullback.methods.guided.particle_method import ParticleMethod
from pullback.methods.guided.particle_spec import AfdpsSpec
from pullback.methods.guided.population import STABLE, Scheme
from pullback.methods.guided.quadratic import Foresight, GaussianTwist, TemperedQuadratic
from pullback.methods.guided.spec import MOST_LEVELS
from pullback.methods.guided.twist import Tempered, Tweedie, Twist

FORESEEN = 512
"""Most components of x whose covariance is used without being asked for: each level needs its own eigenvectors."""


class Afdps(ParticleMethod):
    """AFDPS with free eta, V, tempering, weights and corrector."""

    spec: AfdpsSpec

    def scheme(self, twist: Twist) -> Scheme:
        """See `ParticleMethod`."""
        spec = self.spec
        automatic = "path" if isinstance(twist, GaussianTwist) else "difference"
        return self.resampled(
            eta=spec.eta,
            stochastic=spec.variant == "sde",
            weights=automatic if spec.weights == "auto" else spec.weights,
            corrector_steps=spec.corrector_steps,
            corrector_size=spec.corrector_size,
        )

    def twist(self, observation: Observation, levels: list[float]) -> Twist:
        """See `ParticleMethod`.

        Raises:
            LikelihoodError: tempering needs singular vectors that there are none of, or steps are too long.
        """
        spec, linear = self.spec, observation.linear
        if spec.likelihood == "tweedie":
            return Tweedie(self.prior, observation, spec.inflation)
        if linear is not None and linear.svd is not None:
            few = math.prod(self.scaling.x_shape) <= FORESEEN
            if spec.tempering == "gaussian" or (spec.tempering == "auto" and few):
                foresight = self._foresight_of(linear)
                return GaussianTwist(self.prior, foresight, linear.target, self.cost, self.device)
            first = None if spec.tempering == "none" else levels[0]
            return TemperedQuadratic(self.prior, linear, first, self.cost, self.device)
        if spec.tempering in ("gaussian", "none"):
            raise LikelihoodError(
                f"tempering: {spec.tempering} needs the singular vectors of a linear problem, and there are none "
                "here (x is scaled nonlinearly, the noise's covariance is not known, or the operator is too large): "
                "take tempering: linear"
            )
        twist = Tempered(self.prior, observation, levels[0])
        if linear is not None:
            self._refuse_stiff(twist, linear.operator.largest**2, levels)
        return twist

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the prior."""
        return moments_of(self.prior, lambda stage: self.noise(stage, 0, DRAWS))

    _foresight: tuple[Operator, Foresight] | None = None

    def _foresight_of(self, linear: Whitened) -> Foresight:
        """Kept while observations have the same operator."""
        operator = linear.operator
        if self._foresight is None or self._foresight[0] is not operator:
            self._foresight = operator, Foresight(operator.matrix, self.moments)
        return self._foresight[1]

    def _refuse_stiff(self, twist: Twist, curvature: float, levels: list[float]) -> None:
        scheme = self.scheme(twist)
        if (found := stiffness(scheme, levels, curvature)) <= STABLE:
            return
        enough = 2 * len(levels)
        while enough <= MOST_LEVELS and stiffness(scheme, self._grid(enough, levels[0]), curvature) > STABLE:
            enough *= 2
        cure = f"levels: {enough} would do at this sigma_max; or" if enough <= MOST_LEVELS else "no levels would do;"
        # The time of a corrector depends on its level alone.
        smaller = ", a smaller corrector_size" if scheme.corrector_steps else ""
        raise LikelihoodError(
            f"levels: {len(levels) - 1} make explicit steps {found / STABLE:.3g} times as long as is stable for this "
            f"noise of y: {cure} take a lower sigma_max{smaller}, or likelihood: tweedie"
        )

    def _grid(self, levels: int, first: float) -> list[float]:
        return self.prior.schedule.times(levels, first)


def stiffness(scheme: Scheme, levels: list[float], curvature: float) -> float:
    """Largest product of explicit steps and the curvature of a_t mu, a_t = 1 - t / t_0; above 2 they grow."""
    first, worst = levels[0], 0.0
    for t, s in pairwise(levels):
        worst = max(worst, scheme.eta * scheme.time(t, s) * (1 - t / first) * curvature)
        if scheme.corrector_steps:
            worst = max(worst, scheme.corrector_size * s**2 * (1 - s / first) * curvature)
    return worst
