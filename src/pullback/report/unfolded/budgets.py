"""The systematic covariances of a study's uncertainty budget, for the spectra of one result."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pullback.ensembles import hdf5
from pullback.metrics.budget import Budget, read_budgets
from pullback.report.export import ExportError
from pullback.report.unfolded.rows import Rows
from pullback.report.unfolded.spectra import adding

NOT_SYSTEMATIC = ("data", "total")


def budget_of(path: Path, rows: Rows) -> Budget:
    """The budget of a result's family.

    Args:
        path: ``results/<study>/uncertainties/<problem>.h5``.
        rows: the result.

    Raises:
        ExportError: it is of another result, or has none of the family.
        pullback.core.atomic.StoreError: there is no such file, or it is damaged.
    """
    wanted = [str(rows.metadata[key]) for key in ("study", "problem", "method", "infer")]
    with hdf5.open_any(path) as file:
        found = [str(file.attrs.get(key)) for key in ("study", "problem", "method", "infer")]
    if found != wanted:
        raise ExportError(f"{path}: an uncertainty budget of {'/'.join(found)}, wanted one of {'/'.join(wanted)}")
    budgets, family = read_budgets(path), rows.metadata["family"]
    if family not in budgets:
        raise ExportError(f"{path}: has no budget of '{family}', only of {', '.join(budgets)}")
    return budgets[family]


def sources_of(path: Path, budget: Budget, edges: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The covariance of each source but the data, of the entries of `Spectra` with these edges.

    Raises:
        ExportError: edges that are not among those of the budget.
    """
    matrix = adding(path, budget.edges, edges)
    return {
        name: matrix @ covariance @ matrix.T
        for name, covariance in budget.covariance.items()
        if name not in NOT_SYSTEMATIC
    }
