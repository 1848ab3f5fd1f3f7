"""A user-defined simulator as a class: the voltage of a discharging capacitor, measured with noise."""

import numpy as np

from pullback.problems import Coordinate, Field

TIME = np.linspace(0.0, 2.0, 20)


class Decay:
    x = Field.vector("x", ("amplitude", "rate"), ("V", "1/s"), transforms=("log", "log"))
    y = Field.array("y", ("time",), TIME.shape, "V", coordinates={"time": Coordinate(TIME, "s")})

    def __init__(self, noise=0.1):
        self.noise = noise

    def sample_prior(self, rng, n, params):
        return np.exp(rng.normal([np.log(params["amplitude"]), 0.0], 0.3, (n, 2)))

    def apply(self, x):
        return x[:, :1] * np.exp(-x[:, 1:] * TIME), np.ones(len(x), bool)

    def observe(self, voltage, x, rng):
        return voltage + self.noise * rng.normal(size=voltage.shape)
