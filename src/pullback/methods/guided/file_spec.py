"""A diffusion prior from a file in a study."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, StringConstraints, model_validator

from pullback.methods.guided.prior_spec import LevelsSpec
from pullback.networks.settings import Network, check_networks, check_shapes
from pullback.study.base import Closed
from pullback.study.kinds import Message

if TYPE_CHECKING:
    from pullback.study.model import Problem


class ExplodingSchedule(Closed):
    """x_t = x_0 + t n: the network is given the noise level t."""

    kind: Literal["ve"]


class LinearSchedule(Closed):
    """alpha = exp(-B / 2), sigma^2 = 1 - alpha^2, B the integral of a linear beta: the network is given t in [0, 1]."""

    kind: Literal["vp-linear"]
    beta_min: float = Field(default=0.1, gt=0, description="rate at t = 0")
    beta_max: float = Field(default=20.0, gt=0, description="rate at t = 1")

    @model_validator(mode="after")
    def _grows(self) -> "LinearSchedule":
        if self.beta_min > self.beta_max:
            raise ValueError(f"beta_min ({self.beta_min}) is above beta_max ({self.beta_max})")
        return self


class TableSchedule(Closed):
    """alpha_i^2 = product of 1 - beta_0 ... 1 - beta_i, sigma^2 = 1 - alpha^2: the network is given the index i."""

    kind: Literal["ddpm"]
    steps: int = Field(default=1000, ge=2, description="entries of the table")
    beta_min: float = Field(default=1e-4, gt=0, lt=1, description="its first beta; those between are evenly spaced")
    beta_max: float = Field(default=0.02, gt=0, lt=1, description="its last beta")
    betas: list[Annotated[float, Field(gt=0, lt=1)]] | None = Field(
        default=None, min_length=2, description="the table itself, in place of the other three"
    )

    @property
    def table(self) -> np.ndarray:
        """beta of each index."""
        return np.linspace(self.beta_min, self.beta_max, self.steps) if self.betas is None else np.array(self.betas)


class FlowSchedule(Closed):
    """x_t = t x_0 + (1 - t) n: the network is given t in [0, 1], 1 at the data."""

    kind: Literal["flow"]


NoiseSchedule = Annotated[
    ExplodingSchedule | LinearSchedule | TableSchedule | FlowSchedule, Field(discriminator="kind")
]
Range = tuple[float, float]


class FilePriorSpec(LevelsSpec):
    """A network from outside: a file with the weights of one of the networks here, and what it predicts."""

    code: ClassVar[str] = "pullback.methods.guided.file_prior:FilePrior"
    reads_events: ClassVar[bool] = False

    path: str = Field(description="file of weights by name (torch.save of a state dict); $VARIABLES are expanded")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(description="of the file")
    licence: str = Field(min_length=1, description="terms under which the weights are used; kept in the artifact")
    network: Network = Field(description="kind and size of the network that the weights belong to")
    prediction: Literal["mean", "noise", "v", "velocity", "edm"] = Field(
        description="mean: x_0. noise: n. v: alpha n - sigma x_0. velocity: d x_t / dt. edm: F of EDM's preconditioning"
    )
    schedule: NoiseSchedule = Field(description="x_t = alpha x_0 + sigma n that it was trained on")
    time_factor: float = Field(default=1.0, gt=0, description="the network is given this factor times its time")
    sigma_data: float = Field(default=0.5, gt=0, description="of prediction edm: standard deviation of its data")
    x_shape: list[int] = Field(min_length=1, description="shape of x")
    x_range: Range | list[Range] = Field(
        default=(-1.0, 1.0),
        description="values of x in the problem's units that the network sees as the ends of network_range; a pair, or "
        "one for each component of a vector",
    )
    network_range: Range = Field(default=(-1.0, 1.0), description="the same two values as the network sees them")

    @property
    def single_process_reason(self) -> str:
        """Why only one process can make it."""
        return "it has no network to train"

    @property
    def ranges(self) -> list[Range]:
        """x_range of each component, or one for all."""
        return self.x_range if isinstance(self.x_range, list) else [self.x_range]

    @model_validator(mode="after")
    def _consistent(self) -> "FilePriorSpec":
        for name, pairs in (("x_range", self.ranges), ("network_range", [self.network_range])):
            if any(low >= high for low, high in pairs):
                raise ValueError(f"{name} needs low < high, found {[list(pair) for pair in pairs]}")
        if self.prediction == "edm" and (self.schedule.kind != "ve" or self.time_factor != 1):
            raise ValueError("prediction edm has the schedule ve, and its own function of the level as time")
        if self.prediction == "velocity" and isinstance(self.schedule, TableSchedule):
            raise ValueError("prediction velocity is a derivative by t, which a table does not have: use v, or flow")
        if isinstance(self.schedule, TableSchedule):
            log_abar = np.cumsum(np.log1p(-self.schedule.table))
            low, high = np.sqrt(np.expm1(-log_abar))[[0, -1]]
            if not low <= self.sigma_min < self.sigma_max <= high:
                raise ValueError(
                    f"the table has levels sigma / alpha from {low:.4g} to {high:.4g}, found sigma_min "
                    f"{self.sigma_min:g} and sigma_max {self.sigma_max:g}: set them within"
                )
        return self

    def check_fields(self, x: Any, y: Any) -> None:
        """Shape and range of x must be the problem's, and the file's weights those of the network."""
        from pullback.methods.guided.file_prior import read_weights

        if tuple(x.shape) != tuple(self.x_shape):
            raise ValueError(f"x_shape: the file is a prior of x with shape {self.x_shape}, wanted {list(x.shape)}")
        if len(self.ranges) not in (1, len(x.features)):
            raise ValueError(f"x_range: {len(self.ranges)} pairs, wanted one, or one for each of {len(x.features)}")
        if other := set(x.transforms) - {"linear", "whole"}:
            raise ValueError(f"networks see x through {', '.join(sorted(other))} here: a file is a prior of x as it is")
        for j, bounds in enumerate((x.low, x.high)):
            stated = np.array([pair[j] for pair in self.ranges])
            if bounds is not None and not np.allclose(stated, bounds):
                raise ValueError(
                    f"x_range: its {('lower', 'upper')[j]} ends are {stated.tolist()}, and the problem's x is bounded "
                    f"by {list(bounds)}; state the range in the problem's units"
                )
        check_networks(self, x.shape, None)
        read_weights(self)

    def check(self, problem: "Problem") -> Iterator[Message]:
        """A network takes arrays or vectors."""
        yield from check_shapes(self, problem)
        yield from super().check(problem)
