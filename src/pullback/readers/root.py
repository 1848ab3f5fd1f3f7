"""ROOT files (TTree and RNTuple), read as matched jets through a branch map.

A file holds, for each collision, a list of reconstructed jets and (but for observed data) one of truth jets. Each
matched pair is an event: x the truth jet, y the reconstructed one. Of observed data every selected reconstructed jet
is an event.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from pullback.core.angles import wrap
from pullback.core.optional import require
from pullback.readers.base import Block, Events, OutsideFile, ReadError
from pullback.readers.jets import Jets, match
from pullback.readers.table import RootTable
from pullback.study.base import Closed, canonical, job_digest
from pullback.study.kinds import Package, ReaderSpec

log = logging.getLogger("pullback")

JUDGED = ("test", "reference")
"""Splits whose events are compared as distributions."""
PT_MEDIAN_MAX = 5e3
"""GeV; a larger median pT means that the file is in MeV."""
ENTRY_BITS, JET_BITS = 36, 8
"""event_id of events by file and entry: ``file << 44 | entry << 8 | jet``."""
NUMBERED_JET_BITS = 6
"""event_id of numbered collisions: ``number << 6 | jet``."""


class Branches(Closed):
    """Which branches of a ROOT file hold which feature. Plain column names, no expressions."""

    pt: str
    eta: str
    phi: str
    mass: str | None = Field(default=None, description="GeV; without it the jet is taken as massless")

    @property
    def names(self) -> list[str]:
        """The branches that are named: pt, eta, phi and, where there is one, mass."""
        return [name for name in (self.pt, self.eta, self.phi, self.mass) if name]


class RootFiles(ReaderSpec):
    """Outside ROOT files (TTree or RNTuple): per-event lists of jets, read through a branch map."""

    records: ClassVar[str] = "jets"
    truth: ClassVar[str] = "x"
    requires: ClassVar[tuple[Package, ...]] = tuple(
        Package(name, name, "hep", "ROOT files") for name in ("uproot", "awkward")
    )

    kind: Literal["root"]
    tree: str = "Events"
    y: Branches = Field(description="reconstructed jets")
    x: Branches | None = Field(default=None, description="truth jets; left out for an observed family")
    match: str | None = Field(
        default=None,
        description="branch with the index of each reconstructed jet's truth jet (-1: none); without it the "
        "nearest in Delta R below match_radius, one to one",
    )
    match_radius: float = Field(default=0.4, gt=0)
    unknown_matches: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="most indices of `match` beyond the list of truth jets, as a fraction; their jets are unmatched. A "
        "few are normal in NanoAOD (3 % in CMS Open Data ttbar), which stores truth jets above 10 GeV only",
    )
    event: str | None = Field(
        default=None,
        description="branch with a number of each collision, unique in the split, that its events are known by; "
        "without it they are known by file and entry",
    )
    weight: str | None = Field(default=None, description="branch with the event weight")
    y_pt_min: float = Field(
        default=5.0, ge=5, description="GeV, selection on reconstructed jets: that of the problem, `reco_pt_min`"
    )
    x_pt_min: float = Field(
        default=30.0,
        ge=0,
        description="GeV, selection on truth jets; the likelihood of the built-in detector needs at least 20",
    )

    @property
    def has_truth(self) -> bool:
        """Whether truth jets are mapped."""
        return self.x is not None

    @property
    def columns(self) -> dict[str, str]:
        """File and entry of a jet, unless collisions are numbered; the event weight."""
        place = {} if self.event else {"source_entry": "int64", "source_index": "int32"}
        return {**place, "weight": "float64"} if self.weight else place

    def branches(self, with_truth: bool) -> list[str]:
        """The branches that are read; without truth, those of observations only."""
        truth = [*(self.x.names if self.x else ()), self.match] if with_truth else []
        return [*self.y.names, *filter(None, (*truth, self.weight, self.event))]

    @contextmanager
    def open(self, problem: Any, file: OutsideFile) -> Iterator[Events]:
        """The jets of one file."""
        with RootTable(file.path, self.tree) as table:
            table.require(self.branches(file.has_truth))
            found = {
                "source_file": file.path.name,
                "source_tree": self.tree,
                "source_format": table.format,
                "source_entries": table.entries,
            }
            summary = f"{table.format} '{self.tree}', {table.entries} entries"
            yield Events(_Selection(self, file, table).blocks(), summary, found)

    def job_digest(self, path: Path) -> str | None:
        """The job digest of a file of `pullback.simulators.collider`."""
        with require("uproot", "hep").open(path) as file:
            found = file.get("settings")
            return job_digest(canonical(json.loads(str(found))["job"])) if found is not None else None


class _Selection:
    """The selected and matched jets of one table."""

    def __init__(self, spec: RootFiles, file: OutsideFile, table: RootTable):
        self.spec, self.file, self.table = spec, file, table
        self.tally: Counter[str] = Counter()
        self.warned: set[str] = set()

    def blocks(self) -> Iterator[Block]:
        for start, stop in self.table.chunks():
            block = self._block(start, stop)
            if block is not None:
                yield block
        self._check_tally()
        log.info("%s: %s", self.file.path.name, _say(self.tally))

    def _block(self, start: int, stop: int) -> Block | None:
        """The events of some entries; None where no jet is left."""
        spec, table = self.spec, self.table
        reco = self._jets(spec.y, start, stop)
        self.tally["entries"] += stop - start
        self.tally["reconstructed jets"] += len(reco.features)
        x = None
        if self.file.has_truth:
            assert spec.x is not None
            truth = self._jets(spec.x, start, stop)
            self.tally["truth jets"] += len(truth.features)
            index = self._match_index(spec.match, reco, start, stop) if spec.match else None
            cuts = {"radius": spec.match_radius, "y_pt_min": spec.y_pt_min, "x_pt_min": spec.x_pt_min}
            rows, partners = match(reco, truth, index, tally=self.tally, **cuts)
            x = truth.features[partners]
        else:
            rows = np.flatnonzero(reco.features[:, 0] >= spec.y_pt_min)
        self.tally["events"] += len(rows)
        if not len(rows):
            return None
        entry = reco.entry[rows]
        jet = rows - reco.start[entry]
        bits = NUMBERED_JET_BITS if spec.event else JET_BITS
        if (most := int(jet.max())) >= 1 << bits:
            raise ReadError(f"{table.path}: {most + 1} jets in one entry, wanted at most {1 << bits}; raise `y_pt_min`")
        columns: dict[str, np.ndarray] = {}
        if spec.event:
            group = self._numbers(spec.event, start, stop)[entry]
        else:
            group = (entry + start).astype(np.int64) | (np.int64(self.file.number) << ENTRY_BITS)
            columns = {"source_entry": (entry + start).astype(np.int64), "source_index": jet.astype(np.int32)}
        if spec.weight:
            columns["weight"] = table.numbers(spec.weight, start, stop).astype(np.float64)[entry]
            self._check_weight(columns["weight"])
        return Block(reco.features[rows, :3], x, (group << bits) | jet, group, columns)

    def _jets(self, branches: Branches, start: int, stop: int) -> Jets:
        """Jets of some entries in GeV and radians; massless without a mass branch."""
        flat, counts = self.table.lists(branches.names, start, stop)
        features = np.zeros((len(flat[0]), 4))
        features[:, : len(flat)] = np.stack(flat, axis=1)
        self._check_units(features, branches)
        features[:, 2] = wrap(features[:, 2])
        features[:, 3] = np.maximum(features[:, 3], 0.0)  # rounding makes masses of single particles slightly negative
        return Jets(features, counts)

    def _check_units(self, features: np.ndarray, branches: Branches) -> None:
        if not len(features):
            return
        path = self.table.path
        if (median := float(np.median(features[:, 0]))) > PT_MEDIAN_MAX:
            raise ReadError(
                f"{path}: the median of '{branches.pt}' is {median:.4g}, wanted GeV; it looks like MeV, "
                "write the file in GeV"
            )
        largest = float(np.abs(features[:, 2]).max())
        if largest > 2 * np.pi + 0.01:
            raise ReadError(
                f"{path}: '{branches.phi}' reaches {largest:.4g}, wanted radians; it looks like degrees, "
                "write the file in radians"
            )
        if largest > np.pi + 0.01 and branches.phi not in self.warned:
            self.warned.add(branches.phi)
            log.warning("%s: '%s' reaches %.4g, outside [-pi, pi]: wrapped", path, branches.phi, largest)

    def _match_index(self, name: str, reco: Jets, start: int, stop: int) -> np.ndarray:
        """The truth jet of each reconstructed one within its collision (jet,), -1 for none."""
        path = self.table.path
        (index,), counts = self.table.lists([name], start, stop)
        if (different := np.flatnonzero(counts != reco.counts)).size:
            row = int(different[0])
            raise ReadError(
                f"{path}: in entry {start + row} the match branch '{name}' has {counts[row]} values for "
                f"{reco.counts[row]} reconstructed jets; wanted one for each, correct `match`"
            )
        if index.dtype.kind not in "iu":
            raise ReadError(
                f"{path}: the match branch '{name}' holds {index.dtype}, wanted whole numbers; correct `match`"
            )
        index = index.astype(np.int64)
        if (index < -1).any():
            raise ReadError(
                f"{path}: the match branch '{name}' holds {int(index.min())}, out of range: wanted -1 (none) or the "
                "number of a truth jet; correct `match`"
            )
        return index

    def _numbers(self, name: str, start: int, stop: int) -> np.ndarray:
        """The number of each collision (entry,), int64."""
        numbers, largest = self.table.numbers(name, start, stop), 1 << (63 - NUMBERED_JET_BITS)
        if numbers.dtype.kind not in "iu" or (numbers < 0).any() or (numbers >= largest).any():
            raise ReadError(
                f"{self.table.path}: '{name}' holds {numbers.dtype} from {numbers.min()} to {numbers.max()}, wanted "
                f"whole numbers from 0 to {largest - 1}; name another branch in `event`, or leave it out"
            )
        return numbers.astype(np.int64)

    def _check_weight(self, weight: np.ndarray) -> None:
        if self.file.split in JUDGED and (weight < 0).any():
            raise ReadError(
                f"{self.table.path}: {int((weight < 0).sum())} of {len(weight)} weights in '{self.spec.weight}' are "
                "negative. Training takes them, evaluation does not, as distances between distributions need "
                f"probabilities: resample the files of the split '{self.file.split}' to positive weights, or leave "
                "`weight` out"
            )

    def _check_tally(self) -> None:
        spec, path, tally = self.spec, self.table.path, self.tally
        beyond, named = tally["of these beyond the truth list"], tally["named by the match branch"]
        if beyond > spec.unknown_matches * named:
            raise ReadError(
                f"{path}: {beyond} of {named} indices in '{spec.match}' are out of range of the list of truth jets, "
                f"wanted at most {spec.unknown_matches:.0%}; `match` must number the jets of `x`"
            )
        if beyond:
            log.warning("%s: %d of %d matched jets name a truth jet that is not stored: unmatched", path, beyond, named)
        if not tally["events"]:
            raise ReadError(
                f"{path}: no jets are left after selection (y_pt_min {spec.y_pt_min:g}, x_pt_min {spec.x_pt_min:g} "
                f"GeV), wanted at least one; found {_say(tally)}. Lower the cuts or check the branch map"
            )


def _say(tally: Counter) -> str:
    return ", ".join(f"{count} {what}" for what, count in tally.items())
