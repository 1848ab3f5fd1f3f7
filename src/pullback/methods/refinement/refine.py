"""Refinement outside the training priors: the prior of one set of observations, fitted by expectation maximisation.

An amortised posterior is only valid for priors near the training priors; the likelihood p(y|x) holds for every prior.
The draws of any method for a set Y are therefore used as particles {x_p} with weights w_p, a discrete prior, and the
weights are fitted to Y by the unbinned Richardson-Lucy iteration, which is the EM algorithm for the nonparametric
maximum likelihood estimate of a mixing distribution (Laird 1978; Vardi, Shepp & Kaufman 1985):

    r_ip = w_p L(y_i|x_p) / sum_q w_q L(y_i|x_q),        w_p <- mean_i r_ip.

Every step increases the likelihood of Y, and the limit is a distribution on a few particles: early stopping regularises
it. Of the members of the set a fraction is held out; the number of iterations is that after which the predictive log
likelihood of the held-out members, mean_i log sum_p w_p L(y_i|x_p), is greatest (particles come from the other members
only). Then particles are resampled by their weights, moved by a kernel that keeps their covariance (`kernel`), and
another
round of EM begins: smoothed EM (Silverman et al. 1990). Rounds end when the predictive likelihood stops increasing. The
chosen numbers of iterations are finally repeated **with all members and all particles**.

Draws for an event come from r_i, moved by the same kernel with the covariance and the effective number of its own
particles. The posterior is approximate: it is that of the fitted prior.

Particles are drawn with the embedding of the original set, also with `bootstrap` (with one draw of each member they
would all use the first resample). The uncertainty of the embedding is irrelevant here, because the prior is fitted to
the set again.

Event weights count in all averages over the set (and in how much an event's draws count as particles). So does the
purity that the method gives an observation; the likelihood is that of pairs, and the prior that of recorded truths.
Purity and efficiency of draws are those of the method.

Members beyond `members` and held-out ones are sampled like all others: draws need only r_i.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from pullback.core.particles import effective_size, invert, normalise
from pullback.core.seeding import event_normals, event_uniforms, generator
from pullback.ensembles.arrays import Ensemble, read_rows
from pullback.ensembles.family_events import nominal
from pullback.methods.amortised.spec import AmortisedInfer, Refine
from pullback.methods.base import Method, PosteriorSamples
from pullback.methods.refinement.em import (
    PAIRS,
    Fit,
    Sample,
    choose,
    chunks,
    em_step,
    equal,
    pairs,
    ratios,
)
from pullback.methods.refinement.kernel import Coordinates, bandwidth
from pullback.problems.reweighting import LogLikelihood, pairwise
from pullback.study.kinds import Infer

log = logging.getLogger("pullback")

LEAST_MEMBERS = 10
"""A smaller set says too little about its prior: its weights stay as they are."""
MOMENTS = 64
"""Least draws from which the covariance of one event's posterior is estimated."""


class RefineError(ValueError):
    """A set that cannot be refined; the message names the file and what was wanted."""


class RefinedState(NamedTuple):
    """One conditioning set.

    Attributes:
        inner: the state of the method whose draws were refined.
        sample: the fitted prior.
        likelihood: of its particles.
        initial: the particles before the fit, (particle, *x).
        coordinates: in which draws are moved, those of ``initial``; None where they are not moved.
        diagnostics: numbers of the fit.
    """

    inner: Any
    sample: Sample
    likelihood: LogLikelihood
    initial: np.ndarray
    coordinates: Coordinates | None
    diagnostics: dict[str, float]


class Refined(Method[RefinedState]):
    """A method whose draws are refined, in place of that method.

    Args:
        inner: loaded; it gives posterior draws.
        likelihood: artifact of a learned likelihood, or None for the problem's own.
    """

    settings: AmortisedInfer

    def __init__(self, inner: Method[Any], likelihood: Path | None = None):
        super().__init__(inner.spec, inner.problem, inner.context, inner.settings)
        self.inner = inner
        self.cost = inner.cost
        self.block, self.acceptance = inner.block, inner.acceptance
        self.at: Callable[[np.ndarray], LogLikelihood] = lambda x: pairwise(self.problem, x)
        if likelihood is not None:
            from pullback.methods.likelihood import load_likelihood

            self.at = load_likelihood(likelihood, self.context).at

    @property
    def refine(self) -> Refine:
        """How the prior is fitted."""
        assert self.settings.refine is not None
        return self.settings.refine

    def using(self, settings: Infer) -> Self:
        """A copy with other settings, also of the wrapped method."""
        other = super().using(settings)
        other.inner = self.inner.using(settings)
        return other

    def condition(self, ensemble: Ensemble, workdir: Path | None = None) -> RefinedState:
        """Fit the prior of a set: draws of the inner method as particles, then EM."""
        settings = self.refine
        inner = at_set = self.inner.condition(ensemble, workdir)
        if self.settings.bootstrap:
            at_set = self.inner.using(self.settings.model_copy(update={"bootstrap": 0})).condition(ensemble)
        address = (*self.context.address, "refine", int(ensemble.read("event_id", 0, 1)[0]))
        chosen = np.arange(ensemble.n)
        if ensemble.n > settings.members:
            chosen = np.sort(generator(*address, "members").choice(ensemble.n, settings.members, replace=False))
        y, event_id, group = (read_rows(ensemble, name, chosen) for name in ("y", "event_id", "group"))
        counts, purity = _weights(ensemble, chosen), self.inner.purity_of(at_set, y)
        if purity is not None:
            # Fakes have no truth that the prior is to explain.
            counts = purity if counts is None else counts * purity
        sample, owner = self._particles(at_set, y, event_id, counts, settings.particles, address)
        held_out = _held_out(group, settings.holdout, generator(*address, "held out"))
        initial, coordinates = sample.x, self._coordinates(sample.x)

        def move(sample: Sample, number: int) -> Sample:
            rng = generator(*address, "move", number)
            x = sample.resampled(rng)
            if coordinates is None:
                return equal(x)
            h = float(bandwidth(len(x), x.shape[1], settings.jitter))
            return equal(coordinates.smooth(x, h, rng.standard_normal(x.shape)))

        fit = Fit([], 0.0)
        if len(y) < LEAST_MEMBERS or not held_out.any():
            log.warning("a set of %d members is not refined: at least %d are needed", len(y), LEAST_MEMBERS)
        else:
            ours = ~held_out[owner]
            weight = sample.weight[ours]
            begin = Sample(sample.x[ours], weight / weight.sum())
            each = (None, None) if counts is None else (counts[~held_out], counts[held_out])
            fit = choose(self.at, begin, y[~held_out], y[held_out], settings, move, each)
        found = None
        for number, iterations in enumerate(fit.iterations):
            if number:
                sample, found = move(sample, number - 1), None
            if iterations:
                found = pairs(self.at(sample.x), y, len(sample.x), counts)
                for _ in range(iterations):
                    sample = Sample(sample.x, em_step(found, sample.weight))
        likelihood = self.at(sample.x)
        if found is None:
            found = pairs(likelihood, y, len(sample.x), counts)
        log.info("refined with iterations %s, held-out gain %.4g nats an event", fit.iterations, fit.gain)
        noticed = {
            "refine_iterations": float(sum(fit.iterations)),
            "refine_rounds": float(len(fit.iterations)),
            "refine_gain": fit.gain,
            "refine_particles": float(effective_size(sample.weight.astype(np.float64))),
            **_ess(found.ratio, sample.weight),
        }
        return RefinedState(inner, sample, likelihood, initial, coordinates, noticed)

    def pack(self, state: RefinedState) -> dict[str, Any]:
        """The fitted prior, the particles before the fit, and the inner method's state."""
        inner = self.inner.pack(state.inner)
        return {"inner": inner, **state.sample._asdict(), "initial": state.initial, "diagnostics": state.diagnostics}

    def unpack(self, packed: dict[str, Any]) -> RefinedState:
        """The inverse of `pack`."""
        sample, initial = Sample(packed["x"], packed["weight"]), packed["initial"]
        inner = self.inner.unpack(packed["inner"])
        return RefinedState(
            inner, sample, self.at(sample.x), initial, self._coordinates(initial), packed["diagnostics"]
        )

    def _particles(
        self,
        state: Any,
        y: np.ndarray,
        event_id: np.ndarray,
        counts: np.ndarray | None,
        most: int,
        address: tuple,
    ) -> tuple[Sample, np.ndarray]:
        """Draws of the inner method for members y, which count ``counts``, and whose each is (particle,)."""
        draws = -(-most // len(y))
        inner = self.inner.using(self.settings.model_copy(update={"draws": draws, "refine": None}))
        blocks = chunks(len(y), inner.events_at_once(draws))
        drawn = [inner.sample(state, y[rows], event_id[rows]) for rows in blocks]
        x, ok, log_weight = (np.concatenate([chunk[i] for chunk in drawn]) for i in (0, 2, 1))
        ok = ok & np.isfinite(log_weight) & np.isfinite(x).reshape(*ok.shape, -1).all(axis=-1)
        weight = normalise(np.where(ok, log_weight, -np.inf))
        if counts is not None:
            weight *= counts[:, None]
        owner = np.repeat(np.arange(len(y)), draws)
        kept = np.flatnonzero(ok)
        if len(kept) > most:
            kept = np.sort(generator(*address, "particles").choice(kept, most, replace=False))
        flat = weight.reshape(-1)[kept]
        return Sample(x.reshape(-1, *x.shape[2:])[kept], (flat / flat.sum()).astype(np.float32)), owner[kept]

    def _coordinates(self, x: np.ndarray) -> Coordinates | None:
        """Those in which particles move; an array of many entries is not moved, for a kernel would blur it."""
        return Coordinates(self.problem.x, x) if self.problem.x.is_vector and self.refine.jitter else None

    def sample(self, state: RefinedState, y: np.ndarray, event_id: np.ndarray) -> PosteriorSamples:
        """Draws from each event's responsibilities; an event that no particle explains gets the inner method's."""
        pieces = []
        for rows in chunks(len(y), PAIRS // len(state.sample.x)):
            pieces.append(self._draw(state, y[rows], event_id[rows]))
        x, log_weight, ok = (np.concatenate([piece[i] for piece in pieces]) for i in range(3))
        purity, efficiency = self.inner.purity_of(state.inner, y), self.inner.efficiency_of(x)
        return PosteriorSamples(x, log_weight, ok, purity=purity, efficiency=efficiency)

    def _draw(self, state: RefinedState, y: np.ndarray, event_id: np.ndarray) -> PosteriorSamples:
        address = (*self.context.address, "refine")
        x, weight = state.sample
        ratio, offset = ratios(state.likelihood(y))
        ratio *= weight
        size = effective_size(ratio)
        edges = np.cumsum(ratio, axis=1, out=ratio)
        picks = max(self.settings.draws, MOMENTS)
        drawn = x[invert(edges, event_uniforms((*address, "choose"), event_id, (picks,)))]
        if state.coordinates is not None:
            h = bandwidth(np.maximum(size, 1.0), x.shape[1], self.refine.jitter)
            eps = event_normals((*address, "jitter"), event_id, drawn.shape[1:])
            drawn = state.coordinates.smooth(drawn, h, eps)
        shape = (len(y), self.settings.draws)
        chunk = PosteriorSamples(drawn[:, : self.settings.draws], np.zeros(shape), np.ones(shape, bool))
        lost = ~np.isfinite(offset)
        if lost.any():
            log.warning("%d events are explained by no particle: they keep the draws of the method", int(lost.sum()))
            own = self.inner.sample(state.inner, y[lost], event_id[lost])
            for ours, theirs in zip(chunk[:3], own[:3], strict=True):
                ours[lost] = theirs
        return chunk

    def diagnostics(self, state: RefinedState) -> dict[str, float]:
        """Diagnostics of the inner method, and of the fit:

        ``refine_iterations``, ``refine_rounds``: of EM, and how many rounds they were made in. ``refine_gain``: of the
        predictive log likelihood of a held-out member, in nats; a difference, so that the units of y do not matter.
        ``refine_particles``: effective number of particles, 1 / sum_p w_p^2. ``refine_event_ess``, ``..._least``:
        effective number of particles that an event's draws come from, median and least over members.
        """
        return {**self.inner.diagnostics(state.inner), **state.diagnostics}


def _weights(ensemble: Ensemble, chosen: np.ndarray) -> np.ndarray | None:
    """Event weights of some members relative to their mean, (member,); None where there are none.

    Raises:
        RefineError: one is negative, or all are zero.
    """
    if "weight" not in ensemble.columns:
        return None
    weight = nominal(read_rows(ensemble, "weight", chosen))
    if (weight < 0).any() or not weight.any():
        raise RefineError(
            f"{ensemble.path}: {int((weight < 0).sum())} of {len(weight)} event weights are negative"
            f"{'' if weight.any() else ', all are zero'}: expectation maximisation needs a probability for each event; "
            "leave `refine` out, or resample the file to positive weights"
        )
    return weight / weight.mean()


def _held_out(group: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Which members are held out (member,), about this fraction; members of one group stay together."""
    names, index = np.unique(group, return_inverse=True)
    if len(names) < 2:
        return np.zeros(len(group), bool)
    out = np.zeros(len(names), bool)
    out[rng.permutation(len(names))[: min(len(names) - 1, max(1, round(fraction * len(names))))]] = True
    return out[index]


def _ess(ratio: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Effective number of particles of the members' posteriors, 1 / sum_p r_ip^2: median and least."""
    found = [np.zeros(0)]
    for rows in chunks(len(ratio), PAIRS // len(weight)):
        found.append(effective_size(ratio[rows] * weight))
    ess = np.concatenate(found)
    return {
        "refine_event_ess": float(np.median(ess)) if len(ess) else 0.0,
        "refine_event_ess_least": float(ess.min()) if len(ess) else 0.0,
    }
