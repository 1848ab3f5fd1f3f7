"""Full-waveform inversion in one page: gathers of a velocity model, and a descent with the adjoint's gradient.

Run with ``python examples/geophysicist.py [picture.png]``; needs ``pip install 'pullback[learn,waves]'``.
"""

import sys

import numpy as np
import torch

from pullback import waves

SPACING = 20.0  # m
DEPTH, OFFSET = 24, 48  # nodes

ACQUISITION = {
    "spacing": SPACING,
    "sources": waves.line(np.linspace(100, 840, 6), depth=20.0),  # (6, 2): depth and offset in m
    "receivers": waves.line(np.arange(OFFSET) * SPACING, depth=20.0),
    "peak_frequency": 6.0,  # Hz, of a Ricker wavelet
    "record_length": 1.0,  # s
    "time_step": 0.002,
    "output_interval": 0.01,
    "velocity_min": 1500.0,  # m/s, the range that models may take
    "velocity_max": 3500.0,
}


def truth() -> np.ndarray:
    """A velocity that rises with depth and a slow lens in it, (depth, offset), m/s."""
    depth, offset = np.meshgrid(np.arange(DEPTH), np.arange(OFFSET), indexing="ij")
    lens = np.exp(-(((depth - 11) / 3) ** 2) - ((offset - 24) / 7) ** 2)
    return start() - 400 * lens


def start() -> np.ndarray:
    """What is known before: how the velocity rises with depth."""
    return np.linspace(1900, 2900, DEPTH)[:, None] * np.ones((1, OFFSET))


def main(iterations: int = 15, picture: str | None = None) -> dict[str, float]:
    """Invert the gathers of the truth; how much of the misfit and of the model's error is left."""
    observed = torch.from_numpy(waves.simulate(truth(), **ACQUISITION))  # (source, time, receiver)
    print(f"gathers {tuple(observed.shape)}, largest amplitude {observed.abs().max():.3g}")

    # The update is in units of 100 m/s, around the start; clamping keeps the bounds.
    update = torch.zeros(DEPTH, OFFSET, requires_grad=True)
    background = torch.from_numpy(start()).float()
    optimizer = torch.optim.LBFGS([update], lr=1.0, max_iter=iterations, line_search_fn="strong_wolfe")
    unit = observed.square().mean()
    misfits = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        velocity = (background + 100 * update).clamp(1500, 3500)
        misfit = (waves.simulate(velocity, **ACQUISITION) - observed).square().mean() / unit
        misfit.backward()
        misfits.append(float(misfit.detach()))
        return misfit

    optimizer.step(closure)
    found = (background + 100 * update.detach()).clamp(1500, 3500).numpy()
    left = float(np.linalg.norm(found - truth()) / np.linalg.norm(start() - truth()))
    print(
        f"misfit {misfits[0]:.3g} -> {min(misfits):.3g} in {len(misfits)} evaluations; {left:.0%} of the error is left"
    )
    if picture:
        plot(found, picture)
    return {"misfit_left": min(misfits) / misfits[0], "error_left": left}


def plot(found: np.ndarray, picture: str) -> None:
    """Truth, start and result beside each other."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, sharey=True, figsize=(12, 3), layout="constrained")
    for axis, values, title in zip(axes, (truth(), start(), found), ("truth", "start", "inverted"), strict=True):
        image = axis.imshow(values, extent=(0, OFFSET * SPACING, DEPTH * SPACING, 0), vmin=1700, vmax=2900)
        axis.set(title=title, xlabel="offset (m)")
    axes[0].set_ylabel("depth (m)")
    figure.colorbar(image, label="velocity (m/s)")
    figure.savefig(picture)


if __name__ == "__main__":
    main(picture=sys.argv[1] if len(sys.argv) > 1 else None)
