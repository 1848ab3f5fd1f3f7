"""Shared parts of the commands: the study argument, errors, and the format of numbers and tables."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pullback.study.job_params import Plan

FINE, FOUND, REFUSED = 0, 1, 2

study_argument = click.argument("study", type=click.Path(path_type=Path), default=Path("config/config.yaml"))
profile_option = click.option(
    "--profile", metavar="NAME", help="Profile of Snakemake: its threads, GPUs and triggers count (as in a run)."
)


class Refused(click.ClickException):
    """A usage error or an invalid study: one-line message, exit status 2."""

    exit_code = REFUSED

    def show(self, file: Any = None) -> None:
        """Write the message to stderr."""
        click.echo(f"pullback: {self.message}", err=True)


def open_plan(study: Path) -> Plan:
    """The plan of a study file.

    Raises:
        Refused: it is not there, or cannot run.
    """
    from pullback.study import StudyError
    from pullback.study.opening import plan_of

    try:
        return plan_of(study)
    except StudyError as error:
        raise Refused(str(error)) from None


def duration(seconds: float) -> str:
    """A duration as text: ``0.4 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int, what: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def tally(rules: Iterable[str]) -> str:
    """``train 2, infer 6``: in the order in which they come."""
    return ", ".join(f"{rule} {number}" for rule, number in Counter(rules).items())


def table(rows: Iterable[Sequence[str]]) -> str:
    """A table of text, row by row; the last column is wrapped to the width of the terminal (a log: 120)."""
    lines = [list(row) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    left = sum(widths) + 2 * len(widths)
    room = max(shutil.get_terminal_size((120, 24)).columns - left, 24)
    text = []
    for line in lines:
        ahead = "".join(f"{cell:<{width}}  " for cell, width in zip(line[:-1], widths, strict=True))
        wrapped = textwrap.wrap(line[-1], room, break_on_hyphens=False) or [""]
        text.append((ahead + wrapped[0]).rstrip())
        text += [" " * left + more for more in wrapped[1:]]
    return "\n".join(text)
