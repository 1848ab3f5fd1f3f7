"""State files: one state for each conditioning set of an ensemble, and their total cost.

A state is kept as plain values (dicts, lists, numbers, text) and NumPy arrays, as `Method.pack` gives them. In the file
arrays are tensors, so that it is read with ``weights_only=True`` like every other artifact.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Set = tuple[int, int]
"""First member of a conditioning set and the one after its last, among the events of the ensemble."""


class StateError(ValueError):
    """A state file without the set that is wanted."""


class States(NamedTuple):
    """States by conditioning set, as `Method.pack` gave them.

    Attributes:
        packed: by set.
        cost: of computing them.
    """

    packed: Mapping[Set, Any]
    cost: Mapping[str, float]

    def of(self, members: Set) -> Any:
        """The state of one set.

        Raises:
            StateError: there is none.
        """
        if members not in self.packed:
            raise StateError(
                f"no state of the set of events {members[0]} to {members[1]}; found {sorted(self.packed)}: delete the "
                "state file and run again"
            )
        return self.packed[members]


def conditioning_sets(events: int, observed: int, set_size: int | str) -> Iterator[Set]:
    """The sets of observations that a family's first ``events`` are conditioned on, in order.

    Args:
        events: number of events to infer.
        observed: number of observations; a set may contain more of them than are inferred.
        set_size: ``"all"``, or the most observations of one set. Sets are even: as many as that needs, of sizes that
            differ by 1 at most, so that none is a small rest of a size that no model was trained on.
    """
    sets = 1 if set_size == "all" else max(1, math.ceil(observed / int(set_size)))
    size, larger = divmod(observed, sets)
    first = 0
    for number in range(sets):
        last = first + size + (number < larger)
        if first < events:
            yield first, last
        first = last


def save_states(path: Path, states: States, job_digest: str = "") -> None:
    """Write states atomically; ``job_digest`` is the digest of the job that makes the file."""
    from pullback.diffusion.checkpoint import save_artifact

    sets = [{"set": list(members), "state": _tensors(packed)} for members, packed in states.packed.items()]
    save_artifact(path, {}, {"job": job_digest, "cost": dict(states.cost), "states": sets})


def load_states(path: Path) -> States:
    """Read states.

    Raises:
        ArtifactError: the file is missing, damaged or foreign.
    """
    from pullback.diffusion.checkpoint import load_artifact

    meta = load_artifact(path)[1]
    return States({tuple(entry["set"]): _arrays(entry["state"]) for entry in meta["states"]}, meta["cost"])


def _tensors(value: Any) -> Any:
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, order="C"))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _tensors(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_tensors(each) for each in value]
    return value


def _arrays(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: _arrays(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_arrays(each) for each in value]
    return value
