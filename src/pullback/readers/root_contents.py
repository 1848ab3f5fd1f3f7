"""What a ROOT file holds, and the block `read` that its names suggest."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from pullback.readers.base import Inspection, ReadError
from pullback.readers.branches import counter_of
from pullback.readers.jet_values import (
    ANGLE_MAX,
    MASS_MAX,
    NONE,
    PT_MEDIAN_MAX,
    PT_MEDIAN_MIN,
    angle_unit,
    momentum_unit,
)
from pullback.readers.presets import PRESETS, preset_of
from pullback.readers.root_table import RootTable, open_root
from pullback.readers.units import factor
from pullback.study.reader_spec import PLACEHOLDERS

FIRST = 1000
"""Entries that ranges are taken from."""
MANY = 300
"""Of a table with more columns the values of those alone are looked at that a branch map may name."""
_FEATURE = re.compile(r"(.*?)(?:[_.]?(pt|eta|phi|mass)|[_.](m))", re.IGNORECASE)
"""Beginning of a name, and the feature that it ends with."""
_TRUTH = re.compile(r"gen|truth|true|particle|hadron|mc", re.IGNORECASE)
_MATCH = re.compile(r"(gen|truth|true|match).*(idx|index|match)|match", re.IGNORECASE)
WEIGHTS = ("genWeight", "weight", "weights", "mcEventWeight", "mcEventWeights", "eventWeight", "event_weight")


def inspect(path: Path) -> Inspection:
    """What a ROOT file holds, for ``pullback inspect``.

    Raises:
        ReadError: no ROOT file, or damaged.
    """
    contents = describe(path)
    read = propose(contents)
    lines = [(str(path), f"ROOT, {len(contents['trees'])} trees")]
    for tree in contents["trees"]:
        of = f"{tree['kind']}, {tree['entries']} entries, {len(tree['columns'])} columns"
        lines.append((tree["tree"], tree.get("error", of)))
        lines += [
            (
                f"  {column['name']}",
                "is not in the block: weights are not all zero or negative",
            )
            for column in tree["columns"]
            if column["name"] in WEIGHTS and not _can_weigh(column)
        ]
        known = [column for column in tree["columns"] if len(tree["columns"]) <= MANY or column["range"]]
        lines += [(f"  {column['name']}", _say(column)) for column in known]
        if left := len(tree["columns"]) - len(known):
            lines.append(("  ...", f"{left} more columns, which are not named like jets, weights or matches"))
    hint = "no lists are named like jets (..._pt, ..._eta, ..._phi): name them in `y`, and those of truth jets in `x`"
    return Inspection(lines, read, "" if read else hint, _plots(path, read) if read else {})


def _say(column: dict[str, Any]) -> str:
    lists = "a list in each entry, " if column["lists"] else ""
    reach = "{:.6g} to {:.6g}".format(*column["range"]) if column["range"] else "no numbers"
    return f"{column['type']}: {lists}{reach}"


def _plots(path: Path, read: dict[str, Any]) -> dict[str, np.ndarray]:
    """The values of the branches that a block names, in the first entries."""
    plots = {}
    preset = PRESETS[read["preset"]] if "preset" in read else {}
    read = {**preset, **read}
    with RootTable(path, read["tree"]) as table:
        for name in (
            name for of in ("y", "x") for key, name in read.get(of, {}).items() if key not in ("units", "count")
        ):
            column = table.column(name, 0, min(FIRST, table.entries))
            plots[name] = column.values[~column.missing].astype(np.float64)
    return plots


def describe(path: Path) -> dict[str, Any]:
    """The tables of a ROOT file with their columns, and the range of each in the first entries.

    Returns:
        ``format``, ``path``, and ``trees``: of each ``tree``, ``kind``, ``entries`` and ``columns``; of these ``name``,
        ``type``, ``lists`` (whether an entry has a list of numbers), ``range`` of the numbers and ``median`` of their
        sizes, but for zeros and placeholders; these three None where it holds no numbers or was not looked at; and
        ``fixed``, whether all entries have arrays of one length. A tree that cannot be read has an ``error``.

    Raises:
        ReadError: no ROOT file, or damaged.
    """
    file, tables = open_root(Path(path))
    file.close()
    trees: list[dict[str, Any]] = []
    for key, kind in tables.items():
        try:
            with RootTable(path, key) as table:
                names = table.names
                columns = [_column(table, name, len(names) <= MANY or _may_be_mapped(name)) for name in names]
                trees.append({"tree": key, "kind": kind, "entries": table.entries, "columns": columns})
        except ReadError as error:
            trees.append({"tree": key, "kind": kind, "entries": 0, "columns": [], "error": str(error)})
    known = [tree["tree"].rpartition(";")[0] for tree in trees]
    for tree, name in zip(trees, known, strict=True):
        if known.count(name) == 1:
            tree["tree"] = name
    return {"format": "root", "path": str(path), "trees": trees}


def _may_be_mapped(name: str) -> bool:
    return bool(_FEATURE.fullmatch(name) or _MATCH.search(name) or name in WEIGHTS)


def _column(table: RootTable, name: str, with_values: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "type": table.typename(name), "lists": None, "range": None, "median": None}
    found["fixed"] = False
    if not with_values:
        return found
    try:
        column = table.column(name, 0, min(FIRST, table.entries))
    except ReadError:
        return found
    found["lists"], found["fixed"] = column.counts is not None, column.fixed
    values = column.values[~column.missing]
    values = values[np.isfinite(values)].astype(np.float64)
    if len(values):
        found["range"] = [float(values.min()), float(values.max())]
        # Zeros and placeholders pad arrays of fixed length.
        there = np.abs(values[(values != 0) & ~np.isin(values, [*NONE, *PLACEHOLDERS])])
        found["median"] = float(np.median(there)) if len(there) else 0.0
    return found


def propose(contents: dict[str, Any]) -> dict[str, Any] | None:
    """A block `read` for the first table that holds jets, by the names of its columns; None where none does.

    Args:
        contents: as `describe` gives them.
    """
    for tree in contents["trees"]:
        columns = {column["name"]: column for column in tree["columns"] if column["lists"] is not None}
        jets = _jets({name for name, column in columns.items() if column["lists"]})
        reco = _best([stem for stem in jets if not _TRUTH.search(stem)])
        if reco is None:
            continue
        read: dict[str, Any] = {"kind": "root", "files": {"test": [contents["path"]]}, "tree": tree["tree"]}
        read["y"] = _with_units(jets[reco], columns)
        truth = _best([stem for stem in jets if _TRUTH.search(stem)])
        if truth is not None:
            read["x"] = _with_units(jets[truth], columns)
            found = [name for name in columns if name.startswith(reco) and _is_match(columns[name], reco)]
            if found:
                read["match"] = min(found, key=len)
        weights = [name for name in WEIGHTS if name in columns and _can_weigh(columns[name])]
        if weights:
            read["weight"] = weights[0] + ("[0]" if columns[weights[0]]["lists"] else "")
        preset = preset_of(read)
        return {"kind": "root", "files": read["files"], "preset": preset} if preset else read
    return None


def _can_weigh(column: dict[str, Any]) -> bool:
    """Whether these weights can have a positive sum."""
    _, high = column["range"] or (0.0, 0.0)
    return bool(high > 0)


def _jets(names: set[str]) -> dict[str, dict[str, str]]:
    """Beginning of the names -> the names of pt, eta, phi and, where there is one, mass."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        if match := _FEATURE.fullmatch(name):
            found.setdefault(match[1], {}).setdefault(match[2].lower() if match[2] else "mass", name)
    order = ("pt", "eta", "phi", "mass")
    return {
        stem: {feature: features[feature] for feature in order if feature in features}
        for stem, features in found.items()
        if {"pt", "eta", "phi"} <= features.keys()
    }


def _best(stems: list[str]) -> str | None:
    """The one that is named after jets, or the only one; of several the shortest."""
    named = [stem for stem in stems if "jet" in stem.lower()]
    chosen = named or (stems if len(stems) == 1 else [])
    return min(chosen, key=lambda stem: (len(stem), stem), default=None)


def _is_match(column: dict[str, Any], stem: str) -> bool:
    """Whether a column holds the numbers of truth jets."""
    return bool(column["lists"] and "int" in column["type"].lower() and _MATCH.search(column["name"][len(stem) :]))


def _with_units(names: dict[str, str], columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A branch map, with the units that its values suggest."""
    counter = counter_of(names.values(), columns.__contains__)
    if counter and columns[names["pt"]].get("fixed"):
        return {**names, "count": counter}  # The values beyond are none, so that they say nothing of units.
    median = {feature: columns[name]["median"] or 0.0 for feature, name in names.items()}
    units = {}
    if median["pt"] > PT_MEDIAN_MAX:
        units["pt"] = momentum_unit(median["pt"])
    elif 0 < median["pt"] < PT_MEDIAN_MIN:
        units["pt"] = "TeV"
    pt = median["pt"] * (factor(units["pt"], "GeV") if "pt" in units else 1.0)
    if "mass" in names and median["mass"] > MASS_MAX * pt > 0:
        units["mass"] = momentum_unit(100 * median["mass"] / pt)
    if median["phi"] > ANGLE_MAX:
        units["phi"] = angle_unit(max(map(abs, columns[names["phi"]]["range"])))[0]
    return {**names, **({"units": units} if units else {})}
