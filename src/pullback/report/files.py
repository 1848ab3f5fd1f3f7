"""Text files of the report's jobs, and the error that they raise."""

import json
from pathlib import Path

from pullback.core.atomic import write_atomic


class ReportError(ValueError):
    """An input that the report cannot show; the message names the file, what was found and what is wanted."""


def write_resolved(job: str, out: Path) -> None:
    """Write the study as it runs (``Plan.resolved()``), for people: indented."""
    write_atomic(out, json.dumps(json.loads(job), indent=1, sort_keys=True) + "\n")
