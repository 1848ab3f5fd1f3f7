"""Made-up ensembles and posteriors for the tests of evaluation: y = x + noise, with a posterior that is known."""

import json
from pathlib import Path

import numpy as np

from pullback.ensembles.fields import Field
from pullback.ensembles.posterior_store import PosteriorWriter
from pullback.ensembles.store import EnsembleReader, EnsembleWriter
from pullback.methods.base import PosteriorSamples

SIMULATOR = """
import numpy as np
from pullback.ensembles.fields import Field


class Plane:
    x = Field.vector("x", ("a", "b"), "m")
    y = Field.vector("y", ("a", "b"), "m")

    def simulate(self, x, rng):
        return (x + 0.5 * rng.standard_normal(x.shape)).astype(np.float32), np.ones(len(x), bool)


class Image:
    x = Field.array("x", ("depth", "offset"), (12, 12), "m/s", low=(0.0,), high=(10.0,))
    y = Field.array("y", ("depth", "offset"), (12, 12), "1")

    def simulate(self, x, rng):
        assert x.min() >= 0 and x.max() <= 10
        return np.asarray(2 * x, np.float32), x[:, 0, 0] < 9.9
"""
NOISE = 0.5

PLANE = (Field.vector("x", ("a", "b"), "m"), Field.vector("y", ("a", "b"), "m"))
IMAGE = (
    Field.array("x", ("depth", "offset"), (12, 12), "m/s", low=(0.0,), high=(10.0,)),
    Field.array("y", ("depth", "offset"), (12, 12), "1"),
)


def plane(rng: np.random.Generator, n: int, centre: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """x ~ N(centre, I) and y = x + NOISE * normal, both (event, 2) float32."""
    x = rng.standard_normal((n, 2)) + centre
    return x.astype(np.float32), (x + NOISE * rng.standard_normal((n, 2))).astype(np.float32)


def plane_posterior(rng: np.random.Generator, y: np.ndarray, draws: int, centre: float = 0.0) -> np.ndarray:
    """Exact draws (event, draw, 2) of x given y under the prior N(centre, I)."""
    gain = 1 / (1 + NOISE**2)
    mean = centre + gain * (y - centre)
    spread = np.sqrt(1 - gain)
    return (mean[:, None] + spread * rng.standard_normal((len(y), draws, 2))).astype(np.float32)


def images(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """x (event, 12, 12) in 1 to 9 m/s, y = 2 x."""
    x = rng.uniform(1, 9, (n, 12, 12)).astype(np.float32)
    return x, 2 * x


def write_ensemble(
    path: Path,
    fields: tuple[Field, Field],
    x: np.ndarray | None,
    y: np.ndarray,
    group: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> Path:
    """An ensemble file."""
    columns = {} if weight is None else {"weight": "f8"}
    more = {} if weight is None else {"weight": weight}
    with EnsembleWriter(path, x=None if x is None else fields[0], y=fields[1], spec="{}", columns=columns) as writer:
        writer.append(y, np.arange(len(y)), x=x, group=group, **more)
    return path


def write_posterior(
    path: Path,
    ensemble: Path,
    x_field: Field,
    x: np.ndarray,
    log_weight: np.ndarray | None = None,
    ok: np.ndarray | None = None,
    diagnostics: dict[str, float] | None = None,
) -> Path:
    """A posterior file of draws x (event, draw, *x); failed ones become NaN."""
    log_weight = np.zeros(x.shape[:2]) if log_weight is None else log_weight
    ok = np.ones(x.shape[:2], bool) if ok is None else ok
    x = np.where(ok.reshape(*ok.shape, *(1,) * (x.ndim - 2)), x, np.nan)
    with (
        EnsembleReader(ensemble) as reader,
        PosteriorWriter(
            path, x=x_field, draws=x.shape[1], ensemble=reader, ensemble_name=ensemble.name, spec="{}"
        ) as writer,
    ):
        writer.append(PosteriorSamples(x, log_weight, ok), np.arange(len(x)))
        noticed = {name: {0: value} for name, value in (diagnostics or {}).items()}
        writer.finish({"seconds": 1.5, "network_calls": 8.0}, noticed)
    return path


def job(folder: Path, kind: str, families: dict[str, dict], results: list, **evaluation) -> str:
    """What `Plan.evaluate_job` makes, for a simulator in `folder`."""
    (folder / "sim.py").write_text(SIMULATOR)
    entries = {
        name: {"role": "unseen", "title": name.upper(), "shift": "none", "base": name, **entry}
        for name, entry in families.items()
    }
    settings = {
        "bootstrap": 50,
        "directions": 100,
        "direction_seeds": 3,
        "swd_events": 20_000,
        "resimulate_events": 0,
        "resimulate_draws": 4,
        "examples": 3,
        "exact_events": 0,
        "exact_families": None,
        "exact_draws": 200,
        "exact_pool": 200,
        "c2st_events": 0,
        "metrics": [],
        "bins": {},
    }
    return json.dumps(
        {
            "study": "s",
            "folder": str(folder),
            "seed": 1,
            "problem_name": "p",
            "problem": {"kind": f"./sim.py:{kind}", "simulator": {}, "folder": str(folder)},
            "method": "m",
            "method_kind": "cfm",
            "returns": "approximate",
            "families": entries,
            "results": results,
            "evaluation": settings | evaluation,
        }
    )
