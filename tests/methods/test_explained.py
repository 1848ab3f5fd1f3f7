"""Observations of another scale or sign are not inverted without a word."""

import logging

import numpy as np
import pytest
from test_enkg import INFER, Problem, Y, make
from test_lbfgs import TRUTH, Line, study

from pullback.core.context import Context
from pullback.ensembles.fields import Field
from pullback.methods.classical.lbfgs import Lbfgs, LbfgsInfer, LbfgsSpec
from pullback.methods.explained import explains
from pullback.methods.guided.enkg import EnKG
from pullback.study import StudyError, load_study

FIELD = Field.array("y", ("time", "receiver"), (20, 2), "1")


def descend(scale):
    problem = Line()
    method = Lbfgs(LbfgsSpec(kind="lbfgs-fwi"), problem, Context(("study", "toy", "lbfgs", 0)))
    method.load(None, None, [])
    infer = LbfgsInfer(start=(5, 5), lowpass_hz=[None], iterations=30, tv=0, scan=0)
    return method.using(infer).sample(None, scale * problem.signal(TRUTH[None]), np.array([7]))


@pytest.mark.parametrize(
    ("scale", "ok", "words"),
    [
        (1, True, ""),
        (1e6, True, "e+06 times the simulation: set read.scale"),
        (0, False, "y is zero everywhere"),
    ],
)
def test_a_descent_on_data_of_another_scale_says_so(caplog, scale, ok, words):
    with caplog.at_level(logging.WARNING):
        chunk = descend(scale)
    assert chunk.ok.all() == ok
    assert np.isfinite(chunk.x).all() == ok
    assert words in caplog.text
    assert bool(caplog.records) == bool(words)


def test_the_other_sign_is_told(caplog):
    y = np.random.default_rng(0).normal(size=(20, 2))
    assert explains(FIELD, y, 0.5 * y, "a method")
    assert not caplog.records
    assert not explains(FIELD, y, -y, "a method")
    assert "y is -1 times the simulation: set read.scale: -1" in caplog.text


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scales_whose_squares_single_precision_cannot_hold(caplog, scale):
    y = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    explains(FIELD, np.float32(scale) * y, y, "a method")
    assert f"y is {scale:.4g} times the simulation: set read.scale: {1 / scale:.4g}" in caplog.text


def test_enkg_on_data_of_another_scale_says_so(caplog):
    class Traces(Problem):
        y = Field.array("y", ("time", "receiver"), (3, 2), "1")

        def simulate(self, x, rng):
            return super().simulate(x, rng)[0].reshape(-1, 3, 2), np.ones(len(x), bool)

    for scale, ok in ((1, True), (1e-9, False)):
        caplog.clear()
        method = make(EnKG)
        method.problem = Traces()
        chunk = method.using(INFER).sample(None, scale * Y.reshape(1, 3, 2).astype(np.float32), np.array([5]))
        assert chunk.ok.all() == ok
        assert ("times the simulation" in caplog.text) == (not ok)


def test_a_start_in_km_s_is_refused():
    unseen = {"role": "unseen", "params": {"geology": "flat"}}
    with pytest.raises(StudyError, match=r"infer\.default\.start: found 1\.5 to 4 m/s, wanted .* look like km/s"):
        load_study(study("fwi", unseen, start=[1.5, 4]))
    with pytest.raises(StudyError, match=r"found 1500 to 9000 m/s, wanted velocities within velocity_min to"):
        load_study(study("fwi", unseen, start=[1500, 9000]))
