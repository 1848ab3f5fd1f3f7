"""Linear-Gaussian and mixture problems: closed forms against published numbers, quadrature and sampling."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pullback.problems.base import simulate
from pullback.study import StudyError, load_study
from pullback.study.problem_kind import problem_kind


def build(kind, **simulator):
    return problem_kind(kind).build(simulator)


def test_the_two_dimensional_twin():
    """Conditioning the joint Gaussian of (x, y) by hand, to six digits."""
    problem = build("linear-gaussian")
    posterior = problem.posterior(np.array([[1.2]]), {})
    np.testing.assert_allclose(posterior.mean[0, 0], [1.190265, -0.150442], atol=5e-7)
    np.testing.assert_allclose(posterior.covariance[0], [[0.252212, -0.320354], [-0.320354, 0.867257]], atol=5e-7)
    assert problem.log_evidence(np.array([[1.2]]), {})[0] == pytest.approx(-1.645205, abs=5e-7)


def test_the_mixture_of_the_lecture():
    problem, y = build("gaussian-mixture"), np.array([[0.5]])
    posterior = problem.posterior(y, {})
    np.testing.assert_allclose(posterior.weight[0], [0.001237, 0.801063, 0.197700], atol=5e-7)
    np.testing.assert_allclose(posterior.mean[0, :, 0], [-2.13014, 0.1, 1.37671], atol=5e-6)
    np.testing.assert_allclose(np.sqrt(posterior.covariance[:, 0, 0]), [0.28090, 0.35777, 0.28090], atol=5e-6)
    assert problem.log_evidence(y, {})[0] == pytest.approx(-1.434948, abs=5e-7)
    draws, candidates = problem.exact_posterior(y, {}, 100_000, 1, np.random.default_rng(0))
    assert np.isinf(candidates).all()
    # Standard errors: .002 of the mean, .0015 of the deviation, .0013 and .00014 of the shares.
    assert draws.mean() == pytest.approx(0.349647, abs=0.008)
    assert draws.std() == pytest.approx(0.619929, abs=0.006)
    assert (draws > 0.9).mean() == pytest.approx(0.1990, abs=0.005)
    assert (draws < -1).mean() == pytest.approx(0.00208, abs=0.0006)


PARAMS = {"weight1": 0.6, "shift1": -0.4, "scale": 1.3}


def test_evidence_and_posterior_are_bayes_rule_by_quadrature():
    """Of a prior with other weights, moved and stretched."""
    problem, y = build("gaussian-mixture"), 0.3

    def joint(x):
        return np.exp(problem.log_prior(np.array([x]), PARAMS) + problem.log_likelihood(np.array([y]), np.array([x])))

    def integral(f):
        return integrate.quad(lambda x: float(f(x)), -8, 8, points=[-2.9, -0.4, 1.1])[0]

    assert integral(lambda x: np.exp(problem.log_prior(np.array([x]), PARAMS))) == pytest.approx(1, abs=1e-8)
    evidence = integral(joint)
    assert problem.log_evidence(np.array([[y]]), PARAMS)[0] == pytest.approx(np.log(evidence), abs=1e-8)
    posterior = problem.posterior(np.array([[y]]), PARAMS)
    mean = integral(lambda x: x * joint(x)) / evidence
    assert (posterior.weight[0] * posterior.mean[0, :, 0]).sum() == pytest.approx(mean, abs=1e-8)
    for x in (-2.0, 0.1, 1.2):
        density = stats.norm(posterior.mean[0, :, 0], np.sqrt(posterior.covariance[:, 0, 0])).pdf(x)
        assert posterior.weight[0] @ density == pytest.approx(joint(x) / evidence, rel=1e-8)


PLANE = {
    "weights": [0.5, 0.2, 0.3], "means": [[0, 1, 0], [2, -1, 0.5], [-1, -1, -1]], "deviations": [0.5, 0.8, 0.3],
    "matrix": [[1, 0.5, 0], [0, 1, -1]], "noise": 0.6,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "simulator"), [("gaussian-mixture", PLANE), ("linear-gaussian", {})])
def test_draws_of_prior_and_posterior_belong_together(kind, simulator):
    """x ~ prior, y ~ p(y|x), x' ~ p(x|y): x' is distributed as x, and as x beside what y says of it."""
    problem, rng, n = build(kind, **simulator), np.random.default_rng(1), 40_000
    params = {"shift1": 0.5, "shift2": -0.25, "scale": 1.2}
    x = problem.sample_prior(rng, n, params)
    y, ok = simulate(problem, x, rng)
    assert ok.all()
    again = problem.exact_posterior(y, params, 1, 1, rng)[0][:, 0]
    for i in range(x.shape[1]):
        assert stats.ks_2samp(x[:, i], again[:, i]).pvalue > 1e-3
    covariances = [np.cov(np.c_[s, y].T) for s in (x, again)]
    np.testing.assert_allclose(covariances[1], covariances[0], atol=0.06)
    # Densities agree with scipy's.
    prior = problem.mixture_prior(params)
    wanted = sum(
        w * stats.multivariate_normal(m, c).pdf(x[:50])
        for w, m, c in zip(prior.weight, prior.mean, prior.covariance, strict=True)
    )
    np.testing.assert_allclose(np.exp(problem.log_prior(x[:50], params)), wanted, rtol=1e-9)
    likelihood = stats.multivariate_normal(np.zeros(y.shape[1]), problem.noise_covariance).logpdf(
        y[:50] - x[:50] @ problem.matrix.T
    )
    np.testing.assert_allclose(problem.log_likelihood(y[:50], x[:50]), likelihood, rtol=1e-9)
    mean = problem.posterior(y[:1], params)
    np.testing.assert_allclose(mean.weight.sum(), 1)


def test_formulas_in_torch_are_those_in_numpy():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, 2))
    plane, curved = build("gaussian-mixture", **PLANE), build("gaussian", dimension=3)
    t = torch.from_numpy(x)
    for problem, params, seen in ((plane, {}, y), (curved, {"gamma": 0.4, "mu1": 1.0}, x)):
        pairs = [
            (problem.log_prior(t, params), problem.log_prior(x, params)),
            (problem.log_likelihood(torch.from_numpy(seen), t), problem.log_likelihood(seen, x)),
            (problem.apply(t)[0], problem.apply(x)[0]),
        ]
        for tensor, array in pairs:
            assert torch.is_tensor(tensor)
            np.testing.assert_allclose(tensor.numpy(), array, rtol=1e-12)
    covariance = 0.4 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    np.testing.assert_allclose(
        curved.log_prior(x, {"gamma": 0.4, "mu1": 1.0}), stats.multivariate_normal([1, 0, 0], covariance).logpdf(x)
    )


def test_the_decomposition_of_a_matrix():
    problem = build("gaussian-mixture", **PLANE)
    u, s, v = problem.linear.svd
    np.testing.assert_allclose(u @ np.diag(s) @ v.T, problem.matrix, atol=1e-12)
    assert (np.diff(s) <= 0).all()


WIDE = {"components": 40, "dimension": 30, "outputs": 10, "condition": 8, "deviation": 0.7, "elongation": 3, "seed": 5}


def study(kind, simulator, params):
    families = {"a": {"role": "seen", "params": params}}
    problem = {"kind": kind, "simulator": simulator, "families": families, "methods": {"o": {"kind": "oracle"}}}
    return load_study({"config_version": 2, "study": "s", "problems": {"p": problem}})


@pytest.mark.parametrize(
    ("kind", "simulator", "params", "says"),
    [
        ("gaussian-mixture", {"weights": [0.5, 0.5]}, {}, "2 weights, 3 means, 3 deviations"),
        ("gaussian-mixture", {"weights": [0.5, 0.4, 0.2]}, {}, "that sum to 1"),
        ("gaussian-mixture", {"matrix": [[1, 0]]}, {}, r"rows of \[2\] numbers, wanted 1"),
        ("gaussian-mixture", {"means": [[0], [1, 2], [3]]}, {}, r"means of \[1, 2, 1\] numbers"),
        ("gaussian-mixture", {}, {"weight1": 1.5}, "weight1 is a share"),
        ("gaussian-mixture", {}, {"shift2": 1.0}, "x has one component"),
        (
            "gaussian-mixture",
            {"weights": [1], "means": [[0]], "deviations": [1]},
            {"weight1": 0.5},
            "there is one mode",
        ),
        ("gaussian-mixture", {"covariances": [[[1]], [[2]]]}, {}, "3 weights, 3 means, 2 covariances"),
        ("gaussian-mixture", {"covariances": [[[1]], [[2]], [[-1]]]}, {}, r"covariances\[2\].*positive eigenvalues"),
        ("gaussian-mixture", {"drawn": WIDE, "means": [[0], [1], [2]]}, {}, "leave out means, or drawn"),
        ("gaussian-mixture", {"drawn": WIDE | {"outputs": 31}}, {}, r"outputs \(31\) is above dimension"),
        ("linear-gaussian", {"noise": 0.0}, {}, "noise is 0: the likelihood of exact data has no density"),
        ("linear-gaussian", {}, {"scale": 0.0}, "scale is a factor of standard deviations"),
        ("linear-gaussian", {"covariance": [[1, 2], [2, 1]]}, {}, "positive eigenvalues"),
        ("linear-gaussian", {"mean": [0, 0, 0]}, {}, "wanted 3 rows of 3"),
    ],
)
def test_settings_that_do_not_fit(kind, simulator, params, says):
    with pytest.raises(StudyError, match=says):
        study(kind, simulator, params)


def test_a_study_of_each(tmp_path):
    assert study("gaussian-mixture", PLANE, {"weight1": 0.5})
    assert study("linear-gaussian", {}, {"shift1": 1.0})


def test_a_drawn_mixture_is_what_its_options_say():
    problem = build("gaussian-mixture", drawn=WIDE, noise=0.3)
    prior = problem.mixture_prior({})
    assert prior.mean.shape == (40, 30)
    # 1200 normals of standard deviation 4: its estimate is within 4 / sqrt(2400) = 0.08.
    assert prior.mean.std() == pytest.approx(4, abs=0.35)
    widths = np.sqrt(np.linalg.eigvalsh(prior.covariance))
    np.testing.assert_allclose(widths[:, [0, -1]], np.tile([0.7 / 3, 0.7], (40, 1)))
    assert problem.matrix.shape == (10, 30)
    np.testing.assert_allclose(np.linalg.svd(problem.matrix, compute_uv=False)[[0, -1]], [1, 1 / 8])
    again, other = (build("gaussian-mixture", drawn=WIDE | {"seed": seed}).mixture_prior({}) for seed in (5, 6))
    np.testing.assert_array_equal(again.mean, prior.mean)
    assert (other.mean != prior.mean).all()
    # A round trip through a job's plain values.
    values = problem.options.model_dump(mode="json")
    np.testing.assert_array_equal(build("gaussian-mixture", **values).mixture_prior({}).covariance, prior.covariance)


def test_the_posterior_of_a_drawn_mixture_is_bayes_rule():
    """p(x|y) p(y) = p(x) p(y|x) at draws of the posterior, whatever the draw: by densities, not by moments."""
    problem, rng = build("gaussian-mixture", drawn=WIDE, noise=0.3), np.random.default_rng(3)
    y, _ = simulate(problem, problem.sample_prior(rng, 3, {}), rng)
    x, _ = problem.exact_posterior(y, {}, 4, 1, rng)
    posterior, evidence = problem.posterior(y, {}), problem.log_evidence(y, {})
    for event in range(3):
        one = posterior._replace(weight=posterior.weight[event], mean=posterior.mean[event])
        joint = problem.log_prior(x[event], {}) + problem.log_likelihood(y[event], x[event])
        np.testing.assert_allclose(one.log_density(x[event].astype(float)) + evidence[event], joint, rtol=1e-8)


def test_a_drawn_plane_has_one_gaussian():
    problem = build("linear-gaussian", drawn={"dimension": 3, "elongation": 4, "spread": 2})
    prior = problem.mixture_prior({"shift1": 1.0})
    assert prior.weight.tolist() == [1]
    np.testing.assert_allclose(np.linalg.eigvalsh(prior.covariance[0])[[0, -1]], [1 / 16, 1])
    assert prior.mean[0, 0] - problem.mixture_prior({}).mean[0, 0] == pytest.approx(1)


def test_the_prior_of_the_gaussian_problem_is_its_density():
    problem, params = build("gaussian", dimension=3), {"gamma": 0.4, "mu1": 1.0}
    x = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_allclose(problem.mixture_prior(params).log_density(x), problem.log_prior(x, params))


def test_the_old_name_of_the_mixture_leads_to_the_new_one():
    with pytest.raises(StudyError, match="no kind 'mixture'; did you mean 'gaussian-mixture'"):
        study("mixture", {}, {})
