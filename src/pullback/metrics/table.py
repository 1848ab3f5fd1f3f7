"""The two tables of one method: metrics and cost, as CSV."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pullback.core.atomic import atomic

COLUMNS = (
    "study",
    "problem",
    "method",
    "method_kind",
    "infer",
    "seed",
    "family",
    "role",
    "shift",
    "metric",
    "value",
    "low",
    "high",
    "floor",
    "n",
    "n_observed",
    "groups",
    "unit",
    "returns",
)
"""Columns of the metrics table. value, low, high (95 % by bootstrap of groups) and floor are in ``unit``, empty where
there is none; n events were used of the n_observed there are, in so many effective groups (empty where the interval is
not by groups); returns says what the method's draws are."""

COST_COLUMNS = (
    "problem",
    "method",
    "infer",
    "seed",
    "family",
    "seconds",
    "peak_memory_mb",
    "simulator_calls",
    "network_calls",
    "network_gradients",
    "likelihood_gradients",
    "failed_simulations",
    "projected",
    "events",
    "draws",
)
"""Columns of the cost table: what inference used, summed over parts (memory: the largest)."""


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows, keys beyond the columns left out, under a temporary name that is renamed at the end."""
    with atomic(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_text(row.get(column)) for column in columns] for row in rows)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(value)
