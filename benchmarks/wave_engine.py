"""The wave engine: against deepwave, against an operator built for every shot, against what the core can do at most."""

import functools
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pullback.problems.fwi import Fwi
from pullback.simulators import acoustic, propagators
from pullback.simulators.acoustic import AcousticEngine
from pullback.simulators.acquisition import Acquisition
from pullback.simulators.wave_settings import FwiSimulator

FLOPS = {4: 17, 8: 29}
"""Of one point of one step with the sponge, by space order: additions and multiplications, damping included."""

BYTES = 20
"""Of one point of one step to and from the second-level cache: p twice, alpha and the ramp read, p written."""

TARGET_DB = -40.0
MODELS = 4


def section(border: int, boundary: str, order: int = 4) -> Acquisition:
    """OpenFWI's section, 5 shots of 1000 steps, with another border."""
    return Fwi(FwiSimulator(preset="openfwi", absorbing_cells=border, boundary=boundary, space_order=order)).acquisition


def layers() -> np.ndarray:
    """Models (event, depth, offset) with layers and faults."""
    prior = Fwi(FwiSimulator(preset="openfwi"))
    return prior.sample_prior(np.random.default_rng(0), MODELS, {"geology": "curved-fault"})


def deepwave_gathers(a: Acquisition, velocity: np.ndarray, width: int) -> np.ndarray:
    """The same section by deepwave (source, receiver, time): same spacing, time step, order, wavelet; its layer."""
    import deepwave
    import torch

    nodes = [
        torch.tensor([[round(z / a.spacing), round(x / a.spacing)] for z, x in p]) for p in (a.sources, a.receivers)
    ]
    wavelet = torch.from_numpy(a.wavelet.sampled(a.time_step, a.steps)).float()
    shots = len(a.sources)
    with torch.no_grad():
        *_, found = deepwave.scalar(
            torch.from_numpy(np.asarray(velocity, np.float32)),
            a.spacing,
            a.time_step,
            source_amplitudes=wavelet.repeat(shots, 1, 1),
            source_locations=nodes[0][:, None],
            receiver_locations=nodes[1].repeat(shots, 1, 1),
            accuracy=a.space_order,
            pml_width=width,
            pml_freq=a.wavelet.frequency,
            max_vel=a.velocity_max,
        )
    return found.numpy()


def reflection(simulate: Callable[[Acquisition, np.ndarray], np.ndarray], a: Acquisition) -> float:
    """What a border sends back of a wave at 3000 m/s, in dB: the largest amplitude that a wide domain does not have.

    One source off the middle; receivers near a side, below it and in a corner, for 0.6 s.
    """
    receivers = ((20.0, 650.0), (650.0, 400.0), (680.0, 680.0))
    a = replace(a, sources=((300.0, 350.0),), receivers=receivers, samples=600)
    velocity, cells = np.full(a.shape, 3000.0), 95
    sources, receivers = (
        tuple((z + cells * a.spacing, x + cells * a.spacing) for z, x in positions)
        for positions in (a.sources, a.receivers)
    )
    wide = replace(a, depth_cells=70 + 2 * cells, offset_cells=70 + 2 * cells, sources=sources, receivers=receivers)
    found, free = simulate(a, velocity), simulate(wide, np.full(wide.shape, 3000.0))
    return 20 * np.log10(np.abs(found - free).max() / np.abs(free).max())


def waves(best: Callable[..., list[float]], say: Callable[..., None]) -> None:
    """Every line about the wave engine."""
    velocity = layers()
    shots = 5 * MODELS
    rates = {}
    for order in (4, 8):
        engine = AcousticEngine(section(40, "sponge", order))
        layer = AcousticEngine(section(40, "pml", order))
        a = engine.acquisition
        ours, matched, theirs = best(
            lambda engine=engine: engine.batch(velocity),
            lambda layer=layer: layer.batch(velocity),
            lambda a=a: [deepwave_gathers(a, v, 40) for v in velocity],
            rounds=3,
        )
        peer = f"deepwave, order {order}, layer of 40"
        say(f"waves: 150 x 150, 1000 steps, order {order}, sponge of 40", shots / ours, shots / theirs, "shots/s", peer)
        say("waves: the same with a matched layer of 40", shots / matched, shots / theirs, "shots/s", peer)
        rates[order] = shots * 150 * 150 * 1000 / ours
    _equal_reflection(best, say, velocity)
    _rebuilt(say, velocity)
    _limit(say, rates)
    _processes(best, say)


def _equal_reflection(best: Callable[..., list[float]], say: Callable[..., None], velocity: np.ndarray) -> None:
    """The thinnest border of each kind that reflects less than TARGET_DB, and shots per second with it."""
    makers: dict[str, Callable[[int], tuple[Acquisition, Callable]]] = {
        "sponge": lambda n: (section(n, "sponge"), lambda a, v: AcousticEngine(a).batch(v[None])[0][0]),
        "pml": lambda n: (section(n, "pml"), lambda a, v: AcousticEngine(a).batch(v[None])[0][0]),
        "deepwave": lambda n: (section(n, "pml"), lambda a, v, n=n: deepwave_gathers(a, v, n)),
    }
    thinnest = {}
    for name, make in makers.items():
        # A thinner sponge is unstable with this time step.
        for cells in (20, 40, 80, 120) if name == "sponge" else (6, 8, 10, 15, 20, 40):
            a, simulate = make(cells)
            level = reflection(simulate, a)
            if level <= TARGET_DB:
                thinnest[name] = cells
                print(f"    {name}: {cells} nodes reflect {level:.1f} dB")
                break
        else:
            print(f"    {name}: {cells} nodes still reflect {level:.1f} dB, wanted {TARGET_DB:g}")
    shots = 5 * MODELS
    a = section(thinnest["deepwave"], "pml")
    (theirs,) = best(lambda: [deepwave_gathers(a, v, thinnest["deepwave"]) for v in velocity], rounds=3)
    for name in ("sponge", "pml"):
        if name in thinnest:
            engine = AcousticEngine(section(thinnest[name], name))
            (ours,) = best(lambda engine=engine: engine.batch(velocity), rounds=3)
            what = f"waves: {name} of {thinnest[name]}, {TARGET_DB:g} dB"
            say(what, shots / ours, shots / theirs, "shots/s", f"deepwave, layer of {thinnest['deepwave']}")


def _rebuilt(say: Callable[..., None], velocity: np.ndarray) -> None:
    """One operator reused against one built for every shot, as programmes do that make a solver for each.

    These find Devito's compiled code in its cache, not what precedes it: the pickled operator beside it is taken away.
    """
    a = section(40, "sponge")
    one = replace(a, sources=a.sources[:1])
    engine = AcousticEngine(a)
    engine.batch(velocity)
    started = time.perf_counter()
    engine.batch(velocity)
    reused = 5 * MODELS / (time.perf_counter() - started)
    propagators.propagator.cache_clear()
    acoustic.shared_engine.cache_clear()
    for pickled in Path(engine._propagator.devito.configuration["compiler"].get_jit_dir()).glob("pullback-*.pickle"):
        pickled.unlink(missing_ok=True)
    started = time.perf_counter()
    AcousticEngine(one).batch(velocity[:1])
    say("waves: operator built once", reused, 1 / (time.perf_counter() - started), "shots/s", "built for every shot")


def _limit(say: Callable[..., None], rates: dict[int, float]) -> None:
    """Points per second against what arithmetic and the second-level cache allow."""
    source = Path(__file__).with_name("limits.c")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "limits"
        flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp-simd"]
        subprocess.run(["gcc", *flags, str(source), "-o", str(program)], check=True)
        lines = subprocess.run([program, "24", "1024", "262144"], capture_output=True, text=True, check=True).stdout
    peak, first, second, memory = map(float, lines.split())
    print(
        f"    one core: {peak:.0f} GFLOP/s; triad: {first:.0f} GB/s in 24 kB, {second:.0f} in 1 MB, {memory:.0f} in RAM"
    )
    for order, rate in rates.items():
        compute, cache = 1e9 * peak / FLOPS[order], 1e9 * second / BYTES
        bound = "arithmetic" if compute < cache else "second-level cache"
        say(f"waves: points, order {order}", rate / 1e9, min(compute, cache) / 1e9, "GPts/s", f"limit of the {bound}")


def _processes(best: Callable[..., list[float]], say: Callable[..., None]) -> None:
    """Two processes of waves against one; the bench's first line is the same for plain arithmetic."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        pool.map(_work, range(2), chunksize=1)
        one, two = best(
            lambda: pool.map(_work, range(1), chunksize=1), lambda: pool.map(_work, range(2), chunksize=1), rounds=3
        )
    say("waves: two processes", 2 / two, 1 / one, "batches/s", "one process")


@functools.cache
def _engine() -> AcousticEngine:
    return AcousticEngine(section(40, "sponge"))


def _work(_: int) -> float:
    return float(np.abs(_engine().batch(layers())[0]).sum())
