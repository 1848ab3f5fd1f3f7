"""White noise that follows the size of an event's observations."""

import numpy as np


def with_noise(y: np.ndarray, relative: float, rng: np.random.Generator) -> np.ndarray:
    """y (event, *) with Gaussian noise, its standard deviation ``relative`` to each event's root mean square."""
    rms = np.sqrt((y.reshape(len(y), -1) ** 2).mean(axis=1)).reshape(-1, *(1,) * (y.ndim - 1))
    noisy: np.ndarray = y + relative * rms * rng.standard_normal(y.shape)
    return noisy
