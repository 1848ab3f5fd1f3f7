"""Feynman-Kac steering (Singhal et al. 2025, arXiv 2501.06848): particles resampled by differences of a reward.

The reward is the log-likelihood of the denoised particle, r_t = -mu(E[x_0 | x_t]), and the weight of a step
exp(r_s(x_s) - r_t(x_t)), their difference potential. With steps of the prior alone (eta: 0) these weights telescope to
the likelihood, and more particles remove the error. With guided steps, as comparisons use it, the ratio of the steps'
densities is left out and a bias stays, that which `tds` removes.
"""

from pullback.methods.guided.observation import Observation
from pullback.methods.guided.particle_method import ParticleMethod
from pullback.methods.guided.particle_spec import FkSteeringSpec
from pullback.methods.guided.population import Scheme
from pullback.methods.guided.twist import Tweedie, Twist


class FkSteering(ParticleMethod):
    """Steered particles."""

    spec: FkSteeringSpec

    def scheme(self, twist: Twist) -> Scheme:
        """See `ParticleMethod`."""
        return self.resampled(eta=self.spec.eta, weights="path", ratio=False)

    def twist(self, observation: Observation, levels: list[float]) -> Twist:
        """See `ParticleMethod`."""
        return Tweedie(self.prior, observation, inflation=0.0)
