"""DPS through the wave simulator: guidance by Devito's adjoint."""

import os

import numpy as np
import pytest
from guidance_cases import SCHEDULE, f64

from pullback.core.context import Context
from pullback.diffusion.denoiser import Denoiser
from pullback.diffusion.exact import GaussianDenoiser
from pullback.ensembles.scaling import Column, Scaling
from pullback.methods.base import ADJOINT
from pullback.methods.guided.base import Counted
from pullback.methods.guided.dps import Dps
from pullback.methods.guided.guidance_spec import DpsInfer
from pullback.problems.base import simulate
from pullback.problems.fwi import Fwi
from pullback.simulators.wave_settings import FwiSimulator

pytestmark = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1: some hundred adjoints of waves")

SHAPE = (16, 16)
DRAWS, LEVELS = 4, 40
MEAN, STD = 2500.0, 300.0


class Smooth(Denoiser):
    """Velocity models as a Gaussian field with a correlation length of four nodes."""

    schedule = SCHEDULE

    def __init__(self):
        distance = np.subtract.outer(np.arange(16), np.arange(16))
        line = np.exp(-((distance / 4) ** 2) / 2)
        self.covariance = np.kron(line, line)
        self._flat = GaussianDenoiser(f64(np.zeros(256)).float(), f64(self.covariance).float(), SCHEDULE)

    def __call__(self, x, t):
        return self._flat(x.flatten(1), t).reshape(x.shape)


def test_draws_explain_the_gathers_to_the_noise():
    problem = Fwi(
        FwiSimulator(
            depth_cells=16,
            offset_cells=16,
            sources=2,
            receivers=16,
            record_length=0.512,
            noise=0.05,
            absorbing_cells=16,
        )
    )
    prior, rng = Smooth(), np.random.default_rng(0)
    x = MEAN + STD * rng.multivariate_normal(np.zeros(256), prior.covariance, DRAWS + 1, method="eigh").reshape(
        -1, *SHAPE
    )
    y = simulate(problem, x, rng)[0]
    truth, others = x[0], x[1:]

    method = Dps(None, problem, Context(("study", "waves", "dps", 0)))
    method.prior = Counted(prior, method.cost)
    method.scaling = Scaling(
        SHAPE, problem.y.shape, [Column(0, "", "linear", MEAN, STD)], [Column(0, "", "linear", 0, 1)]
    )
    # The step has the inverse units of y.
    infer = DpsInfer(levels=LEVELS, draws=DRAWS, scale=30 / np.linalg.norm(y[0]))
    found = method.using(infer).sample(None, y[:1], np.array([0])).x[0]

    def misfit(models):
        return np.linalg.norm((problem.apply(models)[0] - y[0]).reshape(len(models), -1), axis=1) / np.linalg.norm(y[0])

    def error(models):
        return np.linalg.norm((models - truth).reshape(len(models), -1), axis=1) / np.linalg.norm(truth)

    low, high = problem.x.low[0], problem.x.high[0]
    assert method.cost.failed_simulations == 0
    assert method.cost.likelihood_gradients == DRAWS * LEVELS
    assert method.cost.simulator_calls == (1 + ADJOINT) * DRAWS * LEVELS
    # The noise is 5 % of the signal: gathers are explained to the noise, which no draw of the prior does (.12 to .27).
    assert misfit(np.clip(found, low, high)).max() < 0.07
    # Two short records do not see all of the model: draws of the posterior are nearer to the truth, not at it.
    assert error(found).mean() < error(others).mean()
