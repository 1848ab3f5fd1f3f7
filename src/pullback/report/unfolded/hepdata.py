"""A HEPData submission: spectra with errors, statistical and systematic covariance and correlation (hepdata_lib).

https://hepdata-submission.readthedocs.io. The archive has a table for each feature, ``Distribution of <feature>``; a
table of covariance and correlation of the contents for each feature, and for each pair of them that was counted
together; and the metadata as an additional resource. Numbers have all their digits.
"""

import io
import json
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, redirect_stdout
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from pullback.core.atomic import atomic
from pullback.core.optional import require
from pullback.ensembles.unfolded import Bins
from pullback.report.export import ExportError, refuse_existing
from pullback.report.unfolded.files import checked, foreign
from pullback.report.unfolded.normalisation import WEIGHTS, Normalisation
from pullback.report.unfolded.published import Shifts, Sources, Spectrum, Values, correlation, published
from pullback.report.unfolded.rows import Rows
from pullback.report.unfolded.spectra import Spectra

METADATA = "metadata.json"
DIGITS = 17
"""Digits that tell every number of double precision from the next."""


def write_hepdata(
    rows: Rows,
    spectra: Spectra,
    target: Path,
    scale: Normalisation = WEIGHTS,
    systematics: Shifts = MappingProxyType({}),
    sources: Sources = MappingProxyType({}),
) -> list[str]:
    """Write a HEPData submission, checked by HEPData's own validator.

    Args:
        rows: unfolded events, or bins.
        spectra: of them.
        target: the new archive, ``.tar.gz``.
        scale: luminosity and cross-section.
        systematics: shifted contents, each a systematic uncertainty of its own.
        sources: systematic covariances, each likewise; those between features are kept.

    Returns:
        The names of the tables.

    Raises:
        ExportError: the target is there; shifts that are not of these bins; what the validator refuses.
        pullback.core.optional.MissingExtraError: hepdata_lib is not installed.
        pullback.core.atomic.StoreError: the archive cannot be written.
    """
    library = require("hepdata_lib", "hepdata")
    refuse_existing(target)
    found = list(published(rows, spectra, scale, systematics, sources))
    submission = library.Submission()
    submission.comment = _comment(rows.metadata)
    tables, files = [], {}
    for each in found:
        distribution = _distribution(library, each, rows.metadata, scale)
        tables.append(distribution)
        files[each.feature] = {"distribution": _file(distribution)}
        for kind, covariance in (
            ("Statistical", each.contents.covariance),
            ("Systematic", each.contents.systematic),
        ):
            if covariance is not None:
                tables.append(_matrix(library, kind, (each, each), covariance, *[np.diag(covariance)] * 2))
                files[each.feature][f"{kind.lower()} covariance"] = _file(tables[-1])
    for pair in combinations(found, 2):
        for kind, covariance in _between(pair, spectra, scale, sources):
            of = [each.contents.covariance if kind == "Statistical" else each.contents.systematic for each in pair]
            variances = [np.diag(each) for each in of if each is not None]
            tables.append(_matrix(library, kind, pair, covariance, *variances))
    names = [table.name for table in tables]
    if len({_file(table) for table in tables}) < len(tables):
        raise ExportError(f"{rows.path}: features whose names differ in case or signs alone; export each on its own")
    for table in tables:
        submission.add_table(table)
    metadata = {**rows.metadata, **scale.metadata, "systematics": [*systematics, *sources], "tables": files}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / METADATA).write_text(json.dumps(metadata, indent=1) + "\n", encoding="utf-8")
        described = "Inputs with digests, selection, seeds and versions of this result"
        submission.add_additional_resource(described, f"{folder}/{METADATA}", copy_file=True)
        said = io.StringIO()
        # hepdata_lib writes its archive into the working directory, and what is wrong to the screen.
        with chdir(folder), redirect_stdout(said):
            try:
                submission.create_files("tables", validate=True)
            except AssertionError:
                raise ExportError(f"{target}: HEPData's validator refuses it: {said.getvalue().strip()}") from None
        with atomic(target) as temporary:
            temporary.write_bytes((Path(folder) / "submission.tar.gz").read_bytes())
    return names


def _between(
    pair: tuple[Spectrum, Spectrum], spectra: Spectra, scale: Normalisation, sources: Sources
) -> Iterator[tuple[str, np.ndarray]]:
    """Statistical and systematic covariance of the contents of two features (bin, other bin), where they are known."""
    parts = [spectra.part(each.feature) for each in pair]
    one, other = (scale.contents.slope(spectra.content[part]) for part in parts)
    if spectra.joint and spectra.covariance is not None:
        yield "Statistical", one @ spectra.covariance[parts[0], parts[1]] @ other.T
    changes = [each.contents.changes for each in pair]
    systematic = [np.outer(changes[0][name], changes[1][name]) for name in changes[0] if name in changes[1]]
    systematic += [one @ matrix[parts[0], parts[1]] @ other.T for matrix in sources.values()]
    if systematic:
        yield "Systematic", np.sum(systematic, axis=0)


def _comment(metadata: Mapping[str, Any]) -> str:
    return (
        f"Unfolded distributions of '{metadata['family']}', study {metadata['study']}, by {metadata['method']} "
        f"({metadata['returns']}); weights: {metadata['weights']}. Made with pullback "
        f"{metadata['versions']['pullback']}."
    )


def _file(table: Any) -> str:
    """The file that hepdata_lib writes a table to."""
    return f"{table.name.lower().replace(' ', '_')}.yaml"


def _table(library: Any, name: str) -> Any:
    name = re.sub(r"[^\w.+() -]", "-", name)
    try:
        return library.Table(name)
    except ValueError as error:
        raise ExportError(f"HEPData: {error}; shorten the name of the feature") from None


def _axis(library: Any, spectrum: Spectrum, name: str, rows: np.ndarray) -> Any:
    """A bin of a feature in each line (line,)."""
    unit = "" if spectrum.unit == "1" else spectrum.unit
    bins = list(zip(spectrum.edges[rows].tolist(), spectrum.edges[rows + 1].tolist(), strict=True))
    axis = library.Variable(name, is_independent=True, is_binned=True, units=unit, values=bins)
    axis.digits = DIGITS
    return axis


def _distribution(library: Any, spectrum: Spectrum, metadata: Mapping[str, Any], scale: Normalisation) -> Any:
    table = _table(library, f"Distribution of {spectrum.feature}")
    table.description = (
        f"Unfolded distribution of {spectrum.feature}: contents of the bins, and the same divided by their widths."
    )
    table.location = "Not in a publication yet"
    table.keywords = {"phrases": ["unfolding"]}
    table.add_variable(_axis(library, spectrum, spectrum.feature, np.arange(len(spectrum.edges) - 1)))
    for values in (spectrum.contents, spectrum.differential):
        variable = _dependent(library, values.quantity.name, values.quantity.unit, values.value)
        for key in ("method", "family", "returns"):
            variable.add_qualifier(key.upper(), metadata[key])
        if scale.luminosity is not None:
            variable.add_qualifier("LUMINOSITY", scale.luminosity, "fb$^{-1}$")
        for uncertainty in _uncertainties(library, values):
            variable.add_uncertainty(uncertainty)
        table.add_variable(variable)
    return table


def _uncertainties(library: Any, values: Values) -> list[Any]:
    found = []
    if values.covariance is not None:
        found.append(library.Uncertainty("stat", is_symmetric=True))
        found[-1].values = np.sqrt(np.diag(values.covariance)).tolist()
    for name, covariance in values.sources.items():
        found.append(library.Uncertainty(f"sys,{name}", is_symmetric=True))
        found[-1].values = np.sqrt(np.diag(covariance)).tolist()
    for name, shift in values.shifts.items():
        both = shift.ndim > 1
        found.append(library.Uncertainty(f"sys,{name}", is_symmetric=not both))
        # A change without a partner may have either sign; HEPData's symmetric errors keep it, too.
        found[-1].values = list(zip(*shift.tolist(), strict=True)) if both else shift.tolist()
    return found


def _dependent(library: Any, name: str, unit: str, values: np.ndarray) -> Any:
    variable = library.Variable(name, is_independent=False, is_binned=False, units=unit)
    variable.values = ["-" if np.isnan(value) else value for value in values.tolist()]
    variable.digits, variable.zero_uncertainties_warning = DIGITS, False
    return variable


def _matrix(
    library: Any, kind: str, pair: tuple[Spectrum, Spectrum], covariance: np.ndarray, *variances: np.ndarray
) -> Any:
    """Covariance and correlation of the contents of two features' bins, or of one's: a line for each two bins.

    Args:
        library: hepdata_lib.
        kind: Statistical or Systematic.
        pair: the features.
        covariance: (bin, other bin).
        variances: of the bins of both, (bin,) and (other bin,).
    """
    one, other = pair
    of = one.feature if one is other else f"{one.feature} and {other.feature}"
    table = _table(library, f"{kind} covariance of {of}")
    table.description = f"{kind} covariance and correlation of the contents of bins of {of}."
    table.location, table.keywords = "Not in a publication yet", {"phrases": ["unfolding", "covariance"]}
    rows, columns = np.indices(covariance.shape).reshape(2, -1)
    for spectrum, bins, again in ((one, rows, ""), (other, columns, " (again)" if one is other else "")):
        table.add_variable(_axis(library, spectrum, f"{spectrum.feature}{again}", bins))
    unit = one.contents.quantity.unit
    table.add_variable(_dependent(library, "Covariance", f"{unit}^2" if unit else "", covariance.ravel()))
    table.add_variable(_dependent(library, "Correlation", "", correlation(covariance, *variances).ravel()))
    return table


class HepdataRows:
    """The bins of a HEPData submission that `write_hepdata` wrote.

    Raises:
        ExportError: it is not such an archive.
    """

    n = 0
    columns: Mapping[str, np.dtype] = MappingProxyType({})
    joint: np.ndarray | None = None

    def __init__(self, path: Path):
        self.path = path
        try:
            with tarfile.open(path) as archive:
                files = {
                    Path(member.name).name: content.read().decode()
                    for member in archive
                    if (content := archive.extractfile(member)) is not None
                }
            self.metadata = checked(path, files[METADATA])
            self.bins: Mapping[str, Bins] = {
                feature: _bins(*(yaml.safe_load(files[table]) if table else None for table in tables))
                for feature, each in self.metadata["tables"].items()
                for tables in [(each["distribution"], each.get("statistical covariance"))]
            }
        except (OSError, tarfile.TarError, KeyError, ValueError, yaml.YAMLError) as error:
            raise error if isinstance(error, ExportError) else foreign(path, error) from None

    def read(self, names: Iterable[str], start: int, stop: int) -> dict[str, np.ndarray]:
        """Nothing: there are no rows."""
        return {}

    def close(self) -> None:
        """No file is open."""


def _bins(distribution: Any, covariance: Any) -> Bins:
    (axis,), contents = distribution["independent_variables"], distribution["dependent_variables"][0]
    low, high = ([each[end] for each in axis["values"]] for end in ("low", "high"))
    values = np.array([each["value"] for each in contents["values"]], np.float64)
    matrix = np.full((len(values), len(values)), np.nan)
    if covariance is not None:
        found = [each["value"] for each in covariance["dependent_variables"][0]["values"]]
        matrix = np.array(found, np.float64).reshape(matrix.shape)
    return Bins(np.array([*low, high[-1]], np.float64), values, matrix)
