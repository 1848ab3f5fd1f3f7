"""Data-parallel training: the share of each process of a step, so that the result does not depend on their number.

The sets of a step and its noise are drawn for the full step, by the same address in every process; a process takes its
share, the same number of sets as every other. Gradients are averaged over the processes, so that the training is that
of one process up to the order in which float32 numbers are added.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class ShareError(ValueError):
    """A step that cannot be shared equally; the message says the numbers and what to do."""


@dataclass(frozen=True)
class Share:
    """The sets of a step that one process takes.

    Attributes:
        sets: of the full step.
        rank, processes: which process of how many.

    Raises:
        ShareError: the sets are not divisible by the processes.
    """

    sets: int
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if self.sets % self.processes:
            fewer = max(n for n in range(1, self.processes) if self.sets % n == 0)
            more = -(-self.sets // self.processes) * self.processes
            raise ShareError(
                f"train.sets_per_step is {self.sets} and there are {self.processes} processes, which take equal shares "
                f"of each step's sets: ask "
                f"for {fewer} GPU{'s' if fewer > 1 else ''}, or set train.sets_per_step to {more}"
            )

    @property
    def rows(self) -> slice:
        """This process's sets."""
        each = self.sets // self.processes
        return slice(self.rank * each, (self.rank + 1) * each)


class Noise:
    """Random numbers of one step's loss; those of a set do not depend on the process that has it.

    The first axis of every shape is the sets of this process.

    Args:
        seed: of the step.
        share: which sets this process has.
        device: where the numbers are wanted.
    """

    def __init__(self, seed: int, share: Share, device: torch.device | str = "cpu"):
        self._share = share
        self._generator = torch.Generator(device).manual_seed(seed)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normals."""
        return self._draw(torch.randn, shape)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform numbers in [0, 1)."""
        return self._draw(torch.rand, shape)

    def _draw(self, draw: Callable[..., Tensor], shape: Sequence[int]) -> Tensor:
        whole = draw((self._share.sets, *shape[1:]), generator=self._generator, device=self._generator.device)
        return whole[self._share.rows]
