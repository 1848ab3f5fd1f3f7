"""Acquisitions that several tests use."""

from typing import Any

from pullback.problems.fwi import Fwi
from pullback.simulators.acquisition import Acquisition
from pullback.simulators.wave_settings import FwiSimulator

COMPACT = Fwi(FwiSimulator()).acquisition
SPONGE = Fwi(FwiSimulator(boundary="sponge", absorbing_cells=28)).acquisition


def acquisition(**settings: Any) -> Acquisition:
    """From the keys of a study's `simulator` block."""
    return Fwi(FwiSimulator(**settings)).acquisition


def small(**settings: Any) -> Acquisition:
    """A section of 24 x 30 nodes, two shots, half as long as a wave needs there and back: cheap in float64 too."""
    base: dict[str, Any] = {
        "depth_cells": 24,
        "offset_cells": 30,
        "spacing": 10.0,
        "absorbing_cells": 14,
        "sources": 2,
        "receivers": 9,
        "source_depth": 20.0,
        "receiver_depth": 10.0,
        "peak_frequency": 20.0,
        "record_length": 0.3,
        "time_step": 0.001,
        "output_interval": 0.002,
        "velocity_max": 4000.0,
    }
    return acquisition(**{**base, **settings})
