"""Interface of the detectors.

A detector is one file of this package, or of a user: a class made from `Detector` with its settings as fields. What
can be done with it follows from the methods that it has beside those of the base class:

====================== ==============================================================================================
``smear``              pairs can be simulated again from their truth (fold-back, training that simulates)
``log_likelihood``     p(y|x) is known: oracle, refinement, exact comparisons
``beside_phi``,        p(y|x) is symmetric in phi and eta, with a normal phi': each truth jet of a posterior stands for
``phi_width``          its rotations and its mirror image
``efficiency``         P(reconstructed | x) is known
``fakes``              there are reconstructed jets without a truth jet
====================== ==============================================================================================

A user's detector of other observables (`pullback.problems.observables`) has the first two alone: ``smear(x, rng)`` and
``log_likelihood(y, x)`` of x (event, *x) and y (event, *y) as the study names them.

A detector that needs the particles of a collision overrides `Detector.reconstruct`, which the others inherit. One that
has neither ``smear`` nor its own ``reconstruct`` makes no events: its families are read from files.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np

from pullback.core.optional import require
from pullback.study.base import Closed

TRUTH_FEATURES = ("pt", "eta", "phi", "mass")
"""Features of a truth jet x: GeV, 1, rad, GeV. A reconstructed jet y has the first three."""

_ATTEMPTS = 1000

Streams = Callable[[str], np.random.Generator]
"""The generator of a block of collisions for each stage of a detector, by the name of the stage."""


class Collisions(NamedTuple):
    """What a detector sees of some collisions, as awkward arrays.

    Attributes:
        truth: jets (collision, jet) with the fields of `TRUTH_FEATURES`.
        particles: those that truth jets are made of (collision, particle), with px, py, pz, e in GeV, PDG id and
            charge; None for a detector that does not need them.
        radius: of the anti-kt jets.
    """

    truth: Any
    particles: Any
    radius: float


class Reconstructed(NamedTuple):
    """Reconstructed jets of some collisions, in the order of the collisions.

    Attributes:
        collision: that each jet is of (jet,).
        features: pt, eta, phi, mass (jet, 4).
        truth: the truth jet of each within its collision, -1 of a fake (jet,).
    """

    collision: np.ndarray
    features: np.ndarray
    truth: np.ndarray


def kept_draws(
    smear: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], x: np.ndarray, defined: np.ndarray, components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Observations (event, component) of x (event, *x) given that each was kept, and which could be made (event,).

    Those that are lost are drawn again.

    Args:
        smear: draws observations of some x, and says which are kept.
        x: truths.
        defined: of which the detector is defined (event,); y of the others is NaN.
        components: of y.
    """
    y = np.full((len(x), components), np.nan)
    waiting = np.flatnonzero(defined)
    for _ in range(_ATTEMPTS):
        if not len(waiting):
            break
        drawn, kept = smear(x[waiting])
        y[waiting[kept]] = drawn[kept]
        waiting = waiting[~kept]
    return y, np.isfinite(y).all(axis=1)


class Detector(Closed):
    """The settings of a detector, and what it does.

    ``smear(x, rng) -> (y, kept)`` gives reconstructed jets (jet, 3) of truth jets x (jet, 4) and which of them are
    reconstructed (jet,) bool; ``log_likelihood(y, x, pt_min)`` is log p(y|x) of a reconstructed jet with pT' of at
    least ``pt_min``, float64, broadcast over leading axes; ``fakes(collisions, rng)`` gives jets (fake, 3) and the
    collision of each (fake,), in order; ``efficiency(x, pt_min)`` the probability that x is reconstructed with pT' of
    at least ``pt_min``. Numbers of a jet, and fakes of a collision, may not depend on those after it: a block that is
    cut short begins like the whole one.

    Attributes:
        needs_particles: whether `reconstruct` reads the particles of a collision.
    """

    needs_particles: ClassVar[bool] = False

    kind: str

    @property
    def makes_events(self) -> bool:
        """Whether reconstructed jets can be made of collisions."""
        return hasattr(self, "smear") or type(self).reconstruct is not Detector.reconstruct

    def truth_pt_min(self, fiducial: float) -> float:
        """GeV: truth jets from here on are made, where a measurement is of those above a fiducial cut."""
        return fiducial

    def in_domain(self, x: np.ndarray) -> np.ndarray:
        """Whether the detector is defined for truth jets x (..., 4)."""
        return np.isfinite(x).all(axis=-1)

    def smear_kept(self, x: np.ndarray, rng: np.random.Generator, pt_min: float) -> tuple[np.ndarray, np.ndarray]:
        """Jets (jet, 3) of x (jet, 4) given that each was kept with pT' >= pt_min, and which could be made (jet,).

        Jets that are lost are drawn again. Where the detector is not defined for x, y is NaN.
        """
        x = np.asarray(x, dtype=np.float64)

        def selected(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            drawn, kept = self.smear(part, rng)  # type: ignore[attr-defined]
            return drawn, kept & (drawn[:, 0] >= pt_min)

        return kept_draws(selected, x, self.in_domain(x), 3)

    def reconstruct(self, collisions: Collisions, streams: Streams) -> Reconstructed:
        """The reconstructed jets of some collisions: smeared truth jets that are kept, then fakes."""
        ak = require("awkward", "hep")
        counts = ak.to_numpy(ak.num(collisions.truth))
        x = np.stack([ak.to_numpy(ak.flatten(collisions.truth[name])) for name in TRUTH_FEATURES], axis=1)
        collision = np.repeat(np.arange(len(counts)), counts)
        index = np.arange(len(x)) - np.repeat(np.cumsum(counts) - counts, counts)
        y, kept = self.smear(x.reshape(-1, 4).astype(np.float64), streams("detector"))  # type: ignore[attr-defined]
        collision, y, index = collision[kept], y[kept], index[kept]
        if hasattr(self, "fakes"):
            fakes, where = self.fakes(len(counts), streams("fakes"))
            collision, y = np.concatenate([collision, where]), np.concatenate([y, fakes])
            index = np.concatenate([index, np.full(len(where), -1)])
        return Reconstructed(collision, np.column_stack([y, np.zeros(len(y))]), index)

    def describe(self, pt: np.ndarray, pt_min: float) -> dict[str, Any]:
        """What it does to truth jets of these pT in GeV, in numbers, for the checks of a study."""
        return {}
