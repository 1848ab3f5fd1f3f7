"""Checks of the working directory before a run, with one-line errors instead of Snakemake's tracebacks."""

import logging
import os
import shutil
from pathlib import Path

from pullback.core.atomic import free_space
from pullback.study import paths
from pullback.study.config import StudyError

LEAST_FREE_BYTES = 1_000_000
"""Snakemake needs this much for its locks and records, whatever the jobs need."""


def check_working_directory() -> None:
    """Check what every run needs, including dry runs: results folder, Snakemake's records, disk space.

    Raises:
        StudyError: the results are no folder, Snakemake cannot keep its records, or the disk is full.
    """
    # Snakemake's own log may be on that disk: each of its lines would be a traceback.
    logging.raiseExceptions = False
    _refuse_read_only(Path(".snakemake") if Path(".snakemake").exists() else Path("."))
    results = Path(paths.RESULTS)
    if results.is_symlink() and not results.exists():
        raise StudyError(
            f"{results} is a link to {os.readlink(results)}, which does not exist: mount it, or correct the link"
        )
    if results.exists() and not results.is_dir():
        raise StudyError(f"{results} is a file, wanted a folder: move it away and run again")
    for folder in filter(Path.exists, (Path("."), results)):
        if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
            raise StudyError(f"the disk is full: {free_space(folder.resolve())}. Make room there and run again")


def check_writable(study: str) -> None:
    """Check that the results folder is writable.

    Raises:
        StudyError: a folder of the study's results, or one that it would be made in, is not writable.
    """
    results = Path(paths.RESULTS, study)
    top = next(folder for folder in (results, *results.parents) if folder.exists())
    for folder in (top, *(child for child in top.glob("*") if child.is_dir() and top == results)):
        _refuse_read_only(folder)


def _refuse_read_only(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        why = "its file system is read-only" if read_only else "permission denied"
        raise StudyError(
            f"{folder.resolve()} cannot be written ({why}): make it writable, or run in another folder "
            "(snakemake --directory)"
        )
