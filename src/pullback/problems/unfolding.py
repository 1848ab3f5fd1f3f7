"""Unfolding: truth jets (pt, eta, phi, mass) from reconstructed jets (pt, eta, phi).

The detector is a kind (`pullback.simulators.detectors`), collisions come from Pythia 8 as ROOT files
(`pullback.simulators.collider`) or from outside, and are read into matched jets by `pullback.readers.root`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pullback.core.angles import wrap
from pullback.problems.reweighting import choose
from pullback.readers.branches import Branches
from pullback.readers.jets import X_FIELD, Y_FIELD
from pullback.readers.root import RootFiles
from pullback.simulators.collider_checks import check_generated, generator_checks
from pullback.simulators.collider_settings import PT_MIN_TRUTH, UnfoldingParams, UnfoldingSimulator
from pullback.study.base import Capability
from pullback.study.kinds import Message
from pullback.study.shifts import NoiseShift, ScaleShift

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem

log = logging.getLogger("pullback")


class Unfolding:
    """Unfolding of jets: truth (pt, eta, phi, mass) from reconstructed (pt, eta, phi).

    One event is a matched pair of jets; a collision (`group`) gives several. What can be done beside learning from
    pairs follows from the detector: an instance has `simulate`, `log_likelihood` and `posterior_from_truth` where the
    detector has what they need (AttributeError otherwise).

    Args:
        options: the problem's ``simulator`` block.
    """

    Settings = UnfoldingSimulator
    Params = UnfoldingParams
    arrays: frozenset[str] = frozenset()
    relative = ("eta", "phi")
    reads = frozenset({"jets"})
    resimulates = False
    x = X_FIELD
    y = Y_FIELD
    fail = "error"

    @staticmethod
    def without(options: UnfoldingSimulator) -> Mapping[Capability, str]:
        """The capabilities that the detector does not have, and why."""
        kind, found = options.detector.kind, {}
        if not hasattr(options.detector, "smear"):
            found["forward"] = f"detector '{kind}' does not simulate jets from truth jets alone"
        if not hasattr(options.detector, "log_likelihood"):
            found["likelihood"] = f"of detector '{kind}' no likelihood is known"
        return cast(Mapping[Capability, str], found)

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """Collisions can be made where they are asked for; cuts of files are those of the problem; units of y."""
        yield from check_generated(problem.simulator, problem.families, "simulator")
        wanted = problem.simulator.reco_pt_min
        for name, family in problem.families.items():
            here, shift, read = f"families.{name}", family.shift, family.read
            if isinstance(shift, NoiseShift):
                yield (
                    f"{here}.shift",
                    "noise has one size for all of y, and jets have GeV and radians: scale one",
                )
            if isinstance(shift, ScaleShift) and shift.feature is None:
                yield f"{here}.shift", "a factor on all of y would stretch angles too: name the `feature`"
            cut = getattr(read, "y_pt_min", wanted)
            if cut != wanted:
                yield (
                    f"{here}.read.y_pt_min",
                    f"found {cut:g} GeV, and p(y|x) of this problem is that of jets from {wanted:g} GeV on: give every "
                    "family and `simulator.reco_pt_min` the same cut",
                )
            truth_cut = getattr(read, "x_pt_min", PT_MIN_TRUTH)
            if read is not None and read.has_truth and truth_cut < PT_MIN_TRUTH and problem.uses_likelihood:
                yield (
                    f"{here}.read.x_pt_min",
                    f"found {truth_cut:g} GeV, and the likelihood that this problem's methods or evaluation use holds "
                    f"from {PT_MIN_TRUTH:g} GeV on: raise it, or leave them out",
                )

    @staticmethod
    def own_files(options: UnfoldingSimulator) -> RootFiles:
        """What `pullback.simulators.collider` writes: its branches, numbered collisions, every match stored."""
        return RootFiles(
            kind="root",
            files={},
            y=Branches(pt="Jet_pt", eta="Jet_eta", phi="Jet_phi", mass="Jet_mass"),
            x=Branches(pt="GenJet_pt", eta="GenJet_eta", phi="GenJet_phi", mass="GenJet_mass"),
            match="Jet_genJetIdx",
            match_radius=1.0,  # beyond what the detector smears
            unknown_matches=0.0,
            event="event",
            weight="genWeight",
            weights={name: f"weight_{name}" for name in options.shower_variations},
            y_pt_min=options.reco_pt_min,
            x_pt_min=options.truth_pt_min,
        )

    def __init__(self, options: UnfoldingSimulator):
        self.options = options
        self.detector: Any = options.detector
        self.block = options.block

    def _with(self, method: Callable[..., Any], *needs: str) -> Callable[..., Any]:
        """A method, where the detector has what it needs."""
        for name in needs:
            if not hasattr(self.detector, name):
                raise AttributeError(f"detector '{self.detector.kind}' has no `{name}`")
        return method

    @property
    def simulate(self) -> Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]:
        """Reconstructed jets y (event, 3) of truth jets x (event, 4) that were kept, and which could be made (event,).

        Where the detector is not defined for x (the formulas of the smearing: below 20 GeV and beyond |eta| = 4.5): not
        ok, y is NaN.
        """
        return self._with(self._simulate, "smear")

    @property
    def log_likelihood(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """log p(y|x) of a reconstructed jet, y (..., 3) and x (..., 4) broadcast over leading axes, float64."""
        return self._with(self._log_likelihood, "log_likelihood")

    @property
    def efficiency(self) -> Callable[[np.ndarray], np.ndarray]:
        """Probability that truth jets x (event, 4) are reconstructed and pass the cut (event,)."""
        return self._with(self._efficiency, "efficiency")

    @property
    def posterior_from_truth(self) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
        """Draws x (event, draw, 4) of p(x|y) from other truth jets of the same prior, and their effective number."""
        return self._with(self._posterior_from_truth, "beside_phi", "phi_width")

    def _simulate(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        y, ok = self.detector.smear_kept(x, rng, self.options.reco_pt_min)
        return y.astype(np.float32), ok

    def _efficiency(self, x: np.ndarray) -> np.ndarray:
        value: np.ndarray = self.detector.efficiency(x, self.options.reco_pt_min)
        return value

    def _log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        value: np.ndarray = self.detector.log_likelihood(y, x, self.options.reco_pt_min)
        return value

    def _posterior_from_truth(
        self, y: np.ndarray, truth: np.ndarray, log_weight: np.ndarray, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `posterior_from_truth`.

        Beams and detector are symmetric: each truth jet also represents its rotations in phi and its mirror image in
        eta. The prior is then uniform in phi, so that phi given pT is a wrapped Gaussian about y's phi: it is drawn and
        not looked for. Of a jet's (pT, |eta|, mass), chosen by p(pT', eta' | pT, eta), the effective number is what
        counts.
        """
        pool = np.concatenate([truth, truth * np.array([1, -1, 1, 1])]).astype(np.float64)
        index, ess = choose(
            self.detector.beside_phi(pool, self.options.reco_pt_min),
            y,
            np.tile(log_weight, 2),
            draws,
            rng,
        )
        x = np.where((index >= 0)[..., None], pool[index], np.nan)
        x[..., 2] = wrap(y[:, 2:3] + self.detector.phi_width(x) * rng.standard_normal(index.shape))
        return x.astype(np.float32), ess

    def preflight(self) -> dict[str, Any]:
        """Versions of the packages that make and read collisions, and what the detector does to a few jets.

        Raises:
            pullback.core.optional.MissingExtraError: a package that reads ROOT files is not installed.
        """
        checks = generator_checks(self.options)
        for name, value in checks.items():
            log.info("unfolding: %s: %s", name, value)
        return checks
