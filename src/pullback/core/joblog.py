"""Log of a job: a log file, a progress bar, and one-line errors on the terminal."""

import logging
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from pullback.core.logfile import open_log
from pullback.core.stopping import EXIT_STOPPED, Stopped

Item = TypeVar("Item")
log = logging.getLogger("pullback")


@contextmanager
def job_log(path: str) -> Iterator[None]:
    """Send this job's log to a file; an error goes there in full and to the terminal as one line.

    A job that stopped with its state saved says so in one line in both, and ends with exit status 75.
    """
    open_log(path).close()
    handler = log_to(path)
    try:
        yield
    except Stopped as stopped:
        log.info(str(stopped))
        print(f"pullback: {stopped}", file=sys.stderr)
        raise SystemExit(EXIT_STOPPED) from None
    except Exception as error:
        log.error("".join(traceback.format_exception(error)))
        print(f"pullback: {error}\n(details: {path})", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        handler.flush()
        log.removeHandler(handler)
        logging.getLogger("py.warnings").removeHandler(handler)
        handler.close()


def log_to(path: str) -> logging.FileHandler:
    """Add this process's log and warnings to a file; several processes may write to one."""
    handler = open_log(path, mode="a")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(handler)
    return handler


def log_files() -> list[str]:
    """The files that this process logs to."""
    return [handler.baseFilename for handler in log.handlers if isinstance(handler, logging.FileHandler)]


def progress(iterable: Iterable[Item], total: int | None = None, label: str = "") -> Iterator[Item]:
    """Iterate with a progress bar on a terminal, or with a line in the log every 15 seconds elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(iterable, total=total, desc=label, leave=False)
        return
    started = said = time.monotonic()
    for done, item in enumerate(iterable, start=1):
        yield item
        now = time.monotonic()
        if now - said > 15:
            said = now
            rate = done / (now - started)
            left = f", {(total - done) / rate:.0f} s left" if total else ""
            log.info("%s %d%s, %.3g/s%s", label, done, f"/{total}" if total else "", rate, left)
