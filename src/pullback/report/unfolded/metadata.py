"""What an export says of itself: where it came from, what was selected, by which versions and seeds it was made."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal

from pullback.core.atomic import StoreError
from pullback.ensembles.fields import Field
from pullback.ensembles.generated import GENERATED
from pullback.ensembles.store import EnsembleReader
from pullback.report.event_columns import EventColumns
from pullback.report.receipt import name_of, versions

FORMAT = "pullback unfolded events"
FORMAT_VERSION = 1

Content = Literal["draws", "distribution", "spectra"]
"""Rows that are draws of events, rows that are weighted truths, or bins alone."""

TRUTH_LEVEL = "truth level"
"""Weights of truths, recorded or not."""


def weights_of_draws(acceptance: Sequence[str]) -> str:
    """What the weights of draws are, by which of ``purity`` and ``efficiency`` the method gives."""
    if len(acceptance) == 2:
        return f"{TRUTH_LEVEL}: each event's weight times purity / efficiency, shared by its draws"
    known = f", times 1 / {acceptance[0]}" if acceptance == ["efficiency"] else ", times purity" if acceptance else ""
    lacking = " and ".join(each for each in ("purity", "efficiency") if each not in acceptance)
    return f"of the observations: each event's weight, shared by its draws{known}; the method gives no {lacking}"


def metadata_of(
    content: Content,
    x: Field,
    attributes: Mapping[str, Any],
    path: Path,
    digest: str,
    events: EnsembleReader | None = None,
) -> dict[str, Any]:
    """The metadata of a result of a study, as plain values.

    Args:
        content: of the file.
        x: the field of the truth.
        attributes: of the result, or of the first part of it.
        path: the result.
        digest: of its content.
        events: the ensemble that was unfolded; looked for beside the results when None.
    """
    job = json.loads(attributes["spec"])
    root, problem, method, seed = job["address"]
    name = str(attributes["ensemble_name"])
    ensemble: dict[str, Any] = {"file": name_of(Path(name)), "content_digest": str(attributes["ensemble_digest"])}
    selection = None
    with suppress(StoreError), ExitStack() as stack:
        reader = events or stack.enter_context(EnsembleReader(_found(Path(name), path)))
        if reader.digest == attributes["ensemble_digest"]:
            selection = _selection(reader.made_by())
            ensemble["source_files"] = EventColumns(reader).files
            # Of generated events: cross-section and sum of weights of all collisions, also of those without an event.
            ensemble |= {name: float(reader.attributes[name]) for name in GENERATED if name in reader.attributes}
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "content": content,
        "features": dict(zip(x.features, x.units, strict=True)),
        "weights": TRUTH_LEVEL,
        "returns": str(attributes["returns"]),
        "study": Path(name).parts[-5],
        "problem": problem,
        "method": method,
        "infer": job["infer_name"],
        "family": job["family"],
        "seeds": {"root": root, "repeat": seed},
        "inputs": {"result": {"file": name_of(path), "content_digest": digest}, "ensemble": ensemble},
        "selection": selection,
        "versions": versions(),
        "job": job,
    }


def _found(name: Path, beside: Path) -> Path:
    """A file of the results, from here or from the folder of another result."""
    places = (folder / name for folder in (Path(), *beside.absolute().parents))
    return next((place for place in places if place.exists()), name)


def _selection(made: Mapping[str, Any]) -> dict[str, Any]:
    """What chose the events: the block `read`, or the simulator with the parameters of the prior."""
    keys = ("read", "entries", "simulator", "params", "shift")
    return {key: made[key] for key in keys if key in made and (key != "simulator" or "read" not in made)}
