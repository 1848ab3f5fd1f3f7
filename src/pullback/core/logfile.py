"""A log file that survives a full disk: the job continues, and one line on stderr reports the truncated log."""

import logging
import sys
from contextlib import suppress
from pathlib import Path

from pullback.core.atomic import refusal


class LogFile(logging.FileHandler):
    """Writes a log; the first line that cannot be written is one line on stderr, and the job goes on."""

    cut_short = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Report the first failed write once, instead of a traceback for every record."""
        error = sys.exc_info()[1]
        self._say(error if isinstance(error, OSError) else OSError(str(error)))

    def flush(self) -> None:
        """Flush the file."""
        try:
            super().flush()
        except OSError as error:
            self._say(error)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            super().close()

    def _say(self, error: OSError) -> None:
        if not self.cut_short:
            self.cut_short = True
            print(f"pullback: the log is cut short: {refusal(Path(self.baseFilename), error)}", file=sys.stderr)


def open_log(path: str, mode: str = "w") -> LogFile:
    """Open a job's log, or end the job with one line on stderr."""
    try:
        return LogFile(path, mode)
    except OSError as error:
        print(f"pullback: {refusal(Path(path), error)}", file=sys.stderr)
        raise SystemExit(1) from None
