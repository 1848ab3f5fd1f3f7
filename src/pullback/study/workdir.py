"""Checks of the working directory before a run, with one-line errors instead of Snakemake's tracebacks."""

import logging
import os
import shlex
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pullback.core.atomic import free_space
from pullback.study import paths
from pullback.study.reading import StudyError

LEAST_FREE_BYTES = 1_000_000
"""Snakemake needs this much for its locks and records, whatever the jobs need."""

CLOCKS_DIFFER_SECONDS = 10
"""Clocks of machines that share a disk may differ by this much: most jobs take longer."""


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


def refuse_future_dates(files: Iterable[Path | str]) -> None:
    """Refuse inputs that are newer than now: of whatever is made from them Snakemake says that it is too old, and
    deletes it with a training's checkpoints, when the job has run to its end.

    Raises:
        StudyError: naming the first such file.
    """
    now = time.time()
    for file in files:
        with suppress(OSError):
            dated = max(os.stat(file).st_mtime, os.lstat(file).st_mtime)
            if dated > now + CLOCKS_DIFFER_SECONDS:
                when, here = (datetime.fromtimestamp(t).isoformat(" ", "seconds") for t in (dated, now))
                raise StudyError(
                    f"{file} is dated in the future ({when}; here it is {here}), and Snakemake would delete what is "
                    f"made from it: touch {shlex.quote(str(file))}, or correct the clock"
                )


def _refuse_read_only(folder: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
        why = "its file system is read-only" if read_only else "permission denied"
        raise StudyError(
            f"{folder.resolve()} cannot be written ({why}): make it writable, or run in another folder "
            "(snakemake --directory)"
        )
