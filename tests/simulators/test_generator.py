"""Settings of Pythia: what they were before families could choose, slices and bias against the whole, PDFs, Vincia."""

import os
from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("pythia8mc", reason="pip install 'pullback[collider]'")
pytest.importorskip("fastjet", reason="pip install 'pullback[collider]'")
import awkward as ak

from pullback.simulators import generator
from pullback.simulators.collider import make_block
from pullback.simulators.collider_settings import UnfoldingParams, UnfoldingSimulator

NO_MPI = UnfoldingSimulator(multi_parton_interactions=False)


def block(events, simulator=NO_MPI, number=0, **params):
    """Pythia and one block of collisions."""
    pythia = generator.start_pythia(simulator, UnfoldingParams(**params))
    return pythia, make_block(pythia, simulator, (11, "jets", "f", "test"), number, events)


def hard_processes(number=3000, **params):
    """Pythia, and collisions of the hard process alone."""
    pythia = generator.require("pythia8mc", "collider").Pythia("", False)
    for line in (*generator.settings(NO_MPI, UnfoldingParams(**params)), "PartonLevel:all = off"):
        assert pythia.readString(line)
    assert pythia.init()
    return pythia, pythia.nextBatch(number).info


def cross_section(**params):
    """In mb, with its error."""
    info = hard_processes(**params)[0].infoPython()
    return info.sigmaGen(), info.sigmaErr()


def test_a_block_is_what_it_was_before_families_chose_their_generator():
    """The numbers of a block, made before detectors were kinds and families had a PDF or a shower."""
    simulator = UnfoldingSimulator(multi_parton_interactions=False, truth_pt_min=25.0)
    pythia = generator.start_pythia(simulator, UnfoldingParams(process="wjets"))
    made = make_block(pythia, simulator, (11, "jets", "wjets", "test"), 3, 25)
    first = ak.flatten(made["Jet"].pt)[:3].tolist()
    assert first == pytest.approx([57.99098205566406, 28.749292373657227, 51.69373321533203], rel=1e-6)
    lines = generator.settings(simulator, UnfoldingParams(process="wjets"))
    assert lines[11:13] == ["Random:seed = 1", "WeakBosonAndParton:qqbar2Wg = on"]


def test_the_study_names_the_pdfs_that_the_wheel_holds():
    named = {name for each in get_args(UnfoldingParams.model_fields["pdf"].annotation) for name in get_args(each)}
    assert named == set(generator.PDFS)
    assert set(get_args(UnfoldingParams.model_fields["process"].annotation)) == set(generator.PROCESSES)


@pytest.mark.parametrize("pdf", generator.PDFS if os.environ.get("SLOW") else ["ct14-qed", "nnpdf31-lo-0130"])
def test_every_pdf_starts(pdf):
    params = UnfoldingParams(process="ttbar", pdf=pdf)
    assert f"PDF:pSet = {generator.PDFS[pdf]}" in generator.settings(NO_MPI, params)
    assert generator.start_pythia(NO_MPI, params).settings.word("PDF:pSet") == generator.PDFS[pdf]


def test_slices_add_up_to_the_whole():
    whole, error = cross_section(process="dijets", pt_hat_min=50)
    parts = [
        cross_section(process="dijets", **cut) for cut in ({"pt_hat_min": 50, "pt_hat_max": 80}, {"pt_hat_min": 80})
    ]
    total = sum(sigma for sigma, _ in parts)
    assert abs(total - whole) < 5 * np.sqrt(error**2 + sum(e**2 for _, e in parts))


def test_weights_of_a_bias_give_back_the_spectrum():
    bias = {"power": 3, "reference": 60}
    plain, biased = (hard_processes(process="dijets", pt_hat_min=50, bias=b)[1] for b in (None, bias))
    weight = ak.to_numpy(biased.weights[:, 0])
    pt_hat = [np.sqrt(ak.to_numpy(each.pT2Hat)) for each in (plain, biased)]
    # The bias is of pTHat before quarks have their masses.
    np.testing.assert_allclose(weight, (60 / pt_hat[1]) ** 3, rtol=0.05)
    assert ak.all(plain.weights[:, 0] == 1)
    high = [each > 80 for each in pt_hat]
    assert high[1].mean() > 2 * high[0].mean()
    share, wanted = np.average(high[1], weights=weight), high[0].mean()
    # Of a ratio of weighted sums, and a binomial one.
    spread = np.sqrt((weight**2 * (high[1] - share) ** 2).sum()) / weight.sum()
    assert abs(share - wanted) < 5 * np.hypot(spread, np.sqrt(wanted * (1 - wanted) / len(high[0])))


def test_variations_are_weights_of_the_same_collisions():
    varied = UnfoldingSimulator(
        multi_parton_interactions=False,
        shower_variations={"fsr_up": {"fsr_mu_r": 2}, "both": {"fsr_mu_r": 0.5, "isr_mu_r": 0.5}},
    )
    _, made = block(60, varied, process="dijets", pt_hat_min=50, bias={"power": 3, "reference": 60})
    up, both = (made[f"weight_{name}"] / made["genWeight"] for name in ("fsr_up", "both"))
    assert list(made)[:4] == ["event", "genWeight", "weight_fsr_up", "weight_both"]
    assert up.std() > 0.1
    assert both.std() > 0.1
    # Weights of the shower conserve probability: their mean is one; of the bias, it is not.
    assert abs(up.mean() - 1) < 5 * up.std() / np.sqrt(60)


def test_vincia_is_another_shower():
    pythia, made = block(10, process="ttbar", shower="vincia", pdf="ct14-qed")
    assert pythia.settings.mode("PartonShowers:model") == 2
    assert ak.mean(ak.num(made["GenJet"])) > 2


@pytest.mark.parametrize("process", ["w-to-jets", "graviton", "zprime"])
def test_resonances_decay_to_jets_at_half_their_mass(process):
    _, made = block(40, process=process, mass=800)
    leading = ak.to_numpy(ak.max(made["GenJet"].pt, axis=1, mask_identity=False))
    mass = 80.4 if process == "w-to-jets" else 800
    # Central decays have pT = m / 2; most are within a third of it and half of them above it times cos 60 degrees.
    assert 0.25 * mass < np.median(leading[leading > 0]) < 0.6 * mass


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"process": "ttbar", "pt_hat_min": 50, "pt_hat_max": 40}, "pt_hat_max: found 40"),
        ({"process": "graviton", "bias": {}}, "bias: 'graviton' is of one particle"),
        ({"process": "w-to-jets", "pt_hat_max": 40}, "pt_hat_max: 'w-to-jets' is of one particle"),
        ({"process": "dijets", "pt_hat_min": 0, "bias": {}}, "infinite weight"),
        ({"process": "ttbar", "shower": "vincia", "fsr_mu_r": 2}, "scales of the simple shower"),
        ({"process": "ttbar", "pdf": "ct14lo"}, "nnpdf23-lo-0130"),
    ],
)
def test_parameters_that_do_not_go_together(params, words):
    with pytest.raises(ValidationError, match=words):
        UnfoldingParams(**params)


def test_a_variation_varies():
    with pytest.raises(ValidationError, match="found no variation"):
        UnfoldingSimulator(shower_variations={"none": {}})
