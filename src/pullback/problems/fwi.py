"""Full-waveform inversion: velocity models x (depth, offset) and their noise-free shot gathers y (source, time,
receiver).

The simulated model is exactly the x that is inferred: nothing is smoothed, resampled or clipped between them.
"""

import time
from typing import Any, ClassVar

import numpy as np

from pullback.ensembles.fields import Coordinate, Field
from pullback.simulators.acquisition import Acquisition, AcquisitionError
from pullback.study.base import Capability
from pullback.study.problems import FwiParams, FwiProblem, FwiSimulator


class VelocityError(ValueError):
    """A velocity model that is not one of this problem."""


class Fwi:
    """The fwi problem.

    Args:
        options: the problem's ``simulator`` block.

    Raises:
        AcquisitionError: depths and times that fall between cells and steps. Physics is checked by ``preflight``.
    """

    gives: ClassVar[frozenset[Capability]] = FwiProblem.gives

    def __init__(self, options: FwiSimulator):
        self.options = options
        self.acquisition = a = Acquisition.surface(
            depth_cells=options.depth_cells,
            offset_cells=options.offset_cells,
            spacing=options.spacing,
            time_step=options.time_step,
            record_length=options.record_length,
            output_interval=options.output_interval,
            peak_frequency=options.peak_frequency,
            border_cells=options.border_cells,
            space_order=options.space_order,
            sources=options.sources,
            receivers=options.receivers,
            depth=options.source_depth,
            velocity_min=options.velocity_min,
            velocity_max=options.velocity_max,
        )
        self.block = FwiProblem.block
        self.fail = "error"

        def metres(indices: Any) -> Coordinate:
            return Coordinate(np.asarray(indices, dtype=np.float64) * a.spacing, "m")

        self.x = Field.array(
            "x",
            ("depth", "offset"),
            a.shape,
            "m/s",
            low=(a.velocity_min,),
            high=(a.velocity_max,),
            coordinates={"depth": metres(range(a.depth_cells)), "offset": metres(range(a.offset_cells))},
        )
        self.y = Field.array(
            "y",
            ("source", "time", "receiver"),
            a.data_shape,
            "1",
            transforms=("symlog",),
            coordinates={
                "source": metres([offset for _, offset in a.sources]),
                "time": Coordinate(a.times, "s"),
                "receiver": metres([offset for _, offset in a.receivers]),
            },
        )

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Velocity models (n, depth, offset), float32, m/s; ``params`` as in ``FwiParams``."""
        from pullback.simulators import geology

        p = FwiParams.model_validate(params)
        return geology.sample(
            p.geology,
            rng,
            n,
            self.acquisition.shape,
            layers=p.layers,
            sorted=p.sorted,
            low=self.acquisition.velocity_min,
            high=self.acquisition.velocity_max,
        )

    def forward(self, x: np.ndarray, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Shot gathers of velocity models; deterministic, without noise.

        Args:
            x: (event, depth, offset), m/s.
            rng: not used.

        Returns:
            y (event, source, time, receiver) float32, amplitudes relative to the source's; ok (event,) bool, False
            for a model that is not finite (a diverged particle of a method) or blew up: its y is NaN.

        Raises:
            VelocityError: models of the wrong shape or outside the problem's velocities. Methods project theirs first.
        """
        from pullback.simulators.acoustic import shared_engine

        self._check_velocities(np.asarray(x))
        return shared_engine(self.acquisition).batch(x)

    def _check_velocities(self, x: np.ndarray) -> None:
        a = self.acquisition
        if x.ndim != 3 or x.shape[1:] != a.shape:
            raise VelocityError(f"velocity models of shape {x.shape}: wanted (event, {a.shape[0]}, {a.shape[1]})")
        finite = x[np.isfinite(x)]
        if not finite.size:
            return
        low, high = float(finite.min()), float(finite.max())
        # float32 cannot hold every bound exactly; one part in a million is no error of the data.
        if low >= a.velocity_min * (1 - 1e-6) and high <= a.velocity_max * (1 + 1e-6):
            return
        if low <= 0:
            remedy = "a velocity is positive: repair the model"
        elif high < 20:
            remedy = "these look like km/s: multiply by 1000"
        else:
            remedy = "clip the models, or widen velocity_min and velocity_max of the simulator"
        raise VelocityError(
            f"velocities from {low:g} to {high:g} m/s: wanted {a.velocity_min:g} to {a.velocity_max:g} m/s; {remedy}"
        )

    def preflight(self) -> dict[str, Any]:
        """Check the settings, compile what all jobs share, and time one model.

        Returns:
            The numbers of ``pullback.simulators.acquisition.check``, and ``seconds_per_model`` as measured here.

        Raises:
            AcquisitionError: settings that cannot work, or a record in which the bottom is never seen, with a remedy.
        """
        from pullback.simulators.acoustic import log, shared_engine

        a = self.acquisition
        engine = shared_engine(a)
        checks = engine.checks
        for warning in checks["warnings"]:
            log.warning("fwi: %s", warning)
        record, shortest = checks["record_length_s"], checks["two_way_time_fastest_s"]
        if record < shortest:
            raise AcquisitionError(
                f"the record of {record:g} s ends before the bottom answers even in the fastest model "
                f"({shortest:.3g} s): record longer, up to {checks['two_way_time_slowest_s']:.3g} s"
            )
        depth = np.linspace(a.velocity_min, a.velocity_max, a.depth_cells)[:, None]
        models = np.repeat(np.repeat(depth, a.offset_cells, axis=1)[None], engine.models, axis=0)
        started = time.perf_counter()
        _, ok = engine.batch(models)
        seconds = (time.perf_counter() - started) / len(models)
        if not ok.all():
            raise AcquisitionError(
                f"a velocity rising from {a.velocity_min:g} to {a.velocity_max:g} m/s could not be simulated "
                f"with a time step of {a.time_step:g} s: use a smaller one"
            )
        return {**checks, "seconds_per_model": seconds}
