"""Text files of the report's jobs, and the error that they raise."""

import json
from pathlib import Path

from pullback.core.atomic import write_atomic


class ReportError(ValueError):
    """An input that the report cannot show; the message names the file, what was found and what is wanted."""


def write_resolved(job: str, out: Path) -> None:
    """Write the study as it runs (``Plan.resolved()``), for people: indented. Those of its other configs are removed.

    A page is up to date where the file of its config is there and older. If that of an earlier config stayed, the page
    of a later one would be taken for its own once the edit is taken back.
    """
    out = Path(out)
    for other in out.parent.glob("study-*.json"):
        if other != out:
            other.unlink(missing_ok=True)
    write_atomic(out, json.dumps(json.loads(job), indent=1, sort_keys=True) + "\n")
