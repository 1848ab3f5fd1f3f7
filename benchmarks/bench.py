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


def waves() -> None:
    """One operator reused against one rebuilt for every model, and the cost of a point against a copy in memory."""
    from pullback.problems.fwi import Fwi
    from pullback.study.problems import FwiSimulator

    problem = Fwi(FwiSimulator())
    rng = np.random.default_rng(0)
    velocity = problem.sample_prior(rng, 8, {"geology": "curved", "layers": [2, 5], "sorted": True})
    problem.forward(velocity, rng)
    (reused,) = best(lambda: problem.forward(velocity, rng))
    from pullback.simulators import acoustic

    acoustic._symbols.cache_clear()
    acoustic.shared_engine.cache_clear()
    started = time.perf_counter()
    Fwi(FwiSimulator()).forward(velocity[:1], rng)
    rebuilt = time.perf_counter() - started
    say("waves: operator built once", 8 / reused, 1 / rebuilt, "models/s", "built for every model")


def sets() -> None:
    """Training events per second of several masked sets in one step, against one set a step."""
    import torch

    from pullback.generative.flow import interpolate
    from pullback.networks.build import build_network, build_set_encoder
    from pullback.study.methods import Mlp, SetTransformer

    torch.set_num_threads(1)
    network = build_network(Mlp(), (2,), (2,), 4)
    encoder = build_set_encoder(SetTransformer(), (2,), 4)

    def step(number: int, size: int) -> Callable[[], None]:
        x, y = torch.randn(number, size, 2), torch.randn(number, size, 2)
        mask = torch.ones(number, size, dtype=torch.bool)

        def run() -> None:
            e = encoder(y, mask)[:, None].expand(-1, size, -1).reshape(number * size, -1)
            t = torch.rand(number * size)
            x_t, u = interpolate(torch.randn(number * size, 2), x.reshape(-1, 2), t)
            ((network(x_t, t, y.reshape(-1, 2), e) - u) ** 2).mean().backward()

        return run

    many, one = best(step(8, 512), step(1, 512))
    say("training: 8 sets of 512 in a step", 8 * 512 / many, 512 / one, "events/s", "1 set of 512 in a step")
    whole, single = best(step(1, 4000), step(1, 512))
    say("training: 1 set of 4000 in a step", 4000 / whole, 512 / single, "events/s", "1 set of 512 in a step")


def solvers() -> None:
    """Events per second of the few-step sampler against 100 Euler steps."""
    import torch

    from pullback.generative.flow import euler, midpoint
    from pullback.networks.build import build_network
    from pullback.study.methods import Mlp

    torch.set_num_threads(1)
    network = build_network(Mlp(), (2,), (2,), 4)
    x, y, e = torch.randn(4096, 2), torch.randn(4096, 2), torch.randn(4096, 4)
    with torch.inference_mode():
        few, many = best(
            lambda: midpoint(lambda x, t: network(x, t, y, e), x, 4),
            lambda: euler(lambda x, t: network(x, t, y, e), x, 100),
        )
    say("sampling: midpoint, 4 steps", 4096 / few, 4096 / many, "draws/s", "Euler, 100 steps")


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
    for bench in (parts, files, sets, solvers, waves, dry_run):
        bench()
