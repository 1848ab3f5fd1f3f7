"""Comparison of the GPUs requested by a job with those granted."""

import logging
import os

log = logging.getLogger("pullback")

VISIBLE = "CUDA_VISIBLE_DEVICES"
_NONE = frozenset({"", "-1", "NoDevFiles"})


class DeviceError(ValueError):
    """A device that the study or the profile asks for and that is not here."""


def granted() -> int | None:
    """The entries of CUDA_VISIBLE_DEVICES; None where it is not set."""
    visible = os.environ.get(VISIBLE)
    return None if visible is None else len([name for name in visible.split(",") if name.strip() not in _NONE])


def check_devices(requested: int, accelerator: str, nodes: int = 1) -> int:
    """Compare requested GPUs with those granted and found, before any work is done.

    Inside a SLURM job the numbers must be the same: a request that is not met is a mistake in the profile. Outside
        SLURM the request is an upper limit. A job without a request is not checked: inside an interactive allocation it
        uses the first GPU found, as on a workstation.

    Args:
        requested: the resource ``gpu`` of the rule, which counts those of the whole job.
        accelerator: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        nodes: of the job.

    Returns:
        Number of GPUs to use on this node if some were requested, else 0.

    Raises:
        DeviceError: the numbers differ, or the GPUs cannot be spread evenly over the nodes.
    """
    if requested % nodes:
        raise DeviceError(
            f"gpus: {requested} requested on {nodes} nodes; gpu counts those of the whole job: ask for a multiple of "
            f"{nodes}"
        )
    here = requested // nodes
    given = granted()
    said = VISIBLE + (" is not set" if given is None else f"={os.environ[VISIBLE]}")
    if "SLURM_JOB_ID" in os.environ:
        if here and here != (given or 0):
            raise DeviceError(
                f"gpus: {here} requested, {given or 0} granted ({said}): set gpu={given or 0} for this rule in the "
                "profile (set-resources), or look why SLURM gave another number (partition, gres)"
            )
        if here and accelerator != "cpu" and (found := _found()) != here:
            raise DeviceError(
                f"gpus: {here} requested and granted ({said}), {found} found by torch: install a CUDA build of "
                "torch that the driver supports, or set accelerator: cpu"
            )
        log.info("gpus: %d requested, %d granted (%s)", here, given or 0, said)
        return 0 if accelerator == "cpu" else here
    if not here or accelerator == "cpu":
        return 0
    found = _found()
    if found < here and accelerator == "gpu":
        raise DeviceError(
            f"gpus: {here} requested, {found} found by torch ({said}): ask for {found}, or use accelerator: auto"
        )
    log.info("gpus: %d requested, %d found (%s)", here, found, said)
    return min(found, here)


def _found() -> int:
    import torch

    return torch.cuda.device_count()
