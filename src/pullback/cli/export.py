"""``pullback export``: results in formats of other programs."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path

import click

from pullback.cli.common import Refused, count

WHAT = ("mean", "std", "draw", "truth", "y")
NETCDF, SEGY = (".nc",), (".segy", ".sgy")


@click.command(
    epilog="""\b
Examples:
  pullback export results/x/posteriors/fwi/enkg/default/seed-0/salt.h5 --to salt.nc
  pullback export results/x/posteriors/fwi/enkg/default/seed-0/salt.h5 --to mean.segy --what mean --events 0:10
  pullback export results/x/ensembles/fwi/salt/test.h5 --to gathers.segy --what y --events 3

\b
Exit status: 0 it is written; 2 wrong usage, or a file that cannot be exported."""
)
@click.argument("source", metavar="POSTERIOR_OR_ENSEMBLE", type=click.Path(path_type=Path))
@click.option("--to", "target", metavar="FILE", required=True, type=click.Path(path_type=Path), help="A new file.")
@click.option("--events", metavar="FIRST:END", help="Rows of the file: 0:10 the first ten, 3 one.  [default: all]")
@click.option(
    "--what",
    multiple=True,
    type=click.Choice(WHAT),
    help="Given several times for several.  [default: .nc all; .segy mean of a posterior, truth of an ensemble]",
)
@click.option("--draw", type=click.IntRange(0), default=0, show_default=True, help="Which, for SEG-Y.")
def export(source: Path, target: Path, events: str | None, what: tuple[str, ...], draw: int) -> None:
    """Export draws, their mean and standard deviation, truth and observations to netCDF or SEG-Y.

    FILE ends in .nc (netCDF: all variables, with coordinates, units and provenance) or .segy (of waves: one
    velocity map or the shot gathers of one event; for several events FILE-000.segy and so on, by row).
    """
    from pullback.core.atomic import StoreError
    from pullback.core.optional import MissingExtraError
    from pullback.readers.segy_layout import SegyError
    from pullback.report.export import ExportError, Source, export_netcdf, export_segy

    kind = target.suffix.lower()
    if kind not in NETCDF + SEGY:
        raise Refused(f"{target}: ending '{kind}' is not known: give .nc, .segy or .sgy")
    if kind in SEGY and len(what) > 1:
        raise Refused(f"--what {', '.join(what)}: a SEG-Y file holds one of them; export each, or to .nc")
    try:
        with ExitStack() as stack:
            found = Source(stack, source)
            rows = _rows(events, found.n, source)
            if kind in NETCDF:
                written = export_netcdf(found, rows, target, what)
                click.echo(f"{target}: {count(len(rows), 'event')} with {', '.join(written)}")
                return
            one = what[0] if what else "mean" if found.draws else "truth"
            for path, row in export_segy(found, rows, target, one, draw):
                click.echo(f"{path}: {one} of event {row}")
    except (ExportError, StoreError, SegyError, MissingExtraError) as error:
        raise Refused(str(error)) from None


def _rows(events: str | None, n: int, source: Path) -> range:
    """Rows of the file from ``3`` or ``0:10``."""
    if events is None:
        return range(n)
    first, colon, last = events.partition(":")
    with suppress(ValueError):
        start = int(first or 0)
        found = range(n)[start : (int(last) if last else None) if colon else start + 1]
        if found and start >= 0:
            return found
    raise Refused(f"--events {events}: wanted FIRST:END or one number within 0:{n}, the events of {source}")
