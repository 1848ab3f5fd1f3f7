"""Figures that a study asks for: their numbers are the tables', a line differs in nothing but x."""

import copy
import csv
import logging
import re

import pandas
import pytest
from report_inputs import make_inputs, study_config

from pullback.report.drawing import legend_columns
from pullback.report.page import write_report
from pullback.study import load_study
from pullback.study.job_params import Plan

EI = {
    "kind": "ei-fm",
    "infer": {
        "euler-2": {"solver": "euler", "steps": 2, "set_size": 50},
        "euler-8": {"solver": "euler", "steps": 8, "set_size": 50},
        "midpoint-2": {"steps": 2, "set_size": 500},
        "midpoint-9": {"steps": 9, "set_size": 500},
        "midpoint-2-whole": {"steps": 2},
    },
}
CALLS = {"euler-2": 2, "euler-8": 8, "midpoint-2": 4, "midpoint-9": 18, "midpoint-2-whole": 4, "train": 1, "default": 8}


def job_digest(*figures, methods=None):
    config = study_config()
    problem = config["problems"]["gaussian"]
    kept = ("sweep", "gamma--0.9", "gamma-0.0", "gamma-0.5", "noisy", "blind")
    problem["families"] = {name: problem["families"][name] for name in kept}
    problem["methods"] = methods or {"cfm": {"kind": "cfm"}, "ei-fm": EI, "oracle": {"kind": "oracle"}}
    config["problems"] = {"gaussian": problem}
    config["figures"] = list(figures)
    return config


def written(folder, config, seeds=1, change=None):
    """The page and its tables; ``change`` edits the table of metrics of each method."""
    inputs = make_inputs(folder, config, seeds)
    for path in inputs.costs:
        cost = pandas.read_csv(path, keep_default_na=False)
        there = cost["family"] != ""
        drawn = pandas.to_numeric(cost["events"]) * pandas.to_numeric(cost["draws"])
        calls = 0 if "oracle" in path.name else cost["infer"].map(CALLS)
        cost.loc[there, "network_calls"] = (calls * drawn)[there]
        cost.to_csv(path, index=False)
    for path in inputs.metrics if change else ():
        change(pandas.read_csv(path, keep_default_na=False)).to_csv(path, index=False)
    inputs.examples = []
    arguments = inputs.arguments(folder)
    write_report(**arguments)
    drawn, seeds_table = (pandas.read_csv(arguments[name], keep_default_na=False) for name in ("drawn", "seeds"))
    return arguments["page"].read_text(), drawn, seeds_table


def with_distance(frame):
    """Every result also says how far its family is from the training priors: the index of the family."""
    rows = frame[frame["metric"] == "swd_draw"].copy()
    rows["value"] = rows["family"].map({"gamma--0.9": 0.4, "gamma-0.0": 0.05, "gamma-0.5": 0.01, "noisy": 0.2})
    return pandas.concat([frame, rows.assign(metric="seen_swd", low="", high="", floor="")])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    figures = [
        {"x": "network_calls", "y": "swd_draw", "title": "Calls & <cost>"},
        {"x": "set_size", "y": "mse_point", "families": ["gamma-0.*"]},
        {"x": "params.gamma", "y": "swd_draw", "infer": ["euler-2", "default"]},
        {"x": "seen_swd", "y": "swd_draw", "methods": ["cfm", "oracle"]},
        {"x": "seconds", "y": "swd_draw", "families": ["gamma-0.5"]},
        {"x": "method", "y": "mse_point", "families": ["gamma-0.5"], "log": "y"},
    ]
    return written(tmp_path_factory.mktemp("asked"), job_digest(*figures), 3, with_distance)


def test_numbers_are_those_of_the_table_of_means(made):
    _, drawn, seeds = made
    key = ["problem", "method", "infer", "family", "metric"]
    joined = drawn.merge(seeds, on=key, suffixes=("", "_of_table"))
    assert len(joined) == len(drawn) > 60
    for name in ("value", "low", "high", "floor", "n", "unit", "seeds"):
        assert joined[name].astype(str).tolist() == joined[f"{name}_of_table"].astype(str).tolist()


def of(drawn, figure, family=None):
    part = drawn[drawn["figure"] == figure]
    part = part if family is None else part[part["family"] == family]
    return {line: list(zip(rows["infer"], rows["x"], strict=True)) for line, rows in part.groupby("line", sort=False)}


def test_calls_are_of_one_draw_and_solvers_are_lines(made):
    lines = of(made[1], 1, "gamma-0.5")
    found = {line: [(infer, float(x) if x else None) for infer, x in rows] for line, rows in lines.items()}
    assert found == {
        "cfm": [("default", 8.0)],
        "ei-fm (euler)": [("euler-2", 2.0), ("euler-8", 8.0)],
        "ei-fm (midpoint)": [("midpoint-2", 4.0), ("midpoint-9", 18.0)],
        "ei-fm (midpoint-2-whole)": [("midpoint-2-whole", 4.0)],
        "oracle": [("default", None)],
    }


def test_a_whole_set_has_the_size_of_the_family_and_cfm_has_none(made):
    found = of(made[1], 2, "gamma-0.5")
    assert found["cfm"] == [("default", "")]
    assert {line: [float(x) for _, x in rows] for line, rows in found.items() if line.startswith("ei")} == {
        "ei-fm (euler-2)": [50.0],
        "ei-fm (euler-8)": [50.0],
        "ei-fm (midpoint-2)": [500.0, 2000.0],
        "ei-fm (midpoint-9)": [500.0],
    }
    assert set(made[1][made[1]["figure"] == 2]["family"]) == {"gamma-0.0", "gamma-0.5"}


def test_a_parameter_orders_families_and_shifts_have_none(made):
    part = made[1][made[1]["figure"] == 3]
    assert set(part["family"]) == {"gamma--0.9", "gamma-0.0", "gamma-0.5"}
    assert of(made[1], 3)["cfm"] == [("default", "-0.9"), ("default", "0"), ("default", "0.5")]
    assert list(of(made[1], 3)) == ["cfm", "ei-fm", "oracle"]
    assert "trained range</text>" in made[0].replace(" -->", "")


def test_distance_from_the_training_priors_is_that_of_the_metric(made):
    assert [float(x) for _, x in of(made[1], 4)["cfm"]] == [0.01, 0.05, 0.2, 0.4]


def test_seconds_are_of_one_draw(made):
    part = made[1][made[1]["figure"] == 5]
    # A few seconds for 2000 events of 32 draws.
    assert part["x"].astype(float).between(2 / 64_000, 9 / 64_000).all()
    assert set(part["line"]) == {"cfm", "ei-fm (euler)", "ei-fm (midpoint)", "ei-fm (midpoint-2-whole)", "oracle"}


def test_each_figure_stands_on_the_page_with_its_words(made):
    text = made[0]
    section = text[text.index('id="figures"') :].partition("</section>")[0]
    assert section.count('<figure class="figure">') == 6
    assert "Calls &amp; &lt;cost&gt;" in section
    assert "Mean squared error, point estimate by method" in section
    assert 'href="figures.csv"' in section
    for words in ("network calls of one draw", "observations in the conditioning set", "ei-fm (midpoint-9)", "γ = 0.5"):
        assert f">{words}</text>" in section
    assert section.count("trained on") == 1
    # A line of two inferences, in three families, is hidden with both; a point with its own.
    both = re.findall(r'data-several="([\d-]+)"', section)
    assert {pair.count("-") for pair in both} == {1}
    assert section.count('data-series="') > len(both) > 5


def test_lines_over_a_number_of_the_method_join_methods(tmp_path):
    methods = {"cfm": {"kind": "cfm"}}
    for encoder in ("moments", "deep-sets"):
        methods |= {f"{encoder}-k{k}": {"kind": "ei-fm", "k": k, "set_encoder": {"kind": encoder}} for k in (8, 3)}
    config = job_digest({"x": "method.k", "y": "swd_draw", "families": ["gamma-0.5"]})
    plain = copy.deepcopy(config)
    plain["problems"]["gaussian"]["methods"] = methods
    inputs = make_named(tmp_path, plain)
    arguments = inputs.arguments(tmp_path)
    write_report(**arguments)
    with arguments["drawn"].open() as file:
        found = [(row["line"], row["method"], row["x"]) for row in csv.DictReader(file)]
    assert sorted(found) == [
        ("cfm", "cfm", ""),
        ("deep-sets", "deep-sets-k3", "3"),
        ("deep-sets", "deep-sets-k8", "8"),
        ("moments", "moments-k3", "3"),
        ("moments", "moments-k8", "8"),
    ]


def make_named(folder, config):
    """Inputs of methods of other names: written as ei-fm, then named."""
    names = list(config["problems"]["gaussian"]["methods"])
    real = copy.deepcopy(config)
    real["problems"]["gaussian"]["methods"] = {"cfm": {"kind": "cfm"}, "ei-fm": {"kind": "ei-fm"}}
    real["figures"] = []
    inputs = make_inputs(folder, real)
    frame = pandas.read_csv(inputs.metrics[1], keep_default_na=False)
    for name in names[1:]:
        path = inputs.metrics[0].with_name(f"{name}.csv")
        frame.assign(method=name).to_csv(path, index=False)
        inputs.metrics.append(path)
    del inputs.metrics[1]
    inputs.job = Plan(load_study(config)).resolved()
    inputs.costs, inputs.examples, inputs.curves = [], [], []
    return inputs


def test_what_cannot_be_drawn_is_told(tmp_path, caplog):
    figures = [
        {"x": "method", "y": "swd_drow", "title": "Misspelt"},
        {"x": "seen_swd", "y": "swd_draw"},
        {"x": "set_size", "y": "swd_draw", "methods": ["cfm"]},
        {"x": "method", "y": "swd_draw", "families": ["blind"]},
    ]
    with caplog.at_level(logging.WARNING, "pullback"):
        text, drawn, _ = written(tmp_path, job_digest(*figures))
    assert len(drawn) == 0
    said = [record.getMessage() for record in caplog.records]
    assert (
        "figures[0], 'Misspelt', is not drawn: no result of these problems has a metric 'swd_drow'; did you" in said[0]
    )
    assert "mean 'swd_draw'?" in said[0]
    assert "has a metric 'seen_swd'" in said[1]
    assert "no result that the filters leave has 'swd_draw' and a value of 'set_size'." in said[2]
    assert "no result that the filters leave has 'swd_draw'." in said[3]
    assert text.count("Not drawn: ") == 4


def test_a_study_without_figures_has_no_section_and_an_empty_table(tmp_path):
    text, drawn, _ = written(tmp_path, job_digest())
    assert len(drawn) == 0
    assert 'id="figures"' not in text


def test_a_logarithm_of_zero_is_told(tmp_path):
    def with_zero(frame):
        return frame.assign(value=frame["value"].where(frame["family"] != "gamma-0.5", 0.0))

    figures = [{"x": "params.gamma", "y": "swd_draw", "log": "y"}]
    text, _, _ = written(tmp_path, job_digest(*figures, methods={"cfm": {"kind": "cfm"}}), change=with_zero)
    assert "No logarithmic axis: values reach 0." in text


@pytest.mark.parametrize("labels", [["a"] * 3, ["method (inference)"] * 13, ["x" * 200], []])
def test_a_legend_has_room_for_all(labels):
    columns, lines = legend_columns(labels, 10.0)
    assert columns * lines >= len(labels)
    assert columns == 1 or columns * (0.5 + 0.078 * max(map(len, labels))) <= 10
