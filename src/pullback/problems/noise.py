"""White noise relative to the root mean square of an event's observations."""

import numpy as np


def with_noise(y: np.ndarray, relative: float, rng: np.random.Generator) -> np.ndarray:
    """y (event, *) with Gaussian noise, its standard deviation ``relative`` to each event's root mean square.

    Of the dtype of y; the numbers drawn do not depend on how events are cut into calls.
    """
    noisy = np.empty_like(y)
    # One by one: the noise of many events in float64 is gigabytes where gathers are long.
    for event in range(len(y)):
        one = y[event : event + 1]
        rms = np.sqrt((one.reshape(1, -1) ** 2).mean(axis=1)).reshape((1,) * y.ndim)
        noisy[event] = (one + relative * rms * rng.standard_normal(one.shape))[0]
    return noisy
