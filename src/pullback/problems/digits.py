"""Image inversion: frames x between a handwritten 9 and a 6, seen as a few noisy pixels y.

The prior with parameter alpha holds one frame of the displacement interpolation (McCann 1997) of every pair of a 9 and
a 6. With the optimal plan G of squared distance between the two images as distributions of mass, and pixel p of the 9
and q of the 6,

    x_alpha = [(1 - alpha) S_9 + alpha S_6] sum_pq G_pq delta((1 - alpha) p + alpha q),

each mass splatted bilinearly on the four pixels around it: the centre of mass moves on a straight line, the total
intensity S changes linearly, alpha = 0 is the 9 and alpha = 1 the 6. Where rounding of positions to the grid piles more
than 1 on a pixel, what is above 1 flows to its neighbours.

    y = m (x + s eps),   m ~ Bernoulli(keep),   eps ~ N(0, 1),   s^2 = noise_variance,

for each pixel of each event afresh: the image experiment of "The Ensemble Inverse Problem" (arXiv 2601.22029). A pixel
was kept exactly where y is not 0, so that

    log p(y|x) = sum_kept [log keep - (y - x)^2 / 2 s^2 - log(2 pi s^2) / 2] + sum_lost log(1 - keep).
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field as Option
from pydantic import model_validator

from pullback.core.optional import require
from pullback.ensembles.fields import Field
from pullback.problems.linear import Identity
from pullback.problems.pixels import resized, splat
from pullback.problems.reweighting import choose
from pullback.readers.idx import IdxError, read_idx
from pullback.study.base import Number, ends, outside_path
from pullback.study.kinds import Message, Package, Parameters, SimulatorSettings
from pullback.study.shifts import NoiseShift

if TYPE_CHECKING:
    from pullback.study.families import Family
    from pullback.study.model import Problem as StudyProblem

FROM, TO = 9, 6
HELD_OUT_EVERY = 4
"""Of each digit's images, in the order of the data, the fourth, eighth, ... are held out."""

ITERATIONS = 1_000_000
MOST_PLANS = 20_000
"""Plans kept in memory, of a few kilobytes each."""

EXCESS = 1e-6


class Transport(NamedTuple):
    """An optimal plan between two images: arcs that carry mass, their masses sum to 1."""

    source: np.ndarray
    target: np.ndarray
    mass: np.ndarray


class DigitsSimulator(SimulatorSettings):
    """Frames between a handwritten 9 and a 6, with noise, most pixels lost.

    scikit-learn's digits (8 x 8, values 0 to 16) unless idx files are named.
    """

    images: str | None = Option(
        default=None, description="idx file of images, as MNIST's (gzipped or not); $PULLBACK_DATA and others expand"
    )
    labels: str | None = Option(default=None, description="idx file of their labels")
    size: int | None = Option(
        default=None,
        ge=4,
        le=128,
        description="pixels along each side, interpolated to; when not given, 16 and for idx files 28",
    )
    noise_variance: float = Option(
        default=0.2, gt=0, description="of each pixel's Gaussian noise; values are in [0, 1]"
    )
    keep: float = Option(default=0.1, gt=0, le=1, description="probability that a pixel is observed; others are 0")

    @property
    def pixels(self) -> int:
        """Pixels along each side."""
        return self.size or (28 if self.images else 16)

    @model_validator(mode="after")
    def _both(self) -> "DigitsSimulator":
        if (self.images is None) != (self.labels is None):
            raise ValueError("`images` and `labels` belong together: give both, or none for scikit-learn's digits")
        return self

    def user_files(self, folder: str) -> list[str]:
        """The idx files."""
        return [outside_path(name) for name in (self.images, self.labels) if name]


class DigitsParams(Parameters):
    """One frame of the way from a 9 to a 6, and the images that may be its ends."""

    alpha: Number = Option(description="0 the 9, 1 the 6")
    digits: Literal["train", "held-out", "all"] = Option(
        default="all",
        description="every fourth image of each digit is held out; families of a study take train when they are seen, "
        "held-out when they are not",
    )

    @model_validator(mode="after")
    def _on_the_way(self) -> "DigitsParams":
        if not all(0 <= end <= 1 for end in ends(self.alpha)):
            raise ValueError(f"alpha is a share of the way: found {ends(self.alpha)}, wanted values in [0, 1]")
        return self


class Digits:
    """Image inversion: frames between a handwritten 9 and a 6 from a tenth of their pixels, noisy.

    Prior, forward process, likelihood and exact posterior; see the module for the formulas.

    Args:
        options: the ``simulator`` block.
    """

    Settings = DigitsSimulator
    Params = DigitsParams
    arrays = frozenset({"x", "y"})
    unlearnable = "x and y are arrays"
    block = 128
    fail = "error"

    @staticmethod
    def requires(settings: DigitsSimulator) -> Iterator[Package]:
        """Optimal transport, and scikit-learn's digits where no files are named."""
        yield Package("ot", "POT", "images", "frames between digits")
        if settings.images is None:
            yield Package("sklearn", "scikit-learn", "images", "frames between digits")

    @staticmethod
    def complete(family: "Family") -> "Family":
        """Fill in `digits`: families that are not seen use held-out images, unless set otherwise."""
        if family.events_from or "digits" in family.params:
            return family
        digits = "train" if family.role == "seen" else "held-out"
        return family.model_copy(update={"params": {**family.params, "digits": digits}})

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """Noise would fall on lost pixels too, which an exact 0 marks."""
        for name, family in problem.families.items():
            if isinstance(family.shift, NoiseShift):
                yield (
                    f"families.{name}.shift",
                    "noise would fall on lost pixels too, whose exact 0 says that they are lost: use "
                    "{kind: simulator, change: {noise_variance: ...}}",
                )

    def __init__(self, options: DigitsSimulator):
        self.options = options
        self.size = size = options.pixels
        self.x = Field.array("x", ("row", "column"), (size, size), "1", low=(0.0,), high=(1.0,))
        self.y = Field.array("y", ("row", "column"), (size, size), "1")
        self._plans: dict[tuple[int, int], Transport] = {}

    @cached_property
    def images(self) -> dict[int, np.ndarray]:
        """All images of each digit that have any ink, (image, row, column) float64 in [0, 1].

        Raises:
            IdxError: a file of the user's that is no idx file, or has no such digits.
            pullback.core.optional.MissingExtraError: no file is given and scikit-learn is not installed.
        """
        if self.options.images is None or self.options.labels is None:
            bundled = require("sklearn.datasets", "images").load_digits()
            images, labels, source = bundled.images / 16, bundled.target, "scikit-learn's digits"
        else:
            source = outside_path(self.options.images)
            images = read_idx(source, 3)
            labels = read_idx(outside_path(self.options.labels), 1)
            if len(images) != len(labels):
                raise IdxError(f"{source}: {len(images)} images and {len(labels)} labels; give the files of one set")
        found = {}
        for digit in (FROM, TO):
            chosen = images[labels == digit]
            # Bytes become floats only for the two digits of many.
            chosen = chosen / 255 if chosen.dtype == np.uint8 else chosen
            chosen = resized(chosen[chosen.any(axis=(1, 2))], self.size)
            if len(chosen) < HELD_OUT_EVERY:
                raise IdxError(f"{source}: {len(chosen)} images of a {digit}, wanted at least {HELD_OUT_EVERY}")
            found[digit] = chosen
        return found

    def pool(self, digit: int, which: str) -> np.ndarray:
        """Indices of the images of one digit that a family may use; ``which`` as in `DigitsParams`."""
        index = np.arange(len(self.images[digit]))
        held_out = index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        return {"train": index[~held_out], "held-out": index[held_out], "all": index}[which]

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Frames (n, row, column), float32 in [0, 1]: a random 9, a random 6, the family's alpha."""
        alpha, pools = self._prior(params)
        return self.frames(np.stack([pool[rng.integers(len(pool), size=n)] for pool in pools], axis=1), alpha)

    def apply(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The frames (event, row, column) themselves, before noise and loss."""
        return x, np.ones(len(x), bool)

    def observe(self, signal: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Observations (event, row, column), exactly 0 where a pixel was lost."""
        noisy = signal + np.sqrt(self.options.noise_variance) * rng.standard_normal(signal.shape)
        kept = rng.random(signal.shape) < self.options.keep
        return np.where(kept, noisy, 0.0)

    def observed(self, y: np.ndarray) -> np.ndarray:
        """Which pixels (event, row, column) were kept: those that are not exactly 0."""
        return y != 0

    @property
    def noise_covariance(self) -> float:
        """s^2, of each pixel that was kept."""
        return self.options.noise_variance

    @cached_property
    def linear(self) -> Identity:
        """y = x on the pixels that were kept. Which they are, `observed`, is known from y and does not depend on x."""
        return Identity(self.x.shape)

    def log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y|x), y and x (..., row, column), broadcast over leading axes.

        A density in the kept pixels, a probability in the lost ones.
        """
        y, x = np.asarray(y, np.float64), np.asarray(x, np.float64)
        kept = y != 0
        error = np.where(kept, (y - x) ** 2, 0.0).sum((-2, -1))
        return -error / (2 * self.options.noise_variance) + self._log_constant(kept)

    def pairwise_log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y_i|x_p) of every pair (event, frame), y and x (..., row, column); float32 products."""
        y = np.asarray(y)
        own = (y.astype(np.float64) ** 2).sum((-2, -1)) / (2 * self.options.noise_variance)
        return self._cross_terms(y, x) + (self._log_constant(y != 0) - own)[:, None]

    def _log_constant(self, kept: np.ndarray) -> np.ndarray:
        """What log p(y|x) has beside the squared errors, by which pixels (..., row, column) were kept."""
        variance, keep = self.options.noise_variance, self.options.keep
        count = kept.sum((-2, -1))
        lost = kept.shape[-2] * kept.shape[-1] - count
        with np.errstate(divide="ignore"):
            masked = np.where(lost > 0, lost * np.log1p(-keep), 0.0) if keep < 1 else np.where(lost > 0, -np.inf, 0.0)
        return count * (np.log(keep) - np.log(2 * np.pi * variance) / 2) + masked

    def _cross_terms(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y_i|x_p) of every pair (event, frame) without what is the same for all frames.

        The exponent is linear in (y, [y != 0]): all events against all frames are two matrix products.
        """
        x = np.asarray(x, np.float32).reshape(len(x), -1)
        rows = np.asarray(y, np.float32).reshape(len(y), -1)
        scaled = 2 * rows @ x.T - (rows != 0).astype(np.float32) @ (x**2).T
        return scaled.astype(np.float64) / (2 * self.options.noise_variance)

    def exact_posterior(
        self, y: np.ndarray, params: dict[str, Any], draws: int, pool: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws (event, draw, row, column) of the frames of a prior, by their likelihood.

        Exact where the prior has at most ``pool`` pairs of digits: all are taken, and the effective number is inf. Else
        ``pool`` random ones stand for them.
        """
        alpha, (nines, sixes) = self._prior(params)
        exact = len(nines) * len(sixes) <= pool
        if exact:
            pairs = np.stack(np.meshgrid(nines, sixes, indexing="ij"), axis=-1).reshape(-1, 2)
        else:
            pairs = np.stack([rng.choice(nines, pool), rng.choice(sixes, pool)], axis=1)
        frames = self.frames(pairs, alpha)
        index, ess = choose(lambda some: self._cross_terms(some, frames), y, np.zeros(len(frames)), draws, rng)
        return frames[index], np.full(len(y), np.inf) if exact else ess

    def frames(self, pairs: np.ndarray, alpha: float) -> np.ndarray:
        """Frames (pair, row, column), float32, of pairs (pair, 2) of a 9 and a 6 by their indices in ``images``."""
        plans = [self._plan(int(nine), int(six)) for nine, six in pairs]
        event = np.repeat(np.arange(len(plans)), [len(plan.mass) for plan in plans])
        source, target, mass = (np.concatenate(arcs) for arcs in zip(*plans, strict=True))
        ink = [self.images[digit][pairs[:, i]].sum((1, 2)) for i, digit in enumerate((FROM, TO))]
        mass = mass * ((1 - alpha) * ink[0] + alpha * ink[1])[event]
        position = [
            (1 - alpha) * start + alpha * end
            for start, end in zip(np.divmod(source, self.size), np.divmod(target, self.size), strict=True)
        ]
        return levelled(splat(event, position[0], position[1], mass, (len(plans), self.size, self.size))).astype(
            np.float32
        )

    def _prior(self, params: dict[str, Any]) -> tuple[float, list[np.ndarray]]:
        prior = DigitsParams.model_validate(params)
        if not isinstance(prior.alpha, float):
            raise ValueError(f"alpha of one prior is a number, found {prior.alpha}")
        return prior.alpha, [self.pool(digit, prior.digits) for digit in (FROM, TO)]

    def _plan(self, nine: int, six: int) -> Transport:
        """The plan of one pair. It does not depend on alpha, and a family's events share pairs: plans are kept."""
        if (found := self._plans.get((nine, six))) is not None:
            return found
        plan = transport(self.images[FROM][nine], self.images[TO][six], self._cost)
        if len(self._plans) < MOST_PLANS:
            self._plans[nine, six] = plan
        return plan

    @cached_property
    def _cost(self) -> np.ndarray:
        """Squared distances between all pixels (pixel, pixel)."""
        row, column = np.divmod(np.arange(self.size**2), self.size)
        return ((row[:, None] - row) ** 2 + (column[:, None] - column) ** 2).astype(np.float64)

    def preflight(self) -> dict[str, Any]:
        """Numbers and preprocessing of images; computes the frames of one pair as a test."""
        self.frames(np.zeros((1, 2), int), 0.5)
        counts = {
            f"images of a {digit} ({which})": len(self.pool(digit, which))
            for digit in (FROM, TO)
            for which in ("train", "held-out")
        }
        source = self.options.images or "scikit-learn's digits"
        return {
            "digits": source,
            "pixels": f"{self.size} x {self.size}",
            **counts,
            "noise variance": self.options.noise_variance,
            "kept pixels": self.options.keep,
        }


def transport(a: np.ndarray, b: np.ndarray, cost: np.ndarray) -> Transport:
    """The optimal plan between two images (row, column), each as a distribution of mass; ``cost`` (pixel, pixel).

    Only pixels with mass take part: the solver's time grows faster than the square of their number.
    """
    ot = require("ot", "images")
    a, b = a.ravel(), b.ravel()
    source, target = np.flatnonzero(a), np.flatnonzero(b)
    plan, log = ot.emd(
        a[source] / a.sum(), b[target] / b.sum(), cost[np.ix_(source, target)], numItermax=ITERATIONS, log=True
    )
    if log["warning"]:
        raise ValueError(f"optimal transport between two digits failed: {log['warning']}")
    i, j = np.nonzero(plan)
    return Transport(source[i].astype(np.uint16), target[j].astype(np.uint16), plan[i, j])


def levelled(images: np.ndarray) -> np.ndarray:
    """Images (event, row, column) with what is above 1 moved to the four neighbours until nothing is; mass is kept."""
    while (excess := np.clip(images - 1, 0, None)).max(initial=0) > EXCESS:
        # At the border the share of the missing neighbour stays.
        around = np.pad(excess, ((0, 0), (1, 1), (1, 1)), mode="edge")
        flow = around[:, :-2, 1:-1] + around[:, 2:, 1:-1] + around[:, 1:-1, :-2] + around[:, 1:-1, 2:]
        images = images - excess + flow / 4
    return np.clip(images, 0, 1)
