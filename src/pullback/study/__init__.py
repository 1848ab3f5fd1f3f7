"""The study: one config file as typed models, the catalogue of kinds, and where every file of a run stands."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullback.study.config import StudyError, load_study, read_study
    from pullback.study.model import Study

__all__ = ["Study", "StudyError", "load_study", "read_study"]


def __getattr__(name: str) -> Any:
    """What is exported, loaded when it is asked for: kinds import `pullback.study.base`, and the models the kinds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{'model' if name == 'Study' else 'config'}"), name)
