"""``pullback inspect``: what an outside file holds, and the block ``read`` with which it would be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pullback.cli.common import Refused, table

if TYPE_CHECKING:
    from pullback.readers.base import Inspection


@click.command(
    epilog="""\b
Examples:
  pullback inspect jets.root
  pullback inspect shots.segy --plot shots.png

\b
Exit status: 0 it can be read; 2 wrong usage, or a file that cannot be read."""
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--plot", metavar="PNG", type=click.Path(path_type=Path), help="Draw what the file holds.")
def inspect(file: Path, plot: Path | None) -> None:
    """Print what FILE holds (ROOT, SEG-Y, Seismic Unix, netCDF, HDF5, NumPy) and a `read:` block to paste.

    The file goes under `files` of a family of a study; the keys that cannot be known from it are left to you.
    `pullback check` then compares it with the problem.
    """
    import yaml

    from pullback.core.optional import MissingExtraError
    from pullback.readers.base import ReadError

    try:
        found = _inspected(file)
    except (ReadError, MissingExtraError, OSError) as error:
        raise Refused(str(error)) from None
    click.echo(table(found.lines))
    if found.read is not None:
        click.echo("\nread:")
        text = yaml.safe_dump(found.read, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
        click.echo("".join(f"  {line}\n" for line in text.splitlines()), nl=False)
    else:
        click.echo(f"\nno block `read` follows from it{': ' + found.hint if found.hint else ''}")
    if plot is not None:
        _draw(found, file, plot)


def _inspected(file: Path) -> Inspection:
    """What the reader of such files says, by the ending of the name."""
    from pullback import registry

    readers = [registry.load("readers", kind) for kind in registry.kinds("readers")]
    able = [reader for reader in readers if file.suffix.lower() in reader.suffixes]
    if not able:
        known = ", ".join(sorted({suffix for reader in readers for suffix in reader.suffixes}))
        raise Refused(f"{file}: no reader knows the ending '{file.suffix}': known are {known}")
    return able[0].inspect(file)


def _draw(found: Inspection, file: Path, plot: Path) -> None:
    import numpy as np

    from pullback.core.optional import require

    if not found.plots:
        raise Refused(f"{file}: there is nothing to draw")
    require("matplotlib", "evaluate")
    from matplotlib.figure import Figure

    columns = min(4, len(found.plots))
    rows = -(-len(found.plots) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.8 * rows), layout="constrained")
    for number, (title, values) in enumerate(found.plots.items()):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.set_title(title, fontsize=9)
        if values.ndim == 1:
            axes.hist(values[np.isfinite(values)], bins=60)
            axes.set_yscale("log")
        else:
            centred = values.min() < 0 < values.max()
            limit = float(np.percentile(np.abs(values), 98)) if centred else None
            image = axes.imshow(
                values, aspect="auto", cmap="RdBu" if centred else "viridis",
                vmin=-limit if limit else None, vmax=limit or None,
            )  # fmt: skip
            figure.colorbar(image, ax=axes)
    try:
        figure.savefig(plot, dpi=120)
    except (OSError, ValueError) as error:
        raise Refused(f"{plot}: cannot be written ({error}): give the name of a .png file") from None
    click.echo(f"\n{plot}: drawn")
