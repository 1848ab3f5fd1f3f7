"""EvaluationSettings one method on one problem: every inference, seed and family. Loads no torch."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pullback.core import seeding
from pullback.core.joblog import progress
from pullback.ensembles import hdf5
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import PosteriorReader, add_cost
from pullback.metrics import checks, examples, unfolding
from pullback.metrics.bootstrap import Replicas, percentile_interval
from pullback.metrics.case import Case, EvaluationError, refuse_foreign
from pullback.metrics.credibility import Credibility
from pullback.metrics.distances import sliced_wasserstein
from pullback.metrics.draws import Judged, judged, normalised
from pullback.metrics.errors import SKILL, SPREAD, Scores, score_block
from pullback.metrics.exact import Exact
from pullback.metrics.floors import Measured
from pullback.metrics.ranks import LEAST_DRAWS, LEAST_EVENTS
from pullback.metrics.table import COLUMNS, COST_COLUMNS, Result, write_table
from pullback.problems.base import Problem, problem_of

log = logging.getLogger("pullback")

BLOCK_VALUES = 4_000_000
"""Numbers of a posterior that are in memory at once."""

WEIGHTED_POINTS = 100_000
"""Draws in a distance of weighted draws; with more, the first draws of each event."""


@dataclass
class Collected:
    """One draw and the ranks of each event of a distance, errors against the exact posterior, scores of all events."""

    one: np.ndarray
    one_ok: np.ndarray
    failed: np.ndarray
    scores: Scores
    ranks: np.ndarray | None
    errors: np.ndarray | None


def collect(
    case: Case,
    posterior: PosteriorReader,
    address: seeding.Address,
    point_estimate: bool,
    credibility: Credibility | None,
    exact: Exact | None,
) -> Collected:
    """Go once through a posterior, in blocks."""
    n, size = posterior.n, int(np.prod(posterior.x.shape))
    most = case.events_of_distance(n)
    uniform = seeding.generator(*address, "resample").random(n)
    one, one_ok, failed, scores = [], [], [], Scores()
    ranks, errors = [], []
    step = max(1, BLOCK_VALUES // (posterior.draws * size))
    for start in range(0, n, step):
        stop = min(start + step, n)
        truth = case.flat("x", start, stop) if case.known else None
        block: Judged = judged(
            posterior.read("x", start, stop),
            posterior.read("log_weight", start, stop),
            posterior.read("ok", start, stop),
            truth,
            case.space if case.known else None,
            uniform[start:stop],
        )
        failed.append(1 - block.ok.mean(axis=1))
        if start < most:
            one.append(block.one)
            one_ok.append(block.one_ok)
        if truth is not None:
            scores.add(score_block(block, truth, case.space, posterior.x, case.labels, point_estimate))
            if credibility is not None and start < most:
                ranks.append(credibility.block(block.first(most - start), truth[: most - start], start))
            if exact is not None and start < exact.n:
                errors.append(exact.errors(block.first(exact.n - start), start))
    return Collected(
        np.concatenate(one)[:most],
        np.concatenate(one_ok)[:most],
        np.concatenate(failed)[:, None],
        scores,
        np.concatenate(ranks) if ranks else None,
        np.concatenate(errors) if errors else None,
    )


def score_rows(scores: Scores, replicas: Replicas) -> Iterator[Measured]:
    """Means over events with their intervals; ``spread_skill``, the root of a ratio of means, is 1 when calibrated."""
    names, matrix = scores.matrix()
    values, spread = replicas.mean(matrix)
    for j, name in enumerate(names):
        if name == SPREAD:
            k = names.index(SKILL)
            if values[k] > 0:
                ratios = np.sqrt(spread[:, j] / np.where(spread[:, k] > 0, spread[:, k], np.nan))
                interval = percentile_interval(ratios[np.isfinite(ratios)])
                yield Measured("spread_skill", float(np.sqrt(values[j] / values[k])), *interval, None, replicas.n, "1")
        elif name != SKILL:
            interval = percentile_interval(spread[:, j])
            yield Measured(name, float(values[j]), *interval, None, replicas.n, scores.units[name])


class Evaluation:
    """EvaluationSettings of one method: what is shared by its results.

    Args:
        job: `Plan.evaluate_job`, parsed.
        ensembles, references, seen: as in `evaluate`.
    """

    def __init__(self, job: dict[str, Any], ensembles: dict[str, Path], references: dict[str, Path], seen: list[Path]):
        self.job, self.ensembles, self.references = job, ensembles, references
        self.evaluation = job["evaluation"]
        self.seen = checks.SeenObservations([Path(path) for path in seen], self.evaluation["swd_events"])

    @cached_property
    def problem(self) -> Problem | None:
        """The problem, where it has a forward process."""
        problem = problem_of(self.job["problem"])
        return problem if hasattr(problem, "forward") else None

    def case(self, family: str) -> Case:
        """What one family's results are compared with."""
        base = self.job["families"][family]["base"]
        reference = self.references.get(base)
        return Case(family, self.job, Path(self.ensembles[family]), Path(reference) if reference else None)

    def judge(
        self, case: Case, infer: str, seed: int, path: Path, file: h5py.File
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The rows of one posterior for the metrics table and for the cost table; its examples go to the file."""
        job = self.job
        result = self._result(case, infer, seed)
        with PosteriorReader(path) as posterior:
            refuse_foreign(case, posterior)
            address = (job["seed"], job["problem_name"], job["method"], infer, seed, case.name)
            is_point = job["returns"] == "point estimate"
            most = case.events_of_distance(posterior.n)
            ranked = case.known and not is_point and posterior.draws >= LEAST_DRAWS and most >= LEAST_EVENTS
            credibility = case.credibility(most, self.problem) if ranked else None
            exact = case.exact(self.problem)
            found = collect(case, posterior, address, is_point, credibility, None if is_point else exact)
            measured = self._measure(case, posterior, found)
            if credibility is not None and found.ranks is not None:
                measured += credibility.rows(found.ranks, case.replicas(most))
            if exact is not None:
                measured += self._against_exact(case, posterior, found, exact)
            group = self._group(file, case, infer, seed, "features" if posterior.x.is_vector else "fields")
            self._examples(case, posterior, found, group)
            if credibility is not None and found.ranks is not None:
                credibility.write(group, found.ranks, case.replicas(most).weight)
            resimulated, again = self._resimulate(case, posterior)
            if again is not None:
                examples.write_resimulated(group, again.event, again.first)
            rows = [result.row(row, case.reader.n) for row in [*measured, *resimulated]]
            return rows, result.cost_row(posterior.cost, posterior.n, posterior.draws)

    def _result(self, case: Case, infer: str, seed: int) -> Result:
        job = self.job
        return Result(
            study=job["study"],
            problem=job["problem_name"],
            method=job["method"],
            method_kind=job["method_kind"],
            infer=infer,
            seed=seed,
            family=case.name,
            role=case.role,
            shift=case.shift,
            returns=job["returns"],
        )

    def _group(self, file: h5py.File, case: Case, infer: str, seed: int, kind: str) -> h5py.Group:
        labels = {"title": case.title, "role": case.role, "shift": case.shift, "kind": kind}
        return examples.start_group(file, infer, seed, case.name, labels)

    def judge_unfolded(
        self, result: list[Any], path: Path, file: h5py.File, rows: list[dict[str, Any]], costs: list[dict[str, Any]]
    ) -> None:
        """Add the rows of one unfolded distribution; its cost goes to that of the posterior beside it, if any."""
        infer, seed, family = result
        case = self.case(family)
        row = self._result(case, infer, seed)
        name = f"{infer}/{seed}/{family}"
        address = (self.job["seed"], self.job["problem_name"], self.job["method"], infer, seed, family)
        group = file.get(name)
        if group is None and case.reader.x is not None and case.reader.x.is_vector:
            group = self._group(file, case, infer, seed, "features")
        found = unfolding.judge(case, path, address, group)
        rows += [row.row(measured, found.observed) for measured in found.rows]
        rows += [
            row.row(Measured(key, value, None, None, None, found.observed, "1"), found.observed)
            for key, value in found.diagnostics.items()
        ]
        beside = [c for c in costs if (c["infer"], c["seed"], c["family"]) == (infer, seed, family)]
        if beside:
            counts = {key: value for key, value in found.cost.items() if key != "events"}
            beside[0].update(add_cost({key: beside[0][key] for key in counts}, counts))
        else:
            costs.append(row.cost_row(found.cost, found.observed, None))
        case.reader.close()

    def _measure(self, case: Case, posterior: PosteriorReader, found: Collected) -> list[Measured]:
        n, most = posterior.n, len(found.one)
        replicas = case.replicas(n)
        failed, spread = replicas.mean(found.failed)
        rows = [Measured("failed_draws", float(failed[0]), *percentile_interval(spread[:, 0]), None, n, "1")]
        if case.known:
            rows += case.distances(most).measure(found.one)
            rows += self._weighted(case, posterior, most)
            rows += score_rows(found.scores, replicas)
        if posterior.x.is_vector and self.problem is not None:
            rows.append(
                checks.fold_back(
                    self.problem,
                    case.reader.y,
                    case.flat("y", 0, most),
                    found.one,
                    found.one_ok,
                    case.replicas(most),
                    (*case.address, case.name),
                    self.evaluation["direction_seeds"],
                )
            )
        seen = case.distance_to_seen(most, self.seen)
        rows += [seen] if seen else []
        rows += [Measured(name, float(v), None, None, None, n, "1") for name, v in posterior.diagnostics.items()]
        return rows

    def _weighted(self, case: Case, posterior: PosteriorReader, most: int) -> list[Measured]:
        """``swd_weighted``, for unequal weights: all draws of each event with their weights against the truth."""
        draws = max(1, min(posterior.draws, WEIGHTED_POINTS // most))
        ok = posterior.read("ok", 0, most)[:, :draws]
        weight = normalised(posterior.read("log_weight", 0, most)[:, :draws], ok)
        if weight is None:
            return []
        truth = case.flat("x", 0, most)
        x = posterior.read("x", 0, most)[:, :draws].reshape(most, draws, -1)
        x = np.where(ok[..., None], x, case.space.farthest(truth)[:, None])
        event = case.replicas(most).weight
        if event is not None:
            weight = weight * event[:, None]
        distances, standard = case.distances(most), case.space.standard
        value = sliced_wasserstein(
            standard(x.reshape(most * draws, -1)), standard(truth), distances.paper_directions, weight.ravel(), event
        )
        floor = distances.floors.get("swd_draw")
        return [Measured("swd_weighted", value, None, None, floor, most, case.space.unit)]

    def _against_exact(self, case: Case, posterior: PosteriorReader, found: Collected, exact: Exact) -> list[Measured]:
        rows = []
        if found.errors is not None:
            n = len(found.errors)
            names, matrix = found.scores.matrix()
            scores = dict(zip(names, matrix.T, strict=True))
            rows += exact.measure(found.errors, posterior.draws, scores, case.replicas(n))
        n = min(self.evaluation["c2st_events"], len(found.one))
        if n >= LEAST_EVENTS:
            rows.append(exact.classify(case.reader.y, found.one[:n], case.replicas(n)))
        return rows

    def _resimulate(self, case: Case, posterior: PosteriorReader) -> tuple[list[Measured], checks.Misfit | None]:
        n = min(self.evaluation["resimulate_events"], posterior.n)
        if not n or self.problem is None:
            return [], None
        draws = min(self.evaluation["resimulate_draws"], posterior.draws)
        x, ok = posterior.read("x", 0, n), posterior.read("ok", 0, n)
        weight = normalised(posterior.read("log_weight", 0, n), ok)
        which = np.tile(np.arange(draws), (n, 1))
        if weight is not None:
            rng = seeding.generator(*case.address, case.name, "resimulate")
            total = np.cumsum(weight, axis=1)
            places = rng.random((n, draws, 1)) * total[:, None, -1:]
            which = np.minimum((total[:, None] <= places).sum(axis=2), posterior.draws - 1)
        rows = np.arange(n)[:, None]
        found = checks.misfit(
            self.problem,
            case.reader.y,
            case.flat("y", 0, n),
            x[rows, which],
            ok[rows, which],
            (*case.address, case.name),
        )
        for event, each in enumerate(found.event):
            log.info("%s, event %d: misfit %.4g, the median of %d draws", case.name, event, each, draws)
        truth = case.truth_misfit(self.problem, n)
        return checks.misfit_rows(found, truth, case.replicas(n)), found

    def _examples(self, case: Case, posterior: PosteriorReader, found: Collected, group: h5py.Group) -> None:
        reader = case.reader
        if posterior.x.is_vector:
            most = len(found.one)
            unfolded = np.where(found.one_ok[:, None], found.one, np.nan)
            truth = case.flat("x", 0, most) if case.known else None
            data = examples.Features(posterior.x, reader.y, unfolded, truth, case.flat("y", 0, most))
            examples.write_features(group, data, case.replicas(most))
            return
        n = min(self.evaluation["examples"], posterior.n)
        ok = posterior.read("ok", 0, n)
        weight = normalised(posterior.read("log_weight", 0, n), ok)
        weight = ok / posterior.draws if weight is None else weight * ok
        truth = reader.read("x", 0, n) if case.known else None
        x = posterior.read("x", 0, n)
        examples.write_fields(group, posterior.x, reader.y, x, weight, reader.read("y", 0, n), truth)


def evaluate(
    job: str,
    posteriors: list[Path],
    ensembles: dict[str, Path],
    references: dict[str, Path],
    seen: list[Path],
    metrics: Path,
    cost: Path,
    examples: Path,
    unfolded: Sequence[Path] = (),
) -> None:
    """Judge one method on one problem and write its metrics, its cost and what the report draws of it.

    Args:
        job: `Plan.evaluate_job`.
        posteriors: an index file for each of the job's `results`, in their order.
        ensembles: judged family -> index of its test split.
        references: base family -> index of its reference split.
        seen: indices of the seen families' train split.
        metrics, cost: tables to write, CSV (columns: `pullback.metrics.table`).
        examples: arrays to write, HDF5 (layout: `pullback.metrics.examples`).
        unfolded: a file for each of the job's ``unfolded`` results, in their order.

    Raises:
        EvaluationError: files that do not belong together; nothing is written.
        StoreError: a file is missing or damaged, or an output cannot be written.
    """
    parsed = json.loads(job)
    refuse_stale_files(
        parsed,
        posteriors=posteriors,
        ensembles=list(ensembles.values()),
        references=list(references.values()),
        seen=seen,
        unfolded=unfolded,
    )
    results = [tuple(result) for result in parsed["results"]]
    if len(results) != len(posteriors):
        raise EvaluationError(
            f"the job lists {len(results)} results, found {len(posteriors)} posteriors; give one for each, in order"
        )
    evaluation = Evaluation(parsed, ensembles, references, seen)
    found: dict[int, tuple[list[dict[str, Any]], dict[str, Any]]] = {}
    # One family after another, so that one truth is in memory; the tables keep the job's order.
    order = sorted(range(len(results)), key=lambda i: list(parsed["families"]).index(results[i][2]))
    case: Case | None = None
    with hdf5.create(examples) as file:
        names = {"problem": "problem_name", "method": "method", "method_kind": "method_kind", "returns": "returns"}
        file.attrs.update({name: parsed[key] for name, key in names.items()} | {"spec_digest": hdf5.spec_digest(job)})
        for i in progress(order, total=len(order), label=f"judge {parsed['method']}"):
            infer, seed, family = results[i]
            if case is None or case.name != family:
                if case is not None:
                    case.reader.close()
                case = evaluation.case(family)
            found[i] = evaluation.judge(case, infer, seed, Path(posteriors[i]), file)
        if case is not None:
            case.reader.close()
        rows = [row for i in range(len(results)) for row in found[i][0]]
        costs = [found[i][1] for i in range(len(results))]
        for result, path in zip(parsed.get("unfolded", []), unfolded, strict=True):
            evaluation.judge_unfolded(result, path, file, rows, costs)
        write_table(metrics, COLUMNS, rows)
        write_table(cost, COST_COLUMNS, costs)
