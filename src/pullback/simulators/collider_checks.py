"""Checks of the generator of collisions: of families that it makes, and of what is installed."""

import importlib.metadata
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pullback.core.optional import MissingExtraError, require
from pullback.simulators.collider_settings import UnfoldingSimulator
from pullback.study.kinds import Message

if TYPE_CHECKING:
    from pullback.study.families import Family

log = logging.getLogger("pullback")


def check_generated(options: UnfoldingSimulator, families: Mapping[str, "Family"], here: str) -> Iterator[Message]:
    """What the detector, or the shower variations, do not allow of families that are generated.

    Args:
        options: of the generator.
        families: of the problem.
        here: key of the options in the problem's block, for messages.
    """
    for name, family in families.items():
        if family.read is not None or family.events_from:
            continue
        if not options.detector.makes_events:
            yield (
                f"families.{name}",
                f"detector '{options.detector.kind}' makes no events: give the family files to `read`, or choose "
                f"another `{here}.detector`",
            )
        if options.shower_variations and family.params.get("shower") == "vincia":
            yield (
                f"families.{name}.params.shower",
                f"Vincia gives no weights for `{here}.shower_variations`: leave them out, or generate other scales",
            )


def generator_checks(options: UnfoldingSimulator) -> dict[str, Any]:
    """Versions of the packages that make and read collisions, settings, and what the detector does to a few jets.

    Raises:
        MissingExtraError: a package that reads ROOT files is not installed.
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
    pt = np.array([options.truth_pt_min, 50.0, 100.0, 300.0, 1000.0])
    return {
        **{f"{package} version": version for package, version in versions.items()},
        "energy (GeV)": options.energy,
        "tune": options.tune,
        "multi-parton interactions": options.multi_parton_interactions,
        "jets": f"anti-kt R={options.jet_radius:g}, truth pT >= {options.truth_pt_min:g} GeV",
        "detector": options.detector.kind,
        **options.detector.describe(pt, options.reco_pt_min),
    }
