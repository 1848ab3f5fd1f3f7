"""Amortised posteriors: one model of p(x | y, context), trained once on pairs of the seen families.

A model is a path (flow matching, DDPM, none; `paths`) x a context e beside y x a network. The context is

- nothing (``cfm``, ``cddpm``, ``regression``): the posterior under the mixture of the seen priors;
- the true parameters of the prior (the same kinds with ``parameters: true``): an ideal set encoder;
- the embedding of the set Y that y is a member of (``ei-fm``, ``ei-ddpm``; arXiv 2601.22029): only the prior differs
    between training ensembles, so e encodes the prior and can generalise to unseen ones. The set encoder is a Set
    Transformer, a mean over encoded members, or moments (GDDPM, arXiv 2406.01507).

Each event is a member of the set that it is conditioned on, in training and in inference. A training step encodes a set
once and uses some or all of its members as targets; members are in random order, so the first ones are a random choice.
Event weights enter the averages over the set and the loss. Fakes are members of the set and of no loss of x; purity and
efficiency are learnt beside the posterior (`acceptance`).
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pullback.core.seeding import event_normals, generator, integer_seed
from pullback.diffusion.checkpoint import Artifact, load_artifact
from pullback.diffusion.numerics import numerics, pick_device, seeded
from pullback.diffusion.share import Noise
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import Ensemble as Observations
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.methods.amortised import conditioning
from pullback.methods.amortised.acceptance import Efficiency, fit_efficiency
from pullback.methods.amortised.conditional_net import ConditionalNet, path_loss
from pullback.methods.amortised.paths import Path as NoisePath
from pullback.methods.amortised.paths import make_path
from pullback.methods.amortised.spec import Amortised, AmortisedInfer, ParameterContext, RegressionSpec
from pullback.methods.base import Acceptance, Method, PosteriorSamples

log = logging.getLogger("pullback")


VECTOR_ROWS = 4096
ARRAY_ROWS = 128
"""Rows (events x draws) that the network computes together, for x that is a vector or an array."""


class ModelError(ValueError):
    """The model does not match the study or the family."""


class ModelState(NamedTuple):
    """One conditioning set.

    Attributes:
        context: (resample, k), or None for a model without a context; one row where the set is not resampled.
        size: members of the set.
        signature: (1, k + 2 features) of the original set (`conditioning.signature`), for a model with an encoder.
        resamples: of the set; None where it is not resampled.
    """

    context: Tensor | None
    size: int
    signature: Tensor | None = None
    resamples: conditioning.Resamples | None = None


class AmortisedModel(Method[ModelState]):
    """The amortised methods cFM, cDDPM, EI-FM, EI-DDPM, GDDPM and regression (see the module)."""

    spec: Amortised
    settings: AmortisedInfer
    with_purity: bool = False

    def train(self, data: TrainingData, job: TrainPaths) -> Artifact:
        """Fit the scaling and the networks on the seen families; write the artifact where ``job`` says so."""
        from pullback.diffusion.loop import fit

        address = self.context.address
        self.scaling = scaling = data.fit_scaling(generator(*address, "scaling"))
        told = data.parameters() if isinstance(self.spec, ParameterContext) and self.spec.parameters else None
        theta = None
        if told is not None:
            spread = told.values.std(axis=0)
            theta = np.stack([told.values.mean(axis=0), np.where(spread > 0, spread, 1.0)])
        self.with_purity = data.has_fakes and len(data.y.shape) == 1
        model = self._build(scaling, theta)
        settings = self.spec.train
        meta = {
            "spec": self.spec.model_dump(mode="json", exclude={"infer"}),
            "label": self.spec.returns,
            "scaling": scaling.to_dict(),
            "set_size": list(settings.set_size),
            "parameters": [] if told is None else told.names,
            "trained_on": data.digests,
            "purity": self.with_purity,
        }
        return fit(
            model,
            self._loss(),
            data,
            settings,
            job,
            self.context,
            meta,
            lambda kept: self._training_signatures(kept, data) | self._efficiency(data),
            self.least_loss(scaling),
        )

    def least_loss(self, scaling: Scaling) -> float:
        """A bound below which the loss of no member lies: that of squares."""
        return 0.0

    def _make_path(self) -> NoisePath:
        """The path, once the scaling is known."""
        return make_path(self.spec)

    def _loss(self) -> Callable[[Any, dict[str, Tensor], Noise], tuple[Tensor, Tensor]]:
        path, targets = self._make_path(), self.spec.train.loss_members
        absolute = isinstance(self.spec, RegressionSpec) and self.spec.loss == "l1-l2"

        def loss(model: ConditionalNet, sets: dict[str, Tensor], noise: Noise) -> tuple[Tensor, Tensor]:
            return path_loss(model, path, sets, noise, targets, absolute)

        return loss

    def _build(self, scaling: Scaling, theta: np.ndarray | None) -> ConditionalNet:
        with seeded(integer_seed(*self.context.address, "weights")):
            return self._network(scaling, theta)

    def _network(self, scaling: Scaling, theta: np.ndarray | None) -> ConditionalNet:
        return ConditionalNet(self.spec, scaling.x_shape, scaling.y_shape, theta, self.with_purity)

    def _efficiency(self, data: TrainingData) -> dict[str, Any]:
        """The efficiency as a part of the artifact; nothing where no misses are recorded."""
        found = fit_efficiency(data, self.context.address, self.context.threads)
        return {} if found is None else {"efficiency": found.pack()}

    def _training_signatures(self, model: ConditionalNet, data: TrainingData) -> dict[str, Any]:
        """Signatures of sets of the seen families (set, k + 2 features): what a new set's is compared with."""
        if model.encoder is None:
            return {}
        batch, batches = 8, 64 if len(data.y.shape) == 1 else 8
        # Sets that are whole ensembles are copies of each other: their distance would be that of rounding.
        whole = data.least_members <= self.spec.train.set_size[1]
        device = next(model.parameters()).device
        found = []
        for i in range(batches):
            rng = generator(*self.context.address, "embedding", i)
            drawn = data.sets(rng, batch, self.spec.train.set_size)
            sets = (drawn.resampled(rng) if whole else drawn).tensors(device)
            context = model.context(sets)
            assert context is not None
            found.append(conditioning.signature(context, sets["y"], sets["mask"], sets.get("weight")))
        return {"signatures": torch.cat(found)}

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """Read the trained model.

        Raises:
            ArtifactError: the file is missing, damaged or foreign.
            ModelError: it holds another model than the study asks for.
        """
        assert artifact is not None
        model = load_artifact(artifact)
        wanted = self.spec.model_dump(mode="json", exclude={"infer", "train"})
        found = {key: value for key, value in model.meta.get("spec", {}).items() if key != "train"}
        if found != wanted:
            raise ModelError(f"{artifact}: holds the model {found}, wanted {wanted}; train it again")
        self.use(model)

    def use(self, artifact: Artifact) -> None:
        """Use this trained model for inference."""
        weights, meta = artifact
        self.scaling = Scaling.from_dict(meta["scaling"])
        self.trained_sizes = tuple(meta["set_size"])
        self.parameters: list[str] = meta["parameters"]
        self.training_signatures: Tensor | None = meta.get("signatures")
        self.device = pick_device(self.context.accelerator)
        self.path = self._make_path()
        self.with_purity = meta.get("purity", False)
        self.efficiency = Efficiency.unpack(meta["efficiency"]) if "efficiency" in meta else None
        # Values come with the weights; here only their number counts.
        self.model = self._build(self.scaling, np.ones((2, len(self.parameters))) if self.parameters else None)
        self.model.load_state_dict(weights)
        self.model.to(self.device).eval()
        known: tuple[tuple[Acceptance, bool], ...] = (
            ("purity", getattr(self.model, "purity", None) is not None),
            ("efficiency", self.efficiency is not None),
        )
        self.acceptance = tuple(name for name, there in known if there)

    def set_prior_params(self, params: dict[str, Any]) -> None:
        """The true parameters of the family's prior.

        Raises:
            ModelError: the family does not state one of those that were trained on.
        """
        if missing := [name for name in self.parameters if name not in params]:
            raise ModelError(
                f"the family's params do not state {', '.join(missing)}, on which the model was "
                "conditioned in training: add them"
            )
        self.theta = np.array([[float(params[name]) for name in self.parameters]], np.float32)

    @torch.no_grad()
    def condition(self, ensemble: Observations, workdir: Path | None = None) -> ModelState:
        """Embed a set of observations, or its bootstrap resamples; or use the given parameters of the prior."""
        if self.model.encoder is None:
            context = None
            if self.model.theta is not None:
                context = self.model.context({"theta": torch.from_numpy(self.theta).to(self.device)})
            return ModelState(context, ensemble.n)
        address = self.context.address
        own = conditioning.read_members(ensemble, self.scaling, generator(*address, "members"))
        least = self.settings.duplicate_to or 0
        members = conditioning.repeated(own, least)
        first = int(ensemble.read("event_id", 0, 1)[0])
        sets, resamples = iter([members]), None
        if self.settings.bootstrap:
            rngs = [generator(*address, "bootstrap", first, i) for i in range(self.settings.bootstrap)]
            resamples, times = conditioning.bootstrap(ensemble, rngs)
            # One at a time: together they would be as many copies of the set.
            drawn = (own.take(np.repeat(np.arange(len(own.y)), each[own.rows])) for each in times.T)
            sets = (conditioning.repeated(one, least) for one in drawn)
        with numerics(self.context.threads, self.device.type == "cuda"):
            context = torch.cat([self._embed(one) for one in sets])
            y = torch.from_numpy(members.y)[None]
            mask = torch.ones(y.shape[:2], dtype=torch.bool)
            weight = None if members.weight is None else torch.from_numpy(members.weight)[None]
            signature = conditioning.signature(context.mean(dim=0, keepdim=True).cpu(), y, mask, weight)
        return ModelState(context, max(len(members.y), ensemble.n), signature, resamples)

    @property
    def resamples(self) -> int:
        """Resamples of the conditioning set that draws differ by; of more of them than draws the first ones."""
        return 0 if self.model.encoder is None else min(self.settings.bootstrap, self.settings.draws)

    def pack(self, state: ModelState) -> dict[str, Any]:
        """The embedding and the signature as arrays."""
        tensors = {"context": state.context, "signature": state.signature}
        arrays = {k: None if t is None else t.cpu().numpy() for k, t in tensors.items()}
        return {"size": state.size, **arrays, **(state.resamples._asdict() if state.resamples else {})}

    def unpack(self, packed: dict[str, Any]) -> ModelState:
        """The inverse of `pack`."""
        context, signature = (
            None if packed[k] is None else torch.from_numpy(packed[k]) for k in ("context", "signature")
        )
        resamples = conditioning.Resamples(packed["event_id"], packed["times"]) if "times" in packed else None
        return ModelState(None if context is None else context.to(self.device), packed["size"], signature, resamples)

    def _embed(self, members: conditioning.Members) -> Tensor:
        """The embedding of one set, (1, k)."""
        sets = {"y": torch.from_numpy(members.y)[None].to(self.device)}
        sets["mask"] = torch.ones(sets["y"].shape[:2], dtype=torch.bool, device=self.device)
        if members.weight is not None:
            sets["weight"] = torch.from_numpy(members.weight)[None].to(self.device)
        context = self.model.context(sets)
        assert context is not None
        return context

    @torch.no_grad()
    def sample(self, state: ModelState, y: np.ndarray, event_id: np.ndarray) -> PosteriorSamples:
        """Draws x (event, draw, *x); each event's noise is addressed by its id."""
        contexts = self._contexts(state)
        noise = event_normals((*self.context.address, "draw"), event_id, (self.settings.draws, *self.scaling.x_shape))
        seen = self.scaling.encode_y(y)
        out = np.empty_like(noise)
        with numerics(self.context.threads, self.device.type == "cuda"):
            for i, context in enumerate(contexts):
                some = slice(i, None, len(contexts))
                out[:, some] = self._draw(context, noise[:, some], seen, event_id, i)
        x = self.scaling.decode_x(out, y[:, None])
        purity, efficiency = self.purity_of(state, y), self.efficiency_of(x)
        ok = np.ones(x.shape[:2], dtype=bool)
        times = state.resamples.of(event_id)[:, : self.resamples] if state.resamples else None
        return PosteriorSamples(x, np.zeros(x.shape[:2]), ok, purity=purity, efficiency=efficiency, times=times)

    def _contexts(self, state: ModelState) -> list[Tensor | None]:
        """The contexts that draws take turns with."""
        return [None] if state.context is None else list(state.context.split(1))[: self.settings.draws]

    @torch.no_grad()
    def purity_of(self, state: ModelState, y: np.ndarray) -> np.ndarray | None:
        """P(the observation has a truth | y) (event,), the mean over resamples of the set; None where no fakes were."""
        if "purity" not in self.acceptance:
            return None
        assert self.model.purity is not None
        with numerics(self.context.threads, self.device.type == "cuda"):
            seen = torch.from_numpy(self.scaling.encode_y(y))[None].to(self.device)
            found = [torch.sigmoid(self.model.purity(seen, context)[0].double()) for context in self._contexts(state)]
            return torch.stack(found).mean(dim=0).cpu().numpy()

    def efficiency_of(self, x: np.ndarray) -> np.ndarray | None:
        """P(the truth is recorded | x) (...,) of truths x (..., *x); None where no misses were."""
        return None if self.efficiency is None else self.efficiency.of(x)

    def _draw(
        self, context: Tensor | None, noise: np.ndarray, seen: np.ndarray, event_id: np.ndarray, part: int
    ) -> np.ndarray:
        """Draws as the network sees them (event, draw, *x) from noise of that shape, under one context."""
        draws = noise.shape[1]
        # A fixed cut of each block of events: which rows are computed together changes the last bits.
        step = max(1, (VECTOR_ROWS if len(self.scaling.x_shape) == 1 else ARRAY_ROWS) // max(1, draws))
        pieces = []
        for i in range(0, len(noise), step):
            start = torch.from_numpy(noise[i : i + step]).flatten(0, 1).to(self.device)
            y = torch.from_numpy(seen[i : i + step]).to(self.device)
            ids = event_id[i : i + step]

            def predict(x: Tensor, t: Tensor, y: Tensor = y) -> Tensor:
                self.cost.network_calls += len(x)
                return self.model.network(x, t, y, context)

            def normals(number: int, ids: np.ndarray = ids) -> Tensor:
                address = (*self.context.address, "step", part, number)
                fresh = event_normals(address, ids, (draws, *self.scaling.x_shape))
                return torch.from_numpy(fresh).flatten(0, 1).to(self.device)

            z = self.path.sample(predict, start, y, self.settings, normals).float().cpu().numpy()
            pieces.append(z.reshape(-1, draws, *self.scaling.x_shape))
        return np.concatenate(pieces)

    def diagnostics(self, state: ModelState) -> dict[str, float]:
        """Distance of a set from the training sets, for a model with a set encoder.

        ``embedding_distance``: of the set's signature (its embedding, the mean over resamples, and the mean and
        standard deviation of its members) to the nearest of training sets, in units of the 95 % quantile of the same
        distance among the training sets; 1 in 20 sets from the training distribution lies above 1. Event weights count
        in all of these. Left out where the training sets are too few for that quantile.
        ``set_size``: its members;
        ``set_size_outside``: 1 when that is outside the range of sizes in training, else 0.
        """
        if state.signature is None or self.training_signatures is None:
            return {}
        low, high = self.trained_sizes
        outside = not low <= state.size <= high
        if outside:
            log.warning("a set of %d members; trained on sets of %d to %d", state.size, low, high)
        distance = conditioning.distance_to_training(state.signature[0], self.training_signatures)
        return {
            **({} if distance is None else {"embedding_distance": distance}),
            "set_size": float(state.size),
            "set_size_outside": float(outside),
        }
