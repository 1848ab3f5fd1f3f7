"""The figure of the page on guided methods: particles of samplers on their way from noise to data, on the lecture's
example of three modes.

    python docs/space_time.py    # writes docs/space-time.png
"""

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib as mpl
import numpy as np
import torch

from pullback import registry
from pullback.core.context import Context
from pullback.diffusion.schedule import Time
from pullback.diffusion.train_paths import TrainPaths
from pullback.ensembles.arrays import ArrayEnsemble
from pullback.ensembles.sets import TrainingData
from pullback.methods.guided.base import Counted
from pullback.study.problem_kind import problem_kind

mpl.use("Agg")
from matplotlib import pyplot as plt

Y = 0.5
PARTICLES = 4000
ENDS = (20.0, 0.02)
"""Noise levels that are shown."""
SAMPLERS: dict[str, dict[str, Any]] = {
    "exact score": {"kind": "exact-score", "infer": {"levels": 400, "grid": "vp"}},
    "DPS, guided throughout": {"kind": "dps", "infer": {"levels": 400, "grid": "vp", "step": "likelihood"}},
    "DPS, guided from α = 0.81": {
        "kind": "dps",
        "infer": {"levels": 400, "grid": "vp", "step": "likelihood", "guidance_cutoff": 0.81},
    },
    "AFDPS": {"kind": "afdps", "infer": {"levels": 400}},
}
"""Title of a panel -> kind of method, and settings of its inference."""


def exact_prior(problem: Any, folder: Path) -> Path:
    """The artifact of the problem's own prior."""
    rng = np.random.default_rng(0)
    x = problem.sample_prior(rng, 20_000, {})
    y = problem.observe(problem.apply(x)[0], x, rng)
    pairs = [ArrayEnsemble(y, x, x_field=problem.x, y_field=problem.y)]
    spec = registry.load("priors", "exact")(kind="exact")
    prior = spec.build(problem, Context((0, "lecture", "known", 0)))
    prior.set_prior_params({"modes": {}})
    prior.train(TrainingData(pairs, pairs, 100), TrainPaths(folder / "prior.pt"))
    return folder / "prior.pt"


def path_of(problem: Any, prior: Path, kind: str, settings: dict[str, Any]) -> tuple[Any, list[Any]]:
    """The scaling of x, and the path of a sampler's particles: (level, z (B,)) of every call of a denoiser."""
    spec = registry.load("methods", kind).model_validate({"kind": kind, "prior": "known"})
    infer = spec.infer_settings({**settings, "draws": PARTICLES})
    method = spec.build(problem, Context((0, "lecture", kind, 0, "figure", "modes")), infer)
    method.load(None, prior, [])
    path, call = [], Counted.__call__

    def recorded(denoiser: Counted, x: torch.Tensor, t: Time) -> torch.Tensor:
        path.append((float(torch.as_tensor(t).flatten()[0]), x.detach().numpy()[:, 0].copy()))
        return call(denoiser, x, t)

    with mock.patch.object(Counted, "__call__", recorded):
        method.sample(None, np.array([[Y]], np.float32), np.array([0]))
    return method.scaling.x_columns[0], path


def main() -> None:
    """Draw the figure."""
    problem = problem_kind("gaussian-mixture").build({})
    posterior = problem.posterior(np.array([[Y]]), {})
    grid = np.linspace(-3.2, 3.2, 161)
    figure, panels = plt.subplots(1, len(SAMPLERS), figsize=(11, 3.2), sharey=True, layout="constrained")
    with tempfile.TemporaryDirectory() as folder:
        prior = exact_prior(problem, Path(folder))
        for axes, (title, sampler) in zip(panels, SAMPLERS.items(), strict=True):
            column, path = path_of(problem, prior, sampler["kind"], sampler["infer"])
            # x_t = alpha x_0 + sigma n of the variance-preserving process, in units of x: bounded at every level.
            time = np.array([level for level, _ in path])
            states = (z * column.std + column.mean for _, z in path)
            shares = [
                np.histogram(x / np.hypot(1, t), grid, density=True)[0] for t, x in zip(time, states, strict=True)
            ]
            axes.pcolormesh(time, grid, np.array(shares[:-1]).T, cmap="Blues", vmax=1.0, rasterized=True)
            # The exact law of x_t given y is the posterior with the noise of x_t.
            t = np.geomspace(*ENDS, 200)[:, None, None]
            a = 1 / np.hypot(1, t)
            spread = a * np.sqrt(posterior.covariance[:, 0, 0] + (column.std * t) ** 2)
            off = (grid[:, None] - a * posterior.mean[0, :, 0]) / spread
            exact = (posterior.weight[0] * np.exp(-(off**2) / 2) / spread).sum(-1) / np.sqrt(2 * np.pi)
            axes.contour(t[:, 0, 0], grid, exact.T, levels=[0.01, 0.1, 0.3, 0.6], colors="tab:red", linewidths=0.7)
            axes.set(title=title, xlabel="noise level t", xscale="log", xlim=ENDS)
    panels[0].set_ylabel("x at level t, over √(1 + t²)")
    figure.savefig(Path(__file__).with_name("space-time.png"), dpi=95)


if __name__ == "__main__":
    main()
