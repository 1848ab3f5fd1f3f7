"""Inverse problems: one file for each kind."""

from pullback.ensembles.fields import Coordinate, Field
from pullback.problems.base import Problem

__all__ = ["Coordinate", "Field", "Problem"]
