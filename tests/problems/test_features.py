"""The problem `features`: fields that the study names."""

import numpy as np
import pytest

from pullback.study import StudyError, load_study
from pullback.study.kinds import ProblemKind, problem_kind

SIMULATOR = {
    "x": {"ht": {"units": "GeV", "transform": "log1p", "low": 0}, "phi": {"units": "rad", "transform": "periodic"}},
    "y": {"phi": {"units": "rad", "transform": "periodic"}, "jets": {}},
}
READ = {
    "kind": "table",
    "files": {split: [f"{split}.npz"] for split in ("train", "validation", "test", "reference")},
    "x": {"ht": "ht", "phi": "phi"},
    "y": {"phi": "p", "jets": "n"},
}


def study(simulator=SIMULATOR, **family):
    families = {"a": {"role": "seen", "read": READ, **family}}
    methods = {"ei": {"kind": "ei-fm"}}
    problem = {"kind": "features", "simulator": simulator, "families": families, "methods": methods}
    return {"config_version": 2, "study": "s", "problems": {"p": problem}}


def test_fields_are_those_of_the_study():
    problem = problem_kind("features").build(SIMULATOR)
    assert problem.x.features == ("ht", "phi")
    assert problem.x.units == ("GeV", "rad")
    assert problem.x.transforms == ("log1p", "periodic")
    assert problem.x.low == (0, -np.inf)
    assert problem.y.features == ("phi", "jets")
    assert problem.y.units == ("rad", "1")
    assert ProblemKind(type(problem)).capabilities() == {"pairs"}
    load_study(study())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y": {"jets": {}}}, "phi is periodic: it is learnt as its difference to the phi of y, which is not there"),
        ({"y": {"phi": {"units": "rad"}}}, "which is not periodic"),
        ({"y": {"phi": {"units": "deg", "transform": "periodic"}}}, "phi is periodic and in deg, wanted rad"),
        ({"x": {"ht": {"low": 3, "high": 2}}}, "ht: found low 3 and high 2, wanted low < high"),
        ({"x": {"ht": {"unit": "GeV"}}}, "did you mean 'units'"),
    ],
)
def test_what_a_study_may_not_say(change, words):
    with pytest.raises(StudyError, match=words):
        load_study(study({**SIMULATOR, **change}))


def test_families_are_read():
    with pytest.raises(StudyError, match="this kind has no simulator: give it `read`"):
        load_study(study(read=None))
