"""Methods on arrays: one class for each method that is trained, with the code that a study runs.

A model is what a study makes of a method's block: the same options, the same training loop, the same artifact. A model
that the workflow trained loads here, and one that is trained here has the workflow's format.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ValidationError

from pullback import registry
from pullback.api.files import Ensemble as EnsembleFile
from pullback.core.joblog import progress as bar
from pullback.core.seeding import generator
from pullback.ensembles.arrays import ArrayEnsemble, ArrayError, Ensemble, as_events, field_of
from pullback.ensembles.fields import Field, Transform
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.store import EnsembleReader
from pullback.methods.base import Context, PosteriorSamples, TrainPaths
from pullback.methods.infer import Sampler, pieces
from pullback.methods.train import checkpoint_folder

log = logging.getLogger("pullback")

ENSEMBLES_TO_SPARE = 20
"""From as many on, whole ensembles are held out for validation; of fewer, some events of each."""


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


class Model:
    """A method that is trained on pairs.

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
        ValueError: an option that there is not, or a value that it cannot take.
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
                ``"log"``, ``"log1p"``, ``"symlog"``, ``"periodic"``; then they are standardised.
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
        train = list(_ensembles(ensembles, "ensemble", how, parameters))
        if isinstance(validation, float | int):
            train, held = hold_out(train, validation, generator("python", "validation", self.seed))
        else:
            held = list(_ensembles(validation, "validation ensemble", how))
        data = TrainingData(train, held, self.spec.train.memory_mb)
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

    @property
    def label(self) -> str:
        """What its draws are: exact, asymptotic, approximate, or a point estimate."""
        return str(self.spec.returns)

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
        """Posterior draws with their log weights and which failed.

        A method that looks at the set of observations is conditioned on all of y, or on blocks of ``set_size``.

        Args:
            y: observations (event, *y), numpy or torch; the path of an HDF5 ensemble or what `open_ensemble` gives.
            draws: of each event; 32 by default, of a point estimate one.
            seed: of the draws. An event's random numbers depend on it and on the event's number alone.
            weight: of the events (event,), where the set is weighted.
            event_id: numbers of the events (event,), 0, 1, ... by default.
            group: the unit of ``bootstrap`` of each event (event,).
            parameters: (parameter,), the true parameters of the prior, of a model with ``parameters=True``.
            progress: whether to show a progress bar.
            **settings: of the inference, as in a study: ``set_size``, ``steps``, ``solver``, ``bootstrap`` ...

        Returns:
            x (event, draw, *x), log_weight and ok (event, draw), and diagnostics: the medians over sets of, for a model
            with a set encoder, ``embedding_distance`` (above 1: a set unlike all that it was trained on) and others.

        Raises:
            NotFittedError: the model was not trained.
            ArrayError: y is not like the observations that it was trained on.
        """
        artifact = self._fitted()
        asked = {**settings, **({} if draws is None else {"draws": draws})}
        infer = self._settings(asked)
        x_field, y_field = Scaling.from_dict(artifact.meta["scaling"]).fields()
        ensemble = _observations(y, y_field, weight=weight, event_id=event_id, group=group)
        context = self._context(progress, "sample", seed)
        method = self.spec.build(Arrays(x_field, y_field), context).using(infer)
        method.use(artifact)
        if names := artifact.meta.get("parameters"):
            given = [] if parameters is None else np.ravel(parameters).tolist()
            if len(given) != len(names):
                raise ArrayError(f"found {len(given)} parameters of the prior, wanted {len(names)}: {', '.join(names)}")
            method.set_prior_params(dict(zip(names, given, strict=True)))
        events = min(ensemble.n, infer.max_events or ensemble.n)
        work = list(pieces(events, ensemble.n, infer.set_size, method.events_at_once(infer.draws)))
        sampler = Sampler(method, ensemble)
        found = [sampler.sample(piece).chunk for piece in context.progress(work, len(work), "sample")]
        noticed = {name: float(np.median([*values.values()])) for name, values in sampler.diagnostics.items()}
        x, log_weight, ok = (np.concatenate(parts) for parts in zip(*(chunk[:3] for chunk in found), strict=True))
        return PosteriorSamples(x, log_weight, ok, noticed)

    def _settings(self, values: dict[str, Any]) -> Any:
        """Settings of an inference, without those that need a study."""
        model, name = type(self.spec.infer_settings({})), f"{type(self).__name__}.sample"
        refuse_unknown(values, [key for key in model.model_fields if key not in OF_A_STUDY], name)
        return checked(model, values, name)

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


def hold_out(
    ensembles: Sequence[Any], fraction: float, rng: np.random.Generator
) -> tuple[list[Ensemble], list[Ensemble]]:
    """Training and validation ensembles.

    Args:
        ensembles: of which some, or of which some events, are held out.
        fraction: how much is.
        rng: chooses them; of a file the last events are.

    Raises:
        ArrayError: a fraction outside (0, 1), or an ensemble that cannot be cut.
    """
    if not 0 < fraction < 1:
        raise ArrayError(f"validation is the fraction that is held out, wanted above 0 and below 1, found {fraction}")
    if len(ensembles) >= ENSEMBLES_TO_SPARE:
        count = max(1, round(fraction * len(ensembles)))
        chosen = set(rng.choice(len(ensembles), count, replace=False).tolist())
        log.info("validation: %d of %d ensembles are held out", count, len(ensembles))
        return [e for i, e in enumerate(ensembles) if i not in chosen], [ensembles[i] for i in sorted(chosen)]
    train: list[Ensemble] = []
    held: list[Ensemble] = []
    for one in ensembles:
        if one.n < 2 or len(one.offsets) > 2:
            what = f"{one.n} event" if one.n < 2 else f"{len(one.offsets) - 1} ensembles"
            raise ArrayError(f"{one.path}: holds {what}, of which none can be held out; give `validation` ensembles")
        count = min(one.n - 1, max(1, round(fraction * one.n)))
        if isinstance(one, ArrayEnsemble):
            order = rng.permutation(one.n)
            train.append(one.take(np.sort(order[count:])))
            held.append(one.take(np.sort(order[:count])))
        else:
            train.append(one.window(0, one.n - count))
            held.append(one.window(one.n - count, one.n))
    log.info("validation: %d of %d events are held out", sum(e.n for e in held), sum(e.n for e in ensembles))
    return train, held


def _ensembles(given: Any, name: str, how: dict[Any, Any], parameters: Any = None) -> Iterator[Ensemble]:
    """The ensembles of what a user gives; ``how`` are names and transforms of x and y."""
    if isinstance(given, str | Path | EnsembleFile) or (isinstance(given, tuple) and hasattr(given[0], "ndim")):
        given = [given]
    given = list(given)
    if not given:
        raise ArrayError(f"found no {name}, wanted a list with (x, y) of each prior")
    if parameters is not None and len(parameters) != len(given):
        raise ArrayError(
            f"found parameters of {len(parameters)} priors and {len(given)} ensembles: give one row for each"
        )
    for i, one in enumerate(given):
        if isinstance(one, EnsembleFile):
            yield one.reader
        elif isinstance(one, str | Path):
            yield EnsembleReader(one)
        elif isinstance(one, tuple | list) and len(one) in (2, 3):
            x, y = (as_events(values, f"{name} {i}: {key}") for key, values in zip("xy", one, strict=False))
            yield ArrayEnsemble(
                y,
                x,
                x_field=field_of("x", x, *how["x"]),
                y_field=field_of("y", y, *how["y"]),
                weight=one[2] if len(one) == 3 else None,
                theta=None if parameters is None else parameters[i],
                name=f"{name} {i}",
            )
        else:
            raise ArrayError(f"{name} {i} is {type(one).__name__}: wanted (x, y), (x, y, weight), or an HDF5 ensemble")


def _observations(y: Any, field: Field, **columns: Any) -> Ensemble:
    """What is answered, checked against the field of the training."""
    if isinstance(y, str | Path):
        y = EnsembleFile(y)
    if isinstance(y, EnsembleFile):
        found: Ensemble = y.reader
    else:
        found = ArrayEnsemble(y, y_field=None, name="the observations", **columns)
    if found.y.shape != field.shape:
        raise ArrayError(f"{found.path}: y of each event has shape {found.y.shape}; trained on {field.shape}")
    return found
