"""Methods on arrays: one class for each method that is trained, with the code that a study runs.

A model has the same options, training loop and artifact as a method of a study. A model
that the workflow trained loads here, and one that is trained here has the workflow's format.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ValidationError

from pullback import registry
from pullback.api.data import given_ensembles, hold_out, observations
from pullback.core.context import Context
from pullback.core.joblog import progress as bar
from pullback.core.seeding import event_normals, generator
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import ArrayError
from pullback.ensembles.fields import Field, Transform
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.methods.base import PosteriorSamples
from pullback.methods.infer import Sampler, blocks
from pullback.methods.train import checkpoint_folder

log = logging.getLogger("pullback")


OF_A_STUDY = ("families", "parts", "refine")
"""Settings of an inference that need a study: its families, its jobs, its problem's likelihood."""


class NotFittedError(RuntimeError):
    """A model that was not trained or loaded yet."""


class Arrays(NamedTuple):
    """A problem of which only the fields are known."""

    x: Field
    y: Field
    block: int = 1000
    fail: str = "error"


class Trained:
    """Base of the models: options, training, saving and loading.

    Args:
        train: settings of the training loop (``steps``, ``learning_rate``, ``set_size`` ...) as a dict; each may also
            be given as a keyword of its own.
        seed: of the first weights and of all random numbers of the training.
        threads: CPU threads; results are the same bits for the same number.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"`` or ``"gpu"``.
        **options: of the method, as in a study (config/README.md): ``k``, ``network``, ``set_encoder`` ... A network or
            an encoder is a name (``"unet"``) or a dict with its ``kind`` (``{"kind": "mlp", "width": 128}``).

    Attributes:
        spec: all options, checked.
        artifact: the trained model, weights and plain values; None before ``fit``.

    Raises:
        ValueError: an unknown option, or a value that is not allowed.
    """

    group: ClassVar[str] = "methods"
    kind: ClassVar[str]

    def __init__(
        self,
        *,
        train: dict[str, Any] | None = None,
        seed: int = 0,
        threads: int = 1,
        device: str = "auto",
        **options: Any,
    ):
        spec = registry.load(self.group, self.kind)
        loop = [name for name in spec.model_fields["train"].annotation.model_fields if name not in spec.model_fields]
        train = {**(train or {}), **{name: options.pop(name) for name in [*options] if name in loop}}
        for name in ("network", "set_encoder"):
            if isinstance(options.get(name), str):
                options[name] = {"kind": options[name]}
        known = [name for name in spec.model_fields if name not in ("kind", "infer")]
        refuse_unknown(options, [*known, *loop], type(self).__name__)
        values = {"kind": self.kind, **options, **({"train": train} if train else {})}
        self.spec = checked(spec, values, type(self).__name__)
        self.seed, self.threads = seed, threads
        self.device = {"cuda": "gpu"}.get(device, device)
        self.artifact: Any = None

    def fit(
        self,
        ensembles: Any,
        validation: float | Sequence[Any] = 0.1,
        *,
        parameters: Any = None,
        x_names: Sequence[str] | None = None,
        y_names: Sequence[str] | None = None,
        x_transforms: Transform | Sequence[Transform] = "linear",
        y_transforms: Transform | Sequence[Transform] = "linear",
        checkpoints: Path | str | None = None,
        curves: Path | str | None = None,
        progress: bool = True,
    ) -> Self:
        """Train on pairs (x, y).

        Args:
            ensembles: one entry for each prior: ``(x, y)`` or ``(x, y, weight)`` with arrays (event, ...) of numpy or
                torch, the path of an HDF5 ensemble, or what `open_ensemble` gives. ``(event,)`` is one quantity.
            validation: ensembles to choose the best step by, in the same form; or the fraction that is held out for it:
                of the ensembles where there are 20 or more, else of the events of each.
            parameters: (ensemble, parameter), the true parameters of each prior, for ``parameters=True``.
            x_names, y_names: of quantities that are vectors; ``x0``, ``x1`` ... by default. A periodic quantity of x is
                learnt as its difference to that of the same name in y.
            x_transforms, y_transforms: how networks see the quantities, one for all or one for each: ``"linear"``,
                ``"log"``, ``"log1p"``, ``"symlog"``, ``"whole"``, ``"periodic"``, ``"relative"``; then they are
                standardised.
            checkpoints: folder for the state of the training: the same call goes on where an interrupted one ended.
            curves: CSV file of the loss curves.
            progress: whether to show a progress bar.

        Returns:
            The model itself.

        Raises:
            ArrayError, SetsError: data that cannot be trained on.
            TrainingError: the loss is not finite.
        """
        how = {"x": (x_names, x_transforms), "y": (y_names, y_transforms)}
        train = list(given_ensembles(ensembles, "ensemble", how, parameters))
        if isinstance(validation, float | int):
            train, held = hold_out(train, validation, generator("python", "validation", self.seed))
        else:
            held = list(given_ensembles(validation, "validation ensemble", how))
        if self.spec.train.leave_out:
            raise ValueError("leave_out names families of a study: leave their ensembles out instead")
        drawn = generator("python", "bootstrap", self.seed) if self.spec.train.bootstrap else None
        data = TrainingData(train, held, self.spec.memory_mb, drawn)
        spec = self._sized(data.least_members)
        context = self._context(progress, "train", self.seed)
        folder = None
        if checkpoints is not None:
            parts = {"spec": spec.model_dump(mode="json"), "seed": self.seed, "data": data.digests}
            folder = checkpoint_folder(Path(checkpoints), {**parts, "threads": self.threads})
        method = spec.build(Arrays(data.x, data.y), context)
        self.artifact = method.train(data, TrainPaths(curves=Path(curves) if curves else None, checkpoints=folder))
        return self

    def _sized(self, least: int) -> Any:
        """The spec with a size of sets that the smallest ensemble has, where none was asked for."""
        train = self.spec.train
        if "set_size" in train.model_fields_set or least >= train.set_size[1]:
            return self.spec
        low, high = (min(size, least) for size in train.set_size)
        log.info("sets of %d to %d events: the smallest ensemble has %d", low, high, least)
        return self.spec.model_copy(update={"train": train.model_copy(update={"set_size": (low, high)})})

    def _context(self, progress: bool, *address: str | int) -> Context:
        context = Context(("python", self.kind, *address), self.threads, self.device)
        return replace(context, progress=bar) if progress else context

    def _fitted(self) -> Any:
        if self.artifact is None:
            raise NotFittedError(f"this {type(self).__name__} is not trained: call fit, or {type(self).__name__}.load")
        return self.artifact

    def save(self, path: Path | str) -> None:
        """Write the model to a file, in the format of a study's artifacts."""
        from pullback.diffusion.checkpoint import save_artifact

        save_artifact(Path(path), *self._fitted())

    @classmethod
    def load(cls, path: Path | str, *, threads: int = 1, device: str = "auto") -> Self:
        """Read a model that ``save`` or a study wrote; tensors and plain values are read, no code.

        Raises:
            ArtifactError: the file is missing, damaged or foreign.
            ValueError: it holds a model of another kind.
        """
        from pullback.diffusion.checkpoint import load_artifact

        artifact = load_artifact(path)
        values = cls._options(artifact.meta)
        if (kind := values.pop("kind", None)) != cls.kind:
            raise ValueError(f"{path}: holds a model of kind {kind!r}, and {cls.__name__} is '{cls.kind}'")
        model = cls(threads=threads, device=device, **values)
        model.artifact = artifact
        return model

    @classmethod
    def _options(cls, meta: dict[str, Any]) -> dict[str, Any]:
        """The options of the model that an artifact holds, with its kind."""
        return dict(meta.get("spec", {}))

    def __repr__(self) -> str:
        state = "not trained" if self.artifact is None else f"trained, step {self.artifact.meta['kept']['step']} kept"
        return f"<{type(self).__name__}: {state}>"


class Model(Trained):
    """A method that is trained on pairs (x, y) and samples x given observations; options as in `Trained`."""

    @property
    def label(self) -> str:
        """Label of its draws: exact, asymptotic, approximate, or point estimate."""
        return str(self.spec.label)

    def sample(self, y: Any, draws: int | None = None, seed: int = 0, **more: Any) -> np.ndarray:
        """Posterior draws x (event, draw, *x) for observations y, float32, physical units; see `posterior`."""
        return self.posterior(y, draws, seed, **more).x

    def posterior(
        self,
        y: Any,
        draws: int | None = None,
        seed: int = 0,
        *,
        weight: Any = None,
        event_id: Any = None,
        group: Any = None,
        parameters: Any = None,
        progress: bool = False,
        **settings: Any,
    ) -> PosteriorSamples:
        """Posterior draws with log weights and a flag for each draw.

        A method with a set encoder is conditioned on all of y, or on sets of ``set_size`` observations.

        Args:
            y: observations (event, *y), numpy or torch; the path of an HDF5 ensemble or what `open_ensemble` gives.
            draws: number of draws of each event; 32 by default, 1 for point estimates.
            seed: of the draws. An event's random numbers depend on it and on the event's number alone.
            weight: of the events (event,), where the set is weighted.
            event_id: numbers of the events (event,), 0, 1, ... by default.
            group: the unit of ``bootstrap`` of each event (event,).
            parameters: (parameter,), the true parameters of the prior, of a model with ``parameters=True``.
            progress: whether to show a progress bar.
            **settings: of the inference, as in a study: ``set_size``, ``steps``, ``solver``, ``bootstrap`` ...

        Returns:
            x (event, draw, *x) in physical units; log_weight (event, draw); ok (event, draw), False where a draw failed
            and is NaN; diagnostics, medians over sets, of a model with a set encoder ``embedding_distance`` (1 in 20
            sets from the training distribution lies above 1) and others. Models that were trained on ensembles with
            fakes or misses also give purity (event,) or efficiency (event, draw).

        Raises:
            NotFittedError: the model was not trained.
            ArrayError: y has another shape than the observations of the training, or values that are not finite.
        """
        artifact = self._fitted()
        asked = {**settings, **({} if draws is None else {"draws": draws})}
        infer = self._settings(asked)
        x_field, y_field = Scaling.from_dict(artifact.meta["scaling"]).fields()
        ensemble = observations(y, y_field, weight=weight, event_id=event_id, group=group)
        context = self._context(progress, "sample", seed)
        method = self.spec.build(Arrays(x_field, y_field), context).using(infer)
        method.use(artifact)
        if names := artifact.meta.get("parameters"):
            given = [] if parameters is None else np.ravel(parameters).tolist()
            if len(given) != len(names):
                raise ArrayError(f"found {len(given)} parameters of the prior, wanted {len(names)}: {', '.join(names)}")
            method.set_prior_params(dict(zip(names, given, strict=True)))
        events = min(ensemble.n, infer.max_events or ensemble.n)
        work = list(blocks(events, ensemble.n, infer.set_size, method.events_at_once(infer.draws)))
        sampler = Sampler(method, ensemble)
        found = [sampler.sample(block).chunk for block in context.progress(work, len(work), "sample")]
        noticed = {name: float(np.median([*values.values()])) for name, values in sampler.diagnostics.items()}
        arrays = {
            name: np.concatenate([chunk._asdict()[name] for chunk in found])
            for name in ("x", "log_weight", "ok", *method.acceptance)
        }
        return PosteriorSamples(**arrays, diagnostics=noticed)

    def _settings(self, values: dict[str, Any]) -> Any:
        """Settings of an inference, without those that need a study."""
        model, name = type(self.spec.infer_settings({})), f"{type(self).__name__}.sample"
        refuse_unknown(values, [key for key in model.model_fields if key not in OF_A_STUDY], name)
        return checked(model, values, name)


class EIFM(Model):
    """Ensemble-inverse flow matching: q(x | y, e(Y)), e a permutation-invariant embedding of all observations."""

    kind = "ei-fm"


class EIDDPM(Model):
    """Ensemble-inverse DDPM; with ``set_encoder="moments"`` it is GDDPM (arXiv 2406.01507)."""

    kind = "ei-ddpm"


class CFM(Model):
    """Conditional flow matching: q(x | y), one model of the union of the priors."""

    kind = "cfm"


class CDDPM(Model):
    """Conditional DDPM: q(x | y), one model of the union of the priors."""

    kind = "cddpm"


class Regression(Model):
    """The direct learned inverse, a point estimate: a network from y to x."""

    kind = "regression"


class VelocityGAN(Model):
    """VelocityGAN (Zhang and Lin 2020), a point estimate: a direct inverse trained against a critic."""

    kind = "velocity-gan"


class HVAE(Model):
    """Hierarchical variational autoencoder (Neural Statistician), with latents of the set and of the event."""

    kind = "hvae"


class DiffusionPrior(Trained):
    """A diffusion prior p(x) with EDM preconditioning (Karras et al. 2022), as guided methods of a study use it."""

    group = "priors"
    kind = "edm"

    def fit(self, ensembles: Any, validation: float | Sequence[Any] = 0.1, **more: Any) -> Self:
        """Train on truths.

        Args:
            ensembles: x (event, *x), a list of such arrays, or HDF5 ensembles.
            validation: as in `Trained.fit`, with arrays of x in place of pairs.
            **more: `Trained.fit`: ``x_names``, ``x_transforms``, ``checkpoints``, ``curves``, ``progress``.
        """
        held = validation if isinstance(validation, float | int) else _without_observations(validation)
        return super().fit(_without_observations(ensembles), held, **more)

    def sample(self, draws: int, seed: int = 0, levels: int = 20) -> np.ndarray:
        """Draws x (draw, *x) in physical units, by Euler steps of the probability-flow ODE over ``levels`` levels."""
        import torch

        from pullback.diffusion.numerics import numerics, pick_device
        from pullback.diffusion.sampler import Euler
        from pullback.methods.guided.base import in_batches

        denoiser, scaling = self.denoiser()
        schedule, device = denoiser.schedule, pick_device(self.device)
        address = self._context(False, "sample", seed).address
        noise = torch.from_numpy(event_normals(address, np.arange(draws), scaling.x_shape)).to(device)
        with torch.no_grad(), numerics(self.threads, device.type == "cuda"):
            times = schedule.times(levels)
            found = [Euler(denoiser)(schedule.sigma_max * some, times) for some in in_batches(noise)]
        return scaling.decode_x(torch.cat(found).cpu().numpy(), np.zeros((draws, 1)))

    def denoiser(self) -> tuple[Any, Scaling]:
        """E[x_0 | x_t] as a `pullback.diffusion.denoiser.Denoiser`, differentiable in x_t, and the scaling of x."""
        from pullback.methods.guided.priors import load_prior

        return load_prior(self._fitted(), self.device)

    @classmethod
    def _options(cls, meta: dict[str, Any]) -> dict[str, Any]:
        kind = {"diffusion-prior": cls.kind}.get(meta.get("kind", ""))
        return {"kind": kind} | {name: meta[name] for name in ("network", "sigma_min", "sigma_max") if name in meta}


def _without_observations(given: Any) -> list[Any]:
    """Pairs of truths and an observation that says nothing: training looks at x alone."""
    given = [given] if hasattr(given, "ndim") or isinstance(given, str | Path) else given
    return [(x, np.zeros(len(x))) if hasattr(x, "ndim") else x for x in given]


def refuse_unknown(values: Iterable[str], known: Sequence[str], what: str) -> None:
    """Raise ValueError for a name that there is not, with the nearest that there is."""
    for name in values:
        if name not in known:
            hint = registry.did_you_mean(name, known) or "."
            raise ValueError(f"{what}: there is no option '{name}'{hint} There are {', '.join(known)}.")


def checked(model: type[BaseModel], values: dict[str, Any], what: str) -> Any:
    """The model of these values, or a ValueError with one line."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = {
            f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors()
        }
        raise ValueError(f"{what}: {'; '.join(sorted(found))}") from None
