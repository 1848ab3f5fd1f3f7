"""The receipt of a run: everything that a rerun must reproduce, in one JSON file."""

import ctypes
import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py

from pullback.core.atomic import write_atomic
from pullback.ensembles.stale_files import refuse_stale_files
from pullback.report.files import ReportError

PACKAGES = (
    "pullback",
    "numpy",
    "h5py",
    "h5netcdf",
    "xarray",
    "pydantic",
    "pyyaml",
    "torch",
    "lightning-fabric",
    "zuko",
    "devito",
    "uproot",
    "awkward",
    "pythia8mc",
    "fastjet",
    "vector",
    "scipy",
    "pandas",
    "POT",
    "scikit-image",
    "matplotlib",
    "jinja2",
    "snakemake",
)
RECEIPT_VERSION = 1
DIGEST = "content_digest"
LOCK = "requirements.lock"


def versions() -> dict[str, str | None]:
    """Python and the packages that results depend on; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def write_receipt(job: str, data: list[Path], models: list[Path], lock: str, out: Path) -> None:
    """Write the receipt.

    Everything that a rerun must reproduce has its own key; machine, time and place of the run are under ``machine``,
    which comparisons ignore.

    Args:
        job: ``Plan.receipt_job()``.
        data: index files of ensembles and posteriors; their content digests are recorded.
        models: artifacts of methods, priors and likelihoods; the SHA-256 of the file is recorded.
        lock: SHA-256 of the lock file of the environment.
        out: JSON file.

    Raises:
        ReportError: a file is missing, or an HDF5 file carries no content digest.
    """
    parsed = json.loads(job)
    refuse_stale_files(parsed, data=data)
    study = parsed["study"]
    receipt = {
        "receipt_version": RECEIPT_VERSION,
        "study": study,
        "threads": study.get("threads", 1),
        "seeds": {"root": study.get("seed"), "repeats": list(range(study.get("seeds", 1)))},
        "lock": {"file": LOCK, "sha256": lock},
        "git": git_state(Path.cwd()),
        "versions": versions(),
        "data": {name_of(path): content_digest(path) for path in data},
        "models": {name_of(path): file_digest(path) for path in models},
        "machine": machine(),
    }
    write_atomic(out, json.dumps(receipt, indent=1, sort_keys=True, allow_nan=False) + "\n")


def name_of(path: Path) -> str:
    """The file as the study names it: from ``results/`` on, so that receipts of two folders agree."""
    parts = Path(path).parts
    return "/".join(parts[len(parts) - parts[::-1].index("results") - 1 :] if "results" in parts else parts[-3:])


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        ReportError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ReportError(
            f"{path}: cannot be read for the receipt ({error.strerror}); run the workflow again"
        ) from None


def content_digest(path: Path) -> str:
    """The content digest that an ensemble's or posterior's index file carries.

    Raises:
        ReportError: the file is not HDF5, or has no digest.
    """
    try:
        with h5py.File(path) as file:
            found = file.attrs.get(DIGEST)
    except OSError as error:
        raise ReportError(f"{path}: not a readable HDF5 file ({error}); run the rule that makes it again") from None
    if found is None:
        raise ReportError(f"{path}: no attribute '{DIGEST}'; the receipt wants index files that pullback wrote")
    return found.decode() if isinstance(found, bytes) else str(found)


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the repository around a folder and whether tracked files differ from it; None outside git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if status is None else bool(status)}


def machine() -> dict[str, Any]:
    """The machine and time of the run: processor, cores, memory, GPU, host, time."""
    from datetime import UTC, datetime

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": _gpu(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _gpu() -> str | None:
    """The name of the first GPU that torch sees; None without torch or without a driver."""
    from importlib.util import find_spec

    # Torch takes two seconds to import.
    if find_spec("torch") is None or not _has_driver():
        return None
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _has_driver() -> bool:
    """Whether this machine has a driver of NVIDIA's or AMD's, without which torch sees no GPU."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True
