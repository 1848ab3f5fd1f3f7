"""Driver of the rule `condition`: the states of one family's sets, computed once for all parts of an inference."""

import logging
import shutil
import time
from pathlib import Path

from pullback.core.stopping import Stopped
from pullback.ensembles.posterior_store import add_cost
from pullback.methods.loading import CostMeter, Inputs, opened, record_of
from pullback.methods.states import States, conditioning_sets, load_states, save_states
from pullback.methods.train import checkpoint_folder
from pullback.study.base import job_digest

log = logging.getLogger("pullback")


def condition(
    job: str, inputs: Inputs, out: Path, checkpoints: Path, code: str, limit: float | None = None, gpus: int = 0
) -> None:
    """Write the state of every conditioning set of one family.

    Sets finished by an earlier attempt are reused; within a set the method continues from the files in its ``workdir``.

    Args:
        job: `Plan.condition_job`.
        inputs: files.
        out: the state file.
        checkpoints: folder for finished sets and the method's own files; removed on success.
        code: digest of the code that this job runs.
        limit: minutes that a scheduler gives this job (`stopping.Clock`).
        gpus: number requested; one is used.

    Raises:
        DeviceError: the GPUs differ from those requested.
        Stopped: close to the limit, or on a signal; the same call goes on.
    """
    with opened(job, inputs, limit, gpus) as (plan, method, ensemble):
        folder = checkpoint_folder(Path(checkpoints), record_of(plan, inputs, ensemble, code))
        spent, settings = CostMeter(method), method.settings
        events = min(ensemble.n, settings.max_events or ensemble.n)
        sets = list(conditioning_sets(events, ensemble.n, settings.set_size))
        states, longest = States({}, {}), 0.0
        for number, members in enumerate(method.context.progress(sets, len(sets), "condition")):
            kept = folder / f"set-{members[0]:09d}.pt"
            if kept.exists():
                log.info("resumed: the set of events %d to %d from %s", *members, kept)
                found = load_states(kept)
            else:
                if number and (reason := method.context.stop(longest)):
                    raise Stopped(f"after set {number} of {len(sets)}", reason)
                began = time.perf_counter()
                workdir = kept.with_suffix("")
                workdir.mkdir(parents=True, exist_ok=True)
                state = method.condition(ensemble.window(*members), workdir)
                found = States({members: method.pack(state)}, spent.since_last())
                if len(sets) > 1:
                    save_states(kept, found)
                longest = max(longest, time.perf_counter() - began)
            states = States({**states.packed, **found.packed}, add_cost(states.cost, found.cost))
    save_states(out, states, job_digest(job))
    shutil.rmtree(checkpoints, ignore_errors=True)
    log.info("cost: %s", ", ".join(f"{key} {value:.4g}" for key, value in states.cost.items()))
