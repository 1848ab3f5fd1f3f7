"""Driver of the rule `unfold`: the truth distribution of one family, by one method, in one file."""

import logging
from collections.abc import Mapping
from pathlib import Path

from pullback.ensembles.posterior_store import add_cost
from pullback.ensembles.unfolded import write_unfolded
from pullback.methods.loading import CostMeter, Inputs, opened
from pullback.methods.states import load_states

log = logging.getLogger("pullback")


def unfold(job: str, inputs: Inputs, out: Path, limit: float | None = None, gpus: int = 0) -> None:
    """Write one family's unfolded truth distribution.

    Args:
        job: `Plan.unfold_job`.
        inputs: files; with a state the ensemble is not conditioned on again.
        out: the HDF5 file.
        limit: minutes that a scheduler gives this job (`stopping.Clock`).
        gpus: number requested; one is used.

    Raises:
        DeviceError: the GPUs differ from those requested.
        StoreError: the result of the method is not a valid distribution.
    """
    with opened(job, inputs, limit, gpus) as (plan, method, ensemble):
        spent = CostMeter(method)
        before: Mapping[str, float] = {}
        if inputs.state is None:
            state = method.condition(ensemble)
        else:
            states = load_states(inputs.state)
            state = method.unpack(states.of((0, ensemble.n)))
            # Where the method samples as well, the first part of the samples carries the cost of the shared state.
            before = {} if plan["samples"] else states.cost
        unfolded = method.unfold(state, ensemble)
        cost = {**add_cost(before, spent.in_all()), "events": ensemble.n}
        write_unfolded(
            out,
            unfolded,
            method.problem.x,
            ensemble,
            job,
            cost,
            method.diagnostics(state),
            {"returns": method.spec.label},
        )
    log.info("cost: %s", ", ".join(f"{key} {value:.4g}" for key, value in cost.items()))
