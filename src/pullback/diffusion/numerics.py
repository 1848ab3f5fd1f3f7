"""Where and how torch computes: the device, threads, deterministic algorithms."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pullback.diffusion.devices import DeviceError


def pick_device(accelerator: str) -> torch.device:
    """The device for ``"auto"`` (a GPU where there is one), ``"cpu"`` or ``"gpu"``.

    Raises:
        DeviceError: a GPU is asked for and torch finds none.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise DeviceError("accelerator is 'gpu' and torch finds none here; use accelerator: auto, or a CUDA build")
    return torch.device("cpu" if accelerator == "cpu" or not torch.cuda.is_available() else "cuda")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Context that seeds torch's global CPU generator, as for initial weights, and restores it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def numerics(threads: int, gpu: bool) -> Iterator[None]:
    """Context with a number of threads and deterministic algorithms; restores the previous settings.

    On a GPU an operation without a deterministic form only warns: there a training is repeatable as far as CUDA allows.
    """
    filling: Any = torch.utils.deterministic
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode(), filling.fill_uninitialized_memory
    if gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    # The same as torch.use_deterministic_algorithms, which also tells torch's compiler and imports it for that: 4 s.
    torch.set_deterministic_debug_mode("warn" if gpu else "error")
    # Filling every new tensor before it is written guards against reading it too early; here it only costs time.
    filling.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        filling.fill_uninitialized_memory = before[2]
