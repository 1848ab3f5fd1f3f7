"""The job that checks a problem's simulator once, before the jobs that share what it compiles."""

import json
import logging
from pathlib import Path
from typing import Any

from pullback.core.atomic import atomic
from pullback.problems.base import problem_of

log = logging.getLogger("pullback")


def preflight(job: str, out: Path | str) -> None:
    """Check a simulator's settings, compile what parallel jobs share, and write the numbers as JSON.

    Args:
        job: `Plan.preflight_job`.
        out: the JSON file.
    """
    spec = json.loads(job)
    problem = problem_of(spec)
    check = getattr(problem, "preflight", None)
    numbers: dict[str, Any] = check() if check else {}
    for name, value in numbers.items():
        log.info("%s: %s", name, value)
    with atomic(out) as path:
        path.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")
