"""One evaluated family: its truth, observations, replicas, distances and floors, shared by all results on it."""

import logging
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pullback.core import seeding
from pullback.core.once import once
from pullback.ensembles.positive_weights import cell_resampled
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.store import EnsembleReader
from pullback.ensembles.unfolded import UnfoldedReader
from pullback.metrics import checks
from pullback.metrics.bootstrap import Replicas, effective_groups
from pullback.metrics.contents import Edges, cells, quantile_edges
from pullback.metrics.credibility import Credibility
from pullback.metrics.exact import Exact
from pullback.metrics.floors import Distances
from pullback.metrics.images import label_range
from pullback.metrics.metric import Measured
from pullback.metrics.sample import MOST_FEATURES, Space
from pullback.metrics.seen import SeenObservations
from pullback.problems.base import Problem
from pullback.problems.true_prior import ByParameters, ByTruth, TruePrior
from pullback.registry import did_you_mean

if TYPE_CHECKING:
    from pullback.metrics.bottom_line import Alternative

log = logging.getLogger("pullback")


class EvaluationError(ValueError):
    """Files that do not belong together."""


class Case:
    """One evaluated family: the reference data of all results on it.

    Args:
        name: of the family.
        job: `Plan.evaluate_job`, parsed.
        ensemble: index of the family's test split.
        reference: index of the independent truth of its base family, or None.
        problem: where it has a forward process; nothing is simulated again where that of the observations is another.
        misses: whether truths are those before the detector, misses among them, as the seen families record them.

    Attributes:
        recorded: its observations, pairs and fakes.
        reader: a view of the pairs, on which draws are compared with truths; all of them where no truth is known.
        alternative: another family that the bottom-line test holds it against; None where there is none.
    """

    alternative: "Alternative | None" = None

    def __init__(
        self,
        name: str,
        job: dict[str, Any],
        ensemble: Path,
        reference: Path | None,
        problem: Problem | None,
        misses: bool = False,
    ):
        entry = job["families"][name]
        self.problem = problem if entry.get("own_forward", True) else None
        self.name, self.role, self.title, self.shift = name, entry["role"], entry["title"], entry["shift"]
        self.evaluation = job["evaluation"]
        self.recorded = EnsembleReader(ensemble)
        self.reader = self.recorded.pairs()
        self.misses = misses or self.recorded.missed is not None
        self.known = self.reader.x is not None and self.role != "observed"
        # The word is a part of what directions and replicas are drawn from: another one gives other numbers.
        self.address: seeding.Address = (job["seed"], job["problem_name"], "judging")
        self.base: str = entry["base"]
        self.params: dict[str, Any] | None = entry.get("params")
        self._reference = reference

    def events_of_distance(self, n: int) -> int:
        """Events in a distance."""
        return min(n, self.evaluation["swd_events"])

    def flat(self, name: str, start: int, stop: int) -> np.ndarray:
        """x or y of some events, (event, component)."""
        values = self.reader.read(name, start, stop)
        return values.reshape(len(values), -1)

    def pairs_of(self, posterior: PosteriorReader) -> PosteriorReader:
        """A view of the draws for the pairs.

        Raises:
            EvaluationError: it has none for them.
        """
        fake = self.recorded.fake(0, posterior.n)
        if not fake.any():
            return posterior
        if fake.all():
            raise EvaluationError(f"{posterior.path}: all its {posterior.n} events are fakes; raise `max_events`")
        return posterior.select(np.flatnonzero(~fake))

    @cached_property
    def space(self) -> Space:
        """How x is compared, from the truth of this family."""
        assert self.reader.x is not None
        return Space.of(self.reader.x, self.flat("x", 0, self.events_of_distance(self.reader.n)))

    @cached_property
    def labels(self) -> tuple[float, float]:
        """What SSIM maps to [0, 1]."""
        assert self.reader.x is not None
        return label_range(self.reader.x, np.array([self.space.low, self.space.high]))

    @once
    def replicas(self, n: int) -> Replicas:
        """Bootstrap over the first n events, the same for every method."""
        rng = seeding.generator(*self.address, self.base, "bootstrap", n)
        return Replicas(
            self.reader.read("group", 0, n), self.evaluation["bootstrap"], rng, event_weights(self.reader, n)
        )

    @once
    def groups(self, n: int) -> float:
        """Effective number of groups among the first n events."""
        return effective_groups(self.reader.read("group", 0, n), event_weights(self.reader, n))

    def reference(self, n: int) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Up to n independent truths of the same prior (event, component), and their event weights or None."""
        found = self.reference_truths(n)
        return None if found is None else (found.x, found.weight)

    def reference_truths(self, n: int, missed: bool = False) -> "Truths | None":
        """Up to n independent truths of the same prior; with ``missed`` also as large a share of the misses."""
        if self._reference is None:
            return None
        with EnsembleReader(self._reference) as file:
            other = file.pairs()
            k = min(n, other.n)
            pairs = Truths(other.read("x", 0, k).reshape(k, -1), other.read("group", 0, k), event_weights(other, k))
            return _with_misses(other, pairs) if missed else pairs

    @once
    def distances(self, n: int) -> Distances:
        """Distances to the truth of the first n events."""
        reference = self.reference(n)
        if reference is not None and (k := len(reference[0])) < 0.9 * n:
            log.warning("%s: the floor is of %d events, the distances of %d: it is too high", self.name, k, n)
        return Distances(
            self.flat("x", 0, n),
            self.space,
            self.replicas(n),
            (*self.address, "x"),
            self.evaluation["directions"],
            self.evaluation["direction_seeds"],
            reference,
        )

    @once
    def truths(self, n: int) -> "Truths":
        """The truths of the first n pairs, and as large a share of the misses."""
        x, group, weight = self.flat("x", 0, n), self.reader.read("group", 0, n), event_weights(self.reader, n)
        return _with_misses(self.reader, Truths(x, group, weight))

    @once
    def distances_to_truths(self, n: int) -> Distances:
        """Distances to the truth before the detector: of the first n pairs and as large a share of the misses."""
        if self.recorded.missed is None:
            return self.distances(n)
        truths = self.truths(n)
        found = self.reference_truths(n, missed=True)
        reference = None if found is None else (found.x, found.weight)
        rng = seeding.generator(*self.address, self.base, "bootstrap", "truths", n)
        return Distances(
            truths.x,
            self.space,
            Replicas(truths.group, self.evaluation["bootstrap"], rng, truths.weight),
            (*self.address, "x"),
            self.evaluation["directions"],
            self.evaluation["direction_seeds"],
            reference,
        )

    @cached_property
    def edges(self) -> Edges:
        """Bins of each feature of a vector: those that the study names, else with equal numbers of truths.

        Raises:
            EvaluationError: the study names a feature that x does not have.
        """
        named = self.evaluation["bins"]
        names = self.space.names[:MOST_FEATURES]
        if unknown := sorted(set(named) - set(self.space.names)):
            raise EvaluationError(
                f"evaluation.bins: found '{unknown[0]}', wanted features of x ({', '.join(self.space.names) or 'none'})"
                f"{did_you_mean(unknown[0], self.space.names)}"
            )
        if not names:
            return {}
        truths = self.truths(self.events_of_distance(self.reader.n))
        x = self.space.canonical(truths.x)
        found = {}
        for j, name in enumerate(names):
            edges = np.array(named[name]) if name in named else quantile_edges(x[:, j], truths.weight)
            # Nothing can be compared in a single bin, or where no truth is.
            if len(edges) > 2 and (cells(x[:, j].astype(np.float64), edges) >= 0).any():
                found[name] = edges
        return found

    def counted(self) -> "Truths":
        """All truths with their own weights, which count them: pairs and misses."""
        n, reader = self.reader.n, self.reader
        weight = reader.read("weight").astype(np.float64) if "weight" in reader.columns else np.ones(n)
        pairs = Truths(self.flat("x", 0, n), reader.read("group"), weight)
        missed = reader.missed
        if missed is None:
            return pairs
        found = (missed.x.reshape(-1, math.prod(missed.x.shape[1:])), missed.group, missed.weight)
        return Truths(*(np.concatenate(both) for both in zip((pairs.x, pairs.group, weight), found, strict=True)))

    @once
    def credibility(self, n: int) -> Credibility:
        """What is ranked of the first n events."""
        address = (*self.address, self.name)
        return Credibility(self.reader, n, self.space, self.problem, address, self._reference)

    @cached_property
    def exact(self) -> Exact | None:
        """Exact posterior draws of the first events, where there are any.

        Under a shift the observations do not come from the problem's own likelihood, and the exact posterior is
        unknown.
        """
        chosen = self.evaluation["exact_families"]
        asked_for = self.evaluation["exact_events"] or self.evaluation["c2st_events"]
        problem = self.problem
        wanted = asked_for and (chosen is None or self.name in chosen)
        if not wanted or not self.known or self.shift != "none" or problem is None:
            return None
        priors = self._true_prior(problem)
        if priors is None:
            return None
        assert self.reader.x is not None
        events, other = (min(self.evaluation[key], self.reader.n) for key in ("exact_events", "c2st_events"))
        return Exact(
            *priors,
            self.reader.read("y", 0, max(events, other)),
            self.flat("x", 0, events),
            self.space,
            self.reader.x,
            self.evaluation["exact_draws"],
            (*self.address, self.name),
        )

    def _true_prior(self, problem: Problem) -> tuple[TruePrior, TruePrior] | None:
        """The family's prior twice, for draws that are independent of each other."""
        if hasattr(problem, "exact_posterior") and self.params is not None:
            own = ByParameters(problem, self.params, self.evaluation["exact_pool"])
            return own, own
        if hasattr(problem, "log_likelihood") and self._reference is not None:
            return ByTruth.read(problem, self._reference).halves()
        return None

    @once
    def truth_misfit(self, n: int) -> checks.Misfit | None:
        """The misfit of the truth itself for the first n events, where it is known and simulated."""
        if not self.known or self.problem is None:
            return None
        x, y = self.reader.read("x", 0, n)[:, None], self.flat("y", 0, n)
        address = (*self.address, self.name, "truth")
        return checks.misfit(self.problem, self.reader.y, y, x, np.ones((n, 1), bool), address)

    @once
    def distance_to_seen(self, n: int, seen: SeenObservations) -> Measured | None:
        """How far the first n observations lie from those of the seen families."""
        few = seen.events(n, math.prod(self.recorded.y.shape))
        y = self.recorded.read("y", 0, few).reshape(few, -1)
        return seen.distance(y, event_weights(self.recorded, few), self.address)


class Truths(NamedTuple):
    """Truths of a family: x (truth, component), group (truth,), event weights (truth,) or None for equal ones."""

    x: np.ndarray
    group: np.ndarray
    weight: np.ndarray | None


def _with_misses(reader: EnsembleReader, pairs: Truths) -> Truths:
    """The truths of a reader's first pairs with as large a share of its misses, in random order beside them."""
    missed = reader.missed
    k = 0 if missed is None else round(len(missed.x) * len(pairs.x) / reader.n)
    if missed is None or not k:
        return pairs
    x = np.concatenate([pairs.x, missed.x[:k].reshape(k, -1)])
    group = np.concatenate([pairs.group, missed.group[:k]])
    weight = None
    if pairs.weight is not None:
        own = reader.read("weight", 0, len(pairs.x)).astype(np.float64)
        weight = np.concatenate([pairs.weight, missed.weight[:k] * (pairs.weight.sum() / own.sum())])
    order = seeding.generator("truths", len(x)).permutation(len(x))
    return Truths(x[order], group[order], None if weight is None else weight[order])


def event_weights(reader: EnsembleReader, n: int) -> np.ndarray | None:
    """Weights of the first n events; None when there are none or all are equal.

    An event of weight zero is left out of every number; if one event has all the weight, numbers are that event's and
    have no interval. Weights of both signs are resampled among near events (`ensembles.positive_weights`).

    Raises:
        EvaluationError: the weights are all zero, or their sum is not positive.
    """
    if "weight" not in reader.columns:
        return None
    weight = reader.read("weight", 0, n).astype(np.float64)
    if weight.size and (weight < 0).any():
        field = reader.x or reader.y
        values = reader.read(field.name, 0, n)
        whole = np.isfinite(values.reshape(len(values), -1)).all(axis=1)  # fakes have no x
        if not whole.all():
            field, values = reader.y, reader.read("y", 0, n)
        try:
            weight = cell_resampled(values, field, weight)
        except ValueError as error:
            raise EvaluationError(
                f"{reader.path}: {error}: leave `weight` out of the branch map, or give more events"
            ) from None
    if weight.size and not weight.any():
        raise EvaluationError(
            f"{reader.path}: all weights of the first {n} events are zero, so that nothing can be averaged; leave "
            "`weight` out of the branch map, or correct the file"
        )
    if not weight.size or (weight == weight[0]).all():
        return None
    # Their scale has no meaning, and powers of very small or large ones have no place in float64; a power of two
    # changes no digit.
    return np.ldexp(weight, -np.frexp(weight.max())[1])


def refuse_other_observations(case: Case, answer: PosteriorReader | UnfoldedReader) -> None:
    """Check that a posterior or an unfolded distribution was made from this family's observations.

    Raises:
        EvaluationError: from others.
    """
    if answer.ensemble_digest != case.reader.digest:
        raise EvaluationError(
            f"{answer.path}: was made from observations with content {answer.ensemble_digest[:12]}, "
            f"{case.reader.path} has {case.reader.digest[:12]}; rerun the inference"
        )


def refuse_foreign(case: Case, posterior: PosteriorReader) -> None:
    """Check that a posterior answers this family's observations.

    Raises:
        EvaluationError: another ensemble, other events, or none.
    """
    if posterior.n == 0:
        raise EvaluationError(f"{posterior.path}: holds no events; rerun this inference")
    refuse_other_observations(case, posterior)
    ours = case.recorded.read("event_id", 0, posterior.n)
    theirs = posterior.read("event_id")
    if not np.array_equal(ours, theirs):
        raise EvaluationError(
            f"{posterior.path}: its {posterior.n} events are not the first ones of {case.recorded.path} in their "
            "order; rerun the inference"
        )
