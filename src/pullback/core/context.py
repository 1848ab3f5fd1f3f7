"""What a method is given to run with, in training and in inference."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Context:
    """Run-time context of a method: address of its random numbers, threads, device, progress, stop.

    Attributes:
        address: (study seed, problem name, method name, seed): the root of all its random numbers.
        threads: CPU threads for numerics.
        accelerator: ``"auto"``, ``"cpu"`` or ``"gpu"``.
        progress: wraps an iterable with a progress bar, ``progress(iterable, total, label)``.
        stop: ``stop(next_s=0.0)``, the reason to stop now or None (`stopping.Clock.due`). A long loop asks it after
            each step, saves its state and raises `stopping.Stopped`.
    """

    address: tuple[str | int, ...]
    threads: int = 1
    accelerator: str = "auto"
    progress: Callable[..., Any] = field(default=lambda iterable, total=None, label="": iterable)
    stop: Callable[..., str | None] = field(default=lambda next_s=0.0: None)
