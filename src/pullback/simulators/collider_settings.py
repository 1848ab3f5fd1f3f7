"""Settings of simulated collisions and the detector, and parameters of a hard process."""

from typing import Literal

from pydantic import Field

from pullback.study.kinds import Parameters, SimulatorSettings

PT_MIN_TRUTH = 20.0
"""GeV: the formulas of the built-in detector hold for truth jets above."""


class UnfoldingSimulator(SimulatorSettings):
    """pp events by Pythia 8, anti-kt jets by fastjet, and object smearing as the detector."""

    energy: float = Field(default=13_000.0, gt=0, description="centre-of-mass energy, GeV")
    tune: int = Field(default=21, description="Pythia Tune:pp; 21 is A14 with NNPDF2.3 LO")
    multi_parton_interactions: bool = True
    jet_radius: float = Field(default=0.4, gt=0)
    truth_pt_min: float = Field(
        default=30.0, ge=PT_MIN_TRUTH, description="GeV; the smearing formula needs at least 20"
    )
    reco_pt_min: float = Field(
        default=5.0,
        ge=5,
        description="GeV, selection on reconstructed jets, of every family: p(y|x) is normalised on what it keeps; "
        "the detector loses jets below 5",
    )
    detector: Literal["smearing"] = Field(default="smearing", description="ATLAS-style smearing of each jet")
    block: int = Field(default=200, gt=0, description="collisions of one random block")


class UnfoldingParams(Parameters):
    """A hard process, with cuts in GeV."""

    process: Literal["ttbar", "wjets", "zjets", "dijets", "leptoquarks"]
    pt_hat_min: float = Field(default=20.0, ge=0, description="GeV, PhaseSpace:pTHatMin")
    mass: float = Field(default=800.0, gt=0, description="GeV, leptoquark mass; other processes ignore it")
