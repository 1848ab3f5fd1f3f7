"""OmniFold on the Gaussian example of its notebook, at any size: `python benchmarks/omnifold.py [events]`.

Simulation: x ~ N(0, 1), y = x + 0.5 eps. Data: the same with x ~ N(1, 1). Prints what is recovered after each
iteration, and how long it takes.
"""

import sys
import time

import numpy as np

from pullback.core.context import Context
from pullback.methods.unfolding.omnifold_classifiers import Perceptrons
from pullback.methods.unfolding.omnifold_iterations import Sample, Simulation, closure, omnifold
from pullback.methods.unfolding.omnifold_spec import MlpClassifier

SMEARING = 0.5


def gaussian(events: int, mean: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truths (event, 1) and observations (event, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, 1.0, (events, 1))
    return x, x + SMEARING * rng.normal(size=x.shape)


def main(events: int = 100_000, iterations: int = 5, classifiers: int = 1) -> None:
    x, y = gaussian(events, 0.0, 1)
    truth, data = gaussian(events, 1.0, 2)
    everything = np.ones(events, bool)
    simulation = Simulation(x, y, everything, everything, np.ones(events))
    perceptrons = Perceptrons(MlpClassifier(), classifiers, False, Context(("example",), 1, "auto"), ("example",))
    began = time.perf_counter()
    print(f"{events} events of each; truth of the data: mean {truth.mean():.4f}, width {truth.std():.4f}")
    for step in omnifold(simulation, data, None, perceptrons, iterations):
        mean = np.average(x[:, 0], weights=step.push)
        width = np.sqrt(np.average((x[:, 0] - mean) ** 2, weights=step.push))
        rest = ", ".join(f"{name} {value:.4g}" for name, value in step.diagnostics.items())
        print(
            f"iteration {step.number}: mean {mean:.4f}, width {width:.4f}, {time.perf_counter() - began:.0f} s; {rest}"
        )
    print(f"closure: AUC {closure(simulation, Sample(data, np.ones(events)), perceptrons, step):.4f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
