"""Stopping of jobs at the time limit or on a signal of the scheduler.

A long job polls its clock after each piece of work. When the clock is due, the job saves its state and raises
`Stopped`; the same job, run again, continues from there. Results do not depend on when a job was stopped.
"""

import os
import signal
import subprocess
import threading
import time
from datetime import datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_STOPPED = 75
"""Exit status of a job that stopped with its state saved: EX_TEMPFAIL of sysexits.h, run it again."""

TIME_LIMIT = "PULLBACK_TIME_LIMIT"
"""Environment variable: the time limit of each job in seconds, for schedulers other than SLURM."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
MARGIN, LEAST_MARGIN_S = 0.1, 30.0
SQUEUE_S = 20.0
_IMPORTED = time.monotonic()


class Stopped(Exception):  # noqa: N818 (no error: it goes on)
    """A job that stopped before its end; its state is saved.

    Args:
        where: progress so far, "at step 1200 of 3000".
        reason: from `Clock.due`.
    """

    def __init__(self, where: str, reason: str):
        super().__init__(f"stopped {where}, {reason}; run it again and it goes on")
        self.where = where
        self.reason = reason


class Clock:
    """Says when a job must stop: close to its time limit, or when a scheduler has sent a signal.

    As a context it catches SIGTERM and SIGUSR1 (in the main thread; elsewhere signals cannot be caught), and puts back
    what was there before. SIGINT is not changed.

    Args:
        limit_s: time limit that was asked for, in seconds. It counts inside a SLURM job only, where it is enforced,
            from that job's start; PULLBACK_TIME_LIMIT in the environment counts everywhere, from this process's start,
            and takes its place.
        signals: whether to catch signals.

    Raises:
        ValueError: PULLBACK_TIME_LIMIT is not a number.
    """

    def __init__(self, limit_s: float | None = None, signals: bool = True):
        slurm_job = os.environ.get("SLURM_JOB_ID")
        if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
            # One task has the job's own id, by which squeue means all of them.
            slurm_job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        self.limit_s = limit_s if slurm_job else None
        self._began = time.monotonic() - process_age()
        if (given := os.environ.get(TIME_LIMIT)) is not None:
            try:
                self.limit_s = float(given)
            except ValueError:
                raise ValueError(f"{TIME_LIMIT} is '{given}'; wanted the seconds that a job may take") from None
        elif slurm_job and limit_s is not None and (left := slurm_seconds_left(slurm_job)) is not None:
            self._began = time.monotonic() + left - limit_s
        self._signals = signals
        self._caught = ""
        self._before: dict[signal.Signals, Any] = {}

    def due(self, next_s: float = 0.0) -> str | None:
        """The reason to stop now, or None.

        The limit is near when less than a tenth of it is left, or less than 30 s.

        Args:
            next_s: seconds until the next poll: a piece that would end too late is not started.
        """
        if self._caught:
            return f"on {self._caught}"
        if self.limit_s is None:
            return None
        age = time.monotonic() - self._began
        if age + next_s < self.limit_s - max(MARGIN * self.limit_s, LEAST_MARGIN_S):
            return None
        left = self.limit_s - age
        return f"{abs(left):.0f} s {'before' if left >= 0 else 'after'} the limit of {self.limit_s:.0f} s"

    def __enter__(self) -> Self:
        if self._signals and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._catch) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self._caught = signal.Signals(number).name


def slurm_seconds_left(job: str) -> float | None:
    """Seconds until SLURM ends a job; None where squeue does not say, as in a container without it.

    The environment of a job has its end from SLURM 23.02 on only, and Snakemake starts twice before a job's own
    process does.
    """
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%e"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=SQUEUE_S, check=True)
        return (datetime.fromisoformat(said.stdout.strip()) - datetime.now()).total_seconds()
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def process_age() -> float:
    """Seconds since this process was started; where /proc does not say it, since this module was imported."""
    try:
        # The name of the program, in brackets, may hold blanks; the start is the 20th number behind it, in ticks.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _IMPORTED
