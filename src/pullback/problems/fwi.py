"""Full-waveform inversion: velocity models x (depth, offset) and their shot gathers y (source, time, receiver), with
white noise if ``noise`` is set.

What is simulated is exactly the x that is inferred, or with ``x_cells`` its linear interpolation to the simulation's
nodes: re-simulation of a draw adds no discretisation error.
"""

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pullback.ensembles.fields import Coordinate, Field
from pullback.problems.base import Pullback
from pullback.problems.noise import with_noise
from pullback.simulators.acquisition import (
    Acquisition,
    AcquisitionError,
    VelocityError,
    evenly,
    refuse_velocities,
    whole_samples,
)
from pullback.simulators.wave_settings import AREAS, FwiParams, FwiSimulator, Tiles
from pullback.simulators.wavelets import Recorded, Ricker, Wavelet
from pullback.study.base import Split, outside_path
from pullback.study.kinds import Message, Package, Review

if TYPE_CHECKING:
    from pullback.study.families import Family
    from pullback.study.model import Problem as StudyProblem


class Fwi:
    """Full-waveform inversion of 2-D velocity models with a real wave simulator (Devito).

    Args:
        options: the problem's ``simulator`` block.

    Raises:
        AcquisitionError: a record length that is no whole number of samples. Physics is checked by ``preflight``.
        WaveletError: a wavelet file that cannot be read.
    """

    Settings = FwiSimulator
    Params = FwiParams
    arrays = frozenset({"x", "y"})
    unlearnable = "x and y are arrays"
    reads = frozenset({"gathers"})
    compiles = True
    advice: ClassVar[Mapping[str, str]] = {
        "outside": "or a method that needs no training data like it (lbfgs-fwi)",
        "noise": "check for dead traces, and the residual gathers for a pattern",
        "misfit": "where the difference shows arrivals shifted by half a cycle, a descent from lower frequencies",
        "undetermined": "more shots, wider offsets, lower frequencies or a longer record; or a prior that knows more",
    }
    block = 20
    fail = "error"

    @staticmethod
    def requires(settings: FwiSimulator) -> Iterator[Package]:
        """Devito."""
        yield Package("devito", "devito", "waves", "waves")

    def review(self) -> Review:
        """Stability, dispersion, border, record and positions.

        Raises:
            ValueError: settings that the simulation would refuse.
        """
        from pullback.simulators.preflight import check, refuse_unseen_bottom

        numbers = check(self.acquisition)
        refuse_unseen_bottom(numbers)
        summary = (
            f"{numbers['grid_points']} nodes, {numbers['time_steps']} steps; Courant number "
            f"{numbers['courant_number']:.3f} of {numbers['courant_limit']:.3f}, "
            f"{numbers['points_per_wavelength_at_frequency_max']:.1f} nodes per wavelength at "
            f"{numbers['frequency_max_hz']:.3g} Hz, border of {numbers['border_wavelengths_fastest']:.2f} wavelengths"
        )
        return Review(numbers["warnings"], summary)

    def describe(self, splits: Mapping[str, dict[str, Any]]) -> Review | None:
        """The file that a family's models are cut from, and where; None of synthetic geology.

        Args:
            splits: parameters of the split that is described and then of others, by their names.
        """
        from pullback.readers.tiles import describe

        cut = {name: Tiles.model_validate(params["tiles"]) for name, params in splits.items() if params.get("tiles")}
        if next(iter(splits)) not in cut:
            return None
        return describe(cut, (self.acquisition.velocity_min, self.acquisition.velocity_max))

    @staticmethod
    def split_params(problem: "StudyProblem", family: "Family", split: Split) -> dict[str, Any]:
        """Tiles of different splits come from areas apart; of which, depends on whether the file is trained on."""
        tiles = family.params.get("tiles")
        if not tiles or tiles.get("area", "apart") != "apart":
            return family.params
        path = Tiles.model_validate(tiles).path
        seen = [f.params["tiles"] for f in problem.families.values() if f.role == "seen" and f.params.get("tiles")]
        is_trained_on = any(Tiles.model_validate(other).path == path for other in seen)
        return {**family.params, "tiles": {**tiles, "area": list(AREAS[is_trained_on][split])}}

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """Synthetic geology has as many layers as the nodes of x can hold."""
        nodes = (problem.simulator.x_cells or problem.simulator.shape)[0]
        for name, family in problem.families.items():
            if family.events_from or family.read or family.params.get("geology") == "tiles":
                continue
            try:
                most = FwiParams.model_validate(family.params).layers[1]
            except ValueError:  # said where parameters are checked
                continue
            if most > nodes // 2:
                yield (
                    f"families.{name}.params.layers",
                    f"x has {nodes} nodes of depth, which hold {nodes // 2} layers, found at most {most}: take fewer, "
                    "or more nodes",
                )

    def __init__(self, options: FwiSimulator):
        self.options = options
        self.acquisition = a = _acquisition(options)
        # The source's strength counts per node, as in OpenFWI's code: the same rock on finer nodes answers less.
        self.amplitude_unit = a.spacing**2
        self.shape = options.x_cells or options.shape
        self._finer = [_interpolation(n, m) for n, m in zip(self.shape, a.shape, strict=True)]
        extent = [(n - 1) * a.spacing for n in a.shape]
        self.x = Field.array(
            "x",
            ("depth", "offset"),
            self.shape,
            "m/s",
            low=(a.velocity_min,),
            high=(a.velocity_max,),
            coordinates={
                name: Coordinate(np.linspace(0, length, n), "m")
                for name, length, n in zip(("depth", "offset"), extent, self.shape, strict=True)
            },
        )
        self.y = Field.array(
            "y",
            ("source", "time", "receiver"),
            a.data_shape,
            "1",
            transforms=("symlog",),
            coordinates={
                "source": Coordinate(np.array([offset for _, offset in a.sources]), "m"),
                "time": Coordinate(a.times, "s"),
                "receiver": Coordinate(np.array([offset for _, offset in a.receivers]), "m"),
            },
        )

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Velocity models (n, depth, offset), float32, m/s; ``params`` as in ``FwiParams``."""
        from pullback.simulators import geology

        p, a = FwiParams.model_validate(params), self.acquisition
        if p.tiles:
            from pullback.readers.tiles import sample_tiles

            extent = ((a.depth_cells - 1) * a.spacing, (a.offset_cells - 1) * a.spacing)
            models = sample_tiles(p.tiles, rng, n, self.shape, extent)
            return np.clip(models, a.velocity_min, a.velocity_max).astype(np.float32)
        return geology.sample(
            p.geology,
            rng,
            n,
            self.shape,
            layers=p.layers,
            sorted=p.sorted,
            rough=p.rough,
            low=a.velocity_min,
            high=a.velocity_max,
            aspect=(a.offset_cells - 1) / (a.depth_cells - 1),
        )

    def apply(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shot gathers of velocity models, free of noise.

        Args:
            x: (event, depth, offset), m/s.

        Returns:
            Gathers (event, source, time, receiver) float32, amplitudes relative to the source's; ok (event,) bool,
            False for a model that is not finite (a diverged particle of a method) or blew up: its gathers are NaN.

        Raises:
            VelocityError: models of the wrong shape or outside the problem's velocities. Methods project theirs first.
        """
        from pullback.simulators.acoustic import shared_engine

        x = np.asarray(x)
        self._check_velocities(x)
        return shared_engine(self.acquisition).batch(self.finer(x))

    def observe(self, signal: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Gathers with white noise relative to each event's root mean square, if ``noise`` is set."""
        return with_noise(signal, self.options.noise, rng) if self.options.noise else signal

    def noise_variance(self, y: np.ndarray) -> float | None:
        """Variance of the noise of one event's gathers (source, time, receiver), from their own mean square.

        White noise of a relative amplitude r raises the mean square of the live traces by a factor 1 + r^2.
        """
        if not self.options.noise:
            return None
        live = y[np.broadcast_to((y != 0).any(axis=1, keepdims=True), y.shape)].astype(np.float64)
        return float((live**2).mean() * self.options.noise**2 / (1 + self.options.noise**2))

    def linearize(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, Pullback]:
        """Gathers and ok as `apply`, and the derivative by the adjoint of the simulation: two more simulations a call.

        Args:
            x: (event, depth, offset), m/s.

        Returns:
            Gathers, ok, and the map from cotangents (event, source, time, receiver) to derivatives (event, depth,
            offset) by m/s, NaN where ok is False.
        """
        from pullback.simulators.acoustic import shared_engine

        x = np.asarray(x)
        self._check_velocities(x)
        signal, ok, pullback = shared_engine(self.acquisition).linearize(self.finer(x))
        depth, offset = self._finer
        return signal, ok, lambda cotangent: depth.T @ pullback(cotangent) @ offset

    def vjp(self, x: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
        """The derivative (event, depth, offset) of sum(cotangent * gathers) by m/s; NaN where the simulation failed."""
        return self.linearize(x)[2](cotangent)

    def finer(self, x: np.ndarray) -> np.ndarray:
        """x (event, depth, offset) on the nodes of the simulation, float64, by linear interpolation."""
        depth, offset = self._finer
        return x.astype(np.float64) if x.shape[1:] == self.acquisition.shape else depth @ x @ offset.T

    def _check_velocities(self, x: np.ndarray) -> None:
        if x.ndim != 3 or x.shape[1:] != self.shape:
            raise VelocityError(f"velocity models of shape {x.shape}: wanted (event, {self.shape[0]}, {self.shape[1]})")
        refuse_velocities(self.acquisition, x)

    def preflight(self) -> dict[str, Any]:
        """Check the settings, compile what all jobs share, and time one model.

        Returns:
            The numbers of ``pullback.simulators.preflight.check``, and ``seconds_per_model`` as measured here.

        Raises:
            AcquisitionError: settings that cannot work, or a record in which the bottom is never seen, with a remedy.
        """
        from pullback.simulators.acoustic import log, shared_engine
        from pullback.simulators.preflight import refuse_unseen_bottom

        a = self.acquisition
        engine = shared_engine(a)
        checks = engine.checks
        for warning in checks["warnings"]:
            log.warning("fwi: %s", warning)
        refuse_unseen_bottom(checks)
        depth = np.linspace(a.velocity_min, a.velocity_max, a.depth_cells)[:, None]
        models = np.repeat(np.repeat(depth, a.offset_cells, axis=1)[None], engine.models, axis=0)
        # The first model waits for the compiler; it is not in the time.
        engine.batch(models[:1])
        started = time.perf_counter()
        _, ok = engine.batch(models)
        seconds = (time.perf_counter() - started) / len(models)
        if not ok.all():
            raise AcquisitionError(
                f"a velocity rising from {a.velocity_min:g} to {a.velocity_max:g} m/s could not be simulated "
                f"with a time step of {a.time_step:g} s: use a smaller one"
            )
        return {**checks, "seconds_per_model": seconds}


def _acquisition(o: FwiSimulator) -> Acquisition:
    """Settings of the simulation from those of the study."""

    def line(where: int | list[float], depth: float) -> tuple[tuple[float, float], ...]:
        offsets = evenly(where, o.offset_cells, o.spacing) if isinstance(where, int) else where
        return tuple((depth, offset) for offset in offsets)

    wavelet: Wavelet = Ricker(o.peak_frequency)
    if o.wavelet:
        assert o.wavelet_interval is not None
        wavelet = Recorded.read(outside_path(o.wavelet), o.wavelet_interval)
    return Acquisition(
        depth_cells=o.depth_cells,
        offset_cells=o.offset_cells,
        spacing=o.spacing,
        time_step=o.time_step,
        samples=whole_samples(o.record_length, o.output_interval),
        output_interval=o.output_interval,
        wavelet=wavelet,
        absorbing_cells=o.absorbing_cells,
        boundary=o.boundary,
        free_surface=o.free_surface,
        space_order=o.space_order,
        sources=line(o.sources, o.source_depth),
        receivers=line(o.receivers, o.source_depth if o.receiver_depth is None else o.receiver_depth),
        velocity_min=o.velocity_min,
        velocity_max=o.velocity_max,
    )


def _interpolation(coarse: int, fine: int) -> np.ndarray:
    """(fine, coarse): linear interpolation between nodes of two grids that share their ends."""
    return np.stack([np.interp(np.linspace(0, coarse - 1, fine), np.arange(coarse), row) for row in np.eye(coarse)], 1)
