"""Pythia 8 for one prior: a hard process with its parton densities, tune, shower and cuts.

The cross-sections and settings of a prior depend on `UnfoldingSimulator` and `UnfoldingParams` alone; random numbers
are those of `pullback.simulators.collider`.
"""

from typing import Any, cast

from pullback.core.optional import require
from pullback.simulators.collider_settings import Scales, UnfoldingParams, UnfoldingSimulator

_TAU0_MAX = 10.0
PROCESSES: dict[str, tuple[str, ...]] = {
    "ttbar": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
    "wjets": (
        "WeakBosonAndParton:qqbar2Wg = on",
        "WeakBosonAndParton:qg2Wq = on",
        "24:onMode = off",
        "24:onIfMatch = 13 14",
    ),
    "zjets": (
        "WeakBosonAndParton:qqbar2gmZg = on",
        "WeakBosonAndParton:qg2gmZq = on",
        "23:onMode = off",
        "23:onIfMatch = 13 13",
        "PhaseSpace:mHatMin = 40",
    ),
    "dijets": ("HardQCD:all = on",),
    "leptoquarks": ("LeptoQuark:gg2LQLQbar = on", "LeptoQuark:qqbar2LQLQbar = on"),
    "w-to-jets": ("WeakSingleBoson:ffbar2W = on", "24:onMode = off", "24:onIfAny = 1 2 3 4 5"),
    "graviton": ("ExtraDimensionsG*:all = on",),
    "zprime": ("NewGaugeBoson:ffbar2gmZZprime = on",),
}
"""Pythia switches of each hard process (W -> mu nu, Z/gamma* -> mu mu with a mass of at least 40 GeV)."""
MASSES = {"leptoquarks": "42:m0", "graviton": "5100039:m0", "zprime": "32:m0"}
"""The setting of the mass of a new particle."""
PDFS: dict[str, str] = {
    "nnpdf23-lo-0130": "13",
    "nnpdf23-lo-0119": "14",
    "nnpdf23-nlo": "15",
    "nnpdf23-nnlo": "16",
    "nnpdf31-lo-0130": "17",
    "nnpdf31-lo-0118": "18",
    "nnpdf31-nlo": "19",
    "nnpdf31-nnlo": "20",
    "nnpdf31sx-nlo": "21",
    "nnpdf31sx-nnlo": "22",
    "cteq5l": "2",
    "cteq6l": "7",
    "cteq6l1": "8",
    "cteq66": "9",
    "ct09mc1": "10",
    "ct09mc2": "11",
    "ct09mcs": "12",
    "ct14-qed": "LHAGrid1:CT14qed_proton_0000.dat",
    "mrst07-lo*": "3",
    "mrst08-lo**": "4",
    "mstw08-lo": "5",
    "mstw08-nlo": "6",
    "gjr07-lo": "23",
}
"""Parton densities that the wheel of Pythia holds -> PDF:pSet."""


class ColliderError(ValueError):
    """Settings with which Pythia cannot run, or a job whose collisions cannot be numbered."""


def settings(simulator: UnfoldingSimulator, params: UnfoldingParams) -> list[str]:
    """Every Pythia setting of one prior (of fixed parameters), in the order in which Pythia reads them."""
    pt_hat_min, mass, fsr, isr = (
        cast(float, number) for number in (params.pt_hat_min, params.mass, params.fsr_mu_r, params.isr_mu_r)
    )
    lines = [
        "Print:quiet = on",
        "Beams:idA = 2212",
        "Beams:idB = 2212",
        f"Beams:eCM = {simulator.energy:g}",
        f"Tune:pp = {simulator.tune if params.tune is None else params.tune}",
        f"PartonLevel:MPI = {'on' if simulator.multi_parton_interactions else 'off'}",
        f"PhaseSpace:pTHatMin = {pt_hat_min:g}",
        "PhaseSpace:increaseMaximum = off",
        "ParticleDecays:limitTau0 = on",
        f"ParticleDecays:tau0Max = {_TAU0_MAX:g}",
        # The search for the maximal cross-section uses random numbers too: the same in every job.
        "Random:setSeed = on",
        "Random:seed = 1",
    ]
    if params.pdf is not None:
        lines.append(f"PDF:pSet = {PDFS[params.pdf]}")
    if params.shower == "vincia":
        lines += ["PartonShowers:model = 2", "Vincia:Tune = 0"]
    if fsr != 1:
        lines.append(f"TimeShower:renormMultFac = {fsr**2:g}")
    if isr != 1:
        lines.append(f"SpaceShower:renormMultFac = {isr**2:g}")
    if params.pt_hat_max is not None:
        lines.append(f"PhaseSpace:pTHatMax = {params.pt_hat_max:g}")
    if params.bias is not None:
        lines += [
            "PhaseSpace:bias2Selection = on",
            f"PhaseSpace:bias2SelectionPow = {params.bias.power:g}",
            f"PhaseSpace:bias2SelectionRef = {params.bias.reference:g}",
        ]
    if simulator.shower_variations:
        bands = ", ".join(f"{name} {_words(scales)}" for name, scales in simulator.shower_variations.items())
        lines += ["UncertaintyBands:doVariations = on", f"UncertaintyBands:List = {{{bands}}}"]
    if params.process in MASSES:
        lines.append(f"{MASSES[params.process]} = {mass:g}")
    if params.process == "zprime":
        # Without the tail of gamma* and Z, which would be nearly all of the cross-section.
        lines.append(f"PhaseSpace:mHatMin = {mass / 2:g}")
    return lines + list(PROCESSES[params.process])


def _words(scales: Scales) -> str:
    """A variation as Pythia's UncertaintyBands has it; it does not tell of a word that it does not know."""
    factors = {"fsr": scales.fsr_mu_r, "isr": scales.isr_mu_r}
    return " ".join(f"{shower}:muRfac={factor:g}" for shower, factor in factors.items() if factor != 1)


def start_pythia(simulator: UnfoldingSimulator, params: UnfoldingParams) -> Any:
    """An initialised Pythia instance for one prior.

    Raises:
        ColliderError: Pythia does not take a setting, or finds no phase space for it.
    """
    pythia8mc = require("pythia8mc", "collider")
    pythia = pythia8mc.Pythia("", False)
    for line in settings(simulator, params):
        if not pythia.readString(line):
            raise ColliderError(
                f"Pythia does not take the setting '{line}'; correct it in the study's simulator or params"
            )
    if not pythia.init():
        mass = f" and mass {params.mass:g} GeV" if params.process in MASSES else ""
        raise ColliderError(
            f"Pythia could not start {params.process} at {simulator.energy:g} GeV with pt_hat_min {params.pt_hat_min:g}"
            f" GeV{mass}; the cuts may leave no phase space: lower them or raise the energy (its own words are logged)"
        )
    return pythia


def variation_rows(pythia: Any, simulator: UnfoldingSimulator) -> list[int]:
    """Where the weights of the study's shower variations stand among those of a collision."""
    info = pythia.infoPython()
    names = [str(info.weightNameByIndex(i)) for i in range(info.numberOfWeights())]
    return [names.index(name) for name in simulator.shower_variations]
