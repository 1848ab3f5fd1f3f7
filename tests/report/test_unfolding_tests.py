"""Tests of unfolding in the report: the worst family of each, the slope of recovered means, weights by iteration."""

import math
import re

import numpy as np
import pytest

from pullback.report import weights
from pullback.report.figures import shorten
from pullback.report.seeds import Measured
from pullback.report.style import make_series
from pullback.report.tables import Family
from pullback.report.unfolding_tests import Results, method_tables, outcomes, slope

SERIES = make_series([("cfm", "default", "cfm", "approximate"), ("ibu", "default", "ibu", "approximate")])
FAMILIES = [
    *(Family(name, name.upper(), "seen") for name in ("a", "b")),
    *(Family(name, name.upper(), "unseen") for name in ("c", "d")),
    Family("noisy", "NOISY", "unseen", shift="noise"),
]


def made(values):
    """Rows of a metrics table from metric -> {(method, family): (value, low, high)}."""
    return Results(
        {
            metric: [
                {
                    "metric": metric,
                    "method": method,
                    "infer": "default",
                    "seed": 0,
                    "family": family,
                    "value": value,
                    "low": low,
                    "high": high,
                    "floor": 1.0,
                    "unit": "1",
                    "n": 100,
                    "groups": 100.0,
                }
                for (method, family), (value, low, high) in found.items()
            ]
            for metric, found in values.items()
        },
        SERIES,
        FAMILIES,
    )


def lines(values):
    """Outcomes by the first word of the test and the method."""
    values = {"triangular_draw.pt": {("cfm", "a"): (1.0, 0.9, 1.1)}} | values
    return {(line.test.partition(" (")[0], line.series.method): line for line in outcomes(made(values))}


def test_the_worst_family_of_each_role_is_told():
    chi2 = {("cfm", "a"): (1.1, 0.9, 1.3), ("cfm", "b"): (2.5, 2.0, 3.0), ("cfm", "c"): (1.2, 0.8, 1.6),
            ("cfm", "noisy"): (9.0, 8.0, 10.0)}  # fmt: skip
    found = lines({"chi2_draw": chi2})
    closure, stress = found["closure", "cfm"], found["stress", "cfm"]
    assert (closure.where, closure.good, closure.result) == ("B", False, "2.50")
    assert "on 1 of 2 families" in closure.reading
    assert (stress.where, stress.good) == ("C", True)
    assert lines({"chi2_draw": {("cfm", "c"): (1.5, 1.2, 1.8)}})["stress", "cfm"].good is None
    assert not lines({"chi2_unfolded": chi2})  # of draws there is none


def test_an_unfolded_distribution_is_tested_by_its_own_rows():
    both = {("ibu", "a"): (1.0, 0.9, 1.1)}
    found = lines({"triangular_unfolded.pt": both, "chi2_unfolded.pt": {("ibu", "a"): (3.0, 2.5, 3.5)}})
    assert found["closure", "ibu"].good is False
    assert ("closure", "cfm") not in found


def test_bottom_line_counts_and_fold_back():
    found = lines(
        {
            "bottom_line_draw": {("cfm", "a"): (1.2, 0.9, 1.5), ("cfm", "c"): (1.15, 1.1, 1.2)},
            "truths_ratio": {("cfm", "a"): (0.9, 0.88, 0.92)},
            "fold_back_swd": {("cfm", "d"): (1.2, 1.1, 1.3)},
        }
    )
    assert (found["bottom line", "cfm"].where, found["bottom line", "cfm"].good) == ("C", False)
    assert found["number of truths", "cfm"].reading == "fewer truths than there are"
    assert found["fold-back", "cfm"].good is True


def test_the_slope_is_that_of_weighted_least_squares():
    rng = np.random.default_rng(0)
    x, sigma = rng.uniform(50, 100, 8), rng.uniform(0.1, 0.4, 8)
    bias = -0.1 * (x - 70) + sigma * rng.standard_normal(8)
    measured = [Measured(b, b - 1.96 * s, b + 1.96 * s) for b, s in zip(bias, sigma, strict=True)]
    injected = [Measured(v, v - 0.2, v + 0.2) for v in x]
    value, error = slope(injected, measured)
    (wanted, _), covariance = np.polyfit(x, x + bias, 1, w=1 / sigma, cov="unscaled")
    assert value == pytest.approx(wanted)
    scatter = np.sum(((x + bias - np.polyval(np.polyfit(x, x + bias, 1, w=1 / sigma), x)) / sigma) ** 2) / 6
    assert error == pytest.approx(math.sqrt(covariance[0, 0] * max(scatter, 1.0)))
    assert slope(injected[:2], measured[:2]) is None
    # Means that differ by their statistics have no slope.
    assert slope([Measured(v, v - 50, v + 50) for v in x], measured) is None


def test_damped_means_are_seen_over_families():
    means = dict(zip("abcd", (50.0, 60.0, 70.0, 90.0), strict=True))
    injected = {("cfm", name): (m, m - 0.2, m + 0.2) for name, m in means.items()}
    bias = {("cfm", name): (-0.1 * (m - 65), -0.1 * (m - 65) - 0.3, -0.1 * (m - 65) + 0.3) for name, m in means.items()}
    line = lines({"mean_bias_draw.pt": bias, "injected_mean_draw.pt": injected})["linearity", "cfm"]
    assert (line.where, line.good) == ("pt", False)
    assert "4 families: damped" in line.reading
    assert line.result.startswith("0.900")


def test_methods_stand_beside_each_other_for_each_family():
    found = made(
        {
            "triangular_draw.pt": {("cfm", "a"): (1.0, 0.9, 1.1)},
            "triangular_unfolded.pt": {("ibu", "a"): (2.0, 1.9, 2.1)},
            "w1_draw.pt": {("cfm", "a"): (0.5, 0.4, 0.6)},
            "w1_unfolded.pt": {("ibu", "a"): (0.7, 0.6, 0.8)},
            "truths_ratio": {("ibu", "a"): (1.0, 0.9, 1.1)},
        }
    )
    (table,) = method_tables(found, {"pt": "GeV", "eta": "1"})
    assert table.family.name == "a"
    assert table.heads[0] == "W1 pt (GeV)"
    assert [cells for _, cells in table.rows] == [["0.50", "1.00", "–", "–"], ["0.70", "2.00", "–", "1.00"]]
    assert table.floors == ["1.00", "1.00", "1", "1"]


def rows_of_steps(step, values):
    return {
        f"{name}_{step}_{i}": [
            {
                "metric": name,
                "method": "ibu",
                "infer": "default",
                "family": family,
                "value": value / (i + 1),
                "low": math.nan,
                "high": math.nan,
                "floor": math.nan,
                "unit": "1",
                "n": 100,
                "groups": math.nan,
            }
            for family in "abc"
        ]
        for name, value in values
        for i in range(4)
    }


def test_weights_are_drawn_by_iteration():
    found = rows_of_steps("iteration", (("ess", 1e4), ("auc", 0.6), ("change", 0.1), ("clipped", 0.0)))
    (drawing,) = weights.drawings("w", {**found, "iteration_change": []}, SERIES, FAMILIES)
    assert drawing.alt == "Weights of ibu by iteration on A, B, C"
    # A panel for each diagnostic that is drawn, three families in each.
    assert drawing.svg.count('data-series="1"') == 3 * 3
    assert "effective number of truths" in drawing.svg
    assert "clipped" not in drawing.svg
    assert weights.drawings("w", {"ess_draw": []}, SERIES, FAMILIES) == []


def test_effective_shares_of_particles_are_drawn_by_level():
    (drawing,) = weights.drawings("w", rows_of_steps("level", (("ess", 1.0), ("auc", 0.6))), SERIES, FAMILIES)
    assert drawing.alt == "Weights of ibu by level on A, B, C"
    assert drawing.svg.count('data-series="1"') == 3
    assert "effective share of particles" in drawing.svg


def test_every_family_stands_inside_the_legend():
    """Entries of a narrow figure go below each other: those beyond its edge were cut off."""
    titles = ["Patches of other pictures", "Through a wider blur", "A camera's own images"]
    families = [Family(name, title, "seen") for name, title in zip("abc", titles, strict=True)]
    (drawing,) = weights.drawings("w", rows_of_steps("level", (("ess", 1.0),)), SERIES, families)
    places = {text: float(x) for x, text in re.findall(r'<text[^>]*?x="([\d.]+)"[^>]*>([^<]+)</text>', drawing.svg)}
    assert len({places[shorten(title, 24)] for title in titles}) == 1


def test_points_of_curves_need_no_table():
    assert weights.are_drawn("ess_level_12")
    assert weights.are_drawn("change_iteration_0")
    assert not any(map(weights.are_drawn, ["ess_min", "change_level_3", "clipped_iteration_1"]))
