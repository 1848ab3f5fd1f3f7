"""Ratios measured side by side in one run, on this machine, now: `make bench`.

Each line is a limit or a peer against what pullback does, alternating, the best of several rounds. Ratios travel
between machines; times do not, and no test asserts one.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from dry_run import dry_run

ROUNDS = 5


def best(*actions: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Seconds of each action: the least of several rounds in which they take turns."""
    times = [[] for _ in actions]
    for _ in range(rounds):
        for action, record in zip(actions, times, strict=True):
            started = time.perf_counter()
            action()
            record.append(time.perf_counter() - started)
    return [min(record) for record in times]


def say(what: str, ours: float, theirs: float, unit: str, peer: str) -> None:
    print(f"{what:<44} {ours:10.4g} {unit:<12} {peer:<34} {theirs:10.4g}   ratio {ours / theirs:6.1f}")


def wave_engine() -> None:
    """The wave engine's own lines."""
    from wave_engine import waves

    waves(best, say)


def ensemble_inverse() -> None:
    """EI-FM against a plain eager single-set implementation of its paper: training and sampling, sets of 4000."""
    import torch
    from plain_ei import PlainEi

    from pullback.diffusion.muon import Muon
    from pullback.diffusion.share import Noise, Share
    from pullback.methods.amortised.conditional_net import ConditionalNet, path_loss
    from pullback.methods.amortised.paths import flow_path
    from pullback.methods.amortised.spec import EiFmSpec, FlowInfer
    from pullback.networks.settings import Mlp

    torch.set_num_threads(1)
    # Two residual blocks of two matrices: four hidden layers of 64, as the plain one has.
    spec = EiFmSpec(kind="ei-fm", k=3, network=Mlp(kind="mlp", width=64, depth=2))
    ours = ConditionalNet(spec, (2,), (2,))
    plain = PlainEi()
    optimizers = [torch.optim.Adam(plain.parameters(), lr=3e-4), Muon(ours.parameters(), lr=2e-3)]
    x, y = torch.randn(2, 4, 4000, 2)
    mask = torch.ones(4, 4000, dtype=torch.bool)

    def train(sets: int, targets: int | None) -> None:
        batch = {"x": x[:sets], "y": y[:sets], "mask": mask[:sets]}
        total, count = path_loss(ours, flow_path(), batch, Noise(0, Share(sets)), targets)
        optimizers[1].zero_grad(set_to_none=True)
        (total / count).backward()
        optimizers[1].step()

    theirs, alike, shipped, few = best(
        lambda: plain.step(optimizers[0], x[0], y[0]),
        lambda: train(1, None),
        lambda: train(4, 1024),
        lambda: train(4, 128),
    )
    peer = "plain EI-FM, 1 set of 4000"
    say("training: 1 set of 4000, every member a target", 4000 / alike, 4000 / theirs, "events/s", peer)
    say("training: 4 sets of 4000, 1024 targets of each (gaussian-a)", 16000 / shipped, 4000 / theirs, "events/s", peer)
    say("training: 4 sets of 4000, 128 targets of each", 16000 / few, 4000 / theirs, "events/s", peer)

    @torch.no_grad()
    def sample() -> None:
        e = ours.context({"y": y[:1], "mask": mask[:1]})
        infer = FlowInfer(solver="midpoint", steps=4)
        flow_path().sample(lambda x, t: ours.network(x, t, y[0], e), torch.randn(4000, 2), y[0], infer, None)

    theirs, sampled = best(lambda: plain.sample(y[0]), sample, rounds=3)
    say(
        "sampling: midpoint, 8 network calls", 4000 / sampled, 4000 / theirs, "events/s", "plain EI-FM, 100 Euler calls"
    )


def unfolding() -> None:
    """A trained model's inference against OmniFold."""
    from omnifold_example import retraining

    retraining(best, say)


MILLION = 1_000_000
"""Jets that two processes unfold, half of them each."""


def million_jets() -> None:
    """A draw of each of 1,000,000 jets in two parts, as a study on two cores makes them, against 60 s."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2) as pool:
        seconds = max(pool.map(_half_a_million, range(2)))
    say("unfolding: 1,000,000 jets, two parts, 8 calls", MILLION / seconds, MILLION / 60, "events/s", "60 s")


def _half_a_million(part: int) -> float:
    """Seconds of one part: conditioning, draws, units."""
    from pullback import EIFM
    from pullback.networks.settings import Mlp

    rng = np.random.default_rng(part)
    x = rng.normal(size=(MILLION // 2, 4)).astype(np.float32)
    y = x + rng.normal(size=x.shape).astype(np.float32)
    # How long it takes does not depend on the weights. The network is that of config/studies/unfolding.yaml.
    network = Mlp(kind="mlp", width=128, depth=4)
    sets = [(x[:2000], y[:2000]), (x[2000:4000], y[2000:4000])]
    model = EIFM(k=8, network=network, train={"steps": 1, "set_size": [2000, 2000]}).fit(sets, sets)
    started = time.perf_counter()
    model.sample(y, draws=1, solver="midpoint", steps=4, set_size=2000)
    return time.perf_counter() - started


def files() -> None:
    """Random reads of fields: our chunks against a chunk that holds the whole shard."""
    from pullback.ensembles.hdf5 import chunk_rows

    rng = np.random.default_rng(0)
    data = rng.normal(size=(500, 3, 64, 32)).astype("f4")
    rows = rng.permutation(500)[:200]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, size in (("ours", chunk_rows(data[0].nbytes)), ("whole", 500)):
            paths.append(Path(folder) / f"{name}.h5")
            with h5py.File(paths[-1], "w") as file:
                file.create_dataset("y", data=data, chunks=(size, *data.shape[1:]), shuffle=True, fletcher32=True)

        def read(path: Path) -> None:
            with h5py.File(path) as file:
                for row in rows:
                    file["y"][row]

        ours, whole = best(*(lambda path=path: read(path) for path in paths), rounds=2)
    say("files: random reads of fields", 200 / ours, 200 / whole, "events/s", "chunk = whole shard")


def reading() -> None:
    """ROOT files into ensembles."""
    from root_files import root_files

    root_files(best, say)


def binned_unfolding() -> None:
    """Iterative Bayesian unfolding of 1e6 events in 40 bins, 10 iterations with covariance: from arrays, and alone."""
    from pyunfold.mix import Mixer

    from pullback.methods.unfolding import binned
    from pullback.methods.unfolding.response import Entries, bin_of, response_of

    rng, events, iterations = np.random.default_rng(0), 1_000_000, 10
    edges, one = np.linspace(0.0, 6.0, 39), np.ones(events)
    x, data = rng.exponential(1.0, events), rng.exponential(1.1, events) + 0.2 * rng.standard_normal(events)
    kept = rng.random(events) < 0.8
    y = x + 0.2 * rng.standard_normal(events)

    def counted() -> tuple:
        cause, effect = bin_of(x, edges), bin_of(y, edges)
        entries = Entries(effect[kept], cause[kept], one[kept], cause[~kept], one[~kept])
        return response_of(entries, (40, 40)), np.bincount(bin_of(data, edges), minlength=40).astype(float)

    def ours(response, counts) -> np.ndarray:
        found = binned.bayes(response.matrix, counts, response.truth, iterations)
        return binned.data_covariance(found, counts) + binned.response_covariance(found, response)

    def histograms() -> tuple:
        wide = np.array([-1e9, *edges, 1e9])
        pairs = np.histogram2d(y[kept], x[kept], (wide, wide))[0]
        return pairs, np.histogram(x, wide)[0].astype(float), np.histogram(data, wide)[0].astype(float)

    def theirs(pairs, truth, counts) -> np.ndarray:
        number = np.maximum(truth, 1)
        matrix = pairs / number
        efficiency = matrix.sum(axis=0)
        errors = np.sqrt(counts), efficiency / np.sqrt(number), np.sqrt(pairs) / number
        mixer = Mixer(counts, errors[0], efficiency, errors[1], matrix, errors[2])
        content = counts.sum() * truth / truth.sum()
        for _ in range(iterations):
            content = mixer.smear(content)
        return mixer.get_cov()

    ready, drawn = counted(), histograms()
    whole, theirs_whole, alone, theirs_alone = best(
        lambda: ours(*counted()), lambda: theirs(*histograms()), lambda: ours(*ready), lambda: theirs(*drawn), rounds=3
    )
    say("unfolding: 1e6 events, 40 bins, 10 iterations", 1 / whole, 1 / theirs_whole, "per s", "histogram2d, pyunfold")
    say("unfolding: the same from counts", 1 / alone, 1 / theirs_alone, "per s", "pyunfold")


def guided() -> None:
    """Particles against their network's calls; DPS and DDRM beside deepinv's, a table of its own."""
    import restoration

    restoration.particles(best, say)
    restoration.restoration()


def parts() -> None:
    """Two processes of pure arithmetic against one: what this machine's cores are worth together."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_spin, range(2)))
        one, two = best(lambda: list(pool.map(_spin, range(1))), lambda: list(pool.map(_spin, range(2))), rounds=3)
    say("machine: two processes of arithmetic", 2 / two, 1 / one, "tasks/s", "one process")


def _spin(_: int) -> float:
    return sum(i * 0.5 for i in range(3_000_000))


if __name__ == "__main__":
    print(f"best of {ROUNDS} rounds, one thread each; {os.cpu_count()} cores")
    for bench in (
        parts,
        files,
        reading,
        binned_unfolding,
        unfolding,
        million_jets,
        ensemble_inverse,
        wave_engine,
        guided,
        dry_run,
    ):
        bench()
