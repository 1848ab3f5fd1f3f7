"""What a reader copies: the examples, and the code of docs/python.md, run as they stand."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from pullback.ensembles.arrays import field_of
from pullback.ensembles.posterior_store import PosteriorWriter
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.base import PosteriorSamples

ROOT = Path(__file__).parents[1]


def run(name: str) -> dict[str, float]:
    return runpy.run_path(str(ROOT / "examples" / name))["main"]()


def test_a_geophysicist_inverts_gathers():
    pytest.importorskip("devito")
    found = run("geophysicist.py")
    # A descent explains nearly all of what the start did not, and moves the model towards the truth as it does; what
    # 6 Hz and a record from above leave of the lens is not the descent's to find.
    assert found["misfit_left"] < 0.1
    assert found["error_left"] < 0.8


def test_a_collider_physicist_unfolds_a_spectrum():
    found = run("collider.py")
    # The floor, another sample of the truth, is 0.5 GeV; four of them allow for a short training.
    assert found["floor"] < 0.1 * found["observed"]
    assert found["unfolded"] < 4 * found["floor"]
    assert found["embedding_distance"] < 1


def test_a_method_builder_compares_with_the_exact_posterior():
    found = run("method_builder.py")
    # A proper score: none is below the exact one, but for the error of 1000 events (0.009 and 0.015, printed beside).
    assert found["exact"] < found["EI-FM"] + 3 * 0.009
    assert found["EI-FM"] < found["cFM"] - 3 * 0.015


def test_the_page_on_python_runs(tmp_path, monkeypatch):
    pytest.importorskip("devito")
    monkeypatch.chdir(tmp_path)
    x = np.arange(6.0)[:, None]
    ensemble = "results/line/ensembles/waves/salt/test.h5"
    with EnsembleWriter(ensemble, x=field_of("x", x), y=field_of("y", x), spec="{}") as writer:
        writer.append(x, np.arange(6), x=x)
    path = "results/line/posteriors/waves/ei-fm/default/seed-0/salt.h5"
    with EnsembleReader(ensemble) as reader:
        made = {"x": field_of("x", x), "draws": 2, "ensemble": reader, "ensemble_name": ensemble, "spec": "{}"}
        with PosteriorWriter(path, **made) as posterior:
            draws = np.repeat(x[:, None], 2, axis=1)
            posterior.append(PosteriorSamples(draws, np.zeros((6, 2)), np.ones((6, 2), bool)), np.arange(6))
            posterior.finish({}, {})

    names: dict = {}
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.S | re.M)
    assert len(blocks) == 8
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    # The shapes that the page states.
    assert names["draws"].shape == (200, 32, 1)
    assert names["x_prior"].shape == (100, 1)
    assert names["gathers"].shape == (2, 60, 31)
    assert names["velocity"].grad.shape == (24, 32)
    np.testing.assert_array_equal(names["truth"], x)
    # The mean of p(x|y) over the set is its mean y, shrunk towards 1.3 by a quarter of (mean y - 1.3), 0.02 = 0.26 x
    # sqrt(1.36 / 200); a tenth more for a short training. The union of all priors would shrink it by 0.17 towards 0.
    assert abs(float((names["draws"].mean(axis=1) - names["y_new"]).mean())) < 3 * 0.02 + 0.1
