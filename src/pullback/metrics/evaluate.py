"""Evaluation of one method on one problem: every inference, seed and family. Loads no torch."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from pullback.core import seeding
from pullback.core.joblog import progress
from pullback.ensembles import hdf5
from pullback.ensembles.posterior_store import PosteriorReader, add_cost
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import EnsembleReader
from pullback.ensembles.unfolded import UnfoldedReader
from pullback.metrics import acceptance, unfolding
from pullback.metrics import examples as drawn
from pullback.metrics.answers import Answers
from pullback.metrics.bottom_line import Alternative
from pullback.metrics.case import Case, EvaluationError, refuse_foreign
from pullback.metrics.diagnostics import diagnostic_rows
from pullback.metrics.metric import Measured, Metric, built_in, load_metrics
from pullback.metrics.migration import write_migration
from pullback.metrics.sample import normalised
from pullback.metrics.seen import SeenObservations
from pullback.metrics.table import COLUMNS, COST_COLUMNS, write_table
from pullback.problems.base import can_simulate, problem_of


class _Result(NamedTuple):
    """One result of a method on a family: its columns of both tables, root of its random numbers, and its examples."""

    case: Case
    whose: dict[str, Any]
    address: seeding.Address
    file: h5py.File

    @staticmethod
    def of(job: dict[str, Any], case: Case, infer: str, seed: int, file: h5py.File) -> "_Result":
        whose = {"study": job["study"], "problem": job["problem_name"], "infer": infer, "seed": seed}
        whose |= {name: job[name] for name in ("method", "method_kind", "returns")}
        whose |= {"family": case.name, "role": case.role, "shift": case.shift}
        address = (job["seed"], job["problem_name"], job["method"], infer, seed, case.name)
        return _Result(case, whose, address, file)

    def group(self, kind: str) -> h5py.Group:
        """Where the report finds the examples of this result, and of the posterior beside it."""
        group = self.file.require_group("{infer}/{seed}/{family}".format(**self.whose))
        if not group.attrs:
            labels = {"title": self.case.title, "role": self.case.role, "shift": self.case.shift, "kind": kind}
            group.attrs.update(labels)
        return group

    def rows(self, measured: Iterable[Measured]) -> list[dict[str, Any]]:
        """Rows of the metrics table."""
        return [{**self.whose, **each._asdict(), "n_observed": self.case.recorded.n} for each in measured]

    def with_groups(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows whose intervals are by groups, with the number of groups."""
        return [{**row, "groups": self.case.groups(row["n"])} for row in rows]


def _unfolded(result: _Result, path: Path, costs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one unfolded distribution; its cost goes to that of the posterior beside it, if any."""
    case, reader = result.case, UnfoldedReader(path)
    group = result.group("features") if case.reader.x is not None and case.reader.x.is_vector else None
    rows = unfolding.judge(case, reader, result.address, group)
    if group is not None:
        _migration(case, group)
    names = ("infer", "seed", "family")
    beside = [cost for cost in costs if all(cost[name] == result.whose[name] for name in names)]
    if beside:
        counts = {key: value for key, value in reader.cost.items() if key != "events"}
        beside[0].update(add_cost({key: beside[0][key] for key in counts}, counts))
    else:
        costs.append({**result.whose, **reader.cost, "events": case.recorded.n})
    return result.rows([*rows, *diagnostic_rows(reader.diagnostics, case.recorded.n)])


def _posterior(
    result: _Result, path: Path, metrics: list[Metric], seen: SeenObservations
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of one posterior for the metrics table and for the cost table; its examples go to the file."""
    case = result.case
    with PosteriorReader(path) as file:
        refuse_foreign(case, file)
        posterior = case.pairs_of(file)
        point = result.whose["returns"] == "point estimate"
        answers = Answers(case, posterior, metrics, result.address, point, seen)
        rows = result.with_groups(result.rows(answers.rows()))
        group = result.group("features" if posterior.x.is_vector else "fields")
        _examples(answers, group)
        rows += result.rows(acceptance.judge(case, file, result.address, group))
        if posterior.x.is_vector:
            _migration(case, group)
        if answers.credibility is not None and answers.ranks is not None:
            answers.credibility.write(group, answers.ranks, case.replicas(len(answers.ranks)))
        if answers.misfit is not None:
            drawn.write_resimulated(group, answers.misfit.event, answers.misfit.first)
        return rows, {**result.whose, **posterior.cost, "events": file.n, "draws": posterior.draws}


def _records_misses(path: Path) -> bool:
    with EnsembleReader(path) as reader:
        return reader.missed is not None


def _migration(case: Case, group: h5py.Group) -> None:
    """The migration of a seen family: what a method learns the detector from."""
    if case.known and case.role == "seen":
        write_migration(group, case, case.events_of_distance(case.reader.n))


def _examples(answers: Answers, group: h5py.Group) -> None:
    """What the report draws of a posterior."""
    case, posterior, reader = answers.case, answers.posterior, answers.case.reader
    if posterior.x.is_vector:
        most = len(answers.one)
        unfolded = np.where(answers.one_ok[:, None], answers.one, np.nan)
        truth = case.flat("x", 0, most) if case.known else None
        observed = case.flat("y", 0, most)
        drawn.write_features(group, posterior.x, reader.y, unfolded, truth, observed, case.replicas(most))
        _marginals(answers, group)
        return
    n = min(case.evaluation["examples"], posterior.n)
    ok = posterior.read("ok", 0, n)
    weight = normalised(posterior.read("log_weight", 0, n), ok)
    weight = ok / posterior.draws if weight is None else weight * ok
    truth = reader.read("x", 0, n) if case.known else None
    drawn.write_fields(group, posterior.x, reader.y, posterior.read("x", 0, n), weight, reader.read("y", 0, n), truth)


def _marginals(answers: Answers, group: h5py.Group) -> None:
    """The way of one observation's particles from noise, where the method keeps it."""
    posterior, exact = answers.posterior, answers.exact
    if (found := posterior.marginals) is None:
        return
    event = int(np.flatnonzero(posterior.read("event_id") == found.event_id)[0])
    draws = exact.first.x[event, :, 0] if exact is not None and event < exact.n else None
    drawn.write_marginals(group, posterior.x, found, draws, event)


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
    """Evaluate one method on one problem and write its metrics, its cost and the arrays for the report.

    Args:
        job: `Plan.evaluate_job`.
        posteriors: an index file for each of the job's `results`, in their order.
        ensembles: evaluated family -> index of its test split.
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
    simulated = problem_of(parsed["problem"])
    problem = simulated if can_simulate(simulated) else None
    asked = load_metrics(parsed["evaluation"]["metrics"], parsed.get("folder", "."))
    measured = list(dict.fromkeys([*built_in(), *asked]))
    observed = SeenObservations([Path(path) for path in seen], parsed["evaluation"]["swd_events"])
    found: dict[int, tuple[list[dict[str, Any]], dict[str, Any]]] = {}

    misses = any(_records_misses(Path(path)) for path in seen)
    others: dict[str, Case] = {}

    def open_case(family: str) -> Case:
        entry = parsed["families"][family]
        reference = references.get(entry["base"])
        independent = Path(reference) if reference else None
        case = Case(family, parsed, Path(ensembles[family]), independent, problem, misses)
        x = case.reader.x
        if case.known and x is not None and x.is_vector and case.recorded.y.is_vector:
            # Families with the same truths are no alternatives.
            for name, declared in parsed["families"].items():
                if name not in others and declared["role"] != "observed":
                    others[name] = Case(name, parsed, Path(ensembles[name]), None, None)
            apart = [other for other in others.values() if other.known and other.base != entry["base"]]
            case.alternative = Alternative(case, apart) if apart else None
        return case

    # One family after another, so that one truth is in memory; the tables keep the job's order.
    order = sorted(range(len(results)), key=lambda i: list(parsed["families"]).index(results[i][2]))
    case: Case | None = None
    with hdf5.create(examples) as file:
        names = {"problem": "problem_name", "method": "method", "method_kind": "method_kind", "returns": "returns"}
        file.attrs.update({name: parsed[key] for name, key in names.items()} | {"spec_digest": hdf5.spec_digest(job)})
        for i in progress(order, total=len(order), label=f"evaluate {parsed['method']}"):
            infer, seed, family = results[i]
            if case is None or case.name != family:
                if case is not None:
                    case.recorded.close()
                case = open_case(family)
            result = _Result.of(parsed, case, infer, seed, file)
            found[i] = _posterior(result, Path(posteriors[i]), measured, observed)
        if case is not None:
            case.recorded.close()
        rows = [row for i in range(len(results)) for row in found[i][0]]
        costs = [found[i][1] for i in range(len(results))]
        for (infer, seed, family), path in zip(parsed.get("unfolded", []), unfolded, strict=True):
            case = open_case(family)
            rows += _unfolded(_Result.of(parsed, case, infer, seed, file), path, costs)
            case.recorded.close()
        for other in others.values():
            other.recorded.close()
        drawn.name_dimensions(file)
        write_table(metrics, COLUMNS, rows)
        write_table(cost, COST_COLUMNS, costs)
