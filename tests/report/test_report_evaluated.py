"""What the evaluation really writes goes into the page: one vector problem and one of arrays."""

import json

import numpy as np
import pandas
import pytest
from report_inputs import study_config

from pullback.core import seeding
from pullback.ensembles.posterior_store import PosteriorWriter
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.base import PosteriorSamples
from pullback.metrics.evaluate import evaluate
from pullback.problems.base import simulate
from pullback.report.examples import read_examples
from pullback.report.page import write_report
from pullback.study import load_study
from pullback.study.job_params import Plan
from pullback.study.problem_kind import problem_kind

EVENTS, DRAWS = 24, 40


def judge(folder, plan, problem, method, x, y, draws):
    """Write one family's files as a run does, and evaluate one method on all families of them."""
    spec = plan.study.problems[problem]
    fields = problem_kind(spec.kind).build(spec.simulator.model_dump(mode="json"))
    ensembles, references, posteriors = {}, {}, []
    for _, _, family in plan.results(problem, method):
        base, truth = plan.base(problem, family), plan.family(problem, family).role != "observed"
        ensembles[family] = folder / f"{family}.h5"
        with EnsembleWriter(ensembles[family], x=fields.x if truth else None, y=fields.y, spec="{}") as writer:
            writer.append(y, np.arange(EVENTS), x=x if truth else None)
        references.setdefault(base, folder / f"{base}.reference.h5")
        with EnsembleWriter(references[base], x=fields.x, y=fields.y, spec="{}") as writer:
            writer.append(y, np.arange(EVENTS), x=x[::-1])
        posteriors.append(folder / f"{family}.posterior.h5")
        with (
            EnsembleReader(ensembles[family]) as reader,
            PosteriorWriter(
                posteriors[-1], x=fields.x, draws=DRAWS, ensemble=reader, ensemble_name="test.h5", spec="{}"
            ) as writer,
        ):
            ok = np.ones(draws.shape[:2], bool)
            ok[0, :2] = False
            failed = ~ok.reshape(*ok.shape, *(1,) * (draws.ndim - 2))
            writer.append(PosteriorSamples(np.where(failed, np.nan, draws), np.zeros(ok.shape), ok), np.arange(EVENTS))
            writer.finish(
                {"seconds": 2.0, "network_calls": 8.0}, {"embedding_distance": {0: 1.7}, "set_size_outside": {0: 1.0}}
            )
    out = {name: folder / f"{problem}.{name}" for name in ("metrics", "cost", "examples")}
    # These files come from no job of the plan.
    job = json.loads(plan.evaluate_job(problem, method))
    del job["inputs"]
    evaluate(json.dumps(job), posteriors, ensembles, references, [], **out)
    return out


@pytest.fixture
def plan():
    config = study_config()
    del config["problems"]["jets"]
    for problem, families in (("gaussian", ("sweep", "gamma-0.5", "blind")), ("waves", ("flat", "salt"))):
        kept = config["problems"][problem]
        kept["families"] = {name: kept["families"][name] for name in families}
        kept["methods"] = {"cfm": kept["methods"]["cfm"]}
        kept["priors"] = {}
        kept["evaluation"] = {"bootstrap": 20, "directions": 50, "direction_seeds": 1}
    # One event of each family goes through the waves again: its truth, and three draws.
    kept["evaluation"] |= {"resimulate_events": 1, "resimulate_draws": 3}
    return Plan(load_study(config))


def test_judged_results_make_a_page(tmp_path, plan):
    rng = seeding.generator("report", "judged")
    gaussian, waves = (plan.study.problems[name] for name in ("gaussian", "waves"))
    plane = problem_kind("gaussian").build(gaussian.simulator.model_dump(mode="json"))
    x = plane.sample_prior(rng, EVENTS, {"gamma": 0.5})
    y, _ = simulate(plane, x, rng)
    near = x[:, None] + 0.3 * rng.standard_normal((EVENTS, DRAWS, 2))
    (tmp_path / "g").mkdir()
    results = [judge(tmp_path / "g", plan, "gaussian", "cfm", x, y, near)]

    fields = problem_kind("fwi").build(waves.simulator.model_dump(mode="json"))
    x = rng.uniform(1600, 4400, (EVENTS, *fields.x.shape))
    y = rng.standard_normal((EVENTS, *fields.y.shape))
    near = x[:, None] + 50 * rng.standard_normal((EVENTS, DRAWS, *fields.x.shape))
    (tmp_path / "w").mkdir()
    results.append(judge(tmp_path / "w", plan, "waves", "cfm", x, y, near.astype(np.float32)))

    page, table = tmp_path / "index.html", tmp_path / "metrics.csv"
    columns = {name: [r[name] for r in results] for name in ("metrics", "cost", "examples")}
    write_report(
        plan.resolved(),
        columns["metrics"],
        columns["cost"],
        columns["examples"],
        [],
        [],
        page=page,
        table=table,
        seeds=tmp_path / "seeds.csv",
        drawn=tmp_path / "figures.csv",
    )
    text = page.read_text()
    # gaussian: overview, ranks, coverage, two families with clouds and spectra; waves: the first three, two families
    # with three cases, of which one has gathers.
    assert text.count('class="figure"') == (3 + 2 * 2) + (3 + 2 * 4)
    assert "Rank histograms of cfm on " in text
    assert "Sliced Wasserstein distance, one draw" in text
    assert "Mean absolute error, point estimate" in text
    assert "its sets have a size that was not trained" in text
    assert "100 % of the conditioning sets have a size that was not trained" in text
    assert "failed draws" in text
    assert ">depth (m)</text>" in text
    found = pandas.read_csv(table)
    main = found[(found.problem == "waves") & (found.family == "salt") & (found.metric == "mae_point")].iloc[0]
    # The median of 40 draws of spread 50 misses by 50 sqrt(pi / 2 / 40), in mean magnitude sqrt(2 / pi) of that: 7.9;
    # the failed draws of one event in 24 add a few.
    assert 7 < main.value < 12
    assert f'title="{main.value:.6g}, 95 % interval [{main.low:.6g}, {main.high:.6g}]' in text
    # The gather that is shown is that of the first draw that succeeded, by the problem's own simulator.
    (example,) = [e for e in read_examples(columns["examples"][1:]) if e.family == "salt"]
    assert example.again.shape == (1, *fields.y.shape)
    wanted, _ = fields.apply(fields.x.project(near[:1, 2].astype(np.float32))[0])
    np.testing.assert_array_equal(example.again, wanted)
