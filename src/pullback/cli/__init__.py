"""The command line: check, inspect, why, resources, compare, export.

No command changes a file of a study. Each command is one file here; what it needs is imported when it runs, so that
``pullback --help`` answers at once, and no job of the workflow needs click.
"""

import click

from pullback.cli.check import check
from pullback.cli.compare import compare
from pullback.cli.export import export
from pullback.cli.inspect import inspect
from pullback.cli.resources import resources
from pullback.cli.why import why


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  pullback check config/config.yaml          before a run is queued
  pullback inspect shots.segy                what a file holds, and the block that reads it
  pullback why config/config.yaml            which jobs would run, and what caused each
  pullback resources config/config.yaml      memory and time of the last run, rule by rule
  pullback compare a/results/x b/results/x   do two runs agree?
  pullback export POSTERIOR.h5 --to x.nc     draws, mean, spread, truth and observations in one file
  pullback export UNFOLDED.h5 --to x.root    unfolded events; .parquet, .csv, .tar.gz for HEPData

\b
Exit status: 0 fine, or nothing to do; 1 something was found (jobs that would run, a problem, a difference);
2 wrong usage, or a study that cannot run.

Run the workflow itself with snakemake (or `make run`). Commands work in the folder that holds results/.""",
)
@click.version_option(package_name="pullback")
def cli() -> None:
    """Check, explain, compare and export studies of pullback. No command runs a job or changes results."""


for command in (check, inspect, why, resources, compare, export):
    cli.add_command(command)


def main() -> None:
    """The entry point."""
    cli(prog_name="pullback")
