"""SBUnfold: a Schroedinger bridge from observation to truth, conditional on the observation.

Diefenbacher et al. 2023 (arXiv 2308.12351) unfold with the bridge of Liu et al. 2023 (I2SB, arXiv 2302.05872): Brownian
motion of rate beta_t that is pinned at the truth x_0 (t = 0) and at a start x_1 made from the observation (t = 1). With

    s_t^2 = int_0^t beta,    r_t^2 = int_t^1 beta,

the position between given ends is Gaussian (I2SB, eq. 11),

    x_t ~ N( (r_t^2 x_0 + s_t^2 x_1) / (s_t^2 + r_t^2),  s_t^2 r_t^2 / (s_t^2 + r_t^2) ).

The network learns (x_t - x_0) / s_t by least squares (eq. 12), which gives E[x_0 | x_t, y]. Seen from x_0 the bridge is
a process with alpha = 1 and sigma = s_t, so that one step towards x_0 is that of ancestral sampling
(`diffusion.sampler.Ancestral`), x_s ~ p(x_s | x_0 = E[x_0 | x_t, y], x_t) (algorithm 2).

The network also sees y. Without y, the published method, the bridge maps the distribution of y to that of x, but the
draws from one y are not those of p(x|y) (Butter et al. 2024, arXiv 2411.02495, who keep y). Given y the bridge ends in
p(x|y), the posterior under the training prior, for every beta > 0.

The start lies in the space of x, and y need not have its quantities. One of x starts from the quantity of y with the
same name, or from that named in ``start``, each standardised on its own: means and widths of the seen observations lie
on those of the truths, whatever their units and gain. An angle, which is learnt relative to y's, starts from
difference 0. A quantity without a counterpart (the mass of a jet) starts from N(0, 1): the observation
says nothing about where it begins, and the bridge is for it a diffusion from noise. Arrays start from y if they have
its shape.

It is trained on the pairs of all seen families together; the paper trains on one (``train.leave_out`` of the others).
"""

from collections.abc import Mapping
from itertools import count

import numpy as np
import torch
from torch import Tensor

from pullback.diffusion.denoiser import NetworkDenoiser, as_column
from pullback.diffusion.sampler import Ancestral
from pullback.diffusion.schedule import DiscreteSchedule, Time
from pullback.diffusion.share import Noise
from pullback.ensembles.fields import RELATIVE, Field
from pullback.ensembles.scaling import Scaling
from pullback.methods.amortised.model import AmortisedModel
from pullback.methods.amortised.paths import Normals, Predict, spread_times
from pullback.methods.unfolding.sbunfold_spec import BridgeInfer, SbUnfoldSpec
from pullback.networks.encoders import rows
from pullback.study.kinds import Infer

NOISE = -1
"""In place of a column of y: the quantity of x starts from noise."""
DIFFERENCE = -2
"""The quantity of x is a difference to y, which starts from 0."""


class StartError(ValueError):
    """Truths that have no start among the observations; the message names the key."""


class BridgeSchedule(DiscreteSchedule):
    """s_t of the bridge, seen from x_0: alpha = 1, sigma = s_t, in T steps; t = 0, 1/T ... 1.

    sqrt(beta) rises linearly from both ends to the middle.

    Args:
        beta: at the ends and in the middle, in a unit of time.
        steps: T.
    """

    def __init__(self, beta: tuple[float, float], steps: int):
        super().__init__(steps)
        # Of each step, at its middle: 0 at the ends of the path, 1 at its middle.
        height = 1 - np.abs(2 * (np.arange(steps) + 0.5) / steps - 1)
        low, high = np.sqrt(beta)
        self.variance = np.concatenate([[0.0], np.cumsum((low + (high - low) * height) ** 2)]) / steps

    def __call__(self, t: Time) -> tuple[Time, Time]:
        """See `Schedule`; t is rounded to the table."""
        if isinstance(t, Tensor):
            variance = torch.from_numpy(self.variance).to(t)[(t * self.steps).round().long()]
            return torch.ones_like(t), variance.sqrt()
        return 1.0, float(np.sqrt(self.variance[round(t * self.steps)]))

    @property
    def total(self) -> float:
        """s_1^2, the variance of the whole path."""
        return float(self.variance[-1])


class BridgePath:
    """The bridge from the observation to x (see the module).

    Args:
        schedule: of its noise.
        columns: of each quantity of x, the column of y that it starts from, NOISE or DIFFERENCE; None for an array,
            which starts from y.
        angles: value of difference 0 of each quantity, as networks see it.
    """

    def __init__(self, schedule: BridgeSchedule, columns: list[int] | None, angles: list[float]):
        self.schedule, self.columns, self.angles = schedule, columns, angles

    def start(self, y: Tensor, normal: Tensor) -> Tensor:
        """x_1 (..., *x) of observations (..., *y), as networks see both; ``normal`` (..., *x) for what y has not."""
        if self.columns is None:
            return y
        parts = []
        for i, column in enumerate(self.columns):
            if column == DIFFERENCE:
                parts.append(torch.full_like(normal[..., i], self.angles[i]))
            else:
                parts.append(normal[..., i] if column == NOISE else y[..., column])
        return torch.stack(parts, dim=-1)

    def between(self, x: Tensor, start: Tensor, t: Tensor, n: Tensor) -> Tensor:
        """x_t (..., *x) between x_0 = x and x_1 = start at times t (...), with standard normals n."""
        passed = torch.as_tensor(self.schedule(as_column(t, x))[1]).square()
        share = (passed / self.schedule.total).clamp_max(1.0)
        return (1 - share) * x + share * start + (passed * (1 - share)).sqrt() * n

    def point(self, x: Tensor, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """See `amortised.paths.Path`."""
        t = self.schedule.training_times(spread_times(noise, x))
        x_t = self.between(x, self.start(y, noise.normal(x.shape)), t, noise.normal(x.shape))
        return x_t, t, (x_t - x) / self.schedule(as_column(t, x))[1]

    def sample(self, predict: Predict, start: Tensor, y: Tensor, infer: Infer, normals: Normals) -> Tensor:
        """See `amortised.paths.Path`."""
        assert isinstance(infer, BridgeInfer)
        begin = self.start(rows(y, len(start)), start)
        sampler = Ancestral(NetworkDenoiser(predict, self.schedule, "noise"), map(normals, count()))
        return sampler(begin, self.schedule.times(infer.steps))


def start_columns(x: Field, y: Field, start: Mapping[str, str] | None) -> list[int] | None:
    """Of each quantity of x the column of y, as networks see it, that it starts from; NOISE or DIFFERENCE.

    Args:
        x, y: fields.
        start: quantity of x -> quantity of y; None for the same names.

    Returns:
        None for an array, which starts from y itself.

    Raises:
        StartError: nothing of x has a start in y, or a name that there is not.
    """
    if not x.is_vector:
        if start is not None or y.is_vector or x.shape != y.shape:
            raise StartError(
                f"a bridge starts from y in place of x: x is an array {x.shape}, and y is "
                f"{'a vector' if y.is_vector else 'an array'} {y.shape}; use cfm or cddpm, which start from noise"
            )
        return None
    place, at = {}, 0
    for name, transform in zip(y.features, y.transforms, strict=True):
        place[name] = None if transform == "periodic" else at
        at += 2 if transform == "periodic" else 1
    named = {name: name for name in x.features if name in place} if start is None else dict(start)
    for key, value in named.items():
        if key not in x.features or value not in place:
            raise StartError(
                f"start: found '{key}: {value}', wanted quantities of x ({', '.join(x.features)}) and of y "
                f"({', '.join(place) or 'it has none'})"
            )
    found = []
    for name, transform in zip(x.features, x.transforms, strict=True):
        column = place.get(named.get(name, ""))
        found.append(DIFFERENCE if transform in RELATIVE else NOISE if column is None else column)
    if all(column == NOISE for column in found):
        raise StartError(
            f"no quantity of x ({', '.join(x.features)}) has its name in y ({', '.join(place) or 'it has none'}), from "
            f"which the bridge would start: name pairs in `start` (start: {{{x.features[0]}: ...}}), or use cfm or "
            "cddpm, which start from noise"
        )
    return found


def bridge(spec: SbUnfoldSpec, scaling: Scaling) -> BridgePath:
    """The path of a method."""
    columns = start_columns(*scaling.fields(), spec.start)
    angles = [-column.mean / column.std for column in scaling.x_columns]
    return BridgePath(BridgeSchedule(spec.beta, spec.bridge_steps), columns, angles)


class SbUnfold(AmortisedModel):
    """SBUnfold as an amortised model with its own path."""

    spec: SbUnfoldSpec  # type: ignore[assignment]

    def _make_path(self) -> BridgePath:
        return bridge(self.spec, self.scaling)
