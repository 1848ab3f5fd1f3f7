"""The study: one config file as typed models, the catalogue of kinds, and where every file of a run stands."""

from pullback.study.config import StudyError, load_study, read_study
from pullback.study.model import Study

__all__ = ["Study", "StudyError", "load_study", "read_study"]
