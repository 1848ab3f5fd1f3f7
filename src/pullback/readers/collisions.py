"""How a ROOT file of `pullback.simulators.collider` was made, which it holds beside its collisions."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pullback.ensembles.generated import GENERATED
from pullback.readers.base import Ensembles, ReadError, short
from pullback.readers.root_table import open_root
from pullback.study.base import canonical, job_digest


def generated(path: Path) -> tuple[dict[str, Any], Ensembles | None]:
    """Attributes of an ensemble that a ROOT file gives, and the ensembles of a sweep; neither of another file."""
    made = _settings(path) or {}
    sweep = made.get("sweep")
    ensembles = Ensembles(sweep["names"], np.array(sweep["theta"]), np.array(sweep["first"])) if sweep else None
    return {name: made[name] for name in GENERATED if name in made}, ensembles


def digest_of_job(path: Path) -> str | None:
    """The digest of the job that made a ROOT file; None of another file."""
    made = _settings(path)
    return job_digest(canonical(made["job"])) if made else None


def _settings(path: Path) -> dict[str, Any] | None:
    file, _ = open_root(path)
    with file:
        if "settings" not in file or file.classname_of("settings") != "TObjString":
            return None
        try:
            found: dict[str, Any] = json.loads(str(file["settings"]))
            return found if found["job"] else None
        except Exception as error:
            raise ReadError(
                f"{path}: how it was made cannot be read ({short(error)}); delete it, and run again"
            ) from None
