"""OmniFold on its Gaussian example, `python benchmarks/omnifold_example.py [events [iterations [classifiers]]]`.

Simulation: x ~ N(0, 1), y = x + 0.5 eps. Data: the same with x ~ N(1, 1). Prints what is recovered after each
iteration, and how long it takes. `retraining` is its line of `make bench`.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

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


def main(events: int = 100_000, iterations: int = 5, classifiers: int = 3) -> None:
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


def retraining(best: Callable[..., list[float]], say: Callable[..., None], events: int = 100_000) -> None:
    """A draw of each event by a trained EI-FM against OmniFold, which trains for each set of observations."""
    import torch

    from pullback.methods.amortised.conditional_net import ConditionalNet
    from pullback.methods.amortised.paths import flow_path
    from pullback.methods.amortised.spec import EiFmSpec, FlowInfer

    torch.set_num_threads(1)
    model = ConditionalNet(EiFmSpec(kind="ei-fm"), (4,), (3,))
    # How long it takes does not depend on the weights.
    rng = np.random.default_rng(0)
    x, y, data = (rng.normal(size=(events, size)).astype(np.float32) for size in (4, 3, 3))
    everything = np.ones(events, bool)

    @torch.no_grad()
    def amortised() -> None:
        observed = torch.from_numpy(data)
        context = model.context({"y": observed[None, :4000], "mask": torch.ones(1, 4000, dtype=torch.bool)})
        for part in observed.split(10_000):

            def velocity(x: Any, t: Any, part: Any = part) -> Any:
                return model.network(x, t, part, context)

            flow_path().sample(velocity, torch.randn(len(part), 4), part, FlowInfer(), None)

    def omnifold_again() -> None:
        perceptrons = Perceptrons(MlpClassifier(), 1, False, Context(("bench",), 1, "cpu"), ("bench",))
        for _ in omnifold(Simulation(x, y, everything, everything, np.ones(events)), data, None, perceptrons):
            pass

    ours, theirs = best(amortised, omnifold_again, rounds=1)
    peer = "OmniFold, 4 iterations, 1 classifier"
    say("unfolding: 100,000 events, EI-FM, 8 network calls", events / ours, events / theirs, "events/s", peer)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
