"""Sourcerer: the source of most entropy whose push-forward matches the observations (Vetter et al. 2024).

The objective and the sampler are in `source`. Here are the forward process, the fit and what comes of it.

Forward process
    A problem with a derivative and additive Gaussian noise of known covariance gives its own,
    y = F(x) + L n, n ~ N(0, I) (`problems.adapter.Differentiable`). For others y = f(x, n) is learned on the seen pairs
    (`surrogate`). Either has all its noise as an argument, so that the sliced distance has a derivative by x. Pairs
    are of recorded objects, and so are the observations: the source is the truth of recorded objects.

Seen families
    Their truths give the space (`Scaling`), the first source (the product of their marginals, families alike), and the
    surrogate. The source lives in the box of their ranges and a margin: what the observations do not determine
    (the mass of a jet) has no bounded entropy elsewhere. What else is fitted comes from the observations.

Acceptance
    Where seen families record fakes, their share f of fakes stands in every simulated batch, so that the source is that
    of the rest, of N (1 - f) objects: f is taken as seen, not fitted. Where they record misses, a classifier gives
    P(recorded | x), and each truth weighs 1 / P (`amortised.acceptance`); otherwise misses are not corrected.

The result is a sample of q with equal weights, but for the efficiency, that sum to the estimated number of truth
objects.
"""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pullback.core.angles import wrap
from pullback.core.seeding import generator, integer_seed
from pullback.core.stopping import Stopped
from pullback.diffusion.checkpoint import Artifact, Checkpoints, load_artifact
from pullback.diffusion.numerics import numerics, pick_device, seeded
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import Ensemble
from pullback.ensembles.family_events import nominal
from pullback.ensembles.fields import Field, alone
from pullback.ensembles.positive_weights import cell_resampled
from pullback.ensembles.scaled_tensors import encode
from pullback.ensembles.scaling import Scaling
from pullback.ensembles.sets import TrainingData
from pullback.ensembles.unfolded import Unfolded
from pullback.methods.amortised.acceptance import Efficiency, fit_efficiency
from pullback.methods.base import Method
from pullback.methods.unfolding.source import (
    Observations,
    Source,
    Space,
    anneal,
    directions,
    entropy,
    quantile_tables,
    sliced_distance,
)
from pullback.methods.unfolding.sourcerer_spec import SourcererInfer, SourcererSpec
from pullback.methods.unfolding.surrogate import ForwardFlow, exchanged, flow_loss
from pullback.problems.adapter import Differentiable

log = logging.getLogger("pullback")

KIND = "sourcerer"
LINES = 500
"""Directions of the sliced distance that a fit draws from; the observations' quantiles along them are taken once."""
MARGIN = 0.1
"""How far a source may reach beyond the seen truths, on each side, as a fraction of their range."""
MOST_FAKES = 50_000
"""Seen fakes that are kept."""
COMPARED = 5000
"""Most observations in the diagnostic of the fit."""
COMPARED_LINES = 100
ENTROPY_SAMPLE = 2000
ENTROPY_BATCH = 512
"""Truths whose entropy is estimated, in the diagnostic and in a step: it takes the distances of all pairs."""


class SourceError(ValueError):
    """A problem or observations that have no source here; the message says what to do."""


def refuse(x: Field, y: Field) -> None:
    """Raise SourceError for fields that are arrays."""
    for field in (x, y):
        if not field.is_vector:
            raise SourceError(
                f"{field.name} is an array {field.shape}: 'sourcerer' compares distributions of vectors of a few "
                "quantities; leave it out, or use an amortised method"
            )


class Sourcerer(Method[dict[str, Any]]):
    """Fit of a source to one ensemble (see the module)."""

    spec: SourcererSpec
    settings: SourcererInfer

    @property
    def own_simulator(self) -> bool:
        """Whether the problem's own forward process is differentiable here."""
        has = any(hasattr(self.problem, name) for name in ("vjp", "linearize", "linear", "autograd"))
        known = hasattr(self.problem, "apply") and getattr(self.problem, "noise_covariance", None) is not None
        return self.spec.simulator == "auto" and has and known

    def train(self, data: TrainingData, job: TrainPaths) -> Artifact:
        """Fit what the seen families give: the space, the first source, the surrogate, fakes and efficiency.

        Raises:
            SourceError: x or y is an array.
        """
        refuse(data.x, data.y)
        address = self.context.address
        x, y = data.sample_for_scaling(50_000, generator(*address, "scaling"))
        scaling = Scaling.fit(_absolute(data.x), data.y, x, y)
        tables, knots = quantile_tables(v := scaling.encode_x(x, y))
        swapped = exchanged(data.x, data.y, x, y)
        fakes, share = _fakes(data, scaling, generator(*address, "fakes"))
        efficiency = fit_efficiency(data, address, self.context.threads)
        meta = {
            "kind": KIND,
            "label": self.spec.returns,
            "size": self.spec.surrogate.model_dump(mode="json"),
            "own_simulator": self.own_simulator,
            "source_scaling": scaling.to_dict(),
            "surrogate_scaling": swapped.to_dict(),
            "tables": torch.from_numpy(tables),
            "knots": torch.from_numpy(knots),
            "seen_range": torch.from_numpy(np.stack([v.min(axis=0), v.max(axis=0)])),
            "fakes": torch.from_numpy(fakes),
            "fake_share": share,
            "efficiency": None if efficiency is None else efficiency.pack(),
            "trained_on": data.digests,
        }
        if self.own_simulator:
            return job.write({}, meta)
        from pullback.diffusion.loop import fit

        targets = self.spec.train.loss_members
        return fit(
            self._flow(swapped),
            lambda model, sets, noise: flow_loss(model, sets, noise, targets),
            data,
            self.spec.train,
            job,
            self.context,
            meta,
        )

    def _flow(self, swapped: Scaling) -> ForwardFlow:
        with seeded(integer_seed(*self.context.address, "weights")):
            return ForwardFlow(self.spec.surrogate, swapped)

    def load(self, artifact: Path | None, prior: Path | None, seen: list[Path]) -> None:
        """Read what `train` wrote.

        Raises:
            ArtifactError: the file is missing, damaged or foreign.
            SourceError: it holds another model than the study asks for.
        """
        assert artifact is not None
        self.use(load_artifact(artifact))

    def use(self, artifact: Artifact) -> None:
        """Use what was learned on the seen families."""
        weights, meta = artifact
        wanted = (KIND, self.spec.surrogate.model_dump(mode="json"), self.own_simulator)
        if (found := tuple(meta.get(key) for key in ("kind", "size", "own_simulator"))) != wanted:
            raise SourceError(f"the artifact holds {found}, wanted {wanted}; train it again")
        self.device = pick_device(self.context.accelerator)
        self.scaling = Scaling.from_dict(meta["source_scaling"])
        self.swapped = Scaling.from_dict(meta["surrogate_scaling"])
        self.tables, self.knots, self.fakes = (meta[key].numpy() for key in ("tables", "knots", "fakes"))
        self.space = _space(self.problem.x, self.scaling, *meta["seen_range"].numpy())
        self.fake_share: float = meta["fake_share"]
        self.efficiency = None if meta["efficiency"] is None else Efficiency.unpack(meta["efficiency"])
        self.adapter = Differentiable(self.problem, self.scaling)
        self.flow: ForwardFlow | None = None
        if not self.own_simulator:
            self.flow = self._flow(self.swapped)
            self.flow.load_state_dict(weights)
            self.flow.to(self.device).eval().requires_grad_(False)

    def push(self, v: Tensor, normal: Tensor) -> Tensor:
        """Observations as networks see them (event, d) of truths v (event, *x) in the source's space, with noise.

        Rows whose simulation failed are left out.
        """
        if self.flow is None:
            y = self.adapter.apply(v)
            y = y + _coloured(normal, self.problem.noise_covariance)  # type: ignore[attr-defined]
            self.cost.simulator_calls += len(v)
        else:
            y = self.flow(self.adapter.decode(v), normal)
            self.cost.network_calls += len(v)
        z = encode(self.scaling.y_columns, y)
        fine = z.isfinite().all(dim=1)
        self.cost.failed_simulations += int((~fine).sum())
        return z[fine]

    def condition(self, ensemble: Ensemble, workdir: Path | None = None) -> dict[str, Any]:
        """Fit a source to the observations, and one to each bootstrap replica of them.

        Raises:
            SourceError: the sum of the event weights is not positive.
            Stopped: close to the limit, or on a signal; the same call goes on from ``workdir``.
        """
        settings = self.settings
        y = ensemble.read("y")
        z = self.scaling.encode_y(y)
        weight = nominal(ensemble.read("weight")) if "weight" in ensemble.columns else np.ones(len(z))
        if not weight.sum() > 0:
            raise SourceError(
                f"{ensemble.path}: the sum of the event weights is {weight.sum():.4g}, wanted a positive one: give "
                "other weights, or leave `weight` out"
            )
        if (weight < 0).any():
            weight = cell_resampled(y, ensemble.y, weight)
        group = np.unique(ensemble.read("group"), return_inverse=True)[1]
        groups = int(group.max()) + 1
        rng = generator(*self.context.address, "bootstrap")
        truths, weights, noticed = [], np.zeros((1 + settings.replicas, settings.samples)), {}
        with numerics(self.context.threads, self.device.type == "cuda"):
            for replica in range(1 + settings.replicas):
                chosen = rng.integers(groups, size=groups) if replica else np.arange(groups)
                seen = Observations.of(z, weight * np.bincount(chosen, minlength=groups)[group])
                folder = None if workdir is None else workdir / f"replica-{replica}"
                source = self._fit(seen, replica, folder)
                x, weights[replica] = self._sample(source, replica, seen.total)
                truths.append(x)
                if not replica:
                    noticed = self._noticed(source, seen)
        table = np.zeros((len(truths), settings.samples, len(truths)))
        for replica, row in enumerate(weights):
            table[replica, :, replica] = row
        return {"x": np.concatenate(truths), "weight": table.reshape(-1, len(truths)), "diagnostics": noticed}

    def unfold(self, state: dict[str, Any], ensemble: Ensemble) -> Unfolded:
        """The sample of each replica, with weight zero in the others."""
        return Unfolded(np.asarray(state["x"]), np.asarray(state["weight"]))

    def diagnostics(self, state: dict[str, Any]) -> dict[str, float]:
        """How the push-forward agrees with the observations, and the entropy of the source (`_noticed`)."""
        return dict(state["diagnostics"])

    def _source(self, replica: int) -> Source:
        with seeded(integer_seed(*self.context.address, "source", replica)):
            return Source(self.tables, self.knots, self.space, self.settings.network).to(self.device)

    def _fit(self, seen: Observations, replica: int, folder: Path | None) -> Source:
        """The source of some observations; a fit that was stopped goes on from its checkpoint, bit for bit."""
        settings, source = self.settings, self._source(replica)
        address = (*self.context.address, "fit", replica)
        optimizer = torch.optim.Adam(source.parameters(), lr=settings.learning_rate)
        lines = directions(LINES, seen.z.shape[1], generator(*self.context.address, "lines"))
        target = self._tensor(lines), self._tensor(seen.quantiles(lines, settings.batch))
        checkpoints = None if folder is None else Checkpoints(folder)
        begin = 0
        if checkpoints and (kept := checkpoints.newest()):
            begin, state = kept
            source.load_state_dict(state["source"])
            optimizer.load_state_dict(state["optimizer"])
            log.info("resumed: replica %d after step %d of %d", replica, begin, settings.steps)
        steps = range(begin, settings.steps)
        for step in self.context.progress(steps, len(steps), f"source {replica}"):
            for part in optimizer.param_groups:
                part["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
            optimizer.zero_grad(set_to_none=True)
            loss = self._loss(source, target, step, generator(*address, step))
            if not bool(torch.isfinite(loss)):
                raise SourceError(
                    f"the fit of the source is not finite at step {step}: lower infer.learning_rate "
                    f"({settings.learning_rate:g}), or the first value of infer.entropy ({settings.entropy[0]:g})"
                )
            loss.backward()
            optimizer.step()
            done = step + 1
            reason = self.context.stop() if done < settings.steps else None
            if checkpoints and (reason or done % settings.checkpoint_every == 0 or done == settings.steps):
                checkpoints.save(done, {"source": source.state_dict(), "optimizer": optimizer.state_dict()})
            if reason:
                raise Stopped(f"replica {replica} at step {done} of {settings.steps}", reason)
        return source.eval()

    def _loss(self, source: Source, target: tuple[Tensor, Tensor], step: int, rng: np.random.Generator) -> Tensor:
        """The objective of a step; ``target``: directions, and the observations' quantiles along them."""
        settings, (lines, quantiles) = self.settings, target
        v = source(self._normals(settings.batch, len(self.tables), rng))
        some = torch.from_numpy(rng.integers(len(lines), size=settings.slices)).to(self.device)
        distance = sliced_distance(self._with_fakes(v, rng), lines[some], quantiles[some])
        lam = anneal(step, settings.steps, settings.entropy)
        if not lam:
            return distance
        return (1 - lam) * distance - lam * entropy(source.embedded(v[:ENTROPY_BATCH]), v.shape[1])

    def _with_fakes(self, v: Tensor, rng: np.random.Generator) -> Tensor:
        """The push-forward of truths, the last ones replaced by the seen families' share of fakes."""
        fakes = round(self.fake_share * len(v))
        pushed = self.push(v[: len(v) - fakes], self._normals(len(v) - fakes, len(self.problem.y.features), rng))
        if not len(pushed):
            raise SourceError("no simulation of a truth of the source succeeded; look at the problem's bounds of x")
        if not fakes:
            return pushed
        chosen = self._tensor(self.fakes[rng.integers(len(self.fakes), size=fakes)])
        return torch.cat([pushed, chosen])

    def _normals(self, n: int, d: int, rng: np.random.Generator) -> Tensor:
        return self._tensor(rng.standard_normal((n, d), dtype=np.float32))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    @torch.no_grad()
    def _sample(self, source: Source, replica: int, total: float) -> tuple[np.ndarray, np.ndarray]:
        """Truths (sample, *x) in physical units, and weights that sum to the number of truth objects."""
        rng = generator(*self.context.address, "sample", replica)
        v = source(self._normals(self.settings.samples, len(self.tables), rng))
        x = self.adapter.decode(v).float().cpu().numpy()
        for i, transform in enumerate(self.problem.x.transforms):
            if transform == "periodic":
                x[:, i] = wrap(x[:, i])
        weight = np.full(len(x), total * (1 - self.fake_share) / len(x))
        if self.efficiency is not None:
            weight = weight / self.efficiency.of(x)
        return x, weight

    @torch.no_grad()
    def _noticed(self, source: Source, seen: Observations) -> dict[str, float]:
        """Agreement of push-forward and observations, and the source's entropy.

        ``source_misfit``: sliced distance of the push-forward to a half of the observations, over that of the halves:
        about 1 where nothing tells them apart. ``source_entropy``: of the scaled x, in nats.
        """
        rng = generator(*self.context.address, "noticed")
        half = min(len(seen.z), 2 * COMPARED) // 2
        order = rng.permutation(len(seen.z))
        weight = np.diff(seen.cumulative, prepend=0.0)
        lines = directions(COMPARED_LINES, seen.z.shape[1], rng)
        quantiles = []
        for rows in (order[:half], order[half : 2 * half]):
            quantiles.append(self._tensor(Observations.of(seen.z[rows], weight[rows]).quantiles(lines, half)))
        v = source(self._normals(half, len(self.tables), rng))
        misfit = sliced_distance(self._with_fakes(v, rng), self._tensor(lines), quantiles[0])
        floor = (quantiles[0] - quantiles[1]).square().mean()
        return {
            "source_misfit": float((misfit / floor).sqrt()),
            "source_entropy": float(entropy(source.embedded(v[:ENTROPY_SAMPLE]).double(), v.shape[1])),
        }


def _absolute(x: Field) -> Field:
    """The field with nothing relative to the observation, which a source does not know."""
    return replace(x, transforms=alone(x.transforms))


def _space(x: Field, scaling: Scaling, lowest: np.ndarray, highest: np.ndarray) -> Space:
    """The range of the seen truths (quantity,), as networks see them, and a margin, within the bounds of x."""
    angle = np.array([transform == "periodic" for transform in x.transforms])
    margin = MARGIN * np.maximum(highest - lowest, 1.0)
    ends = []
    for bound, none in ((x.low, -np.inf), (x.high, np.inf)):
        values = np.full(len(angle), none) if bound is None else np.array(bound, np.float64)
        values[angle] = np.copysign(np.pi, none)
        ends.append(encode(scaling.x_columns, torch.from_numpy(values)).nan_to_num(none, np.inf, -np.inf).numpy())
    low, high = np.maximum(ends[0], lowest - margin), np.minimum(ends[1], highest + margin)
    return Space(np.where(angle, ends[0], low), np.where(angle, ends[1], high), angle)


def _coloured(normal: Tensor, covariance: Any) -> Tensor:
    """Gaussian noise (event, *y) of a covariance as problems give it: a number, variances, or a matrix."""
    found = torch.as_tensor(np.asarray(covariance)).to(normal)
    if found.ndim == 2:
        return normal @ torch.linalg.cholesky(found).T
    return normal * found.sqrt()


def _fakes(data: TrainingData, scaling: Scaling, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Seen fakes as networks see them (event, d), drawn by weight, and their share of what was recorded."""
    if not data.has_fakes:
        return np.zeros((0, *scaling.y_shape), np.float32), 0.0
    y, weight = (np.concatenate(parts) for parts in zip(*data.fakes(), strict=True))
    share = weight.sum() / (weight.sum() + sum(pairs.weight.sum() for pairs in data.pairs()))
    if not 0 <= share < 1:
        raise SourceError(
            f"by their event weights {share:.3g} of the recorded events of the seen families are fakes, wanted less "
            "than 1 and not less than 0: leave `weight` out of the families"
        )
    if (weight < 0).any():
        weight = cell_resampled(y, data.y, weight)
    return Observations.of(scaling.encode_y(y), weight).draw(min(len(y), MOST_FAKES), rng), float(share)
