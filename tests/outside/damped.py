"""The release of a damped oscillator: displacements at a few times tell its amplitude and its damping."""

from typing import ClassVar

import numpy as np
from pydantic import Field as Option

from pullback.problems import Field, Parameters, SimulatorSettings

TIME = np.arange(6) * 0.4


class DampedSettings(SimulatorSettings):
    """The measurement."""

    noise: float = Option(default=0.1, gt=0, description="standard deviation of a displacement, mm")
    frequency: float = Option(default=1.0, gt=0, description="angular frequency, 1/s")


class DampedParams(Parameters):
    """The prior of amplitude and damping: independent and log-normal."""

    amplitude: float = Option(gt=0, description="median amplitude, mm")
    damping: float = Option(default=0.5, gt=0, description="median damping, 1/s")


class Damped:
    """A damped oscillator, released at rest."""

    Settings, Params = DampedSettings, DampedParams
    reads: ClassVar = frozenset({"arrays"})
    x = Field.vector("x", ("amplitude", "damping"), ("mm", "1/s"), transforms=("log", "log"))
    y = Field.vector("y", [f"d{k}" for k in range(len(TIME))], "mm")

    def __init__(self, settings):
        self.noise, self.swing = settings.noise, np.cos(settings.frequency * TIME)

    def sample_prior(self, rng, n, params):
        return np.exp(rng.normal(np.log([params["amplitude"], params.get("damping", 0.5)]), 0.3, (n, 2)))

    def apply(self, x):
        return x[..., :1] * np.exp(-x[..., 1:] * TIME) * self.swing, np.ones(len(x), bool)

    def observe(self, signal, x, rng):
        return signal + self.noise * rng.normal(size=signal.shape)

    def vjp(self, x, cotangent):
        by_amplitude = cotangent * np.exp(-x[:, 1:] * TIME) * self.swing
        return np.stack([by_amplitude.sum(1), (-TIME * x[:, :1] * by_amplitude).sum(1)], axis=1)

    def log_likelihood(self, y, x):
        away = (y - self.apply(x)[0]) / self.noise
        return -0.5 * (away**2).sum(-1) - len(TIME) * np.log(self.noise * np.sqrt(2 * np.pi))
