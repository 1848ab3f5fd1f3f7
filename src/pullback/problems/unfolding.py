"""Unfolding: truth jets (pt, eta, phi, mass) from reconstructed jets (pt, eta, phi).

The detector is known in closed form (`pullback.simulators.detector`), collisions come from Pythia 8 as ROOT files
(`pullback.simulators.collider`) or from outside, and are read into matched jets by `pullback.readers.root`.
"""

import importlib.metadata
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pullback.core.angles import wrap
from pullback.core.optional import MissingExtraError, require
from pullback.problems.reweighting import choose
from pullback.readers.branches import Branches
from pullback.readers.jets import X_FIELD, Y_FIELD
from pullback.readers.root import RootFiles
from pullback.simulators import detector
from pullback.simulators.collider_settings import PT_MIN_TRUTH, UnfoldingParams, UnfoldingSimulator
from pullback.study.kinds import Message
from pullback.study.shifts import NoiseShift, ScaleShift

if TYPE_CHECKING:
    from pullback.study.model import Problem as StudyProblem

log = logging.getLogger("pullback")


class Unfolding:
    """Unfolding of jets: truth (pt, eta, phi, mass) from reconstructed (pt, eta, phi).

    One event is a matched pair of jets; a collision (`group`) gives several.

    Args:
        options: the problem's ``simulator`` block.
    """

    Settings = UnfoldingSimulator
    Params = UnfoldingParams
    arrays: frozenset[str] = frozenset()
    unlearnable = "phi is periodic, and networks see phi of x relative to phi of y"
    periodic = ("phi",)
    reads = frozenset({"jets"})
    resimulates = False
    x = X_FIELD
    y = Y_FIELD
    fail = "error"

    @staticmethod
    def check(problem: "StudyProblem") -> Iterator[Message]:
        """Cuts of files are those of the problem; shifts respect the units of y."""
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
            y_pt_min=options.reco_pt_min,
            x_pt_min=options.truth_pt_min,
        )

    def __init__(self, options: UnfoldingSimulator):
        self.options = options
        self.block = options.block

    def simulate(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Reconstructed jets y (event, 3) of truth jets x (event, 4) that were kept, and which could be made (event,).

        Below 20 GeV and beyond |eta| = 4.5 the detector's formulas do not hold: not ok, y is NaN.
        """
        y, ok = detector.smear_kept(x, rng, self.options.reco_pt_min)
        return y.astype(np.float32), ok

    def log_likelihood(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """log p(y|x) of a kept jet, y (..., 3) and x (..., 4) broadcast over leading axes, float64."""
        return detector.log_likelihood(y, x, self.options.reco_pt_min)

    def posterior_from_truth(
        self, y: np.ndarray, truth: np.ndarray, log_weight: np.ndarray, draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draws x (event, draw, 4) of p(x|y) from other truth jets of the same prior, and their effective number.

        Beams and detector are symmetric: each truth jet also represents its rotations in phi and its mirror image in
        eta. The prior is then uniform in phi, so that phi given pT is a wrapped Gaussian about y's phi: it is drawn and
        not looked for. Of a jet's (pT, |eta|, mass), chosen by p(pT', eta' | pT, eta), the effective number is what
        counts.
        """
        pool = np.concatenate([truth, truth * np.array([1, -1, 1, 1])]).astype(np.float64)
        index, ess = choose(
            detector.likelihood_beside_phi(pool, self.options.reco_pt_min),
            y,
            np.tile(log_weight, 2),
            draws,
            rng,
        )
        x = np.where((index >= 0)[..., None], pool[index], np.nan)
        *_, width_phi = detector.response(x[..., 0])
        x[..., 2] = wrap(y[:, 2:3] + width_phi * rng.standard_normal(index.shape))
        return x.astype(np.float32), ess

    def preflight(self) -> dict[str, Any]:
        """Versions of the packages that make and read collisions, and the detector response of a few jets.

        Raises:
            pullback.core.optional.MissingExtraError: a package that reads ROOT files is not installed.
        """
        versions = {}
        for package in ("uproot", "awkward"):
            require(package, "hep")
            versions[package] = importlib.metadata.version(package)
        for package in ("pythia8mc", "fastjet"):
            try:
                require(package, "collider")
                versions[package] = importlib.metadata.version(package)
            except MissingExtraError as error:  # a study of outside files alone does without
                log.warning("no collisions can be made here: %s", error)
                versions[package] = "not installed"
        pt = np.array([self.options.truth_pt_min, 50.0, 100.0, 300.0, 1000.0])
        mean, width, width_eta, width_phi = detector.response(pt)
        central, cut = np.stack([pt, *np.zeros((3, 5))], axis=1), self.options.reco_pt_min
        checks: dict[str, Any] = {
            **{f"{package} version": version for package, version in versions.items()},
            "energy (GeV)": self.options.energy,
            "tune": self.options.tune,
            "multi-parton interactions": self.options.multi_parton_interactions,
            "jets": f"anti-kt R={self.options.jet_radius:g}, truth pT >= {self.options.truth_pt_min:g} GeV",
            "truth pT (GeV)": pt.tolist(),
            "response": np.round(mean / pt, 4).tolist(),
            "relative width of pT": np.round(width / pt, 4).tolist(),
            "width of eta": np.round(width_eta, 4).tolist(),
            "width of phi (rad)": np.round(width_phi, 4).tolist(),
            f"fraction kept (pT >= {cut:g} GeV)": np.round(np.exp(detector.log_kept(central, cut)), 4).tolist(),
        }
        for name, value in checks.items():
            log.info("unfolding: %s: %s", name, value)
        return checks
