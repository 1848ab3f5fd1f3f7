"""OmniFold as a method: the seen families' events with weights, for each set of observations anew.

See `omnifold_iterations` for the algorithm, `omnifold_classifiers` for what learns the ratios and
`omnifold_simulation` for the choice of the simulated events.

Replica 0 of the weights is nominal. Each other one unfolds the observations with weights multiplied by a Poisson(1)
number for each `group`, with classifiers trained anew from other random numbers: the spread of replicas is the
statistical uncertainty of the data together with that of the training. The uncertainty of the finite simulation is not
in it: with ``bootstrap`` the simulated events are resampled, by the address of the seed, so that seeds show it. The
diagnostic ``spread`` is another quantity: how much the classifiers of one step differ from each other.
"""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pullback.core.atomic import DamagedError, read_sealed, write_sealed
from pullback.core.seeding import generator
from pullback.ensembles.arrays import Ensemble
from pullback.ensembles.family_events import nominal
from pullback.ensembles.unfolded import Unfolded
from pullback.methods.base import Method
from pullback.methods.unfolding.omnifold_classifiers import Perceptrons, Trees
from pullback.methods.unfolding.omnifold_iterations import (
    Iteration,
    Sample,
    Simulation,
    check,
    closure,
    omnifold,
    start,
)
from pullback.methods.unfolding.omnifold_simulation import chosen, encoder, read_family
from pullback.methods.unfolding.omnifold_spec import MlpClassifier, OmnifoldInfer

log = logging.getLogger("pullback")


class Omnifold(Method[Unfolded]):
    """Weights at truth level of the seen families' truths; they sum to the number of truths behind the observations."""

    settings: OmnifoldInfer

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """Keep the paths of the seen families: their events are read when observations are there to choose by."""
        self.seen = seen

    def condition(self, ensemble: Ensemble, workdir: Path | None = None) -> Unfolded:
        """Unfold the observations, and again for each replica; finished iterations are kept in ``workdir``.

        Raises:
            OmnifoldError: events or weights that cannot be unfolded.
            Stopped: the clock says so; the same call goes on after the last finished iteration.
        """
        weight = nominal(ensemble.read("weight")) if "weight" in ensemble.columns else np.ones(ensemble.n)
        data = Sample(ensemble.read("y"), weight)
        address = (*self.context.address, "omnifold")
        most = max(1, self.settings.most_events // len(self.seen))
        families = dict(
            read_family(path, most, generator(*address, "events", i), self.settings.bootstrap)
            for i, path in enumerate(self.seen)
        )
        simulation, noticed = chosen(families, self.settings.simulation, data, self.problem.y, address)
        check(simulation, data)
        encode_x = encoder(self.problem.x, simulation.x[simulation.has_x])
        encode_y = encoder(self.problem.y, simulation.y[simulation.has_y])
        scaled = simulation._replace(x=encode_x(simulation.x), y=encode_y(simulation.y))
        data = Sample(encode_y(data.values), weight)

        group = np.unique(ensemble.read("group"), return_inverse=True)[1]
        columns = []
        for replica in range(self.settings.replicas + 1):
            drawn = Sample(data.values, weight)
            if replica:
                counts = generator(*address, "bootstrap", replica).poisson(1.0, group.max() + 1)
                drawn = Sample(data.values, weight * counts[group])
            last, more = self._unfold(scaled, drawn, replica, workdir)
            if not replica:
                noticed |= more
            columns.append((simulation.weight * last.push)[simulation.has_x])
        x = simulation.x[simulation.has_x].astype(np.float32)
        return Unfolded(x, np.stack(columns, axis=1), diagnostics=noticed, counts=True)

    def _unfold(
        self, simulation: Simulation, data: Sample, replica: int, workdir: Path | None
    ) -> tuple[Iteration, dict[str, float]]:
        """All iterations of one replica, and the diagnostics of each of them under names as ``ess_iteration_3``."""
        settings = self.settings
        address = (*self.context.address, "omnifold", replica)
        classifier: Perceptrons | Trees
        if isinstance(settings.classifier, MlpClassifier):
            classifier = Perceptrons(
                settings.classifier, settings.classifiers, settings.warm_start, self.context, address
            )
        else:
            classifier = Trees(settings.classifier, settings.classifiers, self.context, address)
        kept = Kept(workdir, replica, classifier.restore)
        last, table = kept.newest(simulation, settings.iterations)
        for step in omnifold(simulation, *data, classifier, settings.iterations, settings.clip, last):
            last = step
            table[last.number] = dict(last.diagnostics)
            kept.save(last, table, classifier.state())
            log.info(
                "replica %d, iteration %d: %s",
                replica,
                last.number,
                ", ".join(f"{name} {value:.4g}" for name, value in last.diagnostics.items()),
            )
        if replica:
            return last, {}
        # Of step 1 of an iteration: how well the factors before it describe the data.
        area = {number - 1: row.pop("auc") for number, row in table.items()}
        area[last.number] = closure(simulation, data, classifier, last)
        rows = {f"{name}_iteration_{number}": value for number, row in table.items() for name, value in row.items()}
        return last, rows | {f"auc_iteration_{number}": value for number, value in area.items()}

    def pack(self, state: Unfolded) -> dict[str, Any]:
        """Truths, weights and diagnostics."""
        return {"x": state.x, "weight": state.weight, "diagnostics": dict(state.diagnostics)}

    def unpack(self, packed: dict[str, Any]) -> Unfolded:
        """The inverse of `pack`."""
        return Unfolded(**packed, counts=True)

    def unfold(self, state: Unfolded, ensemble: Ensemble) -> Unfolded:
        """What was found when the observations were there."""
        return state


class Kept:
    """Finished iterations of one replica in a folder, each in a file of its own.

    Args:
        folder: or None, where nothing is kept.
        replica: its number.
        restore: of the classifiers' state.
    """

    def __init__(self, folder: Path | None, replica: int, restore: Callable[[dict[str, np.ndarray]], None]):
        self._folder, self._replica, self._restore = folder, replica, restore

    def newest(self, simulation: Simulation, iterations: int) -> tuple[Iteration, dict[int, dict[str, float]]]:
        """The last finished iteration, and the diagnostics up to it; the start where there is none.

        A damaged file is logged, and the one before it is used.
        """
        for number in range(iterations, 0, -1):
            path = self._path(number)
            if path is None or not path.exists():
                continue
            try:
                with np.load(io.BytesIO(read_sealed(path)), allow_pickle=False) as file:
                    found = dict(file)
            except DamagedError as error:
                log.warning("%s: the iteration is made again", error)
                continue
            table = {int(key): row for key, row in json.loads(str(found.pop("table"))).items()}
            push, pull = found.pop("push"), found.pop("pull")
            self._restore(found)
            log.info("resumed: replica %d after iteration %d from %s", self._replica, number, path)
            return Iteration(number, push, pull, dict(table[number])), table
        return start(simulation), {}

    def save(self, last: Iteration, table: dict[int, dict[str, float]], state: dict[str, np.ndarray]) -> None:
        """Keep an iteration."""
        path = self._path(last.number)
        if path is None:
            return
        packed = io.BytesIO()
        np.savez(packed, push=last.push, pull=last.pull, table=np.array(json.dumps(table)), **state)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(path, packed.getvalue())

    def _path(self, number: int) -> Path | None:
        name = f"omnifold-{self._replica:04d}-{number:04d}.npz"
        return None if self._folder is None else self._folder / name
