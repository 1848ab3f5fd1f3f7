"""A line of CSV for each event: what was asked for, with the columns of the ensemble."""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from pullback.core.atomic import atomic
from pullback.report.export import ROWS, ExportError, Source, refuse_existing
from pullback.report.unfolded.files import write_table


def export_csv(
    source: Source, rows: range, target: Path, what: Sequence[str], more: Mapping[str, Any] = MappingProxyType({})
) -> list[str]:
    """Write a line for each event: ``mean_pt``, ``std_pt``, ``truth_pt``, ``y_pt``, and the columns of the ensemble.

    Where they came from is beside it, in ``target`` with ``.json`` behind.

    Args:
        source: a posterior or an ensemble.
        rows: of the file.
        target: the new file.
        what: keys of ``KINDS`` without ``draw``; all others that there are when empty.
        more: further metadata.

    Returns:
        What it has of each event.

    Raises:
        ExportError: something of this is not there or is no vector, or a target is there.
        pullback.core.atomic.StoreError: a file cannot be written.
    """
    beside = target.with_name(f"{target.name}.json")
    refuse_existing(target)
    refuse_existing(beside)
    what = [name for name in source.wanted(what) if name != "draw"]
    for name in what:
        field = source.field(name)
        if not field.is_vector:
            raise ExportError(f"{field.name} is ({', '.join(field.dims)}), and CSV holds vectors: export to .nc")

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for start in range(rows.start, rows.stop, ROWS):
            found = source.read(what, start, min(start + ROWS, rows.stop))
            flat = {name: values for name, values in found.items() if name not in what}
            for name in what:
                features = source.field(name).features
                flat |= {f"{name}_{feature}": found[name][:, j] for j, feature in enumerate(features)}
            yield flat

    files = source.columns.files if source.has_events else []
    units = {f"{name}_{feature}": unit for name in what for feature, unit in _units(source, name)}
    said = {**source.attributes, "source": source.path.name, "pullback_version": version("pullback"), **more}
    with atomic(target) as temporary, atomic(beside) as also:
        write_table(temporary, blocks(), files)
        also.write_text(json.dumps({**said, "units": units}, indent=1, default=str) + "\n", encoding="utf-8")
    return what


def _units(source: Source, name: str) -> Iterator[tuple[str, str]]:
    field = source.field(name)
    yield from zip(field.features, field.units, strict=True)
