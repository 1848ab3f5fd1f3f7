"""``pullback export``: results in formats of other programs."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pullback.cli.common import Refused, count

if TYPE_CHECKING:
    import numpy as np

    from pullback.report.unfolded.normalisation import Normalisation

WHAT = ("mean", "std", "draw", "truth", "y")
FIELDS, SEGY = ".nc", (".segy", ".sgy")
EVENTS, TABLE, HEPDATA = (".root", ".parquet"), ".csv", ".tar.gz"
KNOWN = (FIELDS, *SEGY, *EVENTS, TABLE, HEPDATA)


@click.command(
    epilog="""\b
Examples:
  pullback export results/x/posteriors/fwi/enkg/default/seed-0/salt.h5 --to salt.nc
  pullback export results/x/posteriors/fwi/enkg/default/seed-0/salt.h5 --to mean.segy --what mean --events 0:10
  pullback export results/x/ensembles/fwi/salt/test.h5 --to gathers.segy --what y --events 3
  pullback export results/x/unfolded/jets/omnifold/default/seed-0/data.h5 --to data.root --rntuple
  pullback export results/x/posteriors/jets/ei-fm/default/seed-0/data.h5 --to data.parquet
  pullback export results/x/unfolded/jets/omnifold/default/seed-0/data.h5 --to hepdata.tar.gz \\
    --bins pt=30,50,80,120,200 --luminosity 138

\b
Exit status: 0 it is written; 2 wrong usage, or a file that cannot be exported."""
)
@click.argument("source", metavar="RESULT", type=click.Path(path_type=Path))
@click.option("--to", "target", metavar="FILE", required=True, type=click.Path(path_type=Path), help="A new file.")
@click.option("--events", metavar="FIRST:END", help="Rows of the file: 0:10 the first ten, 3 one.  [default: all]")
@click.option(
    "--what",
    multiple=True,
    type=click.Choice(WHAT),
    help="Given several times for several.  [default: .nc all; .csv all but draws; .segy mean of a posterior, truth of "
    "an ensemble]",
)
@click.option("--draw", type=click.IntRange(0), default=0, show_default=True, help="Which, for SEG-Y.")
@click.option("--rntuple", is_flag=True, help="In .root an RNTuple in place of a TTree.")
@click.option(
    "--bins",
    multiple=True,
    metavar="FEATURE=EDGES",
    help="pt=30,50,80: bins of .tar.gz and of .csv; given several times for several features.  [default of .tar.gz: "
    "those of --budget, else the method's own, else those of the study's metrics]",
)
@click.option(
    "--systematic",
    multiple=True,
    metavar="NAME=RESULT",
    help="For .tar.gz and .csv: another result, unfolded with a systematic shift; its difference is an uncertainty.",
)
@click.option(
    "--budget",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="For .tar.gz and .csv: the study's uncertainty budget, uncertainties/<problem>.h5, whose sources are "
    "uncertainties.",
)
@click.option("--luminosity", metavar="FB", type=click.FloatRange(0, min_open=True), help="Of the data, 1/fb.")
@click.option(
    "--cross-section",
    metavar="PB",
    type=click.FloatRange(0, min_open=True),
    help="Of all unfolded events, pb: what the weights are scaled to.",
)
def export(
    source: Path,
    target: Path,
    events: str | None,
    what: tuple[str, ...],
    draw: int,
    rntuple: bool,
    bins: tuple[str, ...],
    systematic: tuple[str, ...],
    budget: Path | None,
    luminosity: float | None,
    cross_section: float | None,
) -> None:
    """Export a result: a posterior, an unfolded distribution, or an ensemble.

    FILE says the format by its ending. Of a posterior or an ensemble: .nc (netCDF: draws, mean, standard deviation,
    truth and observations, with coordinates, units and provenance), .segy (of waves: one velocity map or the shot
    gathers of one event; for several events FILE-000.segy and so on, by row), .csv (a line for each event). Of a
    posterior or an unfolded distribution: .root and .parquet (unfolded events: draws, or truths with nominal and
    replica weights), .csv of truths or bins, .tar.gz (a HEPData submission: spectra with covariance).

    What is exported event by event or draw by draw keeps weight, group and source of each event. Files never replace
    others.
    """
    from pullback.core.atomic import StoreError
    from pullback.core.optional import MissingExtraError
    from pullback.readers.segy_layout import SegyError
    from pullback.report.export import ExportError
    from pullback.report.unfolded.normalisation import Normalisation

    ending = next((each for each in KNOWN if target.name.lower().endswith(each)), None)
    if ending is None:
        raise Refused(f"{target}: ending '{target.suffix.lower()}' is not known: give {_listed(KNOWN)}")
    if ending in SEGY and len(what) > 1:
        raise Refused(f"--what {', '.join(what)}: a SEG-Y file holds one of them; export each, or to .nc")
    binned = ending == HEPDATA or (ending == TABLE and bool(bins or systematic or budget))
    _refuse_idle(ending, binned, what=what, rntuple=rntuple, bins=bins, systematic=systematic, draw=draw, budget=budget)
    if not source.exists():
        raise Refused(f"{source}: there is no such file{_how_to_make(source)}")
    scale = Normalisation(luminosity, cross_section)
    try:
        with ExitStack() as stack:
            if binned or ending in EVENTS or (ending == TABLE and _is_unfolded(source, what)):
                said = _unfolded(
                    stack, source, target, ending, events, rntuple, (bins, systematic, budget), binned, scale
                )
                click.echo(said)
            else:
                _events(stack, source, target, ending, events, what, draw, scale.metadata)
    except (ExportError, StoreError, SegyError, MissingExtraError) as error:
        raise Refused(str(error)) from None


def _events(
    stack: ExitStack,
    source: Path,
    target: Path,
    ending: str,
    events: str | None,
    what: tuple[str, ...],
    draw: int,
    more: dict[str, Any],
) -> None:
    """What is exported event by event."""
    from pullback.report.event_table import export_csv
    from pullback.report.export import Source, export_netcdf, export_segy

    found = Source(stack, source)
    rows = _rows(events, found.n, source)
    if ending in SEGY:
        one = what[0] if what else "mean" if found.draws else "truth"
        for path, row in export_segy(found, rows, target, one, draw):
            click.echo(f"{path}: {one} of event {row}")
        return
    write = export_netcdf if ending == FIELDS else export_csv
    written = write(found, rows, target, what, more)
    click.echo(f"{target}: {count(len(rows), 'event')} with {', '.join(written)}")
    if not found.has_events:
        click.echo(f"{target}: without weight, group and source of the events: their ensemble is not there", err=True)


def _unfolded(
    stack: ExitStack,
    source: Path,
    target: Path,
    ending: str,
    events: str | None,
    rntuple: bool,
    binning: tuple[tuple[str, ...], tuple[str, ...], Path | None],
    binned: bool,
    scale: Normalisation,
) -> str:
    """What is exported of unfolded events; what was written."""
    from pullback.report.unfolded.budgets import budget_of, sources_of
    from pullback.report.unfolded.files import WRITERS, write_rntuple
    from pullback.report.unfolded.hepdata import write_hepdata
    from pullback.report.unfolded.opening import open_rows
    from pullback.report.unfolded.published import write_spectra_csv
    from pullback.report.unfolded.spectra import spectra_of, usual_edges

    rows = open_rows(source, stack)
    if events is not None:
        if "events" not in rows.metadata:
            raise Refused(f"--events {events}: {source} has no events of its own: leave --events out")
        rows = open_rows(source, stack, _rows(events, rows.metadata["events"], source))
    rows.metadata |= scale.metadata
    if not binned and (rows.n or ending != TABLE):
        (write_rntuple if rntuple else WRITERS[ending])(rows, target)
        return f"{target}: {count(rows.n, 'row')} of {', '.join(rows.columns)}"
    bins, systematic, path = binning
    budget = budget_of(path, rows) if path else None
    edges = _edges(bins) or (budget.edges if budget else usual_edges(rows))
    spectra = spectra_of(rows, edges)
    shifted: dict[str, dict[str, np.ndarray]] = {}
    for each in systematic:
        name, _, other_path = each.partition("=")
        if not other_path:
            raise Refused(f"--systematic {each}: wanted NAME=RESULT")
        other = spectra_of(open_rows(Path(other_path), stack), edges)
        shifted[name] = {feature: other.bins(feature).content for feature in edges}
    sources = sources_of(path, budget, edges) if path and budget else {}
    if ending == HEPDATA:
        tables = write_hepdata(rows, spectra, target, scale, shifted, sources)
        return f"{target}: {count(len(tables), 'table')}: {', '.join(tables)}"
    write_spectra_csv(rows, spectra, target, scale, shifted, sources)
    return f"{target}: {count(sum(len(each) - 1 for each in edges.values()), 'bin')} of {', '.join(edges)}"


def _edges(bins: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Edges by feature from ``pt=30,50,80``."""
    import numpy as np

    found = {}
    for each in bins:
        feature, _, edges = each.partition("=")
        try:
            found[feature] = np.array([float(edge) for edge in edges.split(",")])
        except ValueError:
            raise Refused(f"--bins {each}: wanted FEATURE=EDGE,EDGE,... such as pt=30,50,80") from None
    return found


def _is_unfolded(source: Path, what: tuple[str, ...]) -> bool:
    """Whether a CSV file is of unfolded events: of a distribution, or of draws."""
    from pullback.ensembles import hdf5
    from pullback.ensembles.unfolded import KIND

    if what and "draw" in what:
        if len(what) > 1:
            raise Refused(f"--what {', '.join(what)}: a CSV file has a line for each draw or for each event")
        return True
    with hdf5.open_any(source) as file:
        return file.attrs.get("kind") == KIND


def _refuse_idle(ending: str, binned: bool, **given: Any) -> None:
    """Refuse options that do nothing for a format."""
    used = {
        "what": ending in (FIELDS, TABLE, *SEGY) and not binned,
        "draw": ending in SEGY,
        "rntuple": ending == ".root",
        "bins": binned,
        "systematic": binned,
        "budget": binned,
    }
    for name, value in given.items():
        if value and not used[name]:
            raise Refused(f"--{name} does nothing for {ending}: leave it out")


def _how_to_make(source: Path) -> str:
    """For a result that is not there: the nearest one that is, and the target that makes it."""
    from pullback.registry import did_you_mean

    parts = source.parts
    if "results" not in parts[:-2]:
        return ""
    start = len(parts) - parts[::-1].index("results") - 1
    study = Path(*parts[: start + 2])
    there = [str(path) for kind in ("posteriors", "unfolded", "ensembles") for path in (study / kind).rglob("*.h5")]
    target = "/".join(parts[start:])
    make = f"snakemake --cores all --configfile STUDY -- {target}"
    return f"{did_you_mean(str(source), there) or '.'} To have it made, STUDY the file of '{study.name}': {make}"


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


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
