"""Twisted diffusion sampler (Wu et al. 2023, arXiv 2306.17775): Sequential Monte Carlo with a foreseeing twist.

The twist is the likelihood of the denoised particle, Phi_t = mu(E[x_0 | x_t]), which ends as mu. A step is the prior's,
its mean moved by -variance * grad Phi_t; the weight is the ratio of the step's densities without and with that move
times exp(Phi_t(x_t) - Phi_s(x_s)) (their algorithm 1). As the particles grow in number, their weighted distribution
becomes the posterior for the prior's discretised steps, whatever the twist.
"""

from pullback.methods.guided.observation import Observation
from pullback.methods.guided.particle_method import ParticleMethod
from pullback.methods.guided.particle_spec import TdsSpec
from pullback.methods.guided.population import Scheme
from pullback.methods.guided.twist import Tweedie, Twist


class Tds(ParticleMethod):
    """Twisted particles."""

    spec: TdsSpec

    def scheme(self, twist: Twist) -> Scheme:
        """See `ParticleMethod`."""
        return self.resampled(eta=1.0, weights="path")

    def twist(self, observation: Observation, levels: list[float]) -> Twist:
        """See `ParticleMethod`."""
        return Tweedie(self.prior, observation, self.spec.inflation)
