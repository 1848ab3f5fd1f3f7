"""The binned methods on files: a detector with efficiency and fakes, several features, groups, and bad input."""

from types import SimpleNamespace

import numpy as np
import pytest

from pullback.core.atomic import StoreError
from pullback.core.context import Context
from pullback.ensembles.acceptance import Missed
from pullback.ensembles.fields import Field
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.ensembles.unfolded import UnfoldedReader, write_unfolded
from pullback.methods.unfolding import binned, binned_spec
from pullback.methods.unfolding.channels import Simulated
from pullback.methods.unfolding.response import UnfoldingError

PROBLEM = SimpleNamespace(
    x=Field.vector("x", ["pt", "eta"], ["GeV", "1"]), y=Field.vector("y", ["pt", "eta"], ["GeV", "1"])
)
SPECS = {
    "ibu": binned_spec.IbuSpec,
    "bin-by-bin": binned_spec.BinByBinSpec,
    "matrix-inversion": binned_spec.MatrixInversionSpec,
    "tikhonov": binned_spec.TikhonovSpec,
}
EDGES = [20.0, 25.0, 30.0, 36.0, 44.0, 55.0, 70.0]


def truths(rng, n, slope):
    """pt above 15 GeV, falling exponentially, and eta."""
    return np.column_stack([15 + rng.exponential(slope, n), rng.normal(0, 1.5, n)])


def write(path, slope, n, seed, fakes=0.1, groups=False, weight=None, y=None, eta=None):
    """Truths whose reconstruction smears pt by 12 % and loses 10 % to 40 %, fakes among the observations.

    With ``eta`` that quantity is pt times so much, in truth and observation.
    """
    rng = np.random.default_rng(seed)
    x = truths(rng, n, slope)
    kept = rng.random(n) < 0.6 + 0.3 * np.clip((x[:, 0] - 15) / 50, 0, 1)
    seen = x * np.column_stack([1 + 0.12 * rng.standard_normal(n), np.ones(n)]) + [0, 0.05] * rng.standard_normal(
        (n, 2)
    )
    many = int(fakes * kept.sum())
    fake = np.column_stack([15 + rng.exponential(10.0, many), rng.uniform(-3, 3, many)])
    for values in () if eta is None else (x, seen, fake):
        values[:, 1] = eta * values[:, 0]
    observed = np.concatenate([seen[kept], fake]) if y is None else y
    is_fake = np.arange(len(observed)) >= kept.sum()
    with EnsembleWriter(
        path,
        x=PROBLEM.x,
        y=PROBLEM.y,
        spec="{}",
        attributes={"family": path.stem},
        columns={"fake": "int8", "weight": "float64"},
    ) as writer:
        number = np.arange(len(observed))
        writer.append(
            observed,
            number,
            x=np.concatenate([x[kept], np.full((many, 2), np.nan)])[: len(observed)],
            group=rng.permutation(number) // 3 if groups else number,
            fake=is_fake.astype(np.int8),
            weight=np.ones(len(observed)) if weight is None else np.resize(weight, len(observed)),
        )
        lost = x[~kept]
        writer.append_missed(Missed(lost, np.ones(len(lost)), len(observed) + np.arange(len(lost))))
    return path, x


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("binned")
    made = {
        "soft": write(folder / "soft.h5", 12.0, 100_000, 1)[0],
        "hard": write(folder / "hard.h5", 22.0, 60_000, 2)[0],
    }
    made["data"], truth = write(folder / "data.h5", 16.0, 20_000, 3, groups=True)
    return made, truth


def method(kind, files, features=None, infer=None, **options):
    spec = SPECS[kind](kind=kind, features=features or {"pt": {"bins": EDGES}}, **options)
    settings = spec.infer_settings({"replicas": 0, **(infer or {})})
    made = spec.build(PROBLEM, Context((0, "test"), 1, "cpu"), settings)
    made.load(None, None, [files["soft"], files["hard"]])
    return made


def unfold(kind, files, ensemble="data", **more):
    with EnsembleReader(files[ensemble]) as reader:
        return method(kind, files, **more).unfold(None, reader)


@pytest.mark.parametrize("kind", SPECS)
def test_efficiency_and_fakes_are_unfolded(files, kind):
    """Truth before the detector, within the stated errors; the data lost a quarter and hold 10 % fakes."""
    made, truth = files
    fine = np.geomspace(18, 80, 21).tolist()
    bins = {"bins": EDGES, **({} if kind == "bin-by-bin" else {"observed_bins": fine})}
    found = unfold(kind, made, features={"pt": bins}, infer={"iterations": 8} if kind == "ibu" else {})
    content, covariance = found.bins["pt"].content, found.bins["pt"].covariance
    true = np.histogram(truth[:, 0], EDGES)[0]
    with EnsembleReader(made["data"]) as reader:
        observed = np.histogram(reader.read("y")[:, 0], EDGES)[0]
    assert np.abs(observed / true - 1).max() > 0.2
    # The data's own truth scatters with them, and its part is in neither: binomial, less than Poisson.
    pull = (content - true) / np.sqrt(np.diag(covariance))
    # Bin by bin and the prior of few iterations pull to the simulation: by less than their errors here.
    assert np.abs(pull).max() < 3.5
    assert content.sum() == pytest.approx(true.sum(), rel=0.03)
    assert 0.2 < found.diagnostics["refolded_chi2.pt"] < (4 if kind == "bin-by-bin" else 2)
    assert found.diagnostics["negative_bins.pt"] == 0
    # 15 to 20 GeV lie below the bins.
    assert found.diagnostics["outside_bins.pt"] == pytest.approx(1 - true.sum() / len(truth), abs=0.05)


def test_the_weighted_sample_counts_truths(files):
    made, truth = files
    found = unfold("ibu", made, infer={"replicas": 20, "sample": 30_000})
    assert found.x.shape == (30_000, 2)
    assert found.weight.shape == (30_000, 21)
    sums = np.histogram(found.x[:, 0], EDGES, weights=found.weight[:, 0])[0]
    np.testing.assert_allclose(sums, found.bins["pt"].content, rtol=1e-9)
    # Underflow and overflow are in it as well: all truths, those that were missed too.
    assert found.weight[:, 0].sum() == pytest.approx(len(truth), rel=0.05)
    assert found.weight.min() >= 0


def test_errors_of_grouped_data_are_those_of_replicas(files):
    """The covariance by groups is the replicas' in the limit of many, of one feature and of two."""
    made, _ = files
    features = {"pt": {"bins": EDGES}, "eta": {"bins": 5}}
    found = unfold("ibu", made, features=features, infer={"replicas": 400, "sample": 1000})
    ours = method("ibu", made, features=features, infer={"replicas": 400})
    assert found.joint.shape == (11, 11)
    np.testing.assert_array_equal(found.joint[:6, :6], found.bins["pt"].covariance)
    np.testing.assert_array_equal(found.joint[6:, 6:], found.bins["eta"].covariance)
    np.testing.assert_allclose(found.joint, found.joint.T, rtol=1e-9, atol=1e-9)
    assert np.linalg.eigvalsh(found.joint)[0] > 0
    replicas = _replica_contents(ours, made)
    stated, among = found.joint[:6, 6:], np.cov(replicas.T)[:6, 6:]
    scale = np.sqrt(np.outer(np.diag(found.joint)[:6], np.diag(found.joint)[6:]))
    np.testing.assert_allclose(among / scale, stated / scale, atol=5 / np.sqrt(400))
    assert (stated / scale).mean() > 0.02
    # The simulation adds to the data's errors, and is ten times as large.
    assert (np.diag(np.cov(replicas.T)) < np.diag(found.joint) * (1 + 5 * np.sqrt(2 / 400))).all()


def _replica_contents(method, files):
    found = []
    method._sample = lambda outcomes: (found.extend(outcomes), (None, None))[1]
    with EnsembleReader(files["data"]) as reader:
        method.unfold(None, reader)
    inside = [channel.inside for channel in method.channels]
    return np.hstack([outcome.replicas[1:, kept] for outcome, kept in zip(found, inside, strict=True)])


def simulation_covariance(method, ensemble):
    """Of all bins by the statistics of the simulation."""
    found = []
    method._sample = lambda outcomes: (found.extend(outcomes), (None, None))[1]
    method.unfold(None, ensemble)
    return method._by_simulation(found)


@pytest.mark.parametrize("form", ["multinomial", "poisson"])
def test_errors_of_independent_objects_are_those_of_the_matrix(files, form):
    """Of one family with weights of one and without fakes, the closed form for a response of given errors."""
    made, _ = files
    ours = method("ibu", made, response="soft", infer={"response_errors": form})
    with EnsembleReader(made["soft"]) as reader:
        simulated = Simulated.of(reader)
    pairs = simulated.pairs
    ours.learn({"soft": simulated._replace(y=simulated.y[:pairs], y_weight=simulated.y_weight[:pairs])})
    channel = ours.channels[0]
    with EnsembleReader(made["data"]) as ensemble:
        stated = simulation_covariance(ours, ensemble)
        data = np.histogram(ensemble.read("y")[:, 0].astype(float), [-np.inf, *EDGES, np.inf])[0].astype(float)
    estimate = binned.bayes(channel.response.matrix, data, channel.prior, 4)
    closed = binned.response_covariance(estimate, channel.response, form)[1:-1, 1:-1]
    np.testing.assert_allclose(stated, closed, rtol=1e-6, atol=1e-6 * closed.max())


def test_errors_of_the_simulation_are_those_of_its_replicas(tmp_path):
    """Response and fakes of groups of three objects, drawn together; the second feature is the same in other bins."""
    replicas = 200
    soft, _ = write(tmp_path / "soft.h5", 12.0, 12_000, 1, groups=True, eta=0.1)
    data, _ = write(tmp_path / "data.h5", 16.0, 12_000, 3, eta=0.1)
    features = {"pt": {"bins": EDGES}, "eta": {"bins": [2.0, 2.5, 3.2, 6.0]}}
    infer = {"sample": 10}
    ours = method("ibu", {"soft": soft, "hard": data}, features, infer, response="soft", prior_shape="flat")
    with EnsembleReader(soft) as reader:
        simulated = Simulated.of(reader)
    pairs, truths = simulated.pairs, len(simulated.truth)
    number, rng, contents = np.unique(simulated.group, return_inverse=True)[1], np.random.default_rng(0), []
    with EnsembleReader(data) as ensemble:
        for _ in range(replicas):
            times = rng.poisson(1.0, number.max() + 1)[number].astype(float)
            weight = simulated.weight * times[:truths]
            y_weight = simulated.y_weight * np.append(times[:pairs], times[truths:])
            ours.learn({"soft": simulated._replace(weight=weight, y_weight=y_weight)})
            found = ours.unfold(None, ensemble)
            contents.append(np.concatenate([bins.content for bins in found.bins.values()]))
        ours.learn({"soft": simulated})
        stated = simulation_covariance(ours, ensemble)
    among, size = np.cov(np.transpose(contents)), np.sqrt(np.diag(stated))
    np.testing.assert_allclose(np.diag(among), np.diag(stated), rtol=5 * np.sqrt(2 / replicas))
    np.testing.assert_allclose(among / np.outer(size, size), stated / np.outer(size, size), atol=5 / np.sqrt(replicas))
    assert (stated / np.outer(size, size))[:6, 6:].max() > 0.5


def test_the_sample_fits_the_bins_of_all_features(files):
    made, _ = files
    found = unfold("matrix-inversion", made, features={"pt": {"bins": EDGES}, "eta": {"bins": 5}})
    for j, name in enumerate(("pt", "eta")):
        bins = found.bins[name]
        sums = np.histogram(found.x[:, j], bins.edges, weights=found.weight[:, 0])[0]
        # Both features count all truths, with errors of their own: sums agree up to that of the total.
        np.testing.assert_allclose(sums, bins.content, rtol=0.03)


def test_response_and_prior_of_the_families_that_are_named(files):
    made, _ = files

    def channel(response, prior="response"):
        return method("ibu", made, response=response, prior_shape=prior).channels[0]

    soft, hard, union = channel("soft"), channel("hard"), channel("union")
    # Each family has the same total in the union, though one has fewer events.
    np.testing.assert_allclose(union.response.truth, soft.response.truth + hard.response.truth)
    np.testing.assert_array_equal(channel(["soft", "hard"]).response.matrix, union.response.matrix)
    np.testing.assert_array_equal(channel(["hard"]).response.matrix, hard.response.matrix)
    assert soft.response.truth.sum() == pytest.approx(1)
    assert hard.prior[-1] > 3 * soft.prior[-1]
    other = channel("soft", "hard")
    np.testing.assert_array_equal(other.response.matrix, soft.response.matrix)
    np.testing.assert_allclose(other.prior, hard.prior)
    np.testing.assert_array_equal(channel("soft", "flat").prior, np.ones(len(EDGES) + 1))
    once = {"iterations": 1}
    pulled = [
        unfold("ibu", made, infer=once, response="soft", prior_shape=prior).bins["pt"].content
        for prior in ("soft", "hard")
    ]
    assert (pulled[0] / pulled[1])[0] > 1.005 > 0.995 > (pulled[0] / pulled[1])[-1]


def test_the_scale_of_weights_is_the_unit_of_the_contents(files, tmp_path):
    made, _ = files
    heavy = {**made, "heavy": write(tmp_path / "heavy.h5", 16.0, 20_000, 3, weight=[0.5])[0]}
    light = {**made, "light": write(tmp_path / "light.h5", 16.0, 20_000, 3)[0]}
    half, one = unfold("ibu", heavy, "heavy").bins["pt"], unfold("ibu", light, "light").bins["pt"]
    np.testing.assert_allclose(half.content, one.content / 2)
    np.testing.assert_allclose(half.covariance, one.covariance / 4)


def test_negative_event_weights(files, tmp_path):
    made, _ = files
    signed = {**made, "signed": write(tmp_path / "signed.h5", 16.0, 60_000, 3, weight=[1, 1, -0.5])[0]}
    found = unfold("matrix-inversion", signed, "signed").bins["pt"]
    plain = unfold("matrix-inversion", {**made, "p": write(tmp_path / "p.h5", 16.0, 60_000, 3)[0]}, "p").bins["pt"]
    # (1 + 1 - 0.5) / 3 of the content, of which more is known than the errors of either.
    pull = (found.content - plain.content / 2) / np.sqrt(np.diag(found.covariance))
    assert np.abs(pull).max() < 5
    simulated = {**made, "soft": write(tmp_path / "soft.h5", 12.0, 60_000, 5, weight=[1, 1, -0.5])[0]}
    by_signed = unfold("ibu", simulated, response="soft", infer={"sample": 5000})
    assert by_signed.weight.min() >= 0
    sums = np.histogram(by_signed.x[:, 0], EDGES, weights=by_signed.weight[:, 0])[0]
    np.testing.assert_allclose(sums, by_signed.bins["pt"].content, rtol=1e-9)
    wrong = {**made, "wrong": write(tmp_path / "wrong.h5", 16.0, 20_000, 3, weight=[-1.0])[0]}
    with pytest.raises(UnfoldingError, match="data: bin 0 holds -"):
        unfold("ibu", wrong, "wrong")
    with pytest.raises(UnfoldingError, match=r"features\.pt: the observations sum to -"):
        unfold("tikhonov", wrong, "wrong")


def test_the_file_keeps_the_joint_covariance(files, tmp_path):
    made, _ = files
    found = unfold("ibu", made, features={"pt": {"bins": EDGES}, "eta": {"bins": 5}}, infer={"sample": 500})
    with EnsembleReader(made["data"]) as ensemble:
        write_unfolded(tmp_path / "unfolded.h5", found, PROBLEM.x, ensemble, "{}", {}, {})
        with pytest.raises(StoreError, match=r"joint covariance has the shape \(10, 10\), wanted \(11, 11\)"):
            wrong = found._replace(joint=found.joint[1:, 1:])
            write_unfolded(tmp_path / "wrong.h5", wrong, PROBLEM.x, ensemble, "{}", {}, {})
    read = UnfoldedReader(tmp_path / "unfolded.h5").unfolded
    # In the order of the study, which is not that of the letters.
    assert list(read.bins) == ["pt", "eta"]
    np.testing.assert_array_equal(read.joint, found.joint)


def test_data_in_other_units_are_refused(files, tmp_path):
    made, _ = files
    y = 1000 * np.random.default_rng(0).uniform(20, 70, (500, 2))
    with pytest.raises(UnfoldingError, match=r"features\.pt: all observations lie outside the observed bins, 20 to 70"):
        unfold("ibu", {**made, "mev": write(tmp_path / "mev.h5", 16.0, 1000, 4, y=y)[0]}, "mev")


def test_observations_that_no_simulation_explains_are_counted(files, tmp_path):
    made, _ = files
    with EnsembleReader(made["data"]) as reader:
        y = reader.read("y")[:500]
    y[:50, 0] = -5.0
    odd = {**made, "odd": write(tmp_path / "odd.h5", 16.0, 1000, 4, y=y)[0]}
    features = {"pt": {"bins": EDGES, "observed_bins": [0.0, *EDGES, 1e4]}}
    assert unfold("ibu", odd, "odd", features=features).diagnostics["unexplained.pt"] == pytest.approx(0.1)


def test_bin_by_bin_takes_migration_from_below_the_threshold_as_correction(files, tmp_path):
    """Nothing is recorded below the first edge, and truths from below it are observed above."""
    made, _ = files

    def cut(name, *arguments):
        path, x = write(tmp_path / f"{name}_all.h5", *arguments)
        with EnsembleReader(path) as reader:
            above = reader.read("y")[:, 0] >= EDGES[0]
            columns = {key: reader.read(key)[above] for key in ("fake", "weight")}
            with EnsembleWriter(
                tmp_path / f"{name}.h5",
                x=PROBLEM.x,
                y=PROBLEM.y,
                spec="{}",
                attributes={"family": name},
                columns={"fake": "int8", "weight": "float64"},
            ) as writer:
                writer.append(
                    reader.read("y")[above], reader.read("event_id")[above], x=reader.read("x")[above], **columns
                )
                lost = reader.read("x")[~above & ~reader.fake()]
                every = np.concatenate([lost, reader.missed.x])
                writer.append_missed(Missed(every, np.ones(len(every)), -1 - np.arange(len(every))))
        return tmp_path / f"{name}.h5", x

    soft, _ = cut("soft", 12.0, 60_000, 1)
    data, truth = cut("data", 12.0, 20_000, 7)
    found = unfold("bin-by-bin", {**made, "soft": soft, "data": data}, response="soft").bins["pt"]
    pull = (found.content - np.histogram(truth[:, 0], EDGES)[0]) / np.sqrt(np.diag(found.covariance))
    assert np.abs(pull).max() < 3.5


def test_empty_bins_are_named(files):
    with pytest.raises(UnfoldingError, match=r"features\.pt\.bins: the bin from 2000 to 3000 has no simulated truth"):
        method("ibu", files[0], {"pt": {"bins": [20.0, 30.0, 2000.0, 3000.0]}})


def test_settings_that_disagree():
    with pytest.raises(ValueError, match=r"`bins`: found the edges .* wanted increasing ones"):
        binned_spec.IbuSpec(kind="ibu", features={"pt": {"bins": [1.0, 3.0, 2.0]}})
    with pytest.raises(ValueError, match="give `strength` or `rank`, not both"):
        binned_spec.TikhonovInfer(strength=1.0, rank=4)
    given = binned_spec.TikhonovInfer(rank=4)  # A job holds every setting.
    assert binned_spec.TikhonovInfer.model_validate(given.model_dump(mode="json")) == given
    with pytest.raises(ValueError, match="x has no 'ptt'; did you mean 'pt'"):
        binned_spec.IbuSpec(kind="ibu", features={"ptt": {}}).check_fields(PROBLEM.x, PROBLEM.y)
    with pytest.raises(ValueError, match=r"features\.pt\.observed: y has no 'p'"):
        binned_spec.IbuSpec(kind="ibu", features={"pt": {"observed": "p"}}).check_fields(PROBLEM.x, PROBLEM.y)
    family = SimpleNamespace(role="seen")
    study = SimpleNamespace(families={"soft": family, "data": SimpleNamespace(role="observed")})
    spec = binned_spec.BinByBinSpec(
        kind="bin-by-bin", features={"pt": {"observed_bins": 4}}, response="data", prior_shape="sotf"
    )
    said = dict(spec.check(study))
    assert said["response"] == "found 'data', wanted one of union, soft"
    assert said["prior_shape"].endswith("did you mean 'soft'?")
    spec = binned_spec.IbuSpec(kind="ibu", features={"pt": {}}, response=["soft", "soft", "union"])
    assert [text.partition(",")[0] for _, text in spec.check(study)] == ["found 'union'", "found soft"]
    assert "leave it out" in said["features.pt.observed_bins"]
