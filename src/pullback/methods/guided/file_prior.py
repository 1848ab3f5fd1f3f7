"""A diffusion prior whose network was trained elsewhere: a file of weights, and what its network predicts of what."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from pullback.diffusion.checkpoint import Artifact
from pullback.diffusion.denoiser import Denoiser, EdmDenoiser, NetworkDenoiser, Rescaled
from pullback.diffusion.schedule import DdpmTable, FlowMatching, Schedule, VarianceExploding, VariancePreserving
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.methods.guided.file_spec import FilePriorSpec, LinearSchedule, NoiseSchedule, TableSchedule
from pullback.methods.guided.priors import DiffusionPrior, PriorError
from pullback.networks.build import build_network
from pullback.networks.settings import Network
from pullback.study.base import outside_path

NAMED = 3
"""Names of weights that a message lists."""


class FilePrior(DiffusionPrior):
    """The weights of a file, checked and described; nothing is trained."""

    spec: FilePriorSpec

    def train(self, data: TrainingData | None, job: TrainPaths) -> Artifact:
        """Read the file, compare it with what the study says of it, and write the artifact.

        Raises:
            PriorError: the file is missing, another one, no weights by name, or weights of another network; or it is a
                prior of another x.
        """
        spec, x = self.spec, self.problem.x
        try:
            spec.check_fields(x, self.problem.y)
        except ValueError as error:
            raise PriorError(str(error)) from None
        low, high = spec.network_range
        std = [(top - bottom) / (high - low) for bottom, top in spec.ranges]
        mean = [bottom - low * each for (bottom, _), each in zip(spec.ranges, std, strict=True)]
        scaling = Scaling.affine(x, self.problem.y, mean, std)
        meta = {
            **self.describe(x, scaling),
            **spec.model_dump(mode="json", include={"network", "prediction", "schedule", "time_factor", "sigma_data"}),
            **spec.model_dump(mode="json", include={"path", "sha256", "licence"}),
        }
        return job.write(read_weights(spec), meta)

    @staticmethod
    def denoiser(weights: dict[str, Tensor], meta: dict[str, Any]) -> Denoiser:
        """See `DiffusionPrior`."""
        settings: Network = TypeAdapter(Network).validate_python(meta["network"])
        network = build_network(settings, tuple(meta["x_shape"]), None, 0)
        network.load_state_dict(weights)
        network = network.to(next(iter(weights.values())).device).eval().requires_grad_(False)
        levels = meta["sigma_min"], meta["sigma_max"]
        if meta["prediction"] == "edm":
            return EdmDenoiser(network, VarianceExploding(*levels), meta["sigma_data"])
        inner = NetworkDenoiser(_OfTime(network, meta["time_factor"]), _schedule(meta["schedule"]), meta["prediction"])
        return Rescaled(inner, *levels)


class _OfTime:
    """A network of x and of a factor times t, t one for all rows or one for each."""

    def __init__(self, network: nn.Module, factor: float):
        self.network, self.factor = network, factor

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        found: Tensor = self.network(x, (self.factor * t).expand(len(x)), None, None)
        return found


def _schedule(values: dict[str, Any]) -> Schedule:
    settings: NoiseSchedule = TypeAdapter(NoiseSchedule).validate_python(values)
    if isinstance(settings, LinearSchedule):
        return VariancePreserving(settings.beta_min, settings.beta_max)
    if isinstance(settings, TableSchedule):
        return DdpmTable(settings.table)
    return FlowMatching() if settings.kind == "flow" else VarianceExploding()


def read_weights(spec: FilePriorSpec) -> dict[str, Tensor]:
    """The weights by name of the file that a study names.

    Raises:
        PriorError: the file is missing, another one, no weights by name, or weights of another network.
    """
    weights = _read(Path(outside_path(spec.path)), spec.sha256)
    with torch.device("meta"):
        wanted = build_network(spec.network, tuple(spec.x_shape), None, 0).state_dict()
    _compare(spec.path, weights, wanted)
    return weights


def _read(path: Path, sha256: str) -> dict[str, Tensor]:
    """The weights of a file, which can hold no code: ``weights_only=True``."""
    if not path.exists():
        raise PriorError(f"{path}: there is no such file; correct `path` of the prior, or the variable in it")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise PriorError(
            f"{path}: has the SHA-256 {found}, wanted {sha256}; it is another file than the study was written for: get "
            "that one, or correct `sha256` of the prior once you know what this one is"
        )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a foreign file
        raise PriorError(
            f"{path}: cannot be read as weights alone ({type(error).__name__}); TorchScript and pickled models may "
            "run code and are not read: save the network's state dict, torch.save(network.state_dict(), path)"
        ) from None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()) or not weights:
        raise PriorError(f"{path}: holds no weights by name; save the network's state dict, and nothing beside it")
    return weights


def _compare(path: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Raise PriorError unless names and shapes of weights are those of the network."""
    missing, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or more:
        raise PriorError(
            f"{path}: weights of another network than `network` says: {len(missing)} names are missing "
            f"({', '.join(missing[:NAMED])}), {len(more)} are too many ({', '.join(more[:NAMED])})"
        )
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            raise PriorError(
                f"{path}: '{name}' has shape {tuple(found[name].shape)}, wanted {tuple(value.shape)}: correct the size "
                "in `network`"
            )
        if not found[name].isfinite().all():
            raise PriorError(f"{path}: '{name}' has values that are not finite")
