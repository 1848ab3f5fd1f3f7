"""A diffusion prior that problems share: which file and job an inference names, and names that lead nowhere."""

from pathlib import Path

import pytest

from pullback.study import StudyError, load_study, paths
from pullback.study.base import job_digest
from pullback.study.job_params import Plan
from pullback.study.workflow_inputs import Graph

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def study(**shared):
    """Two problems with the same x, the second with the prior of the first."""
    first = {
        "kind": "linear-gaussian",
        "families": {"prior": {"role": "seen"}},
        "priors": {"small": {"kind": "edm", "network": {"kind": "mlp"}}},
        "methods": {"draws": {"kind": "prior-draws", "prior": "small"}},
    }
    second = {
        "kind": "linear-gaussian",
        "simulator": {"noise": 0.1},
        "families": {"prior": {"role": "unseen"}},
        "priors": {"small": {"kind": "shared", "problem": "first", "prior": "small"} | shared},
        "methods": {"draws": {"kind": "prior-draws", "prior": "small"}},
    }
    return {"config_version": 2, "study": "two", "problems": {"first": first, "second": second}}


def test_both_problems_read_one_file_and_only_one_trains():
    plan = Plan(load_study(study()))
    graph = Graph(plan, SCRIPTS)
    wanted = [paths.artifact("two", "priors", "first", "small", 0)]
    for problem in ("first", "second"):
        assert graph.needed_to_infer(problem, "draws", "default", 0, "prior")["prior"] == wanted
    assert graph.trained("priors") == [("first", "small")]
    digest = job_digest(plan.train_job("first", "priors", "small", 0))
    assert f'"prior":["{digest}"]' in plan.infer_job("second", "draws", "default", 0, "prior", 0)


@pytest.mark.parametrize(
    ("shared", "says"),
    [
        ({"problem": "frist"}, r"second\.priors\.small\.problem: 'frist' is no problem here; did you mean 'first'"),
        ({"problem": "second"}, r"'second' is this problem itself; wanted one of first"),
        ({"prior": "smal"}, r"priors\.small\.prior: 'smal' is not trained by problem 'first'; did you mean 'small'"),
    ],
)
def test_a_prior_that_is_not_there(shared, says):
    with pytest.raises(StudyError, match=says):
        load_study(study(**shared))


def test_a_prior_of_the_only_problem_is_refused():
    alone = study(problem="frist")
    del alone["problems"]["first"]
    with pytest.raises(StudyError, match=r"'frist' is no problem here; the study has no other"):
        load_study(alone)


def test_a_prior_of_a_prior_is_refused():
    wrong = study()
    wrong["problems"]["third"] = wrong["problems"]["second"] | {
        "priors": {"small": {"kind": "shared", "problem": "second", "prior": "small"}}
    }
    with pytest.raises(StudyError, match="'small' is not trained by problem 'second'; it trains none"):
        load_study(wrong)
