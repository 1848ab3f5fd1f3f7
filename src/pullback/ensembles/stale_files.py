"""Stale files: results of another config, refused by every reader.

The parameters of a job contain, under ``inputs``, the digest of the job that must have made each of its input files
(`pullback.study.job_params`). A file stores the digest of its job. Snakemake, which goes by records in ``.snakemake``
and by times, cannot see the difference when its records are lost: a copied folder, a main process that was killed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pullback.ensembles.hdf5 import StoreError, open_any, refuse_damage, remedy_for
from pullback.study.base import JOB_DIGEST_DIGITS

SHOWN = 5


class StaleFileError(StoreError):
    """Files of another config of the study."""


def job_digest_of(path: Path) -> str | None:
    """Digest of the job that made an HDF5 file of pullback."""
    with open_any(path) as file, refuse_damage(path, remedy_for(path)):
        found = file.attrs.get("spec_digest")
    return None if found is None else str(found)[:JOB_DIGEST_DIGITS]


def refuse_stale_files(
    job: Mapping[str, Any], reader: Callable[[Path], str | None] = job_digest_of, **inputs: Sequence[Path]
) -> None:
    """Compare input files with the current study; refuse stale ones.

    Args:
        job: of the plan, parsed. One without ``inputs``, written by hand, refuses nothing.
        reader: returns the job digest of a file.
        inputs: name of the inputs, as in ``job["inputs"]`` -> files.

    Raises:
        StaleFileError: a file was made for another config; the message names all of them, or the first five.
        StoreError: a file is missing or not readable.
    """
    for name, paths in inputs.items():
        wanted = job.get("inputs", {}).get(name)
        if wanted is None:
            continue
        left = [path for path, digest in zip(paths, wanted, strict=True) if reader(Path(path)) != digest]
        if left:
            more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            raise StaleFileError(
                f"{', '.join(map(str, left[:SHOWN]))}{more}: left behind by another config of this study, while "
                "Snakemake's records of how it was made are lost or were accepted by hand; delete it and run again "
                "(snakemake --forceall makes everything anew)"
            )
