"""The exact score of the noisy posterior: linear problems, priors that are Gaussian or mixtures of Gaussians.

The posterior p(z_0 | y) is then a mixture of Gaussians whose weights, means and covariances are known, so its denoiser
is, too (`pullback.diffusion.exact.posterior`). Draws by it have the error of the levels alone: they show what any other
guidance loses.
"""

from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.exact import GaussianDenoiser, MixtureDenoiser, posterior
from pullback.methods.guided.base import Counted
from pullback.methods.guided.guidance import GuidedMethod, whitened
from pullback.methods.guided.observation import Observation
from pullback.methods.guided.priors import PriorError


class ExactScore(GuidedMethod):
    """Draws with the exact score of the noisy posterior."""

    stage = "exact-score"

    def guided(self, observation: Observation) -> Denoiser:
        """See `GuidedMethod`.

        Raises:
            PriorError: a prior whose posterior is not known.
        """
        prior, linear = self.prior.denoiser, whitened(observation, "exact-score")
        if not isinstance(prior, GaussianDenoiser | MixtureDenoiser):
            raise PriorError(
                f"exact-score needs a Gaussian or a mixture of Gaussians as prior (kind exact), found "
                f"{type(prior).__name__}; take the method tmpd with this prior"
            )
        return Counted(posterior(prior, linear.operator.matrix, linear.target), self.cost)
