"""What the page says about poor results, and that it says nothing about good ones."""

import math

import pytest

from pullback import registry
from pullback.problems.fwi import Fwi
from pullback.report.diagnosis import diagnose
from pullback.report.style import make_series
from pullback.report.tables import Family

FAMILIES = [Family("flat", "flat layers", "seen"), Family("salt", "salt bodies", "unseen")]
SERIES = make_series(
    [
        ("cfm", "default", "cfm", "approximate"),
        ("enkg", "default", "enkg", "approximate"),
        ("random", "default", "random-truth", "approximate"),
    ],
    {kind: registry.load("methods", kind) for kind in ("cfm", "enkg", "random-truth")},
)
GOOD = {"mae_point": 100.0, "relative_l2_point": 0.05, "misfit": 0.06, "coverage90": 0.9, "failed_draws": 0.0,
        "chi2_draw": 1.3, "bottom_line_draw": 0.9, "truths_ratio": 1.0, "purity_ratio": 1.02,
        "unfolded_ess": 40.0}  # fmt: skip


def rows(**more):
    """Good results of two methods and poor ones of random truths; ``more``: metric -> {(method, family): value}."""
    found = {}
    metrics = {**GOOD, "seen_swd": (0.1, 0.1)}
    for metric in metrics:
        for series in SERIES:
            for family in FAMILIES:
                good, floor = metrics[metric] if isinstance(metrics[metric], tuple) else (metrics[metric], math.nan)
                value = good * (8 if series.kind == "random-truth" and metric != "seen_swd" else 1)
                value = more.get(metric, {}).get((series.method, family.name), value)
                value, floor = value if isinstance(value, tuple) else (value, floor)
                found.setdefault(metric, []).append(
                    {"metric": metric, "method": series.method, "infer": "default", "seed": 0, "family": family.name,
                     "value": value, "low": value if metric == "coverage90" else 0.95 * value, "high": 1.05 * value,
                     "floor": floor, "unit": "1", "n": 100, "groups": 100.0}
                )  # fmt: skip
    return found


def said(more=None, preflight=None, advice=Fwi.advice):
    return diagnose(rows(**(more or {})), SERIES, FAMILIES, "mae_point", preflight or {}, advice)


def test_good_results_need_no_word():
    assert said() == []


@pytest.mark.parametrize(
    ("more", "found", "advice"),
    [
        (
            {"seen_swd": {(m, "salt"): 0.31 for m in ("cfm", "enkg", "random")}},
            "3.1 times as far from the training ensembles as 95 % of sets",
            "a seen family that resembles it",
        ),
        (
            {"misfit": {("cfm", "salt"): 0.4, ("enkg", "salt"): 0.2}},
            "draws of cfm (40 %) and enkg (20 %) leave more",
            "a descent from lower frequencies",
        ),
        # 0.25 is what the truth leaves too.
        (
            {"misfit": {("cfm", "flat"): (0.06, 0.05), ("cfm", "salt"): (0.25, 0.25), ("enkg", "salt"): (0.27, 0.25)}},
            "the truth leaves 25 % of its observations unexplained",
            "training on observations with such noise or model errors; check for dead traces",
        ),
        ({"relative_l2_point": {("cfm", "salt"): 0.2}}, "determine it: error of cfm (20 %)", "more shots, wider"),
        ({"coverage90": {("enkg", "salt"): 0.2}}, "over-confident: too few truths lie in 90 % intervals of enkg (20 %)",
         "more particles"),
        ({"coverage90": {("cfm", "salt"): 0.6}}, "over-confident: too few truths lie in 90 % intervals of cfm (60 %)",
         "`steps` of the flow's solver"),
        ({"coverage90": {("cfm", "salt"): 1.0}}, "too wide: too many truths lie in 90 % intervals of cfm (100 %)",
         "more training steps"),
        ({"failed_draws": {("enkg", "salt"): 0.125}}, "draws failed: enkg (12 %)", "the log of the inference"),
        ({"chi2_draw": {("cfm", "salt"): 3.14}}, "by χ² per degree of freedom of cfm (3.14)", "`refine` in inference"),
        ({"truths_ratio": {("cfm", "salt"): 1.2}}, "number of truths than there are, estimated over true: cfm (1.20)",
         "seen families with fakes and misses"),
        ({"purity_ratio": {("cfm", "salt"): 0.8}}, "number of observations with a truth than there are", "whose fakes"),
        ({"bottom_line_draw": {("cfm", "salt"): 1.3}}, "better than its observations are: cfm (1.30)", "replicas"),
        ({"unfolded_ess": {("cfm", "salt"): 0.5}}, "effective share cfm (0.5 %)", "a simulation that covers"),
        ({"mae_point": {("cfm", "salt"): 790.0}}, "no better than truths drawn at random: cfm", "more training"),
    ],
)  # fmt: skip
def test_what_is_poor_is_named_with_a_remedy(more, found, advice):
    (line,) = said(more)
    assert line.family.name == "salt"
    assert len(line.found) == len(line.advice) == 1
    assert found in line.found[0]
    assert advice in line.advice[0]


def test_noise_that_was_trained_with_needs_no_word():
    floors = {("cfm", name): (0.27, 0.25) for name in ("flat", "salt")}
    assert said({"misfit": floors}) == []
    (line,) = said({"misfit": {**floors, ("cfm", "salt"): (0.42, 0.4)}})
    assert line.family.name == "salt"
    assert "the truth leaves 40 %" in line.found[0]


def test_without_a_truth_the_noise_is_that_of_training():
    families = [FAMILIES[0], Family("line", "line 7", "observed")]

    def of_the_line(misfit):
        found = rows(misfit={("cfm", "flat"): (0.42, 0.4)})
        for row in found["misfit"]:
            row |= {"value": misfit, "low": 0.95 * misfit} if row["family"] == "salt" else {}
        named = {
            m: [{**r, "family": "line"} if r["family"] == "salt" else r for r in some] for m, some in found.items()
        }
        return diagnose(named, SERIES, families, "mae_point", {}, Fwi.advice)

    assert of_the_line(0.42) == []
    (line,) = of_the_line(0.9)
    assert "than noise as in training would; the noise of this family is unknown" in line.found[0]


def test_a_simulators_own_noise_is_no_flaw_where_no_seen_family_is_evaluated():
    """Of a sweep there is no test split: what the truth of other families of the same simulator leaves is known."""
    noisy = {(m, "salt"): (0.3, 0.25) for m in ("cfm", "enkg", "random")}
    found = {m: [r for r in some if r["family"] == "salt"] for m, some in rows(misfit=noisy).items()}

    def of(*families):
        named = {m: [{**r, "family": f.name} for f in families for r in some] for m, some in found.items()}
        for row in named["misfit"]:
            row["floor"] = 0.4 if row["family"] in ("shifted", "read") else row["floor"]
        return diagnose(named, SERIES, families, "mae_point", {}, {})

    plain = Family("salt", "salt bodies", "unseen")
    shifted, read = Family("shifted", "s", "unseen", shift="noise"), Family("read", "r", "unseen", outside=True)
    assert of(plain) == []
    assert [line.family.name for line in of(plain, shifted)] == ["shifted"]
    (line,) = of(plain, read)
    assert line.family.name == "read"
    assert line.advice[0].startswith("first compare amplitude, sign and units of the observations")
    # Nothing is known of the simulator's own noise.
    assert of(read) == []


def test_what_no_method_explains_of_files_may_have_another_amplitude_or_sign():
    """-y in place of y leaves 2, 10 y leaves 0.9: whatever the draws."""
    none = {(m, "salt"): 2.0 for m in ("cfm", "enkg")}
    families = [FAMILIES[0], Family("salt", "line 7", "observed", outside=True)]
    (line,) = diagnose(rows(misfit=none), SERIES, families, "mae_point", {}, {})
    assert line.advice[0].startswith("first compare amplitude, sign and units of the observations")
    one = {("cfm", "salt"): 2.0}
    (line,) = diagnose(rows(misfit=one), SERIES, families, "mae_point", {}, {})
    assert "amplitude" not in line.advice[0]
    # What the problem's own simulator made has its amplitude.
    (line,) = said({"misfit": none})
    assert "amplitude" not in line.advice[0]


def test_gathers_are_not_spoken_of_elsewhere():
    floors = {("cfm", "flat"): (0.06, 0.05), ("cfm", "salt"): (0.25, 0.25), ("enkg", "salt"): (0.27, 0.25)}
    (line,) = said({"misfit": floors}, advice={})
    assert not any(word in str(line) for word in ("gathers", "traces"))


def test_a_size_of_sets_that_was_not_trained_is_named_first():
    far = {(m, "salt"): (0.31, 0.1) for m in ("cfm", "enkg", "random")}
    found = rows(seen_swd=far)
    found["set_size_outside"] = [
        {**r, "metric": "set_size_outside", "value": float(r["family"] == "salt"), "low": math.nan, "high": math.nan}
        for r in found["mae_point"]
        if r["method"] == "cfm"
    ]
    (line,) = diagnose(found, SERIES, FAMILIES, "mae_point", {}, {})
    assert line.found[0] == "cfm had no sets of its size in training"
    assert "3.1 times as far" in line.found[1]


def test_a_file_that_is_also_trained_on_has_no_distance():
    nothing = {(m, f): 0.0 for m in ("cfm", "enkg", "random") for f in ("flat", "salt")}
    assert said({"seen_swd": nothing}) == []


def test_advice_is_for_the_kind_of_method():
    (trained,), (guided,) = (said({"misfit": {(method, "salt"): 0.4}}) for method in ("cfm", "enkg"))
    assert "training" in trained.advice[0]
    assert "particles" not in trained.advice[0]
    assert "particles" in guided.advice[0]
    assert "training" not in guided.advice[0]


def test_waves_are_not_spoken_of_elsewhere():
    (line,) = said({"relative_l2_point": {("cfm", "salt"): 0.2}}, advice={})
    assert "shots" not in line.advice[0]
    assert "observations that tell more" in line.advice[0]


def test_a_family_has_one_line_for_all_that_is_found():
    lines = said({"misfit": {("cfm", "salt"): 0.4, ("cfm", "flat"): 0.4}, "coverage90": {("cfm", "salt"): 0.5}})
    assert [line.family.name for line in lines] == ["flat", "salt"]
    assert [len(line.found) for line in lines] == [1, 2]


def test_a_seen_family_is_not_outside():
    assert said({"seen_swd": {(m, "flat"): 0.9 for m in ("cfm", "enkg", "random")}}) == []


def test_warnings_of_the_simulation_come_first():
    lines = said({"misfit": {("cfm", "salt"): 0.4}}, {"warnings": ["data are dispersive"], "courant_number": 0.4})
    assert lines[0].family is None
    assert lines[0].found == ["data are dispersive"]
    assert lines[1].family.name == "salt"


def test_the_page_shows_it(made):
    text = made[1]["page"].read_text()
    tables = text.split('<table class="diagnosis">')[1:]
    waves = next(table for table in tables if "data are dispersive" in table).partition("</table>")[0]
    assert "all: the simulation" in waves
    assert "times as far from the training ensembles" in waves
    assert waves.count('<tr data-role="unseen">') == 2
