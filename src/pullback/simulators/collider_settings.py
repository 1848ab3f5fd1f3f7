"""Settings of simulated collisions and the detector, and parameters of a hard process."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from pullback.simulators.detectors.base import Detector
from pullback.study.base import Closed, Number, ends
from pullback.study.kinds import Kind, Parameters, SimulatorSettings

PT_MIN_TRUTH = 20.0
"""GeV: the formulas of the built-in smearing hold for truth jets above."""

_TRUTH = dict.fromkeys(("pt", "eta", "phi", "mass"), "float32")
JETS: dict[str, dict[str, str]] = {"GenJet": _TRUTH, "Jet": {**_TRUTH, "genJetIdx": "int32"}}
"""Lists of jets of a collision in the ROOT files, and the types of their fields."""

RESONANCES = ("w-to-jets", "graviton", "zprime")
"""Processes of one particle, which has no pT of its own: cuts on pTHat and its bias are of pairs."""


class Scales(Closed):
    """Factors on the renormalisation scales of the simple shower, at least one of which is not 1."""

    fsr_mu_r: float = Field(default=1.0, ge=0.1, le=10, description="factor on that of final-state radiation")
    isr_mu_r: float = Field(default=1.0, ge=0.1, le=10, description="factor on that of initial-state radiation")

    @model_validator(mode="after")
    def _vary(self) -> "Scales":
        if (self.fsr_mu_r, self.isr_mu_r) == (1, 1):
            raise ValueError("found no variation, wanted fsr_mu_r or isr_mu_r other than 1")
        return self


class UnfoldingSimulator(SimulatorSettings):
    """pp events by Pythia 8, anti-kt jets by fastjet, and a detector."""

    energy: float = Field(default=13_000.0, gt=0, description="centre-of-mass energy, GeV")
    tune: int = Field(default=21, description="Pythia Tune:pp; 21 is A14 with NNPDF2.3 LO")
    multi_parton_interactions: bool = True
    jet_radius: float = Field(default=0.4, gt=0)
    truth_pt_min: float = Field(
        default=30.0,
        ge=PT_MIN_TRUTH,
        description="GeV, fiducial cut on truth jets; the smearing formula needs at least 20",
    )
    reco_pt_min: float = Field(
        default=5.0,
        ge=5,
        description="GeV, selection on reconstructed jets, of every family: p(y|x) is normalised on what it keeps; "
        "the detector loses jets below 5",
    )
    detector: Annotated[Detector, Kind("detectors", by_name=True)] = Field(
        default={"kind": "smearing"},
        validate_default=True,
        description="kind of detector: smearing (level 0), acceptance (level 1), particle-flow (level 2), learned "
        "(families of files only), or ./my.py:MyDetector; a name alone takes the defaults of the kind",
    )
    shower_variations: dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")], Scales] = Field(
        default={},
        description="other scales of the shower, by weights (Pythia's UncertaintyBands): a branch weight_<name> of the "
        "ROOT files for each, such as fsr_up: {fsr_mu_r: 2}; for families of `shower: simple`",
    )
    format: Literal["ttree", "rntuple"] = Field(default="ttree", description="of the ROOT files of collisions")
    block: int = Field(default=200, gt=0, description="collisions of one random block")

    @property
    def scalars(self) -> dict[str, str]:
        """Branches of the ROOT files with one number of each collision, and their types."""
        variations = {f"weight_{name}": "float32" for name in self.shower_variations}
        return {"event": "int64", "genWeight": "float32", **variations}

    @property
    def branches(self) -> tuple[str, ...]:
        """All branches of the ROOT files."""
        return (*self.scalars, *(f"{jets}_{field}" for jets, fields in JETS.items() for field in fields))

    @property
    def parts(self) -> tuple[tuple[str, str], ...]:
        """The detector's kind, which makes the events."""
        return (("detectors", self.detector.kind),)


_BOUNDS = (("pt_hat_min", 0.0, 1e5), ("mass", 1.0, 1e5), ("fsr_mu_r", 0.1, 10.0), ("isr_mu_r", 0.1, 10.0))
"""Name, least and largest value of numbers that a sweep may draw."""


class Bias(Closed):
    """Oversampling of high pTHat by (pTHat / reference)^power; events have the inverse as their weight."""

    power: float = Field(default=4.0, gt=0, description="PhaseSpace:bias2SelectionPow")
    reference: float = Field(default=100.0, gt=0, description="GeV, pTHat of events with weight one")


class UnfoldingParams(Parameters):
    """A hard process and how it is generated, with cuts in GeV. A sweep draws numbers anew for each ensemble."""

    process: Literal["ttbar", "wjets", "zjets", "dijets", "leptoquarks", "w-to-jets", "graviton", "zprime"]
    pt_hat_min: Number = Field(
        default=20.0, description="GeV, PhaseSpace:pTHatMin; processes of one particle ignore it"
    )
    pt_hat_max: float | None = Field(default=None, gt=0, description="GeV, PhaseSpace:pTHatMax: with it, a slice")
    mass: Number = Field(default=800.0, description="GeV, of the leptoquark, graviton or Z'; other processes ignore it")
    pdf: (
        Literal[
            "nnpdf23-lo-0130",
            "nnpdf23-lo-0119",
            "nnpdf23-nlo",
            "nnpdf23-nnlo",
            "nnpdf31-lo-0130",
            "nnpdf31-lo-0118",
            "nnpdf31-nlo",
            "nnpdf31-nnlo",
            "nnpdf31sx-nlo",
            "nnpdf31sx-nnlo",
            "cteq5l",
            "cteq6l",
            "cteq6l1",
            "cteq66",
            "ct09mc1",
            "ct09mc2",
            "ct09mcs",
            "ct14-qed",
            "mrst07-lo*",
            "mrst08-lo**",
            "mstw08-lo",
            "mstw08-nlo",
            "gjr07-lo",
        ]
        | None
    ) = Field(default=None, description="parton densities, those that Pythia's wheel holds; default: the tune's own")
    tune: int | None = Field(default=None, description="Pythia Tune:pp; default: that of the simulator")
    shower: Literal["simple", "vincia"] = Field(
        default="simple", description="Pythia's own shower, or Vincia with its own tune of hadronisation"
    )
    fsr_mu_r: Number = Field(default=1.0, description="factor on the renormalisation scale of final-state radiation")
    isr_mu_r: Number = Field(default=1.0, description="factor on that of initial-state radiation")
    bias: Bias | None = Field(default=None, description="oversampling of high pTHat, with weights")

    @model_validator(mode="after")
    def _go_together(self) -> "UnfoldingParams":
        for name, low, high in _BOUNDS:
            for value in ends(getattr(self, name)):
                if not low <= value <= high:
                    raise ValueError(f"{name}: found {value:g}, wanted {low:g} to {high:g}")
        lowest, highest = min(ends(self.pt_hat_min)), max(ends(self.pt_hat_min))
        if self.pt_hat_max is not None and self.pt_hat_max <= highest:
            raise ValueError(f"pt_hat_max: found {self.pt_hat_max:g}, wanted more than pt_hat_min {highest:g}")
        if self.process in RESONANCES:
            for name in ("pt_hat_max", "bias"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: '{self.process}' is of one particle without a pTHat: leave it out")
        if self.bias is not None and lowest <= 0:
            raise ValueError("pt_hat_min: found 0, wanted more: with a bias, an event at pTHat 0 has infinite weight")
        if self.shower == "vincia" and (self.fsr_mu_r, self.isr_mu_r) != (1, 1):
            raise ValueError("fsr_mu_r, isr_mu_r: scales of the simple shower: leave them out with `shower: vincia`")
        return self
