"""A simulator that is a program of the user's: arrays go in and out as ``.npy`` files."""

import json
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field as Option

from pullback.ensembles.fields import Field
from pullback.study.base import Closed
from pullback.study.kinds import SimulatorSettings


class CommandError(ValueError):
    """A command that failed or returned an invalid array."""


class FieldOptions(Closed):
    """Shape and units of x or y of an external command."""

    features: list[str] | None = Option(default=None, description="names, for a vector of named quantities")
    dims: list[str] | None = Option(default=None, description="dimension names, for an array")
    shape: list[int] | None = None
    units: str | list[str] = Option(description="one unit, or one for each feature; '1' where there is none")


class CommandSimulator(SimulatorSettings):
    """A simulator that is a program: files in, files out (.npy, float arrays with the event axis first).

    Placeholders: {n}, {seed}, {params} (a JSON file) and {x} (written) in `prior`; {x} (read), {seed} and {y}
    (written) in `forward`. A row of NaN in {y} says that this simulation failed.
    """

    prior: str = Option(description="command that writes n draws of x")
    forward: str = Option(description="command that reads x and writes y")
    x: FieldOptions
    y: FieldOptions
    block: int = Option(default=1000, gt=0, description="events of one call")
    fail: Literal["error", "redraw"] = "error"
    files: list[str] = Option(
        default=[], description="files the commands are made of, relative to the study: a change in them reruns"
    )

    def user_files(self, folder: str) -> list[str]:
        """The files that the commands are made of."""
        return [str(Path(folder) / name) for name in self.files]


def _field(name: Literal["x", "y"], options: FieldOptions) -> Field:
    if options.features is not None:
        return Field.vector(name, options.features, options.units)
    if options.dims is None or options.shape is None or not isinstance(options.units, str):
        raise CommandError(f"simulator.{name}: give `features`, or `dims` and `shape` with one unit")
    return Field.array(name, options.dims, options.shape, options.units)


class Command:
    """The user's own simulator as an external command.

    Prior and forward process as commands; see `CommandSimulator` for the placeholders.

    Args:
        options: the ``simulator`` block.
        folder: the commands run here: the folder of the study.
    """

    Settings = CommandSimulator

    def __init__(self, options: CommandSimulator, folder: Path):
        self.options = options
        self.folder = folder
        self.x = _field("x", options.x)
        self.y = _field("y", options.y)
        self.block = options.block
        self.fail = options.fail

    def sample_prior(self, rng: np.random.Generator, n: int, params: dict[str, Any]) -> np.ndarray:
        """Draws (n, *x) that the command wrote."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "params.json").write_text(json.dumps(params))
            self._run(self.options.prior, folder, n=n, seed=int(rng.integers(2**31)))
            return self._load(folder / "x.npy", (n, *self.x.shape))

    def simulate(self, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Observations (event, *y) that the command wrote; a row that is not finite is a failed simulation."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            np.save(folder / "x.npy", x)
            self._run(self.options.forward, folder, n=len(x), seed=int(rng.integers(2**31)))
            y = self._load(folder / "y.npy", (len(x), *self.y.shape))
        return y, np.isfinite(y).reshape(len(y), -1).all(axis=1)

    def _run(self, template: str, scratch: Path, n: int, seed: int) -> None:
        files = {
            name: scratch / f"{name}.{ending}" for name, ending in (("x", "npy"), ("y", "npy"), ("params", "json"))
        }
        try:
            command = [piece.format(n=n, seed=seed, **files) for piece in shlex.split(template)]
        except (KeyError, IndexError) as error:
            known = "{n}, {seed}, {params}, {x}, {y}"
            raise CommandError(f"command '{template}': unknown placeholder {error}; known: {known}") from None
        try:
            done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        except OSError as error:
            raise CommandError(
                f"command '{command[0]}' cannot be started ({error.strerror}); give a path or install it"
            ) from None
        if done.returncode:
            tail = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise CommandError(f"command '{' '.join(command)}' failed with exit code {done.returncode}:\n{tail}")

    @staticmethod
    def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray:
        if not path.exists():
            raise CommandError(f"the command wrote no {path.name}; it must write an array of shape {shape} there")
        found = np.load(path, allow_pickle=False)
        if found.shape != shape:
            raise CommandError(f"the command wrote {path.name} with shape {found.shape}, wanted {shape}")
        return np.asarray(found, np.float64)

    def preflight(self) -> dict[str, Any]:
        """The commands that are used."""
        return {"prior": self.options.prior, "forward": self.options.forward}
