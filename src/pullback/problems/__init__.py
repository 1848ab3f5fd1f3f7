"""Inverse problems: one file for each kind."""

from pullback.ensembles.fields import Coordinate, Field
from pullback.problems.base import Problem
from pullback.study.kinds import Parameters, SimulatorSettings

__all__ = ["Coordinate", "Field", "Parameters", "Problem", "SimulatorSettings"]
