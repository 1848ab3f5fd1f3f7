"""The losses of trainings: their tables, and the figure of the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pullback.core.optional import require
from pullback.report.drawing import Drawing
from pullback.report.figures import training_curves
from pullback.report.style import INK, Series
from pullback.report.tables import read_csv


def read_curves(paths: Sequence[Path]) -> list[tuple[str, str, str, Any]]:
    """(problem, models, priors or likelihoods, name, table) of each file."""
    found = []
    for path in paths:
        frame = read_csv([path], ("step", "train_loss", "validation_loss"))
        pandas = require("pandas", extra="evaluate")
        for column in ("step", "train_loss", "validation_loss"):
            frame[column] = pandas.to_numeric(frame[column], errors="coerce")
        parts = ("", "", "", *Path(path).parts)
        found.append((parts[-3], parts[-4], parts[-2], frame))
    return found


def curve_figure(key: str, curves: Sequence[tuple[str, str, str, Any]], series: Sequence[Series]) -> Drawing | None:
    """The loss curves of some `read_curves`, in the colours of their methods."""
    colours = {s.method: s.colour for s in series}
    named = [
        (name, colours.get(name, INK), frame)
        if stage == "models"
        else (f"{name} ({stage.removesuffix('s')})", INK, frame)
        for _, stage, name, frame in curves
    ]
    return training_curves(key, named)
