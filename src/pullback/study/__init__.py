"""The study: its config file as typed models, the base classes of kinds, and the paths of all files of a run."""

from pullback.study.config import load_study, read_study
from pullback.study.model import Study
from pullback.study.reading import StudyError

__all__ = ["Study", "StudyError", "load_study", "read_study"]
