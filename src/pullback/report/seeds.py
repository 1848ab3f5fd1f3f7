"""Averages over seeds: mean over repeats of training and inference, and its interval.

All seeds are evaluated on the same test events. Two independent contributions add in quadrature: the variation between
trainings, s / sqrt(S) with s the standard deviation over S seeds, and the variation with the test events, the interval
[low_i, high_i] of each seed. The events are common to all seeds: their part does not shrink with S.

    low  = v - sqrt( mean_i (v_i - low_i)^2  + (t s / sqrt(S))^2 )
    high = v + sqrt( mean_i (high_i - v_i)^2 + (t s / sqrt(S))^2 ),    v = mean_i v_i,

t the 97.5 % quantile of Student's law with S - 1 degrees of freedom: 12.7 for two seeds, 4.30 for three, 2.78 for five.
Intervals are therefore wide for few seeds. With one seed the interval covers the test events only.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pullback.metrics.metric import words
from pullback.metrics.table import COLUMNS

SEED_COLUMNS = (
    *(name for name in COLUMNS if name not in ("seed", "returns")),
    "returns",
    "seeds",
    "seeds_error",
    "seeds_least",
    "seeds_most",
)
"""Columns of the table of means: those of the metrics table without seed (value, floor: means; low, high: as above; n,
groups: the least), the number of seeds, the standard error of their mean, and their smallest and largest value."""


@dataclass(frozen=True)
class Measured:
    """One metric of one method on one family, over the seeds.

    Attributes:
        value: mean over seeds.
        low, high: 95 % interval; with several seeds it covers the variation between trainings and between test events.
        floor: mean over seeds of the sampling floor (NaN: none).
        n: events.
        groups: how many independent groups of equal weight they are worth (NaN: not known).
        seeds: values of the seeds.
        competes: whether it may be marked best.
    """

    value: float
    low: float
    high: float
    floor: float = math.nan
    n: float = math.nan
    seeds: tuple[float, ...] = ()
    competes: bool = True
    groups: float = math.nan

    @property
    def failed(self) -> bool:
        """Whether too many draws, or simulations of draws, failed for a number."""
        return math.isinf(self.value)

    @property
    def error(self) -> float:
        """Standard error of the mean over seeds; NaN of one."""
        count = len(self.seeds)
        if count < 2:
            return math.nan
        mean = sum(self.seeds) / count
        return math.sqrt(sum((v - mean) ** 2 for v in self.seeds) / (count - 1) / count)


def student(seeds: int) -> float:
    """97.5 % quantile of Student's law with ``seeds - 1`` degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, 0.975))


def grouped(rows: Iterable[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """Rows by what stands in some of their columns, in order: plain dicts, as there are thousands of groups."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def measure(rows: Sequence[dict[str, Any]], competes: bool = True) -> Measured | None:
    """Rows of one metric, method, inference and family (one per seed) as one number; None where there is none.

    If one seed failed (infinite value), the mean is infinite and has no interval.
    """
    rows = [row for row in rows if not math.isnan(row["value"])]
    if not rows:
        return None
    values = tuple(row["value"] for row in rows)
    value = sum(values) / len(values)
    floors = [row["floor"] for row in rows if math.isfinite(row["floor"])]
    found = Measured(
        value=value,
        low=math.nan,
        high=math.nan,
        floor=sum(floors) / len(floors) if floors else math.nan,
        n=min(row["n"] for row in rows),
        seeds=values,
        competes=competes,
        groups=min(row["groups"] for row in rows),
    )
    if not all(math.isfinite(row["low"]) and math.isfinite(row["high"]) for row in rows):
        return found
    training = student(len(rows)) * found.error if len(rows) > 1 else 0.0
    below, above = (
        math.hypot(training, math.sqrt(sum((row[side] - row["value"]) ** 2 for row in rows) / len(rows)))
        for side in ("low", "high")
    )
    low = value - below
    # A distance or a share has no negative values to be found at; what is relative to something else has.
    if words(rows[0]["metric"]).metric.least == 0 and all(row["low"] >= 0 for row in rows):
        low = max(low, 0.0)
    return replace(found, low=low, high=value + above)


def seed_rows(rows: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of a metrics table with numbers as rows of the table of means, in the order of their first seeds."""
    names = [name for name in SEED_COLUMNS if name in COLUMNS]
    for group in grouped(rows, "problem", "method", "infer", "family", "metric").values():
        found = measure(group)
        if found is None:
            continue
        numbers = {name: getattr(found, name) for name in ("value", "low", "high", "floor", "groups")}
        counts = {name: min(row[name] for row in group) for name in ("n", "n_observed")}
        spread = {"seeds_error": found.error, "seeds_least": min(found.seeds), "seeds_most": max(found.seeds)}
        yield {
            **{name: group[0][name] for name in names},
            **{name: "" if math.isnan(value) else value for name, value in (numbers | spread).items()},
            **{name: int(least) if math.isfinite(least) else "" for name, least in counts.items()},
            "seeds": len(found.seeds),
        }
