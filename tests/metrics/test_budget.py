"""The uncertainty budget: covariances of bin contents against replicas and closed forms."""

import csv
import json

import numpy as np
import pytest

from pullback.ensembles.acceptance import FAKE, Missed
from pullback.ensembles.fields import Field
from pullback.ensembles.posterior_store import PosteriorWriter
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.ensembles.unfolded import Unfolded, write_unfolded
from pullback.methods.base import PosteriorSamples
from pullback.metrics.budget import Sample, _contents, _statistical, budget, of_family, read_budgets

X = Field.vector("x", ("a", "b"), ("GeV", "1"))
Y = Field.vector("y", ("c",), "1")
EDGES = {"a": [-2.0, -0.5, 0.5, 2.0], "b": [-1.0, 0.0, 1.0]}


def events(path, n=400, seed=0, misses=100):
    """Groups of two pairs; x is correlated with itself in a group."""
    rng = np.random.default_rng(seed)
    x = np.repeat(rng.standard_normal((n // 2, 2)), 2, axis=0) + 0.3 * rng.standard_normal((n, 2))
    with EnsembleWriter(path, x=X, y=Y, spec="{}", columns={FAKE: "int8"}) as writer:
        fake = np.zeros(n, np.int8)
        writer.append(rng.standard_normal((n, 1)), np.arange(n), x=x, group=np.arange(n) // 2, fake=fake)
        missed = rng.standard_normal((misses, 2)).astype(np.float32)
        writer.append_missed(Missed(missed, np.ones(misses), np.arange(misses) // 4))
    return x


def posterior(path, ensemble, x, efficiency=0.5, purity=0.8, draws=4, seed=1):
    rng = np.random.default_rng(seed)
    with EnsembleReader(ensemble) as reader:
        n = reader.n
        found = PosteriorSamples(
            (x[:, None] + 0.2 * rng.standard_normal((n, draws, 2))).astype(np.float32),
            np.zeros((n, draws)),
            np.ones((n, draws), bool),
            purity=np.full(n, purity),
            efficiency=np.full((n, draws), efficiency),
        )
        given = ("purity", "efficiency")
        with PosteriorWriter(
            path, x=X, draws=draws, ensemble=reader, ensemble_name="e", spec="{}", acceptance=given
        ) as writer:
            writer.append(found, np.arange(n))
            writer.finish({}, {})
    return found


@pytest.fixture
def files(tmp_path):
    ensemble = tmp_path / "e.h5"
    x = events(ensemble)
    for name, shift in (("nominal", 0.0), ("up", 0.1), ("down", -0.1)):
        posterior(tmp_path / f"{name}.h5", ensemble, x + np.array([shift, 0.0]))
    return tmp_path, ensemble


def test_the_data_part_is_the_covariance_of_poisson_replicas():
    rng = np.random.default_rng(3)
    x, group = rng.standard_normal((300, 2)), rng.integers(60, size=300)
    sample = Sample(x, rng.uniform(0.5, 2, (300, 1)), group)
    edges = {name: np.array(each) for name, each in EDGES.items()}
    times = rng.poisson(1.0, (4000, 60))
    replicas = [_contents(Sample(x, sample.weight * row[group][:, None], None), edges) for row in times]
    wanted, found = np.cov(np.array(replicas).T), _statistical(sample, edges)
    # A covariance from R replicas has relative errors of sqrt(2 / R) = 0.022, in units of both spreads.
    scale = np.sqrt(np.outer(np.diag(found), np.diag(found)))
    assert np.abs((wanted - found) / scale).max() < 5 * np.sqrt(2 / 4000)
    # The same events fill bins of both features: these are correlated.
    assert np.abs(found[:3, 3:] / scale[:3, 3:]).max() > 0.2


def test_contents_count_truths_and_sources_add(files):
    folder, ensemble = files
    nominal = [(folder / "nominal.h5", ensemble)]
    varied = [(folder / f"{name}.h5", ensemble) for name in ("up", "down")]
    found = of_family({"nominal": nominal, "scale": varied}, EDGES, set(), ensemble)
    wide = of_family({"nominal": nominal}, {"a": [-50.0, 50.0], "b": [-50.0, 50.0]}, set(), ensemble)
    assert wide.content == pytest.approx(400 * 0.8 / 0.5)
    assert wide.truth[0] == pytest.approx([500, 500])
    assert list(found.covariance) == ["data", "scale", "total"]
    np.testing.assert_allclose(found.covariance["total"], found.covariance["data"] + found.covariance["scale"])
    shifts = found.shifts["scale"]
    np.testing.assert_allclose(found.covariance["scale"], shifts.T @ shifts / 2)
    # The draws have the same noise: a shift of `a` leaves `b`.
    assert (shifts[:, found.of("b")] == 0).all()
    assert (np.abs(shifts[:, found.of("a")]).max(axis=1) > 10).all()


def test_seeds_scatter_and_replicas_stand_for_the_data(tmp_path):
    ensemble = tmp_path / "e.h5"
    x = events(ensemble)
    rng = np.random.default_rng(5)
    with EnsembleReader(ensemble) as reader:
        for seed in range(3):
            weight = rng.poisson(1.0, (len(x), 31)).astype(float)
            weight[:, 0] = 1.0 + 0.1 * seed
            write_unfolded(tmp_path / f"{seed}.h5", Unfolded(x, weight), X, reader, "{}", {}, {})
    results = [(tmp_path / f"{seed}.h5", ensemble) for seed in range(3)]
    found = of_family({"nominal": results, "seeds": results}, EDGES, {"seeds"}, None)
    first = of_family({"nominal": results[:1]}, EDGES, set(), None)
    assert found.content == pytest.approx(1.1 * first.content)
    assert np.sqrt(np.diag(found.covariance["seeds"])) == pytest.approx(0.1 * first.content)
    # Independent events: the variance of a content is the number of events, from 30 replicas within 26 %.
    assert np.diag(found.covariance["data"]) == pytest.approx(first.content, rel=0.8)
    assert found.truth is None


def test_the_driver_writes_a_file_and_a_table(files):
    folder, ensemble = files
    job = {
        "study": "s",
        "problem": "p",
        "method": "m",
        "infer": "i",
        "bins": {"a": EDGES["a"]},
        "budgets": {"f": {"nominal": [0], "scale": [1, 2]}},
        "families": ["f", "f", "f"],
        "known": {"f": True},
        "seeds": [],
    }
    names = [folder / f"{name}.h5" for name in ("nominal", "up", "down")]
    budget(json.dumps(job), names, {"f": ensemble}, folder / "out.h5", folder / "out.csv")
    found = read_budgets(folder / "out.h5")["f"]
    assert list(found.edges) == ["a", "b"]
    assert len(found.edges["b"]) == 11
    # Bins of equal content of the nominal sample.
    assert found.content[found.of("b")] == pytest.approx(64, abs=2)
    with (folder / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["feature"], row["source"]) for row in rows} == {
        (feature, source) for feature in ("a", "b") for source in ("data", "scale", "total")
    }
    total = next(row for row in rows if row["feature"] == "a" and row["source"] == "total")
    assert 0 < float(total["relative_median"]) < 1
    assert float(total["chi2"]) > 0
