"""Two methods beside the exact posterior, on the 2-D Gaussian problem: does looking at the whole set help?

Any trained method of pullback is one class; a new one (a file with a Spec, docs/architecture.md) is trained and
compared in the same way. Run with ``python examples/method_builder.py``; needs ``pip install
'pullback[learn,evaluate]'``.
"""

import numpy as np

from pullback import CFM, EIFM, energy_score
from pullback.problems.base import simulate
from pullback.problems.gaussian import Gaussian, GaussianSimulator

PRIOR = {"gamma": -0.9, "mu1": 2.0, "mu2": -1.0}
"""Of the set that is answered; the priors of the training are drawn from a range around it."""

TRAIN = {"sets_per_step": 8, "set_size": (100, 300), "loss_members": 100, "learning_rate": 3e-3, "validate_every": 100}
NETWORK = {"kind": "mlp", "width": 48, "depth": 2}


def main(steps: int = 600) -> dict[str, float]:
    """Mean energy scores (lower is better) of EI-FM, cFM and the exact posterior."""
    problem, rng = Gaussian(GaussianSimulator(noise=1.0)), np.random.default_rng(0)

    def pairs(params: dict[str, float], events: int) -> tuple[np.ndarray, np.ndarray]:
        x = problem.sample_prior(rng, events, params)
        return x, simulate(problem, x, rng)[0]

    ensembles = [
        pairs({"gamma": rng.uniform(-0.95, 0.95), "mu1": rng.uniform(-3, 3), "mu2": rng.uniform(-3, 3)}, 300)
        for _ in range(100)
    ]
    x, y = pairs(PRIOR, 1000)

    models = {
        "EI-FM": EIFM(k=8, network=NETWORK, set_encoder={"kind": "moments"}, train=TRAIN, steps=steps),
        "cFM": CFM(network=NETWORK, train=TRAIN, steps=steps),
    }
    draws = {name: model.fit(ensembles).sample(y, draws=32) for name, model in models.items()}
    draws["exact"] = problem.exact_posterior(y, PRIOR, 32, 64, rng)[0]

    scores = {name: energy_score(each, x) for name, each in draws.items()}
    for name, score in scores.items():
        # The same events are scored, so that differences are more certain than the scores.
        above = score - scores["exact"]
        print(f"{name:6} {score.mean():.4f}, above the exact {above.mean():.4f} +- {above.std() / len(x) ** 0.5:.4f}")
    return {name: float(score.mean()) for name, score in scores.items()}


if __name__ == "__main__":
    main()
