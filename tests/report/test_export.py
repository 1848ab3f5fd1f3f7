"""Moments of exported draws: weights, failures, angles; which files are written."""

from types import SimpleNamespace

import numpy as np
import pytest

from pullback.ensembles.fields import Coordinate, Field
from pullback.report.export import ExportError, Source, export_segy, moments

NODES = Coordinate(np.array([0.0, 10.0]), "m")
MAPS = Field.array("x", ("depth", "offset"), (2, 2), "m/s", coordinates={"depth": NODES, "offset": NODES})
MAP = Field.array("x", ("depth", "offset"), (1, 2), "m/s")
JET = Field.vector("x", ("pt", "phi"), ("GeV", "rad"), transforms=("log", "periodic"))


def test_a_draw_counts_by_its_weight():
    """A draw of weight 3 is three draws; the scale of the weights says nothing."""
    x = np.random.default_rng(0).normal(3000, 200, (2, 3, 1, 2)).astype(np.float32)
    log_weight = np.log([[3.0, 1.0, 0.5], [1.0, 1.0, 1.0]]) - 800
    mean, std = moments(MAP, x, log_weight, np.ones((2, 3), bool))
    for event, weight in enumerate(np.exp(log_weight + 800)):
        flat = x[event].reshape(3, 2).astype(float)
        np.testing.assert_allclose(mean[event].ravel(), np.average(flat, axis=0, weights=weight), rtol=1e-6)
        variance = np.diag(np.cov(flat.T, aweights=weight))
        np.testing.assert_allclose(std[event].ravel(), np.sqrt(variance), rtol=1e-5)


def test_failed_draws_and_those_without_a_vote_do_not_count():
    x = np.array([[[[2000.0, 1.0]], [[np.nan, np.nan]], [[3000.0, 3.0]]], [[[np.nan, np.nan]]] * 3], np.float32)
    ok = np.array([[True, False, True], [False] * 3])
    mean, std = moments(MAP, x, np.zeros((2, 3)), ok)
    assert mean[0].tolist() == [[2500.0, 2.0]]
    assert std[0].ravel() == pytest.approx(np.sqrt(2) * np.array([500, 1]))
    assert np.isnan(mean[1]).all()
    assert np.isnan(std[1]).all()
    mean, std = moments(MAP, x[:1], np.array([[0.0, 0.0, -np.inf]]), ok[:1])
    assert mean[0].tolist() == [[2000.0, 1.0]]
    assert std[0].tolist() == [[0.0, 0.0]]


def test_angles_are_averaged_on_the_circle():
    x = np.array([[[10.0, 3.1], [30.0, -3.1]]], np.float32)
    mean, std = moments(JET, x, np.zeros((1, 2)), np.ones((1, 2), bool))
    assert mean[0, 0] == 20
    assert abs(mean[0, 1]) == pytest.approx(np.pi, abs=1e-6)
    assert std[0] == pytest.approx(np.sqrt(2) * np.array([10, np.pi - 3.1]), abs=1e-6)


def test_an_event_that_failed_is_told_before_any_file_is_written(tmp_path):
    """Else the files of the events before it are in the way of the next try."""

    class Maps(Source):
        def __init__(self):
            self.path, self.draws, self.attributes = tmp_path / "salt.h5", SimpleNamespace(x=MAPS, draws=1), {}

        def read(self, what, start, stop):
            values = np.full((1, 2, 2), 2000.0 if start < 2 else np.nan, np.float32)
            return {"event_id": np.array([start]), "mean": values}

    with pytest.raises(ExportError, match="--what mean: that of event 2 failed and is NaN; choose others"):
        list(export_segy(Maps(), range(3), tmp_path / "mean.segy", "mean", 0))
    assert list(tmp_path.iterdir()) == []
