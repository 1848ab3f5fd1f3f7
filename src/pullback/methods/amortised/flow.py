"""Flow-matching posteriors: one model of p(x | y, context), trained once on pairs of the seen families.

With x_t = (1 - t) x_0 + t x, x_0 ~ N(0, I), t ~ U[0, 1], the network v(x_t, t, y, e) regresses on x - x_0 (Lipman et
al. 2023, arXiv 2210.02747, eq. 23 with sigma_min = 0); integrating dx/dt = v from noise at t = 0 gives draws at t = 1.
The context e is

- nothing (``cfm``): the posterior under the mixture of the seen priors;
- the embedding of the set Y that y is a member of (``ei-fm``, arXiv 2601.22029): only the prior differs between
  training ensembles, so what e can tell the network is the prior, also one that it was not trained on.

Targets are members of their own set, in training and in inference. Each step encodes a set once and uses some or all of
its members as targets; members are in random order, so the first ones are a random choice.
"""

import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader
from pullback.generative import flow
from pullback.generative.checkpoint import load_artifact
from pullback.generative.numerics import numerics, pick_device
from pullback.generative.share import Noise
from pullback.methods.base import Chunk, Method, TrainJob
from pullback.networks.build import build_network, build_set_encoder
from pullback.seeding import event_normals, generator, integer_seed
from pullback.study.methods import Cfm, EiFm, FlowInfer, Infer

log = logging.getLogger("pullback")

SCALING_EVENTS = 50_000
MAX_MEMBERS = 200_000
MAX_VALUES = 50_000_000
"""A conditioning set above either size (members, numbers in its observations) is represented by some of its members."""

VECTOR_ROWS = 4096
ARRAY_ROWS = 128
"""Rows (events x draws) that the network computes together, for x that is a vector or an array."""


class FlowError(ValueError):
    """A model that does not fit what is asked of it."""


class FlowNet(nn.Module):
    """Velocity network and, for EI-FM, the set encoder: one module, trained together."""

    def __init__(self, spec: Cfm | EiFm, scaling: Scaling):
        super().__init__()
        k = spec.k if isinstance(spec, EiFm) else 0
        self.velocity = build_network(spec.network, scaling.x_shape, scaling.y_shape, k)
        self.encoder = build_set_encoder(spec.set_encoder, scaling.y_shape, k) if isinstance(spec, EiFm) else None

    def embed(self, y: Tensor, mask: Tensor) -> Tensor | None:
        """Embeddings (set, k) of sets y (set, member, *y) with mask (set, member); None without an encoder."""
        return None if self.encoder is None else self.encoder(y, mask)


class FlowState(NamedTuple):
    """One conditioning set.

    Attributes:
        embedding: (1, k), or None for a model without an encoder.
        size: members of the set.
    """

    embedding: Tensor | None
    size: int


def flow_loss(model: FlowNet, sets: dict[str, Tensor], noise: Noise, targets: int | None) -> tuple[Tensor, Tensor]:
    """Flow-matching loss of the first ``targets`` members of each set (all when None), given the whole set.

    Returns:
        The sum over members and their number.
    """
    context = model.embed(sets["y"], sets["mask"])
    chosen = {name: sets[name][:, :targets] for name in ("x", "y", "mask")}
    start, t = noise.normal(chosen["x"].shape), noise.uniform(chosen["mask"].shape)
    x, y, mask = (value.flatten(0, 1) for value in chosen.values())
    t = t.flatten()
    x_t, target = flow.interpolate(start.flatten(0, 1), x, t)
    error = (model.velocity(x_t, t, y, context) - target).square().flatten(1).mean(dim=1)
    return (error * mask).sum(), mask.sum()


class FlowModel(Method[FlowState]):
    """cFM and EI-FM: path flow matching x context (nothing, set transformer) x network (MLP, U-Net)."""

    spec: Cfm | EiFm

    def train(self, data: TrainingData, job: TrainJob) -> None:
        """Fit the scaling and the networks on the seen families and write the artifact."""
        from pullback.generative.loop import fit

        address = self.context.address
        sample = data.sample_for_scaling(SCALING_EVENTS, generator(*address, "scaling"))
        scaling = Scaling.fit(data.x, data.y, *sample)
        model = self._build(scaling)
        settings = self.spec.train

        def loss(model: FlowNet, sets: dict[str, Tensor], noise: Noise) -> tuple[Tensor, Tensor]:
            return flow_loss(model, sets, noise, settings.targets)

        meta = {
            "spec": self.spec.model_dump(mode="json", exclude={"infer"}),
            "label": self.spec.returns,
            "scaling": scaling.to_dict(),
            "set_size": list(settings.set_size),
            "trained_on": data.digests,
        }
        fit(model, loss, data, settings, job, self.context, meta, lambda kept: self._training_embeddings(kept, data))

    def _build(self, scaling: Scaling) -> FlowNet:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(*self.context.address, "weights"))
            return FlowNet(self.spec, scaling)

    def _training_embeddings(self, model: FlowNet, data: TrainingData) -> dict[str, Any]:
        """Embeddings of sets of the seen families (set, k): what a new set's embedding is compared with."""
        if model.encoder is None:
            return {}
        batch, batches = 8, 64 if len(data.y.shape) == 1 else 8
        device = next(model.parameters()).device
        found = []
        for i in range(batches):
            sets = data.sets(generator(*self.context.address, "embedding", i), batch, self.spec.train.set_size)
            y, mask = (torch.from_numpy(array).to(device) for array in (sets.y, sets.mask))
            found.append(model.encoder(y, mask).float().cpu())
        return {"embeddings": torch.cat(found)}

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """Read the trained model.

        Raises:
            ArtifactError: the file is missing, damaged or foreign.
            FlowError: it holds another model than the study asks for.
        """
        assert artifact is not None
        weights, meta = load_artifact(artifact)
        wanted = self.spec.model_dump(mode="json", exclude={"infer", "train"})
        found = {key: value for key, value in meta.get("spec", {}).items() if key != "train"}
        if found != wanted:
            raise FlowError(f"{artifact}: holds the model {found}, wanted {wanted}; train it again")
        self.scaling = Scaling.from_dict(meta["scaling"])
        self.trained_sizes = tuple(meta["set_size"])
        self.training_embeddings: Tensor | None = meta.get("embeddings")
        self.device = pick_device(self.context.accelerator)
        self.model = self._build(self.scaling)
        self.model.load_state_dict(weights)
        self.model.to(self.device).eval()

    @torch.no_grad()
    def condition(self, ensemble: EnsembleReader, infer: Infer) -> FlowState:
        """Embed a set of observations.

        A set above MAX_MEMBERS or MAX_VALUES is represented by that many members, chosen at random by address.
        """
        if self.model.encoder is None:
            return FlowState(None, ensemble.n)
        most = min(MAX_MEMBERS, max(1, MAX_VALUES // math.prod(self.scaling.y_shape)))
        chosen = np.arange(ensemble.n)
        if ensemble.n > most:
            log.warning("a set of %d members is represented by %d of them, chosen at random", ensemble.n, most)
            chosen = np.sort(generator(*self.context.address, "members").choice(ensemble.n, most, replace=False))
        # Read in pieces: what is held at once is the chosen members and one piece.
        pieces = []
        for first in range(0, ensemble.n, max(1, most // 4)):
            last = min(first + max(1, most // 4), ensemble.n)
            y = ensemble.read("y", first, last)
            pieces.append(self.scaling.encode_y(y[chosen[(chosen >= first) & (chosen < last)] - first]))
        members = torch.from_numpy(np.concatenate(pieces))[None].to(self.device)
        with numerics(self.context.threads, self.device.type == "cuda"):
            mask = torch.ones(members.shape[:2], dtype=torch.bool, device=self.device)
            return FlowState(self.model.embed(members, mask), ensemble.n)

    @torch.no_grad()
    def draw(self, state: FlowState, y: np.ndarray, event_id: np.ndarray, infer: Infer) -> Chunk:
        """Draws x (event, draw, *x); each event's noise is addressed by its id."""
        assert isinstance(infer, FlowInfer)
        address = (*self.context.address, "draw")
        noise = event_normals(address, event_id, (infer.draws, *self.scaling.x_shape))
        seen = self.scaling.encode_y(y)
        # A fixed cut of each block of events: which rows are computed together changes the last bits.
        step = max(1, (VECTOR_ROWS if len(self.scaling.x_shape) == 1 else ARRAY_ROWS) // infer.draws)
        pieces = []
        with numerics(self.context.threads, self.device.type == "cuda"):
            for i in range(0, len(y), step):
                some = slice(i, i + step)
                z = self._solve(noise[some], seen[some], state.embedding, infer)
                pieces.append(z.reshape(-1, infer.draws, *self.scaling.x_shape))
        x = self.scaling.decode_x(np.concatenate(pieces), y[:, None])
        return Chunk(x, np.zeros(x.shape[:2]), np.ones(x.shape[:2], dtype=bool))

    def _solve(self, noise: np.ndarray, seen: np.ndarray, context: Tensor | None, infer: FlowInfer) -> np.ndarray:
        """Integrate the flow: noise (event, draw, *x), observations (event, *y) -> (event * draw, *x)."""
        start = torch.from_numpy(noise).flatten(0, 1).to(self.device)
        y = torch.from_numpy(seen).to(self.device)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            self.cost.network_calls += len(x)
            return self.model.velocity(x, t, y, context)

        return flow.SOLVERS[infer.solver](velocity, start, infer.steps).float().cpu().numpy()

    def diagnostics(self, state: FlowState) -> dict[str, float]:
        """How far a set is from what was trained on, for a model with a set encoder.

        ``embedding_distance``: of the set's embedding to the nearest of training sets, in units of the 95 % quantile of
        the same distance among the training sets; above 1 the set is unlike all of them. ``set_size``: its members;
        ``set_size_outside``: 1 when that is outside the range of sizes in training, else 0.
        """
        if state.embedding is None or self.training_embeddings is None:
            return {}
        low, high = self.trained_sizes
        outside = not low <= state.size <= high
        if outside:
            log.warning("a set of %d members; trained on sets of %d to %d", state.size, low, high)
        return {
            "embedding_distance": embedding_distance(state.embedding[0].float().cpu(), self.training_embeddings),
            "set_size": float(state.size),
            "set_size_outside": float(outside),
        }


def embedding_distance(embedding: Tensor, training: Tensor) -> float:
    """Distance of an embedding (k,) to the nearest training one (set, k), relative to distances among these.

    Coordinates are in units of the training sets' standard deviation. The unit is the 95 % quantile of the leave-one-
    out nearest-neighbour distance among the training sets.
    """
    spread = training.std(dim=0).clamp_min(1e-6)
    scaled = training / spread
    own = (scaled[:, None] - scaled).norm(dim=-1)
    own.fill_diagonal_(math.inf)
    unit = torch.quantile(own.min(dim=1).values, 0.95)
    return float((embedding / spread - scaled).norm(dim=-1).min() / unit)
