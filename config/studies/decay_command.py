"""The same simulator as a program: `prior n seed params.json x.npy` and `forward seed x.npy y.npy`."""

import json
import sys

import numpy as np

what, *arguments = sys.argv[1:]
time = np.linspace(0.0, 2.0, 20)
if what == "prior":
    n, seed, params, out = arguments
    with open(params) as file:
        amplitude = json.load(file)["amplitude"]
    rng = np.random.default_rng(int(seed))
    np.save(out, np.exp(rng.normal([np.log(amplitude), 0.0], 0.3, (int(n), 2))))
else:
    seed, x_file, out = arguments
    x = np.load(x_file)
    voltage = x[:, :1] * np.exp(-x[:, 1:] * time)
    np.save(out, voltage + 0.1 * np.random.default_rng(int(seed)).normal(size=voltage.shape))
