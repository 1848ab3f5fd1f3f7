import math

import pandas
import pytest

from pullback import registry
from pullback.metrics.metric import words
from pullback.report.files import ReportError
from pullback.report.page import _of_most
from pullback.report.style import interval, main_metric, make_series, number
from pullback.report.tables import (
    Family,
    Measured,
    best,
    cost_rows,
    metric_table,
    read_check,
    read_csv,
    truth_free,
)


def cell(value, half, n=100.0, competes=True):
    return Measured(value, value - half, value + half, n=n, competes=competes)


@pytest.mark.parametrize(
    ("cells", "better", "expected"),
    [
        ([cell(1, 0.1), cell(2, 0.1)], "lower", 0),
        ([cell(1, 0.1), cell(2, 0.1)], "higher", 1),
        ([cell(1, 0.6), cell(2, 0.6)], "lower", None),  # intervals overlap
        ([cell(1, 0.5), cell(2, 0.5)], "lower", None),  # they touch
        ([cell(1, 0.1), cell(2, 0.1), cell(3, 2.5)], "lower", None),  # not the next, but a third one reaches it
        ([cell(1, 0.1), cell(2, 0.1)], "", None),  # neither is better
        ([cell(0.5, 0.1, competes=False), cell(1, 0.1), cell(2, 0.1)], "lower", 1),  # the exact bound is not ranked
        ([cell(0.5, 0.1, n=4), cell(1, 0.1), cell(2, 0.1)], "lower", 1),  # judged on fewer events: not ranked
        ([cell(0.5, 0.1, n=4), cell(1, 0.1)], "lower", None),  # nobody else on as many events
        ([Measured(1, math.nan, math.nan, n=100), cell(2, 0.1), cell(3, 0.1)], "lower", 1),  # without interval
        ([None, cell(2, 0.1)], "lower", None),
        ([], "lower", None),
    ],
)
def test_best_needs_intervals_apart_from_all_others(cells, better, expected):
    assert best(cells, better) == expected


def row(**more):
    base = {"metric": "swd_draw", "method": "a", "infer": "default", "family": "f", "unit": "1"}
    return base | {"value": 1.0, "low": 0.9, "high": 1.2, "floor": 0.5, "n": 10.0, "groups": 10.0} | more


def test_a_table_marks_counts_and_notes_fewer_events():
    series = make_series([("a", "default", "cfm", "approximate"), ("b", "default", "enkg", "approximate"),
                          ("c", "default", "ei-fm", "approximate")])  # fmt: skip
    families = [Family("f", "F", "unseen"), Family("g", "G", "seen"), Family("h", "H", "unseen")]
    rows = [
        row(), row(method="c", value=0.5, low=0.4, high=0.6),
        row(method="b", value=0.1, low=0.1, high=0.2, n=4.0, floor=0.8, groups=4.0),
        row(family="g"), row(family="g", method="c", value=0.95),
    ]  # fmt: skip
    table = metric_table(rows, "swd_draw", series, families)
    assert [(role, [r.family.name for r in found]) for role, found in table.groups] == [
        ("seen", ["g"]),
        ("unseen", ["f"]),
    ]
    assert table.marks == {"c": 1}
    (unseen,) = table.groups[1][1]
    labels = [s.label for s in table.series]
    assert [c.best for c in unseen.cells] == [label == "c" for label in labels]
    assert unseen.floor == number(0.5)
    note = unseen.cells[labels.index("b")].note
    assert "n = 4" in note
    assert number(0.8) in note
    assert "groups" not in note, "each event is one"
    assert unseen.cells[labels.index("b")].few
    assert "fewer than five independent groups" in table.few
    assert unseen.cells[labels.index("c")].note == ""
    (seen,) = table.groups[0][1]
    assert seen.cells[labels.index("b")].value == "–"


@pytest.mark.parametrize(
    ("metric", "measured", "seen", "word", "good"),
    [
        ("embedding_distance", Measured(0.9, math.nan, math.nan), [], "as near as sets of the training priors", True),
        ("embedding_distance", Measured(1.1, math.nan, math.nan), [], "1 in 20 of their sets lies beyond 1", None),
        ("embedding_distance", Measured(1.6, math.nan, math.nan), [], "1.6 times as far from the training", False),
        ("seen_swd", Measured(0.2, math.nan, math.nan, floor=0.25), [], "as near as sets of the training priors", True),
        ("seen_swd", Measured(0.3, math.nan, math.nan, floor=0.25), [], "at the edge of the training priors", None),
        ("seen_swd", Measured(0.5, math.nan, math.nan, floor=0.25), [], "2.0 times as far from the training", False),
        ("seen_swd", Measured(0.5, math.nan, math.nan), [], "too few training sets", None),
        ("fold_back_swd", Measured(0.03, 0.02, 0.04, floor=0.025), [], "at the sampling floor", True),
        ("fold_back_swd", Measured(0.05, 0.04, 0.06, floor=0.025), [], "2.0 times the sampling floor", None),
        ("misfit", Measured(0.2, 0.1, 0.3), [cell(0.3, 0.1)], "as on seen", True),
        ("misfit", Measured(0.9, 0.8, 1.0), [cell(0.3, 0.1)], "3.0 times the largest", False),
        ("misfit", Measured(0.9, 0.8, 1.0), [], "no seen family", None),
    ],
)
def test_checks_without_truth_are_read_in_words(metric, measured, seen, word, good):
    reading, verdict = read_check(metric, measured, seen)
    assert word in reading
    assert verdict is good


def test_a_set_of_untrained_size_is_not_read_by_its_embedding():
    series = make_series([("a", "default", "ei-fm", "approximate")])
    families = [Family("o", "O", "observed")]
    rows = {
        "embedding_distance": [row(metric="embedding_distance", family="o", value=2.1)],
        "seen_swd": [row(metric="seen_swd", family="o", value=0.4)],
        "set_size_outside": [row(metric="set_size_outside", family="o", value=1.0)],
    }
    checks = truth_free(rows, series, families)
    assert "sets have a size that was not trained" in checks[0].reading
    assert [check.good for check in checks] == [None, True]


def test_only_observed_families_are_listed_among_the_checks():
    series = make_series([("a", "default", "ei-fm", "approximate")])
    families = [Family("s", "S", "seen"), Family("o", "O", "observed")]
    rows = {
        "misfit": [
            row(metric="misfit", family="s", value=0.4),
            row(metric="misfit", family="o", value=0.3, floor=math.nan),
        ]
    }
    (check,) = truth_free(rows, series, families)
    assert (check.family.name, check.good) == ("o", True)


@pytest.mark.parametrize(
    ("value", "low", "high", "text", "span"),
    [
        (0.01234, 0.0112, 0.0135, "0.0123", "[0.0112, 0.0135]"),
        (212.43, 205.1, 221.9, "212.4", "[205.1, 221.9]"),
        (212.43, 150.1, 280.9, "212", "[150, 281]"),
        (12345.6, 11000, 13000, "12\u202f346", "[11\u202f000, 13\u202f000]"),
        (-0.5, -0.6, -0.4, "−0.50", "[−0.60, −0.40]"),
        (0.02468, math.nan, math.nan, "0.0247", ""),
        (math.nan, math.nan, math.nan, "–", ""),
    ],
)
def test_numbers_have_the_digits_that_their_interval_supports(value, low, high, text, span):
    assert number(value, low, high) == text
    assert interval(value, low, high) == span


@pytest.mark.parametrize(
    ("metric", "title", "better"),
    [
        ("swd_draw", "Sliced Wasserstein distance, one draw", "lower"),
        ("swd500_draw", "Sliced Wasserstein distance (500 directions), one draw", "lower"),
        ("w1_draw.pt", "Wasserstein-1 distance (pt), one draw", "lower"),
        ("ssim_point", "Structural similarity, point estimate", "higher"),
        ("coverage90", "Coverage of central intervals (90 %)", "target"),
        ("fold_back_swd", "Fold-back distance", "lower"),
        ("crps", "CRPS", "lower"),
        ("crps_excess", "CRPS above the exact posterior's", "lower"),
        ("energy_score", "Energy score", "lower"),
        ("energy_score_excess", "Energy score above the exact posterior's", "lower"),
        ("sbc_ks.x1", "SBC: distance of ranks from uniform (x1)", "lower"),
        ("tarp_gap.local", "TARP: gap of expected coverage (local)", "lower"),
        ("c2st", "C2ST against the exact posterior", "lower"),
        ("set_size_outside", "Sets of untrained size", ""),
        ("my_own", "my own", ""),
    ],
)
def test_metrics_have_words(metric, title, better):
    text = words(metric)
    assert (text.title, text.better) == (title, better)


def test_a_metric_of_few_results_does_not_stand_first():
    """Beside four methods with 8 draws, DDRM alone has an error of the mean: the first table had one column."""
    rows = {
        metric: [{"method": method, "infer": "default"} for method in methods]
        for metric, methods in {"mae_point": ["ddrm"], "mae_draw": ["ddrm", *"abcd"], "crps": list("abcd")}.items()
    }
    assert main_metric(_of_most(rows), is_field=True) == "mae_draw"


def test_main_metric_depends_on_the_kind_of_truth():
    names = ["failed_draws", "swd_draw", "mae_point", "mse_point"]
    assert main_metric(names, is_field=False) == "swd_draw"
    assert main_metric(names, is_field=True) == "mae_point"
    assert main_metric(["failed_draws", "mse_draw"], is_field=True) == "mse_draw"
    assert main_metric(["failed_draws", "misfit"], is_field=True) is None


def test_colours_belong_to_methods_and_differ():
    methods = [
        ("cfm", "four", "cfm", "approximate"),
        ("cfm", "two", "cfm", "approximate"),
        ("ei-fm-k5", "default", "ei-fm", "approximate"),
        ("ei-fm-k8", "default", "ei-fm", "approximate"),
        ("oracle", "default", "oracle", "asymptotic"),
        ("random", "default", "random-truth", "approximate"),
    ]
    series = make_series(
        methods + methods[:2], {kind: registry.load("methods", kind) for kind in ("oracle", "random-truth")}
    )
    assert [s.label for s in series] == ["cfm (four)", "cfm (two)", "ei-fm-k5", "ei-fm-k8", "random", "oracle"]
    assert series[0].colour == series[1].colour
    assert len({s.colour for s in series}) == 5
    assert len({s.marker for s in series[:2]}) == 2
    assert [s.competes for s in series] == [True] * 5 + [False]


def test_costs_are_summed_over_families_and_averaged_over_seeds():
    common = {"method": "a", "infer": "default", "peak_memory_mb": 10.0, "simulator_calls": 5.0, "network_calls": 1.0,
              "network_gradients": 3.0, "likelihood_gradients": 2.0, "failed_simulations": 0.0,
              "projected": 0.0, "events": 100.0, "draws": 4.0}  # fmt: skip
    rows = [
        common | {"seed": s, "family": f, "seconds": t}
        for s, f, t in (("0", "f", 1), ("0", "g", 3), ("1", "f", 2), ("1", "g", 2))
    ]
    ((one, cells),) = cost_rows(pandas.DataFrame(rows), make_series([("a", "default", "cfm", "approximate")]))
    assert one.method == "a"
    # 4 s, 10 MB, 200 events of 4 draws: 5 ms a draw; for each seed 2 network calls, 6 and 4 gradients and 10
    # simulator calls.
    assert cells == ["4.00", "10", "200", "4", "5.00", "2", "6", "4", "10", "0", "0"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_a_table_that_is_not_one_is_an_error(tmp_path, text):
    path = tmp_path / "cfm.csv"
    path.write_text(text)
    with pytest.raises(ReportError, match=r"cfm\.csv"):
        read_csv([path], ("metric",))
