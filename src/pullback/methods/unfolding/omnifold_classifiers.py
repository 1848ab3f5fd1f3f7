"""Classifiers of OmniFold: perceptrons (torch) and boosted trees (LightGBM) that learn ratios of weighted samples.

Both minimise the weighted binary cross entropy sum_i a_i log(1 + e^-l_i) + b_i log(1 + e^l_i), whose least value is at
l = log(a(v) / b(v)): the log odds are the log ratio. Classes are scaled to equal sums. Where both samples are of the
same events (step 2), each event stands once, with both its weights: half the work, and less noise.
"""

import copy
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pullback.core.context import Context
from pullback.core.optional import require
from pullback.core.seeding import Address, generator, integer_seed
from pullback.core.stopping import Stopped
from pullback.diffusion.numerics import numerics, pick_device, seeded
from pullback.methods.unfolding.omnifold_iterations import OmnifoldError, Ratio, Sample
from pullback.methods.unfolding.omnifold_spec import LightgbmClassifier, MlpClassifier

log = logging.getLogger("pullback")

ROWS = 1 << 16
"""Events that a network is evaluated on at once."""


LEAST_STEPS = 50
"""Of an epoch: of fewer events batches are smaller, or a training would end before it learned anything."""


class Rows(NamedTuple):
    """Events of both samples.

    Attributes:
        values: (row, feature), float32.
        first, second: weights in the two classes (row,), each with sum rows / 2.
        held_out: rows that each classifier is not trained on (classifier, row), bool: others for each, so that
            several classifiers together see all events.
        of: rows of the first and of the second sample.
    """

    values: np.ndarray
    first: np.ndarray
    second: np.ndarray
    held_out: np.ndarray
    of: tuple[slice, slice]

    @staticmethod
    def make(first: Sample, second: Sample, share: float, count: int, rng: np.random.Generator) -> "Rows":
        """Rows of two samples, of which each of ``count`` classifiers has a share held out."""
        n, m = len(first.values), len(second.values)
        if min(n, m) < 2:
            raise OmnifoldError(f"{n} and {m} events, wanted at least 2 of each: a classifier is trained and validated")
        if first.values is second.values:
            of = slice(0, n), slice(0, n)
            values, a, b = first.values, first.weight, second.weight
            held_out = [_held_out(n, share, rng) for _ in range(count)]
        else:
            of = slice(0, n), slice(n, n + m)
            values = np.concatenate([first.values, second.values])
            a, b = np.append(first.weight, np.zeros(m)), np.append(np.zeros(n), second.weight)
            held_out = [np.append(_held_out(n, share, rng), _held_out(m, share, rng)) for _ in range(count)]
        scale = len(values) / 2
        weights = a * (scale / a.sum()), b * (scale / b.sum())
        return Rows(np.asarray(values, np.float32), *weights, np.array(held_out), of)

    def ratio(self, log_ratio: np.ndarray, elsewhere: Callable[[np.ndarray], np.ndarray]) -> Ratio:
        """The result from log ratios of the rows (classifier, row)."""
        first, second = self.of
        held_out = self.held_out[:, first], self.held_out[:, second]
        return Ratio(log_ratio[:, first], log_ratio[:, second], held_out, elsewhere)


class Perceptrons:
    """Several perceptrons for each step; with a warm start they go on from those of the iteration before.

    Args:
        settings: of each.
        count: how many.
        warm_start: whether they go on.
        context: threads, device and the stopping clock, which is asked between epochs.
        address: of all random numbers.
    """

    def __init__(self, settings: MlpClassifier, count: int, warm_start: bool, context: Context, address: Address):
        self.settings, self.count, self.warm_start = settings, count, warm_start
        self.context, self.address = context, address
        self.device = pick_device(context.accelerator)
        self._before: dict[str, dict[str, Tensor]] = {}

    def __call__(self, step: str, iteration: int, first: Sample, second: Sample) -> Ratio:
        """Train.

        Raises:
            Stopped: the clock says so.
            OmnifoldError: a training diverged.
        """
        address = (*self.address, step, iteration)
        rows = Rows.make(first, second, self.settings.validation, self.count, generator(*address, "held out"))
        with numerics(self.context.threads, self.device.type == "cuda"):
            networks = [self._train(rows, step, iteration, number) for number in range(self.count)]

        def evaluate(values: np.ndarray) -> np.ndarray:
            with numerics(self.context.threads, self.device.type == "cuda"):
                return np.stack([self._evaluate(network, values) for network in networks])

        return rows.ratio(evaluate(rows.values), evaluate)

    def state(self) -> dict[str, np.ndarray]:
        """What the next iteration goes on from, by name."""
        return {f"{key}/{name}": tensor.numpy() for key, part in self._before.items() for name, tensor in part.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of `state`."""
        self._before = {}
        for path, array in state.items():
            key, _, name = path.rpartition("/")
            self._before.setdefault(key, {})[name] = torch.from_numpy(np.array(array))

    def _train(self, rows: Rows, step: str, iteration: int, number: int) -> nn.Module:
        settings, address = self.settings, (*self.address, step, iteration, number)
        with seeded(integer_seed(*address, "network")):
            network = perceptron(rows.values.shape[1], settings.width, settings.depth).to(self.device)
        key = f"{step}/{number}"
        if key in self._before:
            network.load_state_dict(self._before[key])
        values, first, second = (torch.from_numpy(part.astype(np.float32)).to(self.device) for part in rows[:3])
        held = rows.held_out[number]
        ours, held_out = (torch.from_numpy(np.flatnonzero(part)).to(self.device) for part in (~held, held))
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
        batches = min(len(ours), max(LEAST_STEPS, round(len(ours) / settings.batch)))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * batches)
        best, kept, patience, longest = np.inf, copy.deepcopy(network.state_dict()), 0, 0.0
        for epoch in range(settings.epochs):
            if reason := self.context.stop(longest):
                raise Stopped(f"in iteration {iteration}, classifier of {step}, epoch {epoch}", reason)
            began = time.perf_counter()
            order = torch.from_numpy(generator(*address, "epoch", epoch).permutation(len(ours))).to(self.device)
            for batch in ours[order].chunk(batches):
                optimizer.zero_grad(set_to_none=True)
                cross_entropy(network(values[batch]), first[batch], second[batch]).backward()
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                parts = held_out.split(ROWS)
                losses = [len(part) * cross_entropy(network(values[part]), first[part], second[part]) for part in parts]
                loss = float(sum(losses)) / len(held_out)
            if not np.isfinite(loss):
                raise OmnifoldError(
                    f"iteration {iteration}, classifier of {step}: its loss is {loss} after epoch {epoch + 1}; lower "
                    "`classifier.learning_rate`"
                )
            longest = max(longest, time.perf_counter() - began)
            patience += 1
            if loss < best:
                best, kept, patience = loss, copy.deepcopy(network.state_dict()), 0
            if patience > settings.patience:
                break
        log.info("iteration %d, classifier %d of %s: loss %.5f, %d epochs", iteration, number, step, best, epoch + 1)
        network.load_state_dict(kept)
        if self.warm_start:
            self._before[key] = {name: tensor.detach().cpu().clone() for name, tensor in kept.items()}
        return network

    @torch.no_grad()
    def _evaluate(self, network: nn.Module, values: np.ndarray) -> np.ndarray:
        parts = torch.from_numpy(np.ascontiguousarray(values, np.float32)).split(ROWS)
        return torch.cat([network(part.to(self.device)).cpu() for part in parts]).numpy().astype(np.float64)


class Trees:
    """Gradient-boosted trees of LightGBM; several differ in the random numbers that choose events and features.

    Args:
        settings: of each.
        count: how many.
        context: threads, and the stopping clock, which is asked between trees.
        address: of all random numbers.
    """

    def __init__(self, settings: LightgbmClassifier, count: int, context: Context, address: Address):
        self.settings, self.count, self.context, self.address = settings, count, context, address

    def __call__(self, step: str, iteration: int, first: Sample, second: Sample) -> Ratio:
        """Train.

        Raises:
            MissingExtraError: LightGBM is not installed.
            OmnifoldError: negative weights.
            Stopped: the clock says so.
        """
        lightgbm: Any = require("lightgbm", extra="boosted")
        address = (*self.address, step, iteration)
        rows = Rows.make(first, second, self.settings.validation, self.count, generator(*address, "held out"))
        weight = rows.first + rows.second
        if min(rows.first.min(), rows.second.min()) < 0:
            raise OmnifoldError(
                f"iteration {iteration}: negative event weights, which LightGBM cannot train with; use "
                "`classifier: {kind: mlp}`"
            )

        def poll(environment: Any) -> None:
            if reason := self.context.stop():
                where = f"in iteration {iteration}, classifier of {step}, tree {environment.iteration}"
                raise Stopped(where, reason)

        def data(which: np.ndarray, reference: Any = None) -> Any:
            which = which & (weight > 0)
            target = rows.first[which] / weight[which]
            return lightgbm.Dataset(rows.values[which], target, weight=weight[which], reference=reference)

        models = []
        for number in range(self.count):
            parameters = {
                "objective": "cross_entropy",
                "learning_rate": self.settings.learning_rate,
                "num_leaves": self.settings.leaves,
                "bagging_fraction": 0.8,
                "bagging_freq": 1,
                "seed": integer_seed(*address, number),
                "num_threads": self.context.threads,
                "deterministic": True,
                "force_row_wise": True,
                "verbosity": -1,
            }
            held = rows.held_out[number]
            ours = data(~held)
            callbacks = [poll, lightgbm.early_stopping(self.settings.patience, verbose=False)]
            models.append(
                lightgbm.train(parameters, ours, self.settings.trees, [data(held, ours)], callbacks=callbacks)
            )

        def evaluate(values: np.ndarray) -> np.ndarray:
            return np.stack([model.predict(np.asarray(values, np.float32), raw_score=True) for model in models])

        return rows.ratio(evaluate(rows.values), evaluate)

    def state(self) -> dict[str, np.ndarray]:
        """Nothing: every iteration starts anew."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Nothing to restore."""


def _held_out(n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which of n events are held out (event,): about this share, at least one and not all."""
    out = np.zeros(n, bool)
    out[rng.permutation(n)[: min(n - 1, max(1, round(share * n)))]] = True
    return out


def perceptron(features: int, width: int, depth: int) -> nn.Module:
    """A perceptron of ``depth`` hidden layers: (event, feature) -> log ratio (event,)."""
    layers: list[nn.Module] = []
    for inputs in (features, *[width] * (depth - 1)):
        layers += [nn.Linear(inputs, width), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(width, 1), nn.Flatten(0))


def cross_entropy(log_ratio: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The weighted binary cross entropy, mean over events."""
    return (first * functional.softplus(-log_ratio) + second * functional.softplus(log_ratio)).mean()
