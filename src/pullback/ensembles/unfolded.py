"""An unfolded truth distribution and its file: a weighted truth sample with replicas, and/or bins with covariance.

The file (netCDF4-style HDF5) holds ``x`` (sample, *x) and ``weight`` (sample, replica): replica 0 is nominal, the
others show its statistical uncertainty. For each binned feature there is a group ``bins/<feature>`` with ``edges``
(bin + 1,), ``content`` (bin,) and ``covariance`` (bin, bin); ``joint_covariance`` is that of the bins of all features,
whose attribute ``features`` names them in order. Attributes: the job, the digest of the unfolded ensemble, cost,
diagnostics, ``weights: truth``: contents and weights are those of the truth before the detector, and ``counts``:
whether the weights sum to the estimated number of truths, as the contents do.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from pullback.core.atomic import StoreError
from pullback.ensembles import hdf5
from pullback.ensembles.digests import content_digest
from pullback.ensembles.fields import Field
from pullback.ensembles.store import EnsembleReader

KIND = "unfolded"
JOINT = "joint_covariance"


class Bins(NamedTuple):
    """The distribution of one feature of the truth in bins.

    Attributes:
        edges: (bin + 1,), increasing, in the unit of the feature.
        content: number of events in each bin, (bin,).
        covariance: of the contents, (bin, bin).
    """

    edges: np.ndarray
    content: np.ndarray
    covariance: np.ndarray


class Unfolded(NamedTuple):
    """The truth distribution of one ensemble.

    Attributes:
        x: truth sample (sample, *x), float32, physical units; None where there are only bins.
        weight: (sample, replica), replica 0 nominal; the scale is free unless ``counts``.
        bins: by feature.
        diagnostics: numbers for the report.
        joint: covariance of the contents of all bins, those of one feature after those of another in the order of
            ``bins`` (bin, bin); None where only the features' own are known.
        counts: the weights of a replica sum to its estimate of the number of truths, as contents of bins always do.
    """

    x: np.ndarray | None = None
    weight: np.ndarray | None = None
    bins: Mapping[str, Bins] = MappingProxyType({})
    diagnostics: Mapping[str, float] = MappingProxyType({})
    joint: np.ndarray | None = None
    counts: bool = False


def write_unfolded(
    path: Path | str,
    unfolded: Unfolded,
    x: Field,
    ensemble: EnsembleReader,
    job: str,
    cost: Mapping[str, float],
    diagnostics: Mapping[str, float],
    attributes: Mapping[str, Any] = {},
) -> None:
    """Write one unfolded distribution.

    Args:
        path: the final path.
        unfolded: the distribution; its diagnostics are added to ``diagnostics``.
        x: the field of the truth.
        ensemble: the observations that were unfolded; their digest is kept.
        job: canonical JSON of the job.
        cost: of conditioning and unfolding.
        diagnostics: of the conditioning.
        attributes: more attributes of the file.

    Raises:
        StoreError: neither sample nor bins, shapes that disagree, or values that are not finite; nothing is written.
    """
    path = Path(path)
    arrays = _checked(path, unfolded, x)
    with hdf5.create(path, libver=("earliest", "v110")) as file:
        file.attrs.update(attributes)
        hdf5.stamp(file, KIND, job)
        file.attrs.update(
            weights="truth",
            counts=unfolded.counts,
            ensemble_name=str(ensemble.path),
            ensemble_digest=ensemble.digest,
            fields=json.dumps({"x": hdf5.field_to_json(x)}, sort_keys=True),
            cost=json.dumps(dict(cost), sort_keys=True),
            diagnostics=json.dumps({**diagnostics, **unfolded.diagnostics}, sort_keys=True),
        )
        for name, array in arrays.items():
            file.create_dataset(name, data=array, fletcher32=True, chunks=True)
        if "x" in arrays:
            file["x"].attrs.update(hdf5.describe(file, x))
            hdf5.attach(file, file["x"], ("sample", *x.dims))
            file["weight"].attrs["long_name"] = "weight of a truth in each replica; replica 0 is nominal"
            hdf5.attach(file, file["weight"], ("sample", "replica"))
        for name in unfolded.bins:
            group = file[f"bins/{name}"]
            hdf5.attach(group, group["edges"], ("edge",))
            hdf5.attach(group, group["content"], ("bin",))
            # Twice one dimension would be refused by xarray.
            hdf5.attach(group, group["covariance"], ("bin", "other_bin"))
            group["edges"].attrs["units"] = x.units[x.features.index(name)]
        if JOINT in arrays:
            file[JOINT].attrs["features"] = json.dumps(list(unfolded.bins))
            hdf5.attach(file, file[JOINT], ("joint_bin", "other_joint_bin"))
        file.attrs["content_digest"] = content_digest(arrays)


def _checked(path: Path, unfolded: Unfolded, x: Field) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    if unfolded.x is not None and unfolded.weight is not None:
        arrays["x"] = np.ascontiguousarray(unfolded.x, np.float32)
        arrays["weight"] = np.ascontiguousarray(unfolded.weight, np.float64)
        samples = len(arrays["x"])
        if arrays["x"].shape != (samples, *x.shape) or arrays["weight"].ndim != 2 or len(arrays["weight"]) != samples:
            raise StoreError(
                f"{path}: found x {arrays['x'].shape} and weight {arrays['weight'].shape}, wanted (sample, "
                f"{', '.join(map(str, x.shape))}) and (sample, replica); correct what `unfold` returns"
            )
    for name, bins in unfolded.bins.items():
        if name not in x.features:
            raise StoreError(
                f"{path}: bins of '{name}', wanted features of x: {', '.join(x.features) or 'it has none'}"
            )
        count = len(bins.content)
        shapes = tuple(np.shape(part) for part in bins)
        if shapes != ((count + 1,), (count,), (count, count)):
            raise StoreError(
                f"{path}: bins of '{name}' have edges, content and covariance of shapes {shapes}, wanted (bin + 1,), "
                "(bin,) and (bin, bin); correct what `unfold` returns"
            )
        for part, array in bins._asdict().items():
            arrays[f"bins/{name}/{part}"] = np.ascontiguousarray(array, np.float64)
    if unfolded.joint is not None:
        count = sum(len(bins.content) for bins in unfolded.bins.values())
        if np.shape(unfolded.joint) != (count, count):
            raise StoreError(
                f"{path}: the joint covariance has the shape {np.shape(unfolded.joint)}, wanted ({count}, {count}) for "
                "the bins of all features; correct what `unfold` returns"
            )
        arrays[JOINT] = np.ascontiguousarray(unfolded.joint, np.float64)
    if not arrays:
        raise StoreError(f"{path}: neither a weighted sample nor bins; correct what `unfold` returns")
    for name, array in arrays.items():
        hdf5.refuse_nan(name, array, path)
    return arrays


class UnfoldedReader:
    """An unfolded distribution.

    Attributes:
        x: the field of the truth.
        attributes: of the file.
        samples: length of the truth sample.
        replicas: weights of each truth, the nominal one included; 0 where there are only bins.
        ensemble_digest: of the observations that were unfolded.
        cost, diagnostics: of conditioning and unfolding.
        bins: by feature.
        counts: whether the weights sum to the estimated number of truths.

    Raises:
        StoreError: the file is missing, truncated, foreign or damaged.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        with hdf5.open_checked(self.path, (KIND,)) as file, hdf5.refuse_damage(self.path, hdf5.remedy_for(self.path)):
            self.attributes = {key: value for key, value in file.attrs.items() if not key.startswith("_")}
            self.x = hdf5.field_from_json(json.loads(file.attrs["fields"])["x"], file)
            self.digest: str = file.attrs["content_digest"]
            self.ensemble_digest: str = file.attrs["ensemble_digest"]
            self.cost: dict[str, float] = json.loads(file.attrs["cost"])
            self.diagnostics: dict[str, float] = json.loads(file.attrs["diagnostics"])
            self.counts = bool(file.attrs["counts"])
            self.joint: np.ndarray | None = file[JOINT][()] if JOINT in file else None
            names = json.loads(file[JOINT].attrs["features"]) if JOINT in file else list(file.get("bins", {}))
            self.bins = {name: Bins(*(file[f"bins/{name}/{part}"][()] for part in Bins._fields)) for name in names}
            shape: tuple[int, int] = file["weight"].shape if "weight" in file else (0, 0)
            self.samples, self.replicas = shape

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Rows ``start`` to ``stop`` of ``x`` or ``weight``."""
        with hdf5.open_checked(self.path, (KIND,)) as file, hdf5.refuse_damage(self.path, hdf5.remedy_for(self.path)):
            found: np.ndarray = file[name][start:stop]
        return found

    @cached_property
    def unfolded(self) -> Unfolded:
        """The distribution, all in memory."""
        sample = {name: self.read(name) for name in ("x", "weight")} if self.replicas else {}
        return Unfolded(**sample, bins=self.bins, diagnostics=self.diagnostics, joint=self.joint, counts=self.counts)
