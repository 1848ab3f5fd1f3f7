"""The posterior from a sample of the truth: the unfolding problem's, and the oracle that asks for it."""

import json
import logging

import numpy as np
import pytest
from scipy import stats

from pullback.core.angles import wrap
from pullback.ensembles.posterior_store import PosteriorReader
from pullback.ensembles.stale_files import StaleFileError
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.infer import infer
from pullback.methods.loading import Inputs
from pullback.problems.base import simulate
from pullback.problems.reweighting import choose
from pullback.problems.true_prior import TruePriorError
from pullback.simulators import detector
from pullback.study.problem_kind import problem_kind

PROBLEM = problem_kind("unfolding").build({})


def jets(n, seed):
    """A prior in closed form with the symmetries of collisions: pT exponential above 30, eta Gaussian, phi uniform."""
    rng = np.random.default_rng(seed)
    eta = np.clip(1.5 * rng.standard_normal(n), -4.4, 4.4)
    return np.stack(
        [30 + rng.exponential(60, n), eta, rng.uniform(-np.pi, np.pi, n), 5 + rng.exponential(5, n)], axis=1
    )


def write(path, n, seed, weight=None, spec="{}"):
    x = jets(n, seed)
    y, _ = simulate(PROBLEM, x, np.random.default_rng(seed + 1))
    columns = {} if weight is None else {"weight": "<f8"}
    with EnsembleWriter(path, x=PROBLEM.x, y=PROBLEM.y, spec=spec, columns=columns) as writer:
        writer.append(y, np.arange(n), x=x, **({} if weight is None else {"weight": weight}))
    return path


def test_choice_follows_the_weights():
    """Truths 0 ... 3, y = x + eps: chosen in proportion to weight times likelihood."""
    truth, weight = np.arange(4.0), np.array([1.0, 2.0, 0.0, 1.0])
    y = np.array([[0.5], [2.0], [np.inf]])

    def log_likelihood(some):
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(some), stats.norm.logpdf(some, truth), -np.inf)

    n = 20_000
    with np.errstate(divide="ignore"):
        index, ess = choose(log_likelihood, y, np.log(weight), n, np.random.default_rng(0))
    assert (index[2] == -1).all()
    for row in range(2):
        wanted = weight * stats.norm.pdf(y[row], truth)
        wanted /= wanted.sum()
        found = np.bincount(index[row], minlength=4) / n
        np.testing.assert_allclose(found, wanted, atol=5 * 0.5 / np.sqrt(n))
        assert ess[row] == pytest.approx(1 / (wanted**2).sum())
    assert ess[2] == 0


def table(y, x):
    """log p(y|x) of every pair for jets that are seen at their own phi, without the constant of the width in phi."""
    every = np.repeat(x[None], len(y), axis=0)
    every[..., 2] = y[:, None, 2]
    return detector.log_likelihood(y[:, None], every) + np.log(detector.response(x[:, 0])[3])


def test_likelihood_is_its_part_beside_phi_times_that_of_phi():
    x, y = jets(50, 0), jets(50, 0)[:, :3]
    phi = np.linspace(-np.pi, np.pi, 4001)[:-1]
    grid = np.repeat(y[:, None], len(phi), axis=1)
    grid[..., 2] = phi
    over_phi = np.exp(detector.log_likelihood(grid, x[:, None])).sum(1) * (phi[1] - phi[0])
    every = detector.likelihood_beside_phi(x)(y)
    np.testing.assert_allclose(over_phi, np.exp(np.diag(every)), rtol=1e-6)
    np.testing.assert_allclose(every - np.diag(every), table(y, x) - np.diag(table(y, x)), rtol=1e-8, atol=1e-8)
    outside = np.array([[40.0, 4.6, 0.0], [4.0, 0.0, 0.0]])
    assert np.isneginf(detector.likelihood_beside_phi(x)(outside)).all()
    below = np.array([[19.0, 0.0, 0.0, 1.0], [50.0, 0.0, 0.0, 1.0]])
    assert np.isneginf(detector.likelihood_beside_phi(below)(y)).all(axis=0).tolist() == [True, False]


def test_a_higher_cut_is_that_of_forward_and_likelihood():
    """Of jets from 25 GeV on: p(y|x) integrates to 1 there, and draws of truths near the cut follow it."""
    problem, cut = problem_kind("unfolding").build({"reco_pt_min": 25.0}), 25.0
    x = np.tile([40.0, 0.2, 1.0, 5.0], (4000, 1))
    y, ok = simulate(problem, x, np.random.default_rng(0))
    assert ok.all()
    assert y[:, 0].min() >= cut
    pt = np.linspace(cut, 70, 2001)
    at = np.stack([pt, np.full_like(pt, 0.2), np.ones_like(pt)], axis=1)
    of_pt = np.exp(problem.log_likelihood(at, x[0]))
    of_pt /= of_pt.sum()
    mean = of_pt @ pt
    assert y[:, 0].mean() == pytest.approx(mean, abs=4 * np.sqrt(of_pt @ (pt - mean) ** 2 / len(y)))
    # The same jets under the lower cut of the default problem: less likely by the fraction that the higher one keeps.
    kept = np.exp(problem.log_likelihood(y, x) - PROBLEM.log_likelihood(y, x))
    smeared = detector.smear(x, np.random.default_rng(1))
    share = (smeared[:, 0] >= cut).sum() / (smeared[:, 0] >= detector.PT_MIN).sum()
    assert 0.3 < share < 0.7
    np.testing.assert_allclose(kept, 1 / share, rtol=4 * np.sqrt((1 - share) / share / len(x)))
    assert np.isneginf(problem.log_likelihood(np.array([[24.0, 0.2, 1.0]]), x[:1])).all()
    # Truths that pass the cut by luck alone are more of the prior than is seen: not so if the cut is forgotten.
    seen, pool = np.array([[25.5, 0.2, 1.0]]), jets(20_000, 1)
    means = [
        p.posterior_from_truth(seen, pool, np.zeros(len(pool)), 4000, np.random.default_rng(2))[0][0, :, 0].mean()
        for p in (problem, PROBLEM)
    ]
    assert means[0] < means[1] - 0.5


def test_posterior_from_truth_agrees_with_importance_sampling():
    """Against prior draws in the millions, weighted by the whole likelihood without any symmetry."""
    y = np.array([[50.0, 0.4, 3.1], [90.0, -1.2, 0.2]])
    draws = 4000
    x, ess = PROBLEM.posterior_from_truth(y, jets(400_000, 1), np.zeros(400_000), draws, np.random.default_rng(2))
    assert ess.min() > 3000
    pool = jets(2_000_000, 3)
    for row, seen in enumerate(y):
        near = pool[(np.abs(pool[:, 1] - seen[1]) < 0.6) & (np.abs(wrap(pool[:, 2] - seen[2])) < 0.9)]
        weight = np.exp(detector.log_likelihood(seen, near))
        weight /= weight.sum()
        effective = 1 / (weight**2).sum()
        assert effective > 200
        for turn in (lambda v: v[..., [0, 1, 3]], lambda v, at=seen[2]: wrap(v[..., 2:3] - at)):
            mean = weight @ turn(near)
            variance = weight @ (turn(near) - mean) ** 2
            found = turn(x[row].astype(float))
            error = np.sqrt(variance * (1 / draws + 1 / effective + 1 / ess[row]))
            assert (np.abs(found.mean(0) - mean) < 5 * error).all()
            # The mass is exponential, with a kurtosis of 9: relative error of a variance up to sqrt(8 / n).
            np.testing.assert_allclose(found.var(0), variance, rtol=5 * np.sqrt(8 / effective))


def job(**more):
    return json.dumps(
        {
            "address": [1, "jets", "oracle", 0],
            "problem": {"kind": "unfolding", "simulator": {}},
            "threads": 1,
            "accelerator": "cpu",
            "method": {"kind": "oracle"},
            "infer_name": "default",
            "infer": {"draws": 9, "max_events": None, "set_size": "all"},
            "family": "ttbar",
            "part": 0,
            "parts": 1,
            "params": {},
            **more,
        }
    )


def test_the_oracle_of_unfolding_is_calibrated(tmp_path):
    n = 2000
    test, reference = write(tmp_path / "test.h5", n, 5), write(tmp_path / "reference.h5", 20_000, 7)
    infer(job(), Inputs(test, reference=reference), tmp_path / "p.h5")
    posterior = PosteriorReader(tmp_path / "p.h5")
    x, draws = EnsembleReader(test).read("x"), posterior.read("x")
    assert posterior.read("ok").mean() > 0.999
    assert posterior.diagnostics["effective_pool"] > 100 > posterior.diagnostics["effective_pool_low"] > 1
    turned = wrap(draws[..., 2] - x[:, None, 2]), np.zeros((n, 1))
    values = [*((draws[..., i], x[:, None, i]) for i in (0, 1, 3)), turned]
    for drawn, true in values:
        counts = np.bincount((drawn < true).sum(1), minlength=10)
        # 99.9 % point of chi2 with 9 degrees of freedom is 27.9. Events with a pool of a few jets (at the edges) have
        # draws that coincide: they may add a few units.
        assert ((counts - n / 10) ** 2 / (n / 10)).sum() < 35


def test_weights_of_the_reference_count(tmp_path):
    """A reference whose jets above 60 GeV have no weight gives no draw above."""
    x = jets(5000, 7)
    test = write(tmp_path / "test.h5", 50, 5)
    reference = write(tmp_path / "reference.h5", 5000, 7, weight=(x[:, 0] < 60).astype(float))
    infer(job(), Inputs(test, reference=reference), tmp_path / "p.h5")
    posterior = PosteriorReader(tmp_path / "p.h5")
    ok = posterior.read("ok")
    assert 0 < ok.mean() <= 1
    assert posterior.read("x")[ok][:, 0].max() <= 60
    signed = write(tmp_path / "signed.h5", 5000, 7, weight=np.where(x[:, 0] < 60, 1.0, -1.0))
    with pytest.raises(TruePriorError, match="sum of the event weights is -"):
        infer(job(), Inputs(test, reference=signed), tmp_path / "q.h5")


def test_a_reference_of_another_config_is_refused(tmp_path):
    test = write(tmp_path / "test.h5", 10, 5)
    reference = write(tmp_path / "reference.h5", 100, 7, spec='{"old": 1}')
    with pytest.raises(StaleFileError, match=r"reference\.h5: left behind by another config"):
        infer(job(inputs={"reference": ["0" * 16]}), Inputs(test, reference=reference), tmp_path / "p.h5")


def test_a_likelihood_without_symmetries_weights_truths_as_they_are(tmp_path, monkeypatch, caplog):
    monkeypatch.delattr(type(PROBLEM), "posterior_from_truth")
    test, reference = write(tmp_path / "test.h5", 40, 5), write(tmp_path / "reference.h5", 20_000, 7)
    with caplog.at_level(logging.ERROR):
        infer(job(), Inputs(test, reference=reference), tmp_path / "p.h5")
    posterior = PosteriorReader(tmp_path / "p.h5")
    truths = {tuple(row) for row in EnsembleReader(reference).read("x")}
    drawn = posterior.read("x")[posterior.read("ok")]
    assert {tuple(row) for row in drawn} <= truths
    # 0.09 rad of the circle, no mirror image: about 2 pi / (0.09 * 3.5) / 2 times fewer candidates.
    assert 1 < posterior.diagnostics["effective_pool"] < 60
