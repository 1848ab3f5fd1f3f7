"""Restoration of images beside deepinv 0.5: the same denoiser, operator, noise and levels; PSNR and seconds of each.

The prior is the Gaussian with the mean and covariance of patches of pictures: its denoiser is in closed form, so that
seconds show the samplers' own time, and so is the posterior mean, which no estimate can exceed on average where the
prior is true. Truths are patches of other pictures.

deepinv's DPS has the gradient of |y - A x_0| in the score, the published step and ours outside of it: their strengths
mean different things, and each is shown at the best of three. deepinv's DDRM adds noise of half the
variance, as complex Fourier coefficients have, also where singular vectors are real.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from pullback.core.context import Context
from pullback.diffusion.denoiser import Denoiser, EdmDenoiser
from pullback.diffusion.exact import GaussianDenoiser
from pullback.diffusion.schedule import VarianceExploding
from pullback.ensembles.scaling import Column, Scaling
from pullback.methods.guided.base import Counted, in_batches
from pullback.methods.guided.ddrm import Ddrm
from pullback.methods.guided.dps import Dps
from pullback.methods.guided.guidance import levels
from pullback.methods.guided.guidance_spec import DdrmInfer, DpsInfer
from pullback.methods.guided.particle_spec import ParticleInfer
from pullback.networks.build import build_network
from pullback.networks.settings import Unet
from pullback.problems.base import simulate
from pullback.problems.imaging.operators import BlockMean
from pullback.problems.imaging.problem import Imaging, ImagingSimulator
from pullback.study.kinds import parse

SIZE, NOISE, EVENTS, DRAWS, STEPS = 16, 0.05, 4, 8, 100
SCALES, WEIGHTS = (0.6, 1.0, 2.0), (1.0, 30.0, 300.0)
"""Strengths of our and of deepinv's DPS; ours are the published 0.3, 0.5 and 1 of images in [-1, 1]."""
PATCHES = {"source": "pictures", "shrink": 2}
OPERATORS_OF_TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")
OPERATORS = {
    "blur": {"kind": "gaussian-blur", "width": 1.5},
    "super-resolution": {"kind": "super-resolution", "factor": 4},
    "box": {"kind": "box-inpainting", "box": 6},
}


def deepinv() -> Any:
    """deepinv, which imports torchvision.

    A torchvision that was built for another torch (CUDA's, where torch is the CPU's) lacks operators, without which its
    import fails and which nothing here calls: they are declared.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            OPERATORS_OF_TORCHVISION.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import deepinv

    return deepinv


class Patches(Denoiser):
    """The exact denoiser of z = 2 x - 1 with a Gaussian prior, on images (B, row, column)."""

    def __init__(self, x: np.ndarray):
        z = torch.from_numpy(2.0 * x.reshape(len(x), -1) - 1)
        self.mean, self.covariance = z.mean(0), torch.cov(z.T)
        self.schedule = VarianceExploding(0.002, 150.0)
        self.flat = GaussianDenoiser(self.mean.float(), self.covariance.float(), self.schedule)

    def __call__(self, x: torch.Tensor, t: Any) -> torch.Tensor:
        return self.flat(x.flatten(1), t).reshape(x.shape)


def ours(kind: Any, problem: Imaging, prior: Patches, infer: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Draws (event, draw, row, column) of one of our methods."""
    method = kind(None, problem, Context(("bench",)), infer)
    method.prior = Counted(prior, method.cost)
    column = Column(0, "", "linear", 0.5, 0.5)
    method.scaling = Scaling(problem.x.shape, problem.y.shape, [column], [column])
    return lambda y: method.sample(None, y, np.arange(len(y))).x


def theirs(
    library: Any, kind: str, problem: Imaging, prior: Patches, infer: Any, weight: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Draws of deepinv, one event after the other."""

    class Same(library.models.Denoiser):
        """Of images in [0, 1], with the standard deviation of their noise."""

        def forward(self, x: torch.Tensor, sigma: Any, **_: Any) -> torch.Tensor:
            level = 2 * float(torch.as_tensor(sigma).flatten()[0])
            return (prior(2 * x[:, 0].float() - 1, level)[:, None] + 1) / 2

    if kind == "dps":
        sampler = library.sampling.DPS(Same(), num_steps=infer.levels, weight=weight)
    else:
        sampler = library.sampling.DDRM(Same(), sigmas=np.array(levels(prior.schedule, infer)[:-1]) / 2)
    noise = library.physics.GaussianNoise(NOISE)

    def operator(one: np.ndarray) -> Any:
        if problem.options.operator.loses:
            mask = torch.from_numpy(problem.observed(one)).float()[None]
            return library.physics.Inpainting((1, SIZE, SIZE), mask=mask, noise_model=noise)
        if isinstance(problem.linear, BlockMean):
            return coarse(library, problem, noise)
        kernel = torch.fft.fftshift(torch.from_numpy(problem.linear.kernel).float())[None, None]
        return library.physics.BlurFFT((1, SIZE, SIZE), filter=kernel[..., 1:, 1:], noise_model=noise)

    def sample(y: np.ndarray) -> np.ndarray:
        found = []
        for one in y:
            physics = operator(one)
            seen, image = problem.observed(one), torch.rand(1, 1, SIZE, SIZE)
            wanted = problem.linear.apply(image[0].numpy()) * seen
            np.testing.assert_allclose(physics.A(image)[0], wanted, atol=1e-5, err_msg="another operator")
            many = torch.from_numpy(one).float().expand(infer.draws, 1, *one.shape).clone()
            found.append(sampler(many, physics).detach().numpy()[:, 0])
        return np.stack(found)

    return sample


def coarse(library: Any, problem: Imaging, noise: Any) -> Any:
    """Super-resolution, whose operators in deepinv have no singular vectors: with those of its matrix."""
    m = problem.y.shape[0] * problem.y.shape[1]
    matrix = problem.linear.apply(np.eye(SIZE**2).reshape(-1, SIZE, SIZE)).reshape(SIZE**2, m).T
    u, s, vt = (torch.from_numpy(part).float() for part in np.linalg.svd(matrix, full_matrices=True))

    def padded(c: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(c, (0, SIZE**2 - m))

    return library.physics.DecomposablePhysics(
        U=lambda c: (c.flatten(1)[:, :m] @ u.T).reshape(-1, 1, *problem.y.shape),
        U_adjoint=lambda y: padded(y.flatten(1) @ u),
        V=lambda c: (c.flatten(1) @ vt).reshape(-1, 1, SIZE, SIZE),
        V_adjoint=lambda x: x.flatten(1) @ vt.T,
        mask=padded(s)[None],
        img_size=(1, SIZE, SIZE),
        noise_model=noise,
    )


def best_possible(problem: Imaging, prior: Patches, y: np.ndarray) -> np.ndarray:
    """The posterior mean (event, row, column)."""
    unit = np.eye(SIZE**2).reshape(-1, SIZE, SIZE)
    matrix = problem.linear.apply(unit).reshape(len(unit), -1).T
    mean, covariance = (prior.mean.numpy() + 1) / 2, prior.covariance.numpy() / 4
    out = []
    for one, seen in zip(y.reshape(len(y), -1), problem.observed(y).reshape(len(y), -1), strict=True):
        a = matrix[seen]
        gain = np.linalg.solve(a @ covariance @ a.T + NOISE**2 * np.eye(len(a)), a @ covariance).T
        out.append(mean + gain @ (one[seen] - a @ mean))
    return np.stack(out).reshape(len(y), SIZE, SIZE)


def psnr(estimate: np.ndarray, x: np.ndarray) -> float:
    """Mean over events, dB."""
    return float(np.mean(-10 * np.log10(np.mean((np.clip(estimate, 0, 1) - x) ** 2, axis=(1, 2)))))


def rows() -> Iterator[str]:
    """The table, line by line."""
    torch.manual_seed(0)
    library, rng = deepinv(), np.random.default_rng(0)
    head = f"restoration, {SIZE} x {SIZE}, noise {NOISE}"
    yield f"{head:<34}{'best dB':>8}{'ours dB':>10}{'s/image':>9}{'deepinv dB':>12}{'s/image':>9}"
    prior = None
    for name, operator in OPERATORS.items():
        problem = Imaging(ImagingSimulator.model_validate({"size": SIZE, "noise": NOISE, "operator": operator}))
        prior = prior or Patches(problem.sample_prior(rng, 8000, {**PATCHES, "images": "train"}))
        x = problem.sample_prior(rng, EVENTS, {**PATCHES, "images": "held-out"})
        y = simulate(problem, x, rng)[0]
        bound = psnr(best_possible(problem, prior, y), x)
        dps = [DpsInfer(levels=STEPS, grid="vp", draws=DRAWS, scale=scale) for scale in SCALES]
        for method, kind, infers, weights in (
            ("dps", Dps, dps, WEIGHTS),
            ("ddrm", Ddrm, [DdrmInfer(levels=20)], (1.0,)),
        ):
            here = max(timed(ours(kind, problem, prior, infer), x, y) for infer in infers)
            there = max(timed(theirs(library, method, problem, prior, infers[0], w), x, y) for w in weights)
            yield f"{f'{name}, {method}':<34}{bound:8.2f}{here[0]:10.2f}{-here[1]:9.3f}{there[0]:12.2f}{-there[1]:9.3f}"


def timed(sample: Callable[[np.ndarray], np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """PSNR of the mean of the draws, -inf where one is not finite, and minus the seconds of an image."""
    started = time.perf_counter()
    found = psnr(sample(y).mean(1), x)
    return found if np.isfinite(found) else -np.inf, (started - time.perf_counter()) / len(y)


def restoration() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    for row in rows():
        print(row, flush=True)


def particles(best: Callable[..., list[float]], say: Callable[..., None]) -> None:
    """AFDPS of a blurred image with a U-Net against the calls of the network alone, in the same batches."""
    torch.set_num_threads(1)
    problem = Imaging(ImagingSimulator.model_validate({"size": SIZE, "noise": NOISE, "operator": OPERATORS["blur"]}))
    x = problem.sample_prior(np.random.default_rng(0), 1, PATCHES)
    y = simulate(problem, x, np.random.default_rng(0))[0].astype(np.float32)
    # How long it takes does not depend on the weights. The network is that of config/studies/imaging.yaml.
    network = build_network(Unet(kind="unet", width=24, levels=3), (SIZE, SIZE), None, 0)
    prior = EdmDenoiser(network, VarianceExploding()).eval().requires_grad_(False)
    column = Column(0, "", "linear", 0.5, 0.25)
    scaling = Scaling(problem.x.shape, problem.y.shape, [column], [column])
    infer = ParticleInfer(draws=128, levels=20)
    times = prior.schedule.times(infer.levels)
    z = torch.randn(infer.draws, SIZE, SIZE)

    def network_alone() -> None:
        for t in times[:-1]:
            for rows in in_batches(z):
                prior(rows, t)

    def sample() -> None:
        method = parse("methods", {"kind": "afdps", "prior": "patches"}).build(problem, Context(("bench",)), infer)
        method.prior, method.scaling = Counted(prior, method.cost), scaling
        method.sample(None, y, np.arange(1))

    calls, whole = best(network_alone, sample)
    say("afdps: 128 particles, 20 levels, blur", whole, calls, "s/image", "its network calls alone")


if __name__ == "__main__":
    restoration()
