import csv
import math

import numpy as np
import pytest
from scipy import stats

from pullback.metrics.table import COLUMNS, write_table
from pullback.report.seeds import SEED_COLUMNS, measure, seed_rows, student
from pullback.report.tables import as_numbers, read_csv


def row(**more):
    base = {"metric": "swd_draw", "method": "a", "infer": "default", "family": "f", "unit": "1"}
    return base | {"value": 1.0, "low": 0.9, "high": 1.2, "floor": 0.5, "n": 10.0, "groups": 10.0} | more


def test_one_seed_is_as_it_is():
    found = measure([row()])
    assert (found.value, found.low, found.high, found.floor, found.seeds) == (1.0, 0.9, 1.2, 0.5, (1.0,))
    assert math.isnan(found.error)


def test_spread_of_seeds_and_of_events_add_in_quadrature():
    rows = [row(value=v, low=v - 0.3, high=v + 0.4, floor=f) for v, f in ((5.0, 0.4), (5.2, 0.5), (5.4, 0.6))]
    found = measure(rows)
    training = stats.t.ppf(0.975, 2) * np.std([5.0, 5.2, 5.4], ddof=1) / math.sqrt(3)
    assert found.value == pytest.approx(5.2)
    assert found.value - found.low == pytest.approx(math.hypot(training, 0.3))
    assert found.high - found.value == pytest.approx(math.hypot(training, 0.4))
    assert (found.floor, found.n, found.seeds) == (pytest.approx(0.5), 10.0, (5.0, 5.2, 5.4))
    assert student(3) == pytest.approx(4.303, abs=1e-3)


def test_interval_of_three_seeds_holds_the_mean_of_many():
    """Trainings that scatter about 10, judged on the same events, whose noise moves all seeds alike."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        seeds = 10 + rng.normal() + 0.5 * rng.normal(size=3)
        found = measure([row(value=v, low=v - 1.96, high=v + 1.96) for v in seeds])
        hits += found.low <= 10 <= found.high
    # Quadrature of a normal and a Student interval holds a little more than 95 %.
    assert 0.94 < hits / 2000 < 0.985


def test_a_distance_has_no_negative_end_and_a_difference_may():
    assert measure([row(value=v, low=0.5, high=3) for v in (0.6, 2.9)]).low == 0
    assert measure([row(value=v, low=-0.1, high=3) for v in (0.6, 2.9)]).low < 0
    assert measure([row(metric="energy_score_excess", value=v, low=0.5, high=3) for v in (0.6, 2.9)]).low < 0


def test_a_seed_without_interval_leaves_none():
    found = measure([row(), row(low=math.nan)])
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.value == 1.0
    assert measure([row(value=math.nan)]) is None


def test_a_seed_that_failed_is_not_left_out_of_the_mean():
    found = measure([row(value=0.1), row(seed=1, value=math.inf)])
    assert math.isinf(found.value)
    assert math.isnan(found.low)


def test_table_of_means(tmp_path):
    common = {"study": "s", "problem": "p", "method_kind": "cfm", "role": "unseen", "shift": "none", "n_observed": 20,
              "returns": "approximate"}  # fmt: skip
    rows = [common | row(seed=seed, value=1.0 + seed, low=0.9, high=2.5) for seed in range(2)]
    rows += [common | row(seed=0, metric="misfit", floor=None, low=None, high=None)]
    write_table(tmp_path / "metrics.csv", COLUMNS, rows)
    numbers = as_numbers(read_csv([tmp_path / "metrics.csv"], COLUMNS))
    write_table(tmp_path / "seeds.csv", SEED_COLUMNS, seed_rows(numbers.to_dict("records")))
    with (tmp_path / "seeds.csv").open() as file:
        both, one = csv.DictReader(file)
    assert tuple(both) == SEED_COLUMNS
    assert (both["value"], both["seeds"], both["n"], both["n_observed"]) == ("1.5", "2", "10", "20")
    assert (both["seeds_least"], both["seeds_most"], both["seeds_error"], both["floor"]) == ("1", "2", "0.5", "0.5")
    assert (one["metric"], one["low"], one["floor"], one["seeds"], one["seeds_error"]) == ("misfit", "", "", "1", "")
