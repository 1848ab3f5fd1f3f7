"""Evaluation of one method on one problem: every inference, seed and family. Loads no torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pullback.core.joblog import progress
from pullback.ensembles import hdf5
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.ensembles.store import PosteriorReader, add_cost
from pullback.metrics import checks, unfolding
from pullback.metrics import examples as drawn
from pullback.metrics.answers import Answers
from pullback.metrics.case import Case, EvaluationError, refuse_foreign
from pullback.metrics.metric import Measured, Metric, built_in, load_metrics
from pullback.metrics.sample import normalised
from pullback.metrics.table import COLUMNS, COST_COLUMNS, Result, write_table
from pullback.problems.base import can_simulate, problem_of


def _result(job: dict[str, Any], case: Case, infer: str, seed: int) -> Result:
    names: tuple[str, str, str, str] = (job["study"], job["problem_name"], job["method"], job["method_kind"])
    return Result(*names, infer, seed, case.name, case.role, case.shift, job["returns"])


def _group(file: h5py.File, case: Case, infer: str, seed: int, kind: str) -> h5py.Group:
    labels = {"title": case.title, "role": case.role, "shift": case.shift, "kind": kind}
    return drawn.start_group(file, infer, seed, case.name, labels)


def _unfolded(
    job: dict[str, Any],
    case: Case,
    result: tuple[str, int, str],
    path: Path,
    file: h5py.File,
    costs: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """The rows of one unfolded distribution; its cost goes to that of the posterior beside it, if any."""
    infer, seed, family = result
    row = _result(job, case, infer, seed)
    name = f"{infer}/{seed}/{family}"
    group = file.get(name)
    if group is None and case.reader.x is not None and case.reader.x.is_vector:
        group = _group(file, case, infer, seed, "features")
    address = (job["seed"], job["problem_name"], job["method"], infer, seed, family)
    found = unfolding.judge(case, path, address, group)
    beside = [c for c in costs if (c["infer"], c["seed"], c["family"]) == (infer, seed, family)]
    if beside:
        counts = {key: value for key, value in found.cost.items() if key != "events"}
        beside[0].update(add_cost({key: beside[0][key] for key in counts}, counts))
    else:
        costs.append(row.cost_row(found.cost, found.observed, None))
    noticed = [Measured(key, v, None, None, None, found.observed, "1") for key, v in found.diagnostics.items()]
    return [row.row(measured, found.observed) for measured in [*found.rows, *noticed]]


def _posterior(
    job: dict[str, Any],
    case: Case,
    result: tuple[str, int, str],
    path: Path,
    metrics: list[Metric],
    seen: checks.SeenObservations,
    file: h5py.File,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of one posterior for the metrics table and for the cost table; its examples go to the file."""
    infer, seed, family = result
    whose = _result(job, case, infer, seed)
    with PosteriorReader(path) as posterior:
        refuse_foreign(case, posterior)
        address = (job["seed"], job["problem_name"], job["method"], infer, seed, family)
        answers = Answers(case, posterior, metrics, address, job["returns"] == "point estimate", seen)
        rows = [whose.row(row, case.reader.n) for row in answers.rows()]
        group = _group(file, case, infer, seed, "features" if posterior.x.is_vector else "fields")
        _examples(answers, group)
        if answers.credibility is not None and answers.ranks is not None:
            answers.credibility.write(group, answers.ranks, case.replicas(len(answers.ranks)).weight)
        if answers.misfit is not None:
            drawn.write_resimulated(group, answers.misfit.event, answers.misfit.first)
        return rows, whose.cost_row(posterior.cost, posterior.n, posterior.draws)


def _examples(answers: Answers, group: h5py.Group) -> None:
    """What the report draws of a posterior."""
    case, posterior, reader = answers.case, answers.posterior, answers.case.reader
    if posterior.x.is_vector:
        most = len(answers.one)
        unfolded = np.where(answers.one_ok[:, None], answers.one, np.nan)
        truth = case.flat("x", 0, most) if case.known else None
        data = drawn.Features(posterior.x, reader.y, unfolded, truth, case.flat("y", 0, most))
        drawn.write_features(group, data, case.replicas(most))
        return
    n = min(case.evaluation["examples"], posterior.n)
    ok = posterior.read("ok", 0, n)
    weight = normalised(posterior.read("log_weight", 0, n), ok)
    weight = ok / posterior.draws if weight is None else weight * ok
    truth = reader.read("x", 0, n) if case.known else None
    drawn.write_fields(group, posterior.x, reader.y, posterior.read("x", 0, n), weight, reader.read("y", 0, n), truth)


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
    observed = checks.SeenObservations([Path(path) for path in seen], parsed["evaluation"]["swd_events"])
    found: dict[int, tuple[list[dict[str, Any]], dict[str, Any]]] = {}

    def open_case(family: str) -> Case:
        reference = references.get(parsed["families"][family]["base"])
        return Case(family, parsed, Path(ensembles[family]), Path(reference) if reference else None, problem)

    # One family after another, so that one truth is in memory; the tables keep the job's order.
    order = sorted(range(len(results)), key=lambda i: list(parsed["families"]).index(results[i][2]))
    case: Case | None = None
    with hdf5.create(examples) as file:
        names = {"problem": "problem_name", "method": "method", "method_kind": "method_kind", "returns": "returns"}
        file.attrs.update({name: parsed[key] for name, key in names.items()} | {"spec_digest": hdf5.spec_digest(job)})
        for i in progress(order, total=len(order), label=f"judge {parsed['method']}"):
            family = results[i][2]
            if case is None or case.name != family:
                if case is not None:
                    case.reader.close()
                case = open_case(family)
            found[i] = _posterior(parsed, case, results[i], Path(posteriors[i]), measured, observed, file)
        if case is not None:
            case.reader.close()
        rows = [row for i in range(len(results)) for row in found[i][0]]
        costs = [found[i][1] for i in range(len(results))]
        for result, path in zip(parsed.get("unfolded", []), unfolded, strict=True):
            case = open_case(result[2])
            rows += _unfolded(parsed, case, tuple(result), path, file, costs)
            case.reader.close()
        write_table(metrics, COLUMNS, rows)
        write_table(cost, COST_COLUMNS, costs)
