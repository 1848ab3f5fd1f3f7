import html
import json
import re
from html.parser import HTMLParser

import h5py
import numpy as np
import pandas
import pytest
import yaml
from report_inputs import make_inputs, study_config

from pullback.report.examples import read_examples
from pullback.report.files import ReportError
from pullback.report.maps import cases
from pullback.report.page import write_report
from pullback.report.style import make_series


class Page(HTMLParser):
    """Counts what a page holds and checks that every element is closed."""

    EMPTY = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict]] = []
        self.outside: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.found.append((tag, attributes))
        self.outside += [
            v for k, v in attrs if k in ("src", "href", "xlink:href") and re.match(r"(https?:)?//", v or "")
        ]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag, **wanted):
        return [a for t, a in self.found if t == tag and all(a.get(k) == v for k, v in wanted.items())]


FEW = {"gaussian": ("sweep", "gamma-0.0", "gamma-0.5", "blind"), "waves": ("flat", "salt"), "jets": ("ttbar",)}


def only(problem, *methods):
    """The made-up study with one problem, a few families and some methods."""
    config = study_config()
    kept = config["problems"][problem]
    kept["families"] = {name: kept["families"][name] for name in FEW[problem]}
    kept["methods"] = {name: kept["methods"][name] for name in methods}
    config["problems"] = {problem: kept}
    return config


def test_the_page_is_whole(made):
    _, arguments = made
    text = arguments["page"].read_text()
    page = Page(text)
    figures = page.all("figure", **{"class": "figure"})
    # gaussian: overview, 7 families with clouds and spectra, curves. waves: overview, 6 families with 3 cases, of which
    # one has gathers beside its maps, curves. jets: overview, 6 families, curves, a migration, and correlations of the
    # 5 families with a truth.
    assert len(figures) == (2 + 7 * 2) + (2 + 6 * 4) + (2 + 6 + 1 + 5)
    assert len(page.all("figcaption")) == len(figures)
    drawings = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(drawings) == len(figures)
    assert all(len(a["aria-label"]) > 10 for a in drawings)
    ids = [a["id"] for _, a in page.found if "id" in a]
    assert len(set(ids)) == len(ids)
    targets = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    assert targets <= set(ids)
    assert page.outside == []
    assert "@import" not in text
    assert arguments["page"].stat().st_size < 6e6
    assert len(page.all("table", **{"class": "metric"})) == 8 + 9 + 18
    assert len(page.all("table", **{"class": "cost"})) == 3
    assert len(page.all("table", **{"class": "checks"})) == 2
    assert len(page.all("table", **{"class": "tests"})) == 1
    assert len(page.all("table", **{"class": "methods"})) == 5
    assert len(page.all("table", **{"class": "preflight"})) == 1


def test_labels_stand_beside_numbers_and_families_in_groups(made):
    text = made[1]["page"].read_text()
    main = text[text.index('<table class="metric">') :].partition("</table>")[0]
    assert main.count('<span class="label">approximate</span>') == 3
    assert main.count('<span class="label">asymptotic</span>') == 1
    assert "γ = 0.5" in main
    assert main.count("outside the trained range") == 3  # -0.9, 0 and 0.9
    assert main.count("inside the trained range") == 3  # -0.5, 0.5 and its noisy twin
    assert "shift: noise" in main
    assert "truth removed" not in main
    assert "<small>[" in main
    checks = text[text.index('<table class="checks">') :].partition("</table>")[0]
    assert "truth removed" in checks
    assert "as near as sets of the training priors" in checks


def test_a_method_is_told_from_another_of_its_kind(made):
    """By its prior and what of its settings is no default, beside those of its inference."""
    text = made[1]["page"].read_text()
    assert "prior diffusion, draws " in text
    assert "k 8, " not in text


def test_velocity_maps_have_metres_and_seconds(made):
    text = made[1]["page"].read_text()
    for words in ("depth (m)", "offset (m)", "time (s)", "receiver (m)", "m/s", "standard deviation", "pT (GeV)"):
        assert f">{words}</text>" in text


def test_the_table_is_the_concatenation_of_its_inputs(made):
    inputs, arguments = made
    lines = [path.read_text().splitlines() for path in inputs.metrics]
    assert arguments["table"].read_text().splitlines() == [lines[0][0]] + [line for text in lines for line in text[1:]]


def test_the_same_inputs_give_the_same_page(tmp_path):
    pages = []
    for name in ("a", "b"):
        inputs = make_inputs(tmp_path / name, only("gaussian", "cfm"))
        arguments = inputs.arguments(tmp_path / name)
        write_report(**arguments)
        pages.append(arguments["page"].read_bytes())
    assert pages[0] == pages[1]


def test_names_are_escaped(tmp_path):
    config = only("waves", "cfm")
    evil = '<script>alert("x")</script> & "salt"'
    config["title"] = evil
    config["problems"]["waves"]["families"]["salt"]["title"] = evil
    arguments = make_inputs(tmp_path, config).arguments(tmp_path)
    write_report(**arguments)
    text = arguments["page"].read_text()
    assert "<script>alert" not in text
    assert len(Page(text).all("script")) == 1
    assert "&lt;script&gt;alert(" in text


@pytest.mark.parametrize("missing", ["curves", "costs", "examples", "preflights", "metrics"])
def test_a_missing_kind_of_input_leaves_its_part_out(tmp_path, missing):
    inputs = make_inputs(tmp_path, only("gaussian", "cfm", "random"))
    setattr(inputs, missing, [])
    arguments = inputs.arguments(tmp_path)
    write_report(**arguments)
    page = Page(arguments["page"].read_text())
    figures = len(page.all("figure", **{"class": "figure"}))
    assert figures == 8 - {"curves": 1, "examples": 6, "metrics": 1}.get(missing, 0)
    assert bool(page.all("table", **{"class": "cost"})) == (missing != "costs")
    assert bool(page.all("table", **{"class": "metric"})) == (missing != "metrics")


def test_one_method_on_fields_without_observed_families(tmp_path):
    arguments = make_inputs(tmp_path, only("waves", "enkg")).arguments(tmp_path)
    write_report(**arguments)
    page = Page(arguments["page"].read_text())
    # Overview, the unseen case with its gathers, the prior's curves.
    assert len(page.all("figure", **{"class": "figure"})) == 1 + 2 + 1
    assert page.all("table", **{"class": "checks"}) == []
    assert page.all("td", **{"class": "best"}) == []


def test_the_page_says_what_another_forward_process_would_have_said(tmp_path):
    config = only("jets", "cfm")
    branches = {"pt": "Jet_pt", "eta": "Jet_eta", "phi": "Jet_phi"}
    read = {"kind": "root", "files": {"test": ["data.root"]}, "y": branches}
    families = config["problems"]["jets"]["families"]
    for own in (None, True):
        families["cms"] = {"role": "observed", "title": "Run 1", "read": read} | ({"own_forward": own} if own else {})
        arguments = make_inputs(tmp_path, config).arguments(tmp_path)
        write_report(**arguments)
        text = arguments["page"].read_text()
        assert ("Not printed for Run 1: fold-back distance, data misfit" in text) == (own is None)


def test_one_name_may_be_another_method_in_another_problem(tmp_path):
    config = only("gaussian", "cfm", "ei-fm")
    config["problems"]["waves"] = only("waves", "cfm")["problems"]["waves"]
    config["problems"]["waves"]["methods"]["ei-fm"] = {"kind": "regression"}
    inputs = make_inputs(tmp_path, config)
    arguments = inputs.arguments(tmp_path)
    write_report(**arguments)
    text = arguments["page"].read_text()
    tables = re.findall(r'<table class="metric.*?</thead>', text, re.DOTALL)
    assert len(tables) > 4
    for table in tables:
        heads = re.findall(r'class="chip"[^>]*>([^<]*)<', table)
        assert len(heads) == len(set(heads)), heads


def test_several_seeds_are_shown_as_mean_and_range(tmp_path):
    inputs = make_inputs(tmp_path, only("gaussian", "cfm"), seeds=3)
    arguments = inputs.arguments(tmp_path)
    write_report(**arguments)
    text = arguments["page"].read_text()
    assert text.count("seeds ") >= 2
    table = pandas.read_csv(arguments["table"])
    some = table[(table.metric == "swd_draw") & (table.family == "gamma-0.5")]
    assert len(some) == 3
    means = pandas.read_csv(arguments["seeds"])
    (mean,) = means[(means.metric == "swd_draw") & (means.family == "gamma-0.5")].itertuples()
    assert (mean.seeds, mean.value) == (3, pytest.approx(some.value.mean()))
    assert mean.seeds_error == pytest.approx(some.value.std() / 3**0.5)
    assert (mean.seeds_least, mean.seeds_most) == (pytest.approx(some.value.min()), pytest.approx(some.value.max()))
    assert f'title="{mean.value:.6g}, 95 % interval [{mean.low:.6g}, {mean.high:.6g}], floor {mean.floor:.6g}' in text
    assert mean.low < some.value.min()
    assert not means.duplicated(["problem", "method", "infer", "family", "metric"]).any()
    assert len(means) * 3 == len(table)


def test_calibration_is_drawn_by_method_and_family(tmp_path):
    inputs = make_inputs(tmp_path, only("gaussian", "cfm", "random"))
    rng = np.random.default_rng(0)
    for path in inputs.examples:
        with h5py.File(path, "a") as file:
            for family in ("gamma-0.0", "gamma-0.5"):
                group = file[f"default/0/{family}"]
                counts = rng.multinomial(2000, np.full(20, 0.05), 2)
                group["ranks"] = counts / 2000
                group["ranks"].attrs.update(quantities=["x1", "x2"], events=2000.0)
                group["coverage"] = np.linspace(0, 1, 51) ** np.array([[1.0], [1.2]])
                group["coverage"].attrs.update(references=["uniform", "local"], events=2000.0)
    arguments = inputs.arguments(tmp_path)
    write_report(**arguments)
    text = arguments["page"].read_text()
    page = Page(text)
    labels = [a["aria-label"] for a in page.all("svg") if a.get("role") == "img"]
    assert [name for name in labels if name.startswith("Rank histograms of cfm, random on γ = 0.0, γ = 0.5")]
    assert [name for name in labels if name.startswith("Expected coverage of cfm, random on γ = 0.0, γ = 0.5")]
    assert text.count("Calibration: ranks and expected coverage") == 1
    ids = [a["id"] for _, a in page.found if "id" in a]
    assert len(set(ids)) == len(ids)


def test_the_headline_is_the_one_that_the_study_names(tmp_path):
    config = only("gaussian", "cfm", "random")
    config["problems"]["gaussian"]["evaluation"] = {"headline": "mse_point"}
    arguments = make_inputs(tmp_path, config).arguments(tmp_path)
    write_report(**arguments)
    assert "Generalisation by prior: Mean squared error, point estimate" in arguments["page"].read_text()


def test_answers_to_one_observation_stand_side_by_side(tmp_path):
    inputs = make_inputs(tmp_path, only("waves", "cfm", "enkg"))
    examples = [e for e in read_examples(inputs.examples) if e.family == "salt"]
    series = {s.method: s for s in make_series([(e.method, e.infer, e.method_kind, e.returns) for e in examples])}
    found = cases([(series[e.method], e) for e in examples])
    assert [[(e.method, i) for (_, e), i in case] for case in found] == [
        [("cfm", 0), ("enkg", 0)],
        [("cfm", 1)],
        [("cfm", 2)],
    ]


def test_failed_draws_and_odd_shapes_are_drawn(tmp_path):
    """A line instead of a map, one draw instead of two, a mean that is not a number."""
    inputs = make_inputs(tmp_path, only("waves", "cfm"))
    (path,) = inputs.examples
    with h5py.File(path, "a") as file:
        for group in file["default/0"].values():
            arrays = {name: group[name][...] for name in ("truth", "mean", "std", "draws")}
            for name, values in arrays.items():
                del group[name]
                group[name] = values[..., 0][:, :1] if name == "draws" else values[..., 0]
            group["mean"][0] = np.nan
            group["again"][0] = np.nan
            group.attrs["x_dims"] = ["depth"]
    arguments = inputs.arguments(tmp_path)
    write_report(**arguments)
    page = Page(arguments["page"].read_text())
    assert len(page.all("figure", **{"class": "figure"})) == 1 + 2 * 3 + 1  # overview, cases, curves


def test_a_damaged_input_is_named_and_nothing_is_written(tmp_path):
    inputs = make_inputs(tmp_path, only("gaussian", "cfm"))
    inputs.examples[0].write_bytes(b"not HDF5")
    arguments = inputs.arguments(tmp_path)
    with pytest.raises(ReportError, match=r"cfm\.examples\.h5"):
        write_report(**arguments)
    assert not arguments["page"].exists()
    assert not arguments["table"].exists()


def test_the_config_can_be_read_back_from_the_page(made):
    inputs, arguments = made
    text = re.search(r"<pre><code>(.*?)</code></pre>", arguments["page"].read_text(), re.S)[1]
    assert yaml.safe_load(html.unescape(text)) == json.loads(inputs.job)["study"]
